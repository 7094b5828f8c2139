"""CTC by its definition: every path listed. The oracle of decoding and alignment; it leans on nothing of ours."""

import math
from collections import defaultdict
from itertools import groupby, product

import numpy as np
import torch
from torch import Tensor

Ids = tuple[int, ...]


def posteriors(n_frames: int, n_symbols: int, seed: int, sharpness: float = 1.5) -> Tensor:
    """(T, V) random log-probabilities in float64."""
    values = torch.randn(n_frames, n_symbols, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (values * sharpness).log_softmax(-1)


def said_by(path: Ids) -> Ids:
    """The symbols that a path says: repetitions merged, then blanks left out."""
    return tuple(symbol for symbol, _ in groupby(path) if symbol)


def every_path(log_probs: Tensor) -> list[tuple[Ids, float]]:
    """Each path with its log-probability."""
    values = log_probs.tolist()
    return [
        (path, math.fsum(frame[symbol] for frame, symbol in zip(values, path, strict=True)))
        for path in product(range(log_probs.shape[1]), repeat=len(values))
    ]


def totals(log_probs: Tensor) -> dict[Ids, float]:
    """The log-probability of everything that can be said: the sum over its paths."""
    found: dict[Ids, float] = defaultdict(float)
    for path, log_prob in every_path(log_probs):
        found[said_by(path)] += math.exp(log_prob)
    return {ids: math.log(total) for ids, total in found.items()}


def spoken(ids: Ids, n_frames: int, n_symbols: int, seed: int, noise: float = 1.0) -> Tensor:
    """(T, V) log-probabilities of somebody who says ``ids``, a frame each with a blank between, in noise."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n_frames, n_symbols)) * noise
    scores[:, 0] += 6
    places = np.sort(rng.choice(np.arange(0, n_frames, 2), len(ids), replace=False))
    scores[places, 0] -= 6
    scores[places, list(ids)] += 6
    return torch.from_numpy(scores).log_softmax(-1)
