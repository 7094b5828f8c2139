"""A recording of any length cut at its pauses, block by block: what is kept in memory does not grow with it.

Speech is told from noise by energy in bands: a frame counts by how far its bands stand above the noise, which is the
quiet tenth of each band within a quarter of a minute on either side (after the minimum statistics of Martin 2001, with
a quantile for the minimum, as in Stahl et al. 2000). What hums or hisses steadily for half a minute is noise.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from ..audio import MAX_PEAK, MAX_RATE_HZ, MIN_RATE_HZ, AudioInfo, probe
from ..contracts import InputError

RATE_HZ = 16_000
FRAME = 320
"""Samples of a frame of 20 ms; frames do not overlap."""
CHUNK = 50 * FRAME
"""Samples that are judged together, one second: what comes out does not depend on the blocks that come in."""
BAND_EDGES_HZ = (100, 300, 600, 1000, 1600, 2400, 3500, 5000, 7000)
SMOOTHED_FRAMES = 5
REACH_CHUNKS = 15
"""The noise of a second is looked for in as many seconds before it and after it."""
NOISE_SHARE = 0.1
NOISE_BIAS_DB = 2.0
"""How far the mean of a steady noise lies above its quiet tenth."""
FLOOR_DBFS = -75.0
"""No band is heard below this; the steps of 16 bits alone lie at -110."""
MAX_HEIGHT_DB = 30.0
ONSET_DB, HOLD_DB = 3.0, 2.0
"""Speech begins where the bands stand this far above the noise (root mean square), and lasts as long as they stay
above the second."""
MIN_SPEECH_S = 0.14
"""What is shorter, after smoothing, is a click."""

_BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True, slots=True)
class Cutting:
    """Where a recording is cut. Raises InputError for lengths that contradict each other."""

    max_segment_s: float = 20.0
    """Longer speech is cut at the quietest place of the second half of this."""
    min_pause_s: float = 0.3
    padding_s: float = 0.2
    """Kept of the pause on either side; where less is there, the neighbours share it."""

    def __post_init__(self) -> None:
        if not (1 <= self.max_segment_s <= 60 and 0.1 <= self.min_pause_s <= 5 and 0 <= self.padding_s <= 0.4):
            raise InputError(
                f"Segments of at most {self.max_segment_s:g} s, pauses of {self.min_pause_s:g} s and padding of "
                f"{self.padding_s:g} s cannot be cut; keep to 1 to 60 s, 0.1 to 5 s and 0 to 0.4 s."
            )


@dataclass(frozen=True, slots=True)
class Stretch:
    """Speech between two pauses."""

    first: int
    """Where it starts in the recording, in samples at 16 kHz."""
    wave: Float[np.ndarray, " S"]
    """Samples at 16 kHz, in [-1, 1]."""

    @property
    def start_s(self) -> float:
        return self.first / RATE_HZ

    @property
    def end_s(self) -> float:
        return (self.first + len(self.wave)) / RATE_HZ


def stretches(blocks: Iterable[Float[np.ndarray, " _"]], cutting: Cutting | None = None) -> Iterator[Stretch]:
    """Stretches of speech in order, disjoint, none longer than ``max_segment_s``; silence and steady noise give none.

    ``blocks`` are consecutive samples at 16 kHz in [-1, 1], of any sizes: how the recording is divided into them does
    not matter. Half a minute and one stretch are in memory at a time.
    """
    marker = _Marker(cutting or Cutting())
    kept: deque[np.ndarray] = deque()
    first = total = 0  # samples before ``kept``, and up to its end
    for wave, scores in _scored(_chunks(blocks)):
        kept.append(wave)
        total += len(wave)
        for found in marker.steps(scores.tolist()):
            yield _cut(kept, first, total, found)
        while kept and first + len(kept[0]) <= marker.oldest * FRAME:
            first += len(kept.popleft())
    for found in marker.finish():
        yield _cut(kept, first, total, found)


def _cut(kept: Iterable[np.ndarray], first: int, total: int, frames: tuple[int, int]) -> Stretch:
    start, end = frames[0] * FRAME, min(frames[1] * FRAME, total)
    return Stretch(start, np.concatenate(list(kept))[start - first : end - first])


# ------------------------------------------------------------------------------------------------------------- blocks


def file_blocks(path: str | Path, info: AudioInfo | None = None) -> Iterator[Float[np.ndarray, " _"]]:
    """Samples of a file at 16 kHz, mono in [-1, 1], as ``audio.read`` gives them, a few seconds at a time.

    ``info`` is what ``audio.probe`` said of the file, where that is known already.

    Raises:
        InputError: as ``audio.read``; what is damaged inside the coded stream is found when it is reached.
    """
    info = info or probe(path)
    if not MIN_RATE_HZ <= info.rate_hz <= MAX_RATE_HZ:
        raise InputError(
            f"{path} has a rate of {info.rate_hz} Hz; give one between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz, such as "
            "16000."
        )
    yield from resampled(_decoded(path, info), info.rate_hz)


def resampled(blocks: Iterable[Float[np.ndarray, " _"]], rate_hz: int) -> Iterator[Float[np.ndarray, " _"]]:
    """Consecutive samples at any rate as samples at 16 kHz in [-1, 1] (soxr, HQ); overshoot is cut to full scale."""
    if rate_hz == RATE_HZ:
        yield from (np.clip(block, -1, 1, dtype=np.float32) for block in blocks)
        return
    stream = soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield np.clip(stream.resample_chunk(block), -1, 1, dtype=np.float32)
    yield np.clip(stream.resample_chunk(np.zeros(0, np.float32), last=True), -1, 1, dtype=np.float32)


class _Sequential(soundfile.SoundFile):
    """Read without seeking: a seek fails in streamed FLAC, and would hide where a damaged file ends."""

    def seekable(self) -> bool:
        return False


def _decoded(path: str | Path, info: AudioInfo) -> Iterator[np.ndarray]:
    """Mono blocks at the rate of the file, each checked; the file has passed ``probe``."""
    n_read = 0
    n_block = max(1, _BLOCK_SAMPLES // info.n_channels)
    try:
        with _Sequential(os.fsencode(path)) as file:  # a name need not be Unicode
            while len(block := file.read(n_block, dtype="float32", always_2d=True)):
                n_read += len(block)
                mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
                _check(mono, path)
                yield mono
    except soundfile.LibsndfileError as err:
        reason = err.error_string.removeprefix("Error : ").strip(" .") or "unknown fault"
        raise InputError(f"{path} cannot be decoded ({reason}); record or copy it again.") from None
    if n_read < info.n_frames:
        raise InputError(
            f"{path} is truncated ({n_read} of {info.n_frames} frames can be decoded); record or copy it again."
        )


def _check(mono: np.ndarray, path: str | Path) -> None:
    peak = float(np.abs(mono).max())  # NaN is passed on
    if not np.isfinite(peak):
        raise InputError(f"{path} has samples that are NaN or infinite; export it again as 16-bit PCM.")
    if peak > MAX_PEAK:
        raise InputError(f"{path} has float samples up to {peak:g} where full scale is 1; divide by their full scale.")


def _chunks(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same samples, ``CHUNK`` at a time; the last may hold fewer."""
    waiting: list[np.ndarray] = []
    n_waiting = 0
    for block in blocks:
        waiting.append(block)
        n_waiting += len(block)
        if n_waiting < CHUNK:
            continue
        joined = np.concatenate(waiting)
        whole = n_waiting - n_waiting % CHUNK
        yield from joined[:whole].reshape(-1, CHUNK).copy()  # rows that keep no block alive
        waiting, n_waiting = [joined[whole:].copy()], n_waiting - whole
    if n_waiting:
        yield np.concatenate(waiting)


