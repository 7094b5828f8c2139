"""CPU seconds in turn, peaks of memory, counted operations, and what the machine reaches at best."""

import ctypes
import gc
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""Written to ``clear_refs``, it makes the present resident size the new peak (Linux, ``man 5 proc``)."""


@dataclass(frozen=True)
class Rounds:
    """How often engines are timed: at least ``least`` rounds, then on while ``budget_s`` lasts, at most ``most``."""

    least: int = 5
    most: int = 25
    budget_s: float = 5.0
    long_s: float = 10.0
    """A round that takes longer is long, and ``least_long`` of them will do: long steps vary less."""
    least_long: int = 3


FEW = Rounds(least=3, most=5, budget_s=3.0)
"""For a first look."""


def cpu_seconds(call: Callable[[], Any]) -> float:
    """CPU time of the process that one call takes; nothing is collected meanwhile."""
    gc.collect()
    gc.disable()
    try:
        started = time.process_time()
        call()
        return time.process_time() - started
    finally:
        gc.enable()


def time_in_turn(
    steps: Mapping[str, Callable[[Any], Any]], draw: Callable[[], Any], rounds: Rounds
) -> dict[str, list[float]]:
    """CPU seconds of every step in every round, all steps on the same new input, each round beginning one later."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for done in range(rounds.most):
        spent = sum(map(sum, seconds.values()))
        least = rounds.least_long if spent > done * rounds.long_s else rounds.least
        if done >= least and spent * (1 + 1 / done) > rounds.budget_s:
            break
        given = draw()
        first = done % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(cpu_seconds(partial(steps[name], given)))
    return seconds


# ------------------------------------------------------------------------------------------------------------- memory


def resident_bytes() -> int | None:
    """Memory that the process holds now, once what is free has been given back; None where it cannot be read."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def peak_growth(call: Callable[[], Any]) -> int | None:
    """Bytes by which one call raises the resident size at its highest; None where it cannot be measured.

    The call is made in any case.
    """
    before = resident_bytes()
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:  # not Linux, or forbidden
        before = None
    call()
    peak = _status("VmHWM")
    return None if before is None or peak is None else max(peak - before, 0)


def _status(field: str) -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith(f"{field}:")), None)
    return None if found is None else 1024 * int(found[1])


# --------------------------------------------------------------------------------------------------------- operations


def count_flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products and convolutions of one call, two a multiply-accumulate."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def gemm_rate(sizes: Iterable[int] = (512, 1024), n_runs: int = 7) -> float:
    """Operations a second of the fastest float32 matrix product among ``sizes``, on the threads that torch now uses."""
    rates = []
    for size in sizes:
        square = _noise(size, size)
        rates.append(2 * size**3 / _fastest(partial(torch.matmul, square, square), n_runs))
    return max(rates)


def conv1d_rate(widths: Iterable[int] = (16, 24, 32, 48, 64, 128, 256), n_runs: int = 7) -> float:
    """Operations a second of the fastest float32 convolution over nine frames, from ``widths`` channels to as many."""
    rates = []
    for width in widths:
        x, kernel = _noise(75, width, 98), _noise(width, width, 9)
        with torch.no_grad():
            seconds = _fastest(partial(functional.conv1d, x, kernel, padding=4), n_runs)
        rates.append(2 * x.numel() * width * 9 / seconds)
    return max(rates)


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _fastest(call: Callable[[], Any], n_runs: int) -> float:
    call()
    return min(cpu_seconds(call) for _ in range(n_runs))


# ------------------------------------------------------------------------------------------------------------ figures


def machine() -> dict[str, Any]:
    """What the figures were measured on; no name of a host."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        model = next(named, model)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
    }


def spread(seconds: list[float]) -> tuple[float, float]:
    """Median, and the relative error of it: half the middle half over the median, over the root of the number."""
    middle = statistics.median(seconds)
    if len(seconds) < 2:
        return middle, math.nan
    low, _, high = statistics.quantiles(seconds, n=4)
    return middle, (high - low) / 2 / middle / math.sqrt(len(seconds))
