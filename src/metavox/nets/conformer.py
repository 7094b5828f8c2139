"""A small conformer (Gulati et al. 2020): attention for the whole window, convolution for its detail.

Two things differ from the paper. Positions are rotary (Su et al. 2021), which are relative as well and cost no
parameters. The convolution module is normalised frame by frame and not over a batch, which would make a prediction
depend on which other clips are scored with it. Attention is written out, since fused attention has no second
derivative. What a body is given and gives is said in ``nets.convolutional``.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..config import EncoderConfig
from ..contracts import InputError
from .convolutional import require_odd

_EXPANSION = 4
"""Hidden units of a feed-forward module for each channel, as in the paper."""


class ConformerBody(nn.Module):
    """Strided convolutions down to the output's frame rate, ``blocks`` conformer blocks and a linear map.

    Raises:
        InputError: an even kernel, or channels that the heads cannot share in pairs.
    """

    def __init__(self, config: EncoderConfig, n_mels: int) -> None:
        super().__init__()
        require_odd("kernel", config.kernel)
        if config.channels % (2 * config.heads):
            raise InputError(
                f"encoder.channels is {config.channels} and encoder.heads is {config.heads}; each head needs the same "
                f"even number of channels, so make encoder.channels a multiple of {2 * config.heads}."
            )
        self.halvings, channels = config.halvings, config.channels
        strides = [2] * config.halvings or [1]
        widths = [n_mels, *[channels] * len(strides)]
        self.subsample = nn.ModuleList(
            nn.Conv1d(widths[i], channels, config.kernel, stride, config.kernel // 2)
            for i, stride in enumerate(strides)
        )
        self.blocks = nn.ModuleList(ConformerBlock(channels, config.heads, config.kernel) for _ in range(config.blocks))
        self.project = nn.Linear(channels, config.dim)

    def forward(self, x: Float[Tensor, "B T F"], mask: Float[Tensor, "B T"] | None) -> Float[Tensor, "B T2 D"]:
        x = x.transpose(1, 2)
        for layer in self.subsample:
            x = functional.silu(layer(x))
            if mask is not None:
                mask = mask[:, :: layer.stride[0]]  # type: ignore[index]
                x = x * mask[:, None, :]
        x = x.transpose(1, 2)
        for block in self.blocks:
            x = block(x, mask)
        return self.project(x)


class ConformerBlock(nn.Module):
    """Half a feed-forward step, self-attention, convolution, half a feed-forward step (section 2.4)."""

    def __init__(self, channels: int, n_heads: int, kernel: int) -> None:
        super().__init__()
        self.first = _feed_forward(channels)
        self.attention = SelfAttention(channels, n_heads)
        self.convolution = ConvolutionModule(channels, kernel)
        self.second = _feed_forward(channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Float[Tensor, "B T C"], mask: Float[Tensor, "B T"] | None) -> Float[Tensor, "B T C"]:
        x = x + self.first(x) / 2
        x = x + self.attention(x, mask)
        x = x + self.convolution(x, mask)
        return self.norm(x + self.second(x) / 2)


class SelfAttention(nn.Module):
    """Multi-head self-attention over valid frames with rotary positions, LayerNorm first (section 2.1)."""

    def __init__(self, channels: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(channels)
        self.to_all = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "B T C"], mask: Float[Tensor, "B T"] | None) -> Float[Tensor, "B T C"]:
        heads = self.to_all(self.norm(x)).unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, H, T, d)
        query, key, value = rotated(heads[0]), rotated(heads[1]), heads[2]
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(mask[:, None, None, :] == 0, -torch.inf)
        return self.out((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class ConvolutionModule(nn.Module):
    """Gated pointwise, depthwise and pointwise convolution, LayerNorm first (section 2.2)."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.gated = nn.Linear(channels, 2 * channels)
        self.depthwise = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
        self.depthwise_norm = nn.LayerNorm(channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "B T C"], mask: Float[Tensor, "B T"] | None) -> Float[Tensor, "B T C"]:
        x = functional.glu(self.gated(self.norm(x)), dim=-1)
        if mask is not None:  # the only layer here that looks at neighbours
            x = x * mask[:, :, None]
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.out(functional.silu(self.depthwise_norm(x)))


def rotated(x: Float[Tensor, "*B T d"]) -> Float[Tensor, "*B T d"]:
    """Each pair of values turned by an angle that grows with time, so that products tell the distance in time.

    Su et al. 2021, eq. 15, with value i paired with value i + d/2.
    """
    half = x.shape[-1] // 2
    speed = 10_000 ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
    angle = torch.arange(x.shape[-2], device=x.device, dtype=x.dtype)[:, None] * speed
    first, second = x[..., :half], x[..., half:]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _feed_forward(channels: int) -> nn.Sequential:
    hidden = _EXPANSION * channels
    return nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, channels))
