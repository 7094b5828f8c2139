"""What the figures of a comparison say, a sentence each; that something did not help is a sentence too."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.tables import points
from .table import Measure

Figures = Mapping[str, Any]
ORDINARY = ("joint", "untrained")
"""Families that do not learn to learn."""


def sentences(figures: Figures, measure: Measure) -> list[str]:
    """The verdicts, from the least given to the most."""
    found: list[str] = []
    for names in figures["versus"]:
        at = names[measure.axis]
        here = {
            key: [row for row in figures[key] if row[measure.axis] == at]
            for key in ("standings", "paired", "best_by_set", "detectable")
        }
        given = f"With {measure.given(at)}"
        if "best" not in names:
            found.append(f"{given}, no learner was asked about every set, and nothing is the best.")
            continue
        found += [
            _best(here["standings"], names, measure, given),
            *(_helped(here["standings"], here["paired"], names, rival, given) for rival in measure.rivals.items()),
            _ties(here["paired"], names["best"], given),
            _behind(here["best_by_set"], names, measure, given),
            *(_detectable(row, given) for row in here["detectable"]),
        ]
    return [*found, *_notes(figures["costs"])]


def _best(standings: Sequence[Mapping[str, Any]], names: Mapping[str, Any], measure: Measure, given: str) -> str:
    row = next(row for row in standings if row["learner"] == names["best"])
    low, high = row["ci95"]
    ends = "" if low is None else f" ({_percent(low)} to {_percent(high)})"
    text = f"{given}, {row['learner']} is the best with {_percent(row['mean'])} %{ends}, "
    text += f"worst on {row['worst_corpus']} with {_percent(row['worst_mean'])} %"
    if row["learner"] in measure.baselines or row["family"] == "untrained":
        return f"{text}: nothing that was trained is better than this {measure.baseline}."
    if row["family"] == "joint":
        return f"{text}: ordinary joint training wins, and no meta-learning is needed for it."
    return f"{text}."


def _helped(
    standings: Sequence[Mapping[str, Any]],
    paired: Sequence[Mapping[str, Any]],
    names: Mapping[str, Any],
    rival: tuple[str, str],
    given: str,
) -> str:
    """Whether meta-learning helps: whose interval of the difference to a rival lies above zero."""
    question, joint = rival
    learned = [row["learner"] for row in standings if row["family"] not in ORDINARY]
    if not learned:
        return f"{given}, no meta-learner gave a result: whether meta-learning helps cannot be said."
    if question not in names:
        return f"{given}, {joint} gave no result to stand beside: whether meta-learning helps cannot be said."
    rows = [row for row in paired if row["question"] == question and row["learner"] in learned]
    failed = [row for row in rows if not _above(row)]
    if not failed:
        worst = min(rows, key=lambda row: row["difference"])
        return f"{given}, meta-learning helps every time: beside {joint}, the least is {_difference(worst)}."
    below = [row for row in failed if _below(row)]
    unclear = [row for row in failed if not _below(row)]
    parts = []
    if below:
        parts.append(f"{_listed(below)} {'are' if len(below) > 1 else 'is'} worse than {joint}")
    if unclear:
        parts.append(f"no gain over {joint} is shown for {_listed(unclear)}")
    n_helped = len(rows) - len(failed)
    rest = f"; it helps the other {n_helped}" if n_helped else ""
    return f"{given}, meta-learning did not help {len(failed)} of {len(rows)} learners: {'; '.join(parts)}{rest}."


def _ties(paired: Sequence[Mapping[str, Any]], best: str, given: str) -> str:
    rows = [row for row in paired if row["question"] == "best" and row["learner"] != best]
    tied = [row for row in rows if not _below(row)]
    if not rows:
        return f"{given}, nobody stands beside {best}."
    if not tied:
        return f"{given}, no learner ties with {best}."
    return f"{given}, {_listed(tied)} {'tie' if len(tied) > 1 else 'ties'} with {best}."


def _behind(sets: Sequence[Mapping[str, Any]], names: Mapping[str, Any], measure: Measure, given: str) -> str:
    best, baseline = names["best"], names.get("baseline")
    kind, below = measure.baseline, "below" if measure.highest else "worse than"
    if baseline is None:
        return f"{given}, no {kind} was asked about every set."
    if baseline == best:
        return f"{given}, {best}, which needs no training, is not beaten."
    worse = [row for row in sets if row["difference"] < 0]
    if not worse:
        least = min(sets, key=lambda row: row["difference"])
        return (
            f"{given}, {best} is not {below} the best {kind}, {baseline}, on any set; the smallest gain is on "
            f"{least['corpus']}, {_interval(least)}."
        )
    told = ", ".join(f"{row['corpus']} ({_interval(row)}{'' if _below(row) else ', not surely'})" for row in worse)
    return f"{given}, {best} is {below} the best {kind}, {baseline}, on {told}."


def _detectable(row: Mapping[str, Any], given: str) -> str:
    return (
        f"{given}, a pair would have shown a difference of {_percent(row['median'])} points (the least sure one: "
        f"{_percent(row['largest'])}) four times in five; less may be there and was not to be seen."
    )


def _notes(costs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{row['learner']} in fold {fold}: {note}"
        for row in costs
        for fold, some in row["notes"].items()
        for note in some
    ] + [
        f"{row['learner']} uses the weights of {row['shares_training_of']}; its trials chose how it adapts."
        for row in costs
        if row["shares_training_of"]
    ]


# -------------------------------------------------------------------------------------------------------------- numbers


def _above(row: Mapping[str, Any]) -> bool:
    return bool(math.isfinite(row["low"]) and row["low"] > 0)


def _below(row: Mapping[str, Any]) -> bool:
    return bool(math.isfinite(row["high"]) and row["high"] < 0)


def _listed(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(_difference(row) for row in rows)


def _difference(row: Mapping[str, Any]) -> str:
    return f"{row['learner']} ({_interval(row)})"


def _interval(row: Mapping[str, Any]) -> str:
    if not math.isfinite(row["low"]):
        return f"{points(row['difference'])} points"
    return f"{points(row['difference'])} points, {points(row['low'])} to {points(row['high'])}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
