"""What is to be differentiated, what is found, and the objective of one task unrolled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from .inner import Order, Slope, autograd_slope, first, one_step, support_loss
from .outers import Outer, Reptile, step_weights
from .phases import Gradients, added, way_forward, way_gone
from .problem import Problem
from .rule import UpdateRule, Values

Task = tuple[Any, Any]
"""Support and query, trees of tensors."""


@dataclass(frozen=True)
class Plan:
    """A problem, how its inner loop moves, and what judges it."""

    problem: Problem
    rule: UpdateRule
    outer: Outer


@dataclass
class Found:
    """Sum of the gradients over tasks by name, and the outer loss and the extra of each task."""

    grads: Gradients = field(default_factory=dict)
    losses: list[Tensor] = field(default_factory=list)
    extras: list[Any] = field(default_factory=list)


def objective(plan: Plan, values: Values, task: Task, order: Order, slope: Slope) -> tuple[Tensor, tuple[Tensor, Any]]:
    """What the outer rule asks of a task, as a function of ``values``; the same, and what the last loss hands on."""
    problem, rule = plan.problem, plan.rule
    support, query = task if problem.body is None else tuple(problem.body(values, part) for part in task)
    fast = first(problem, rule, values, support)
    loss = support_loss(problem, values, fast, support, order)
    total: Tensor | None = None
    extra: Any = ()
    for done, weight in enumerate(step_weights(plan.outer, rule.n_steps)):
        if done:
            fast, _ = one_step(loss, rule, fast, done - 1, values, order, slope)
        if weight:
            found, extra = problem.outer_loss(values, fast, query)
            total = weight * found if total is None else total + weight * found
    assert total is not None
    return total, (total.detach(), extra)


def loop(plan: Plan, values: Values, tasks: Sequence[Task], order: Order) -> Found:
    """One task after another by autograd, one graph at a time; the reference that the others are held to."""
    found = Found()
    for task in tasks:
        if isinstance(plan.outer, Reptile):
            support = task[0] if plan.problem.body is None else plan.problem.body(values, task[0])
            path, seen = way_forward(plan.problem, plan.rule, values, support, slope=autograd_slope)
            found.grads = added(found.grads, way_gone(path, values))
            found.losses.append(seen)
            found.extras.append(())
            continue
        leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
        with torch.enable_grad():
            total, (loss, extra) = objective(plan, leaves, task, order, autograd_slope)
            taken = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        found.grads = added(found.grads, {n: g for n, g in zip(leaves, taken, strict=True) if g is not None})
        found.losses.append(loss)
        found.extras.append(tree_map(torch.Tensor.detach, extra))
    return found
