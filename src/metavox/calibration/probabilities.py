"""Probabilities of the enrolled words and of none of them, and how far they are from what happens.

A softmax over the scores of the words, all divided by one temperature, beside the threshold as the score of "none of
them". So the most probable answer is the decision, whatever the temperature, and only how sure it is has to be learned:
one number, which the leave-one-out scores of few takes can tell (temperature scaling, Guo et al. 2017). What else was
tried, and what it was worth, is in ``docs/decisions/0009-refusing.md``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..contracts import Enrollable, InputError, State

_GAP_IN_TEMPERATURES = 5.0
"""Distance between the median scores of a word with itself and with the best other, as before any take is heard."""
_LOG_SPREAD = 0.5
"""How far, as a logarithm, an enrolment's temperature is expected to be from that."""
_STEPS = (0.1, 0.01)
_REACH = 3.0


@dataclass(frozen=True, slots=True)
class Probabilities:
    """How scores become probabilities."""

    temperature: float
    """Scores this far apart differ by a factor of e."""
    threshold: float
    """The score of "none of them"."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Answers of about the same top probability, and how many of them were right."""

    low: float
    high: float
    n: int
    confidence: float
    """Mean top probability; NaN where n is 0."""
    accuracy: float


def probabilities(
    scores: Float[Tensor, "B C"] | Float[np.ndarray, "B C"], fitted: Probabilities
) -> Float[np.ndarray, "B C1"]:
    """(B, C + 1) probabilities, the last of none of the words; the largest of a row decides as ``decide`` does."""
    return np.exp(_log_probabilities(_array(scores), fitted.threshold, fitted.temperature))


def enrolment_probabilities(
    learner: Enrollable,
    state: State,
    threshold: float,
    *,
    reference: Mapping[str, Sequence[float]] | None = None,
    negatives: Float[np.ndarray, "M C"] | None = None,
) -> Probabilities:
    """``fit_probabilities`` of what an enrolment says of itself by leaving out."""
    with torch.no_grad():
        scores = learner.leave_one_out(state)
    labels = state["labels"].cpu().numpy()
    return fit_probabilities(_array(scores), labels, threshold, reference=reference, negatives=negatives)


def fit_probabilities(
    scores: Float[np.ndarray, "N C"],
    labels: Int[np.ndarray, " N"],
    threshold: float,
    *,
    reference: Mapping[str, Sequence[float]] | None = None,
    negatives: Float[np.ndarray, "M C"] | None = None,
) -> Probabilities:
    """The most likely temperature, after what the model's held-out tasks let expect.

    Each take with another of its word is heard twice: as itself, and without its word, when "none of them" is right.
    Either counts half; of the second half ``negatives`` are one half where they are given. Without such takes nothing
    is learned here and the expectation stands, which is the gap between the medians of ``reference``.

    Args:
        scores: of each take as if it had not been enrolled, -inf where its word has no other take.
        labels: words of the takes.
        threshold: what ``decide`` refuses below.
        reference: the model's scores over held-out tasks, as ``calibrate`` takes them.
        negatives: scores of sounds that are no enrolled word.

    Raises:
        InputError: no word has two takes and the model brings no reference.
    """
    own = scores[np.arange(len(labels)), labels]
    heard = np.isfinite(own)
    unknown = scores.copy()
    unknown[np.arange(len(labels)), labels] = -np.inf
    centre = np.log(_expected(own[heard], unknown.max(1, initial=-np.inf), reference))
    if not heard.any():
        return Probabilities(float(np.exp(centre)), threshold)
    none = scores.shape[1]
    groups = [(scores[heard], labels[heard], 1.0), (unknown[heard], np.full(int(heard.sum()), none), 1.0)]
    if negatives is not None and len(negatives):
        groups[1] = (*groups[1][:2], 0.5)
        groups.append((negatives, np.full(len(negatives), none), 0.5))

    def cost(log_temperature: float) -> float:
        wrong = [
            share * -_log_probabilities(rows, threshold, np.exp(log_temperature))[np.arange(len(rows)), answers].mean()
            for rows, answers, share in groups
        ]
        return float(heard.sum() * sum(wrong) / 2 + ((log_temperature - centre) / _LOG_SPREAD) ** 2 / 2)

    best, reach = float(centre), _REACH
    for step in _STEPS:
        tried = best + np.arange(-round(reach / step), round(reach / step) + 1) * step
        best, reach = float(min(tried, key=cost)), step
    return Probabilities(float(np.exp(best)), threshold)


def _expected(
    target: Float[np.ndarray, " n"], nontarget: Float[np.ndarray, " m"], reference: Mapping[str, Sequence[float]] | None
) -> float:
    """The temperature that goes with how far the scores of the model lie apart, so in their own unit."""
    if reference:
        target, nontarget = np.asarray(reference["target"]), np.asarray(reference["nontarget"])
    nontarget = nontarget[np.isfinite(nontarget)]
    if not len(target):
        raise InputError(
            "No word has two takes, and probabilities need a take heard beside another of its word; record two takes "
            "of a word, or use a trained model."
        )
    gap = float(np.median(target) - np.median(nontarget)) if len(nontarget) else 0.0
    if gap <= 0:  # nothing is told apart, or there is one word: how far the scores spread gives the unit
        gap = float(np.ptp(np.concatenate([target, nontarget])))
    return (gap or 1.0) / _GAP_IN_TEMPERATURES


def _log_probabilities(
    scores: Float[np.ndarray, "B C"], threshold: float, temperature: float
) -> Float[np.ndarray, "B C1"]:
    logits = np.concatenate([scores, np.full((len(scores), 1), threshold)], 1) / temperature
    logits -= logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def _array(scores: Tensor | np.ndarray) -> Float[np.ndarray, "B C"]:
    return scores.detach().double().cpu().numpy() if isinstance(scores, Tensor) else np.asarray(scores, np.float64)


# --------------------------------------------------------------------------------------------------------- how true


def reliability(
    found: Float[np.ndarray, "B C"], labels: Int[np.ndarray, " B"], n_bins: int = 15
) -> list[ReliabilityBin]:
    """Bins of equal width by top probability, empty ones too: a curve of confidence against accuracy.

    Raises:
        InputError: no item, or fewer bins than one.
    """
    if not len(found) or n_bins < 1:
        raise InputError(f"Reliability was asked of {len(found)} items in {n_bins} bins; give at least one of each.")
    top, right = found.max(1), found.argmax(1) == labels
    bins = np.minimum((top * n_bins).astype(int), n_bins - 1)
    rows = []
    for i in range(n_bins):
        here = bins == i
        confidence, accuracy = (float(v[here].mean()) if here.any() else float("nan") for v in (top, right))
        rows.append(ReliabilityBin(i / n_bins, (i + 1) / n_bins, int(here.sum()), confidence, accuracy))
    return rows


def expected_calibration_error(
    found: Float[np.ndarray, "B C"], labels: Int[np.ndarray, " B"], n_bins: int = 15
) -> float:
    """Mean distance between the top probability and how often it is right, over bins (Naeini et al. 2015)."""
    rows = reliability(found, labels, n_bins)
    return sum(row.n * abs(row.confidence - row.accuracy) for row in rows if row.n) / len(found)


def brier_score(found: Float[np.ndarray, "B C"], labels: Int[np.ndarray, " B"]) -> float:
    """Mean squared distance between probabilities and what was so, summed over classes, 0 to 2 (Brier 1950)."""
    truth = np.zeros_like(found)
    truth[np.arange(len(labels)), labels] = 1
    return float(((found - truth) ** 2).sum(1).mean())
