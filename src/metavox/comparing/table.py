"""The figures of a comparison, computed from what the cells left. It knows learners and sets, and no task."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, median
from typing import Any

import numpy as np

Row = Mapping[str, Any]
POWER, LEVEL = 0.8, 0.05
ORDINARY = ("joint", "untrained")
"""Families that do not learn to learn."""


@dataclass(frozen=True)
class Measure:
    """What was measured, and how it is averaged and compared."""

    metric: str
    axis: str
    """Key of rows and summaries that says how much a learner was given: ``shots``."""
    given: Callable[[Any], str]
    """In words: ``5 takes``."""
    overall: Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
    """Summaries of several sets -> their mean with ``ci95``, ``worst_corpus`` and ``worst_mean``."""
    compare: Callable[[Mapping[str, Sequence[dict[str, Any]]], str, int], list[dict[str, Any]]]
    """(rows by learner, versus, seed) -> by how much each is better, as ``evaluation.comparison.compare``: p-values are
    adjusted for the number of learners in the first."""
    highest: bool = True
    """Whether the best has the highest mean."""
    rivals: Mapping[str, str] = field(default_factory=lambda: {"joint": "joint"})
    """Whom meta-learning has to beat, by the question that is asked."""
    baselines: tuple[str, ...] = ()
    """Who needs no training here; none for those of the family ``untrained``."""
    baseline: str = "untrained baseline"
    """What such a learner is called."""
    cost_heads: Mapping[str, str] = field(
        default_factory=lambda: {
            "training_cpu_s": "CPU s", "steps": "steps", "adapt_ms": "adapt ms", "predict_ms": "predict ms",
            "peak_memory_mb": "memory MB", "parameters": "parameters", "state_bytes": "state kB",
        }
    )  # fmt: skip
    """Heads of the table of costs, by key."""


@dataclass(frozen=True)
class Material:
    """What all cells left."""

    results: Sequence[Mapping[str, Any]]
    rows: Sequence[dict[str, Any]]
    costs: Mapping[str, Any]
    n_sets: int
    """Of the whole comparison; whoever lacks one is not complete."""


def figures(material: Material, measure: Measure, seed: int) -> dict[str, Any]:
    """Everything that a comparison says in numbers; what cannot be known is None."""
    learners = list(dict.fromkeys(result["learner"] for result in material.results))
    family = {result["learner"]: result["family"] for result in material.results}
    standings = _standings(material, measure, learners, family)
    meta = {name for name in learners if family[name] not in ORDINARY}
    rows = _by_learner(material.rows, measure)
    paired: list[dict[str, Any]] = []
    sets: list[dict[str, Any]] = []
    best_of = {}
    for at in sorted({row[measure.axis] for row in standings}):
        here = [row for row in standings if row[measure.axis] == at]
        some = {name: rows[name, at] for name in learners if (name, at) in rows}
        best = _best(here, measure)
        untrained = _best([row for row in here if _is_baseline(row["learner"], measure, family)], measure)
        rivals = {question: name if name in some else None for question, name in measure.rivals.items()}
        versus = {"baseline": untrained, **rivals, "best": best}
        best_of[at] = {question: name for question, name in versus.items() if name is not None}
        for question, other in best_of[at].items():
            # p is adjusted for whom a question is about: whether meta-learning helps is asked of meta-learners.
            for names in (meta, some.keys() - meta) if question in measure.rivals else (some.keys(),):
                among = {name: own for name, own in some.items() if name in names or name == other}
                found = measure.compare(among, other, seed)
                paired += [{"question": question, measure.axis: at, **_named(row)} for row in found]
        if best is not None and untrained not in (None, best):
            sets += [
                {measure.axis: at, "corpus": name, **_named(row)}
                for name, row in _each_set(some[best], some[untrained or ""], best, untrained or "", measure, seed)
            ]
    return {
        "standings": standings,
        "versus": [{measure.axis: at, **names} for at, names in best_of.items()],
        "paired": paired,
        "best_by_set": sets,
        "detectable": _detectable(paired, measure),
        "costs": [_cost(name, material, family[name]) for name in learners],
    }


def _by_learner(rows: Sequence[dict[str, Any]], measure: Measure) -> dict[tuple[str, Any], list[dict[str, Any]]]:
    found: dict[tuple[str, Any], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["learner"], row[measure.axis]].append(row)
    return found


# ------------------------------------------------------------------------------------------------------------ standings


def _standings(
    material: Material, measure: Measure, learners: Sequence[str], family: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A mean over sets for each learner and amount given, the best first; whoever lacks a set is not complete."""
    cells: dict[tuple[Any, str], list[dict[str, Any]]] = defaultdict(list)
    for result in material.results:
        for summary in result["summaries"]:
            cells[summary[measure.axis], result["learner"]].append(summary)
    found = []
    for (at, name), some in cells.items():
        overall = measure.overall(some)
        found.append(
            {
                "learner": name,
                "family": family[name],
                **overall,
                measure.axis: at,
                "sets": len(some),
                "complete": len(some) == material.n_sets,
                "by_set": [{key: s.get(key) for key in ("corpus", "mean", "ci95", "ways", "n")} for s in some],
            }
        )
    sign = -1 if measure.highest else 1
    return sorted(found, key=lambda row: (row[measure.axis], sign * row["mean"], learners.index(row["learner"])))


