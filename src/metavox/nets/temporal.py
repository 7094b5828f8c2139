"""A temporal convolution body for transcription: dense convolutions over frames of 40 ms.

Dense convolutions are what a CPU multiplies fastest, so a step of training costs less than with depthwise ones of as
many weights. Each block sees the moment through a convolution and, where asked, the utterance through a squeeze of all
its frames (Hu et al. 2018; ContextNet, Han et al. 2020), which tells it the speaker and the channel; an encoding of a
support set speaks through the same gate, or as a gain and a shift of each channel (Perez et al. 2018, FiLM), which need
no squeeze. Where few corpora are heard, what tells the channel tells the corpus: without the squeeze a network goes
over to unheard languages better.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

_SQUEEZE = 8
"""Channels for each value of a squeezed utterance."""


class ChannelNorm(nn.Module):
    """Root mean square over the channels of a frame (Zhang and Sennrich 2019): no frame looks at another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B C T"]:
        wide = x if x.dtype == torch.float64 else x.float()
        scale = torch.rsqrt(wide.square().mean(1, keepdim=True) + 1e-5)
        return x * scale.to(x.dtype) * self.weight[:, None].to(x.dtype)


class Adapter(nn.Module):
    """A bottleneck around a shortcut (Houlsby et al. 2019) that changes nothing before it has learned something."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.down = nn.Conv1d(channels, rank, 1)
        self.up = nn.Conv1d(rank, channels, 1)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B C T"]:
        return self.up(functional.gelu(self.down(self.norm(x))))


class TemporalBlock(nn.Module):
    """A convolution around a shortcut, normalised first, gated by what the whole utterance holds.

    Args:
        squeeze: let a gate hear the mean of the utterance's frames; else each channel has a gain.
        condition: size of the encoding of a support set that is heard too, 0 for none.
        adapter: rank of the bottleneck behind the block, 0 for none.
        film: hear the encoding as a gain and a shift of what the convolution gives, which an encoding of zeros leaves
            alone; else the gate hears it.
    """

    def __init__(
        self,
        channels: int,
        kernel: int,
        condition: int = 0,
        adapter: int = 0,
        squeeze: bool = True,
        film: bool = False,
    ) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv = nn.Conv1d(channels, channels, kernel, padding=kernel // 2)
        n_squeezed = max(1, channels // _SQUEEZE)
        self.squeeze = nn.Linear(channels, n_squeezed) if squeeze else None
        self.excite = nn.Linear(n_squeezed, channels) if squeeze else None
        self.gain = None if squeeze else nn.Parameter(torch.full((channels,), 0.5))
        self.condition = nn.Linear(condition, 2 * channels if film else n_squeezed, bias=False) if condition else None
        self.film = film
        self.adapter = Adapter(channels, adapter) if adapter else None

    def forward(
        self,
        x: Float[Tensor, "B C T"],
        mask: Float[Tensor, "B T"],
        encoding: Float[Tensor, " E"] | None = None,
        kept: Bool[Tensor, "B C"] | None = None,
    ) -> Float[Tensor, "B C T"]:
        """``kept`` drops whole channels in training; what is left is scaled up."""
        hidden = self.conv(functional.gelu(self.norm(x)))
        if self.film and self.condition is not None and encoding is not None:
            gain, shift = self.condition(encoding).chunk(2)
            hidden = hidden * (1 + gain[:, None]) + shift[:, None]
        gate = self._gate(hidden, mask, encoding)
        if kept is not None:
            gate = gate * kept / kept.to(gate.dtype).mean().clamp_min(1e-3)
        x = x + hidden * gate[:, :, None]
        if self.adapter is not None:
            x = x + self.adapter(x)
        return x * mask[:, None]

    def _gate(
        self, hidden: Float[Tensor, "B C T"], mask: Float[Tensor, "B T"], encoding: Float[Tensor, " E"] | None
    ) -> Float[Tensor, "B C"]:
        if self.squeeze is None or self.excite is None:
            assert self.gain is not None
            return self.gain.to(hidden.dtype).expand(hidden.shape[:2])
        squeezed = self.squeeze((hidden * mask[:, None]).sum(2) / mask.sum(1, keepdim=True))
        if self.condition is not None and encoding is not None and not self.film:
            squeezed = squeezed + self.condition(encoding)
        return torch.sigmoid(self.excite(functional.gelu(squeezed)))