# -------------------------------------------------------------------------------------------------------------- scores


def _scored(chunks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, Float[np.ndarray, " T"]]]:
    """Each chunk with how far its frames stand above the noise around it, in dB."""
    past: deque[np.ndarray] = deque(maxlen=REACH_CHUNKS)
    ahead: deque[tuple[np.ndarray, np.ndarray]] = deque()

    def judged() -> tuple[np.ndarray, np.ndarray]:
        around = np.concatenate([*past, *(levels for _, levels in ahead)])
        wave, levels = ahead.popleft()
        past.append(levels)
        return wave, heights(levels, around)

    for item in _leveled(chunks):
        ahead.append(item)
        if len(ahead) > REACH_CHUNKS:
            yield judged()
    while ahead:
        yield judged()


def heights(levels: Float[np.ndarray, "T bands"], around: Float[np.ndarray, "T2 bands"]) -> Float[np.ndarray, " T"]:
    """How far each frame stands above the noise of the frames ``around`` it: root mean square over the bands, dB."""
    quiet = int(NOISE_SHARE * len(around))
    noise = np.maximum(np.partition(around, quiet, axis=0)[quiet] + NOISE_BIAS_DB, FLOOR_DBFS)
    above = np.clip(levels - noise, 0, MAX_HEIGHT_DB)
    height: np.ndarray = np.sqrt(np.square(above).mean(axis=1))
    return height


