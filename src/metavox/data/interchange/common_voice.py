"""Common Voice: ``clips/*.mp3`` and a table for each part (Ardila et al. 2020, arXiv:1912.06670)."""

import hashlib
import re
from collections.abc import Generator, Iterator
from pathlib import Path

from ...contracts import InputError
from ..layouts import printable, shown
from .clips import Clips, TableRow, count_lines, read_table, require_decoder, split_name
from .segments import Counted, Options, Segment

TABLES = ("train", "dev", "test", "validated", "other", "invalidated")
_PARTS = ("train", "dev", "test")
"""What is read unless something else is asked for: speakers and sentences apart, as the corpus was published."""

_GENDERS = {"male_masculine": "male", "female_feminine": "female", "do_not_wish_to_say": None, "nan": None}
_HASH = re.compile(r"[0-9a-f]{32,}")
_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Za-z]{2,4})?")
_SINGLE_WORD = re.compile(r"benchmark|single\W?word", re.I)


def speaker_of(client_id: str) -> str:
    """A short id that is the same wherever the same contributor appears, in the Spoken Words too.

    The first 16 digits of the published hash; what is no such hash is kept, or hashed itself where it is long.
    """
    if _HASH.fullmatch(client_id):
        return client_id[:16]
    return client_id if len(client_id) <= 32 else hashlib.sha256(client_id.encode()).hexdigest()[:16]


def gender_of(value: str | None) -> str | None:
    """``male``, ``female`` or another word in lower case, for the names of all releases; None where it is not said."""
    known = (value or "").strip().lower()
    return _GENDERS.get(known, known or None)


def is_common_voice(path: Path) -> bool:
    """Whether a folder is one language of Common Voice, or holds such folders."""
    return bool(_languages(path))


def _languages(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    folders = [path, *sorted(child for child in path.iterdir() if child.is_dir())]
    return [f for f in folders if (f / "clips").is_dir() and any((f / f"{name}.tsv").is_file() for name in TABLES)]


def read_common_voice(path: Path, options: Options) -> Iterator[Segment]:
    """Segments of a release of Common Voice, of one language or of a folder of languages.

    Train, dev and test are read, or ``validated`` where a release has none of the three; ``--split`` takes any table.
    A sentence of the single-word target segment becomes the label as well.

    Raises:
        InputError: no table of that name, a table without its columns, a clip that leaves the folder.
    """
    folders = _languages(path)
    if not folders:
        raise InputError(
            f"{printable(str(path))} has no clips with a train.tsv or validated.tsv; name the folder of a language."
        )
    tables = [table for folder in folders for table in _tables(folder, options.split)]
    if not tables:
        there = sorted({table.stem for folder in folders for table in folder.glob("*.tsv")} & set(TABLES))
        raise InputError(
            f"{printable(str(path))} has no table of the part {shown(options.split)}; choose {', '.join(there)}."
        )
    require_decoder("MP3")
    return Counted(_read(tables, options), sum(map(count_lines, tables)))


def _tables(folder: Path, split: str | None) -> list[Path]:
    if split is None:
        names = [name for name in _PARTS if (folder / f"{name}.tsv").is_file()] or ["validated"]
    else:
        names = [name for name in TABLES if split_name(name) == split_name(split)]
    return [table for name in names if (table := folder / f"{name}.tsv").is_file()]


def _read(tables: list[Path], options: Options) -> Generator[Segment, None, None]:
    several = len({table.parent for table in tables}) > 1
    for table in tables:
        folder = table.parent
        clips = Clips(folder)
        locale = options.lang or (folder.name if _LOCALE.fullmatch(folder.name) else None)
        for row in read_table(table, ("client_id", "path", "sentence"), quoted=False):
            yield _segment(
                row, clips, options.split or split_name(table.stem), locale, f"{folder.name}/" if several else ""
            )


def _segment(row: TableRow, clips: Clips, split: str, locale: str | None, prefix: str) -> Segment:
    name = row.needed("path")
    if not Path(name).suffix:  # the first releases left it out
        name += ".mp3"
    text = row.first("sentence") or ""
    single = bool(_SINGLE_WORD.search(row.first("segment") or "")) and text != ""
    client_id = row.first("client_id")
    return Segment(
        id=prefix + Path(name).stem,
        audio=clips.find(f"clips/{name}", row.place),
        text=text,
        label=text if single else None,
        speaker=speaker_of(client_id) if client_id else None,
        lang=row.first("locale") or locale,
        accent=row.first("accents", "accent", "variant"),
        gender=gender_of(row.first("gender")),
        age=row.first("age"),
        split=split,
    )
