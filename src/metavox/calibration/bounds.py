"""Thresholds that promise something: how often what is no enrolled word is accepted at most, and how sure that is.

The promise rests on negatives: sounds that are no enrolled word, each with the largest score of its row. It is made of
order statistics, so nothing is assumed of how scores are distributed, and nothing approximate happens for independent
negatives. Why choosing the threshold on the same negatives costs nothing is told in ``threshold_for``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from ..contracts import InputError, Promise
from ..distributions import (
    beta_quantile,
    gamma_quantile,
    regularized_incomplete_beta,
    regularized_incomplete_gamma,
    student_t_quantile,
)

_FEW_RECORDINGS = 10
"""Of fewer than this, nothing is known of how recordings differ; each is then cut into stretches."""
_N_STRETCHES = 20
_LEVELS, _FEWEST_ALARMS = (1, 2, 4), 10
"""The design effect is looked for where the target's alarms pass and further down, where it is seen more surely."""
_WORTH_SAYING = 1.05
"""Design effects below this are passed over in sentences."""
_ABOVE = 0.1
"""How far into the gap above the refused score the threshold lies: the promise holds from the foot of it on, and every
step up refuses words."""


def threshold_for(
    scores: Float[np.ndarray, " n"] | Sequence[float],
    *,
    target: float | int,
    per_hour: bool = False,
    hours: float | int = 0.0,
    confidence: float | int = 0.95,
    groups: Shaped[np.ndarray, " n"] | Sequence[Any] | None = None,
    negatives: str = "model",
) -> tuple[float, Promise]:
    """The lowest threshold that keeps a target, and the promise that goes with it.

    Of n scores, a may pass: the threshold stands just above the (a + 1)-th largest. The true share of sounds beyond the
    (a + 1)-th largest of n exchangeable scores is Beta(a + 1, n - a) distributed, whatever the scores are (smaller with
    ties), and above p with the chance P(Binomial(n, p) <= a). So the share accepted is at most the upper bound of
    Clopper and Pearson (1934) for a of n, *although* the threshold was chosen on these scores: a depends on n, target
    and confidence alone, which are known before any score is seen. It is the largest whose bound is within the target.
    (A threshold looked for among the scores until its bound pleases has no such argument.) Per hour, scores beyond a
    level come as a Poisson process; the rate beyond the (a + 1)-th largest, times the hours, is Gamma(a + 1, 1)
    distributed, which is the exact upper bound for a alarms (Garwood 1936), and a depends on the hours alone.

    ``groups`` names the recording of each negative, because sounds of one recording pass together. Then n, the hours
    and a are divided by a design effect first (Korn and Graubard 1998), see ``design_effect``, and the promise is
    approximate: simulations keep it, unless a kind of recording that passes is so rare that three or fewer of it are to
    be expected. With fewer than ten recordings it holds for more of these recordings only.

    Args:
        scores: largest score of each negative; a score at the threshold is accepted, as ``decide`` does.
        target: share of such sounds, or false alarms an hour with ``per_hour``.
        hours: duration of the recordings that the negatives were found in.
        confidence: share of draws of negatives in which the promise holds.
        groups: recording of each negative, in the order of time; None where each stands for itself.
        negatives: where they come from, for the promise.

    Raises:
        InputError: no negatives, scores that are not finite, a target, confidence or duration out of range, or a target
            that so many negatives or hours cannot support.
    """
    target, hours, confidence = float(target), float(hours), float(confidence)
    values = _checked(scores, target, per_hour, hours, confidence)
    codes = _recordings(groups, len(values))
    n_recordings = 0 if codes is None else int(codes.max()) + 1
    expected = target * (hours if per_hour else len(values))
    effect = 1.0 if codes is None else design_effect(values, codes, expected, confidence)
    evidence = _PerHour(hours, effect, confidence) if per_hour else _Rate(len(values), effect, confidence)
    if not evidence.supports(0, target):
        raise InputError(evidence.complaint(target))
    n_allowed = _largest(lambda n_alarms: evidence.supports(n_alarms, target), len(values))
    threshold = _above(values, n_allowed)
    n_alarms = int((values >= threshold).sum())
    bound = min(evidence.bound(n_allowed), target)  # equal to it but for rounding
    promise = Promise(
        target, per_hour, bound, confidence, len(values), n_alarms, hours, negatives, n_recordings, effect
    )
    return threshold, promise


