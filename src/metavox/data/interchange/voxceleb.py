"""VoxCeleb1: ``wav/id10001/<video>/00001.wav`` and ``vox1_meta.csv`` (Nagrani et al. 2017, arXiv:1706.08612)."""

import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

from ...contracts import InputError
from ..layouts import printable, shown
from .clips import Clips, TableRow, read_table, recordings_below
from .segments import Counted, Options, Segment

META = "vox1_meta.csv"
SPEAKER, GENDER, NATIONALITY, SET = COLUMNS = ("VoxCeleb1 ID", "Gender", "Nationality", "Set")
PARTS = {"dev": "train", "test": "test"}
"""Sets of the table -> what they are called here: ``dev`` is what one develops on, 1,211 speakers of 1,251."""
_ID = re.compile(r"id\d{5}")
_GENDERS = {"m": "male", "f": "female"}


def is_voxceleb(path: Path) -> bool:
    """Whether a folder holds speakers ``wav/id10001``, or the table of them."""
    return path.is_dir() and ((path / META).is_file() or bool(_speakers(path)))


def _speakers(path: Path) -> dict[str, list[str]]:
    """Speaker -> their folders relative to ``path``: in ``wav``, or in ``dev/wav`` and ``test/wav`` as unpacked."""
    found: dict[str, list[str]] = {}
    inner = sorted(child.name for child in path.iterdir() if child.is_dir() and not _ID.fullmatch(child.name))
    for place in ("", *inner, *(f"{name}/wav" for name in inner)):
        if not (path / place).is_dir():
            continue
        for name in sorted(os.listdir(path / place)):
            if _ID.fullmatch(name) and (path / place / name).is_dir():
                found.setdefault(name, []).append(os.path.normpath(os.path.join(place, name)))
    return found


def read_voxceleb(path: Path, options: Options) -> Iterator[Segment]:
    """Segments of VoxCeleb1: who speaks, their gender, and their nationality as the accent; what is said is not known.

    Parts are the sets of the table (``PARTS``). The language is unknown unless ``--lang`` says it.

    Raises:
        InputError: no speakers, no table or one without its columns, a speaker who is not in it, no such part.
    """
    speakers = _speakers(path) if path.is_dir() else {}
    if not speakers:
        raise InputError(f"{printable(str(path))} has no wav/id10001/<video>/00001.wav; name the unpacked folder.")
    wanted = None if options.split is None else PARTS.get(options.split.lower(), options.split.lower())
    if wanted is not None and wanted not in PARTS.values():
        raise InputError(f"There is no part {shown(options.split)}; choose one of {', '.join(PARTS)}.")
    table = path / META
    if not table.is_file():
        raise InputError(
            f"{printable(str(path))} has no {META}; download it from the page of VoxCeleb into that folder."
        )
    people = {row.needed(SPEAKER): row for row in read_table(table, COLUMNS, tabs=_has_tabs(table))}
    unknown = next((name for name in speakers if name not in people), None)
    if unknown is not None:
        raise InputError(f"{META} has no row for {unknown}; download the whole table, which is that of VoxCeleb1.")
    parts = {name: _part(people[name]) for name in speakers}
    kept = {name: folders for name, folders in speakers.items() if wanted in (None, parts[name])}
    n_clips = sum(len(_clips(path, folder)) for folders in kept.values() for folder in folders)
    if not n_clips:
        raise InputError(f"{printable(str(path))} has no WAV in the part {shown(options.split)}; unpack its archive.")
    return Counted(_read(path, kept, people, options), n_clips)


def _has_tabs(table: Path) -> bool:
    """It is called .csv and was published with tabs; copies with commas go around."""
    with table.open("rb") as file:
        return b"\t" in file.readline(1000)


def _part(row: TableRow) -> str:
    name = row.needed(SET).lower()
    if name not in PARTS:
        raise InputError(f"{row.place}: {SET} is {shown(name)}, and there are {', '.join(PARTS)}; correct the row.")
    return PARTS[name]


def _clips(path: Path, folder: str) -> list[str]:
    """Recordings of a speaker, video by video."""
    videos = sorted(name for name in os.listdir(path / folder) if (path / folder / name).is_dir())
    return [clip for video in videos for clip in recordings_below(path, f"{folder}/{video}")]


def _read(
    path: Path, speakers: dict[str, list[str]], people: dict[str, TableRow], options: Options
) -> Generator[Segment, None, None]:
    clips = Clips(path)
    for name, folders in speakers.items():
        row = people[name]
        gender = (row.first(GENDER) or "").lower()
        for folder in folders:
            for clip in _clips(path, folder):
                yield Segment(
                    id=f"{name}/{os.path.splitext(clip.removeprefix(folder + '/'))[0]}",
                    audio=clips.find(clip, printable(name)),
                    speaker=name,
                    lang=options.lang,
                    accent=row.first(NATIONALITY),
                    gender=_GENDERS.get(gender, gender) or None,
                    split=options.split or _part(row),
                )
