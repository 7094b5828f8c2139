"""Encoders without parameters, the window as it is and cepstra: distances before anything is learned."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..config import EncoderConfig
from ..contracts import FrontEnd
from ..features import dct_matrix, deltas
from .alignment import frame_mask


class LogMelEncoder(nn.Module):
    """The window as it is. (B, T, F) -> (B, T, F)"""

    def __init__(self, config: EncoderConfig, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end, self.dim = front_end, front_end.n_mels

    def forward(self, inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T F"]:
        return inputs

    def out_lengths(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths


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


def halved(
    frames: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"]
) -> tuple[Float[Tensor, "B T2 D"], Int[Tensor, " B"]]:
    """Means of two neighbouring frames; the last of an odd number stands alone. Padding must be zero."""
    padded = functional.pad(frames, (0, 0, 0, frames.shape[1] % 2))
    pairs = padded.reshape(frames.shape[0], -1, 2, frames.shape[2]).sum(2)
    lengths_out = (lengths + 1) // 2
    alone = (torch.arange(pairs.shape[1], device=frames.device) * 2 + 1 == lengths[:, None])[:, :, None]
    return torch.where(alone, pairs, pairs / 2), lengths_out
