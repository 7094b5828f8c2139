"""What the report says in words and tables, computed from flat summaries. It knows nothing of HTML."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from ..contracts import InputError
from .protocols import over_corpora

SPACE = "\u00a0"
"""Keeps a number and its unit on one line."""
_OPTIONAL = {"episodes": 1, "seed": None, "queries": None, "speakers": None}
MAX_LANGUAGES = 20
MAX_GROUPS = 20


@dataclass(frozen=True)
class Standing:
    """One learner with one number of takes a word: its mean over corpora, with its interval and its worst corpus."""

    model: str
    trained: bool
    shots: int
    mean: float
    low: float | None
    high: float | None
    ways: tuple[int, int]
    """Fewest and most words of an episode over the corpora."""
    worst_corpus: str
    worst_mean: float
    corpora: tuple[str, ...]
    complete: bool
    """False where other learners were scored on corpora that this one was not."""
    best: bool
    """The highest mean of all complete learners with as many takes."""
    episode_ms: float | None
    """Time to adapt and predict in one episode, where it was measured."""


@dataclass(frozen=True)
class CorpusTable:
    """The learners on one corpus."""

    corpus: str
    facts: str
    notes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Mapping[str, Any] | None, ...]], ...]
    """(learner, a cell for each number of takes); a cell has mean, low, high and best."""


@dataclass(frozen=True)
class DrawnLanguage:
    """How often the classes of one language were in a training episode."""

    language: str
    n_classes: int
    total: int
    share: float
    low: int
    median: float
    high: int


@dataclass(frozen=True)
class DrawnGroup:
    """How often tasks were made of one group, of how much of it, and what they cost."""

    group: str
    kind: str
    episodes: int
    share: float
    classes: tuple[int, int]
    """Drawn, of how many."""
    utterances: tuple[int, int]
    mean_loss: float | None
    probability: float | None
    """Chance of the next task where sampling adapts."""


# ------------------------------------------------------------------------------------------------------------ numbers


def percent(value: float | int) -> str:
    """``81.3``, from 0.813."""
    return f"{100 * value:.1f}".replace("-", "\u2212")


def points(value: float | int) -> str:
    """``+18.2``: a difference in percentage points, with its sign."""
    text = f"{100 * value:+.1f}".replace("-", "\u2212")
    return text[1:] if text[1:] == "0.0" else text


def significant(value: float | int) -> str:
    """Three significant digits, trailing zeros kept: ``0.750``."""
    return f"{value:#.3g}".rstrip(".")


def p_value(value: float | int) -> str:
    """``< 0.001``, or three decimals."""
    return f"<{SPACE}0.001" if value < 0.001 else f"{value:.3f}"


def bounds(ci95: Sequence[float | int | None] | None) -> tuple[float, float] | tuple[None, None]:
    """The ends of an interval for an accuracy, cut to 0 and 1, which it cannot leave; (None, None) where unknown."""
    if not ci95 or ci95[0] is None or ci95[1] is None:
        return None, None
    return max(0.0, float(ci95[0])), min(1.0, float(ci95[1]))


def takes(shots: int) -> str:
    """``1 take``, ``5 takes``."""
    return f"{shots}{SPACE}take{'' if shots == 1 else 's'}"


# ------------------------------------------------------------------------------------------------------------ results


def checked(summaries: Iterable[Mapping[str, Any]], training: Collection[str]) -> list[dict[str, Any]]:
    """Summaries with every key that the tables need; a learner with a training log counts as trained.

    Raises:
        InputError: a key is missing, the metric is not accuracy, or one learner was scored twice on a corpus.
    """
    found, seen = [], set()
    for summary in summaries:
        for key in ("metric", "mean", "n", "ways", "shots", "model", "corpus"):
            if key not in summary:
                raise InputError(f"A summary has no {key!r}; give summaries as metavox evaluate --json prints them.")
        if summary["metric"] != "accuracy":
            raise InputError(f"A summary's metric is {summary['metric']!r}; this report compares accuracy only.")
        cell = (summary["model"], summary["corpus"], summary["shots"])
        if cell in seen:
            raise InputError(
                f"{cell[0]} has two summaries for {cell[1]} with {takes(cell[2])} a word; give one of them."
            )
        seen.add(cell)
        trained = summary.get("trained")
        trained = summary["model"] in training if trained is None else bool(trained)
        ci95 = list(summary.get("ci95") or (None, None))
        found.append({**_OPTIONAL, **summary, "trained": trained, "ci95": ci95})
    return found


def standings(summaries: Sequence[Mapping[str, Any]]) -> list[Standing]:
    """A standing for each learner and number of takes: trained ones first, then by their mean with most takes."""
    cells: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    corpora: dict[int, set[str]] = defaultdict(set)
    for summary in summaries:
        cells[summary["model"], summary["shots"]].append(dict(summary))
        corpora[summary["shots"]].add(summary["corpus"])
    means = {cell: over_corpora(some) for cell, some in cells.items()}
    complete = {cell for cell, some in cells.items() if len(some) == len(corpora[cell[1]])}
    top = {
        shots: max((means[cell]["mean"] for cell in complete if cell[1] == shots), default=None) for shots in corpora
    }
    found = []
    for (model, shots), some in cells.items():
        overall = means[model, shots]
        low, high = bounds(overall["ci95"])
        timed = [s for s in some if s.get("seconds") is not None]
        n_timed = sum(s["episodes"] for s in timed)
        found.append(
            Standing(
                model=model,
                trained=any(s["trained"] for s in some),
                shots=shots,
                mean=overall["mean"],
                low=low,
                high=high,
                ways=(min(s["ways"] for s in some), overall["ways"]),
                worst_corpus=overall["worst_corpus"],
                worst_mean=float(overall["worst_mean"]),
                corpora=tuple(s["corpus"] for s in some),
                complete=(model, shots) in complete,
                best=(model, shots) in complete and overall["mean"] == top[shots],
                episode_ms=1000 * sum(s["seconds"] for s in timed) / n_timed if n_timed else None,
            )
        )
    with_most = {s.model: s.mean for s in sorted(found, key=lambda s: s.shots)}
    return sorted(found, key=lambda s: (not s.trained, -with_most[s.model], s.model, s.shots))


def chance(summaries: Sequence[Mapping[str, Any]], shots: int) -> float:
    """Accuracy of guessing, as a mean over corpora."""
    ways = {s["corpus"]: s["ways"] for s in summaries if s["shots"] == shots}
    return float(np.mean([1 / n for n in ways.values()]))


def corpus_tables(summaries: Sequence[Mapping[str, Any]], models: Sequence[str]) -> list[CorpusTable]:
    """A table for each corpus, learners in the given order."""
    shots = sorted({s["shots"] for s in summaries})
    tables = []
    for corpus in dict.fromkeys(s["corpus"] for s in summaries):
        here = {(s["model"], s["shots"]): s for s in summaries if s["corpus"] == corpus}
        top = {k: max((s["mean"] for (_, shot), s in here.items() if shot == k), default=None) for k in shots}
        rows = []
        for model in models:
            cells: list[dict[str, Any] | None] = []
            for k in shots:
                summary = here.get((model, k))
                if summary is None:
                    cells.append(None)
                    continue
                low, high = bounds(summary["ci95"])
                cells.append({"mean": summary["mean"], "low": low, "high": high, "best": summary["mean"] == top[k]})
            if any(cell is not None for cell in cells):
                rows.append((model, tuple(cells)))
        notes = tuple(dict.fromkeys(s["note"] for s in here.values() if s.get("note")))
        tables.append(CorpusTable(corpus, _facts(list(here.values())), notes, tuple(rows)))
    return tables


def _facts(summaries: Sequence[Mapping[str, Any]]) -> str:
    ways = _span(s["ways"] for s in summaries)
    episodes = _span(s["episodes"] for s in summaries)
    queries = _span(s["n"] for s in summaries)
    return f"{ways} words an episode, {episodes} episodes, {queries} answers"


def _span(values: Iterable[int]) -> str:
    some = sorted(set(values))
    return f"{some[0]:,}" if len(some) == 1 else f"{some[0]:,} to {some[-1]:,}"


# ----------------------------------------------------------------------------------------------------------- headline


def headline(found: Sequence[Standing], paired: Sequence[Mapping[str, Any]], setting: str) -> tuple[str, str]:
    """The takeaway with most takes, and a sentence on how far it carries. It says so where training did not help."""
    if not found:
        return "Nothing was evaluated.", ""
    shots = max(s.shots for s in found)
    here = [s for s in found if s.shots == shots and s.complete]
    if not here:
        return f"With {takes(shots)} a word, no two learners were scored on the same sets: nothing can be compared.", ""
    trained = [s for s in here if s.trained]
    baselines = [s for s in here if not s.trained]
    first = max(trained or baselines, key=lambda s: s.mean)
    kind = "trained learner" if trained else "untrained baseline"
    who = f"the best {kind} ({first.model})" if len(trained or baselines) > 1 else f"the {kind} ({first.model})"
    fewest, most = first.ways
    up_to = "up to " if fewest < most else ""
    what = f"With {takes(shots)} a word, {who} recognises {up_to}{most} {setting}"
    sentence = f"{what} with {percent(first.mean)}{SPACE}% accuracy{_interval(first)}"
    if trained and baselines:
        sentence += _versus(first, max(baselines, key=lambda s: s.mean), paired)
    elif trained:
        sentence += "; no untrained baseline was scored beside it."
    else:
        sentence += "; no trained learner was scored on the same sets."
    return sentence, _reach(found, first)


def _interval(standing: Standing) -> str:
    if standing.low is None or standing.high is None:
        return " (too few episodes for an interval)"
    return f" (95{SPACE}% interval {percent(standing.low)} to {percent(standing.high)})"


def _versus(first: Standing, baseline: Standing, paired: Sequence[Mapping[str, Any]]) -> str:
    """How the learner compares with the baseline: tested in pairs where such a row exists, by means otherwise."""
    named = f"the best untrained baseline, {baseline.model}"
    tested = [
        row
        for row in paired
        if (row["model"], row["versus"], row["shots"]) == (first.model, baseline.model, first.shots)
    ]
    if not tested:
        gap = first.mean - baseline.mean
        if round(1000 * gap) == 0:
            return f", no better than {named}."
        side = "above" if gap > 0 else "below"
        failed = "" if gap > 0 else " Training did not help here."
        return f", {percent(abs(gap))} points {side} {named} (difference of means, not tested in pairs).{failed}"
    row = tested[0]
    gap, low, high = row["difference"], row["low"], row["high"]
    ends = f"{points(low)} to {points(high)}" if _is_number(low) and _is_number(high) else "unknown"
    side = "above" if gap >= 0 else "below"
    text = f", {percent(abs(gap))} points {side} {named}"
    if ends != "unknown" and low > 0:
        return f"{text} (paired interval {ends})."
    if ends != "unknown" and high < 0:
        return f"{text} (paired interval {ends}). Training did not help here."
    why = "is unknown" if ends == "unknown" else f"{ends} includes zero"
    return f"{text}, but the paired interval {why}: no gain from training is shown."


def _is_number(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))


def _reach(found: Sequence[Standing], first: Standing) -> str:
    parts = []
    if len(first.corpora) > 1:
        parts.append(
            f"This is the mean over {len(first.corpora)} sets; "
            f"the lowest is {first.worst_corpus} with {percent(first.worst_mean)}{SPACE}%."
        )
    parts += [
        f"With {takes(s.shots)} a word it reaches {percent(s.mean)}{SPACE}%{_interval(s)}."
        for s in found
        if s.model == first.model and s.shots != first.shots
    ]
    partial = sorted({s.model for s in found if s.shots == first.shots and not s.complete})
    if partial:
        parts.append(f"Not compared, because not scored on every set: {', '.join(partial)}.")
    return " ".join(parts)


# ----------------------------------------------------------------------------------------------------- what was drawn


def drawn_languages(drawn: Mapping[str, int], max_rows: int = MAX_LANGUAGES) -> list[DrawnLanguage]:
    """Draws by language, most drawn first; classes are named ``language:word``, and the rest share a last row."""
    groups: dict[str, list[int]] = defaultdict(list)
    for name, count in drawn.items():
        language, colon, _ = name.partition(":")
        groups[language if colon else "no language given"].append(count)
    total = max(1, sum(drawn.values()))
    order = sorted(groups, key=lambda language: (-sum(groups[language]), language))
    if len(order) > max_rows:
        rest = order[max_rows - 1 :]
        order = order[: max_rows - 1]
        merged = f"{len(rest)} other languages"
        groups[merged] = [count for language in rest for count in groups[language]]
        order.append(merged)
    return [_drawn_language(language, groups[language], total) for language in order]


def drawn_groups(rows: Sequence[Mapping[str, Any]], max_rows: int = MAX_GROUPS) -> list[DrawnGroup]:
    """Rows of ``TaskSampler.log`` by their share, most drawn first; what is beyond ``max_rows`` shares a last row."""
    order = sorted(rows, key=lambda row: (-row["episodes"], row["group"]))
    if len(order) <= max_rows:
        return [_drawn_group(row["group"], [row]) for row in order]
    rest = order[max_rows - 1 :]
    first = [_drawn_group(row["group"], [row]) for row in order[: max_rows - 1]]
    return [*first, _drawn_group(f"{len(rest)} other groups", rest)]


def _drawn_group(name: str, rows: Sequence[Mapping[str, Any]]) -> DrawnGroup:
    costs = [(row["mean_loss"], row["episodes"]) for row in rows if row["mean_loss"] is not None]
    n_costs = sum(n for _, n in costs)
    chances = [row["probability"] for row in rows if row.get("probability") is not None]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    return DrawnGroup(
        group=name or "all recordings",
        kind=" and ".join(kinds),
        episodes=sum(row["episodes"] for row in rows),
        share=sum(row["share"] for row in rows),
        classes=(sum(row["classes"] for row in rows), sum(row["of_classes"] for row in rows)),
        utterances=(sum(row["utterances"] for row in rows), sum(row["of_utterances"] for row in rows)),
        mean_loss=sum(cost * n for cost, n in costs) / n_costs if n_costs else None,
        probability=sum(chances) if chances else None,
    )


def _drawn_language(language: str, counts: Sequence[int], total: int) -> DrawnLanguage:
    own = sum(counts)
    return DrawnLanguage(language, len(counts), own, own / total, min(counts), float(np.median(counts)), max(counts))


# ---------------------------------------------------------------------------------------------------------- confusion


def confused(
    labels: Sequence[str], counts: Int[np.ndarray, "C C"], max_rows: int = 3
) -> list[tuple[str, str, int, int]]:
    """The most frequent mistakes: (spoken, heard, how often, of how many)."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:max_rows]
    rows, columns = np.unravel_index(order, wrong.shape)
    return [
        (labels[i], labels[j], int(wrong[i, j]), int(counts[i].sum()))
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        if wrong[i, j]
    ]
