"""The universal representation g(x, theta): features of a window in, embedding frames out.

Encoders without parameters (log-mel as it is, MFCC) stand behind the same protocol, so that untrained baselines are
compared through the same code. Padding is masked after every layer and never changes a result.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..config import EncoderConfig
from ..contracts import FrontEnd, InputError
from ..features import dct_matrix, deltas
from .alignment import frame_mask


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


class ResidualBlock(nn.Module):
    """Two convolutions over time with GroupNorm, around a shortcut."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = nn.Conv1d(channels_in, channels, kernel, stride, kernel // 2, bias=False)
        self.first_norm = MaskedGroupNorm(n_groups(channels), channels)
        self.second = nn.Conv1d(channels, channels, kernel, 1, kernel // 2, bias=False)
        self.second_norm = MaskedGroupNorm(n_groups(channels), channels)
        plain = channels_in == channels and stride == 1
        self.shortcut = nn.Identity() if plain else nn.Conv1d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if mask is not None:
            mask = mask[:, :: self.stride]
        hidden = functional.relu(self.first_norm(self.first(x), mask))
        hidden = self.second_norm(self.second(hidden), mask)
        out = functional.relu(hidden + self.shortcut(x))
        return (out if mask is None else out * mask[:, None, :]), mask


class MfccEncoder(nn.Module):
    """13 cepstral coefficients and their slopes, each normalised over the window: the classical template features.

    Expects a front end that does not normalise, since a mean over the window is removed from the cepstra here.
    """

    n_ceps = 13

    def __init__(self, config: EncoderConfig, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end, self.dim = front_end, 2 * self.n_ceps
        self.register_buffer("dct", torch.tensor(dct_matrix(front_end.n_mels, self.n_ceps)), persistent=False)

    def forward(self, inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T D"]:
        cepstra = inputs @ self.dct.to(inputs.dtype)  # type: ignore[operator]
        mask = frame_mask(lengths, inputs.shape[1])[:, :, None].to(inputs.dtype)
        both = torch.cat([cepstra, deltas(cepstra, lengths)], -1) * mask
        mean = both.sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        variance = ((both - mean).square() * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        return (both - mean) * torch.rsqrt(variance + 1e-4) * mask

    def out_lengths(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths


class ConvEncoder(nn.Module):
    """Residual temporal convolutions with GroupNorm, beside cepstra. (B, T, F) -> (B, T', D)

    After TC-ResNet (Choi et al. 2019): the mel bins are the channels, so every kernel sees the whole spectrum and a
    CPU spends its time in a few wide matrix products. An output frame is the learned part and, weighted, the
    normalised cepstra of the same moment, each of unit length: what is learned on few languages corrects a measure
    that works for all of them, instead of replacing it.

    Expects a front end that does not normalise.
    """

    def __init__(self, config: EncoderConfig, front_end: FrontEnd) -> None:
        super().__init__()
        if config.kernel % 2 == 0:
            raise InputError(f"encoder.kernel is {config.kernel}; it must be odd, so that frames stay in their place.")
        self.front_end, self.normalize, self.weight = front_end, config.normalize, config.cepstra
        channels = config.channels
        self.stem = nn.Conv1d(front_end.n_mels, channels, config.kernel, 1, config.kernel // 2, bias=False)
        self.stem_norm = MaskedGroupNorm(n_groups(channels), channels)
        strides = [2 if i < config.halvings else 1 for i in range(config.blocks)]
        self.blocks = nn.ModuleList(ResidualBlock(channels, channels, config.kernel, stride) for stride in strides)
        self.project = nn.Linear(channels, config.dim)
        self.cepstra = MfccEncoder(config, front_end) if config.cepstra else None
        self.dim = config.dim + (self.cepstra.dim if self.cepstra else 0)

    def forward(self, inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T2 D"]:
        full = bool((lengths == inputs.shape[1]).all())
        mask = None if full else frame_mask(lengths, inputs.shape[1]).to(inputs.dtype)
        x = normalized(inputs, mask, self.normalize).transpose(1, 2)
        x = functional.relu(self.stem_norm(self.stem(x), mask))
        for block in self.blocks:
            x, mask = block(x, mask)
        frames = functional.normalize(self.project(x.transpose(1, 2)), dim=-1)
        if self.cepstra is not None:
            known = self.cepstra(inputs, lengths)
            for block in self.blocks:
                if block.stride == 2:
                    known, lengths = halved(known, lengths)
            # Usual lengths are about 5; a moment where all cepstra cancel must not become a direction made of rounding.
            known = functional.normalize(known, dim=-1, eps=0.1)
            frames = torch.cat([frames, self.weight * known], -1)
        return frames if mask is None else frames * mask[:, :, None]

    def out_lengths(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        for block in self.blocks:
            stride = int(block.stride)  # type: ignore[arg-type]
            lengths = (lengths + stride - 1) // stride
        return lengths


def normalized(inputs: Float[Tensor, "B T F"], mask: Float[Tensor, "B T"] | None, how: str) -> Float[Tensor, "B T F"]:
    """Windows of mean 0 and deviation 1 over valid frames, as ``EncoderConfig.normalize`` says."""
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


def halved(
    frames: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"]
) -> tuple[Float[Tensor, "B T2 D"], Int[Tensor, " B"]]:
    """Means of two neighbouring frames; the last of an odd number stands alone. Padding must be zero."""
    padded = functional.pad(frames, (0, 0, 0, frames.shape[1] % 2))
    pairs = padded.reshape(frames.shape[0], -1, 2, frames.shape[2]).sum(2)
    lengths_out = (lengths + 1) // 2
    alone = (torch.arange(pairs.shape[1], device=frames.device) * 2 + 1 == lengths[:, None])[:, :, None]
    return torch.where(alone, pairs, pairs / 2), lengths_out


class LogMelEncoder(nn.Module):
    """The window as it is: what distances look like before anything is learned."""

    def __init__(self, config: EncoderConfig, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end, self.dim = front_end, front_end.n_mels

    def forward(self, inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T F"]:
        return inputs

    def out_lengths(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths


ENCODERS = {"conv": ConvEncoder, "logmel": LogMelEncoder, "mfcc": MfccEncoder}
