"""THE inner loop: one pure function for every learner that adapts by gradient, and for every executor.

Finn, Abbeel and Levine 2017 (MAML), eq. 1: ``fast = fast - lr * grad(loss(fast))``, repeated.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, func

from ..errors import InputError
from .problem import Problem
from .rule import UpdateRule, Values

Order = float | Tensor
"""0 for first order, 1 for second, or a share between them, which may be a tensor."""
NOTHING_MOVES = (
    "the support loss does not depend on what adapts; let adapts name parameters that it reads, and do not detach them."
)
Slope = Callable[[Callable[[Values], Tensor], Values, Order], tuple[Mapping[str, Tensor | None], Tensor]]
"""(loss, where, order) -> gradients by name, and the loss: one derivative, taken by either of torch's two systems."""


def inner_steps(
    loss: Callable[[Values], Tensor],
    start: Values,
    rule: UpdateRule,
    values: Values | None = None,
    order: Order | None = None,
) -> Iterator[Values]:
    """Yield the values before the first step and after each one; ``start`` is not changed.

    Where gradients are on, every state stays connected to ``start``, so an outer loss reaches the initialisation: with
    ``rule.order`` above 0 through the inner gradients too, else as if they were constants (first-order MAML, section
    5.2). Where gradients are off (enrolment, evaluation) the states are detached copies, which stay as they are when
    the model is trained on. ``values`` holds learned step sizes; ``order`` stands in for ``rule.order``.
    """
    order = rule.order if order is None else order
    connected = torch.is_grad_enabled()
    fast = dict(start) if connected else {name: value.detach().clone() for name, value in start.items()}
    yield fast
    for index in range(rule.n_steps):
        fast, _ = one_step(loss, rule, fast, index, values or {}, order if connected else 0.0, autograd_slope)
        if not connected:
            fast = detached(fast)
        yield fast


def one_step(
    loss: Callable[[Values], Tensor],
    rule: UpdateRule,
    fast: Values,
    index: int,
    values: Values,
    order: Order,
    slope: Slope,
) -> tuple[Values, Tensor]:
    """The values after step ``index``, and the loss before it."""
    moving = rule.adapted(fast)
    still = {name: value for name, value in fast.items() if name not in moving}
    if not above_0(order):
        still = detached(still)
    grads, value = slope(lambda at: loss({**still, **at}), {name: fast[name] for name in moving}, order)
    return rule.step(fast, grads, index, values), value


def support_loss(
    problem: Problem, values: Values, start: Values, support: Any, order: Order, prox: float = 0.0
) -> Callable[[Values], Tensor]:
    """What the inner loop of a task descends, as a function of ``fast``; ``prox`` pulls it back to ``start``."""
    fixed = values if above_0(order) else detached(values)
    start = detached(start) if prox else start

    def loss(fast: Values) -> Tensor:
        found = problem.inner_loss(fixed, fast, support)
        if not prox:
            return found
        return found + prox / 2 * torch.stack([(fast[n] - start[n]).square().sum() for n in start]).sum()

    return loss


def first(problem: Problem, rule: UpdateRule, values: Values, support: Any) -> Values:
    """What the inner loop begins with."""
    if problem.initial is not None:
        return dict(problem.initial(values, support))
    return {name: values[name] for name in rule.adapted(values)}


def autograd_slope(
    loss: Callable[[Values], Tensor], at: Values, order: Order
) -> tuple[Mapping[str, Tensor | None], Tensor]:
    """Gradient by autograd; None for what the loss does not depend on."""
    wanted = above_0(order)
    with torch.enable_grad():
        # Aliases, so that the derivative is taken in each value alone: a head that was built from the encoder would
        # otherwise carry a second derivative in the encoder's weights.
        alias = {n: (v.view_as(v) if wanted else v.detach()).requires_grad_() for n, v in at.items()}
        value = loss(alias)
        grads = torch.autograd.grad(value, list(alias.values()), create_graph=wanted, allow_unused=True)
        if all(grad is None for grad in grads):
            raise InputError(NOTHING_MOVES)
    found = {n: None if g is None else blended(g, order) for n, g in zip(alias, grads, strict=True)}
    return found, value.detach()


def func_slope(
    loss: Callable[[Values], Tensor], at: Values, order: Order
) -> tuple[Mapping[str, Tensor | None], Tensor]:
    """Gradient by ``torch.func``, for use within its transforms."""
    grads, value = func.grad_and_value(loss)(at if above_0(order) else detached(at))
    return {name: blended(grad, order) for name, grad in grads.items()}, value


def blended(grad: Tensor, order: Order) -> Tensor:
    """The same gradient, of whose own derivative the share ``order`` remains."""
    if isinstance(order, Tensor) or 0 < order < 1:
        return order * grad + (1 - order) * grad.detach()
    return grad if order else grad.detach()


def detached(values: Values) -> Values:
    """Without connection to what they were computed from."""
    return {name: value.detach() for name, value in values.items()}


def above_0(order: Order) -> bool:
    """False for first order."""
    return isinstance(order, Tensor) or order > 0