def _leveled(chunks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each chunk with the smoothed levels of its frames. Those around the end of a chunk need the next one."""
    half = SMOOTHED_FRAMES // 2
    wave = None
    power = np.zeros((0, 0))
    before = after = power
    for following in chunks:
        power_ahead = _band_power(following)
        if wave is not None:
            after = power_ahead[:half]
            yield wave, _smoothed(before, power, after)
            before = power[-half:]
        else:
            before = np.repeat(power_ahead[:1], half, axis=0)
        wave, power = following, power_ahead
    if wave is not None:
        yield wave, _smoothed(before, power, np.repeat(power[-1:], half, axis=0))


def _smoothed(before: np.ndarray, power: np.ndarray, after: np.ndarray) -> np.ndarray:
    short = SMOOTHED_FRAMES // 2 - len(after)  # the next chunk is the last, and shorter than that
    padded = np.concatenate([before, power, after, np.repeat(after[-1:], short, axis=0)])
    mean = sum(padded[i : i + len(power)] for i in range(SMOOTHED_FRAMES)) / SMOOTHED_FRAMES
    levels: np.ndarray = 10 * np.log10(mean + 1e-12)
    return levels


def _band_power(wave: np.ndarray) -> np.ndarray:
    """Mean square of each frame in each band, (T, bands); the last frame is filled up with its last sample."""
    frames = np.pad(wave, (0, -len(wave) % FRAME), mode="edge").reshape(-1, FRAME)
    taper, bands = _tables()
    spectrum = np.fft.rfft(frames * taper)
    power: np.ndarray = (np.square(spectrum.real) + np.square(spectrum.imag)) @ bands
    return power


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """A Hann window, and which lines of the spectrum belong to which band, scaled to mean squares."""
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(FRAME) + 0.5) / FRAME)
    lines_hz = np.arange(FRAME // 2 + 1) * RATE_HZ / FRAME
    edges = np.array(BAND_EDGES_HZ)
    bands = (lines_hz[:, None] >= edges[:-1]) & (lines_hz[:, None] < edges[1:])
    return taper, bands * (2 / (FRAME * np.square(taper).sum()))


# --------------------------------------------------------------------------------------------------------------- marks


class _Marker:
    """Takes the scores of frames in order, and says which frames are a stretch as soon as that is known."""

    def __init__(self, cutting: Cutting) -> None:
        self._pause = round(cutting.min_pause_s * RATE_HZ / FRAME)
        self._padding = round(cutting.padding_s * RATE_HZ / FRAME)
        self._most = int(cutting.max_segment_s * RATE_HZ / FRAME)
        self._least = round(MIN_SPEECH_S * RATE_HZ / FRAME)
        self._wait = max(self._pause, 2 * self._padding)
        self._scores: deque[float] = deque(maxlen=self._most + 1)
        self._speaking = False
        self._start: int | None = None
        self._now = self._last = self._free = self._n_spoken = 0

    @property
    def oldest(self) -> int:
        """The first frame that a later stretch may begin with."""
        return max(self._free, self._now - self._padding) if self._start is None else self._start

    def steps(self, scores: Sequence[float]) -> list[tuple[int, int]]:
        """First frame and the frame after the last of each stretch that the next frames bring to its end."""
        found: list[tuple[int, int] | None] = []
        for score in scores:
            self._speaking = score >= (HOLD_DB if self._speaking else ONSET_DB)
            self._scores.append(score)
            gap = self._now - self._last
            if self._speaking:
                if self._start is not None and gap >= self._pause:
                    found.append(self._close(self._last + gap // 2))
                if self._start is None:
                    self._start, self._n_spoken = max(self._free, self._now - self._padding), 0
                self._last = self._now + 1
                self._n_spoken += 1
                if self._last - self._start > self._most:
                    found.append(self._split())
            elif self._start is not None and gap + 1 >= self._wait:
                found.append(self._close(self._last + self._padding))
            self._now += 1
        return [one for one in found if one is not None]

    def finish(self) -> list[tuple[int, int]]:
        """The stretch that lasts until the end, if any."""
        last = None if self._start is None else self._close(min(self._last + self._padding, self._now))
        return [] if last is None else [last]

    def _close(self, end: int) -> tuple[int, int] | None:
        assert self._start is not None
        start, self._start = self._start, None
        if self._n_spoken < self._least:
            return None
        self._free = min(end, start + self._most)
        return start, self._free

    def _split(self) -> tuple[int, int]:
        """Cut a stretch that has become too long; what follows its quietest place goes on."""
        assert self._start is not None
        scores = np.array(self._scores)  # the last is that of the present frame, the first that of the start
        place = np.convolve(np.pad(scores, 2, mode="edge"), np.full(5, 0.2), "valid")
        low, high = self._most // 2, self._most - self._padding
        quietest = np.flatnonzero(place[low:high] <= place[low:high].min() + 1e-9)
        start, self._free = self._start, self._start + low + int(quietest[len(quietest) // 2])
        self._start, self._n_spoken = self._free, self._least
        return start, self._free
