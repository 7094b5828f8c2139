"""The phases of one task as pure functions: the way forward, the outer gradient, and the way back step by step.

The way back is the recursion of the chain rule, ``v <- v - d(lr * grad . v)``: a Hessian-vector product at each step,
for which only the values before that step are kept. Memory therefore does not grow with the number of steps. Everything
is written with ``torch.func``, so that ``vmap`` may run many tasks at once.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, func

from .draws import Draws
from .inner import Order, Slope, above_0, detached, first, func_slope, one_step, support_loss
from .outers import Implicit
from .problem import Problem
from .rule import UpdateRule, Values

Gradients = dict[str, Tensor]


def way_forward(
    problem: Problem,
    rule: UpdateRule,
    values: Values,
    support: Any,
    prox: float = 0.0,
    slope: Slope = func_slope,
    draws: Draws | None = None,
) -> tuple[list[Values], Tensor]:
    """Values before the first step and after each, without connection, and the last support loss that was seen."""
    values = detached(values)
    start = first(problem, rule, values, support)
    path, seen = [start], torch.zeros_like(next(iter(start.values())).sum())
    loss = support_loss(problem, values, start, support, 0.0, prox)
    for index in range(rule.n_steps):
        if draws is not None:
            draws.mark()
        fast, seen = one_step(loss, rule, path[-1], index, values, 0.0, slope)
        path.append(detached(fast))
    return path, seen.detach()


def way_gone(path: Sequence[Values], values: Values) -> Gradients:
    """Where the inner loop began less where it ended, for what is learned."""
    return {name: value - path[-1][name] for name, value in path[0].items() if name in values}


def outer_gradient(
    problem: Problem, values: Values, fast: Values, query: Any
) -> tuple[Tensor, Any, Gradients, Gradients]:
    """Outer loss, what it hands on, and its gradients in ``values`` and ``fast``, each taken alone."""

    def loss(values: Values, fast: Values) -> tuple[Tensor, Any]:
        return problem.outer_loss(values, fast, query)

    (in_values, in_fast), (found, extra) = func.grad_and_value(loss, argnums=(0, 1), has_aux=True)(values, fast)
    return found, extra, in_values, in_fast


def step_back(
    problem: Problem,
    rule: UpdateRule,
    values: Values,
    fast: Values,
    support: Any,
    index: int,
    cotangent: Gradients,
    order: Order,
) -> tuple[Gradients, Gradients]:
    """Gradients in ``values`` and in ``fast`` before step ``index``, from the one after it."""
    if not above_0(order) and not any(rule.steers(name) for name in values):
        return {}, cotangent  # the inner gradient is a constant: the step is a shift

    def step(values: Values, fast: Values) -> Values:
        loss = support_loss(problem, values, fast, support, order)
        return one_step(loss, rule, fast, index, values, order, func_slope)[0]

    _, pull = pullback(step, values, fast)
    in_values, in_fast = pull(cotangent)
    return in_values, in_fast


def way_back(
    problem: Problem,
    rule: UpdateRule,
    values: Values,
    path: Sequence[Values],
    support: Any,
    cotangents: Mapping[int, Gradients],
    order: Order,
    draws: Draws | None = None,
) -> Gradients:
    """Gradient in ``values`` of what reaches them through ``path``; ``cotangents`` by number of steps taken.

    With ``draws`` each step draws what it drew on the way forward.
    """
    total: Gradients = {}
    last = max(cotangents)  # steps after it reach nothing
    at = cotangents[last]
    for index in reversed(range(last)):
        with nullcontext() if draws is None else draws.again(index):
            in_values, at = step_back(problem, rule, values, path[index], support, index, at, order)
        total = added(total, in_values)
        at = added(at, cotangents.get(index, {}))
    if problem.initial is None:
        return added(total, at)
    _, pull = pullback(lambda known: first(problem, rule, known, support), values)
    return added(total, pull(at)[0])


def implicit_gradient(
    problem: Problem, rule: UpdateRule, outer: Implicit, values: Values, support: Any, query: Any
) -> tuple[Gradients, Tensor, Any]:
    """Gradient in ``values`` by the implicit function theorem, outer loss, and what it hands on.

    At ``fast`` the sum of the support loss and ``prox / 2 |fast - start|^2`` is taken to have no slope, so
    ``d fast = -(H + prox)^-1 (d values-derivative of the slope - prox d start)``.
    """
    path, _ = way_forward(problem, rule, values, support, outer.prox)
    fast = path[-1]
    loss, extra, total, wanted = outer_gradient(problem, values, fast, query)
    moving = rule.adapted(fast)

    at = {name: fast[name] for name in moving}
    still = {name: value for name, value in fast.items() if name not in at}

    def slope(values: Values, still: Values, moved: Values) -> Values:
        return func.grad(lambda at: problem.inner_loss(values, {**still, **at}, support))(moved)

    def product(vector: Values) -> Values:
        _, pull = pullback(lambda moved: slope(values, still, moved), at)
        return {name: grad + outer.prox * vector[name] for name, grad in pull(vector)[0].items()}

    solved = conjugate_gradients(product, {name: wanted[name] for name in moving}, outer.n_iterations)
    _, pull = pullback(lambda known, kept: slope(known, kept, at), values, still)
    in_values, in_still = pull(solved)
    total = added(total, {name: -grad for name, grad in in_values.items()})
    start = {name: outer.prox * solved[name] if name in solved else wanted[name] - in_still[name] for name in fast}
    if problem.initial is None:
        return added(total, start), loss, extra
    _, pull = pullback(lambda known: first(problem, rule, known, support), values)
    return added(total, pull(start)[0]), loss, extra


def conjugate_gradients(product: Any, wanted: Values, n_iterations: int) -> Values:
    """x with ``product(x) = wanted`` for a symmetric positive product (Hestenes and Stiefel 1952), from zero.

    Where the residual has vanished, or the product is not positive, x stays as it is.
    """
    found = {name: torch.zeros_like(value) for name, value in wanted.items()}
    residual = direction = wanted
    length = _dot(residual, residual)
    limit = length * torch.finfo(length.dtype).eps ** 2
    for _ in range(n_iterations):
        image = product(direction)
        curvature = _dot(direction, image)
        going = (length > limit) & (curvature > 0)
        size = torch.where(going, length / torch.where(going, curvature, 1.0), 0.0)
        found = {name: value + size * direction[name] for name, value in found.items()}
        residual = {name: value - size * image[name] for name, value in residual.items()}
        left = _dot(residual, residual)
        turn = torch.where(going, left / torch.where(going, length, 1.0), 0.0)
        direction = {name: value + turn * direction[name] for name, value in residual.items()}
        length = torch.where(going, left, length)
    return found


def pullback(function: Callable[..., Any], *at: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """``torch.func.vjp`` without extras."""
    found: Any = func.vjp(function, *at)
    return found


def added(first_one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Gradients:
    """Sum by name; a name that only one has is taken from it."""
    total = dict(first_one)
    for name, value in other.items():
        total[name] = total[name] + value if name in total else value
    return total


def _dot(first_one: Values, other: Values) -> Tensor:
    return torch.stack([(first_one[name] * other[name]).sum() for name in first_one]).sum()
