"""Samples to the window that an encoder scores. The only place where seconds become frames.

Two stages. The spectral stage (``log_mel``) looks at the samples and nothing else, so its result is kept. The window
stage (``window``) crops, lifts, normalises and resamples what an item is drawn as, in training and on a device alike.
Log values are natural logarithms of power: 1 dB = ln(10) / 10.
"""

from collections.abc import Callable
from functools import lru_cache
from math import ceil, log, pi
from typing import Literal, overload

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .audio import trim_padding
from .contracts import FrontEnd, InputError

DB = log(10) / 10
"""One decibel in units of log power."""
LOG_FLOOR = float(np.finfo(np.float32).eps)
"""Power below this (samples in the 16-bit range) is lifted to it before the logarithm, as in Kaldi."""
PREEMPHASIS = 0.97
VARIANCE_FLOOR = 1e-2
"""Added to the variance of a bin before the square root: (0.43 dB)^2. A bin that stays at the floor gives zeros."""

# ---------------------------------------------------------------------------------------------------------- spectrum


def n_frames(n_samples: int, front_end: FrontEnd) -> int:
    """Frames whose window fits in ``n_samples``; 0 where not even one does."""
    return max(0, 1 + (n_samples - front_end.window_samples) // front_end.hop_samples)


def frames_to_s(n: int, front_end: FrontEnd) -> float:
    """Seconds from the start of a clip to the start of frame ``n``; equally the length of ``n`` hops."""
    return n * front_end.hop_samples / front_end.rate_hz


def log_mel(
    wave: Float[np.ndarray, " S"], front_end: FrontEnd, taper: Literal["povey", "hamming"] = "povey"
) -> Float[np.ndarray, "T F"]:
    """Log mel power spectrum (T, F) float32 of samples in [-1, 1] at the rate of ``front_end``.

    That of Kaldi: samples in the 16-bit range, each frame without its mean, pre-emphasis 0.97, Povey window, FFT of the
    next power of two, triangles on the mel scale 1127 ln(1 + f / 700), natural logarithm; ``snip_edges``, no dither.
    Some who train with Kaldi's features choose the Hamming window; ``taper`` is for models of theirs.
    Within 1e-3 of kaldi-native-fbank in every bin down to 70 dB below the loudest of its frame; below that the rounding
    of float32 shows in both. Fewer samples than a window give no frames.

    Raises:
        InputError: ``high_hz`` beyond half the rate, or so many bins that some would hold no FFT line.
    """
    hop, size = front_end.hop_samples, front_end.window_samples
    n_fft = 1 << (size - 1).bit_length()
    weights = _WINDOWS[taper](size)
    filters = _mel_filters(front_end.n_mels, n_fft, front_end.rate_hz, front_end.low_hz, front_end.high_hz)
    count = n_frames(len(wave), front_end)
    if count == 0:
        return np.zeros((0, front_end.n_mels), np.float32)
    scaled = wave.astype(np.float32) * np.float32(32768)
    frames = np.lib.stride_tricks.sliding_window_view(scaled, size)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    emphasised = frames * np.float32(1 - PREEMPHASIS)  # right for the first sample, whose neighbour is itself
    emphasised[:, 1:] = frames[:, 1:] - np.float32(PREEMPHASIS) * frames[:, :-1]
    emphasised *= weights
    spectrum = np.fft.rfft(emphasised, n_fft)[:, : n_fft // 2]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.log(np.maximum(power.astype(np.float32) @ filters, LOG_FLOOR))


@lru_cache(maxsize=32)
def _povey_window(size: int) -> np.ndarray:
    """A Hann window to the power 0.85."""
    return _constant((0.5 - 0.5 * np.cos(2 * pi * np.arange(size) / (size - 1))) ** 0.85)


@lru_cache(maxsize=32)
def _hamming_window(size: int) -> np.ndarray:
    return _constant(np.hamming(size))


_WINDOWS = {"povey": _povey_window, "hamming": _hamming_window}


@lru_cache(maxsize=32)
def _mel_filters(n_mels: int, n_fft: int, rate_hz: int, low_hz: float, high_hz: float) -> np.ndarray:
    """(n_fft / 2, F) triangles, each from the centre of its lower to that of its upper neighbour."""
    if not low_hz < high_hz <= rate_hz / 2:
        raise InputError(
            f"Mel bins from {low_hz:g} to {high_hz:g} Hz do not fit a rate of {rate_hz} Hz; "
            f"set high_hz above low_hz and at most {rate_hz / 2:g}."
        )
    edges = _mel(np.array([low_hz, high_hz]))
    edges = np.linspace(edges[0], edges[1], n_mels + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    lines = _mel(np.arange(n_fft // 2) * rate_hz / n_fft)[:, None]
    filters = np.minimum((lines - lower) / (centre - lower), (upper - lines) / (upper - centre)).clip(min=0)
    n_empty = int((filters.sum(axis=0) == 0).sum())
    if n_empty:
        raise InputError(
            f"{n_empty} of {n_mels} mel bins lie between the lines of a {n_fft}-point FFT; "
            "lower n_mels or lengthen window_ms."
        )
    return _constant(filters)


def _mel(hz: np.ndarray) -> np.ndarray:
    return 1127 * np.log1p(hz / 700)


def _constant(values: np.ndarray) -> np.ndarray:
    """Float32 that is shared by all callers and must not be written to."""
    values = values.astype(np.float32)
    values.setflags(write=False)
    return values


# ---------------------------------------------------------------------------------------------------------- cepstrum


@lru_cache(maxsize=32)
def dct_matrix(n_mels: int, n_ceps: int = 13, lifter: int = 22) -> Float[np.ndarray, "F M"]:
    """(F, M) matrix that takes log mel values to liftered cepstra; read-only.

    The orthonormal DCT-II, with coefficient m multiplied by 1 + lifter / 2 sin(pi m / lifter) as in Kaldi; 0 means no
    liftering.
    """
    if not 1 <= n_ceps <= n_mels:
        raise InputError(f"{n_ceps} cepstra cannot be taken of {n_mels} mel bins; ask for 1 to {n_mels}.")
    order = np.arange(n_ceps)
    matrix = np.sqrt(2 / n_mels) * np.cos(pi / n_mels * (np.arange(n_mels)[:, None] + 0.5) * order)
    matrix[:, 0] = np.sqrt(1 / n_mels)
    if lifter:
        matrix *= 1 + lifter / 2 * np.sin(pi * order / lifter)
    return _constant(matrix)


@overload
def mfcc(log_mel: Float[Tensor, "B T F"], n_ceps: int = 13, lifter: int = 22) -> Float[Tensor, "B T M"]: ...
@overload
def mfcc(log_mel: Float[np.ndarray, "T F"], n_ceps: int = 13, lifter: int = 22) -> Float[np.ndarray, "T M"]: ...
def mfcc(
    log_mel: Float[Tensor, "B T F"] | Float[np.ndarray, "T F"], n_ceps: int = 13, lifter: int = 22
) -> Float[Tensor, "B T M"] | Float[np.ndarray, "T M"]:
    """Mel cepstra of one clip (T, F) or of a batch (B, T, F): ``log_mel @ dct_matrix(F, n_ceps, lifter)``.

    Coefficient 0 is the scaled mean log power, not the energy of the frame (Kaldi with ``use_energy`` false).
    """
    matrix = dct_matrix(log_mel.shape[-1], n_ceps, lifter)
    if isinstance(log_mel, Tensor):
        return log_mel @ torch.tensor(matrix, dtype=log_mel.dtype, device=log_mel.device)
    return log_mel @ matrix


def deltas(x: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T F"]:
    """Slope of each value over five frames, sum of n (x[t + n] - x[t - n]) over n = 1, 2, divided by 10.

    Beyond its first and last valid frame a clip is taken to stay as it is there; padding gives zeros.
    """
    n_items, total = x.shape[:2]
    frame = torch.arange(total, device=x.device)
    last = (lengths - 1).clamp_min(0)[:, None]
    rows = torch.arange(n_items, device=x.device)[:, None] * total

    def shifted(by: int) -> Tensor:
        return _rows(x, rows + torch.minimum((frame + by).clamp_min(0), last))

    # Not in place: what changes no memory can be computed once and used again (engine.graphs).
    slope = (shifted(1) - shifted(-1) + 2 * (shifted(2) - shifted(-2))) / 10
    return slope.masked_fill((frame >= lengths[:, None])[:, :, None], 0)


# ------------------------------------------------------------------------------------------------------------ window

SPEECH_ABOVE_FLOOR_DB = 8.0
SPEECH_BELOW_PEAK_DB = (15.0, 35.0)
"""The threshold lies at least and at most this far below the peak, whatever the noise floor."""
SPEECH_MIN_RANGE_DB = 18.0
"""Where floor and peak are closer than this, speech and noise cannot be told apart and the whole clip is kept."""
CLOSURE_MS = 150.0
"""The silence of a stop consonant: a burst this close to speech is speech."""
CLICK_MS = 30.0
BRIDGE_MS = 300.0
SHARE_OF_MAIN = 0.25
"""A stretch further away is speech too when its area above the threshold is this share of the largest one's."""
MARGIN_MS = 50.0
MIN_SPEECH_MS = 100.0


def speech_bounds(log_mel: Float[np.ndarray, "T F"], front_end: FrontEnd) -> tuple[int, int]:
    """First frame of the stretch that holds speech, and the frame after its last.

    Speech is louder than 8 dB above the noise floor (the lowest tenth of the frames), and 15 to 35 dB below the peak
    (the loudest level held for 50 ms). Gaps up to 300 ms are bridged, so that words of several syllables and commands
    of two words stay whole; a longer pause is kept where what lies beyond it is a quarter as large as the main stretch.
    Isolated clicks of less than 30 ms are left out, 50 ms are added on either side, and the result is never shorter
    than 100 ms or the clip. Where nothing stands out, or nothing else is there, it is the whole clip.
    """
    total = len(log_mel)
    n_click = click_frames(front_end)
    if total <= n_click:
        return 0, total
    energy = np.log(np.exp(log_mel).sum(axis=1)) / DB
    floor = np.partition(energy, total // 10)[total // 10]
    peak = np.lib.stride_tricks.sliding_window_view(energy, n_click).min(axis=1).max()
    if peak - floor < SPEECH_MIN_RANGE_DB:
        return 0, total
    least, most = SPEECH_BELOW_PEAK_DB
    above = energy - min(max(floor + SPEECH_ABOVE_FLOOR_DB, peak - most), peak - least)

    return stretch_above(above, front_end)


def stretch_above(above: Float[np.ndarray, " T"], front_end: FrontEnd) -> tuple[int, int]:
    """Bounds of what lies above a threshold, by how much in dB; everything where nothing lasts above it."""
    total, n_click = len(above), click_frames(front_end)
    edges = np.flatnonzero(np.diff(above > 0, prepend=False, append=False))
    if len(edges) == 0:
        return 0, total
    starts, ends = _bridge(edges[::2], edges[1::2], CLOSURE_MS / front_end.hop_ms)
    lasting = ends - starts >= n_click
    if not lasting.any():
        return 0, total
    starts, ends = _bridge(starts[lasting], ends[lasting], BRIDGE_MS / front_end.hop_ms)
    area = np.append(0, np.cumsum(above.clip(min=0)))
    areas = area[ends] - area[starts]
    kept = np.flatnonzero(areas >= SHARE_OF_MAIN * areas.max())
    start, end = int(starts[kept[0]]), int(ends[kept[-1]])

    margin = round(MARGIN_MS / front_end.hop_ms)
    missing = ceil(MIN_SPEECH_MS / front_end.hop_ms) - (end - start + 2 * margin)
    margin += max(0, ceil(missing / 2))
    return max(0, start - margin), min(total, end + margin)


def click_frames(front_end: FrontEnd) -> int:
    """What is shorter than a click is, seen through a window, this many frames long or less."""
    return ceil((CLICK_MS + front_end.window_ms) / front_end.hop_ms)


def _bridge(starts: np.ndarray, ends: np.ndarray, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Join stretches that are at most ``gap`` frames apart."""
    apart = starts[1:] - ends[:-1] > gap
    return starts[np.append(True, apart)], ends[np.append(apart, True)]


def window(
    log_mel: Float[Tensor, "B T F"], starts: Int[Tensor, " B"], ends: Int[Tensor, " B"], front_end: FrontEnd
) -> tuple[Float[Tensor, "B T2 F"], Int[Tensor, " B"]]:
    """The window that an encoder scores, frames ``starts`` to ``ends`` (exclusive) of each clip, and its length.

    Values more than ``range_db`` below the largest of the window are lifted to that floor; each bin gets zero mean and
    unit variance over the window (variance + 0.01 under the root); the frames are resampled linearly to ``n_frames``,
    first on first and last on last, or left as they are and padded with zeros. What lies outside the bounds, and who
    else is in the batch, does not matter.

    Raises:
        ValueError: bounds that are empty or leave the clip.
    """
    n_items, total = log_mel.shape[:2]
    if not bool(((starts >= 0) & (starts < ends) & (ends <= total)).all()):
        raise ValueError(f"bounds must satisfy 0 <= start < end <= {total}")
    lengths = ends - starts
    last = (lengths - 1)[:, None]
    frame = torch.arange(int(lengths.max()), device=log_mel.device)
    valid = frame <= last

    rows = torch.arange(n_items, device=log_mel.device)[:, None] * total + starts[:, None]
    x = _rows(log_mel, rows + torch.minimum(frame, last))  # padding repeats the last frame: the maximum stays true
    x = x.clamp(min=x.amax(dim=(1, 2), keepdim=True) - front_end.range_db * DB)
    mean, scale = _moments(x, valid) if front_end.normalize else (x.new_zeros(()), x.new_ones(()))
    if front_end.n_frames is None:
        return (x - mean) * scale * valid[:, :, None], lengths

    place = torch.arange(front_end.n_frames, device=log_mel.device) / (front_end.n_frames - 1) * last
    before = place.long()
    rows = torch.arange(n_items, device=log_mel.device)[:, None] * x.shape[1]
    resampled = torch.lerp(
        _rows(x, rows + before),
        _rows(x, rows + torch.minimum(before + 1, last)),
        (place - before)[:, :, None].to(x.dtype),
    )
    return (resampled - mean) * scale, torch.full_like(lengths, front_end.n_frames)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Frames of (B, T, F) by their number in the whole batch, (B, N) -> (B, N, F); much faster than ``gather``."""
    return x.reshape(-1, x.shape[2]).index_select(0, index.flatten()).view(*index.shape, -1)


def _moments(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation (B, 1, F) over the valid frames.

    Summed in float64, so that the order of summation, which depends on the padding, is not seen in the result.
    """
    weight = (valid.double() / valid.sum(1, keepdim=True))[:, None]
    values = x.double()
    mean = weight @ values
    variance = (weight @ values.square_() - mean.square()).clamp_min(0)
    return mean.to(x.dtype), (variance + VARIANCE_FLOOR).rsqrt().to(x.dtype)


Spoken = Callable[[Float[np.ndarray, "T F"], FrontEnd], Float[np.ndarray, "T2 F"]]
"""Log mel frames of a clip in, those of its speech out."""


def cropped(log_mel: Float[np.ndarray, "T F"], front_end: FrontEnd) -> Float[np.ndarray, "T2 F"]:
    """The frames that ``speech_bounds`` finds, or all of them where the front end does not crop."""
    start, end = speech_bounds(log_mel, front_end) if front_end.crop else (0, len(log_mel))
    return log_mel[start:end]


def heard(wave: Float[np.ndarray, " S"], front_end: FrontEnd, spoken: Spoken = cropped) -> Float[np.ndarray, "T F"]:
    """Log mel frames of the stretch of a clip that holds speech: trim padding, log mel, bounds of speech.

    Raises:
        InputError: nothing but digital silence, or less sound than one analysis window.
    """
    sound = trim_padding(wave)
    values = log_mel(sound, front_end)
    if len(values) == 0:
        raise InputError(
            f"The clip holds {len(sound) / front_end.rate_hz:.3g} s of sound; "
            f"at least {front_end.window_ms / 1000:g} s are needed, record it again."
        )
    return spoken(values, front_end)


def prepare(
    wave: Float[np.ndarray, " S"], front_end: FrontEnd, spoken: Spoken = cropped
) -> tuple[Float[Tensor, "1 T F"], Int[Tensor, " 1"]]:
    """The window of one clip as a batch of one: what is ``heard``, then ``window``. The device path.

    Raises:
        InputError: nothing but digital silence, or less sound than one analysis window.
    """
    values = torch.from_numpy(heard(wave, front_end, spoken))[None]
    return window(values, torch.tensor([0]), torch.tensor([values.shape[1]]), front_end)
