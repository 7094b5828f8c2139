"""The part of a clip that is speech: what an encoder of voices hears, and how good it is.

A pause tells of the room and not of the voice, and data sets pad with zeros: frames that hold no speech are taken out
of the samples before anything else is computed, in training and in use alike.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..audio import trim_padding
from ..contracts import FrontEnd
from ..features import log_mel

BELOW_PEAK_DB, LEAST_BELOW_PEAK_DB = 35.0, 18.0
"""Speech is not more than the first below the peak, whatever the noise, and what is not more than the second is."""
ABOVE_FLOOR_DB = 8.0
SMOOTHED_FRAMES = 3
KEPT_AROUND_FRAMES = 4
"""Of what surrounds a frame of speech on either side: consonants are soft."""
DB = float(np.log(10) / 10)
MAX_SNR_DB = 60.0

_HOP, _N_MELS = 160, 40


@dataclass(frozen=True, slots=True)
class Spoken:
    """The speech of a clip."""

    wave: Float[np.ndarray, " S"]
    """Its samples, one after the other without the pauses."""
    speech_s: float
    snr_db: float
    """Level of speech above that of the pauses, at most 60; where there are none, how far its level moves."""


def spoken(wave: Float[np.ndarray, " S"], rate_hz: int = 16_000) -> Spoken:
    """``wave`` (S,) in [-1, 1] without its pauses, by energy.

    A frame of 25 ms holds speech where its level, smoothed over 50 ms, is within 35 dB of the peak (the loudest
    twentieth) and 8 dB above the floor (the lowest tenth), or within 18 dB of the peak; 40 ms on either side are kept
    with it. Silence, or less than a few frames, comes back as it is.
    """
    wave = trim_padding(wave)
    front_end = FrontEnd(rate_hz=rate_hz, n_mels=_N_MELS, high_hz=min(7600.0, 0.475 * rate_hz))
    hop = front_end.hop_samples
    frames = log_mel(wave, front_end)
    if len(frames) < 2 * KEPT_AROUND_FRAMES:
        return Spoken(wave, len(wave) / rate_hz, MAX_SNR_DB)
    level = np.log(np.exp(frames, dtype=np.float64).sum(axis=1)) / DB
    level = np.convolve(
        np.pad(level, SMOOTHED_FRAMES // 2, mode="edge"), np.ones(SMOOTHED_FRAMES) / SMOOTHED_FRAMES, "valid"
    )
    peak, floor = np.percentile(level, 95), np.percentile(level, 10)
    threshold = max(peak - BELOW_PEAK_DB, min(floor + ABOVE_FLOOR_DB, peak - LEAST_BELOW_PEAK_DB))
    loud = level > threshold
    kept = np.convolve(loud, np.ones(2 * KEPT_AROUND_FRAMES + 1), "same") > 0.5
    mask = np.zeros(len(wave), bool)
    first = (front_end.window_samples - hop) // 2
    inside = np.repeat(kept, hop)[: len(wave) - first]
    mask[first : first + len(inside)] = inside
    mask[:first] = kept[0]
    mask[first + len(inside) :] = kept[-1]
    return Spoken(wave[mask], float(mask.sum()) / rate_hz, _snr_db(level, loud))


def _snr_db(level: Float[np.ndarray, " T"], loud: np.ndarray) -> float:
    """Mean level of speech above the median of the rest; where noise hides the pauses, above its softest frames."""
    quiet = level[~loud]
    below = np.median(quiet) if len(quiet) >= SMOOTHED_FRAMES else np.percentile(level, 5)
    return float(np.clip((level[loud] if loud.any() else level).mean() - below, 0.0, MAX_SNR_DB))
