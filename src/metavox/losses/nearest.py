"""Class scores in which near takes count most.

A word that several people say is no one place: its takes lie in as many as there are ways to say it, and a query is
near some of them. Here a class is as similar as the logarithm of a mean of exponentials says, and not as the plain mean
(``losses.classes``). As ``nearness`` goes to 0 it is the plain mean, as it grows the nearest take alone.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .classes import membership, off_diagonal, shrunk


def nearest_within(
    similarity: Float[Tensor, "B B"], labels: Int[Tensor, " B"], n_classes: int, nearness: float
) -> Float[Tensor, " C"]:
    """``within_class`` where near takes count most: how similar a class is to its own takes, each left out, halved."""
    member = membership(labels, n_classes, torch.float64)
    lifted = _lifted(similarity, nearness) * (member @ member.T)
    counts = member.sum(0)
    others = (member @ counts - 1).clamp_min(0)
    own = _mean_of(lifted.sum(1), others, nearness)
    return shrunk((own * others) @ member, counts).to(similarity.dtype)


def nearest_scores(
    similarity: Float[Tensor, "B S"], labels: Int[Tensor, " S"], within: Float[Tensor, " C"], nearness: float
) -> Float[Tensor, "B C"]:
    """``prototype_scores`` where near takes count most; ``within`` is that of ``nearest_within``."""
    member = membership(labels, within.shape[0], torch.float64)
    lifted = (nearness * similarity.double()).exp() @ member
    return _mean_of(lifted, member.sum(0), nearness).to(similarity.dtype) - within


def leave_one_out_nearest(
    similarity: Float[Tensor, "B B"], labels: Int[Tensor, " B"], n_classes: int, nearness: float
) -> Float[Tensor, "B C"]:
    """``leave_one_out_scores`` where near takes count most: ``nearest_scores`` of each item on the others."""
    member = membership(labels, n_classes, torch.float64)
    lifted = _lifted(similarity, nearness)
    counts = member.sum(0) - member  # (B, C) takes left where the item of the row is not there
    scores = _mean_of(lifted @ member, counts, nearness)

    together = member @ member.T
    rest = (member @ member.sum(0) - 1).clamp_min(0)  # (B,) takes of its class besides itself
    alone = lifted * together
    kept = _mean_of(alone.sum(1), rest, nearness) * rest  # (B,) with all others there
    # (B, B) of take j where item i is gone: what i added is taken off again.
    without = (alone.sum(1)[None] - alone.T).clamp_min(0)
    fewer = (rest[None] - together).clamp_min(0)
    gone = _mean_of(without, fewer, nearness) * fewer
    others = torch.where(together > 0, gone, kept[None])
    others = others - torch.diag(torch.diagonal(others))  # the item itself is no take
    # A class that the item is not of has all its takes, itself left out of nothing.
    pair_sums = torch.where(member > 0, others @ member, (kept @ member)[None])
    return (scores - shrunk(pair_sums, counts)).masked_fill(counts == 0, -torch.inf).to(similarity.dtype)


def _lifted(similarity: Tensor, nearness: float) -> Tensor:
    """Exponentials with zeros on the diagonal, whatever stands there."""
    return off_diagonal((nearness * off_diagonal(similarity.double())).exp())


def _mean_of(lifted: Tensor, counts: Tensor, nearness: float) -> Tensor:
    """Back from sums of exponentials; 0 where nothing was summed."""
    return (lifted / counts.clamp_min(1)).clamp_min(1e-300).log() / nearness * (counts > 0)
