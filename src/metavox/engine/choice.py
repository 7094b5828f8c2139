"""Which executor is the fastest within the memory allowed: one step of each is timed on the first tasks that come."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from ..errors import InputError
from .captured import Recorder, even_parts
from .chunks import chunk_gradients, stepwise, unrolled
from .inner import Order
from .lowering import Lowered, laid_out
from .memory import free_bytes, peak_bytes
from .outers import Implicit, Reptile
from .phases import added
from .plans import Found, Plan, Task, loop
from .rule import Values

EXECUTORS = ("loop", "vmap", "captured", "recursion")
_SHORT_S, _LONG_S = 0.05, 1.0
"""Steps shorter than the one are timed several times, and those longer than the other without a warm-up."""
_ITEMS = 96
"""Items that a chunk of tasks holds about, to begin with: their activations then stay in a processor's cache."""
_LARGER = 4
"""How many times as many tasks are tried next."""
_QUERIES = 4
"""Tasks whose queries are asked at once, to begin with."""
_HEAVY = 64 * 2**20
"""Bytes of one task from which on tasks go one by one: what is larger than any cache gains nothing by company."""
_TOLERANCE = 0.3
"""Relative difference to the loop at which an executor is no longer believed; float32 was seen to differ by 3 %."""

_DOUBLE_TOLERANCE = 1e-6
"""The same in double precision."""


@dataclass(frozen=True)
class Option:
    """An executor and its settings; None where it has none or where it is to be chosen."""

    executor: str
    chunk: int | None = None
    query_chunk: int | None = None
    lowered: bool = True


@dataclass(frozen=True)
class Timing:
    """One option as it was tried."""

    option: Option
    seconds: float | None
    """CPU seconds of one step; None where it did not run."""
    peak_mb: float | None
    note: str = ""
    """Why it did not run, or was not believed."""


@dataclass(frozen=True)
class Choice:
    """What was chosen, and what it was chosen from."""

    option: Option
    timings: tuple[Timing, ...]


