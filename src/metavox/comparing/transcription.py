"""Transcription as what is learned: character error after minutes of a language that the base never heard."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config import TranscriptionComparison
from ..contracts import InputError
from ..data.manifests import load_corpus
from ..evaluation.transcription import open_material
from ..evaluation.transcription_comparison import compare, over_targets
from ..transcription.shelf import SHELF
from .cells import Report
from .subject import Subject
from .table import Measure
from .transcription_plan import Plan, make_plan, open_base, protocol_of, space_for, splits_of
from .transcription_trials import run_trials, spoken_for

MEASURE = Measure(
    "cer",
    "minutes",
    lambda minutes: f"{minutes:g} {'minute' if minutes == 1 else 'minutes'} of support",
    over_targets,
    compare,
    highest=False,
    rivals={"joint": "joint", "base": "fine-tune"},
    baselines=("fine-tune", "scratch"),
    baseline="baseline without further training",
    cost_heads={
        "training_cpu_s": "CPU s", "steps": "steps", "adapt_ms": "adapt CPU ms", "predict_ms": "CPU ms a second heard",
        "peak_memory_mb": "memory MB", "parameters": "parameters", "state_bytes": "state kB",
    },
)  # fmt: skip
MEASURED = (
    "CPU seconds and steps are those of the training that was chosen, a mean over folds; what draws and changes its "
    "utterances counts, and so does a last look at some that are held out. Adapting to a support set and hearing a "
    "second of the test are processor milliseconds of the test itself, a mean over draws and folds, taken in each "
    "cell, beside which others may have run; a state is what adapting may change, in 32-bit numbers. Memory is by how "
    "much the process grew at its highest while it trained or adapted (Linux)."
)


def prepare(plan: Plan, report: Report | None = None) -> None:
    """Compute what all cells read, so that no two compute the same at once.

    Raises:
        InputError: recordings that cannot be used.
    """
    trains = any(SHELF[name].learning is not None for name in plan.learners)
    for fold in plan.folds:
        base, utterances = open_base(fold.base), load_corpus(fold.path)
        split, _ = splits_of(plan.recipe, utterances)
        named = None if report is None else lambda done, total: report("features", done, total)
        open_material(split, protocol_of(plan.recipe, "any"), utterances, base, named)
        if trains:
            spoken_for(fold, base, utterances, (), report)


def require_fitting(plan: Plan, results: Sequence[Mapping[str, Any]]) -> None:
    """Raise InputError where a cell began with another base than there is now."""
    for fold in plan.folds:
        for result in results:
            if result["fold"] == fold.name and result["base_hash"] != fold.base_hash:
                raise InputError(
                    f"{result['learner']} in fold {fold.name} began with another base than {fold.base} is now; restore "
                    "that, or give another --out."
                )


def costs(
    out: Path, plan: Plan, results: Sequence[Mapping[str, Any]], jobs: int, *, anew: bool, report: Report | None
) -> dict[str, Any]:
    """What adapting and hearing took in the tests of each learner, a mean over folds."""
    found: dict[str, dict[str, Any]] = {}
    for name in plan.learners:
        known = [result["costs"] for result in results if result["learner"] == name and result["costs"]]
        if known:
            found[name] = {
                "adapt_ms": 1000 * float(np.mean([one["adapt_cpu_s"] for one in known])),
                "predict_ms": 1000 * float(np.mean([one["hear_cpu_s_per_s"] for one in known])),
                "adapt_steps": float(np.mean([one["adapt_steps"] for one in known])),
                "state_bytes": 4 * max(one["moved"] for one in known),
            }
    return {"learners": found}


def told(plan: Plan, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The protocol in words."""
    splits = {result["fold"]: result["split"] for result in results}
    return {
        "what": _what(plan),
        "folds": {
            fold.name: {
                "sets": [fold.target],
                "languages_left_out": list(fold.languages),
                "base": fold.base,
                "base_hash": fold.base_hash,
                **splits.get(fold.name, {}),
            }
            for fold in plan.folds
        },
        "search": _search(plan),
        "spaces": {name: _space(plan, name) for name in plan.learners},
        "measured": MEASURED,
        "notes": list(dict.fromkeys(note for fold in plan.folds for note in fold.notes)),
    }


def _what(plan: Plan) -> str:
    asked = plan.recipe.compare
    minutes = " and ".join(f"{one:g}" for one in asked.support_minutes)
    draws = "1 draw" if asked.draws == 1 else f"{asked.draws} draws"
    return (
        f"Character error on {len(plan.folds)} corpora whose languages neither base nor training heard, after "
        f"{minutes} minutes of transcribed speech, {draws} and at most {asked.max_test} utterances each, the same for "
        "every learner. Everybody starts from the same base, hears the same recordings and transcripts on the way, "
        f"adapts in as many steps (40, one more for each second, {asked.adapt_steps} at most; conditioned: none) and "
        f"has {asked.trials} trials and {60 * asked.minutes:g} CPU-seconds of training in each; fine-tune adapts the "
        "base as it is, scratch random weights. The lower the better; a gain is by how many points less a learner errs "
        "than another. "
        "Intervals (95 %) resample speakers of the test with all their draws, or its sentences where speakers are few, "
        "and do not speak of other draws, bases or trainings. p is adjusted (Holm) for the number of learners, beside "
        "joint and fine-tune for that of meta-learners and for that of the others; a difference is shown where p is at "
        "most 0.05."
    )


def _search(plan: Plan) -> str:
    asked = plan.recipe.compare
    return (
        "The first trial has a learner's own settings, the others are proposed by optuna (TPE, from seed "
        f"{asked.seed} and the fold): the step size of training, that of adapting, and what the learner's row on the "
        f"shelf names. The best is chosen by its character error in at most {asked.validation_utterances} utterances "
        "of the target's pool, after one draw of as many minutes from the rest of the pool (of all it has, if less); "
        "these are more transcripts than a support has, and none of the test. Who shares a training tries step sizes "
        "of adapting only."
    )


def _space(plan: Plan, name: str) -> dict[str, Any]:
    trains = SHELF[name].learning is not None and name not in plan.shares
    space, _ = space_for(name, shared=not trains)
    return {key: {"low": choice.low, "high": choice.high} for key, choice in space.items()}


TRANSCRIPTION = Subject(
    TranscriptionComparison,
    make_plan,
    run_trials,
    prepare,
    costs,
    MEASURE,
    told,
    ("metric", "mean", "ci95", "n"),
    "support_minutes",
    require_fitting,
)
