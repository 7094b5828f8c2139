"""A temporal convolution body for transcription: dense convolutions at 25 frames a second.

Dense convolutions are what a CPU multiplies fastest, so a step of training costs less than with depthwise ones of as
many weights. Each block sees the moment through a convolution and the utterance through a squeeze of all its frames
(Hu et al. 2018; ContextNet, Han et al. 2020), which tells it the speaker and the channel. What a body is given and
gives is said in ``nets.convolutional``.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .convolutional import require_odd


class ChannelNorm(nn.Module):
    """Root mean square over the channels of a frame (Zhang and Sennrich 2019): no frame looks at another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B C T"]:
        scale = torch.rsqrt(x.float().square().mean(1, keepdim=True) + 1e-5)
        return x * scale.to(x.dtype) * self.weight[:, None].to(x.dtype)


class TemporalBlock(nn.Module):
    """A convolution around a shortcut, normalised first, gated by what the whole utterance holds."""

    def __init__(self, channels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv = nn.Conv1d(channels, channels, kernel, padding=kernel // 2)
        self.squeeze = nn.Linear(channels, channels // 8)
        self.excite = nn.Linear(channels // 8, channels)
        self.dropout = dropout

    def forward(
        self, x: Float[Tensor, "B C T"], mask: Float[Tensor, "B T"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B C T"]:
        hidden = self.conv(functional.gelu(self.norm(x)))
        mean = (hidden * mask[:, None]).sum(2) / mask.sum(1, keepdim=True)
        gate = torch.sigmoid(self.excite(functional.gelu(self.squeeze(mean))))
        hidden = hidden * gate[:, :, None]
        if self.training and self.dropout:
            kept = torch.rand(hidden.shape[:2], generator=generator) >= self.dropout
            hidden = hidden * (kept.to(hidden.dtype) / (1 - self.dropout))[:, :, None]
        return (x + hidden) * mask[:, None]
