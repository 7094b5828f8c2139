"""Recorded noise: read once, memory-mapped, a stretch of any length at hand."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Int

from ..audio import MIN_PEAK_DBFS, read, trim_padding
from ..augment.wave import is_silent
from ..contracts import InputError
from .layouts import MANIFEST
from .manifests import load_corpus
from .stored import opened_or_written

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".w64", ".caf"}
"""What counts as a recording in a folder without a manifest."""
_TRIES = 16
"""Places that are tried in a recording before it is called silent: some are muted now and then."""


@dataclass(frozen=True)
class Noise:
    """Recordings of noise at one rate."""

    paths: tuple[Path, ...]
    audio: Int[np.ndarray, " S"]
    """int16 samples of all of them, one after the other."""
    offsets: Int[np.ndarray, "n 2"]
    key: str
    """Hash of their content, in order."""

    def longest(self) -> tuple[Path, int]:
        """The longest recording and its samples."""
        lengths = self.offsets[:, 1] - self.offsets[:, 0]
        return self.paths[int(lengths.argmax())], int(lengths.max())

    def stretch(self, n_samples: int, rng: np.random.Generator) -> Float[np.ndarray, " S"]:
        """``n_samples`` of one recording, drawn from those that are long enough, from a random place on.

        Raises:
            InputError: none is long enough, or the one drawn is silent almost everywhere.
        """
        fits = np.flatnonzero(self.offsets[:, 1] - self.offsets[:, 0] >= n_samples)
        if len(fits) == 0:
            path, longest = self.longest()
            raise InputError(
                f"{path}, the longest recording of noise, has {longest} samples and a clip needs {n_samples}; "
                "list a longer one under augment.noise."
            )
        chosen = int(fits[rng.integers(len(fits))])
        start, end = self.offsets[chosen].tolist()
        for _ in range(_TRIES):
            first = start + int(rng.integers(end - start - n_samples + 1))
            wave = self.audio[first : first + n_samples].astype(np.float32) / 32768
            if not is_silent(wave):
                return wave
        raise InputError(f"{self.paths[chosen]} is silent almost everywhere; leave it out of augment.noise.")


def open_noise(places: Sequence[Path], rate_hz: int, cache: Path) -> Noise:
    """The recordings of files, of corpora with a manifest, and of other folders, kept in ``cache`` by content.

    Raises:
        InputError: a place without a recording, a file that cannot be read or is silent.
    """
    paths = [path for place in places for path in recordings(place)]
    if not paths:
        raise InputError("No recording of noise was given; list a folder or file under augment.noise.")
    key = _content_key(paths, rate_hz)

    def load(folder: Path) -> Noise | None:
        try:
            with np.load(folder / "index.npz", allow_pickle=False) as index:
                offsets = index["offsets"]
            audio = np.asarray(np.memmap(folder / "audio.i16", np.int16, "r"))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None
        whole = offsets.shape == (len(paths), 2) and offsets[-1, 1] == len(audio)
        return Noise(tuple(paths), audio, offsets, key) if whole else None

    def write(folder: Path) -> None:
        ends = [0]
        with (folder / "audio.i16").open("wb") as file:
            for path in paths:
                wave = _checked(path, rate_hz)
                file.write(np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16).tobytes())
                ends.append(ends[-1] + len(wave))
        np.savez(folder / "index.npz", allow_pickle=False, offsets=np.stack([ends[:-1], ends[1:]], 1))

    return opened_or_written(cache / f"noise-{key}", load, write)


def recordings(place: Path) -> list[Path]:
    """The audio files that a place means, in order.

    Raises:
        InputError: there is none.
    """
    if not place.is_dir() or (place / MANIFEST).is_file():
        is_audio = place.is_file() and place.suffix.lower() in SUFFIXES
        return [place] if is_audio else [utterance.path for utterance in load_corpus(place)]
    found = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InputError(
            f"{place} holds no recording of noise (such as .wav or .flac); list another under augment.noise."
        )
    return found


def _checked(path: Path, rate_hz: int) -> np.ndarray:
    wave = trim_padding(read(path, rate_hz))
    peak = float(np.abs(wave - wave.mean()).max()) if len(wave) else 0.0
    if peak < 10 ** (MIN_PEAK_DBFS / 20):
        level = f"peak {20 * np.log10(peak):.0f} dBFS" if peak else "nothing but zeros"
        raise InputError(
            f"{path} is silent ({level}) and cannot serve as noise, which needs {MIN_PEAK_DBFS:.0f} dBFS; leave it out "
            "of augment.noise."
        )
    return wave


def _content_key(paths: Sequence[Path], rate_hz: int) -> str:
    digest = hashlib.sha256(f"{rate_hz}".encode())
    for path in paths:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as err:
            raise InputError(f"{path} cannot be read ({err.strerror}); leave it out of augment.noise.") from None
    return digest.hexdigest()[:20]
