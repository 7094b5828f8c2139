"""Many tasks at once, and one task step by step: ``vmap`` over functions that end in a gradient, never under one.

The gradient of a ``vmap`` is wrong in second order for some native operations (batch norm); the ``vmap`` of a
gradient is exact. A body that the inner loop leaves alone runs once for all tasks of a chunk; what it gives is then one
more value of each task.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, func
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten

from ..errors import InputError
from .draws import Draws
from .inner import Order, func_slope
from .outers import Implicit, Reptile, step_weights
from .phases import Gradients, added, implicit_gradient, outer_gradient, way_back, way_forward, way_gone
from .plans import Found, Plan, Task, objective
from .problem import Problem
from .rule import Values

SUPPORT, QUERY = "support features ", "query features "
"""What the names of features begin with."""
OneTask = Callable[[Plan, Values, Any, Any, Order], tuple[Gradients, Tensor, Any]]
"""(plan, values, support, query, order) -> gradients, loss, extra."""


def unrolled(plan: Plan, values: Values, support: Any, query: Any, order: Order) -> tuple[Gradients, Tensor, Any]:
    """Gradient of the whole inner loop at once."""
    if isinstance(plan.outer, Reptile | Implicit):
        return stepwise(plan, values, support, query, order)

    def total(values: Values) -> tuple[Tensor, tuple[Tensor, Any]]:
        return objective(plan, values, (support, query), order, func_slope)

    grads, (loss, extra) = func.grad(total, has_aux=True)(values)
    return grads, loss, extra


def stepwise(plan: Plan, values: Values, support: Any, query: Any, order: Order) -> tuple[Gradients, Tensor, Any]:
    """The same, keeping only the values before each step."""
    problem, rule, outer = plan.problem, plan.rule, plan.outer
    if isinstance(outer, Implicit):
        return implicit_gradient(problem, rule, outer, values, support, query)
    draws = Draws(next(iter(values.values())).device)
    path, seen = way_forward(problem, rule, values, support, draws=draws)
    if isinstance(outer, Reptile):
        return way_gone(path, values), seen, ()
    total: Gradients = {}
    cotangents: dict[int, Gradients] = {}
    loss, extra = torch.zeros_like(seen), None
    for done, weight in enumerate(step_weights(outer, rule.n_steps)):
        if weight:
            found, extra, in_values, in_fast = outer_gradient(problem, values, path[done], query)
            loss = loss + weight * found
            total = added(total, scaled(in_values, weight))
            cotangents[done] = scaled(in_fast, weight)
    return added(total, way_back(problem, rule, values, path, support, cotangents, order, draws)), loss, extra


def scaled(grads: Gradients, weight: float) -> Gradients:
    """Times ``weight``; untouched where that is 1."""
    return grads if weight == 1 else {name: weight * value for name, value in grads.items()}


# ----------------------------------------------------------------------------------------------------------- chunks


def stacked(tasks: Sequence[Task]) -> Task:
    """Tasks of one shape as one tree, whose tensors have the tasks before the items."""
    return tree_map(lambda *parts: torch.stack(parts), *tasks)


def chunk_gradients(plan: Plan, values: Values, tasks: Sequence[Task], order: Order, one: OneTask) -> Found:
    """The gradients of ``tasks``, all of one shape, at once."""
    whole, local, task, pull = carried(plan, values, stacked(tasks))

    def single(local: Values, support: Any, query: Any) -> tuple[Gradients, Tensor, Any]:
        return one(whole, {**values, **local}, support, query, order)

    grads, losses, extras = mapped(single, len(tasks))(local, *task)
    return Found(shared(grads, local, pull), list(losses), parted(extras, len(tasks)))


def mapped(single: Callable[..., Any], n_tasks: int) -> Callable[..., Any]:
    """``single`` for tasks along dimension 0 of all it is given; without ``vmap`` where there is one task."""
    if n_tasks > 1:
        return func.vmap(single, randomness="different")

    def alone(*args: Any) -> Any:
        return tree_map(lambda value: value.unsqueeze(0), single(*tree_map(lambda value: value[0], args)))

    return alone


def shared(grads: Gradients, local: Values, pull: Callable[[Gradients], Gradients]) -> Gradients:
    """Gradients of single tasks (n_tasks, ...) summed; those of the features go back through the body."""
    total = {name: grad.sum(0) for name, grad in grads.items() if name not in local}
    if not any(name in grads for name in local):  # Reptile asks nothing of a body
        return total
    return added(total, pull({name: grads[name] for name in local}))


def parted(extras: Any, n_tasks: int) -> list[Any]:
    """One tree for each task."""
    return [tree_map(lambda value, i=i: value[i], extras) for i in range(n_tasks)]


# ------------------------------------------------------------------------------------------------------- frozen body


@dataclass(frozen=True)
class Form:
    """How a batch is put together again from features, which are values, and the rest of it."""

    spec: TreeSpec
    names: tuple[str | None, ...]

    @classmethod
    def of(cls, batch: Any, prefix: str) -> tuple["Form", Values, list[Tensor]]:
        """The form, its features by name, and the rest."""
        leaves, spec = tree_flatten(batch)
        names = tuple(f"{prefix}{i}" if leaf.is_floating_point() else None for i, leaf in enumerate(leaves))
        features = {name: leaf for name, leaf in zip(names, leaves, strict=True) if name}
        return cls(spec, names), features, [leaf for name, leaf in zip(names, leaves, strict=True) if not name]

    def batch(self, values: Values, rest: Sequence[Tensor]) -> Any:
        """The batch."""
        others = iter(rest)
        return tree_unflatten([values[name] if name else next(others) for name in self.names], self.spec)


def carried(plan: Plan, values: Values, task: Task) -> tuple[Plan, Values, Task, Callable[[Gradients], Gradients]]:
    """The plan without its body, the features of each task as values, the task without them, and the way back.

    ``task`` is stacked (n_tasks, n_items, ...), and so are the features.
    """
    if plan.problem.body is None:
        return plan, {}, task, lambda grads: {}

    known: list[Problem] = []

    def features(values: Values) -> tuple[Values, Task]:
        problem, local, rest = featured(plan.problem, body_outputs(plan.problem, values, task))
        known.append(problem)
        return local, rest

    found: Any = func.vjp(features, values, has_aux=True)
    local, pull, rest = found
    return replace(plan, problem=known[0]), local, rest, lambda grads: pull(grads)[0]


def body_outputs(problem: Problem, values: Values, task: Task) -> Task:
    """What the body gives for stacked tasks: once for support and query together where their shapes allow it."""
    assert problem.body is not None
    (support, spec), (query, other) = (tree_flatten(part) for part in task)
    if any(leaf.ndim < 2 for leaf in (*support, *query)):
        raise InputError(
            "a batch holds a tensor without dimensions, and a frozen body wants the items of a batch in dimension 0 of "
            "every tensor; repeat it for every item, or keep it in the loss."
        )
    n_tasks, n_support = support[0].shape[:2]

    def folded(leaves: Sequence[Tensor], spec: TreeSpec) -> Any:
        return tree_unflatten([leaf.flatten(0, 1) for leaf in leaves], spec)

    def unfolded(batch: Any) -> Any:
        return tree_map(lambda leaf: leaf.unflatten(0, (n_tasks, -1)), batch)

    alike = spec == other and all(
        a.shape[2:] == b.shape[2:] and a.dtype == b.dtype for a, b in zip(support, query, strict=False)
    )
    # Tensors of as many items each: only then is the border between support and query the same in all of them.
    alike = alike and all(len({leaf.shape[1] for leaf in leaves}) == 1 for leaves in (support, query))
    if not alike:
        return tuple(
            unfolded(problem.body(values, folded(leaves, form))) if leaves else tree_unflatten(leaves, form)
            for leaves, form in ((support, spec), (query, other))
        )
    both = [torch.cat(pair, 1) for pair in zip(support, query, strict=True)]
    found = unfolded(problem.body(values, folded(both, spec)))
    return tree_map(lambda leaf: leaf[:, :n_support], found), tree_map(lambda leaf: leaf[:, n_support:], found)


def featured(problem: Problem, outputs: Task) -> tuple[Problem, Values, Task]:
    """A problem that reads features among its values, those features, and what else the batches hold."""
    support, first_values, rest = Form.of(outputs[0], SUPPORT)
    query, more_values, other = Form.of(outputs[1], QUERY)

    def initial(values: Values, batch: Any) -> Values:
        assert problem.initial is not None
        return problem.initial(values, support.batch(values, batch))

    whole = Problem(
        lambda values, fast, batch: problem.inner_loss(values, fast, support.batch(values, batch)),
        lambda values, fast, batch: problem.outer_loss(values, fast, query.batch(values, batch)),
        None if problem.initial is None else initial,
    )
    return whole, {**first_values, **more_values}, (rest, other)
