"""Attention between frame sequences: what of a class's takes answers to each moment of a query."""

from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional


class CrossTransformer(nn.Module):
    """A prototype of each class for each moment of a query, by attention (Doersch et al. 2020, CrossTransformers).

    Every moment of a query attends to all moments of all takes of a class, as patches of an image do there (Perrett
    et al. 2021, TRX, do so with ordered tuples of video frames); a learned bias says how far in relative time an
    answer may lie. What is attended to, projected, is the class's prototype for that moment, and the score minus
    the mean squared distance of the query's moments to theirs. Keys, values and the bias start as what a soft
    alignment does without learning: frames as they are, and a bell of ``BELL`` of the window.

    A comparison as in ``nets.comparing``, of vectors that are ``n_segments`` moments side by side.
    """

    BELL = 0.12
    gaps: Tensor
    """(N, N) row of ``near`` for a moment of a query and one of a take."""

    def __init__(self, dim: int, n_segments: int) -> None:
        super().__init__()
        self.n_segments = n_segments
        self.key, self.value = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        for layer in (self.key, self.value):
            nn.init.eye_(layer.weight)
        self.log_sharpness = nn.Parameter(torch.tensor(log(10.0)))
        gap = torch.arange(1 - n_segments, n_segments) / n_segments
        self.near = nn.Parameter(-((gap / self.BELL).square()) / 2)
        at = torch.arange(n_segments)
        self.register_buffer("gaps", at[None] - at[:, None] + n_segments - 1, persistent=False)

    def forward(self, query: Tensor, takes: Tensor, member: Tensor, scale: Tensor) -> Tensor:
        asked, known = self._moments(query), self._moments(takes)
        keys = [functional.normalize(self.key(frames), dim=-1) for frames in (asked, known)]
        cosine = torch.einsum("btd,sud->bstu", *keys)
        heard = self.log_sharpness.exp() * cosine + self.near[self.gaps]  # (B, S, T, U)
        # First within each take, then among the takes of a class: together one softmax over all their moments.
        answers = torch.einsum("bstu,sud->bstd", heard.softmax(-1), self.value(known))
        weight = heard.logsumexp(-1)[:, :, :, None] - 1e4 * (1 - member)[:, :, None, :]  # (B, S, T, C)
        prototypes = torch.einsum("bstc,bstd->bctd", weight.softmax(1), answers)
        return -scale * (self.value(asked)[:, None] - prototypes).square().sum(-1).mean(-1)

    def _moments(self, vectors: Tensor) -> Tensor:
        """(B, N, D) unit moments."""
        return functional.normalize(vectors.unflatten(1, (self.n_segments, -1)), dim=-1)
