"""Multilingual Spoken Words: ``clips/<word>/*.opus`` and ``<lang>_splits.csv`` (Mazumder et al. 2021, NeurIPS D&B)."""

import os
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath

from ...contracts import InputError
from ..layouts import printable, shown
from .clips import Clips, TableRow, count_lines, read_table, recordings_below, require_decoder, split_name
from .common_voice import gender_of, speaker_of
from .segments import Counted, Options, Segment

_PARTS = ("train", "dev", "test")


def is_mswc(path: Path) -> bool:
    """Whether a folder is one language of the corpus, or holds such folders."""
    return bool(_languages(path))


def _languages(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return [f for f in (path, *sorted(child for child in path.iterdir() if child.is_dir())) if _is_language(f)]


def _is_language(folder: Path) -> bool:
    clips = folder / "clips"
    if not clips.is_dir():
        return False
    if _table(folder) is not None:
        return True
    words = (child for child in sorted(clips.iterdir()) if child.is_dir() and not child.name.startswith("."))
    return any(name.endswith(".opus") for word in list(words)[:3] for name in os.listdir(word))


def _table(folder: Path) -> Path | None:
    names = (f"{folder.name}_splits.csv", "splits.csv")
    found = [folder / name for name in names] + sorted(folder.glob("*_splits.csv"))
    return next((table for table in found if table.is_file()), None)


def read_mswc(path: Path, options: Options) -> Iterator[Segment]:
    """Segments of the Spoken Words, of one language or of a folder of languages; the word is label and text.

    Clips that the table marks as not valid (their alignment is an outlier) are left out, and their number announced.
    Without a table every clip of every word folder is read, and nothing is known of speakers and parts. The language
    is the name of the folder.

    Raises:
        InputError: no clips, no such part, a table without its columns, a clip that leaves the folder.
    """
    folders = _languages(path)
    if not folders:
        raise InputError(
            f"{printable(str(path))} has no clips/<word>/*.opus; name the folder of a language, such as mswc/en."
        )
    require_decoder("OPUS")
    tables = {folder: _table(folder) for folder in folders}
    if options.split is not None:
        without = [folder.name for folder, table in tables.items() if table is None]
        if split_name(options.split) not in {split_name(part) for part in _PARTS} or without:
            where = f"{shown(without[0])} has no table of parts" if without else "parts are train, dev and test"
            raise InputError(f"There is no part {shown(options.split)}: {where}; leave --split out or correct it.")
    n_clips = sum(count_lines(table) if table else _count_clips(folder) for folder, table in tables.items())
    return Counted(_read(tables, options), n_clips)


def _count_clips(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder / "clips"))


def _read(tables: dict[Path, Path | None], options: Options) -> Generator[Segment, None, None]:
    left_out: Counter[str] = Counter()
    for folder, table in tables.items():
        lang = folder.name if table is None or not table.name.endswith("_splits.csv") else table.name[:-11]
        clips, prefix = Clips(folder), f"{folder.name}/" if len(tables) > 1 else ""
        if table is None:
            yield from _of_folders(folder, clips, options.lang or lang, prefix)
            continue
        for row in read_table(table, ("SET", "LINK", "WORD")):
            part = split_name(row.needed("SET"))
            if options.split is not None and part != split_name(options.split):
                continue
            if (row.first("VALID") or "").lower() == "false":
                left_out[lang] += 1
                continue
            yield _of_row(row, clips, options.split or part, lang, prefix)
    if left_out and options.announce is not None:
        n_left_out = sum(left_out.values())
        options.announce(f"Left out because the tables mark them as not valid: {n_left_out:,} clips.")


def _of_row(row: TableRow, clips: Clips, split: str, lang: str, prefix: str) -> Segment:
    link, word, speaker = row.needed("LINK"), row.needed("WORD"), row.first("SPEAKER")
    return Segment(
        id=f"{prefix}{PurePosixPath(link).with_suffix('')}",
        audio=clips.find(f"clips/{link}", row.place),
        text=word,
        label=word,
        speaker=speaker_of(speaker) if speaker and speaker.upper() != "NAN" else None,
        lang=lang,
        gender=gender_of(row.first("GENDER")),
        split=split,
    )


def _of_folders(folder: Path, clips: Clips, lang: str, prefix: str) -> Iterator[Segment]:
    for word in sorted(os.listdir(folder / "clips")):
        if word.startswith(".") or not (folder / "clips" / word).is_dir():
            continue
        for name in recordings_below(folder, f"clips/{word}"):
            relative = name.removeprefix("clips/")
            audio = clips.find(name, printable(folder.name))
            yield Segment(f"{prefix}{PurePosixPath(relative).with_suffix('')}", audio, text=word, label=word, lang=lang)
