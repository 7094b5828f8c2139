"""Takes from the microphone: where a word begins and ends is heard by its level, and each take gets a file of its own.

Sound comes as an iterator of blocks, from sounddevice (the extra ``mic``) or from anywhere else; only ``Microphone``
knows where from.
"""

import os
import queue
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import soundfile
from jaxtyping import Float

from ..audio import CLIPPED_LEVEL
from ..contracts import InputError

RATE_HZ = 16_000
BLOCK_S = 0.02
SILENT_DBFS = -120.0

BEFORE_S, AFTER_S = 0.3, 0.3
"""What is kept before the first loud block and after the last."""
SILENCE_S = 0.6
"""So much quiet ends a take."""
FLOOR_S = 1.0
"""The noise floor is the lower part of this much sound before the word."""
FLOOR_SHARE = 0.3
SETTLE_S = 0.2
"""No word begins before the floor is known this long."""
START_ABOVE_DB, STOP_ABOVE_DB = 12.0, 7.0
"""Over the floor: louder starts a take, quieter ends it."""
STOP_BELOW_PEAK_DB = 40.0
"""So far below its loudest block a take ends, whatever the floor: a quiet room may fall by 60 dB."""
MIN_START_DBFS = -55.0
"""Quieter sound than this starts nothing."""
ONSET_S = 0.06
"""Loud for this long, or it was a click."""
WAIT_S = 10.0
"""How long a word is waited for."""


@dataclass(frozen=True, slots=True)
class Level:
    """What a meter shows of one block."""

    rms_dbfs: float
    peak_dbfs: float
    clipped: bool
    heard_s: float
    """Duration of the take so far; 0 while its word is waited for."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was recorded."""

    wave: Float[np.ndarray, " S"]
    ended: Literal["silence", "length", "nothing", "source"]
    """A pause, the limit, nobody who spoke, or a source without more."""


@runtime_checkable
class Source(Protocol):
    """Where sound comes from."""

    rate_hz: int

    def blocks(self) -> Iterator[Float[np.ndarray, " n"]]:
        """Mono samples in [-1, 1] from now on, in blocks of ``BLOCK_S``; what was heard before is gone."""
        ...


OnLevel = Callable[[Level], None]


