"""A comparison as a page to read: verdicts first, then tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.tables import points
from .table import Measure


def page(document: Mapping[str, Any], measure: Measure) -> str:
    """The whole comparison in Markdown."""
    lines = ["# Learners beside one another", "", document["what"], "", "## In words", ""]
    lines += [f"- {sentence}" for sentence in document["sentences"]]
    for names in document["versus"]:
        at = names[measure.axis]
        lines += ["", f"## {measure.given(at)}", "", *_table(*standing_rows(document, measure, at))]
        lines += ["", "On each set:", "", *_table(*_by_set(document, measure, at))]
    lines += ["", "## What it took", "", *_table(*cost_rows(document, measure)), "", document["measured"], ""]
    lines += ["## What was tried", "", *_table(*_tried(document)), "", document["search"]]
    return "\n".join(lines) + "\n"


Table = tuple[list[str], list[list[str]]]
"""Heads of the columns, and rows."""


def standing_rows(document: Mapping[str, Any], measure: Measure, at: Any) -> Table:
    """Every learner with one amount given: mean, worst set, and what it is worth beside others."""
    names = next(names for names in document["versus"] if names[measure.axis] == at)
    paired = {
        (row["question"], row["learner"]): row for row in document["paired"] if row[measure.axis] == at
    }  # fmt: skip
    asked = {names[question]: question for question in ("baseline", *measure.rivals) if question in names}
    questions = [question for question in names if question in asked.values()]
    heads = ["learner", "mean %", "worst set"]
    for question in questions:
        heads += [f"{'to' if measure.highest else 'gain on'} {names[question]}", "p"]
    rows = []
    for row in document["standings"]:
        if row[measure.axis] != at:
            continue
        cells = [
            row["learner"] if row["complete"] else f"{row['learner']} ({row['sets']} sets)",
            _mean(row),
            f"{_percent(row['worst_mean'])} {row['worst_corpus']}",
        ]
        for question in questions:
            found = paired.get((question, row["learner"]))
            cells += ["", ""] if found is None else [_difference(found), _p(found["p_value"])]
        rows.append(cells)
    return heads, rows


def cost_rows(document: Mapping[str, Any], measure: Measure) -> Table:
    """What each learner took."""
    heads = ["learner", *measure.cost_heads.values()]
    rows = [
        [
            row["learner"] + (f" (training of {row['shares_training_of']})" if row["shares_training_of"] else ""),
            *(_number(row[key], *_FORMS[key]) for key in measure.cost_heads),
        ]
        for row in document["costs"]
    ]
    return heads, rows


_FORMS: dict[str, tuple[str, int]] = {
    "training_cpu_s": ("{:.1f}", 1),
    "steps": ("{:.0f}", 1),
    "adapt_ms": ("{:.1f}", 1),
    "predict_ms": ("{:.1f}", 1),
    "peak_memory_mb": ("{:.0f}", 1),
    "parameters": ("{:,}", 1),
    "state_bytes": ("{:.1f}", 1000),
}
"""How a cost is written, and what it is divided by."""


def _by_set(document: Mapping[str, Any], measure: Measure, at: Any) -> Table:
    here = [row for row in document["standings"] if row[measure.axis] == at]
    sets = list(dict.fromkeys(own["corpus"] for row in here for own in row["by_set"]))
    rows = []
    for row in here:
        known = {own["corpus"]: own for own in row["by_set"]}
        rows.append([row["learner"], *(_percent(known[name]["mean"]) if name in known else "" for name in sets)])
    return ["learner", *sets], rows


def _tried(document: Mapping[str, Any]) -> Table:
    rows = []
    for row in document["costs"]:
        for fold, settings in row["chosen"].items():
            told = ", ".join(f"{key}={_setting(value)}" for key, value in (settings or {}).items())
            rows.append([row["learner"], fold, str(row["trials"]), told or "nothing to choose"])
    return ["learner", "fold", "trials", "chosen"], rows


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    safe = [[cell.replace("|", "\\|") for cell in row] for row in (heads, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in safe]
    return [lines[0], "|" + "---|" * len(heads), *lines[1:]]


def _mean(row: Mapping[str, Any]) -> str:
    low, high = row["ci95"]
    return _percent(row["mean"]) if low is None else f"{_percent(row['mean'])} ± {50 * (high - low):.1f}"


def _difference(row: Mapping[str, Any]) -> str:
    low, high = row["low"], row["high"]
    ends = f" ({points(low)} to {points(high)})" if _is_number(low) and _is_number(high) else ""
    return points(row["difference"]) + ends


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _number(value: Any, form: str, unit: int) -> str:
    return "" if value is None else form.format(value if unit == 1 else value / unit)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _setting(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(value)
