"""Where speech is in a clip that has noise all through it, and what is left of it without the noise.

``features.speech_bounds`` keeps the whole of a noisy clip, and of one a little noisy crops more than of a quiet one: a
word is then spread over other frames than its takes were. That costs more than the noise itself
(docs/decisions/0011).
"""

import numpy as np
from jaxtyping import Float

from ..contracts import FrontEnd, InputError, Place
from ..features import DB, SPEECH_BELOW_PEAK_DB, click_frames, stretch_above

SMOOTHED_MS = 50.0
"""Levels are means over this time."""
SHARE = 0.3
"""Speech begins this share of the way (in dB) from the floor to the peak."""
ABOVE_FLOOR_DB, BELOW_PEAK_DB = 2.0, 3.0
"""It begins so much above the floor, where no place is known, and so much below the peak, at least."""
LOUDER_DB = 3.0
"""A place is at most this much louder than it was when its noise was recorded."""
GAP = 1e-3
"""Frames of less than this share of the median power are gaps in a recording, such as digital silence."""
LOW, HIGH = 0.1, 0.99
MIN_FRAMES = 25
LEAST_GAIN = 0.1
"""What is as loud as the noise is lowered to this share of its power."""
GAIN_SMOOTHED_MS = 30.0

Frames = Float[np.ndarray, "T F"]


def place_in(log_mel: Frames, front_end: FrontEnd, duration_s: float) -> Place:
    """What frames of noise come to.

    Raises:
        InputError: too few frames that are not gaps.
    """
    frames = np.exp(log_mel.astype(np.float64))
    energy = frames.sum(axis=1)
    frames = frames[energy > GAP * np.median(energy)]
    if len(frames) < MIN_FRAMES:
        raise InputError(
            f"The noise of the place lasts {len(frames) * front_end.hop_ms / 1000:.2g} s without its gaps; record some "
            "seconds of it."
        )
    power = frames.mean(axis=0)
    low, high = np.quantile(_level_db(frames, power, front_end), [LOW, HIGH])
    return Place(tuple((10 * np.log10(power)).tolist()), float(low), float(high), duration_s)


def speech_bounds_in(log_mel: Frames, front_end: FrontEnd, place: Place | None = None) -> tuple[int, int]:
    """First frame of the stretch that holds speech in noise, and the frame after its last.

    Each bin counts by how far it is above the noise, so that noise of low frequencies hides no consonant. The threshold
    lies a share of the way from floor to peak and, where the place is known, above what hardly any frame of its noise
    reaches. Where it is not, the quietest tenth of the frames stands for its noise. Gaps, clicks and margins are those
    of ``features.speech_bounds``.
    """
    n_click = click_frames(front_end)
    if len(log_mel) <= n_click:
        return 0, len(log_mel)
    frames = np.exp(log_mel.astype(np.float64))
    level = _level_db(frames, _noise(frames, front_end, place), front_end)
    peak = float(np.lib.stride_tricks.sliding_window_view(level, n_click).min(axis=1).max())
    if place is None:
        floor = float(np.quantile(level, LOW))
        threshold = floor + max(SHARE * (peak - floor), ABOVE_FLOOR_DB)
    else:
        louder = _louder_db(level, place)
        floor = place.low_db + louder
        threshold = max(floor + SHARE * (peak - floor), place.high_db + louder)
    threshold = max(min(threshold, peak - BELOW_PEAK_DB), peak - SPEECH_BELOW_PEAK_DB[1])
    return stretch_above(level - threshold, front_end)


def speech_in(log_mel: Frames, front_end: FrontEnd, place: Place | None = None) -> Float[np.ndarray, "T2 F"]:
    """The frames that ``speech_bounds_in`` finds, with the power of the noise taken from them (``without_noise``)."""
    start, end = speech_bounds_in(log_mel, front_end, place) if front_end.crop else (0, len(log_mel))
    return without_noise(log_mel, front_end, place)[start:end]


def without_noise(log_mel: Frames, front_end: FrontEnd, place: Place | None = None) -> Frames:
    """Spectral subtraction (Boll 1979): the mean power of the noise taken from that of each frame and bin.

    The gain comes of power that is smoothed over three frames, and is never below ``LEAST_GAIN``.
    """
    frames = np.exp(log_mel.astype(np.float64))
    noise = _noise(frames, front_end, place)
    if place is not None:
        noise = noise * 10 ** (_louder_db(_level_db(frames, noise, front_end), place) / 10)
    nearby = np.maximum(_smoothed(frames, front_end, GAIN_SMOOTHED_MS), np.finfo(np.float32).tiny)
    gain = np.maximum(1 - noise / nearby, LEAST_GAIN)
    return (log_mel + np.log(gain)).astype(np.float32)


def _noise(frames: Frames, front_end: FrontEnd, place: Place | None) -> Float[np.ndarray, " F"]:
    """Mean power of each bin: the place's, or that of the quietest tenth of the clip itself."""
    if place is not None:
        return 10 ** (np.asarray(place.power_db) / 10)
    energy = _smoothed(frames.sum(axis=1), front_end)
    return frames[np.argsort(energy, kind="stable")[: max(5, len(energy) // 10)]].mean(axis=0)


def _louder_db(level_db: Float[np.ndarray, " T"], place: Place) -> float:
    """How much louder than its recording the place is, by the lowest tenth of a clip; a place may have gone quiet."""
    return min(float(np.quantile(level_db, LOW)) - place.low_db, LOUDER_DB)


def _level_db(frames: Frames, noise: Float[np.ndarray, " F"], front_end: FrontEnd) -> Float[np.ndarray, " T"]:
    """Smoothed mean over bins of the power relative to the noise."""
    return np.log(_smoothed((frames / noise).mean(axis=1), front_end) + 1e-6) / DB


def _smoothed(
    x: Float[np.ndarray, "T *F"], front_end: FrontEnd, over_ms: float = SMOOTHED_MS
) -> Float[np.ndarray, "T *F"]:
    """Means over an odd number of frames around each; beyond its ends a clip stays as it is there."""
    half = round(over_ms / front_end.hop_ms) // 2
    padded = np.pad(x, [(half, half)] + [(0, 0)] * (x.ndim - 1), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0).mean(axis=-1)
