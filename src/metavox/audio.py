"""Files and arrays to mono float32 samples: read, resample, trim padding, judge a take.

What a container says of its own length is compared with what is there, because decoders shorten a damaged recording
without a word.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from .contracts import InputError

MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 768_000
MAX_CHANNELS = 8
"""In an array the axis of at most this length holds the channels. Files may have more."""
MAX_PEAK = 4.0
"""Float samples beyond this (12 dB above full scale) are not audio in [-1, 1], most often integers stored as floats."""

PADDING_PEAK = 1 / 32768
"""Samples of at most this magnitude, one step of 16 bits, are padding at the ends of a clip."""
MIN_DURATION_S = 0.1
"""A take holds at least this much between its padding zeros."""
MIN_PEAK_DBFS = -60.0
"""A take whose peak, mean removed, is below this is silent."""
CLIPPED_LEVEL = 0.999
"""A sample of at least this share of the take's own peak, in a run of ``CLIPPED_RUN``, is clipped."""
CLIPPED_RUN = 3
CLIPPED_MIN_PEAK = 0.5
"""Below this peak nothing counts as clipped: there was room left."""
MAX_CLIPPED_SHARE = 0.15
"""A take with more than this share of clipped samples in its loudest half second is refused."""
CLIPPED_WINDOW_S = 0.5

_BLOCK_SAMPLES = 1 << 20
_UNKNOWN_FRAMES = 1 << 62
"""Counts from here on are libsndfile's way to say that a streamed file does not tell its length."""
_UNKNOWN_BYTES = 0x7FFF_F000
"""Chunk sizes from here on are written by programs that stream to a pipe and do not know the size."""
_LOGGED_SIZE = re.compile(r"^\s*(?:SSND|BODY|riff|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file's header says."""

    rate_hz: int
    n_channels: int
    n_frames: int
    duration_s: float


class _Sequential(soundfile.SoundFile):
    """Read without seeking: a seek fails in streamed FLAC, and would hide where a damaged file ends."""

    def seekable(self) -> bool:
        return False


# ---------------------------------------------------------------------------------------------------------- reading


def read(path: str | Path, rate_hz: int = 16_000) -> Float[np.ndarray, " S"]:
    """Samples of a file, (S,) float32 mono in [-1, 1] at ``rate_hz``.

    Reads every encoding of libsndfile that has a header; channels are averaged, other rates resampled (soxr, HQ),
    and overshoot of lossy codecs or of resampling is cut to full scale.

    Raises:
        InputError: a missing, empty, unreadable, truncated or corrupt file, no samples, NaN or infinite samples.
    """
    with _opened(path) as (file, exact):
        blocks = list(_mono_blocks(file))
        n_frames = sum(map(len, blocks))
        promised, source_hz = file.frames, file.samplerate
    if exact and n_frames < promised:
        raise _truncated(path, f"{n_frames} of {promised} frames can be decoded")
    if n_frames == 0:
        raise _no_samples(path)
    return _finished(np.concatenate(blocks), source_hz, rate_hz, str(path))


def probe(path: str | Path) -> AudioInfo:
    """Rate, channels and length of a file from its header.

    Streamed FLAC, and MP3 without a Xing tag, do not tell their length: they are decoded and counted. Damage inside
    the coded stream is only found by ``read``.

    Raises:
        InputError: as ``read``, as far as the header shows it.
    """
    with _opened(path) as (file, exact):
        n_frames = file.frames if exact else sum(map(len, _mono_blocks(file)))
        if n_frames == 0:
            raise _no_samples(path)
        return AudioInfo(file.samplerate, file.channels, n_frames, n_frames / file.samplerate)


def from_array(samples: Any, rate_hz: int, target_hz: int = 16_000) -> Float[np.ndarray, " S"]:
    """Samples that a user hands over, (S,) float32 mono in [-1, 1] at ``target_hz``.

    ``samples`` is (S,), (S, channels) or (channels, S) with at most 8 channels, of floats in [-1, 1] or of integers
    of 8, 16 or 32 bits, which are scaled by their range (unsigned 8 bits as in WAV files).

    Raises:
        InputError: another shape or type, no samples, NaN or infinite samples, an impossible rate.
    """
    array = np.asarray(samples)
    if array.ndim not in (1, 2):
        raise InputError(f"The array has shape {array.shape}; give samples as (S,) or (S, channels).")
    if array.size == 0:
        raise InputError(f"The array of shape {array.shape} holds no samples; give at least {MIN_DURATION_S} s.")
    wave = _scaled(array)
    if wave.ndim == 2:
        axis = 0 if wave.shape[0] < wave.shape[1] else 1
        if wave.shape[axis] > MAX_CHANNELS:
            raise InputError(
                f"The array has shape {array.shape}, more than {MAX_CHANNELS} channels; give one take as (S,)."
            )
        wave = wave.mean(axis=axis, dtype=np.float32)
    return _finished(wave, rate_hz, target_hz, "The array")


def _scaled(array: np.ndarray) -> np.ndarray:
    """Floats as they are, integers to [-1, 1)."""
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
            return array.astype(np.float32)
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128) / 128
    if array.dtype.kind == "i" and array.dtype.itemsize <= 4:
        full_scale = -float(np.iinfo(array.dtype).min)
        return (array / full_scale).astype(np.float32)
    raise InputError(f"The array is of type {array.dtype}; give int16, int32 or floats in [-1, 1].")


