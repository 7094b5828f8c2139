"""Scores of trials to log-likelihood ratios, with what else is known of a trial.

Logistic regression as in speaker recognition (Brummer and du Preez 2006; quality measures of Mandasari et al. 2013):
the log odds are linear in the features of a trial, target and non-target trials count half each (or as ``p_target``
says), and the prior's log odds are taken off. What is learned is small, and learned once on development speakers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..contracts import InputError

_STEPS, _TOLERANCE = 100, 1e-10


@dataclass(frozen=True, slots=True)
class Ratios:
    """A map from the features of a trial to the natural logarithm of its likelihood ratio."""

    weights: Mapping[str, float]
    """By feature; ``bias`` is added."""
    bias: float

    def __call__(self, features: Mapping[str, Float[np.ndarray, "*n"]]) -> Float[np.ndarray, "*n"]:
        """Log-likelihood ratios, float64.

        Raises:
            InputError: a feature is missing.
        """
        missing = [name for name in self.weights if name not in features]
        if missing:
            raise InputError(
                f"The features {', '.join(missing)} of the trials are missing; the calibration rests on them."
            )
        total = sum((weight * np.asarray(features[name], np.float64) for name, weight in self.weights.items()), 0.0)
        return np.asarray(total + self.bias)


def fit_ratios(
    target: Mapping[str, Float[np.ndarray, " n"]],
    nontarget: Mapping[str, Float[np.ndarray, " m"]],
    *,
    p_target: float = 0.5,
    penalty: float = 1e-3,
    weights: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]] | None = None,
) -> Ratios:
    """The map with the least cross-entropy at ``p_target``, by Newton's method in float64; deterministic.

    Args:
        target: features of trials of one voice, name to values; the same names in both.
        nontarget: features of trials of two voices.
        p_target: the prior at which the map is to be best.
        penalty: on the square of each weight, for features scaled to deviation 1: one that tells nothing gets none.
        weights: how much each trial counts, so that no speaker outweighs the others.

    Raises:
        InputError: no trial of either kind, other features in one, NaN or infinity, an impossible prior.
    """
    if not 0 < p_target < 1:
        raise InputError(f"The prior p_target is {p_target:g}; give a probability between 0 and 1, such as 0.5.")
    names = tuple(target)
    if set(names) != set(nontarget):
        raise InputError(
            f"Target trials have {', '.join(names)} and others {', '.join(nontarget)}; give both the same."
        )
    rows = [np.stack([np.asarray(of[name], np.float64) for name in names], 1) for of in (target, nontarget)]
    if not len(rows[0]) or not len(rows[1]):
        raise InputError(f"{len(rows[0])} target and {len(rows[1])} non-target trials; give at least one of each.")
    x = np.concatenate(rows)
    if not np.isfinite(x).all():
        raise InputError("A feature of a trial is NaN or infinite; leave that trial out.")
    share = [np.ones(len(part)) for part in rows] if weights is None else [np.asarray(w, np.float64) for w in weights]
    mass = np.concatenate([p_target * share[0] / share[0].sum(), (1 - p_target) * share[1] / share[1].sum()])
    answer = np.concatenate([np.ones(len(rows[0])), np.zeros(len(rows[1]))])
    centre, scale = mass @ x, np.sqrt(np.maximum(mass @ (x - mass @ x) ** 2, 1e-12))
    design = np.column_stack([(x - centre) / scale, np.ones(len(x))])
    ridge = np.append(np.full(len(names), penalty), 0.0)
    found = _newton(design, answer, mass, ridge)
    slopes = found[:-1] / scale
    bias = float(found[-1] - slopes @ centre - math.log(p_target / (1 - p_target)))
    return Ratios({name: float(slope) for name, slope in zip(names, slopes, strict=True)}, bias)


def _newton(
    design: Float[np.ndarray, "n K"],
    answer: Float[np.ndarray, " n"],
    mass: Float[np.ndarray, " n"],
    ridge: Float[np.ndarray, " K"],
) -> Float[np.ndarray, " K"]:
    """Minimum of the weighted cross-entropy plus the penalty; steps are halved until they descend."""

    def cost(at: np.ndarray) -> float:
        return float(mass @ np.logaddexp(0, np.where(answer > 0, -1, 1) * (design @ at)) + ridge @ at**2 / 2)

    found = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(design @ found, -500, 500)))
        slope = design.T @ (mass * (chance - answer)) + ridge * found
        curve = (design.T * (mass * chance * (1 - chance))) @ design + np.diag(ridge + 1e-12)
        step = np.linalg.solve(curve, slope)
        now, size = cost(found), 1.0
        while size > 1e-6 and cost(found - size * step) > now:
            size /= 2
        found = found - size * step
        if float(slope @ step) < _TOLERANCE:
            break
    return found
