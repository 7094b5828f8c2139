"""Second implementations of CTC that lean on nothing of ours: the tests' oracles, and the benchmark's peers."""

from collections.abc import Sequence
from itertools import groupby, product

import torch
from torch import Tensor
from torch.nn import functional

NEVER = -1e30
"""Instead of -inf, whose differences have no derivative."""


def tensor_ops_ctc(log_probs: Tensor, targets: Tensor, frames: Tensor, symbols: Tensor, blank: int = 0) -> Tensor:
    """(B,) losses by plain differentiable operations: all items and states of a frame at once, one loop over frames.

    log_probs (T, B, V), targets (B, S) padded with valid symbols, frames and symbols (B,) lengths, frames at least 1.
    An impossible target gives about 1e30.
    """
    n_items, width = targets.shape
    states = targets.new_full((n_items, 2 * width + 1), blank)
    states[:, 1::2] = targets
    emission = log_probs.gather(2, states.expand(len(log_probs), -1, -1))
    skip = log_probs.new_full(states.shape, NEVER)
    skip[:, 2:] = torch.where((states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2]), 0.0, NEVER)
    alpha = functional.pad(emission[0, :, :2], (0, max(2 * width - 1, 0)), value=NEVER)[:, : 2 * width + 1]
    alphas = [alpha]
    for emitted in emission[1:].unbind(0):
        wide = functional.pad(alpha, (2, 0), value=NEVER)
        alpha = torch.stack([wide[:, 2:], wide[:, 1:-1], wide[:, :-2] + skip]).logsumexp(0) + emitted
        alphas.append(alpha)
    last = torch.stack(alphas)[frames - 1, torch.arange(n_items)]  # (B, 2S + 1)
    ends = functional.pad(last, (1, 0), value=NEVER).gather(1, torch.stack([2 * symbols + 1, 2 * symbols], 1))
    return -ends.logsumexp(1)


def collapsed(path: Sequence[int], blank: int) -> list[int]:
    """The target that a path says: repetitions merged, then blanks left out."""
    return [symbol for symbol, _ in groupby(path) if symbol != blank]


def enumerated_ctc(log_probs: Tensor, target: Sequence[int], blank: int = 0) -> Tensor:
    """Loss of one item, (T, V), by listing every path: the definition."""
    paths = product(range(log_probs.shape[1]), repeat=len(log_probs))
    chosen = [path for path in paths if collapsed(path, blank) == list(target)]
    frames = torch.arange(len(log_probs))
    return -log_probs[frames, torch.tensor(chosen)].sum(1).logsumexp(0)