def _finished(wave: np.ndarray, source_hz: int, rate_hz: int, name: str) -> np.ndarray:
    """Check the values, resample, and cut overshoot to full scale."""
    for rate in (source_hz, rate_hz):
        if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
            raise InputError(
                f"{name} has a rate of {rate} Hz; give one between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz, such as 16000."
            )
    finite = np.isfinite(wave)
    if not finite.all():
        raise InputError(
            f"{name} has {np.count_nonzero(~finite)} samples that are NaN or infinite; export it again as 16-bit PCM."
        )
    peak = float(np.abs(wave).max())
    if peak > MAX_PEAK:
        raise InputError(f"{name} has float samples up to {peak:g} where full scale is 1; divide by their full scale.")
    if source_hz != rate_hz:
        wave = soxr.resample(wave, source_hz, rate_hz, quality="HQ")
        if len(wave) == 0:
            raise InputError(f"{name} is too short to resample to {rate_hz} Hz; record at least {MIN_DURATION_S} s.")
    return np.clip(wave, -1, 1, dtype=np.float32)


# ------------------------------------------------------------------------------------------------------- containers


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[_Sequential, bool]]:
    """An open file whose container is whole, and whether its frame count is exact."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name an audio file in it.")
    if not path.is_file():
        raise InputError(f"{path} is not a regular file; save the recording as a file first.")
    n_bytes = path.stat().st_size
    if n_bytes == 0:
        raise InputError(f"{path} is empty (0 bytes); record or copy it again.")
    try:
        with path.open("rb") as raw:
            _check_container(raw, n_bytes, path)
            tagged = _tells_mp3_length(raw)
    except OSError as err:
        raise InputError(f"{path} cannot be opened ({err.strerror}); check its permissions.") from None
    try:
        file = _Sequential(os.fsencode(path))  # a name need not be Unicode
    except TypeError:  # how soundfile says that a name ending in .raw promises no header
        raise InputError(f"{path} is headerless audio; convert it to WAV, with its rate and encoding.") from None
    except soundfile.LibsndfileError as err:
        raise _undecodable(path, err) from None
    try:
        with file:
            _check_log(file, path)
            yield file, file.frames < _UNKNOWN_FRAMES and (file.format != "MP3" or tagged)
    except soundfile.LibsndfileError as err:
        raise _undecodable(path, err) from None


def _mono_blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Decode to the end, whatever the header promises: a false length must not decide how much is allocated."""
    n_block = max(1, _BLOCK_SAMPLES // file.channels)
    while True:
        block = file.read(n_block, dtype="float32", always_2d=True)
        yield block[:, 0].copy() if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        if len(block) < n_block:
            return


def _check_container(raw: BinaryIO, n_bytes: int, path: Path) -> None:
    """Refuse WAV and Ogg files that end before their container does; libsndfile reads these as shorter ones."""
    head = raw.read(12)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE":
        start, size = _wav_data(raw, "big" if head[:4] == b"RIFX" else "little")
        if size < _UNKNOWN_BYTES and start + size > n_bytes:
            raise _truncated(path, f"{n_bytes - start} of {size} bytes of samples are there")
    elif head[:4] == b"OggS":
        raw.seek(max(0, n_bytes - 65_536))  # a page has at most 65,307 bytes
        tail = raw.read()
        page = tail.rfind(b"OggS")
        n_segments = tail[page + 26] if 0 <= page <= len(tail) - 27 else 0
        table = tail[page + 27 : page + 27 + n_segments]
        if not table or page + 27 + n_segments + sum(table) > len(tail):
            raise _truncated(path, "its last Ogg page is cut")


def _wav_data(raw: BinaryIO, order: Any) -> tuple[int, int]:
    """Offset and promised bytes of the data chunk; (0, 0) where there is none, which libsndfile reports better."""
    long_size = 0
    while len(head := raw.read(8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], order)
        if name == b"data":
            start = raw.tell()
            return start, long_size if size == 0xFFFF_FFFF and long_size else size
        if name == b"ds64":  # RF64: sizes beyond 4 GiB
            body = raw.read(size + size % 2)
            long_size = int.from_bytes(body[8:16], order)
        else:
            raw.seek(size + size % 2, 1)
    return 0, 0


def _tells_mp3_length(raw: BinaryIO) -> bool:
    """Whether an MP3 file starts with a tag that counts its frames; without one the count is a guess."""
    raw.seek(0)
    head = raw.read(10)
    n_tag = 0
    if head[:3] == b"ID3" and len(head) == 10:
        n_tag = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    raw.seek(n_tag)
    first = raw.read(4096)
    return any(tag in first for tag in (b"Xing", b"Info", b"VBRI"))


def _check_log(file: soundfile.SoundFile, path: Path) -> None:
    """AIFF, SVX, W64, AU: libsndfile notes in its log that the chunk of samples is cut."""
    for promised, there in _LOGGED_SIZE.findall(file.extra_info):
        if int(there) < int(promised) < _UNKNOWN_BYTES:
            raise _truncated(path, f"{there} of {promised} bytes are there")


def _truncated(path: str | Path, what: str) -> InputError:
    return InputError(f"{path} is truncated ({what}); record or copy it again.")


def _undecodable(path: Path, err: soundfile.LibsndfileError) -> InputError:
    reason = err.error_string.removeprefix("Error : ").strip(" .") or "unknown fault"
    return InputError(
        f"{path} cannot be decoded ({reason}): it is no audio, or truncated or corrupt; record or copy it again."
    )


def _no_samples(path: str | Path) -> InputError:
    return InputError(f"{path} holds no samples; record it again.")


# ----------------------------------------------------------------------------------------------------------- quality


def trim_padding(wave: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S2"]:
    """Without the digital zeros at both ends (``PADDING_PEAK``), that data sets pad with; a view.

    Nothing but zeros gives an empty array.
    """
    sound = np.abs(wave) > PADDING_PEAK
    if not sound.any():
        return wave[:0]
    return wave[int(sound.argmax()) : len(wave) - int(sound[::-1].argmax())]


def clipped_share(wave: Float[np.ndarray, " S"], rate_hz: int) -> float:
    """Largest share of clipped samples in any half second of the take (or in the whole of a shorter one).

    Clipped samples stand in runs of at least ``CLIPPED_RUN`` within 0.1 % of the take's peak, the mark of a converter
    at its limit; 0 where the peak is below ``CLIPPED_MIN_PEAK``.
    """
    level = np.abs(wave)
    peak = level.max(initial=0)
    if peak < CLIPPED_MIN_PEAK or len(wave) < CLIPPED_RUN:
        return 0.0
    at_peak = level >= CLIPPED_LEVEL * peak
    n_starts = len(wave) - CLIPPED_RUN + 1
    run = np.logical_and.reduce([at_peak[i : i + n_starts] for i in range(CLIPPED_RUN)])
    clipped = np.logical_or.reduce([np.pad(run, (i, CLIPPED_RUN - 1 - i)) for i in range(CLIPPED_RUN)])
    n_window = min(len(wave), round(CLIPPED_WINDOW_S * rate_hz))
    total = np.concatenate([[0], np.cumsum(clipped)])
    return float((total[n_window:] - total[:-n_window]).max() / n_window)


def check_take(wave: Float[np.ndarray, " S"], rate_hz: int, name: str, *, clipping: bool = True) -> None:
    """Refuse a recording that nothing should be learned from; ``name`` is the file, for the message.

    ``clipping=False`` lets a clipped one pass: what is only to be recognised need not be fit to learn from.

    Raises:
        InputError: a take that lasts less than 0.1 s between its padding zeros, whose peak is below -60 dBFS, or with
            more than 15 % clipped samples in its loudest half second (see ``clipped_share``).
    """
    if len(wave) < MIN_DURATION_S * rate_hz:
        raise InputError(
            f"{name} lasts {len(wave) / rate_hz:.3g} s; a take needs at least {MIN_DURATION_S} s, record it again."
        )
    sound = trim_padding(wave)
    peak = float(np.abs(sound - sound.mean()).max()) if len(sound) else 0.0
    if peak < 10 ** (MIN_PEAK_DBFS / 20):
        level = f"its peak is {20 * np.log10(peak):.0f} dBFS" if peak else "it holds one constant value"
        raise InputError(
            f"{name} is silent: {level}, a take needs at least {MIN_PEAK_DBFS:.0f} dBFS; "
            "check the microphone and record it again."
        )
    if len(sound) < MIN_DURATION_S * rate_hz:
        raise InputError(
            f"{name} holds {len(sound) / rate_hz:.3g} s of sound between padding zeros; "
            f"a take needs at least {MIN_DURATION_S} s, record it again."
        )
    share = clipped_share(sound, rate_hz) if clipping else 0.0
    if share > MAX_CLIPPED_SHARE:
        raise InputError(
            f"{name} is clipped: {share:.0%} of its loudest half second is at full scale, at most "
            f"{MAX_CLIPPED_SHARE:.0%} may be; lower the input gain and record it again."
        )
