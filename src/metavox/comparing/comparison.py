"""A comparison of learners of words from its recipe to its table."""

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
from ..config import WordsComparison
from ..data.corpora import Report, asked_variants, gather, open_corpora
from ..evaluation.comparison import compare
from ..evaluation.protocols import over_corpora
from ..evaluation.tables import takes
from ..learners.preset import Range
from ..learners.presets import LEARNERS
from .cells import Run, alone, run_cells
from .page import page
from .plan import LR_FACTOR, Plan, make_plan, model_for
from .recorded import Cell, claim, is_finished, read_cell
from .search import require_optuna
from .table import Material, Measure, figures
from .verdicts import sentences
from .word_cell import run_cell
from .word_costs import known_costs, measure_costs

WORDS = Measure(
    "accuracy", "shots", lambda shots: f"{takes(shots)} a word".replace("\u00a0", " "), over_corpora, compare
)
MEASURED = (
    "CPU seconds and steps are those of the training that was chosen, a mean over folds, everything but validation "
    "counted. Adapting to a task and predicting its queries are timed in processor milliseconds (median) on the same "
    "tasks, learners in turn in one process of one thread; a state is what adapting leaves. Memory is by how much the "
    "process of a cell grew at its highest over all trials and tests, above what it held with its recordings open."
)


def run_comparison(
    recipe: WordsComparison, out: Path, jobs: int = 1, report: Report | None = None, run: Run = run_cell
) -> dict[str, Any]:
    """Do what is left of a comparison, and leave ``comparison.json``, ``rows.jsonl`` and ``report.md`` in ``out``.

    Args:
        jobs: cells at a time, each in a process of its own; 0 does them in this one.
        run: does one cell.

    Returns:
        what ``comparison.json`` holds.

    Raises:
        InputError: a recipe that cannot be compared, ``out`` holding something else, recordings that cannot be used.
    """
    require_optuna()
    plan = make_plan(recipe)
    claim(out, recipe)
    cells = cells_of(plan)
    if not all(is_finished(out, cell) for cell in cells):
        prepare(plan, report)
    n_new = run_cells(out, cells, run, jobs, report)
    costs = _costs(out, plan, jobs, anew=bool(n_new), report=report)
    return collect(out, plan, costs)


def cells_of(plan: Plan) -> list[Cell]:
    """Every learner in every fold."""
    return [Cell(fold.name, name, plan.shares.get(name, "")) for fold in plan.folds for name in plan.learners]


def prepare(plan: Plan, report: Report | None = None) -> None:
    """Compute what all cells read, so that no two compute the same at once."""
    known: set[str] = set()
    for name in plan.learners:
        front_end = model_for(plan.recipe, name).front_end
        if front_end.spectral_key() in known:
            continue
        known.add(front_end.spectral_key())
        open_corpora([path for fold in plan.folds for path in fold.sets.values()], front_end, report)
        if LEARNERS[name].outer is not None or LEARNERS[name].search:
            variants = asked_variants(plan.recipe.augment, plan.recipe.train.seed)
            gather(plan.recipe.data, front_end, report, variants)


def _costs(out: Path, plan: Plan, jobs: int, *, anew: bool, report: Report | None) -> dict[str, Any]:
    """Times of all models in one run, measured again where something was done ``anew`` or a model came later."""
    fold = plan.folds[0].name
    found = None if anew else known_costs(out, fold)
    if found is None:
        if report is not None:
            report("timing", 0, 1)
        cell = Cell(fold, plan.learners[0])
        if jobs:
            alone(out, cell, measure_costs)
        else:
            measure_costs(out, cell)
        if report is not None:
            report("timing", 1, 1)
        found = known_costs(out, fold)
    assert found is not None  # they were just measured
    return found


# --------------------------------------------------------------------------------------------------------- what it says


def collect(out: Path, plan: Plan, costs: Mapping[str, Any]) -> dict[str, Any]:
    """The table over all cells, written down."""
    done = [read_cell(out, cell) for cell in cells_of(plan)]
    rows = [dict(row) for cell in done for row in cell.rows]
    material = Material([cell.result for cell in done], rows, costs)
    found = figures(material, WORDS, plan.recipe.compare.seed)
    asked, train = plan.recipe.compare, plan.recipe.train
    absent = sorted({name for cell in done for name in cell.result["absent"]})
    left_out = [f"Not here and left out of training: {', '.join(absent)}."] if absent else []
    document = {
        "what": _what(plan),
        "metric": WORDS.metric,
        "learners": list(plan.learners),
        "folds": {fold.name: {"sets": list(fold.sets), "languages_left_out": fold.languages} for fold in plan.folds},
        "protocol": asked.model_dump(mode="json", exclude={"learners", "folds", "corpora"}),
        "training_seed": train.seed,
        **found,
        "absent": absent,
        "sentences": [*sentences(found, WORDS), *left_out],
        "measured": MEASURED,
        "search": _search(plan),
        "spaces": {name: _space(name) for name in plan.learners},
        "timed": {key: value for key, value in costs.items() if key != "learners"},
        "machine": {**machine(), "threads": 1},
        "versions": {"metavox": version("metavox"), "torch": torch.__version__, "python": platform.python_version()},
    }
    plain = as_json(document)
    write_text(out / "rows.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_text(out / "report.md", page(document, WORDS))
    write_json(out / "comparison.json", plain)
    return dict(plain)


def _what(plan: Plan) -> str:
    asked = plan.recipe.compare
    left_out = "left out of training with all their languages" if asked.folds else "that training did not hear"
    shots = " and ".join(map(str, asked.shots))
    return (
        f"Accuracy on {len(plan.sets)} sets of words {left_out}, {asked.ways} words a task (all where a set has "
        f"fewer), {shots} takes of each, {asked.episodes} tasks a set, the same for every learner. Everybody has the "
        f"same recordings, training tasks, encoder and front end (baselines that need no training: their own), "
        f"{asked.trials} trials and {60 * asked.minutes:g} CPU-seconds of training in each. Intervals (95 %) speak of "
        "other tasks of these words; p is adjusted for the number of learners (Holm)."
    )


def _search(plan: Plan) -> str:
    asked = plan.recipe.compare
    return (
        "The first trial has a learner's own settings, the others are proposed by optuna (TPE, from seed "
        f"{asked.seed} and the fold). Everybody's step size is tuned by its logarithm within a factor of "
        f"{LR_FACTOR:g}, and what the learner's row on the shelf names. The best is chosen by the mean accuracy of "
        f"{asked.validation_episodes} tasks for each number of takes, of words held out of training; no test set is "
        "asked before. Who shares a training tries ways to adapt instead, and who has nothing to choose is as it is."
    )


def _space(name: str) -> dict[str, Any]:
    return {
        key: {"low": choice.low, "high": choice.high} if isinstance(choice, Range) else list(choice)
        for key, choice in LEARNERS[name].search.items()
    }


def as_json(value: Any) -> Any:
    """Plain values; what is no number is None, since JSON has no NaN."""
    if isinstance(value, Mapping):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
