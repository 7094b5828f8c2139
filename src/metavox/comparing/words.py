"""Words as what is learned: accuracy in tasks of words in languages that training did not hear."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from ..config import WordsComparison
from ..data.corpora import Report, asked_variants, gather, open_corpora
from ..evaluation.comparison import compare
from ..evaluation.protocols import over_corpora
from ..evaluation.tables import takes
from ..learners.preset import Range
from ..learners.presets import LEARNERS
from .cells import alone
from .subject import Subject, cells_of
from .table import Measure
from .word_cell import run_cell, tasks_for
from .word_costs import known_costs, measure_costs, with_models
from .word_plan import LR_FACTOR, Plan, built, make_plan, model_for

MEASURE = Measure(
    "accuracy", "shots", lambda shots: f"{takes(shots)} a word".replace("\u00a0", " "), over_corpora, compare
)
MEASURED = (
    "CPU seconds and steps are those of the training that was chosen, a mean over folds, everything but validation "
    "counted. Adapting to a task and predicting its queries are timed in processor milliseconds (median) on the same "
    "tasks, learners in turn in one process of one thread; a state is what adapting leaves. Memory is by how much the "
    "process of a cell grew at its highest over all trials and tests, above what it held with its recordings open."
)


def prepare(plan: Plan, report: Report | None = None) -> None:
    """Compute what all cells read, so that no two compute the same at once.

    Raises:
        InputError: recordings that cannot be used, or none to choose settings by.
    """
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
    if any(LEARNERS[name].outer is not None or LEARNERS[name].search for name in plan.learners):
        for fold in plan.folds:
            tasks_for(fold, fold.experiment)


def costs(
    out: Path, plan: Plan, results: Sequence[Mapping[str, Any]], jobs: int, *, anew: bool, report: Report | None
) -> dict[str, Any]:
    """Times of all models in one run, measured again where something was done ``anew`` or a model came later."""
    cells = [cell for cell in cells_of(plan) if cell.fold == plan.folds[0].name]
    if not with_models(out, cells):
        return {"learners": {}}
    found = None if anew else known_costs(out, cells)
    if found is None:
        if report is not None:
            report("timing", 0, 1)
        why = alone(out, cells[0], partial(measure_costs, cells=cells), jobs)
        if report is not None:
            report("timing", 1, 1)
        found = known_costs(out, cells)
        if why or found is None:
            return {"learners": {}, "stopped": why or "It left nothing."}
    return found


def told(plan: Plan, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The protocol in words."""
    return {
        "what": _what(plan),
        "folds": {fold.name: {"sets": list(fold.sets), "languages_left_out": fold.languages} for fold in plan.folds},
        "search": _search(plan),
        "spaces": {name: _space(name) for name in plan.learners},
        "measured": MEASURED,
        "notes": _by_body(plan, results),
    }


def _by_body(plan: Plan, results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The best of the trained learners that keep their encoder at enrolment, and of those that change it."""
    adapts = {name: built(model_for(plan.recipe, name)).adapts_body for name in plan.learners}
    means: dict[int, dict[str, float]] = {}
    for shots in plan.recipe.compare.shots:
        by_learner: dict[str, list[float]] = {}
        for result in (one for one in results if LEARNERS[one["learner"]].outer is not None):
            own = [summary["mean"] for summary in result["summaries"] if summary["shots"] == shots]
            by_learner.setdefault(result["learner"], []).extend(own)
        n_sets = max((len(some) for some in by_learner.values()), default=0)
        means[shots] = {name: fmean(some) for name, some in by_learner.items() if n_sets and len(some) == n_sets}
    told = []
    for changes, what in ((False, "keep their encoder as it is at enrolment"), (True, "change it there")):
        some = {shots: [name for name in found if adapts[name] is changes] for shots, found in means.items()}
        best = [
            f"{max(names, key=found.__getitem__)} with {MEASURE.given(shots)}"
            for (shots, found), names in zip(means.items(), some.values(), strict=True)
            if names
        ]
        if best:
            told.append(f"of those that {what} ({max(map(len, some.values()))}) the best is {', '.join(best)}")
    sentence = "; ".join(told)
    return [f"{sentence[0].upper()}{sentence[1:]}."] if sentence else []


def _what(plan: Plan) -> str:
    asked = plan.recipe.compare
    left_out = "left out of training with all their languages" if asked.folds else "that training did not hear"
    shots = " and ".join(map(str, asked.shots))
    return (
        f"Accuracy on {len(plan.sets)} sets of words {left_out}, {asked.ways} words a task (all where a set has "
        f"fewer), {shots} takes of each, {asked.episodes} tasks a set, the same for every learner. Everybody has the "
        f"same recordings, training tasks, encoder and front end (baselines that need no training: their own), "
        f"{asked.trials} trials and {60 * asked.minutes:g} CPU-seconds of training in each. Intervals (95 %) speak of "
        "other tasks of these words. p is adjusted (Holm) for the number of learners, beside joint for that of "
        "meta-learners and for that of the others; a difference is shown where p is at most 0.05."
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


WORDS = Subject(
    WordsComparison,
    make_plan,
    run_cell,
    prepare,
    costs,
    MEASURE,
    told,
    ("metric", "mean", "ci95", "n", "episodes", "seed", "ways", "shots", "queries", "speakers"),
    "shots",
)
