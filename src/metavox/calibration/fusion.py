"""Who said it and what was said, as one log-likelihood ratio.

A clip is said by the owner or by somebody else, and holds the word that it is taken for or another: four quadrants.
One softmax regression tells them apart, with the recogniser's and the verifier's evidence as features, fitted on
development people and words with every quadrant counting the same; so its outputs are log-likelihoods of the
quadrants. A decision is a question about quadrants: what it accepts against what it refuses, each quadrant with the
share that it is expected to have,

    llr = log sum_accepted prior * likelihood - log sum_refused prior * likelihood.

So one fit answers for every mode. Where only the owner's own word is accepted this is the mixture rule: minus the
logarithm of a weighted sum of exp(-llr) over the three ways to be wrong, and the weakest part decides. The features
need not be independent given the quadrant: a recogniser that was enrolled by the owner hears the owner better.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from ..contracts import Enrollable, InputError, State
from .probabilities import Probabilities, enrolment_probabilities
from .thresholds import calibrate, enrolment_scores

Mode = Literal["open", "owner-biased", "owner-only"]
MODES: tuple[Mode, ...] = get_args(Mode)
QUADRANTS = ("own_target", "own_other", "other_target", "other_other")
"""Who speaks, the owner or another, and whether it is the word that it is taken for."""
OWNER_SHARE = 0.9
"""Where the owner is preferred and others are not refused: the share of commands that the owner gives."""

_ACCEPTED: Mapping[Mode, tuple[int, ...]] = {"open": (0, 2), "owner-biased": (0, 2), "owner-only": (0,)}
_STEPS, _TOLERANCE = 100, 1e-12


@dataclass(frozen=True)
class Fusion:
    """Log-likelihoods of the quadrants, linear in the features of a trial; those of the first are 0."""

    features: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    """A row for each quadrant but the first, a column for each feature."""
    bias: tuple[float, ...]
    """For each quadrant but the first."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What it was fitted on."""

    def likelihoods(self, features: Mapping[str, Float[np.ndarray, " n"]]) -> Float[np.ndarray, "n 4"]:
        """Natural logarithms of the likelihoods of ``QUADRANTS``, up to what all four share; float64.

        Raises:
            InputError: a feature is missing.
        """
        missing = [name for name in self.features if name not in features]
        if missing:
            raise InputError(f"The fusion rests on {', '.join(missing)}, which these trials lack; fit it without.")
        x = np.stack([np.asarray(features[name], np.float64) for name in self.features], axis=-1)
        rest = x @ np.asarray(self.weights, np.float64).T + np.asarray(self.bias, np.float64)
        return np.concatenate([np.zeros((*x.shape[:-1], 1)), rest], axis=-1)

    def llr(
        self, features: Mapping[str, Float[np.ndarray, " n"]], mode: Mode = "owner-only"
    ) -> Float[np.ndarray, " n"]:
        """Natural logarithm of the likelihood ratio of what ``mode`` accepts to what it refuses."""
        found = self.likelihoods(features) + _log_shares(mode)
        accepted = list(_ACCEPTED[mode])
        refused = [place for place in range(len(QUADRANTS)) if place not in accepted]
        return _log_sum(found[..., accepted]) - _log_sum(found[..., refused])

    def as_document(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "features": list(self.features),
            "weights": {name: list(row) for name, row in zip(QUADRANTS[1:], self.weights, strict=True)},
            "bias": dict(zip(QUADRANTS[1:], self.bias, strict=True)),
            "about": dict(self.about),
        }


def fusion_from(document: Any, source: str) -> Fusion:
    """A fusion as ``Fusion.as_document`` gave it; ``source`` names the file in a refusal.

    Raises:
        InputError: anything else.
    """
    try:
        features = tuple(str(name) for name in document["features"])
        weights = tuple(tuple(float(value) for value in document["weights"][name]) for name in QUADRANTS[1:])
        bias = tuple(float(document["bias"][name]) for name in QUADRANTS[1:])
        about = dict(document.get("about", {}))
    except (KeyError, TypeError, ValueError, AttributeError):
        features, weights, bias, about = (), (), (), {}
    fits = features and len(set(features)) == len(features) and all(len(row) == len(features) for row in weights)
    if not fits or not np.isfinite([*bias, *(value for row in weights for value in row)]).all():
        raise InputError(f"{source} holds no fusion of word and voice; make one with --fit-fusion.")
    return Fusion(features, weights, bias, about)


