"""Pooling over time, and class heads that are built from the support set."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..losses import membership
from .alignment import frame_mask


def segment_means(frames: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"], n_segments: int) -> Float[Tensor, "B ND"]:
    """Means over ``n_segments`` equal stretches of the valid frames, side by side: a vector that keeps order in time.

    A frame on a border counts for each side by the part that lies there, so any length fills every segment.
    """
    at = torch.arange(frames.shape[1], device=frames.device)[None, None, :]
    edges = torch.arange(n_segments + 1, device=frames.device)[None, :] * (lengths[:, None] / n_segments)
    start, end = edges[:, :-1, None], edges[:, 1:, None]
    overlap = (torch.minimum(end, at + 1) - torch.maximum(start, at)).clamp_min(0)
    weights = overlap / overlap.sum(-1, keepdim=True)
    valid = frames * frame_mask(lengths, frames.shape[1])[:, :, None].to(frames.dtype)
    return (weights.to(frames.dtype) @ valid).flatten(1)


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
