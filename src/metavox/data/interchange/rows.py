"""Manifests of strangers, parsed in bounded memory: JSON lines, JSON and plain YAML, gzipped or not."""

import gzip
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ...contracts import InputError
from ..layouts import printable, shown

MAX_LINE_BYTES = 16_000_000
"""A cut with the alignment of an hour of words stays below."""
MAX_DOCUMENT_BYTES = 256_000_000
"""JSON and YAML files are held in memory as a whole; JSON lines have no limit."""
MAX_EXPANSION, FREE_EXPANSION_BYTES = 200, 64_000_000
"""A gzip file may unpack to 64 MB and 200 times its size; manifests shrink about 20 times."""

PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".dill")
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Row:
    """One JSON object and where it stands. What is asked of it has the type asked for, or is refused."""

    place: str
    values: dict[str, Any]

    def wrong(self, what: str, remedy: str = "correct the manifest") -> InputError:
        """The error for this row."""
        return InputError(f"{self.place}: {what}; {remedy}.")

    def text(self, key: str) -> str:
        """A string that must be there and not blank."""
        value = self.optional_text(key)
        if value is None:
            raise self.wrong(f"the key {key} is missing or empty")
        return value

    def optional_text(self, key: str) -> str | None:
        """A string; None where it is absent, null or blank."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong(f"{key} is {shown(value)} and must be text")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.wrong(f"{key} {shown(value)} is not valid Unicode") from None
        return value.strip() or None

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number; without ``default`` it must be there."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(f"{key} is {shown(value)} and must be a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.wrong(f"{key} is {number} and must be finite")
        return number

    def child(self, key: str) -> "Row":
        """An object within; an empty one where it is absent or null."""
        value = self.values.get(key)
        if not isinstance(value, dict | None):
            raise self.wrong(f"{key} is {shown(value)} and must be an object")
        return Row(self.place, value or {})

    def children(self, key: str) -> list["Row"]:
        """The objects of a list; none where it is absent or null."""
        values = self.values.get(key)
        values = [] if values is None else values
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise self.wrong(f"{key} must be a list of objects")
        return [Row(self.place, value) for value in values]

    def integers(self, key: str, default: list[int]) -> list[int]:
        """A list of integers of at least 0; one integer is a list of one."""
        values = self.values.get(key, default)
        values = values if isinstance(values, list) else [values]
        if not values or not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values):
            raise self.wrong(f"{key} must be whole numbers from 0 on")
        return values


def refuse_pickle(path: Path) -> None:
    """InputError for a pickle, by its name or by its first byte: reading one runs the code of whoever wrote it."""
    with path.open("rb") as file:
        head = file.read(2)
    if path.suffix.lower() in PICKLES or (len(head) == 2 and head[0] == 0x80 and head[1] <= 5):
        raise InputError(
            f"{printable(path.name)} is a pickle, and reading one runs the code of whoever wrote it, so it is never "
            "read; save the manifest as cuts.jsonl.gz."
        )


def read_rows(path: Path) -> Iterator[Row]:
    """The objects of a manifest, one at a time where its form allows.

    Raises InputError for a form that is not known, a pickle, what is not UTF-8, not JSON or YAML, no object, or too
    large once unpacked.
    """
    if not path.is_file():
        raise InputError(f"{printable(str(path))} is not a regular file; name a manifest.")
    refuse_pickle(path)
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    name = printable(path.name)
    if kind == "jsonl":
        for number, line in enumerate(_lines(path), 1):
            if line.strip():
                yield _row(f"{name}:{number}", _json(line, f"{name}:{number}"))
    elif kind in ("json", "yaml", "yml"):
        document = (_json if kind == "json" else _yaml)(_whole(path), name)
        if not isinstance(document, list):
            raise InputError(f"{name} holds {shown(document)} and must hold a list; save it as JSON lines (.jsonl).")
        for number, value in enumerate(document, 1):
            yield _row(f"{name}, item {number}", value)
    else:
        raise InputError(f"{name} is no manifest that can be read; give one that ends in .jsonl, .json or .yaml (.gz).")


def _row(place: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"{place}: the row is {shown(value)} and must be an object; correct the manifest.")
    return Row(place, value)


# ------------------------------------------------------------------------------------------------------ bounded bytes


class _Bounded(io.RawIOBase):
    """Counts what a gzip file unpacks to."""

    def __init__(self, path: Path, raw: io.BufferedReader) -> None:
        self._name = printable(path.name)
        self._left = FREE_EXPANSION_BYTES + MAX_EXPANSION * path.stat().st_size
        self._raw = raw
        self._file = gzip.GzipFile(fileobj=raw)

    def close(self) -> None:
        """Close the file below too."""
        self._raw.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._file.read1(len(buffer))
        except (EOFError, OSError, ValueError) as error:
            raise InputError(f"{self._name} is no whole gzip file ({error}); copy it again.") from None
        except Exception as error:  # zlib.error has no public base
            raise InputError(f"{self._name} is a damaged gzip file ({error}); copy it again.") from None
        self._left -= len(block)
        if self._left < 0:
            raise InputError(
                f"{self._name} unpacks to more than {MAX_EXPANSION} times its size, as no manifest does; unpack it "
                "yourself if you trust it."
            )
        buffer[: len(block)] = block
        return len(block)


def _open(path: Path) -> io.BufferedReader:
    raw = path.open("rb")
    if raw.read(2) != _GZIP_MAGIC:
        raw.seek(0)
        return raw
    raw.seek(0)
    return io.BufferedReader(_Bounded(path, raw), 1 << 16)


def _lines(path: Path) -> Iterator[bytes]:
    with _open(path) as file:
        first = True
        while line := file.readline(MAX_LINE_BYTES + 1):
            if len(line) > MAX_LINE_BYTES:
                raise InputError(
                    f"{printable(path.name)} has a line of more than {MAX_LINE_BYTES:,} bytes; write one item a line."
                )
            yield line.removeprefix(b"\xef\xbb\xbf") if first else line
            first = False


def _whole(path: Path) -> bytes:
    with _open(path) as file:
        data = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise InputError(
            f"{printable(path.name)} is larger than {MAX_DOCUMENT_BYTES:,} bytes; save it as JSON lines (.jsonl)."
        )
    return data


def decoded(data: bytes, place: str) -> str:
    """The text of UTF-8 bytes, or an InputError."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: byte {error.start + 1} is not UTF-8; save the file as UTF-8.") from None


def _json(data: bytes, place: str) -> Any:
    text = decoded(data, place)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not JSON ({error.msg} at column {error.colno}); correct the manifest.") from None
    except RecursionError:
        raise InputError(f"{place}: the JSON nests too deeply; correct the manifest.") from None
    except ValueError:
        raise InputError(f"{place}: a number has too many digits; correct the manifest.") from None


class _PlainYaml(yaml.SafeLoader):
    """Without merge keys (``<<``), a few lines of which can unpack to any size."""

    def flatten_mapping(self, node: Any) -> None:
        """Leave them; they are refused as an unknown tag."""


def _yaml(data: bytes, place: str) -> Any:
    text = decoded(data, place)
    try:
        return yaml.load(text, Loader=_PlainYaml)
    except (yaml.YAMLError, ValueError) as error:
        reason = printable(" ".join(str(getattr(error, "problem", None) or error).split()))[:100]
        raise InputError(f"{place}: no plain YAML ({reason}); save it as JSON lines (.jsonl).") from None
    except RecursionError:
        raise InputError(f"{place}: the YAML nests too deeply; save it as JSON lines (.jsonl).") from None
