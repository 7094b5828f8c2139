"""What verbs print: results on standard output, notes on standard error."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError


def note(text: str) -> None:
    """One line beside the results."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """One JSON document, and nothing else, on standard output."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # another locale, or a file name that is no text
        text = json.dumps(value, indent=1, allow_nan=False)
    print(text)


def require_writable(path: Path) -> None:
    """Raise InputError where no file can be put at ``path``; to be asked before anything is computed."""
    parent = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; name a file in it.")
    if not os.path.isdir(parent):
        raise InputError(f"{path} cannot be written, since {parent} is a file; choose another place.")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{path} cannot be written; check the permissions of {parent} or choose another place.")


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines, written beside and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("w", encoding="utf-8", errors="backslashreplace") as file:  # \udcff, as JSON writes it too
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def percent(mean: float, ci95: list[float | None]) -> str:
    """``81.3 ± 1.2``, in per cent."""
    if None in ci95:
        return f"{100 * mean:.1f}"
    low, high = ci95
    assert low is not None
    assert high is not None
    return f"{100 * mean:.1f} ± {50 * (high - low):.1f}"
