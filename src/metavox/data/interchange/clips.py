"""What a downloaded corpus may name and say: recordings inside its own folder, tables and texts of bounded size."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...contracts import InputError
from ..layouts import Defect, Scan, printable, shown
from .rows import decoded

MAX_LINE_BYTES = 1_000_000
MAX_TEXT_BYTES = 200_000_000
"""An annotation file is held in memory as a whole; a day of annotated speech has a few megabytes."""

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".snd", ".caf", ".w64")

SPLIT_NAMES = {"dev": "validation", "valid": "validation", "val": "validation", "eval": "test", "testing": "test"}
"""What corpora call their parts -> what they are called here."""


def split_name(name: str) -> str:
    """The name of a part in lower case, ``validation`` for what is also called dev, valid or val."""
    return SPLIT_NAMES.get(name.strip().lower(), name.strip().lower())


class Clips:
    """The recordings of a corpus folder: a name that leaves the folder, by ``..`` or by a link, is refused."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = Scan(root).folder

    def find(self, relative: str, place: str) -> Path:
        """The path of a recording, resolved; one that is not there is returned too, since it costs but itself.

        Raises InputError, after ``place``, for a name that is none, is absolute or leaves the folder.
        """
        try:
            return Path(self._folder.real_file(relative)[0])
        except Defect as defect:
            if defect.kind == "file":
                return Path(os.path.abspath(self.root / relative))
            raise InputError(f"{place}: {defect.message}; {defect.remedy}.") from None

    def holds(self, relative: str) -> bool:
        """Whether ``find`` would find it."""
        try:
            return self._folder.real_file(relative)[1] > 0
        except Defect:
            return False


def recordings_below(root: Path, folder: str) -> list[str]:
    """Names, relative to ``root``, of the audio directly in one of its folders, sorted."""
    names = sorted(os.listdir(root / folder))
    return [f"{folder}/{name}" for name in names if not name.startswith(".") and name.lower().endswith(AUDIO_SUFFIXES)]


def require_decoder(kind: str) -> None:
    """InputError where the installed libsndfile cannot decode ``MP3`` or ``OPUS``."""
    import soundfile

    if kind not in soundfile.available_formats() and kind not in soundfile.available_subtypes("OGG"):
        raise InputError(
            f"libsndfile {soundfile.__libsndfile_version__} cannot decode {kind.lower()}; install soundfile 0.13 or "
            "later from PyPI, which brings libsndfile 1.2."
        )


def read_text(path: Path) -> bytes:
    """A whole file of annotations; InputError for one that is no regular file, empty or too large."""
    name = printable(path.name)
    if not path.is_file():
        raise InputError(f"{printable(str(path))} is not a regular file; name the file itself.")
    n_bytes = path.stat().st_size
    if n_bytes > MAX_TEXT_BYTES:
        raise InputError(f"{name} has {n_bytes:,} bytes, at most {MAX_TEXT_BYTES:,} are read; split the file.")
    if n_bytes == 0:
        raise InputError(f"{name} is empty; save it again.")
    return path.read_bytes()


# ------------------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a table and where it stands."""

    place: str
    values: dict[str, str]

    def first(self, *columns: str) -> str | None:
        """The first of these columns that is there and not blank, stripped."""
        return next((value for column in columns if (value := self.values.get(column, "").strip())), None)

    def needed(self, *columns: str) -> str:
        """As ``first``; InputError where there is none."""
        value = self.first(*columns)
        if value is None:
            raise InputError(f"{self.place}: {columns[0]} is empty; correct the row or remove it.")
        return value


def read_table(
    path: Path, needed: Sequence[str], *, quoted: bool = True, tabs: bool | None = None, header: Sequence[str] = ()
) -> Iterator[TableRow]:
    """Rows of a table: tab-separated where the name ends in ``.tsv`` or ``tabs`` says so, else comma-separated.

    ``quoted=False`` takes quotation marks as they stand, as in the tables of Common Voice. ``header`` names the columns
    of a table whose first line is a row already.

    Raises InputError for a header without one of ``needed``, a column that comes twice, a row with more or fewer
    cells, a line of more than 1 MB, NUL bytes, or text that is not UTF-8.
    """
    name = printable(path.name)
    rows = csv.reader(
        _lines(path),
        delimiter="\t" if (path.suffix.lower() == ".tsv" if tabs is None else tabs) else ",",
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=quoted,
    )
    try:
        said = "table" if header else "header"
        header = list(header) or [column.strip() for column in next(rows, [])]
        missing = [column for column in needed if column not in header]
        if missing:
            raise InputError(
                f"{name} has no column {missing[0]} in its header ({shown(', '.join(header))}); restore the header."
            )
        if len(set(header)) < len(header):
            twice = next(column for column in header if header.count(column) > 1)
            raise InputError(f"{name} has the column {shown(twice)} twice; remove one.")
        for cells in rows:
            if not cells:
                continue
            place = f"{name}:{rows.line_num}"
            if len(cells) != len(header):
                raise InputError(f"{place}: the row has {len(cells)} cells and the {said} {len(header)}; correct it.")
            yield TableRow(place, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise InputError(f"{name}:{rows.line_num}: no table row ({error}); correct it.") from None


def count_lines(path: Path) -> int:
    """Lines of a file that are not the header: about how many rows a table has."""
    with path.open("rb") as file:
        n_lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return max(0, n_lines - 1)


def _lines(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise InputError(f"{printable(str(path))} is not a regular file; name a table.")
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            place = f"{printable(path.name)}:{number}"
            if len(line) > MAX_LINE_BYTES:
                raise InputError(f"{place}: the line is longer than {MAX_LINE_BYTES:,} bytes; write one clip a line.")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if b"\0" in line:
                raise InputError(f"{place}: the line holds NUL bytes; save the table as UTF-8 text.")
            yield decoded(line, place)