def fusions_from(documents: Any, source: str) -> tuple[Fusion, ...]:
    """Several, the one with the most features first, so that ``fitting`` takes what a trial has features for.

    Raises:
        InputError: no list of fusions.
    """
    if not isinstance(documents, list | tuple) or not documents:
        raise InputError(f"{source} holds no fusion of word and voice; make one with --fit-fusion.")
    found = [fusion_from(document, source) for document in documents]
    return tuple(sorted(found, key=lambda one: -len(one.features)))


def fitting(fusions: Sequence[Fusion], features: Mapping[str, Any]) -> Fusion:
    """The first fusion that these features are enough for.

    Raises:
        InputError: none.
    """
    for one in fusions:
        if set(one.features) <= set(features):
            return one
    wanted = ", ".join(fusions[-1].features) if fusions else "anything"
    raise InputError(f"No fusion rests on {', '.join(features)} alone; the one with the fewest needs {wanted}.")


def independent(word: str = "word", voice: str = "voice") -> Fusion:
    """What holds where both parts are calibrated log-likelihood ratios that know nothing of each other."""
    return Fusion((word, voice), ((-1.0, 0.0), (0.0, -1.0), (-1.0, -1.0)), (0.0, 0.0, 0.0), {"fitted": False})


def _log_shares(mode: Mode) -> Float[np.ndarray, " 4"]:
    """Logarithms of the shares that quadrants are expected to have among what a mode accepts, and what it refuses."""
    own = OWNER_SHARE if mode == "owner-biased" else 0.5
    shares = (1.0, 1 / 3, 1 / 3, 1 / 3) if mode == "owner-only" else (own, 0.5, 1 - own, 0.5)
    return np.log(np.asarray(shares, np.float64))


def _log_sum(values: Float[np.ndarray, "*n K"]) -> Float[np.ndarray, "*n"]:
    top = values.max(axis=-1)
    return np.asarray(top + np.log(np.exp(values - top[..., None]).sum(axis=-1)))


# -------------------------------------------------------------------------------------------------------------- fitting


def fit_fusion(
    features: Mapping[str, Float[np.ndarray, " n"]],
    quadrants: Int[np.ndarray, " n"],
    *,
    groups: Sequence[Any] | np.ndarray | None = None,
    penalty: float = 1e-3,
    about: Mapping[str, Any] | None = None,
) -> Fusion:
    """The softmax regression with the least cross-entropy, by Newton's method in float64; deterministic.

    Every quadrant weighs the same, and in it every group (a corpus, an owner), so that likelihoods come out.

    Args:
        features: of development trials, name to values.
        quadrants: of each trial, a place in ``QUADRANTS``.
        groups: what trials are not to outweigh each other by; one group where it is not given.
        penalty: on the square of each weight, for features scaled to deviation 1: one that tells nothing gets none.
        about: what the trials are, kept with the fusion.

    Raises:
        InputError: no feature, a quadrant without a trial, NaN or infinity.
    """
    names = tuple(features)
    if not names:
        raise InputError("No feature was given to fuse; give those of the word and those of the voice.")
    quadrants = np.asarray(quadrants, np.int64)
    counts = np.bincount(quadrants, minlength=len(QUADRANTS))
    if not counts.all():
        absent = ", ".join(name for name, count in zip(QUADRANTS, counts, strict=True) if not count)
        raise InputError(f"No trial is of the quadrant {absent}; a fusion is fitted on trials of all four.")
    x = np.stack([np.asarray(features[name], np.float64) for name in names], axis=1)
    if not np.isfinite(x).all():
        raise InputError("A feature of a trial is NaN or infinite; leave that trial out.")
    mass = _mass(quadrants, np.zeros(len(x)) if groups is None else np.asarray(groups))
    centre = mass @ x
    scale = np.sqrt(np.maximum(mass @ (x - centre) ** 2, 1e-12))
    design = np.column_stack([(x - centre) / scale, np.ones(len(x))])
    found = _newton(design, quadrants, mass, penalty)
    slopes = found[:, :-1] / scale
    bias = found[:, -1] - slopes @ centre
    return Fusion(names, tuple(map(tuple, slopes.tolist())), tuple(bias.tolist()), dict(about or {}))


def _mass(quadrants: Int[np.ndarray, " n"], groups: np.ndarray) -> Float[np.ndarray, " n"]:
    """How much each trial counts: one in all, the same for each quadrant and for each group in it."""
    cells, cell_of = np.unique(
        np.stack([quadrants, np.unique(groups, return_inverse=True)[1]], axis=1), axis=0, return_inverse=True
    )
    cell_of = cell_of.ravel()
    sizes = np.bincount(cell_of)
    n_cells = np.bincount(cells[:, 0], minlength=len(QUADRANTS))
    return 1.0 / (len(QUADRANTS) * n_cells[quadrants] * sizes[cell_of])