def _best(standings: Sequence[Mapping[str, Any]], measure: Measure) -> str | None:
    """The best of those that were asked about every set."""
    some = [row for row in standings if row["complete"]]
    choose = max if measure.highest else min
    return choose(some, key=lambda row: row["mean"])["learner"] if some else None


def _is_baseline(name: str, measure: Measure, family: Mapping[str, str]) -> bool:
    return name in measure.baselines if measure.baselines else family[name] == "untrained"


def _each_set(
    rows: Sequence[dict[str, Any]],
    versus: Sequence[dict[str, Any]],
    name: str,
    other: str,
    measure: Measure,
    seed: int,
) -> list[tuple[str, dict[str, Any]]]:
    """One learner and another on each set alone, as far as both were asked."""
    found = []
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        sides = [[row for row in some if row["corpus"] == corpus] for some in (rows, versus)]
        if sides[1]:
            found.append((corpus, measure.compare({name: sides[0], other: sides[1]}, other, seed)[0]))
    return found


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a comparison under the name that learners have here."""
    return {"learner": row["model"], **{key: value for key, value in row.items() if key != "model"}}


def _detectable(paired: Sequence[Mapping[str, Any]], measure: Measure) -> list[dict[str, Any]]:
    """The smallest difference that a pair would have shown with a power of 0.8 at the level of 0.05, by amount given.

    For one pair alone: beside others, whose number p is adjusted for, it is more. From the width of the intervals that
    there are: (z(0.975) + z(0.8)) standard errors. Median and largest over the comparisons with joint training, or
    where it is not there with the best baseline.
    """
    normal = NormalDist()
    reach = (normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(POWER)) / normal.inv_cdf(1 - LEVEL / 2)
    found = []
    for at in dict.fromkeys(row[measure.axis] for row in paired):
        here = [row for row in paired if row[measure.axis] == at]
        question = "joint" if any(row["question"] == "joint" for row in here) else "baseline"
        widths = [row["high"] - row["low"] for row in here if row["question"] == question]
        sizes = [reach * width / 2 for width in widths if np.isfinite(width)]
        if sizes:
            about = {"question": question, "power": POWER, "level": LEVEL}
            found.append({measure.axis: at, "median": median(sizes), "largest": max(sizes), **about})
    return found


# ---------------------------------------------------------------------------------------------------------------- costs


def _cost(name: str, material: Material, family: str) -> dict[str, Any]:
    """What one learner took, over folds, and what one adaptation takes."""
    results = [result for result in material.results if result["learner"] == name]
    trainings = [result["training"] for result in results if result["training"]]
    shared = next((r["shares"] for r in results if r["shares"] and r["chosen"] is not None), None)
    timed = material.costs.get("learners", {}).get(name, {})
    return {
        "learner": name,
        "family": family,
        "source": results[0]["source"],
        "trials": results[0]["trials"],
        "shares_training_of": shared,
        "training_cpu_s": _mean(training.get("cpu_s") for training in trainings),
        "training_cpu_s_all_trials": _mean(result["training_cpu_s_all_trials"] for result in results),
        "steps": _mean(training.get("steps") for training in trainings),
        "steps_fewest": min((training["steps"] for training in trainings if "steps" in training), default=None),
        "adapt_ms": timed.get("adapt_ms"),
        "predict_ms": timed.get("predict_ms"),
        "state_bytes": timed.get("state_bytes"),
        "peak_memory_mb": max(
            (r["peak_memory_mb"] for r in results if r.get("peak_memory_mb") is not None), default=None
        ),
        "parameters": results[0]["parameters"],
        "parameters_encoder": results[0]["parameters_encoder"],
        "chosen": {result["fold"]: result["chosen"] for result in results},
        "notes": {result["fold"]: result["notes"] for result in results if result["notes"]},
    }


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
