"""One self-contained HTML page that says what was learned, how good it is, and how sure that is.

The page loads nothing: style and figures are inside, and text is drawn by the reader's own fonts, so that words of any
script show. Whatever is printed on it (words, paths, names) is escaped.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..contracts import InputError
from .figures import N_COLOURS, map_figure, project, training_figures
from .reliability import Answers, reliability_figure
from .tables import (
    Standing,
    chance,
    checked,
    confused,
    corpus_tables,
    drawn_groups,
    drawn_languages,
    headline,
    p_value,
    percent,
    points,
    significant,
    standings,
    takes,
)

__all__ = ["Confusion", "Embedding", "ReportData", "project", "render", "write_report"]

_FILTERS = (percent, points, p_value, significant, takes)


@dataclass(frozen=True)
class Confusion:
    """What was answered (columns) when a word was spoken (rows)."""

    labels: Sequence[str]
    counts: Int[np.ndarray, "C C"]
    model: str
    corpus: str

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.counts):
            raise InputError(
                f"{len(self.labels)} labels stand beside a {len(self.counts)} by {len(self.counts)} confusion matrix; "
                "give one label for each row."
            )


@dataclass(frozen=True)
class Embedding:
    """Takes on a plane, the word of each, and a sentence that says how the plane was made."""

    points: Float[np.ndarray, "n 2"]
    labels: Sequence[str]
    split: Sequence[str] = ()
    """Empty, or for each take what its marker tells apart: support and query, or the speaker."""
    sentence: str = ""

    def __post_init__(self) -> None:
        for name, n in (("labels", len(self.labels)), ("split", len(self.split) or len(self.points))):
            if n != len(self.points):
                raise InputError(f"{len(self.points)} points have {n} {name}; give one for each point.")
        if not np.isfinite(self.points).all():
            raise InputError("Some points of the embedding map are not finite; leave them out.")


@dataclass(frozen=True)
class ReportData:
    """What a report is made of. A part that is empty is left out of the page."""

    title: str
    subtitle: str = ""
    setting: str = "words it was not trained on"
    """What the learners were asked to recognise, as it goes on after a number: ``10 words it was not trained on``."""
    about: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Learner -> lines of its ``training.jsonl``."""
    summaries: Sequence[Mapping[str, Any]] = ()
    """Flat summaries of accuracy, one for each learner, corpus and number of shots; ``model`` is the name shown."""
    paired: Sequence[Mapping[str, Any]] = ()
    """Rows of ``comparison.compare`` with ``shots``: every learner against the best untrained baseline."""
    confusion: Confusion | None = None
    embedding: Embedding | None = None
    enrolled: Sequence[str] = ()
    """The words that were enrolled."""
    enrolment: Sequence[Mapping[str, Any]] = ()
    """New takes: ``spoken``, ``heard`` (None: refused), ``score``, ``threshold``, ``right``."""
    reliability: Answers | None = None
    """How sure answers were, and which were due."""
    drawn: Mapping[str, int] = field(default_factory=dict)
    """How often each class (``language:word``) was in a training episode."""
    groups: Sequence[Mapping[str, Any]] = ()
    """Rows of ``TaskSampler.log``: how often each group of classes was drawn, and what its tasks cost."""
    drawn_for: str = ""
    """The learner whose training tasks ``drawn`` and ``groups`` count."""
    steps: Mapping[str, str] = field(default_factory=dict)
    """The five steps by name, each with what was done in this run."""


