"""FLEURS as its repository holds it: ``sw_ke/train.tsv`` beside ``sw_ke/audio/train.tar.gz`` (Conneau et al. 2022,
arXiv:2205.12446). The archives are read as they are; unpacked beside themselves they are read too.
"""

import tarfile
import zlib
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from ...contracts import InputError
from ...text.languages import primary
from ..layouts import printable, shown
from .clips import AUDIO_SUFFIXES, Clips, TableRow, read_table, split_name
from .common_voice import gender_of
from .segments import Counted, Options, Segment
from .tars import copy_member, next_file

PARTS = ("train", "dev", "test")
COLUMNS = ("id", "file_name", "raw_transcription", "transcription", "letters", "n_samples", "gender")
"""The tables have no header."""
_ARCHIVES = (".tar.gz", ".tar")


def is_fleurs(path: Path) -> bool:
    """Whether a folder is one language of FLEURS, or holds such folders."""
    return bool(_languages(path))


def _languages(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    folders = [path, *sorted(child for child in path.iterdir() if child.is_dir())]
    return [folder for folder in folders if any(_audio(folder, part) is not None for part in PARTS)]


def _audio(folder: Path, part: str) -> Path | None:
    """The archive of a part, or the folder it was unpacked to."""
    archives = [folder / "audio" / f"{part}{ending}" for ending in _ARCHIVES]
    folders = [folder / "audio" / part, folder / part]
    there = [place for place in folders if place.is_dir() and (folder / f"{part}.tsv").is_file()]
    return next((place for place in [*there, *archives] if place.is_dir() or place.is_file()), None)


def read_fleurs(path: Path, options: Options) -> Iterator[Segment]:
    """Segments of one language of FLEURS, or of a folder of languages, part by part.

    The text is the published transcription (small letters, no punctuation), which published figures are computed on.
    The language is that of the folder's name, ``sw`` of ``sw_ke``; FLEURS names no speakers. Recordings that no row
    names are left out, and their number announced; a row whose recording is missing costs only itself.

    Raises:
        InputError: no audio, a part without its table, another table, an archive that is damaged or holds a link.
    """
    folders = _languages(path)
    if not folders:
        raise InputError(
            f"{printable(str(path))} has no audio/train.tar.gz beside a train.tsv; name the folder of a language, such "
            "as fleurs/data/sw_ke."
        )
    wanted = [part for part in PARTS if options.split is None or split_name(part) == split_name(options.split)]
    if not wanted:
        raise InputError(f"There is no part {shown(options.split)}; choose one of {', '.join(PARTS)}.")
    plan: list[tuple[Path, dict[str, Segment]]] = []
    for folder in folders:
        prefix = f"{folder.name}/" if len(folders) > 1 else ""
        for part in wanted:
            audio = _audio(folder, part)
            if audio is not None:
                plan.append((audio, _rows(folder, part, audio, options, prefix)))
            elif (folder / f"{part}.tsv").is_file() and options.split is not None:
                raise InputError(f"{printable(folder.name)} has no audio/{part}.tar.gz; download it beside its table.")
    if not plan:
        raise InputError(f"{printable(str(path))} has no part {shown(options.split)}; download it or choose another.")
    return Counted(_read(plan, options), sum(len(rows) for _, rows in plan))


def _rows(folder: Path, part: str, audio: Path, options: Options, prefix: str) -> dict[str, Segment]:
    """Name of each recording of a part -> its segment, in the order of the table."""
    table = folder / f"{part}.tsv"
    if not table.is_file():
        raise InputError(
            f"{printable(folder.name)} has the audio of {part} and no {part}.tsv; download the table beside it."
        )
    clips = Clips(folder)
    where = audio if audio.is_dir() else folder / "audio" / part
    lang = options.lang or primary(folder.name) or None
    found: dict[str, Segment] = {}
    n_again = 0
    for row in read_table(table, (), quoted=False, header=COLUMNS):
        name = _file_name(row)
        segment = Segment(
            id=f"{prefix}{part}/{PurePosixPath(name).stem}",
            audio=clips.find(f"{where.relative_to(folder)}/{name}", row.place),
            text=row.first("transcription", "raw_transcription") or "",
            lang=lang,
            gender=gender_of(row.first("gender")),
            split=options.split or split_name(part),
        )
        n_again += found.setdefault(name, segment) is not segment
    if not found:
        raise InputError(f"{printable(table.name)} has no rows; download it again.")
    if n_again and options.announce is not None:
        options.announce(f"Left out because a row above names the same recording: {n_again:,} rows of {part}.tsv.")
    return found


def _file_name(row: TableRow) -> str:
    """The recording of a row, once the columns are those of FLEURS."""
    name, n_samples = row.needed("file_name"), row.needed("n_samples")
    if not name.lower().endswith(AUDIO_SUFFIXES) or not n_samples.isdecimal():
        raise InputError(
            f"{row.place}: column 2 is {shown(name)} and column 6 {shown(n_samples)}, and they must be a recording and "
            "its number of samples; use the table as it was published."
        )
    return name


def _read(plan: list[tuple[Path, dict[str, Segment]]], options: Options) -> Generator[Segment, None, None]:
    for audio, rows in plan:
        if audio.is_dir():
            yield from rows.values()
        else:
            yield from _of_archive(audio, rows, options)


def _of_archive(audio: Path, rows: dict[str, Segment], options: Options) -> Generator[Segment, None, None]:
    """Segments in the order of the archive, each unpacked until the next is asked for; then those that it lacks."""
    place, waiting, n_unnamed = printable(audio.name), dict(rows), 0
    with TemporaryDirectory(prefix="metavox-import-") as folder:
        file = Path(folder)
        try:
            with tarfile.open(audio, "r:gz" if audio.suffix == ".gz" else "r:") as tar:
                while (member := next_file(tar, place, "download it again", skip_folders=True)) is not None:
                    name = PurePosixPath(member.name).name
                    segment = waiting.pop(name, None)
                    if segment is None:
                        n_unnamed += not name.startswith(".")
                        continue
                    file = Path(folder) / str(len(waiting))
                    with file.open("wb") as out:
                        copy_member(tar, member, out)
                    yield replace(segment, audio=file, origin=f"{place}, {printable(name)}")
                    file.unlink(missing_ok=True)
        except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{place} is no whole tar file ({error}); download it again.") from None
    for name, segment in waiting.items():
        yield replace(segment, origin=f"{place}, {printable(name)}")
    if n_unnamed and options.announce is not None:
        options.announce(f"Left out because no row of the table names them: {n_unnamed:,} recordings of {place}.")