def as_sentence(promise: Promise) -> str:
    """A promise in one plain sentence. The bound is rounded up, so that no more is said than is known."""
    sounds = f"{promise.n_alarms} of {promise.n_negatives} negatives"
    if promise.hours:
        sounds += f" from {_hours(promise.hours)} h"
    if promise.n_recordings:
        sounds += f" in {promise.n_recordings} recording{'s' * (promise.n_recordings > 1)}"
    sounds += " pass"
    if promise.design_effect >= _WORTH_SAYING:
        sounds += f", which tell as much as {promise.n_negatives / promise.design_effect:.0f} independent ones"
    if promise.per_hour:
        said = f"At most {_rounded(promise.bound)} false alarms an hour"
    else:
        said = f"At most {_rounded(100 * promise.bound)} % of sounds that are no enrolled word are accepted"
    if 0 < promise.n_recordings < _FEW_RECORDINGS:
        where = f"these {promise.n_recordings} recordings" if promise.n_recordings > 1 else "this recording"
        said += f" where it sounds as in {where}"
    return f"{said} ({_percent(promise.confidence)} confidence; {sounds})."


def design_effect(
    scores: Float[np.ndarray, " n"], codes: Int[np.ndarray, " n"], expected: float | int, confidence: float = 0.95
) -> float:
    """How many negatives tell as much as one that is independent, 1 or more, where some come from one recording.

    The variance of the share that passes, between recordings (a ratio, Kish 1965), over the variance that independent
    negatives would have (Rao and Scott 1992), at several levels: where ``expected`` alarms pass, twice and four times
    as many, and not fewer than ten. The few alarms above the threshold itself would tell little, and least so in the
    draws in which the worst recordings happen to be absent. The largest counts, with three safeguards: a standard error
    is added to each that is above 1 by more than that (but no more than if all sounds of a recording passed together);
    Student's t with as many degrees
    of freedom as recordings stands for the normal distribution (Korn and Graubard 1998); and where recordings are
    fewer than ten, stretches of them stand for recordings, and how the whole recordings differ counts too.

    Args:
        codes: recording of each score, 0 to G - 1, in the order of time within each.
        expected: alarms that the target allows on average.
    """
    order = np.argsort(-scores, kind="stable")
    least = 1.0
    if codes.max() + 1 < _FEW_RECORDINGS:
        if codes.max() > 0:
            least = max(ratio for ratio, _ in _ratios(codes, order, expected))
        codes = _stretches(codes)
    n_units = int(codes.max()) + 1
    if n_units == len(scores):
        return least  # each its own
    sizes = np.bincount(codes)
    together = float((sizes**2).sum() / len(scores)) * n_units / (n_units - 1)
    found = max(
        max(ratio, min(ratio * (1 + error), together)) if ratio * (1 - error) > 1 else ratio
        for ratio, error in _ratios(codes, order, expected)
    )
    # Bounds are this much further away, as the variance is estimated too.
    wider = student_t_quantile(confidence, n_units - 1) / NormalDist().inv_cdf(confidence)
    return max(1.0, least, found) * wider**2


