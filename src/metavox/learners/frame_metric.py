"""How to compare frames, learned in closed form from takes of the same word after training.

Dynamic time warping says which frames of two takes are the same moment of the word. How these differ from one another
is what voices, rooms and microphones do to a frame; how frames differ at large is what is said. Directions that change
much within a moment and little between moments say nothing about words and count less. That is linear discriminant
analysis on aligned frames (Haeb-Umbach and Ney 1992), with classes that nobody labelled (relevant component analysis,
Bar-Hillel et al. 2003).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from ..nets.alignment import dtw_moments

KEPT = 32
"""Directions that count more, of the frames' dimensions."""
SHRINKAGE = 0.03
"""Of the mean variance, added to each direction's."""
_PAIRS_AT_ONCE = 256


@dataclass
class Moments:
    """Sums over aligned frames of pairs of takes, and over all frames."""

    within: Tensor
    """(D, D) sum of the outer products of differences, in double precision."""
    n_within: float
    frames: list[Tensor]


def gather_moments(
    takes: Iterable[tuple[Float[Tensor, "B T D"], Int[Tensor, " B"], Int[Tensor, "P 2"]]], every: int = 5
) -> Moments:
    """Differences of aligned unit frames over batches of takes with their lengths and the pairs of the same word.

    Of the frames themselves every ``every``-th is kept.
    """
    within, n_within, frames = torch.zeros(()), 0.0, []
    for taken, lengths, pairs in takes:
        unit = functional.normalize(taken, dim=-1)
        for part in pairs.split(_PAIRS_AT_ONCE):
            one, other = part.unbind(1)
            weights = dtw_moments(unit[one], lengths[one], unit[other], lengths[other])
            pair, first, second = torch.nonzero(weights, as_tuple=True)
            apart = (unit[one[pair], first] - unit[other[pair], second]).double()
            within = within + apart.T @ apart
            n_within += len(apart)
        valid = torch.arange(unit.shape[1], device=unit.device) < lengths[:, None]
        frames.append(unit[valid][::every])
    return Moments(within, n_within, frames)


def frame_metric(moments: Moments, kept: int = KEPT) -> Float[Tensor, "D D"]:
    """Symmetric M: cosines of ``frames @ M`` count a direction as it is, and the best ``kept`` once more, whitened.

    Frames as they are and frames in the discriminant's space, of the same mean size, side by side; M is the square root
    of the sum of both inner products, so that nothing grows.
    """
    size = moments.within.shape[0]
    eye = torch.eye(size, dtype=torch.float64)
    within = moments.within / (2 * max(moments.n_within, 1))
    spread = torch.cov(torch.cat(moments.frames).double().T)
    within = within + SHRINKAGE * within.diagonal().mean() * eye
    whiten = _root(within, -0.5)
    _, directions = torch.linalg.eigh(whiten @ spread @ whiten)
    discriminant = whiten @ directions[:, -min(kept, size) :]
    inner = discriminant @ discriminant.T
    return _root(eye + inner * (min(kept, size) / inner.diagonal().sum()), 0.5).float()


def _root(matrix: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp_min(1e-12) ** power) @ vectors.T
