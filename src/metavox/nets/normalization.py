"""Normalisation that never reads padding: of a window before the first layer, and of channels between layers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class MaskedGroupNorm(nn.Module):
    """GroupNorm over the valid frames only: statistics of one item, never of its padding or its batch.

    Wu and He 2018. Statistics over a batch would make a prediction depend on which other clips are scored with it.
    """

    def __init__(self, n_groups: int, channels: int) -> None:
        super().__init__()
        self.n_groups = n_groups
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "B D T"], mask: Float[Tensor, "B T"] | None) -> Float[Tensor, "B D T"]:
        if mask is None:
            return functional.group_norm(x, self.n_groups, self.weight, self.bias)
        n_items, channels, n_frames = x.shape
        grouped = x.reshape(n_items, self.n_groups, channels // self.n_groups, n_frames)
        valid = mask[:, None, None, :].to(x.dtype)
        count = valid.sum((2, 3), keepdim=True) * grouped.shape[2]
        mean = (grouped * valid).sum((2, 3), keepdim=True) / count
        variance = ((grouped - mean).square() * valid).sum((2, 3), keepdim=True) / count
        normal = ((grouped - mean) * torch.rsqrt(variance + 1e-5)).reshape(x.shape)
        return (normal * self.weight[:, None] + self.bias[:, None]) * mask[:, None, :].to(x.dtype)


def n_groups(channels: int) -> int:
    """Eight groups where they fit, else one."""
    return 8 if channels % 8 == 0 else 1


def normalized(inputs: Float[Tensor, "B T F"], mask: Float[Tensor, "B T"] | None, how: str) -> Float[Tensor, "B T F"]:
    """Windows of mean 0 and deviation 1 over valid frames, as ``EncoderConfig.normalize`` says; padding becomes 0."""
    weight = torch.ones_like(inputs[:, :, :1]) if mask is None else mask[:, :, None]
    count = weight.sum(1, keepdim=True)
    mean = (inputs * weight).sum(1, keepdim=True) / count
    if how == "level":
        mean = mean.mean(2, keepdim=True)
    centred = (inputs - mean) * weight
    variance = centred.square().sum(1, keepdim=True) / count
    if how != "bins":
        variance = variance.mean(2, keepdim=True)
    return centred * torch.rsqrt(variance + 1e-2)
