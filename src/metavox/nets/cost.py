"""What an encoder costs: numbers to store, multiplications a window, and milliseconds on one thread."""

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..contracts import Encoder, InputError
from .sparse import SparseLinear

MIN_RUNS = 6
"""Fewer runs have no interval: all of them lie on one side of the median once in 2 ** (n - 1) times."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Median time of one window, in milliseconds, and where the median of more runs would lie (95 %)."""

    median_ms: float
    low_ms: float
    high_ms: float
    n_runs: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What one encoder costs for a window of ``n_frames``."""

    n_frames: int
    parameters: int
    """Learned numbers."""
    nonzero: int
    """Learned numbers that are not 0."""
    stored_bytes: int
    """Learned numbers and what a model file keeps beside them, such as the indices of connections."""
    absent: float
    """Share of the connections of sparse layers that do not exist and are not stored; 0 without such layers."""
    macs: int
    """Multiply-accumulates of matrix products and convolutions."""
    latency: Latency


def cost(encoder: Encoder, n_frames: int | None = None, n_runs: int = 50) -> Cost:
    """Count and time one encoder on a window of ``n_frames``, by default what its front end gives or else one second.

    Raises:
        InputError: fewer than ``MIN_RUNS`` runs.
    """
    assert isinstance(encoder, nn.Module)
    n_frames = n_frames or encoder.front_end.n_frames or round(1000 / encoder.front_end.hop_ms)
    tensors = encoder.state_dict().values()
    return Cost(
        n_frames,
        n_parameters(encoder),
        sum(int(parameter.count_nonzero()) for parameter in encoder.parameters()),
        sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        absent_share(encoder),
        macs(encoder, n_frames),
        latency(encoder, n_frames, n_runs),
    )


def n_parameters(encoder: nn.Module) -> int:
    """Learned numbers that are stored."""
    return sum(parameter.numel() for parameter in encoder.parameters())


def absent_share(encoder: nn.Module) -> float:
    """Share of the connections of sparse layers that do not exist, and are not stored as zeros either."""
    layers = [module for module in encoder.modules() if isinstance(module, SparseLinear)]
    possible = sum(layer.n_in * layer.n_out for layer in layers)
    return 1 - sum(layer.values.numel() for layer in layers) / possible if possible else 0.0


def macs(encoder: Encoder, n_frames: int) -> int:
    """Multiply-accumulates of one window: matrix products and convolutions, with what they multiply by padding.

    Counted by running the encoder, as it runs in recognition. Additions, norms and non-linear functions are left out.
    """
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_GATHERED) as counter:
        encoder(*_window(encoder, n_frames))
    return counter.get_total_flops() // 2


def latency(encoder: Encoder, n_frames: int, n_runs: int = 50) -> Latency:
    """Time of one window on one thread, after a few runs that are not counted.

    The interval is that of the median by the order of the runs, whatever their distribution (David and Nagaraja 2003,
    section 7.1); it speaks of runs in one go on this machine.

    Raises:
        InputError: fewer than ``MIN_RUNS`` runs.
    """
    if n_runs < MIN_RUNS:
        raise InputError(f"{n_runs} runs have no interval; ask for at least {MIN_RUNS}.")
    window = _window(encoder, n_frames)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    try:
        with torch.no_grad():
            for run in range(n_runs + 5):
                started = time.perf_counter()
                encoder(*window)
                if run >= 5:
                    times.append(1000 * (time.perf_counter() - started))
    finally:
        torch.set_num_threads(threads)
    times.sort()
    out = _ranks_outside(n_runs)
    return Latency(statistics.median(times), times[out - 1], times[n_runs - out], n_runs)


def _ranks_outside(n: int) -> int:
    """The largest r such that the r-th smallest and the r-th largest of n enclose the median with 95 %."""
    below, rank = 0, 0
    while True:
        below += math.comb(n, rank)
        if below > 0.025 * 2**n:
            return rank
        rank += 1


def _window(encoder: Encoder, n_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    assert isinstance(encoder, nn.Module)
    like = next((parameter for parameter in encoder.parameters()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1, n_frames, encoder.front_end.n_mels, generator=generator)
    return inputs.to(like), torch.tensor([n_frames], device=like.device)


def _gathered_flops(weight: Any, indices: Any, *rest: Any, out_shape: Any = None, **named: Any) -> int:
    """Two a stored connection and frame. (n_in, B) and (n_out * fan_in,), given as shapes."""
    return 2 * math.prod(indices) * weight[1]


_GATHERED = {
    operation: _gathered_flops
    for operation in (torch.ops.aten._embedding_bag, torch.ops.aten._embedding_bag_forward_only)
}
"""What torch's counter does not know: the product of ``SparseLinear``."""
