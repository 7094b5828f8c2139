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
from .lowering import Lowered
from .memory import free_bytes, peak_bytes
from .outers import Implicit, Reptile
from .phases import added
from .plans import Found, Plan, Task, loop
from .rule import Values

EXECUTORS = ("loop", "vmap", "captured", "recursion")
_SHORT_S = 0.05
"""Steps shorter than this are timed several times."""
_ITEMS = 96
"""Items that a chunk of tasks holds about, to begin with: their activations then stay in a processor's cache."""
_LARGER = 4
"""How many times as many tasks are tried next."""
_QUERIES = (1, 2, 4, 8)
_TOLERANCE = 0.05
"""Relative difference to the loop at which an executor is no longer believed (float32 differs by up to 5e-3)."""


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
            self._recorders[lowered] = Recorder(self.plan, Lowered if lowered else ExitStack)
        return self._recorders[lowered]

    def run(self, option: Option, values: Values, tasks: Sequence[Task], order: Order) -> Found:
        """Gradients of ``tasks``, all of one shape."""
        device = next(iter(values.values())).device
        with ExitStack() as stack:
            if self.precision == "bfloat16":
                stack.enter_context(torch.autocast(device.type, torch.bfloat16))
            if option.executor == "loop" and not isinstance(self.plan.outer, Reptile | Implicit):
                return loop(self.plan, values, tasks, order)
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
                f"a chunk of {chunk} tasks takes about {single * chunk / 2**20:.0f} MiB and memory_mb allows "
                f"{allowed / 2**20:.0f}; use chunk={fits}."
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
    if plain.peak_mb is not None and plain.peak_mb * 2**20 > trial.allowed:
        trial.time(Option("recursion"))
        return trial.best()
    chunks = [asked.chunk] if asked.chunk else chunk_sizes(executors.plan, tasks)
    first = Option("captured", chunks[0], asked.query_chunk or min(4, chunks[0]), asked.lowered)
    if trial.time(first).seconds is None:
        trial.time(Option("vmap", chunks[0]))
    else:
        trial.refine(first, chunks, [asked.query_chunk] if asked.query_chunk else _QUERIES)
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

    def refine(self, option: Option, chunks: Sequence[int], queries: Sequence[int]) -> None:
        """Vary the two chunk sizes one after the other from the best so far."""
        for chunk in chunks[1:]:
            self.time(replace(option, chunk=chunk, query_chunk=min(option.query_chunk or 1, chunk)))
        best = self.best(among="captured").option
        has_query = not isinstance(self.executors.plan.outer, Reptile | Implicit)
        if not has_query or self.executors.plan.problem.body is not None:
            return
        for size in queries:
            if size != best.query_chunk and size <= (best.chunk or 1):
                self.time(replace(best, query_chunk=size))

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
                note = f"about {expected / 2**20:.0f} MiB of {self.allowed / 2**20:.0f} allowed"
                return Timing(option, None, expected / 2**20, note)
        if option.executor == "loop":
            reference: list[Found] = []
            peak = peak_bytes(lambda: reference.append(self._step(option, self.tasks[:1])))
            self._single = peak
            self._reference = self._step(option)
            return Timing(option, self._seconds(option), peak / 2**20)
        try:
            found = self._step(option)  # records, and warms up
        except Exception as err:  # whatever a foreign module meets under vmap, the loop is there
            return Timing(option, None, None, " ".join(f"{type(err).__name__}: {err}".split())[:200])
        gap = difference(found, self._reference) if self._reference is not None else 0.0
        if not gap < _TOLERANCE:
            return Timing(option, None, None, f"differs from the loop by {gap:.1e}")
        return Timing(option, self._seconds(option), None)

    def _step(self, option: Option, tasks: Sequence[Task] | None = None) -> Found:
        return self.executors.run(option, self.values, self.tasks if tasks is None else tasks, self.order)

    def _seconds(self, option: Option) -> float:
        device = next(iter(self.values.values())).device
        spent: list[float] = []
        while not spent or (sum(spent) < _SHORT_S and len(spent) < 5):
            spent.append(_clocked(lambda: self._step(option), device))
        return min(spent)


def _clocked(run: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cpu":
        started = time.process_time()
        run()
        return time.process_time() - started
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


def difference(found: Found, reference: Found) -> float:
    """Norm of the difference of two gradients, relative to the second."""
    apart = sum(float((grad - reference.grads.get(n, 0)).square().sum()) for n, grad in found.grads.items())
    length = sum(float(grad.square().sum()) for grad in reference.grads.values())
    return (apart / max(length, 1e-30)) ** 0.5
