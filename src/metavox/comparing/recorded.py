"""The folder of a comparison: whose it is, and what each finished cell left there.

``recipe.yaml`` says what is compared; ``cells/FOLD/LEARNER`` holds ``result.json``, ``trials.json``, ``rows.jsonl``
and, unless nothing came of it, ``model``. A cell is written beside and renamed: it is there whole or not at all.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ..checkpoint import put_folder, write_json, write_text
from ..config import TranscriptionComparison, WordsComparison, comparison_of
from ..contracts import InputError

RECIPE = "recipe.yaml"
_RESULT, _LOCK = "result.json", "lock"

Comparison = WordsComparison | TranscriptionComparison
C = TypeVar("C", bound=WordsComparison | TranscriptionComparison)


@dataclass(frozen=True)
class Cell:
    """One learner in one fold."""

    fold: str
    learner: str
    shares: str = ""
    """The learner of the same fold whose training it uses, or none."""


@dataclass(frozen=True)
class Finished:
    """What a cell leaves."""

    result: Mapping[str, Any]
    trials: Sequence[Mapping[str, Any]]
    rows: Sequence[Mapping[str, Any]]
    """One an item of the test."""
    keep: Callable[[Path], None] | None = None
    """Writes the model that was chosen into a folder."""


# ---------------------------------------------------------------------------------------------------------- whose it is


@contextmanager
def claimed(out: Path, recipe: Comparison) -> Iterator[None]:
    """Have ``out`` for one comparison, and for one call at a time; what a call that was killed left half is removed.

    A lock ends with the process that has it, however that ends. Where the system has none (Windows), nobody is kept
    out.

    Raises:
        InputError: as ``claim``, or another call is at work there.
    """
    claim(out, recipe)
    with (out / _LOCK).open("a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except BlockingIOError:
            raise InputError(
                f"Another call of metavox compare is at work in {out}; wait until it ends, or give another --out."
            ) from None
        for place in (*out.glob("cells/*/.*.tmp"), *out.glob("cells/*/.*.old")):
            shutil.rmtree(place, ignore_errors=True)
        yield


def claim(out: Path, recipe: Comparison) -> None:
    """Write down what is compared in ``out``, or see that it is the same as before. Learners may come and go.

    Raises:
        InputError: ``out`` holds another comparison, or something else.
    """
    known = out / RECIPE
    if not known.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} is not empty and holds no comparison; give another --out.")
        out.mkdir(parents=True, exist_ok=True)
        # What is not given stays so: to give an option its usual value may contradict a learner's name.
        tree = recipe.model_dump(mode="json", exclude_unset=True)
        write_text(known, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
        return
    ours, theirs = (_identity(some) for some in (recipe, read_recipe(out, type(recipe))))
    odd = [key for key in ours if ours[key] != theirs[key]]
    if odd:
        raise InputError(
            f"{out} holds a comparison with another {odd[0]} section; give the same recipe or another --out."
        )


def read_recipe(out: Path, kind: type[C]) -> C:
    """What is compared in ``out``. Raises InputError where that cannot be read, or is of another kind."""
    known = out / RECIPE
    try:
        tree = yaml.safe_load(known.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as err:
        raise InputError(f"{known} cannot be read ({' '.join(str(err).split())[:160]}); give another --out.") from None
    found = comparison_of(tree if isinstance(tree, dict) else {}, str(known))
    if not isinstance(found, kind):
        raise InputError(f"{out} holds a comparison of another kind; give another --out.")
    return found


def _identity(recipe: Comparison) -> dict[str, Any]:
    tree = recipe.model_dump(mode="json")
    del tree["compare"]["learners"]
    return tree


# ---------------------------------------------------------------------------------------------------------------- cells


def cell_folder(out: Path, cell: Cell) -> Path:
    """Where a cell is kept."""
    return out / "cells" / cell.fold / cell.learner


def is_finished(out: Path, cell: Cell) -> bool:
    """Whether a cell needs nothing more: its result is there, and so is the training that it is to share.

    One that shared another training, or had its own, is not finished: side by side they would be two trainings.
    """
    known = cell_folder(out, cell) / _RESULT
    if not known.is_file():
        return False
    try:
        shares = json.loads(known.read_text(encoding="utf-8"))["shares"]
    except (OSError, ValueError, KeyError, TypeError):
        return True  # damaged: to read it says so
    return (shares or "") == cell.shares and (not shares or is_finished(out, Cell(cell.fold, shares)))


def write_cell(out: Path, cell: Cell, done: Finished) -> None:
    """Leave the folder of a cell."""

    def write(beside: Path) -> None:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in done.rows)
        write_text(beside / "rows.jsonl", "".join(lines))
        write_json(beside / "trials.json", {"trials": list(done.trials)})
        if done.keep is not None:
            done.keep(beside / "model")
        write_json(beside / _RESULT, {**done.result, "shares": cell.shares or None})

    folder = cell_folder(out, cell)
    folder.parent.mkdir(parents=True, exist_ok=True)
    put_folder(folder, _RESULT, write, "cell of a comparison")


def read_cell(out: Path, cell: Cell) -> Finished:
    """What a finished cell left. Raises InputError where it is damaged."""
    folder = cell_folder(out, cell)
    try:
        result = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
        trials = json.loads((folder / "trials.json").read_text(encoding="utf-8"))["trials"]
        rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise InputError(f"{folder} is damaged ({err}); remove it, and the cell is computed again.") from None
    return Finished(result, trials, rows)