class Executors:
    """Runs a plan by any option."""

    def __init__(self, plan: Plan, precision: str) -> None:
        self.plan, self.precision = plan, precision
        self._recorders: dict[bool, Recorder] = {}

    def recorder(self, lowered: bool) -> Recorder:
        """The recordings with or without channels last."""
        if lowered not in self._recorders:
            self._recorders[lowered] = Recorder(self.plan, Lowered, laid_out) if lowered else Recorder(self.plan)
        self._recorders[lowered].plan = self.plan  # weights of a multi-step loss may have changed
        return self._recorders[lowered]

    def run(self, option: Option, values: Values, tasks: Sequence[Task], order: Order) -> Found:
        """Gradients of ``tasks``, all of one shape."""
        device = next(iter(values.values())).device
        with ExitStack() as stack:
            if self.precision == "bfloat16":
                stack.enter_context(torch.autocast(device.type, torch.bfloat16))
            if option.executor == "loop" and not isinstance(self.plan.outer, Implicit):
                return loop(self.plan, values, tasks, order)
            stack.enter_context(torch.no_grad())  # the transforms derive within it all the same
            chunk = option.chunk or (1 if option.executor in ("loop", "recursion") else len(tasks))
            one = unrolled if option.executor == "vmap" else stepwise
            found = Found()
            for size, start in even_parts(len(tasks), chunk):
                part = tasks[start : start + size]
                if option.executor == "captured":
                    recorder = self.recorder(option.lowered)
                    more = recorder.gradients(values, part, order, option.query_chunk or size)
                else:
                    more = chunk_gradients(self.plan, values, part, order, one)
                found.grads = added(found.grads, more.grads)
                found.losses += more.losses
                found.extras += more.extras
            return found

    def serves(
        self, option: Option, values: Values, tasks: Sequence[Task], order: Order, memory_mb: float | None
    ) -> bool:
        """True where a step fits in memory, goes through, and agrees with the loop."""
        if option.executor == "loop":
            return True
        try:
            self.check_memory(option, values, tasks, order, memory_mb)
            found = self.run(option, values, tasks, order)
        except Exception:  # whatever a foreign module meets in a recording
            return False
        return difference(found, self.run(Option("loop"), values, tasks, order)) < tolerance(values)

    def check_memory(
        self, option: Option, values: Values, tasks: Sequence[Task], order: Order, memory_mb: float | None
    ) -> None:
        """Raise InputError where a chunk that was asked for is too large."""
        allowed = allowed_bytes(memory_mb, values)
        chunk = min(option.chunk or 1, len(tasks))
        if chunk <= 1 or option.executor == "loop":
            return
        single = peak_bytes(lambda: self.run(replace(option, executor="loop"), values, tasks[:1], order))
        if single * chunk > allowed:
            fits = max(1, int(allowed // single))
            raise InputError(
                f"a chunk of {chunk} tasks takes about {single * chunk / 2**20:.3g} MiB and memory_mb allows "
                f"{allowed / 2**20:.3g}; use chunk={fits}."
            )


def allowed_bytes(memory_mb: float | None, values: Values) -> float:
    """What an executor may hold."""
    if memory_mb is not None:
        return memory_mb * 2**20
    return free_bytes(next(iter(values.values())).device) / 2


def option_of(asked: Option, n_tasks: int) -> Option:
    """An option with the settings that were left open."""
    if asked.executor in ("vmap", "captured") and asked.chunk is None:
        return replace(asked, chunk=min(n_tasks, 16), query_chunk=asked.query_chunk or min(n_tasks, 4))
    return asked


def calibrate(
    executors: Executors,
    asked: Option,
    values: Values,
    tasks: Sequence[Task],
    order: Order,
    memory_mb: float | None,
) -> Choice:
    """Time one step of each executor and keep the fastest that fits and agrees with the loop."""
    trial = _Trial(executors, values, tasks, order, allowed_bytes(memory_mb, values))
    plain = trial.time(Option("loop"))
    peak = (plain.peak_mb or 0.0) * 2**20
    if peak > trial.allowed:
        ran = trial.time(Option("recursion")).seconds is not None
        return trial.best(among="recursion" if ran else None)
    fits = max(1, int(trial.allowed // max(peak, 1.0)))
    chunks = [asked.chunk] if asked.chunk else sorted({min(size, fits) for size in chunk_sizes(executors.plan, tasks)})
    heavy = peak > _HEAVY
    first = Option(
        "captured", chunks[0], asked.query_chunk or (1 if heavy else min(_QUERIES, chunks[0])), asked.lowered
    )
    if trial.time(first).seconds is None:
        trial.others(first)
    elif not heavy:
        trial.vary_chunk(first, chunks[1:])
        if asked.query_chunk is None and trial.has_query:
            trial.vary_query_chunk()
    return trial.best()


def chunk_sizes(plan: Plan, tasks: Sequence[Task]) -> list[int]:
    """Two sizes worth a trial, the smaller first."""
    parts = tasks[0] if plan.problem.body is not None else tasks[0][:1]
    n_items = sum(len(tree_leaves(part)[0]) for part in parts if tree_leaves(part)[0].ndim)
    small = min(len(tasks), max(1, round(_ITEMS / max(n_items, 1))))
    return sorted({small, min(len(tasks), _LARGER * small)})


class _Trial:
    """Options tried on the same tasks."""

    def __init__(
        self, executors: Executors, values: Values, tasks: Sequence[Task], order: Order, allowed: float
    ) -> None:
        self.executors, self.values, self.tasks, self.order, self.allowed = executors, values, tasks, order, allowed
        self.timings: list[Timing] = []
        self._single: int | None = None
        self._reference: Found | None = None

    def time(self, option: Option) -> Timing:
        """Try one option once."""
        timing = self._time(option)
        self.timings.append(timing)
        return timing

    @property
    def has_query(self) -> bool:
        """False where the query is no phase of its own."""
        plan = self.executors.plan
        return not isinstance(plan.outer, Reptile | Implicit) and plan.problem.body is None

    def others(self, failed: Option) -> None:
        """What is left where recording with channels last does not do, until one runs."""
        native = [replace(failed, lowered=False)] if failed.lowered else []
        single = [replace(failed, chunk=1, query_chunk=1)] if (failed.chunk or 1) > 1 else []
        for option in (*native, Option("vmap", failed.chunk), *single):
            if self.time(option).seconds is not None:
                return

    def vary_chunk(self, option: Option, chunks: Sequence[int]) -> None:
        """Try other numbers of tasks in the inner loop."""
        for chunk in chunks:
            self.time(replace(option, chunk=chunk, query_chunk=min(option.query_chunk or 1, chunk)))

    def vary_query_chunk(self) -> None:
        """Go on with twice and with half as many queries for as long as it helps."""
        for factor in (2.0, 0.5):
            best = self.best(among="captured").option
            size = int((best.query_chunk or 1) * factor)
            while 1 <= size <= (best.chunk or 1):
                self.time(replace(best, query_chunk=size))
                if self.best(among="captured").option.query_chunk != size:
                    break
                size = int(size * factor)

    def best(self, among: str | None = None) -> Choice:
        """The fastest so far."""
        ran = [t for t in self.timings if t.seconds is not None and (among is None or t.option.executor == among)]
        if not ran:
            raise InputError(f"no executor could take a step: {'; '.join(t.note for t in self.timings)}.")
        return Choice(min(ran, key=lambda t: t.seconds or 0.0).option, tuple(self.timings))

    def _time(self, option: Option) -> Timing:
        chunk = min(option.chunk or 1, len(self.tasks))
        if self._single is not None and option.executor in ("vmap", "captured"):
            expected = self._single * chunk
            if expected > self.allowed:
                note = f"about {expected / 2**20:.3g} MiB of {self.allowed / 2**20:.3g} allowed"
                return Timing(option, None, expected / 2**20, note)
        if option.executor == "loop":
            reference: list[Found] = []
            peak = peak_bytes(lambda: reference.append(self._step(option, self.tasks[:1])))
            self._single = peak
            once = self._clocked(lambda: reference.append(self._step(option)))
            self._reference = reference[1]
            return Timing(option, once if once > _LONG_S else self._seconds(option), peak / 2**20)
        try:
            found = self._step(option)  # records, and warms up
        except Exception as err:  # whatever a foreign module meets under vmap, the loop is there
            return Timing(option, None, None, " ".join(f"{type(err).__name__}: {err}".split())[:200])
        gap = difference(found, self._reference) if self._reference is not None else 0.0
        if not gap < tolerance(self.values):
            return Timing(option, None, None, f"differs from the loop by {gap:.1e}")
        return Timing(option, self._seconds(option), None)

    def _step(self, option: Option, tasks: Sequence[Task] | None = None) -> Found:
        return self.executors.run(option, self.values, self.tasks if tasks is None else tasks, self.order)

    def _seconds(self, option: Option) -> float:
        spent: list[float] = []
        while not spent or (sum(spent) < _SHORT_S and len(spent) < 5):
            spent.append(self._clocked(lambda: self._step(option)))
        return min(spent)

    def _clocked(self, run: Callable[[], Any]) -> float:
        return clocked(run, next(iter(self.values.values())).device)


def clocked(run: Callable[[], Any], device: torch.device) -> float:
    """CPU seconds on a processor, seconds on an accelerator."""
    if device.type == "cpu":
        started = time.process_time()
        run()
        return time.process_time() - started
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


def tolerance(values: Values) -> float:
    """Relative difference to the loop that rounding may make."""
    return _TOLERANCE if any(value.dtype != torch.float64 for value in values.values()) else _DOUBLE_TOLERANCE


def difference(found: Found, reference: Found) -> float:
    """Norm of the difference of two gradients, relative to the second."""
    zero = torch.zeros(())
    names = {**found.grads, **reference.grads}
    apart = sum(float((found.grads.get(n, zero) - reference.grads.get(n, zero)).square().sum()) for n in names)
    length = sum(float(grad.square().sum()) for grad in reference.grads.values())
    return (apart / max(length, 1e-30)) ** 0.5
