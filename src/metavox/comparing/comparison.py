"""A comparison of learners from its recipe to its table, whatever it is that they learn."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..benchmarking.timing import machine
from ..checkpoint import write_json, write_text
from ..contracts import InputError
from .cells import Report, Run, run_cells
from .page import page
from .recorded import Cell, Comparison, Finished, claimed, is_finished, read_cell
from .search import require_optuna
from .subject import Planned, Subject, cells_of
from .table import Material, figures
from .transcription import TRANSCRIPTION
from .verdicts import sentences
from .words import WORDS


def subject_of(recipe: Comparison) -> Subject:
    """What is learned in a comparison."""
    return next(subject for subject in (WORDS, TRANSCRIPTION) if isinstance(recipe, subject.recipe))


def run_comparison(
    recipe: Comparison, out: Path, jobs: int = 1, report: Report | None = None, run: Run | None = None
) -> dict[str, Any]:
    """Do what is left of a comparison, and leave ``comparison.json``, ``rows.jsonl`` and ``report.md`` in ``out``.

    Args:
        jobs: cells at a time, each in a process of its own; 0 does them in this one.
        run: does one cell; None for the usual.

    Returns:
        what ``comparison.json`` holds; ``stopped`` names cells that failed, which are in no figure of it.

    Raises:
        InputError: a recipe that cannot be compared, ``out`` holding something else or used by another call, recordings
            that cannot be used, or no cell that was finished.
    """
    require_optuna()
    subject = subject_of(recipe)
    plan = subject.plan(recipe)
    cells = cells_of(plan)
    with claimed(out, recipe):
        subject.require_fitting(plan, [one.result for one in _finished(out, cells)])
        if not all(is_finished(out, cell) for cell in cells):
            subject.prepare(plan, report)
        ran = run_cells(out, cells, run or subject.run, jobs, report)
        stopped = [{"learner": cell.learner, "fold": cell.fold, "why": why} for cell, why in ran.stopped.items()]
        done = _finished(out, cells)
        if not done:
            raise InputError(unfinished(stopped))
        costs = subject.costs(out, plan, [one.result for one in done], jobs, anew=bool(ran.n_new), report=report)
        return _collected(out, subject, plan, done, costs, stopped)


def unfinished(stopped: Sequence[Mapping[str, str]]) -> str:
    """One sentence on cells that stopped."""
    names = ", ".join(f"{one['learner']} in fold {one['fold']}" for one in stopped)
    return f"Call again for what stopped and is not in the report: {names}; the first said: {stopped[0]['why']}"


def _finished(out: Path, cells: Sequence[Cell]) -> list[Finished]:
    return [read_cell(out, cell) for cell in cells if is_finished(out, cell)]


def _collected(
    out: Path,
    subject: Subject,
    plan: Planned,
    done: Sequence[Finished],
    costs: Mapping[str, Any],
    stopped: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """The table over all cells that are finished, written down."""
    rows = [dict(row) for cell in done for row in cell.rows]
    results, measure = [cell.result for cell in done], subject.measure
    asked, train = plan.recipe.compare, plan.recipe.train
    told = subject.told(plan, results)
    n_sets = sum(len(fold["sets"]) for fold in told["folds"].values())
    found = figures(Material(results, rows, costs, n_sets), measure, asked.seed)
    absent = sorted({name for result in results for name in result["absent"]})
    left_out = [f"Not here and left out of training: {', '.join(absent)}."] if absent else []
    failed = [f"{one['learner']} in fold {one['fold']} stopped: {one['why']}" for one in stopped]
    failed += [f"What adapting and answering take was not measured: {costs['stopped']}"] if "stopped" in costs else []
    document = {
        "what": told["what"],
        "metric": measure.metric,
        "learners": list(plan.learners),
        "folds": told["folds"],
        "protocol": asked.model_dump(mode="json", exclude={"learners", "folds", "corpora"}),
        "training_seed": train.seed,
        **found,
        "absent": absent,
        "stopped": list(stopped),
        "sentences": [*sentences(found, measure), *told["notes"], *left_out, *failed],
        "measured": told["measured"],
        "search": told["search"],
        "spaces": told["spaces"],
        "timed": {key: value for key, value in costs.items() if key != "learners"},
        "machine": {**machine(), "threads": 1},
        "versions": {"metavox": version("metavox"), "torch": torch.__version__, "python": platform.python_version()},
    }
    plain = as_json(document)
    write_text(out / "rows.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_text(out / "report.md", page(document, measure))
    write_json(out / "comparison.json", plain)
    return dict(plain)


def as_json(value: Any) -> Any:
    """Plain values; what is no number is None, since JSON has no NaN."""
    if isinstance(value, Mapping):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
