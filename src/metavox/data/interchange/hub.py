"""Data sets of the Hugging Face Hub, by id or as a folder: audio with a metadata table, Parquet, or a folder a class.

Only data is read. A loading script is never run, a pickle never opened, an archive never unpacked.
"""

import json
import os
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from ...contracts import InputError
from ..layouts import printable, shown
from .clips import AUDIO_SUFFIXES, Clips, read_table, split_name
from .rows import read_rows
from .segments import Options, Segment

PREFIX = "hf:"
METADATA = ("metadata.csv", "metadata.jsonl")

COLUMNS: dict[str, tuple[str, ...]] = {
    "text": ("transcription", "text", "sentence", "transcript", "normalized_text", "raw_transcription"),
    "label": ("label", "word", "keyword", "command"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "lang": ("lang", "language", "locale"),
    "accent": ("accent", "accents", "dialect"),
    "gender": ("gender", "sex"),
    "age": ("age",),
}
"""Fact of a segment -> names of the column it is taken from; the first that is there and filled."""
_FILE_COLUMNS = ("file_name", "audio_file_name", "audio", "path")
_SPLIT = re.compile(r"(?:^|[-._ ])(train|training|dev|val|valid|validation|test|testing|eval)(?:[-._ ]|$)", re.I)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip", ".7z", ".rar")
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib")


def is_hub(path: Path) -> bool:
    """Whether a path is ``hf:owner/name``, or a folder of a data set with metadata or Parquet files."""
    return str(path).startswith(PREFIX) or (
        path.is_dir() and any(name.endswith((*METADATA, ".parquet")) for name in _names(path))
    )


def read_hub(path: Path, options: Options) -> Iterator[Segment]:
    """Segments of a data set: ``hf:owner/name``, ``hf:owner/name@revision``, or a folder as it was downloaded.

    Read are, in this order: ``metadata.csv`` and ``metadata.jsonl`` with their ``file_name``; else Parquet files with
    audio inside them (extra ``hub``); else audio in folders, which are the classes where there are at least two. Facts
    come from columns by their usual names (``COLUMNS``), the part from a column ``split`` or from the name of
    the folder or file.

    Raises:
        InputError: an id that cannot be downloaded, a data set made of a script, pickles or archives, a row whose
            recording leaves the folder, a table or Parquet file that cannot be read.
    """
    name = str(path)
    root = _download(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else path
    if isinstance(root, InputError):
        raise root
    if not root.is_dir():
        raise InputError(f"{printable(name)} is no folder; name the folder of a data set, or hf:owner/name.")
    segments = _read(root, options)
    return segments if options.split is None else _of_split(segments, options.split, printable(name))


def _of_split(segments: Iterator[Segment], split: str, name: str) -> Generator[Segment, None, None]:
    others: set[str] = set()
    empty = True
    for segment in segments:
        if segment.split == split_name(split):
            empty = False
            yield replace(segment, split=split)
        else:
            others.add(segment.split or "none")
    if empty:
        raise InputError(f"{name} has no recordings in the part {shown(split)}; there are {', '.join(sorted(others))}.")


def _names(root: Path) -> list[str]:
    """Files of a folder by their relative path, sorted; hidden ones are left out."""
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = os.path.relpath(folder, root)
        found += [os.path.normpath(os.path.join(here, name)) for name in sorted(files) if not name.startswith(".")]
    return [name.replace(os.sep, "/") for name in found]


def _read(root: Path, options: Options) -> Iterator[Segment]:
    names = _names(root)
    clips = _SnapshotClips(root)
    if tables := [name for name in names if PurePosixPath(name).name in METADATA]:
        return _of_metadata(root, tables, clips, options)
    if parquets := [name for name in names if name.endswith(".parquet")]:
        return _of_parquet(root, parquets, clips, options)
    if recordings := [name for name in names if name.lower().endswith(AUDIO_SUFFIXES)]:
        return _of_folders(recordings, clips, options)
    raise _no_data(names, printable(str(root)))


def _no_data(names: list[str], where: str) -> InputError:
    if any(name.lower().endswith(_PICKLES) for name in names):
        return InputError(
            f"{where} holds pickles, and reading one runs the code of whoever wrote it, so they are never read; export "
            "the data set as audio with a metadata.csv."
        )
    if any(name.endswith(".py") for name in names):
        return InputError(
            f"{where} is made by a loading script, which is never run; use its Parquet export (revision "
            "refs/convert/parquet) or export it as audio with a metadata.csv."
        )
    if any(name.lower().endswith(_ARCHIVES) for name in names):
        return InputError(f"{where} holds archives only; unpack them and name the folder.")
    return InputError(
        f"{where} has no metadata.csv, metadata.jsonl, Parquet or audio files; name a data set of speech."
    )


class _SnapshotClips(Clips):
    """A folder; where it is a snapshot in the cache of the Hub, links to the blobs beside it stay inside, too."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        absolute = Path(os.path.abspath(root))
        self._blobs = absolute.parent.parent / "blobs" if absolute.parent.name == "snapshots" else None

    def find(self, relative: str, place: str) -> Path:
        """As ``Clips.find``."""
        parts = PurePosixPath(relative)
        if self._blobs is not None and "\0" not in relative and not parts.is_absolute() and ".." not in parts.parts:
            real = Path(os.path.realpath(self.root / relative))
            if real.parent == Path(os.path.realpath(self._blobs)) and real.is_file() and real.stat().st_size:
                return real
        return super().find(relative, place)


# -------------------------------------------------------------------------------------------------------------- facts


def _facts(row: Mapping[str, Any], place: str, classes: Mapping[str, list[str]], options: Options) -> dict[str, Any]:
    """The facts of a row by the usual names of its columns; numbers that stand for classes get their names."""
    facts: dict[str, Any] = {}
    for fact, columns in COLUMNS.items():
        for column in columns:
            value = row.get(column)
            names = classes.get(column)
            if names is not None and isinstance(value, int) and not isinstance(value, bool):
                if not 0 <= value < len(names):
                    continue  # -1 says that it is not known
                value = names[value]
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                continue
            text = f"{value:g}" if isinstance(value, float) else str(value).strip()
            if text and text != "nan":
                facts[fact] = text
                break
    if "\0" in "".join(facts.values()):
        raise InputError(f"{place}: the row holds NUL characters; correct it.")
    facts.setdefault("text", facts.get("label", ""))
    if options.lang is not None:
        facts.setdefault("lang", options.lang)
    split = row.get("split")
    if isinstance(split, str) and split.strip():
        facts["split"] = split_name(split)
    return facts


def _split_of(relative: str) -> str | None:
    """The part that a folder, or a Parquet file such as ``train-00000-of-00001.parquet``, is named after."""
    parts = PurePosixPath(relative)
    for part in reversed(parts.parts):
        if match := _SPLIT.search(part):
            return split_name({"training": "train"}.get(match[1].lower(), match[1]))
    return None


# ----------------------------------------------------------------------------------------------------------- metadata


def _of_metadata(root: Path, tables: list[str], clips: Clips, options: Options) -> Generator[Segment, None, None]:
    for name in tables:
        folder = PurePosixPath(name).parent
        for place, row in _table_rows(root / name, name):
            column = next((key for key in _FILE_COLUMNS if isinstance(row.get(key), str)), None)
            if column is None:
                raise InputError(f"{place}: there is no file_name; add the column to the metadata.")
            relative = os.path.normpath(folder / row[column].strip())
            audio = clips.find(relative, place)
            facts = {"split": _split_of(str(PurePosixPath(relative).parent))} | _facts(row, place, {}, options)
            yield Segment(os.path.splitext(relative)[0], audio, **facts)


def _table_rows(path: Path, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    folder = printable(name.removesuffix(path.name))
    try:
        for row in read_table(path, ()) if path.suffix == ".csv" else read_rows(path):
            yield f"{folder}{row.place}", row.values
    except InputError as error:
        raise InputError(f"{folder}{error}") from None


def _of_folders(recordings: list[str], clips: Clips, options: Options) -> Generator[Segment, None, None]:
    folders = {str(PurePosixPath(name).parent.name) for name in recordings}
    classes = {folder for folder in folders if folder and not _SPLIT.fullmatch(folder)}
    labelled = len(classes) > 1 and classes == folders
    for name in recordings:
        folder = PurePosixPath(name).parent
        label = folder.name if labelled else None
        audio = clips.find(name, printable(name))
        split = _split_of(str(folder.parent if labelled else folder))
        yield Segment(os.path.splitext(name)[0], audio, text=label or "", label=label, lang=options.lang, split=split)


# ------------------------------------------------------------------------------------------------------------ Parquet


def _of_parquet(root: Path, names: list[str], clips: Clips, options: Options) -> Generator[Segment, None, None]:
    try:
        import pyarrow  # type: ignore[import-not-found,unused-ignore]
        from pyarrow import parquet
    except ImportError:
        raise InputError('Parquet files need pyarrow, which is not installed; pip install "metavox[hub]".') from None

    with TemporaryDirectory(prefix="metavox-import-") as folder:
        files = map(Path(folder).joinpath, map(str, count()))
        for name in names:
            try:
                with parquet.ParquetFile(clips.find(name, printable(name))) as file:
                    column, classes = _audio_column(file.schema_arrow, printable(name)), _classes(file.schema_arrow)
                    wanted = {column, "split", *(c for columns in COLUMNS.values() for c in columns)}
                    columns = [c for c in file.schema_arrow.names if c in wanted]
                    number = 0
                    for batch in file.iter_batches(batch_size=16, columns=columns):
                        for row in batch.to_pylist():
                            number += 1
                            place = f"{printable(name)}, row {number}"
                            facts = {"split": _split_of(name)} | _facts(row, place, classes, options)
                            audio, made = _audio_of(row[column], next(files), clips, place)
                            yield Segment(f"{os.path.splitext(name)[0]}/{number}", audio, origin=place, **facts)
                            made.unlink(missing_ok=True)
            except (pyarrow.ArrowException, OSError) as error:
                reason = printable(" ".join(str(error).split()))[:120]
                raise InputError(f"{printable(name)} is no whole Parquet file ({reason}); download it again.") from None


def _audio_column(schema: Any, name: str) -> str:
    """The column of recordings: a struct with ``bytes``, called audio where there are several."""
    found = [
        field.name
        for field in schema
        if str(field.type).startswith("struct<") and field.type.get_field_index("bytes") >= 0
    ]
    if not found:
        raise InputError(
            f"{name} has no column of audio (a struct with bytes and path) among {shown(', '.join(schema.names))}; "
            "export the data set with its audio embedded."
        )
    return "audio" if "audio" in found else found[0]


def _classes(schema: Any) -> dict[str, list[str]]:
    """Names of the classes of each column whose numbers stand for classes, as the data set describes itself."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = described["info"]["features"]
        found = {column: feature["names"] for column, feature in features.items() if "names" in feature}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        column: names
        for column, names in found.items()
        if isinstance(names, list) and all(isinstance(name, str) for name in names)
    }


def _audio_of(value: Any, file: Path, clips: Clips, place: str) -> tuple[Path, Path]:
    """The recording of a cell, written to ``file`` where its bytes are embedded; and ``file``."""
    content, name = (value or {}).get("bytes"), (value or {}).get("path")
    if isinstance(content, bytes) and content:
        file.write_bytes(content)
        return file, file
    if isinstance(name, str) and name:
        return clips.find(name, place), file
    raise InputError(f"{place}: the row has no audio; export the data set with its audio embedded.")


# ----------------------------------------------------------------------------------------------------------- download


def _download(name: str) -> Path | InputError:
    """The data files of a data set on the Hub, in the cache of huggingface_hub; or why it has none."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if not _REPOSITORY.fullmatch(name):
        raise InputError(f"{shown(PREFIX + name)} is no data set of the Hub; write hf:owner/name or hf:owner/name@rev.")
    repository, _, revision = name.partition("@")
    wanted = (*METADATA, ".parquet", *AUDIO_SUFFIXES)
    try:
        names = HfApi().list_repo_files(repository, repo_type="dataset", revision=revision or None)
        if not any(each.lower().endswith(wanted) for each in names):
            return _no_data(names, shown(PREFIX + name))
        patterns = [f"*{ending}" for ending in wanted]
        folder = snapshot_download(repository, repo_type="dataset", revision=revision or None, allow_patterns=patterns)
    except GatedRepoError:
        raise InputError(
            f"{shown(PREFIX + name)} asks you to accept its terms; do so on its page, then run `hf auth login`."
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise InputError(
            f"{shown(PREFIX + name)} is not on the Hub, or private; check the name or `hf auth login`."
        ) from None
    except Exception as error:  # the client raises what its HTTP library raises, and has changed that before
        reason = printable(" ".join(str(error).split()))[:120]
        raise InputError(f"{shown(PREFIX + name)} cannot be downloaded ({reason}); check the network.") from None
    return Path(folder)
