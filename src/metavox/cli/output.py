"""What verbs print: results on standard output, notes on standard error."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def note(text: str) -> None:
    """One line beside the results."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """One JSON document, and nothing else, on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines, written beside and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    beside.replace(path)


def percent(mean: float, ci95: list[float | None]) -> str:
    """``81.3 ± 1.2``, in per cent."""
    if None in ci95:
        return f"{100 * mean:.1f}"
    low, high = ci95
    assert low is not None
    assert high is not None
    return f"{100 * mean:.1f} ± {50 * (high - low):.1f}"