def write_report(path: Path, report: ReportData) -> None:
    """Write the page so that ``path`` is either the old file or the whole new one.

    Raises:
        InputError: Jinja is not installed, or summaries that cannot stand in one table.
    """
    page = render(report)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # A path that is not valid UTF-8 reaches us with surrogates, which no encoder takes.
        beside.write_text(page, encoding="utf-8", errors="backslashreplace")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def render(report: ReportData) -> str:
    """The page as text. Raises InputError as ``write_report`` does."""
    try:
        import jinja2
    except ImportError:
        raise InputError('A report needs Jinja, which is not installed; pip install "metavox[demo]".') from None
    # Read as a resource, so that it works from a zip as well as from a folder.
    loader = jinja2.FunctionLoader(lambda name: resources.files(__package__).joinpath(name).read_text("utf-8"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {function.__name__: function for function in _FILTERS}
    return environment.get_template("report.html.j2").render(report=report, **_view(report))


def _view(report: ReportData) -> dict[str, Any]:
    summaries = checked(report.summaries, report.training.keys())
    found = standings(summaries)
    models = list(dict.fromkeys(s.model for s in found))
    takeaway, reach = headline(found, report.paired, report.setting)
    shots = sorted({s.shots for s in found})
    embedding = report.embedding
    return {
        "takeaway": takeaway,
        "reach": reach,
        "shots": shots,
        "models": models,
        "standing": {(s.model, s.shots): s for s in found},
        "n_corpora": {k: len({s["corpus"] for s in summaries if s["shots"] == k}) for k in shots},
        "chance": {k: chance(summaries, k) for k in shots},
        "colours": _colours(found, report.training),
        "timed": any(s.episode_ms is not None for s in found),
        "corpora": corpus_tables(summaries, models),
        "paired": _paired(report.paired),
        "figures": training_figures(report.training),
        "confusion": _confusion(report.confusion) if report.confusion is not None else None,
        "map": map_figure(embedding.points, embedding.labels, embedding.split)
        if embedding is not None and len(embedding.points)
        else None,
        "enrolment": _enrolment(report),
        "reliability": reliability_figure(report.reliability) if report.reliability is not None else None,
        "drawn": drawn_languages(report.drawn),
        "n_drawn": len(report.drawn),
        "groups": (groups := drawn_groups(report.groups)),
        "largest": max((group.share for group in groups), default=0.0) or 1.0,
    }


def _colours(found: Sequence[Standing], training: Mapping[str, Any]) -> dict[str, str]:
    """Style classes: a trained learner has one colour on the whole page, and baselines are grey."""
    trained = list(dict.fromkeys([*training, *(s.model for s in found if s.trained)]))
    colours = {s.model: "untrained" for s in found}
    return colours | {model: f"c{i % N_COLOURS}" for i, model in enumerate(trained)}


def _paired(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Differences with their verdict, and their places in per cent on one scale that has zero in its middle."""
    known = [abs(row[key]) for row in rows for key in ("difference", "low", "high") if _finite(row[key])]
    reach = 1.08 * max(known, default=1.0) or 1.0
    found = []
    for row in sorted(rows, key=lambda r: r["shots"]):
        sure = _finite(row["low"]) and _finite(row["high"])
        better, worse = sure and row["low"] > 0, sure and row["high"] < 0
        verdict = "better" if better else "worse" if worse else "no clear difference"
        place = {key: 50 + 50 * row[key] / reach for key in ("difference", "low", "high") if _finite(row[key])}
        found.append({**row, "sure": sure, "verdict": verdict, "place": place})
    return found


def _finite(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))


def _confusion(confusion: Confusion) -> dict[str, Any]:
    counts = confusion.counts
    spoken = counts.sum(1)
    shares = counts / np.maximum(spoken, 1)[:, None]  # tinted by a power below 1, so that rare mistakes show
    return {
        "rows": [
            (label, list(zip(row.tolist(), share.tolist(), (share**0.7).tolist(), strict=True)), int(n))
            for label, row, share, n in zip(confusion.labels, counts, shares, spoken, strict=True)
        ],
        "right": int(np.trace(counts)),
        "total": int(counts.sum()),
        "mistakes": confused(confusion.labels, counts),
    }


def _enrolment(report: ReportData) -> dict[str, Any] | None:
    """New takes with the place of each score between the lowest and the highest, in per cent."""
    rows = report.enrolment
    if not rows:
        return None
    values = [row[key] for row in rows for key in ("score", "threshold") if _finite(row[key])]
    low, high = min(values, default=0.0), max(values, default=1.0)

    def place(value: Any) -> float | None:
        return 4 + 92 * (value - low) / ((high - low) or 1.0) if _finite(value) else None

    enrolled = set(report.enrolled)
    known = [row for row in rows if row["spoken"] in enrolled]
    unknown = [row for row in rows if row["spoken"] not in enrolled]
    return {
        "rows": [{**row, "at": place(row["score"]), "line": place(row["threshold"])} for row in rows],
        "known": (sum(bool(row["right"]) for row in known), len(known)),
        "unknown": (sum(row["heard"] is None for row in unknown), len(unknown)),
    }
