"""Other looks at the same window: the word as longer and shorter vocal tracts would have said it."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..contracts import Batch


def stretched(log_mel: Float[Tensor, "B T F"], factor: float) -> Float[Tensor, "B T F"]:
    """The mel axis read at ``factor`` times its places: a tract that much longer (above 1) or shorter.

    Beyond the last bin its value goes on. Vocal tract length normalisation (Lee and Rose 1996) with a line for a warp.
    """
    n_mels = log_mel.shape[2]
    at = (torch.arange(n_mels, device=log_mel.device) * factor).clamp_max(n_mels - 1)
    low = at.floor().long().clamp_max(n_mels - 2)
    return torch.lerp(log_mel[:, :, low], log_mel[:, :, low + 1], (at - low).to(log_mel.dtype))


def tracts(batch: Batch, factors: Sequence[float]) -> list[Batch]:
    """The batch as it is, then once for each factor."""
    return [batch, *(replace(batch, inputs=stretched(batch.inputs, factor)) for factor in factors)]
