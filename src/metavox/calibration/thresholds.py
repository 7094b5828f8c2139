"""Where a score becomes a decision: thresholds for refusing what was never enrolled.

A threshold rests on two kinds of scores. *Target*: a take against its own word, as if it had not been enrolled.
*Nontarget*: the best score of a take of a word that is not enrolled. Both come from the enrolment itself by leaving
out, first the take, then its whole word; few takes are helped by the same two kinds of scores from the model's
held-out tasks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..contracts import Calibration, Decision, Enrollable, Episode, InputError, Output, State

_REFERENCE_WEIGHT = 10.0
"""The model's own scores count as much as this many enrolled takes, on either side."""
_N_QUANTILES = 41


def enrolment_scores(learner: Enrollable, state: State) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """Target and nontarget scores that an enrolment holds; either may be empty (one take a word, one word)."""
    with torch.no_grad():
        scores = learner.leave_one_out(state)
    own = scores.gather(1, state["labels"][:, None])[:, 0]
    others = scores.scatter(1, state["labels"][:, None], -torch.inf).amax(1)
    return _finite(own), _finite(others)


def _finite(values: Tensor) -> Float[np.ndarray, " n"]:
    return values[values.isfinite()].double().cpu().numpy()


def reference_scores(learner: Any, episodes: Sequence[Episode]) -> dict[str, list[float]]:
    """Quantiles of target and nontarget scores over held-out tasks, to be stored with the model.

    Each query is scored once with all words enrolled (its own word's score) and once as an unknown (the best of the
    other words).
    """
    target, nontarget = [], []
    with torch.no_grad():
        for episode in episodes:
            scores = learner.predict(learner.adapt(episode.support), episode.query).scores
            labels = episode.query.labels[:, None]
            target.append(scores.gather(1, labels)[:, 0])
            nontarget.append(scores.scatter(1, labels, -torch.inf).amax(1))
    levels = torch.linspace(0, 1, _N_QUANTILES, dtype=torch.float64)
    return {
        name: torch.quantile(torch.cat(values).double(), levels).tolist()
        for name, values in (("target", target), ("nontarget", nontarget))
    }


def calibrate(
    target: Float[np.ndarray, " n"],
    nontarget: Float[np.ndarray, " m"],
    reference: Mapping[str, Sequence[float]] | None = None,
) -> Calibration:
    """The threshold where false refusals and false acceptances are fewest together, each kind counted as a rate.

    Ties are broken in the middle of the gap between two scores.

    Raises:
        InputError: one kind of score is missing and the model brings no reference.
    """
    weight = _REFERENCE_WEIGHT if reference else 0.0
    if not reference and (len(target) == 0 or len(nontarget) == 0):
        raise InputError(
            f"The enrolment gives {len(target)} scores of a word with itself and {len(nontarget)} with other words, "
            "and a threshold needs both; record two takes of two words, or use a trained model."
        )
    ref_target = np.asarray(reference["target"] if reference else [], np.float64)
    ref_nontarget = np.asarray(reference["nontarget"] if reference else [], np.float64)
    values = np.concatenate([target, ref_target, nontarget, ref_nontarget])
    gains = np.concatenate([_shares(target, ref_target, weight), -_shares(nontarget, ref_nontarget, weight)])
    order = np.argsort(values, kind="stable")
    values, gains = values[order], gains[order]
    # Threshold before the i-th value refuses everything below: errors = target weight below + nontarget weight above.
    errors = np.concatenate([[0.0], np.cumsum(gains)])
    best = np.flatnonzero(np.isclose(errors, errors.min()))
    cuts = np.concatenate([[values[0] - 1.0], (values[1:] + values[:-1]) / 2, [values[-1] + 1.0]])
    threshold = float(cuts[best[len(best) // 2]])
    source = "both" if reference and len(target) + len(nontarget) else ("model" if reference else "enrolment")
    return Calibration(threshold, len(target), len(nontarget), source)


def _shares(scores: np.ndarray, reference: np.ndarray, reference_weight: float) -> np.ndarray:
    """Weights that sum to one: 1 for each score, ``reference_weight`` spread over the reference."""
    weights = np.concatenate([np.ones(len(scores)), np.full(len(reference), reference_weight / max(len(reference), 1))])
    return weights / weights.sum()


def decide(output: Output, labels: Sequence[str], calibration: Calibration) -> list[Decision]:
    """One decision an item: the best label, or None where its score is below the threshold."""
    decisions = []
    for row in output.scores.double().cpu().numpy():
        best = int(row.argmax())
        label = labels[best] if row[best] >= calibration.threshold else None
        scores = {name: float(score) for name, score in zip(labels, row, strict=True)}
        decisions.append(Decision(label, labels[best], float(row[best]), calibration.threshold, scores))
    return decisions
