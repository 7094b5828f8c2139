"""Other looks at the same window: the word as longer and shorter vocal tracts would have said it, and cut closer."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..contracts import Batch
from ..features import DB

MIN_FRAMES = 8
"""Of a window that is cut closer."""


def stretched(log_mel: Float[Tensor, "B T F"], factor: float) -> Float[Tensor, "B T F"]:
    """The mel axis read at ``factor`` times its places: a tract that much longer (above 1) or shorter.

    Beyond the last bin its value goes on. Vocal tract length normalisation (Lee and Rose 1996) with a line for a warp.
    """
    n_mels = log_mel.shape[2]
    at = (torch.arange(n_mels, device=log_mel.device) * factor).clamp_max(n_mels - 1)
    low = at.floor().long().clamp_max(n_mels - 2)
    return torch.lerp(log_mel[:, :, low], log_mel[:, :, low + 1], (at - low).to(log_mel.dtype))


def tightened(batch: Batch, below_db: float) -> Batch:
    """Each window from its first to its last frame within ``below_db`` of its loudest, stretched to the same length.

    Where a word begins and ends depends on how quiet the room is, so that takes of one word are cut now here and now
    there. Expects log power; loudness is that of all bins, a mean over three frames. At least eight frames are left.
    """
    inputs, lengths = batch.inputs, batch.lengths
    n_frames = inputs.shape[1]
    frame = torch.arange(n_frames, device=inputs.device)
    valid = frame < lengths[:, None]
    level_db = (inputs.logsumexp(2) / DB).masked_fill(~valid, -torch.inf)
    padded = functional.pad(level_db, (1, 1), value=-torch.inf)
    around = torch.stack([padded[:, :-2], level_db, padded[:, 2:]])
    there = around.isfinite()
    level_db = (torch.where(there, around, 0.0).sum(0) / there.sum(0).clamp_min(1)).masked_fill(~valid, -torch.inf)
    loud = level_db > level_db.amax(1, keepdim=True) - below_db
    start = loud.int().argmax(1)
    end = n_frames - loud.flip(1).int().argmax(1)
    kept = torch.minimum((end - start).clamp_min(MIN_FRAMES), lengths)
    start = torch.minimum(start, lengths - kept)
    place = start[:, None] + frame * ((kept - 1) / (lengths - 1).clamp_min(1))[:, None]
    place = torch.minimum(place, (start + kept - 1)[:, None].to(place.dtype))  # padding repeats the last frame
    before = place.floor().long()
    rows = torch.arange(len(inputs), device=inputs.device)[:, None]
    after = torch.minimum(before + 1, (lengths - 1)[:, None])
    return replace(batch, inputs=torch.lerp(inputs[rows, before], inputs[rows, after], (place - before)[:, :, None]))


def looks(batch: Batch, factors: Sequence[float] = (), below_db: float = 0.0) -> list[Batch]:
    """The batch as it is, once for each vocal tract, and cut closer where ``below_db`` is not 0."""
    return [*tracts(batch, factors), *([tightened(batch, below_db)] if below_db else [])]


def tracts(batch: Batch, factors: Sequence[float]) -> list[Batch]:
    """The batch as it is, then once for each factor."""
    return [batch, *(replace(batch, inputs=stretched(batch.inputs, factor)) for factor in factors)]
