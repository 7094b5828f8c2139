"""The reference: torch alone, one task after the other, as anybody would write it without a library."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from .cells import INNER_LR, Batch, Cell, Step, Tasks, Values
from .nets import Classifier


def build_bare(cell: Cell, net: Classifier) -> Step:
    """The step of a bare loop: one graph at a time, derivatives by ``torch.autograd.grad``."""
    values: Values = dict(net.named_parameters())
    of_task = _anil(cell, net, values) if cell.algorithm == "anil" else _whole(cell, net, values)

    def step(tasks: Tasks) -> Values:
        sums = {name: torch.zeros_like(value) for name, value in values.items()}
        for support, query in tasks:
            for name, grad in of_task(support, query).items():
                sums[name].add_(grad, alpha=1 / len(tasks))
        return sums

    return step


def _whole(cell: Cell, net: Classifier, values: Values) -> Callable[[Batch, Batch], Values]:
    """Everything adapts: MAML, its first order, Reptile."""
    second_order = cell.algorithm == "maml"

    def of_task(support: Batch, query: Batch) -> Values:
        fast = values if second_order else {name: value.detach().requires_grad_() for name, value in values.items()}
        fast = _adapted(net, fast, support, cell.n_steps, second_order)
        if cell.algorithm == "reptile":
            return {name: value.detach() - fast[name].detach() for name, value in values.items()}
        at = list((values if second_order else fast).values())
        return dict(zip(values, torch.autograd.grad(_loss(net, fast, query), at), strict=True))

    return of_task


def _anil(cell: Cell, net: Classifier, values: Values) -> Callable[[Batch, Batch], Values]:
    """The head adapts; support and query go through the body together, once."""
    head: Values = dict(net.head.named_parameters())

    def of_task(support: Batch, query: Batch) -> Values:
        n_support = len(support[0])
        features = net.body(torch.cat([support[0], query[0]]))
        fast = _adapted(net.head, head, (features[:n_support], support[1]), cell.n_steps, True)
        loss = _loss(net.head, fast, (features[n_support:], query[1]))
        return dict(zip(values, torch.autograd.grad(loss, list(values.values())), strict=True))

    return of_task


def _adapted(model: nn.Module, fast: Values, support: Batch, n_steps: int, second_order: bool) -> Values:
    """Values after the inner steps, connected to the first ones, or else leaves of their own."""
    for _ in range(n_steps):
        grads = torch.autograd.grad(_loss(model, fast, support), list(fast.values()), create_graph=second_order)
        fast = {name: value - INNER_LR * grad for (name, value), grad in zip(fast.items(), grads, strict=True)}
        if not second_order:
            fast = {name: value.detach().requires_grad_() for name, value in fast.items()}
    return fast


def _loss(model: nn.Module, values: Values, batch: Batch) -> Tensor:
    return functional.cross_entropy(functional_call(model, values, (batch[0],)), batch[1])
