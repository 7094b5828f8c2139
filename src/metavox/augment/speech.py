"""Changes of whole utterances that leave what was said in them: tempo, then those of ``spectral``, then blanked blocks.

One speed for a batch, so that its utterances keep their lengths relative to each other and it stays one tensor.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..config import AugmentConfig
from ..contracts import FrontEnd
from .spectral import change_features

MIN_FRAMES = 8
"""No utterance is played so fast that it becomes shorter, unless it was."""


def change_speech(
    log_mel: Float[Tensor, "B T F"],
    lengths: Int[Tensor, " B"],
    config: AugmentConfig,
    speed: float,
    front_end: FrontEnd,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "B T2 F"], Int[Tensor, " B"]]:
    """What a batch would be with other speakers, rooms, noise and channels; nothing where ``config`` is off.

    ``speed`` is the largest share that utterances become longer or shorter by. Padding stays zero.
    """
    if not config.enabled:
        return log_mel, lengths
    log_mel = lasting(log_mel, lengths)
    if speed:
        log_mel, lengths = played(log_mel, lengths, 1 + speed * (2 * float(torch.rand((), generator=generator)) - 1))
    log_mel = change_features(log_mel, lengths, config, front_end, generator)
    if config.masks:
        log_mel = blank_blocks(log_mel, lengths, generator, config.masks, config.mask_width)
    return log_mel * _valid(log_mel, lengths), lengths


def played(
    log_mel: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"], stretch: float
) -> tuple[Float[Tensor, "B T2 F"], Int[Tensor, " B"]]:
    """Utterances at another tempo: frames resampled on a line to ``stretch`` times as many.

    Padding has to hold the last frame of each utterance, or is heard in what is interpolated; then what becomes of an
    utterance does not depend on the others.
    """
    n_frames = log_mel.shape[1]
    wanted = (lengths.double() * stretch).long().maximum(lengths.clamp_max(MIN_FRAMES))
    n_played = max(int(n_frames * stretch), min(MIN_FRAMES, n_frames))
    at = ((torch.arange(n_played) + 0.5) / stretch - 0.5).clamp(0, n_frames - 1)
    low = at.long().clamp_max(max(0, n_frames - 2))
    high = (low + 1).clamp_max(n_frames - 1)
    resampled = torch.lerp(log_mel[:, low], log_mel[:, high], (at - low)[None, :, None])
    return resampled, wanted.clamp_max(n_played)


def blank_blocks(
    log_mel: Float[Tensor, "B T F"],
    lengths: Int[Tensor, " B"],
    generator: torch.Generator,
    n_masks: int = 2,
    widest: float = 0.12,
) -> Float[Tensor, "B T F"]:
    """SpecAugment before normalisation (Park et al. 2019): blocks of time and of frequency become the utterance's mean.

    A block of time takes up to ``widest`` of the utterance over ``n_masks``, one of frequency up to ``widest`` of the
    bins. Padding stays as it is.
    """
    n_items, n_frames, n_mels = log_mel.shape
    valid = _valid(log_mel, lengths)
    mean = (log_mel * (valid / lengths[:, None, None])).sum(1, keepdim=True)
    frame, mel = torch.arange(n_frames)[None, :], torch.arange(n_mels)[None, :]
    blank = torch.zeros(log_mel.shape, dtype=torch.bool)
    for _ in range(n_masks):
        for axis, size, place in ((2, lengths, frame), (1, torch.full_like(lengths, n_mels), mel)):
            wide = torch.rand(n_items, generator=generator) * size * (widest / n_masks if axis == 2 else widest)
            start = torch.rand(n_items, generator=generator) * (size - wide)
            inside = (place >= start[:, None]) & (place < (start + wide)[:, None])
            blank |= inside.unsqueeze(axis)
    return torch.where(blank & valid.bool(), mean.expand_as(log_mel), log_mel)


def lasting(log_mel: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T F"]:
    """The last frame of each utterance in the place of its padding: a zero is no silence, and would be heard in what
    is interpolated, and be taken for the loudest of a quiet recording."""
    at = torch.minimum(torch.arange(log_mel.shape[1]), lengths[:, None] - 1)
    return log_mel[torch.arange(len(log_mel))[:, None], at]


def _valid(log_mel: Tensor, lengths: Tensor) -> Tensor:
    frame = torch.arange(log_mel.shape[1], device=log_mel.device)
    return (frame[None, :] < lengths[:, None])[:, :, None].to(log_mel.dtype)