def _newton(
    design: Float[np.ndarray, "n K"], answers: Int[np.ndarray, " n"], mass: Float[np.ndarray, " n"], penalty: float
) -> Float[np.ndarray, "3 K"]:
    """Weights of all quadrants but the first; steps are halved until they descend."""
    n_rest, n_columns = len(QUADRANTS) - 1, design.shape[1]
    wanted = (answers[:, None] == np.arange(1, len(QUADRANTS))).astype(np.float64)
    ridge = np.tile(np.append(np.full(n_columns - 1, penalty), 1e-9), n_rest)

    def logits(at: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros((len(design), 1)), design @ at.reshape(n_rest, n_columns).T], axis=1)

    def cost(at: np.ndarray) -> float:
        values = logits(at)
        return float(mass @ (_log_sum(values) - values[np.arange(len(values)), answers]) + ridge @ at**2 / 2)

    found = np.zeros(n_rest * n_columns)
    for _ in range(_STEPS):
        values = logits(found)
        chance = np.exp(values - _log_sum(values)[:, None])[:, 1:]
        slope = (((chance - wanted) * mass[:, None]).T @ design).ravel() + ridge * found
        curve = np.diag(ridge)
        for i in range(n_rest):
            for j in range(n_rest):
                weight = mass * chance[:, i] * ((i == j) - chance[:, j])
                block = (design.T * weight) @ design
                curve[i * n_columns : (i + 1) * n_columns, j * n_columns : (j + 1) * n_columns] += block
        step = np.linalg.solve(curve, slope)
        now, size = cost(found), 1.0
        while size > 1e-6 and cost(found - size * step) > now:
            size /= 2
        found = found - size * step
        if float(slope @ step) < _TOLERANCE:
            break
    return np.asarray(found.reshape(n_rest, n_columns))


# ---------------------------------------------------------------------------------------------------------------- parts


def word_calibration(
    learner: Enrollable, state: State, reference: Mapping[str, Sequence[float]] | None = None
) -> Probabilities:
    """Threshold and temperature of an enrolment for ``word_features``, whatever threshold its user asked for.

    The threshold is where refusals and acceptances err equally, so that features mean the same in every profile.

    Raises:
        InputError: one take a word, or one word, and a model that brings no reference.
    """
    threshold = calibrate(*enrolment_scores(learner, state), reference).threshold
    return enrolment_probabilities(learner, state, threshold, reference=reference)


def word_features(
    scores: Float[np.ndarray, "n C"],
    claimed: Int[np.ndarray, " n"],
    fitted: Probabilities,
    absent: Int[np.ndarray, " n"] | None = None,
) -> dict[str, Float[np.ndarray, " n"]]:
    """What a recogniser says of the word that each clip is taken for.

    ``word`` is the log odds of that word among all words and none of them; ``nearness`` how far its score lies above
    the threshold, in temperatures: it does not depend on what else is enrolled.

    Args:
        scores: of each clip for each enrolled word.
        claimed: the word that it is taken for.
        fitted: threshold and temperature of the enrolment.
        absent: a word of each clip to be treated as if it were not enrolled; -1 for none.
    """
    scaled = np.asarray(scores, np.float64) / fitted.temperature
    rows = np.arange(len(scaled))
    own = scaled[rows, claimed]
    none = np.full(len(scaled), fitted.threshold / fitted.temperature)
    rest = np.column_stack([scaled, none])
    rest[rows, claimed] = -np.inf
    if absent is not None:
        there = absent >= 0
        rest[rows[there], absent[there]] = -np.inf
    return {"word": own - _log_sum(rest), "nearness": own - none}


def product_rule(word: Float[np.ndarray, " n"], speaker: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The comparator: probability of the word times that of the speaker, from log odds of either; its logarithm."""
    return -np.logaddexp(0, -np.asarray(word, np.float64)) - np.logaddexp(0, -np.asarray(speaker, np.float64))


def one_of(ratios: Float[np.ndarray, "*n V"]) -> Float[np.ndarray, "*n"]:
    """The log-likelihood ratio of "one of these voices, each as likely" over another voice, from that of each."""
    return np.asarray(_log_sum(np.asarray(ratios, np.float64)) - math.log(ratios.shape[-1]))