def levels_dbfs(block: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Effective and peak level of a block, its mean removed; ``SILENT_DBFS`` at least."""
    if not len(block):
        return SILENT_DBFS, SILENT_DBFS
    centred = block - block.mean()
    values = float(np.sqrt(np.mean(np.square(centred)))), float(np.abs(block).max())
    rms, peak = (20 * np.log10(max(value, 10 ** (SILENT_DBFS / 20))) for value in values)
    return float(rms), float(peak)


def listen(source: Source, longest_s: float | int, show: OnLevel | None = None) -> Heard:
    """One word from the source: starts when it is spoken, ends 0.6 s after it or after ``longest_s``.

    A word is louder than the noise floor, the lower part of the last second before it, by 12 dB for 60 ms. A third of
    a second is kept before and after it. Where nobody speaks for ten seconds, nothing was heard.
    """
    before: deque[np.ndarray] = deque(maxlen=_n_blocks(BEFORE_S + ONSET_S))
    quiet: deque[float] = deque(maxlen=_n_blocks(FLOOR_S))
    n_loud = 0
    blocks = source.blocks()
    for n_waited, block in enumerate(blocks, 1):
        rms, peak = levels_dbfs(block)
        before.append(block)
        loud = len(quiet) >= _n_blocks(SETTLE_S) and rms > max(_floor_of(quiet) + START_ABOVE_DB, MIN_START_DBFS)
        n_loud = n_loud + 1 if loud else 0
        if not loud:
            quiet.append(rms)
        _tell(show, block, rms, peak, 0.0)
        if n_loud >= _n_blocks(ONSET_S):
            return _until_quiet(blocks, list(before), _floor_of(quiet), longest_s, show)
        if n_waited >= _n_blocks(WAIT_S):
            return Heard(np.zeros(0, np.float32), "nothing")
    return Heard(np.zeros(0, np.float32), "source")


def _until_quiet(
    blocks: Iterator[np.ndarray],
    kept: list[np.ndarray],
    floor_dbfs: float,
    longest_s: float | int,
    show: OnLevel | None,
) -> Heard:
    loudest, n_quiet = SILENT_DBFS, 0
    ended: Literal["silence", "length", "source"] = "source"
    for block in blocks:
        rms, peak = levels_dbfs(block)
        kept.append(block)
        loudest = max(loudest, rms)
        stop = max(floor_dbfs + STOP_ABOVE_DB, loudest - STOP_BELOW_PEAK_DB)
        n_quiet = n_quiet + 1 if rms < stop else 0
        heard_s = len(kept) * BLOCK_S
        _tell(show, block, rms, peak, heard_s)
        if n_quiet >= _n_blocks(SILENCE_S):
            ended = "silence"
            kept = kept[: len(kept) - _n_blocks(SILENCE_S - AFTER_S)]
            break
        if heard_s >= longest_s:
            ended = "length"
            break
    return Heard(np.concatenate(kept).astype(np.float32), ended)


def listen_for(source: Source, seconds: float | int, show: OnLevel | None = None) -> Float[np.ndarray, " S"]:
    """The next seconds whatever they hold, such as the noise of a place."""
    kept: list[np.ndarray] = []
    for block in source.blocks():
        rms, peak = levels_dbfs(block)
        kept.append(block)
        _tell(show, block, rms, peak, len(kept) * BLOCK_S)
        if len(kept) >= _n_blocks(seconds):
            break
    return np.concatenate(kept).astype(np.float32) if kept else np.zeros(0, np.float32)


def _tell(show: OnLevel | None, block: np.ndarray, rms: float, peak: float, heard_s: float) -> None:
    if show is not None:
        show(Level(rms, peak, bool(np.abs(block).max(initial=0) >= CLIPPED_LEVEL), heard_s))


def _floor_of(levels: deque[float]) -> float:
    ordered = sorted(levels)
    return ordered[int(FLOOR_SHARE * (len(ordered) - 1))]


def _n_blocks(seconds: float | int) -> int:
    return max(1, round(seconds / BLOCK_S))


# --------------------------------------------------------------------------------------------------------------- files


def folder_of(out: Path, word: str) -> Path:
    """The folder of a word's takes, as ``metavox enroll`` reads them.

    Raises:
        InputError: a word that cannot name a folder.
    """
    bad = not word.strip() or word.startswith((".", "_")) or any(c in word for c in "/\\\0") or not word.isprintable()
    if bad or len(os.fsencode(word)) > 200:
        raise InputError(
            f"{word[:60]!r} cannot name a folder of takes; write the word without slashes, and with a letter or a "
            "digit first."
        )
    return out / word


def write_take(folder: Path, wave: Float[np.ndarray, " S"], rate_hz: int, suffix: str = ".flac") -> Path:
    """Save 16-bit samples under the next free number of the folder (``01.flac``), beside and then renamed.

    A take that is there is never overwritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".take.{os.getpid()}.tmp"
    try:
        with beside.open("wb") as file:
            soundfile.write(file, wave, rate_hz, format=suffix[1:].upper(), subtype="PCM_16")
        while True:
            path = folder / f"{_next_number(folder):02d}{suffix}"
            try:
                os.link(beside, path)  # a name that is taken stays as it is
                return path
            except FileExistsError:
                continue
            except OSError:  # a disk without hard links
                if not path.exists():
                    beside.rename(path)
                    return path
    finally:
        beside.unlink(missing_ok=True)


def _next_number(folder: Path) -> int:
    numbers = [int(path.stem) for path in folder.iterdir() if path.stem.isascii() and path.stem.isdigit()]
    return max(numbers, default=0) + 1


# --------------------------------------------------------------------------------------------------------- sounddevice


@dataclass(frozen=True, slots=True)
class Device:
    """A microphone that the system knows."""

    number: int
    name: str
    n_channels: int
    rate_hz: int
    """Its own rate."""
    is_default: bool


def input_devices() -> list[Device]:
    """All microphones.

    Raises:
        InputError: sounddevice or its library is not installed.
    """
    sounddevice = _sounddevice()
    try:
        default = int(sounddevice.default.device[0])
    except (TypeError, IndexError, ValueError):
        default = -1
    return [
        Device(
            number, str(row["name"]), int(row["max_input_channels"]), int(row["default_samplerate"]), number == default
        )
        for number, row in enumerate(sounddevice.query_devices())
        if row["max_input_channels"] > 0
    ]


class Microphone:
    """A microphone as a source, in a ``with`` block.

    Raises:
        InputError: sounddevice is not installed, there is no microphone, none of that name, or it does not open.
    """

    def __init__(self, device: str | None = None) -> None:
        self.device = _chosen(device)
        self._queue: queue.Queue[np.ndarray] = queue.Queue()
        self._stream, self.rate_hz = self._opened()

    def __enter__(self) -> "Microphone":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def blocks(self) -> Iterator[Float[np.ndarray, " n"]]:
        """What is heard from now on."""
        while not self._queue.empty():
            self._queue.get_nowait()
        while True:
            try:
                yield self._queue.get(timeout=5)
            except queue.Empty:
                raise InputError(f"{self.device.name} has sent nothing for 5 s; plug it in again.") from None

    def _opened(self) -> tuple[Any, int]:
        """At 16 kHz where the device does that, else at its own rate."""
        sounddevice = _sounddevice()

        def keep(samples: np.ndarray, _n: int, _time: Any, _status: Any) -> None:
            self._queue.put(samples[:, 0].copy())

        fault: Exception | None = None
        for rate_hz in dict.fromkeys((RATE_HZ, self.device.rate_hz)):
            try:
                stream = sounddevice.InputStream(
                    samplerate=rate_hz, blocksize=round(BLOCK_S * rate_hz), device=self.device.number, channels=1,
                    dtype="float32", callback=keep,
                )  # fmt: skip
                stream.start()
                return stream, rate_hz
            except sounddevice.PortAudioError as err:
                fault = err
        raise InputError(
            f"{self.device.name} does not open ({fault}); close what else uses it, or choose another with --device."
        )


def _chosen(device: str | None) -> Device:
    """The device of a number or of a part of a name; the system's own choice without."""
    devices = input_devices()
    if not devices:
        raise InputError("No microphone is there; plug one in, or allow this program to use it.")
    if device is None:
        return next((one for one in devices if one.is_default), devices[0])
    found = [one for one in devices if device.isdecimal() and one.number == int(device)]
    found = found or [one for one in devices if device.casefold() in one.name.casefold()]
    if len(found) != 1:
        listed = ", ".join(f"{one.number} {one.name}" for one in (found or devices))
        many = f"is the name of {len(found)} microphones" if found else "is no microphone"
        raise InputError(f"{device!r} {many}; choose one by its number: {listed}.")
    return found[0]


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise InputError('Recording needs sounddevice; pip install "metavox[mic]".') from None
    except OSError as err:  # the package is there and the library that it speaks to is not
        raise InputError(
            f"Recording needs PortAudio ({err}); install it (Debian: apt install libportaudio2)."
        ) from None
    return sounddevice
