"""One cell after the other: the same gradients first, then seconds in turn, then memory."""

import gc
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from .bare import build_bare
from .cells import N_WAY, Build, Cell, Step, Tasks, Values, draw_tasks
from .nets import Classifier, build_net
from .peers import PEERS, build_peer, why_absent
from .timing import Rounds, count_flops, cpu_seconds, peak_growth, resident_bytes, spread, time_in_turn

OURS, BARE = "metavox", "bare"
CHECKED_TASKS = 2
"""Tasks of a cell on which gradients are compared in float64."""
MAX_DIFFERENCE = 1e-8
"""Relative difference of gradients in float64 above which two engines do not compute the same."""
MAX_DIFFERENCE_FLOAT32 = 0.05
"""The same in float32, on all tasks of the cell: rounding moves units of a ReLU across zero, so it is far larger."""
MEGABYTE = 1e6

Report = Callable[..., None]
"""``report(what, done, total, note)``."""


class Disagreement(Exception):
    """Two engines do not compute the same gradient, so their speeds cannot be compared."""


@dataclass(frozen=True)
class Limits:
    """What one thread of the machine reaches at best, in operations a second."""

    gemm: float
    conv1d: float


@dataclass
class _Measured:
    step: Step
    first_s: float
    held: int | None
    peak: int | None
    difference_float32: float
    difference_float64: float = math.nan
    seconds: list[float] = field(default_factory=list)


def engines_here() -> dict[str, Build]:
    """Our engine, the bare loop, and every peer that is here; what has no path for a cell builds None."""
    from .ours import OurStep

    peers = {name: partial(build_peer, name) for name in PEERS if why_absent(name) is None}
    return {OURS: OurStep, BARE: build_bare, **peers}


def measure(
    cells: Sequence[Cell],
    engines: Mapping[str, Build],
    limits: Limits,
    rounds: Rounds,
    seed: int,
    report: Report,
    what: str = "cells",
) -> Iterator[dict[str, Any]]:
    """One row a cell: steps a CPU second, memory and shares of the limits of every engine that has a path for it.

    Raises:
        Disagreement: an engine whose gradient is not that of the bare loop.
    """
    gc.freeze()  # what stands now need not be looked through before every step
    try:
        for done, cell in enumerate(cells):
            report(what, done, len(cells), cell.name)
            yield measure_cell(cell, engines, limits, rounds, seed)
        if cells:
            report(what, len(cells), len(cells))
    finally:
        gc.unfreeze()


def measure_cell(cell: Cell, engines: Mapping[str, Build], limits: Limits, rounds: Rounds, seed: int) -> dict[str, Any]:
    """The row of one cell; ``engines`` holds ``BARE``, with which gradients are compared."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {cell.name}".encode()))
    measured = _first_steps(cell, engines, draw_tasks(cell, cell.n_tasks, generator), seed)
    few = draw_tasks(cell, min(CHECKED_TASKS, cell.n_tasks), generator, torch.float64)
    differences = check(cell, {name: _same(one.step, engines[name]) for name, one in measured.items()}, few, seed)
    draw = partial(draw_tasks, cell, cell.n_tasks, generator)
    seconds = time_in_turn({name: one.step for name, one in measured.items()}, draw, rounds)
    for name, one in measured.items():
        one.difference_float64, one.seconds = differences[name], seconds[name]
    n_flops = cell.n_tasks * count_flops(partial(measured[BARE].step, draw_tasks(cell, 1, generator)))
    return _row(cell, measured, n_flops, limits)


def _same(step: Any, engine: Build) -> Build:
    """What builds a step like this one: with the choices that it made, where it makes any."""
    return step.twin if hasattr(step, "twin") else engine


def weights(cell: Cell, seed: int, dtype: torch.dtype) -> Classifier:
    """The network of a cell; the same weights for every engine."""
    return build_net(cell.net, N_WAY, torch.Generator().manual_seed(seed), dtype)


def check(cell: Cell, engines: Mapping[str, Build], tasks: Tasks, seed: int) -> dict[str, float]:
    """Relative difference from the bare loop in float64, of all engines that have a path for the cell.

    Raises:
        Disagreement: a difference above ``MAX_DIFFERENCE``.
    """
    expected = build_bare(cell, weights(cell, seed, torch.float64))(tasks)
    found = {}
    for name, build in engines.items():
        step = build(cell, weights(cell, seed, torch.float64))
        if step is not None:
            found[name] = relative_difference(step(tasks), expected)
            _require(found[name], MAX_DIFFERENCE, name, cell, "float64")
    return found


def relative_difference(found: Values, expected: Values) -> float:
    """Norm of the difference over that of ``expected``, over all parameters; infinite where names differ."""
    if found.keys() != expected.keys():
        return math.inf
    apart = sum(float((found[name].detach() - value).double().square().sum()) for name, value in expected.items())
    return math.sqrt(apart / sum(float(value.double().square().sum()) for value in expected.values()))


def _require(difference: float, limit: float, name: str, cell: Cell, dtype: str) -> None:
    if not difference <= limit:  # so that not-a-number is refused too
        raise Disagreement(
            f"In {cell.name} the {dtype} gradient of {name} is {difference:.1e} away from that of the bare loop, more "
            f"than {limit:.0e}; their speeds cannot be compared."
        )


def _first_steps(cell: Cell, engines: Mapping[str, Build], tasks: Tasks, seed: int) -> dict[str, _Measured]:
    """Two calls of every engine to warm up: in the first ours sets itself up, the second is looked at for memory."""
    expected = build_bare(cell, weights(cell, seed, torch.float32))(tasks)  # kernels are loaded here, at nobody's cost
    measured = {}
    for name, build in engines.items():
        step = build(cell, weights(cell, seed, torch.float32))
        if step is None:
            continue
        before = resident_bytes()
        found: list[Values] = []
        first_s = cpu_seconds(lambda step=step, found=found: found.append(step(tasks)))  # type: ignore[misc]
        difference = relative_difference(found[0], expected)
        _require(difference, MAX_DIFFERENCE_FLOAT32, name, cell, "float32")
        found.clear()
        after = resident_bytes()
        held = None if before is None or after is None else max(after - before, 0)
        measured[name] = _Measured(step, first_s, held, peak_growth(partial(step, tasks)), difference)
    return measured


def _row(cell: Cell, measured: Mapping[str, _Measured], n_flops: int, limits: Limits) -> dict[str, Any]:
    table = {}
    for name, one in measured.items():
        median, error = spread(one.seconds)
        table[name] = {
            "steps_per_cpu_s": 1 / median,
            "relative_error_of_median": error,
            "peak_rss_mb": None if one.peak is None else one.peak / MEGABYTE,
            "held_rss_mb": None if one.held is None else one.held / MEGABYTE,
            "share_of_gemm": n_flops / median / limits.gemm,
            "share_of_conv1d": n_flops / median / limits.conv1d,
            "difference_float64": one.difference_float64,
            "difference_float32": one.difference_float32,
        }
        if hasattr(one.step, "choice"):
            table[name] |= {"setup_cpu_s": max(one.first_s - median, 0.0), "choice": one.step.choice}
    return {
        "cell": cell.name,
        "net": cell.net,
        "algorithm": cell.algorithm,
        "shots": cell.n_shots,
        "inner_steps": cell.n_steps,
        "tasks": cell.n_tasks,
        "gflop": n_flops / 1e9,
        "rounds": len(next(iter(measured.values())).seconds),
        "engines": table,
    }
