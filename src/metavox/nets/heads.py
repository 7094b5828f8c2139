"""Pooling over time, and class heads that are built from the support set."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..losses import membership
from .alignment import frame_mask


def pool(frames: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B D2"]:
    """Mean and maximum over the valid frames, side by side: (B, 2 D)."""
    mask = frame_mask(lengths, frames.shape[1])[:, :, None].to(frames.dtype)
    mean = (frames * mask).sum(1) / mask.sum(1)
    highest = frames.masked_fill(mask == 0, -torch.inf).amax(1)
    return torch.cat([mean, highest], -1)


def prototype_head(
    vectors: Float[Tensor, "B D"], labels: Int[Tensor, " B"], n_classes: int
) -> tuple[Float[Tensor, "C D"], Float[Tensor, " C"]]:
    """Weight and bias of the linear layer whose scores are minus the squared distance to each class mean.

    Proto-MAML (Triantafillou et al. 2020, section 3.2): ``W = 2 mu``, ``b = -|mu|^2``. Any number of takes a class,
    any number of classes, and relabelling permutes the rows.
    """
    member = membership(labels, n_classes, vectors.dtype)
    means = member.T @ vectors / member.sum(0).clamp_min(1)[:, None]
    return 2 * means, -means.square().sum(-1)
