"""Meta-gradients of any module: one engine, several executors, the same result."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .captured import signature
from .choice import EXECUTORS, Choice, Executors, Option, calibrate, option_of
from .guards import check_values, checked_tasks, explained, mixes_items, refuse_running_statistics, twice_differentiable
from .inner import Order, autograd_slope, first, one_step, support_loss
from .outers import Implicit, MultiStep, Outer, Reptile, outer_of
from .phases import Gradients, added
from .plans import Plan, Task
from .problem import Problem
from .rule import UpdateRule, Values

MAX_SHAPES = 16
"""Shapes of tasks that an engine calibrates for; what comes later in yet other shapes goes through the loop."""


@dataclass(frozen=True)
class MetaGradient:
    """The mean over tasks, and what was seen of each."""

    values: Gradients
    """By name, for every value; zero where nothing reaches it."""
    losses: Tensor
    """(n_tasks,) outer losses."""
    extras: list[Any]
    """What the outer loss of each task handed on."""

    @property
    def finite(self) -> bool:
        """False where any number of the gradient is infinite or not a number."""
        return all(bool(torch.isfinite(grad).all()) for grad in self.values.values())


class Engine:
    """Meta-gradients of a problem under an update rule.

    Every executor gives the same result (to 1e-12 in double precision); ``auto`` times one step of each that fits in
    memory on the first tasks it sees and keeps the fastest:

    - ``loop``: task by task, autograd through the unrolled inner loop; anything that runs will do.
    - ``vmap``: chunks of tasks at once, ``vmap`` of a gradient.
    - ``captured``: the same recorded once as flat graphs of native operations and replayed. What the losses decide in
      Python (a counter, a float that changes from call to call) is decided while recording; attributes of modules are
      watched, other state is not.
    - ``recursion``: task by task, backwards step by step; memory does not grow with the number of inner steps.

    Args:
        problem: what is adapted and asked, see ``Problem.of``.
        rule: steps, step sizes, mask and order of the inner loop.
        outer: ``query``, ``multi_step``, ``reptile``, ``implicit``, or one of ``engine.outers`` with its settings.
        executor: ``auto`` or a name from above.
        chunk: tasks at once in the inner loop, or None to have it chosen.
        query_chunk: tasks at once in the outer loss, for ``captured``.
        memory_mb: what an executor may hold at most; None for half of what is free.
        lowered: compute convolutions and group norms with channels last in memory (``captured`` only).
        precision: ``float32`` for the precision of the values, or ``bfloat16`` for autocast.
        chosen: options by what they were chosen for. It is added to; what it holds already is not chosen again, so
            that a training that goes on computes as it did.

    Raises:
        InputError: a name that is not known, or a batch norm that learns statistics while training.
    """

    def __init__(
        self,
        problem: Problem,
        rule: UpdateRule | None = None,
        outer: str | Outer = "query",
        executor: str = "auto",
        *,
        chunk: int | None = None,
        query_chunk: int | None = None,
        memory_mb: float | None = None,
        lowered: bool = True,
        precision: str = "float32",
        chosen: dict[str, Option] | None = None,
    ) -> None:
        self.rule = rule or UpdateRule()
        self.plan = Plan(problem, self.rule, outer_of(outer, self.rule.n_steps))
        if executor != "auto" and executor not in EXECUTORS:
            raise InputError(f"executor is {executor!r}; it is one of auto, {', '.join(EXECUTORS)}.")
        if precision not in ("float32", "bfloat16"):
            raise InputError(f"precision is {precision!r}; it is float32 or bfloat16.")
        for name, size in (("chunk", chunk), ("query_chunk", query_chunk)):
            if size is not None and size < 1:
                raise InputError(f"{name} is {size}; a chunk has 1 task or more.")
        self.executor, self.memory_mb = executor, memory_mb
        self._asked = Option(executor, chunk, query_chunk, lowered)
        self._executors = Executors(self.plan, precision)
        self.chosen = {} if chosen is None else chosen
        self.choice: Choice | None = None
        refuse_running_statistics(problem.module)
        mixing = mixes_items(problem.module) if problem.body is not None else None
        if mixing is not None:
            raise InputError(
                f"layer {mixing!r} mixes the items of a batch, and the frozen body runs on all tasks of a chunk at "
                "once; use GroupNorm, or call eval() on it."
            )

    def gradient(
        self, values: Values, tasks: Sequence[Task], order: float | None = None, outer: MultiStep | None = None
    ) -> MetaGradient:
        """The mean meta-gradient of ``tasks``, each a pair of support and query (trees of tensors of any shapes).

        Args:
            values: what is learned, by name, and step sizes among them (see ``UpdateRule.lr``).
            tasks: tasks of one shape are handled together.
            order: in place of ``rule.order``, to anneal it.
            outer: other weights of a multi-step loss, to anneal them.

        Raises:
            InputError: no tasks, a mask that matches nothing, an operation that cannot be differentiated twice, a loss
                that does not depend on what adapts, a chunk that does not fit in memory.
        """
        refuse_running_statistics(self.plan.problem.module)
        judge = self.plan.outer if outer is None else outer_of(outer, self.rule.n_steps)
        self._executors.plan = replace(self.plan, outer=judge)
        share = self.rule.order if order is None else UpdateRule(order=order).order
        values = {name: values[name].detach() for name in sorted(values)}
        check_values(self.plan.problem, self.rule, values)
        tasks = checked_tasks(tasks, isinstance(self.plan.outer, Reptile))
        versions = [value._version for value in values.values()]
        grads: Gradients = {}
        losses: list[Any] = [None] * len(tasks)
        extras: list[Any] = [None] * len(tasks)
        with ExitStack() as stack:
            if share > 0 or isinstance(self.plan.outer, Implicit):
                stack.enter_context(twice_differentiable(self.plan.problem.module))
            stack.enter_context(explained(share > 0, self.executor))
            for positions in _alike(tasks):
                batch = [tasks[i] for i in positions]
                found = self._run(values, batch, self._order(share, values))
                grads = added(grads, found.grads)
                for i, loss, extra in zip(positions, found.losses, found.extras, strict=True):
                    losses[i], extras[i] = loss, extra
        for (name, value), version in zip(values.items(), versions, strict=True):
            if value._version != version:
                raise InputError(f"the loss changes {name!r} in place, and so what is learned; let it change a copy.")
        mean = {name: grads[name] / len(tasks) if name in grads else torch.zeros_like(values[name]) for name in values}
        return MetaGradient(mean, torch.stack(losses), extras)

    def _order(self, share: float, values: Values) -> Order:
        """A share strictly between is a tensor, so that a recording serves all of them."""
        if share in (0.0, 1.0):
            return float(share)
        like = next(iter(values.values()))
        return torch.tensor(share, dtype=like.dtype, device=like.device)

    def _run(self, values: Values, tasks: Sequence[Task], order: Order) -> Any:
        kind = order if isinstance(order, float) else "between"
        key = f"{self.executor} {kind} {len(tasks)} {signature(tasks[0])}"
        if key not in self.chosen:
            self.chosen[key] = self._choose(values, tasks, order, kind)
        return self._executors.run(self.chosen[key], values, tasks, order)

    def _earlier(self, kind: float | str, n_tasks: int) -> Option | None:
        """What was chosen for tasks of another shape and about as many: timing each shape anew would cost more."""
        for key, option in self.chosen.items():
            executor, order, n_earlier, *_ = key.split(" ")
            if (executor, order) == (self.executor, str(kind)) and n_tasks <= 2 * int(n_earlier):
                chunk, query_chunk = (size and min(size, n_tasks) for size in (option.chunk, option.query_chunk))
                return replace(option, chunk=chunk, query_chunk=query_chunk)
        return None

    def _choose(self, values: Values, tasks: Sequence[Task], order: Order, kind: float | str) -> Option:
        if self.executor != "auto":
            option, self.choice = option_of(self._asked, len(tasks)), Choice(self._asked, ())
            self._executors.check_memory(option, values, tasks, order, self.memory_mb)
            if self.executor != "loop" and self.rule.n_steps:
                self._check_dependence(values, tasks[0])
            return option
        if len(self.chosen) >= MAX_SHAPES:
            return Option("loop")
        earlier = self._earlier(kind, len(tasks))
        if earlier is not None and self._executors.serves(earlier, values, tasks, order, self.memory_mb):
            return earlier
        self.choice = calibrate(self._executors, self._asked, values, tasks, order, self.memory_mb)
        return self.choice.option

    def _check_dependence(self, values: Values, task: Task) -> None:
        """Raise InputError where no step would move anything: the transforms of torch give zeros for that."""
        problem = self.plan.problem
        support = task[0] if problem.body is None else problem.body(values, task[0])
        start = first(problem, self.rule, values, support)
        one_step(support_loss(problem, values, start, support, 0.0), self.rule, start, 0, values, 0.0, autograd_slope)


def _alike(tasks: Sequence[Task]) -> list[list[int]]:
    """Positions of tasks by structure and shapes."""
    groups: dict[Any, list[int]] = {}
    for position, task in enumerate(tasks):
        groups.setdefault(signature(task), []).append(position)
    return list(groups.values())
