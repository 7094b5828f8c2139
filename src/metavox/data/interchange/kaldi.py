"""Kaldi data directories: ``wav.scp``, and where they are there ``segments``, ``text``, ``utt2spk``, ``spk2gender``.

The files need not be sorted. ``reco2dur`` and ``utt2dur`` are not needed: lengths are those of the audio.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...contracts import InputError
from ..layouts import printable, shown
from .rows import decoded
from .segments import Options, Segment
from .trust import Made, audio_file, in_turn, require_trust, run_command

MAX_LINE_BYTES = 1_000_000
_ARCHIVE = re.compile(r".+:\d+(\[.*\])?|.+\[[\d:,]*\]")
"""``foo.ark:123``: a place within an archive; a range in brackets behind it."""
_DECODED = re.compile(r"(?:cat|flac(?: +-(?:c|d|s|dc|cd|dcs|cds))+) +(?P<file>[\w./+@%=,][\w./+@%=,-]*) *\|")
"""``flac -c -d -s FILE |``, as the recipe of LibriSpeech writes it: no command is needed to read the file."""
_FIX = "utils/fix_data_dir.sh"

Source = tuple[Path | None, str | None, str]
"""(file, command, place); one of the first two is None."""


def is_kaldi(path: Path) -> bool:
    """Whether a folder is a data directory, or holds several (``data/train``, ``data/dev``)."""
    return path.is_dir() and bool(_directories(path))


def _directories(path: Path) -> list[tuple[str | None, Path]]:
    if (path / "wav.scp").exists():
        return [(None, path)]
    return [(inner.name, inner) for inner in sorted(path.iterdir()) if (inner / "wav.scp").exists()]


def read_kaldi(path: Path, options: Options) -> Iterator[Segment]:
    """Segments of a data directory, or of each of several in one folder, whose names are then the splits.

    Utterances are those of ``segments``, or without it the recordings of ``wav.scp``. Where ``text`` or ``utt2spk`` is
    there it must know each of them, and no others. Channel 0 is read.

    Raises:
        InputError: a file that cannot be read, an id that comes twice or is missing, a time that is no number or
            backwards, an archive, a command without ``--trust``. Nothing was run or decoded before all was read.
    """
    folders = _directories(path) if path.is_dir() else []
    if not folders:
        raise InputError(f"{printable(str(path))} has no wav.scp; name a Kaldi data directory.")
    if options.split is not None and folders[0][0] is not None:
        splits = [str(name) for name, _ in folders]
        folders = [item for item in folders if item[0] == options.split]
        if not folders:
            raise InputError(
                f"{printable(path.name)} has no split {shown(options.split)}; "
                f"choose one of {printable(', '.join(splits))}."
            )
    return in_turn([item for split, folder in folders for item in _plan(folder, split, options)], options)


def _plan(folder: Path, split: str | None, options: Options) -> list[tuple[Segment, Made | None]]:
    recordings = {name: _source(rest, folder, place, options) for name, rest, place in _table(folder / "wav.scp")}
    facts = _Facts(folder)
    grouped: dict[str, list[Segment]] = {name: [] for name in recordings}
    if (folder / "segments").exists():
        for name, rest, place in _table(folder / "segments"):
            recording, start_s, end_s = _times(name, rest, place)
            if recording not in recordings:
                raise InputError(f"{place}: the recording {shown(recording)} is not in wav.scp; add it or run {_FIX}.")
            grouped[recording].append(Segment(name, Path(), start_s, end_s, split=split, **facts.of(name)))
    else:
        for name in recordings:
            grouped[name].append(Segment(name, Path(), split=split, **facts.of(name)))
    facts.require_all_used({segment.id for segments in grouped.values() for segment in segments})
    plan: list[tuple[Segment, Made | None]] = []
    for name, segments in grouped.items():
        file, command, place = recordings[name]
        for segment in segments:
            if command is None:
                assert file is not None
                plan.append((replace(segment, audio=file), None))
            else:
                made = Made((command,), partial(run_command, command, place=place), command=command)
                plan.append((segment, made))
    return plan


def _source(rest: str, folder: Path, place: str, options: Options) -> Source:
    """What a line of wav.scp names behind its id."""
    if rest.startswith("|") or rest in ("", "-"):
        raise InputError(f"{place}: {shown(rest)} is nothing to read from; name a file of audio.")
    if decoded_file := _DECODED.fullmatch(rest):
        rest = decoded_file["file"]
    if rest.endswith("|") or rest.startswith("pipe:"):
        require_trust(rest, options, place)
        return None, rest.removeprefix("pipe:").removesuffix("|").strip(), place
    if _ARCHIVE.fullmatch(rest) and not (folder / rest).exists() and not Path(rest).exists():
        raise InputError(
            f"{place}: {shown(rest)} is a place within a Kaldi archive; write each recording to a file of its own "
            "with Kaldi's wav-copy."
        )
    return audio_file(rest, folder, place), None, place


def _times(name: str, rest: str, place: str) -> tuple[str, float, float | None]:
    """Recording, start and end in seconds of a line of segments; -1 is the end of the recording."""
    parts = rest.split()
    if len(parts) not in (3, 4):
        raise InputError(
            f"{place}: the line has {len(parts) + 1} columns; write utterance, recording, start and end in seconds."
        )
    if len(parts) == 4 and parts[3] not in ("0", "1"):
        raise InputError(f"{place}: the channel is {shown(parts[3])}; leave it out, one recording a channel.")
    try:
        start_s, end_s = float(parts[1]), float(parts[2])
    except ValueError:
        raise InputError(f"{place}: {shown(' '.join(parts[1:3]))} are no times; write seconds.") from None
    if not (math.isfinite(start_s) and math.isfinite(end_s)) or start_s < 0:
        raise InputError(
            f"{place}: utterance {shown(name)} goes from {start_s:g} to {end_s:g} s; write finite seconds."
        )
    if end_s != -1 and end_s <= start_s:
        raise InputError(
            f"{place}: utterance {shown(name)} goes from {start_s:g} to {end_s:g} s; it must end after it starts."
        )
    return parts[0], start_s, None if end_s == -1 else end_s


class _Facts:
    """The tables of a directory that say something of an utterance or a speaker."""

    def __init__(self, folder: Path) -> None:
        def mapping(name: str) -> dict[str, str] | None:
            path = folder / name
            return {key: rest for key, rest, _ in _table(path)} if path.exists() else None

        self._folder = printable(folder.name)
        self._needed = {"text": mapping("text"), "utt2spk": mapping("utt2spk")}
        self._lang = mapping("utt2lang") or {}
        self._gender = mapping("utt2gender") or {}
        self._gender_of_speaker = mapping("spk2gender") or {}

    def of(self, utterance: str) -> dict[str, Any]:
        """Fields of the segment of an utterance."""
        known: dict[str, str | None] = {}
        for table, values in self._needed.items():
            if values is not None and utterance not in values:
                raise InputError(
                    f"{self._folder}/{table} has no line for the utterance {shown(utterance)}; add it or run {_FIX}."
                )
            known[table] = None if values is None else values[utterance]
        speaker = known["utt2spk"] or None
        gender = self._gender.get(utterance) or (self._gender_of_speaker.get(speaker) if speaker else None)
        lang = self._lang.get(utterance) or None
        return {"text": known["text"] or "", "speaker": speaker, "gender": gender, "lang": lang}

    def require_all_used(self, utterances: set[str]) -> None:
        """InputError for a text or speaker of an utterance that does not exist."""
        for table, values in self._needed.items():
            unused = next((name for name in values or {} if name not in utterances), None)
            if unused is not None:
                raise InputError(
                    f"{self._folder}/{table} has a line for {shown(unused)}, which is no utterance; remove it or run "
                    f"{_FIX}."
                )


def _table(path: Path) -> Iterator[tuple[str, str, str]]:
    """(id, rest of the line, place) of each line; InputError for what is not UTF-8, too long, or comes twice."""
    if not path.is_file():
        raise InputError(f"{printable(str(path))} is not a regular file; restore it.")
    seen: set[str] = set()
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            place = f"{printable(path.parent.name)}/{path.name}:{number}"
            if len(line) > MAX_LINE_BYTES:
                raise InputError(f"{place}: the line is longer than {MAX_LINE_BYTES:,} bytes; write one id a line.")
            words = decoded(line, place).split(maxsplit=1)
            if not words:
                continue
            name, rest = words[0], "".join(words[1:])
            if name in seen:
                raise InputError(f"{place}: the id {shown(name)} comes twice; remove one line.")
            seen.add(name)
            yield name, rest.strip(), place
    if not seen:
        raise InputError(f"{printable(path.parent.name)}/{path.name} has no lines; restore it.")
