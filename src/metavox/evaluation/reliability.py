"""How sure answers were against how often they were right: numbers in, geometry and verdict out.

A bin's share of right answers comes with its exact interval. The expected calibration error is never 0 on few answers,
so it stands beside what it would be if every probability were true (consistency resampling, Bröcker and Smith 2007).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..calibration import brier_score, expected_calibration_error, reliability
from ..calibration.probabilities import ReliabilityBin
from ..contracts import InputError
from ..statistics import clopper_pearson
from .figures import Tick

N_BINS = 10
_N_RESAMPLES = 1000
_LEVEL = 0.95
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Answers:
    """Probabilities of the words and of none of them, last, with the answer that was due, over some enrolments."""

    probabilities: Float[np.ndarray, "B C1"]
    labels: Int[np.ndarray, " B"]
    """Column of the answer that was due; the last where the word was not enrolled."""
    n_enrolments: int
    n_takes: int
    """Takes of each word at enrolment."""
    model: str
    corpus: str

    def __post_init__(self) -> None:
        found, labels = self.probabilities, self.labels
        if not len(labels):
            return
        # NaN fails every comparison, so this refuses it too.
        if not (found.min() >= -_TOLERANCE and np.abs(found.sum(1) - 1).max() <= _TOLERANCE):
            raise InputError("Some rows are no probabilities; each must be at least 0 and sum to 1 with none of them.")
        if labels.min() < 0 or labels.max() >= found.shape[1]:
            raise InputError(
                f"Labels go from {labels.min()} to {labels.max()}; they must be columns 0 to {found.shape[1] - 1}."
            )


@dataclass(frozen=True)
class BinMark:
    """The answers of one bin: a dot in its interval on the diagram, and a bar of their count below it."""

    low: float
    high: float
    n: int
    n_right: int
    confidence: float
    """Mean top probability."""
    accuracy: float
    interval: tuple[float, float]
    """Of the share of right answers, 95 % (Clopper and Pearson)."""
    x: float
    y: float
    y_low: float
    y_high: float
    bar_x: float
    bar_width: float
    bar_y: float
    bar_height: float


@dataclass(frozen=True)
class ReliabilityFigure:
    """The diagram in its own units, and what is said of it."""

    bins: tuple[BinMark, ...]
    """Those that hold answers."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    diagonal: tuple[float, float, float, float]
    """x and y of its beginning, x and y of its end."""
    n: int
    n_unknown: int
    """Answers to words that were not enrolled."""
    n_words: int
    """Enrolled together."""
    confidence: float
    """Mean top probability."""
    accuracy: float
    ece: float
    """Expected calibration error, 0 to 1."""
    ece_if_true: float
    """95 in 100 samples of as many answers stay below this where every probability is true."""
    brier: float
    brier_of_shares: float
    """Of stating the share of each answer, whatever is heard."""
    verdict: str

    width: float = 340.0
    left: float = 46.0
    right: float = 330.0
    top: float = 12.0
    bottom: float = 296.0
    bars_top: float = 352.0
    bars_bottom: float = 400.0
    height: float = 408.0


def reliability_figure(answers: Answers, n_bins: int = N_BINS, seed: int = 0) -> ReliabilityFigure | None:
    """Bins of equal width by top probability; None without answers. ``seed`` draws the samples of ``ece_if_true``.

    Raises:
        InputError: fewer bins than one.
    """
    found, labels = answers.probabilities, answers.labels
    if not len(labels):
        return None
    top, none = found.max(1), found.shape[1] - 1
    right = found.argmax(1) == labels
    ece, limit = expected_calibration_error(found, labels, n_bins), _ece_if_true(top, n_bins, seed)
    shares = np.bincount(labels, minlength=none + 1) / len(labels)
    rows = [row for row in reliability(found, labels, n_bins) if row.n]
    most = max(row.n for row in rows)
    marks = [(value / 4, f"{25 * value}") for value in range(5)]
    return ReliabilityFigure(
        bins=tuple(_mark(row, most) for row in rows),
        x_ticks=tuple((_x(value), text) for value, text in marks),
        y_ticks=tuple((_y(value), text) for value, text in marks),
        diagonal=(_x(0.0), _y(0.0), _x(1.0), _y(1.0)),
        n=len(labels),
        n_unknown=int((labels == none).sum()),
        n_words=none,
        confidence=float(top.mean()),
        accuracy=float(right.mean()),
        ece=ece,
        ece_if_true=limit,
        brier=brier_score(found, labels),
        brier_of_shares=float(1 - np.square(shares).sum()),
        verdict=_verdict(float(top.mean()), float(right.mean()), ece, limit),
    )


def reliability_summary(answers: Answers) -> dict[str, Any]:
    """The figure's numbers, flat, for a file of results; empty without answers."""
    figure = reliability_figure(answers)
    if figure is None:
        return {}
    kept = ("n", "n_unknown", "n_words", "confidence", "accuracy", "ece", "ece_if_true", "brier", "brier_of_shares")
    asked = {name: getattr(answers, name) for name in ("model", "corpus", "n_enrolments", "n_takes")}
    return {**asked, **{name: getattr(figure, name) for name in kept}}


def _mark(row: ReliabilityBin, most: int) -> BinMark:
    n_right = round(row.n * row.accuracy)
    interval = clopper_pearson(n_right, row.n, _LEVEL)
    tall = (ReliabilityFigure.bars_bottom - ReliabilityFigure.bars_top) * row.n / most
    gap = 1.5
    return BinMark(
        low=row.low,
        high=row.high,
        n=row.n,
        n_right=n_right,
        confidence=row.confidence,
        accuracy=row.accuracy,
        interval=(interval.low, interval.high),
        x=_x(row.confidence),
        y=_y(row.accuracy),
        y_low=_y(interval.low),
        y_high=_y(interval.high),
        bar_x=_x(row.low) + gap,
        bar_width=_x(row.high) - _x(row.low) - 2 * gap,
        bar_y=ReliabilityFigure.bars_bottom - tall,
        bar_height=tall,
    )


def _x(share: float) -> float:
    return ReliabilityFigure.left + (ReliabilityFigure.right - ReliabilityFigure.left) * share


def _y(share: float) -> float:
    return ReliabilityFigure.bottom - (ReliabilityFigure.bottom - ReliabilityFigure.top) * share


def _ece_if_true(top: Float[np.ndarray, " B"], n_bins: int, seed: int) -> float:
    """What the expected calibration error stays below in 95 of 100 samples where each answer is right as it says."""
    rng = np.random.default_rng(seed)
    bins = np.minimum((top * n_bins).astype(int), n_bins - 1)
    member = np.zeros((len(top), n_bins))
    member[np.arange(len(top)), bins] = 1
    right = rng.uniform(size=(_N_RESAMPLES, len(top))) < top
    errors = np.abs((right - top) @ member).sum(1) / len(top)
    return float(np.quantile(errors, _LEVEL))


def _verdict(confidence: float, accuracy: float, ece: float, limit: float) -> str:
    """One sentence on whether the probabilities can be taken at their word."""
    if ece <= limit:
        return (
            f"That is no more than the {100 * limit:.1f} points which chance alone may give this many true "
            "probabilities, so nothing here shows that they are off."
        )
    lean = confidence - accuracy
    if abs(lean) < ece / 2:
        where = "too sure in some bins and not sure enough in others"
    else:
        where = f"{'too sure' if lean > 0 else 'not sure enough'} by {100 * abs(lean):.1f} points over all"
    return f"True probabilities would stay below {100 * limit:.1f} points in 95 of 100 such tests: these are {where}."
