"""What the figures of a comparison say, a sentence each; that nothing is shown is a sentence too.

A difference is shown where its p-value, adjusted for the number of learners, is at most 0.05 and its interval does not
hold 0. Where it is not shown, it may be there all the same, and the sentences say no more.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.tables import points
from .table import LEVEL, ORDINARY, Measure

Figures = Mapping[str, Any]
SELF_SUPERVISED = "masked"
CHOSEN_HERE = "The best is chosen on these tests, so its figure and its distance to others are a little optimistic."


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
            _best(here, names, measure, given),
            *(_helped(here["standings"], here["paired"], names, rival, given) for rival in measure.rivals.items()),
            _ties(here["paired"], names["best"], given),
            _behind(here["best_by_set"], names, measure, given),
            *(_detectable(row, given) for row in here["detectable"]),
        ]
    chosen = [CHOSEN_HERE] if any("best" in names for names in figures["versus"]) else []
    return [*found, *chosen, *_notes(figures["costs"])]


def _best(here: Figures, names: Mapping[str, Any], measure: Measure, given: str) -> str:
    row = next(row for row in here["standings"] if row["learner"] == names["best"])
    low, high = row["ci95"]
    ends = "" if low is None else f" ({_percent(low)} to {_percent(high)})"
    text = f"{given}, {row['learner']} is the best with {_percent(row['mean'])} %{ends}, "
    text += f"worst on {row['worst_corpus']} with {_percent(row['worst_mean'])} %"
    if row["learner"] in measure.baselines or row["family"] == "untrained":
        return f"{text}: nothing that was trained is better than this {measure.baseline}."
    if row["family"] != "joint":
        return f"{text}."
    if row["learner"] == SELF_SUPERVISED:
        return f"{text}: this is self-supervised training, without labels and without meta-learning."
    if row["learner"] not in measure.rivals.values():
        return f"{text}: this is another way to adapt what ordinary training made, without meta-learning."
    learned = _meta(here["standings"])
    beside = [own for own in here["paired"] if own["question"] == "best" and own["learner"] in learned]
    wins = bool(beside) and all(_is_worse(own) for own in beside)
    return f"{text}{': ordinary joint training wins, and no meta-learning is needed for it' if wins else ''}."


def _meta(standings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those that learn to learn, the best first."""
    return [row["learner"] for row in standings if row["family"] not in ORDINARY]


def _helped(
    standings: Sequence[Mapping[str, Any]],
    paired: Sequence[Mapping[str, Any]],
    names: Mapping[str, Any],
    rival: tuple[str, str],
    given: str,
) -> str:
    """Whether meta-learning helps: who is shown to be better than a rival, who to be worse, and of whom neither is."""
    question, joint = rival
    learned = _meta(standings)
    if not learned:
        return f"{given}, no meta-learner gave a result: whether meta-learning helps cannot be said."
    rows = [row for row in paired if row["question"] == question and row["learner"] in learned]
    if not rows:
        return f"{given}, {joint} gave no result to stand beside: whether meta-learning helps cannot be said."
    better, worse = ([row for row in rows if shown(row)] for shown in (_is_better, _is_worse))
    unclear = [row for row in rows if row not in better and row not in worse]
    text = f"{given}, meta-learning is shown to help {len(better)} of {len(rows)} learners"
    if len(better) == len(rows):
        return f"{text}: beside {joint}, the least gain is {_difference(min(rows, key=lambda row: row['difference']))}."
    if worse:
        text += f"; {_listed(worse)} {'are' if len(worse) > 1 else 'is'} worse than {joint}"
    if unclear:
        others = " for the others" if better or worse else ""
        text += f";{others} no difference to {joint} is shown: {_listed(unclear)}"
    return f"{text}."


def _ties(paired: Sequence[Mapping[str, Any]], best: str, given: str) -> str:
    rows = [row for row in paired if row["question"] == "best" and row["learner"] != best]
    tied = [row for row in rows if not _is_worse(row)]
    if not rows:
        return f"{given}, nobody stands beside {best}."
    if not tied:
        return f"{given}, no learner ties with {best}."
    return f"{given}, {_listed(tied)} {'tie' if len(tied) > 1 else 'ties'} with {best}: no difference is shown."


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
    told = ", ".join(f"{row['corpus']} ({_interval(row)}{'' if _is_worse(row) else ', not surely'})" for row in worse)
    return f"{given}, {best} is {below} the best {kind}, {baseline}, on {told}."


def _detectable(row: Mapping[str, Any], given: str) -> str:
    return (
        f"{given}, a pair would have shown a difference of {_percent(row['median'])} points (the least sure one: "
        f"{_percent(row['largest'])}) four times in five, before adjusting for the number of learners; less may be "
        "there and was not to be seen."
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


def _is_better(row: Mapping[str, Any]) -> bool:
    return bool(row["p_value"] <= LEVEL and row["low"] > 0)  # an end that is not known is NaN, which is no number


def _is_worse(row: Mapping[str, Any]) -> bool:
    return bool(row["p_value"] <= LEVEL and row["high"] < 0)


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