def _ratios(
    codes: Int[np.ndarray, " n"], order: Int[np.ndarray, " n"], expected: float | int
) -> list[tuple[float, float]]:
    """Design effect and its relative standard error at each level; ``order`` puts the largest score first."""
    n, sizes = len(codes), np.bincount(codes)
    found = [(1.0, 0.0)]
    for times in _LEVELS:
        n_passing = int(min(times * max(expected, _FEWEST_ALARMS), n // 2))
        if n_passing < 1:
            continue
        share = n_passing / n
        passing = np.bincount(codes[order[:n_passing]], minlength=len(sizes))
        squares = (passing - share * sizes) ** 2
        if not squares.any():
            continue
        between = len(sizes) / (len(sizes) - 1) * squares.sum()
        error = math.sqrt(float((squares**2).sum())) / float(squares.sum())
        found.append((float(between / (n * share * (1 - share))), error))
    return found


def _stretches(codes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Recordings cut into about twenty stretches in all, as even as can be, in the order given."""
    size = max(1.0, len(codes) / _N_STRETCHES)
    found, n_before = np.empty_like(codes), 0
    for code in range(int(codes.max()) + 1):
        places = np.flatnonzero(codes == code)
        n_parts = min(len(places), max(1, round(len(places) / size)))
        found[places] = n_before + np.arange(len(places)) * n_parts // len(places)
        n_before += n_parts
    return found


# ---------------------------------------------------------------------------------------------------------- evidence


@dataclass(frozen=True)
class _Rate:
    """What so many negatives can say of a share. Not whole numbers after a design effect: Beta does not mind."""

    n: int
    effect: float
    confidence: float

    def supports(self, n_alarms: int, target: float) -> bool:
        passed, refused = n_alarms / self.effect + 1, (self.n - n_alarms) / self.effect
        return refused > 0 and regularized_incomplete_beta(passed, refused, target) >= self.confidence

    def bound(self, n_alarms: int) -> float:
        return beta_quantile(self.confidence, n_alarms / self.effect + 1, (self.n - n_alarms) / self.effect)

    def complaint(self, target: float) -> str:
        needed = math.ceil(self.effect * math.log(1 - self.confidence) / math.log1p(-target) - 1e-9)
        least = -math.expm1(math.log(1 - self.confidence) * self.effect / self.n)
        or_ask = f", or ask for {_rounded(100 * least)} % or more" if least < 0.5 else ""
        return (
            f"{_percent(target)} of unknown sounds needs at least {needed} negatives at {_percent(self.confidence)} "
            f"confidence{_because(self.effect)}; {self.n} are there; give more recordings of sounds that are no "
            f"enrolled word{or_ask}."
        )


@dataclass(frozen=True)
class _PerHour:
    """What so many hours can say of alarms per hour."""

    hours: float
    effect: float
    confidence: float

    def supports(self, n_alarms: int, target: float) -> bool:
        expected = target * self.hours / self.effect
        return regularized_incomplete_gamma(n_alarms / self.effect + 1, expected) >= self.confidence

    def bound(self, n_alarms: int) -> float:
        return gamma_quantile(self.confidence, n_alarms / self.effect + 1) * self.effect / self.hours

    def complaint(self, target: float) -> str:
        enough = -math.log(1 - self.confidence) * self.effect
        needed = enough / target
        return (
            f"{target:g} false alarms an hour needs at least {_rounded(needed) if needed < 10 else math.ceil(needed)} "
            f"hours of negatives at {_percent(self.confidence)} confidence{_because(self.effect)}; you gave "
            f"{_hours(self.hours)}; give longer recordings without enrolled words, or ask for "
            f"{_rounded(enough / self.hours)} an hour or more."
        )


def _largest(supported: Callable[[int], bool], n: int) -> int:
    """The largest count of alarms up to n that is supported, where 0 is; fewer are wherever more are."""
    low, high = 0, n + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if supported(middle) else (low, middle)
    return low


def _above(values: Float[np.ndarray, " n"], n_allowed: int) -> float:
    """A threshold that at most ``n_allowed`` scores reach, a little above the next."""
    if n_allowed >= len(values):
        return float(values.min())
    refused = float(np.partition(values, len(values) - n_allowed - 1)[len(values) - n_allowed - 1])
    higher = values[values > refused]
    gap = float(higher.min()) - refused if len(higher) else 0.0
    just = math.nextafter(refused, math.inf)
    return max(just, refused + _ABOVE * gap) if math.isfinite(gap) else just


# ------------------------------------------------------------------------------------------------------------ checks


def _checked(
    scores: Float[np.ndarray, " n"] | Sequence[float], target: float, per_hour: bool, hours: float, confidence: float
) -> Float[np.ndarray, " n"]:
    if per_hour and not (target > 0 and math.isfinite(target)):
        raise InputError(f"The target is {target:g} false alarms an hour; give a number above 0, such as 1.")
    if not per_hour and not 0 < target < 1:
        raise InputError(f"The target is {target:g}; give a share between 0 and 1, such as 0.05, or ask per hour.")
    if not 0.5 < confidence < 1:
        raise InputError(f"The confidence is {confidence:g}; give a share between 0.5 and 1, such as 0.95.")
    if hours < 0 or not math.isfinite(hours) or (per_hour and hours == 0):
        raise InputError(
            f"The negatives last {hours:g} hours, and alarms are counted by the hour; say how long they are."
        )
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError("There are no negatives, and a promise rests on them; give recordings without enrolled words.")
    n_bad = int((~np.isfinite(values)).sum())
    if n_bad:
        raise InputError(
            f"{n_bad} of the {len(values)} scores of negatives are NaN or infinite; leave those sounds out."
        )
    return values


def _recordings(groups: Shaped[np.ndarray, " n"] | Sequence[Any] | None, n: int) -> Int[np.ndarray, " n"] | None:
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise InputError(f"There are {labels.size} names of recordings for {n} negatives; give each negative one.")
    return np.unique(labels.astype(str) if labels.dtype == object else labels, return_inverse=True)[1]


def _because(effect: float) -> str:
    return "" if effect < _WORTH_SAYING else f", as sounds of one recording pass together and count as {1 / effect:.2g}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _hours(hours: float) -> str:
    said = _rounded(hours, up=False)
    return said.rstrip("0").rstrip(".") if "." in said else said


def _rounded(value: float, *, up: bool = True) -> str:
    """Two digits and all before the point, never below the value, or never above."""
    digits = max(0, 1 - math.floor(math.log10(value)))
    scaled = round(value * 10**digits, 9)
    return f"{(math.ceil(scaled) if up else math.floor(scaled)) / 10**digits:.{digits}f}"
