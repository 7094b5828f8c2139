"""A comparison of learners from its recipe to its table, whatever it is that they learn."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..benchmarking.timing import machine
from ..checkpoint import write_json, write_text
from .cells import Report, Run, run_cells
from .page import page
from .recorded import Comparison, claim, is_finished, read_cell
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
        what ``comparison.json`` holds.

    Raises:
        InputError: a recipe that cannot be compared, ``out`` holding something else, recordings that cannot be used.
    """
    require_optuna()
    subject = subject_of(recipe)
    plan = subject.plan(recipe)
    claim(out, recipe)
    cells = cells_of(plan)
    if not all(is_finished(out, cell) for cell in cells):
        subject.prepare(plan, report)
    n_new = run_cells(out, cells, run or subject.run, jobs, report)
    results = [read_cell(out, cell).result for cell in cells]
    costs = subject.costs(out, plan, results, jobs, anew=bool(n_new), report=report)
    return collect(out, subject, plan, costs)


def collect(out: Path, subject: Subject, plan: Planned, costs: Mapping[str, Any]) -> dict[str, Any]:
    """The table over all cells, written down."""
    done = [read_cell(out, cell) for cell in cells_of(plan)]
    rows = [dict(row) for cell in done for row in cell.rows]
    results, measure = [cell.result for cell in done], subject.measure
    asked, train = plan.recipe.compare, plan.recipe.train
    found = figures(Material(results, rows, costs), measure, asked.seed)
    told = subject.told(plan, results)
    absent = sorted({name for result in results for name in result["absent"]})
    left_out = [f"Not here and left out of training: {', '.join(absent)}."] if absent else []
    document = {
        "what": told["what"],
        "metric": measure.metric,
        "learners": list(plan.learners),
        "folds": told["folds"],
        "protocol": asked.model_dump(mode="json", exclude={"learners", "folds", "corpora"}),
        "training_seed": train.seed,
        **found,
        "absent": absent,
        "sentences": [*sentences(found, measure), *told["notes"], *left_out],
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
