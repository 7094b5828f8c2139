"""Segments become a Metavox corpus folder: 16 kHz mono FLAC, ``manifest.jsonl`` and ``IMPORT.json``.

A fault of one recording costs that recording: it is left out, and IMPORT.json says why. A source that contradicts
itself or must not be opened is refused as a whole, by its reader.
"""

import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from operator import length_hint
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Float

from ...audio import MIN_DURATION_S, from_array, probe, read
from ...contracts import InputError, Utterance
from ..layouts import printable, shown
from ..manifests import RATE_HZ, write_manifest
from ..stored import require_empty
from .segments import Options, Segment

MAX_OVERSHOOT_S = 0.5
"""A segment may end this much after its recording, and is then cut; the limit of Kaldi's extract-segments."""
FILES_PER_FOLDER = 1000
RECORD = "IMPORT.json"

_STREAMED = {"MP3", "OGG"}
"""Formats in which a seek is not exact, or a length not known."""
_UNKNOWN_FRAMES = 1 << 62
_BLOCK_FRAMES = 1 << 18

Progress = Callable[[int, int | None], None]
"""(segments done, segments in all if that is known)."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A segment that was left out, and why, in one sentence."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import wrote."""

    source: str
    format: str
    n_utterances: int
    hours: float
    n_speakers: int
    languages: tuple[str, ...]
    splits: dict[str, int]
    """Utterances of each split, where the source has any."""
    skipped: tuple[Skipped, ...]


def write_corpus(
    segments: Iterator[Segment],
    out: Path,
    *,
    source: str,
    format: str,
    options: Options,
    progress: Progress | None = None,
) -> Imported:
    """Write a corpus folder at ``out``, whole or not at all.

    ``options.split`` keeps one split, ``options.lang`` is the language of what says none.

    Raises:
        InputError: ``out`` exists and is not empty or cannot be made, two segments with one id, nothing left to write,
            and whatever the reader raises.
    """
    require_empty(out)
    out = Path(os.path.abspath(out))
    there = next(parent for parent in out.parents if parent.is_dir())
    partial_path = there / f".{out.name}.{os.getpid()}.part"
    partial_path.mkdir()
    try:
        found = _Found()
        _write_audio(segments, partial_path, options, found, progress)
        imported = _summary(found, source, format)
        if not found.utterances:
            raise _nothing(found, source, options)
        write_manifest(partial_path, found.utterances)
        record = {"version": version("metavox"), **asdict(imported)}
        record["options"] = {key: getattr(options, key) for key in ("split", "lang", "tier", "trust")}
        text = json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False)
        (partial_path / RECORD).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        out.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            out.rmdir()
        partial_path.rename(out)
    finally:
        close = getattr(segments, "close", None)
        if close is not None:
            close()
        shutil.rmtree(partial_path, ignore_errors=True)
    return imported


@dataclass(slots=True)
class _Found:
    utterances: list[Utterance]
    splits: Counter[str]
    skipped: list[Skipped]
    other_splits: set[str]

    def __init__(self) -> None:
        self.utterances, self.splits, self.skipped, self.other_splits = [], Counter(), [], set()


def _write_audio(
    segments: Iterator[Segment], folder: Path, options: Options, found: _Found, progress: Progress | None
) -> None:
    total = length_hint(segments) or None
    seen: set[str] = set()
    opened: _Opened | None = None
    try:
        for n_done, segment in enumerate(segments, 1):
            if progress is not None:
                progress(n_done, total)
            if options.split is not None and segment.split != options.split:
                found.other_splits.update([] if segment.split is None else [segment.split])
                continue
            if segment.id in seen:
                raise InputError(f"the id {shown(segment.id)} comes twice in the source; rename one of the two.")
            seen.add(segment.id)
            try:
                if opened is None or opened.path != segment.audio:
                    if opened is not None:
                        opened.close()
                    opened = None
                    opened = _Opened(segment.audio, folder)
                wave = opened.samples(segment)
            except InputError as error:
                reason = (
                    str(error) if segment.origin is None else str(error).replace(str(segment.audio), segment.origin)
                )
                found.skipped.append(Skipped(segment.id, printable(reason)))
                continue
            found.utterances.append(_keep(segment, wave, folder, len(found.utterances), options))
            if segment.split is not None:
                found.splits[segment.split] += 1
    finally:
        if opened is not None:
            opened.close()


