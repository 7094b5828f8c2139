"""Convolutional bodies: residual temporal convolutions, alone or before a bidirectional recurrent layer.

A body takes normalised windows (B, T, F), whose padding is zero, and their mask (None where nothing is padding). It
gives ``config.dim`` values for every ``2 ** halvings``-th frame; what it gives for padding is not read.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..config import EncoderConfig
from ..contracts import InputError
from .normalization import MaskedGroupNorm, n_groups
from .temporal import Adapter


class ResidualBlock(nn.Module):
    """Two convolutions over time with GroupNorm, around a shortcut.

    Args:
        condition: size of a vector that scales and shifts the channels before the last step (Perez et al. 2018, FiLM),
            0 for none. A vector of zeros changes nothing.
        adapter: rank of a bottleneck behind the block that changes nothing before it has learned something, 0 for none.
    """

    def __init__(
        self, channels_in: int, channels: int, kernel: int, stride: int, condition: int = 0, adapter: int = 0
    ) -> None:
        super().__init__()
        self.stride = stride
        self.first = nn.Conv1d(channels_in, channels, kernel, stride, kernel // 2, bias=False)
        self.first_norm = MaskedGroupNorm(n_groups(channels), channels)
        self.second = nn.Conv1d(channels, channels, kernel, 1, kernel // 2, bias=False)
        self.second_norm = MaskedGroupNorm(n_groups(channels), channels)
        plain = channels_in == channels and stride == 1
        self.shortcut = nn.Identity() if plain else nn.Conv1d(channels_in, channels, 1, stride, bias=False)
        self.film = nn.Linear(condition, 2 * channels, bias=False) if condition else None
        self.adapter = Adapter(channels, adapter) if adapter else None

    def forward(
        self, x: Tensor, mask: Tensor | None, context: Float[Tensor, "*B E"] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        if mask is not None:
            mask = mask[:, :: self.stride]
        hidden = functional.relu(self.first_norm(self.first(x), mask))
        hidden = self.second_norm(self.second(hidden), mask)
        if self.film is not None and context is not None:
            gain, shift = self.film(context)[..., None].chunk(2, -2)
            hidden = (1 + gain) * hidden + shift
        out = functional.relu(hidden + self.shortcut(x))
        if self.adapter is not None:
            out = out + self.adapter(out)
        return (out if mask is None else out * mask[:, None, :]), mask


class ConvBody(nn.Module):
    """A stem and residual blocks over time, the first ``halvings`` of which halve the frame rate.

    After TC-ResNet (Choi et al. 2019): the mel bins are the channels, so every kernel sees the whole spectrum and a
    CPU spends its time in a few wide matrix products.

    Raises:
        InputError: an even kernel, or more halvings than blocks.
    """

    def __init__(self, config: EncoderConfig, n_mels: int) -> None:
        super().__init__()
        require_odd("kernel", config.kernel)
        if config.halvings > config.blocks:
            raise InputError(
                f"encoder.halvings is {config.halvings} and encoder.blocks is {config.blocks}; each halving needs a "
                "block of its own, so raise encoder.blocks or lower encoder.halvings."
            )
        self.halvings, channels = config.halvings, config.channels
        self.stem = nn.Conv1d(n_mels, channels, config.kernel, 1, config.kernel // 2, bias=False)
        self.stem_norm = MaskedGroupNorm(n_groups(channels), channels)
        strides = [2 if i < config.halvings else 1 for i in range(config.blocks)]
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, channels, config.kernel, stride, config.condition, config.adapter)
            for stride in strides
        )
        self.project = nn.Linear(channels, config.dim)

    def hidden(
        self,
        x: Float[Tensor, "B T F"],
        mask: Float[Tensor, "B T"] | None,
        context: Float[Tensor, "*B E"] | None = None,
    ) -> tuple[Float[Tensor, "B T2 C"], Float[Tensor, "B T2"] | None]:
        """What the last block gives, and its mask."""
        x = functional.relu(self.stem_norm(self.stem(x.transpose(1, 2)), mask))
        for block in self.blocks:
            x, mask = block(x, mask, context)
        return x.transpose(1, 2), mask

    def forward(
        self,
        x: Float[Tensor, "B T F"],
        mask: Float[Tensor, "B T"] | None,
        context: Float[Tensor, "*B E"] | None = None,
    ) -> Float[Tensor, "B T2 D"]:
        return self.project(self.hidden(x, mask, context)[0])


class RecurrentBody(ConvBody):
    """The same blocks, and a bidirectional GRU (Cho et al. 2014) that hears the whole window.

    Raises:
        InputError: as ``ConvBody``, or an odd number of channels, half of which look each way.
    """

    def __init__(self, config: EncoderConfig, n_mels: int) -> None:
        super().__init__(config, n_mels)
        if config.channels % 2:
            raise InputError(
                f"encoder.channels is {config.channels}; it must be even for crnn, half for each direction in time."
            )
        self.recurrent = nn.GRU(config.channels, config.channels // 2, batch_first=True, bidirectional=True)

    def forward(
        self,
        x: Float[Tensor, "B T F"],
        mask: Float[Tensor, "B T"] | None,
        context: Float[Tensor, "*B E"] | None = None,
    ) -> Float[Tensor, "B T2 D"]:
        x, mask = self.hidden(x, mask, context)
        # The recurrence of cuDNN has no second derivative, and no first one in eval mode.
        with torch.backends.cudnn.flags(enabled=not torch.is_grad_enabled()):
            if mask is None:
                return self.project(self.recurrent(x)[0])
            packed = pack_padded_sequence(x, mask.sum(1).long().cpu(), batch_first=True, enforce_sorted=False)
            heard, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.project(heard)


def require_odd(field: str, value: int) -> None:
    """Raise InputError for a stretch of frames without a middle."""
    if value % 2 == 0:
        raise InputError(f"encoder.{field} is {value}; it must be odd, so that frames stay in their place.")
