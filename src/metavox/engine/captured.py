"""Chunks of tasks as recorded graphs: the inner loop there and back, the outer gradient, and a frozen body.

The same functions as in ``chunks``, cut where the outer gradient stands, so that support and query may be handled
in chunks of their own size: the small batches of an inner loop many tasks at once, the large ones of a query few.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from .chunks import SUPPORT, carried, mapped, parted, scaled, shared, stacked, unrolled
from .graphs import CannotRecord, Recorded
from .guards import Sources, fingerprint
from .inner import Order, above_0
from .outers import Implicit, Reptile, step_weights
from .phases import Gradients, added, outer_gradient, way_back, way_forward, way_gone
from .plans import Found, Plan, Task
from .problem import Problem
from .rule import Values

MAX_RECORDINGS = 64
"""Recordings that are kept; beyond it the one that was not used for longest is given up."""


class Recorder:
    """Records what a plan asks for, once for each shape of tasks, and replays it.

    Args:
        context: what it is recorded in.
        layout: puts values in the memory layout that the operations of ``context`` like.
    """

    def __init__(
        self,
        plan: Plan,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        layout: Callable[[Tensor], Tensor] = torch.Tensor.detach,
    ) -> None:
        self.plan, self.context, self.layout = plan, context, layout
        self._kept: dict[Any, Any] = {}
        self._state: tuple[object, ...] = ()

    def __len__(self) -> int:
        return len(self._kept)

    def gradients(self, values: Values, tasks: Sequence[Task], order: Order, n_query: int) -> Found:
        """The gradients of ``tasks``, all of one shape; queries ``n_query`` tasks at a time."""
        task = stacked(tasks)
        values = {name: self.layout(value) for name, value in values.items()}
        self._state = fingerprint(self.plan.problem.module)
        if isinstance(self.plan.outer, Implicit):
            return self._implicit(values, task, len(tasks))
        if self.plan.problem.body is None:
            return self._there_and_back(self.plan, values, {}, task, order, n_query)[0]
        body = self._recorded("body", (values, task), lambda: self._body(values, task))
        (local, rest), kept = body.graph.first(values, task)
        whole = replace(self.plan, problem=body.problem)
        found, grads = self._there_and_back(whole, values, local, rest, order, len(tasks))
        if grads:  # Reptile asks nothing of a body
            found.grads = added(found.grads, body.graph.second(kept, grads))
        return found

    # --------------------------------------------------------------------------------------------- what is replayed

    def _there_and_back(
        self, plan: Plan, values: Values, local: Values, task: Task, order: Order, n_query: int
    ) -> tuple[Found, Gradients]:
        """Gradients summed over tasks, and those of local values task by task."""
        support, query = task
        own = {name: value for name, value in local.items() if name.startswith(SUPPORT)}
        asked = {name: value for name, value in local.items() if name not in own}
        share = [order] if isinstance(order, Tensor) else []
        inner = self._recorded(
            f"inner {order if not share else ''} {judged(plan)}",
            (values, own, support),
            lambda: self._inner(plan, values, own, support, order),
        )
        (states, seen), kept = inner.first(values, own, support)
        if isinstance(plan.outer, Reptile):
            return Found(states, list(seen), [()] * len(seen)), {}
        found = Found()
        of_asked: Gradients = {}
        cotangents: dict[int, Gradients] = {}
        losses: Tensor | None = None
        for done, weight in enumerate(step_weights(plan.outer, plan.rule.n_steps)):
            if not weight:
                continue
            loss, extras, in_values, in_asked, in_fast = self._outer(plan, values, asked, states[done], query, n_query)
            losses = weight * loss if losses is None else losses + weight * loss
            found.grads = added(found.grads, scaled(in_values, weight))
            of_asked = added(of_asked, scaled(in_asked, weight))
            cotangents[done] = scaled(in_fast, weight)
            found.extras = extras
        assert losses is not None
        in_values, of_own = inner.second(kept, cotangents, *share)
        found.grads, found.losses = added(found.grads, in_values), list(losses)
        return found, {**of_own, **of_asked}

    def _outer(
        self, plan: Plan, values: Values, asked: Values, fast: Values, query: Any, n_query: int
    ) -> tuple[Tensor, list[Any], Gradients, Gradients, Gradients]:
        """Outer loss and its gradients for all tasks, ``n_query`` at a time."""
        n_tasks = tree_flatten((query, fast))[0][0].shape[0]
        losses: list[Tensor] = []
        extras: list[Any] = []
        in_values: Gradients = {}
        in_asked: list[Gradients] = []
        in_fast: list[Gradients] = []
        for size, start in even_parts(n_tasks, n_query):
            part = tree_map(lambda value, at=slice(start, start + size): value[at], (asked, fast, query))
            graph = self._recorded("outer", (values, *part), partial(self._query, plan, values, *part))
            loss, extra, shared_part, *own = graph(values, *part)
            losses.append(loss)
            extras += parted(extra, size)
            in_values = added(in_values, shared_part)
            in_asked.append(own[0])
            in_fast.append(own[1])
        return torch.cat(losses), extras, in_values, _joined(in_asked), _joined(in_fast)

    def _implicit(self, values: Values, task: Task, n_tasks: int) -> Found:
        def whole(values: Values, task: Task) -> tuple[Gradients, Tensor, Any]:
            plain, local, rest, pull = carried(self.plan, values, task)

            def single(local: Values, support: Any, query: Any) -> tuple[Gradients, Tensor, Any]:
                return unrolled(plain, {**values, **local}, support, query, 1.0)

            grads, losses, extras = mapped(single, n_tasks)(local, *rest)
            return shared(grads, local, pull), losses, extras

        graph = self._recorded("implicit", (values, task), lambda: Recorded(whole, (values, task)))
        grads, losses, extras = graph(values, task)
        return Found(grads, list(losses), parted(extras, n_tasks))

    # --------------------------------------------------------------------------------------------- what is recorded

    def _recorded(self, kind: str, args: Any, record: Callable[[], Any]) -> Any:
        strides = tuple(leaf.stride() for leaf in tree_flatten(args)[0])
        key = (kind, signature(args), strides, self._state)
        found, sources = self._kept.pop(key, (None, Sources()))
        if found is None or not sources.stand():
            with self.context():
                found = record()
            sources = Sources.of(self.plan.problem.module, found.constants)
        self._kept[key] = found, sources  # the latest stands last
        while len(self._kept) > MAX_RECORDINGS:
            del self._kept[next(iter(self._kept))]
        return found

    def _body(self, values: Values, task: Task) -> "_Body":
        known: list[Problem] = []

        def there_and_back(values: Values, task: Task, grads: Gradients | None = None) -> Any:
            plain, local, rest, pull = carried(self.plan, values, task)
            known.append(plain.problem)
            return (local, rest), ({} if grads is None else pull(grads))

        with torch.no_grad():
            (local, _), _ = there_and_back(values, task)
        example = {name: torch.zeros_like(value) for name, value in local.items()}
        return _Body(Recorded(there_and_back, (values, task, example), n_early=2), known[0])

    def _inner(self, plan: Plan, values: Values, own: Values, support: Any, order: Order) -> Recorded:
        n_tasks = tree_flatten((own, support))[0][0].shape[0]
        wanted = judged(plan)

        def forward(values: Values, own: Values, support: Any) -> tuple[list[Values], Tensor]:
            return way_forward(plan.problem, plan.rule, {**values, **own}, support)

        def there_and_back(values: Values, own: Values, support: Any, cotangents: Any, *share: Tensor) -> Any:
            def single(own: Values, support: Any, cotangents: Any) -> Any:
                path, seen = forward(values, own, support)
                if isinstance(plan.outer, Reptile):
                    return (way_gone(path, values), seen), {}
                known = {**values, **own}
                back = way_back(plan.problem, plan.rule, known, path, support, cotangents, share[0] if share else order)
                return ({done: path[done] for done in wanted}, seen), back

            (states, seen), back = mapped(single, n_tasks)(own, support, cotangents)
            if isinstance(plan.outer, Reptile):
                states = {name: value.sum(0) for name, value in states.items()}
            in_values = {name: grad.sum(0) for name, grad in back.items() if name not in own}
            return (states, seen), (in_values, {name: back[name] for name in own if name in back})

        with torch.no_grad():
            path, _ = mapped(lambda own, support: forward(values, own, support), n_tasks)(own, support)
        example = {done: tree_map(torch.zeros_like, path[done]) for done in wanted}
        share = (order,) if isinstance(order, Tensor) else ()
        recorded = Recorded(there_and_back, (values, own, support, example, *share), n_early=3)
        goes_back = above_0(order) or any(plan.rule.steers(name) for name in values)
        if recorded.draws and wanted[-1] and goes_back:
            raise CannotRecord("the support loss draws random numbers, which the way back would draw anew")
        return recorded

    def _query(self, plan: Plan, values: Values, asked: Values, fast: Values, query: Any) -> Recorded:
        n_tasks = tree_flatten((fast, query))[0][0].shape[0]

        def whole(values: Values, asked: Values, fast: Values, query: Any) -> Any:
            def single(asked: Values, fast: Values, query: Any) -> Any:
                return outer_gradient(plan.problem, {**values, **asked}, fast, query)

            losses, extras, in_values, in_fast = mapped(single, n_tasks)(asked, fast, query)
            shared_part = {name: grad.sum(0) for name, grad in in_values.items() if name not in asked}
            return losses, extras, shared_part, {name: in_values[name] for name in asked}, in_fast

        return Recorded(whole, (values, asked, fast, query))


def judged(plan: Plan) -> list[int]:
    """After how many steps the query is asked, of those that count."""
    return [done for done, weight in enumerate(step_weights(plan.outer, plan.rule.n_steps)) if weight]


class _Body:
    """A recorded body, and the problem that is left without it."""

    def __init__(self, graph: Recorded, problem: Problem) -> None:
        self.graph, self.problem = graph, problem
        self.constants = graph.constants


def signature(tree: Any) -> Any:
    """Structure, shapes, dtypes and device: what a recording depends on."""
    leaves, spec = tree_flatten(tree)
    return str(spec), tuple((tuple(leaf.shape), leaf.dtype, leaf.device) for leaf in leaves)


def even_parts(n: int, largest: int) -> list[tuple[int, int]]:
    """(size, start) of as few parts of ``n`` as none is above ``largest``, alike in size."""
    n_parts = -(-n // max(1, largest))
    ends = [round(i * n / n_parts) for i in range(n_parts + 1)]
    return [(end - start, start) for start, end in pairwise(ends)]


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> Gradients:
    """Tasks of several parts behind one another."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