def _keep(segment: Segment, wave: np.ndarray, folder: Path, number: int, options: Options) -> Utterance:
    """Write the audio of one utterance."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "_", segment.id).strip("._")[-60:]
    path = folder / "audio" / f"{number // FILES_PER_FOLDER:03d}" / f"{number:06d}{'-' * bool(slug)}{slug}.flac"
    path.parent.mkdir(parents=True, exist_ok=True)
    # rounded here, on the grid that 16-bit files are read from, so that such a file comes out as it went in
    soundfile.write(str(path), np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16), RATE_HZ)
    facts = {key: getattr(segment, key) for key in ("label", "speaker", "accent", "gender", "age")}
    return Utterance(segment.id, path, len(wave) / RATE_HZ, segment.text, lang=segment.lang or options.lang, **facts)


def _summary(found: _Found, source: str, format: str) -> Imported:
    utterances = found.utterances
    return Imported(
        source=printable(source),
        format=format,
        n_utterances=len(utterances),
        hours=round(sum(u.duration_s for u in utterances) / 3600, 4),
        n_speakers=len({u.speaker for u in utterances} - {None}),
        languages=tuple(sorted({u.lang for u in utterances if u.lang is not None})),
        splits=dict(sorted(found.splits.items())),
        skipped=tuple(found.skipped),
    )


def _nothing(found: _Found, source: str, options: Options) -> InputError:
    name = printable(Path(source).name)
    if found.skipped:
        return InputError(
            f"none of the {len(found.skipped)} recordings of {name} can be used, the first "
            f"({shown(found.skipped[0].id)}): {found.skipped[0].reason}"
        )
    if options.split is not None:
        splits = ", ".join(sorted(found.other_splits))
        remedy = f"choose one of {printable(splits)}" if splits else "it has no splits, leave --split out"
        return InputError(f"{name} has nothing in its split {shown(options.split)}; {remedy}.")
    return InputError(f"{name} holds no recordings; name another source.")


# ------------------------------------------------------------------------------------------------------ long recordings


class _Forward(soundfile.SoundFile):
    """Read without seeking, which fails in a streamed FLAC."""

    def seekable(self) -> bool:
        return False


class _Opened:
    """One recording, opened once and sliced for every segment of it that follows."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self._info = probe(path)
        self._copy = folder / ".whole.w64"
        self._file: soundfile.SoundFile | None = None

    def close(self) -> None:
        """Close the file and remove the copy."""
        if self._file is not None:
            self._file.close()
        self._copy.unlink(missing_ok=True)

    def samples(self, segment: Segment) -> Float[np.ndarray, " S"]:
        """The samples of a segment, mono at 16 kHz; InputError, one sentence, where they cannot be had."""
        name, info = printable(str(self.path)), self._info
        if not 0 <= segment.channel < info.n_channels:
            raise InputError(
                f"{name} has {info.n_channels} channels and the segment is on number {segment.channel + 1}; correct it."
            )
        if segment.start_s == 0 and segment.end_s is None and info.n_channels == 1:
            wave = read(self.path, RATE_HZ)
        else:
            try:
                wave = self._slice(segment, name)
            except soundfile.LibsndfileError as error:
                reason = error.error_string.removeprefix("Error : ").strip(" .")
                raise InputError(f"{name} cannot be decoded ({reason}); record or copy it again.") from None
        if len(wave) < MIN_DURATION_S * RATE_HZ:
            raise InputError(
                f"{name}: the segment lasts {len(wave) / RATE_HZ:.3g} s, at least {MIN_DURATION_S} s are needed; "
                "correct its times."
            )
        return wave

    def _slice(self, segment: Segment, name: str) -> np.ndarray:
        rate_hz, n_frames = self._info.rate_hz, self._info.n_frames
        start = _frames(segment.start_s, rate_hz)
        stop_s = self._info.duration_s if segment.end_s is None else segment.end_s
        if not (0 <= segment.start_s < stop_s <= self._info.duration_s + MAX_OVERSHOOT_S) or start >= n_frames:
            raise InputError(
                f"{name} lasts {self._info.duration_s:.3f} s and the segment goes from {segment.start_s:g} to "
                f"{stop_s:g} s; correct its times."
            )
        n_wanted = n_frames - start if segment.end_s is None else _frames(stop_s - segment.start_s, rate_hz)
        n_wanted = min(n_wanted, n_frames - start)
        file = self._exact()
        file.seek(start)
        blocks, n_left = [], n_wanted
        while n_left:
            block = file.read(min(n_left, _BLOCK_FRAMES), dtype="float32", always_2d=True)
            if not len(block):
                raise InputError(f"{name} is truncated or corrupt before {stop_s:g} s; record or copy it again.")
            blocks.append(block[:, segment.channel].copy())
            n_left -= len(block)
        try:
            return from_array(np.concatenate(blocks), rate_hz, RATE_HZ)
        except InputError as error:
            raise InputError(str(error).replace("The array", name, 1)) from None

    def _exact(self) -> soundfile.SoundFile:
        """The open file, or where a seek in it would not be exact, an uncompressed copy."""
        if self._file is None:
            file = soundfile.SoundFile(os.fsencode(self.path))
            if file.format in _STREAMED or file.frames >= _UNKNOWN_FRAMES:
                file.close()
                self._decode()
                file = soundfile.SoundFile(str(self._copy))
            self._file = file
        return self._file

    def _decode(self) -> None:
        rate_hz, n_channels = self._info.rate_hz, self._info.n_channels
        with (
            _Forward(os.fsencode(self.path)) as file,
            soundfile.SoundFile(str(self._copy), "w", rate_hz, n_channels, subtype="FLOAT", format="W64") as copy,
        ):
            while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                copy.write(block)


def _frames(seconds: float, rate_hz: int) -> int:
    """Nearest frame, halves up, as lhotse counts."""
    return math.floor(round(seconds * rate_hz, 8) + 0.5)


def as_json(imported: Imported) -> dict[str, Any]:
    """What ``--json`` prints: the record with the number of skipped segments and the first reason."""
    row = asdict(imported)
    row["skipped"] = len(imported.skipped)
    row["first_reason"] = imported.skipped[0].reason if imported.skipped else None
    return row
