"""Averages of what K models predict, the weights of the average, and whether there is anything to average.

Two means of probabilities. ``mean`` is the mixture, the arithmetic mean: one confident model is enough to keep a class
alive. ``log_mean`` is the geometric mean, normalised: one confident model is enough to rule a class out. By Jensen's
inequality the log loss of either is at most the mean of the members' log losses, so averaging never does worse than a
member drawn by chance; it may do worse than the best.

The average lowers what members disagree in (variance), and nothing else: members that all err alike (bias) err alike
together, and members that predict the same are one member.

    K models    N items    C classes
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Integer

from ..contracts import InputError

Form = Literal["mean", "log-mean"]
"""Which mean of probabilities."""
FORMS: tuple[str, ...] = get_args(Form)

Weights = Sequence[float | int] | np.ndarray
"""One number a model, none negative; they are scaled to sum to 1."""

EXCLUDED = float(np.log(np.finfo(np.float64).tiny))
"""What counts as the logarithm of 0 where another member does not agree: that of the least normal float64."""
GAP = 1e-9
"""Learned weights lose at most this much against the best ones: nats, or shares of the largest squared residual."""
MAX_STEPS = 20_000


class IdenticalMembers(UserWarning):
    """All members of an average predict the same."""


# ------------------------------------------------------------------------------------------------------------- means


def mean(probabilities: Float[np.ndarray, "K *rest C"], weights: Weights | None = None) -> Float[np.ndarray, "*rest C"]:
    """The weighted arithmetic mean over models, in float64. ``weights`` are scaled to sum to 1; None weighs all alike.

    Raises:
        InputError: no model, or weights that ``as_weights`` refuses.
    """
    return np.tensordot(as_weights(weights, len(probabilities)), np.asarray(probabilities, np.float64), axes=1)


def log_mean(
    log_probabilities: Float[np.ndarray, "K *rest C"], weights: Weights | None = None
) -> Float[np.ndarray, "*rest C"]:
    """Logarithms of the normalised weighted geometric mean of probabilities, in float64.

    A class that every member excludes (-inf) stays excluded. Where only some exclude it their -inf counts as
    ``EXCLUDED``, so that members which together exclude every class still give an answer.

    Raises:
        InputError: no model, or weights that ``as_weights`` refuses.
    """
    share = as_weights(weights, len(log_probabilities))
    finite, excluded = _finite(log_probabilities)
    mixed = np.tensordot(share, finite, axes=1)
    mixed[excluded[share > 0].all(0)] = -np.inf
    return mixed - _logsumexp(mixed, axis=-1)[..., None]


def log_of_mean(
    log_probabilities: Float[np.ndarray, "K *rest C"], weights: Weights | None = None
) -> Float[np.ndarray, "*rest C"]:
    """Logarithms of ``mean``, from logarithms: nothing is lost where probabilities are too small to be written down.

    Raises:
        InputError: no model, or weights that ``as_weights`` refuses.
    """
    values = np.asarray(log_probabilities, np.float64)
    share = as_weights(weights, len(values))
    used = share > 0
    return _logsumexp(values[used] + np.log(share[used]).reshape(-1, *[1] * (values.ndim - 1)), axis=0)


def as_weights(weights: Weights | None, k: int) -> Float[np.ndarray, " K"]:
    """Weights of ``k`` models that sum to 1.

    Raises:
        InputError: no model; another number of weights; one that is negative or no number; all of them 0.
    """
    if k < 1:
        raise InputError("There are 0 models to average; give at least 1.")
    if weights is None:
        return np.full(k, 1 / k)
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (k,):
        raise InputError(f"Weights of shape {values.shape} were given for {k} models; give {k}, one for each model.")
    for at, value in enumerate(values.tolist()):
        if not np.isfinite(value) or value < 0:
            raise InputError(f"Weight {at + 1} of {k} is {value:g}; give finite numbers of 0 or more.")
    if not values.any():
        raise InputError(f"All {k} weights are 0; give at least one that is greater.")
    scaled = values / values.max()  # their sum cannot overflow
    scaled /= scaled.sum()
    if np.allclose(scaled, values, rtol=1e-12, atol=0):  # they were scaled before, and stay to the bit
        return values.copy()
    return scaled


# --------------------------------------------------------------------------------------------------- learned weights


def learned_weights(
    log_probabilities: Float[np.ndarray, "K N C"], labels: Integer[np.ndarray, " N"], form: Form = "mean"
) -> Float[np.ndarray, " K"]:
    """The weights, none negative and summing to 1, whose average has the least log loss on items held out.

    Give items that no member was fitted on: on its own training data the most overfitted member wins. Both problems
    are convex. Mixtures are solved by expectation maximisation, geometric means by projected gradients; both start
    from equal weights, so that members which cannot be told apart keep equal ones.

    Raises:
        InputError: no model, no item, or labels that are no class.
    """
    k, n, n_classes = log_probabilities.shape
    as_weights(None, k)
    _require_labels(labels, n, n_classes)
    finite, _ = _finite(log_probabilities)
    own = finite[:, np.arange(n), labels]
    if form == "mean":
        return _mixture_weights(own)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.tensordot(weights, finite, axes=1)
        total = _logsumexp(mixed, axis=-1)
        expected = np.einsum("knc,nc->kn", finite, np.exp(mixed - total[:, None]))
        return float((total - weights @ own).mean()), (expected - own).mean(1)

    return _least_on_simplex(loss, k)


def learned_regression_weights(
    predictions: Float[np.ndarray, "K *rest"], targets: Float[np.ndarray, "*rest"]
) -> Float[np.ndarray, " K"]:
    """The weights, none negative and summing to 1, whose average has the least squared error on items held out.

    Raises:
        InputError: no model or no item.
    """
    k = len(predictions)
    as_weights(None, k)
    if targets.size == 0:
        raise InputError("There are 0 items to learn weights on; hold out at least 1.")
    residuals = (np.asarray(predictions, np.float64) - targets).reshape(k, -1)
    residuals /= np.abs(residuals).max() or 1.0  # as weights sum to 1, the error of the average is that of residuals
    products = residuals @ residuals.T / residuals.shape[1]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        gradient = products @ weights
        return float(weights @ gradient), 2 * gradient

    return _least_on_simplex(loss, k)


def _mixture_weights(own: Float[np.ndarray, "K N"]) -> Float[np.ndarray, " K"]:
    """Expectation maximisation. ``own`` are log probabilities of the right class."""
    likelihood = np.exp(own - own.max(0))
    weights = np.full(len(own), 1 / len(own))
    for _ in range(MAX_STEPS):
        # How much each member gains at the margin; their weighted mean is 1, and the excess bounds what is left to win.
        gain = (likelihood / (weights @ likelihood)).mean(1)
        if gain.max() - 1 <= GAP:
            break
        weights = weights * gain
        weights /= weights.sum()
    return weights


def _least_on_simplex(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], k: int) -> Float[np.ndarray, " K"]:
    """Weights of the least convex loss by projected gradients, steps after Barzilai and Borwein, none uphill."""
    weights = np.full(k, 1 / k)
    value, gradient = loss(weights)
    step = 1 / (np.abs(gradient).max() or 1.0)
    for _ in range(MAX_STEPS):
        if weights @ gradient - gradient.min() <= GAP:  # bounds what is left to win
            break
        move = _projected(weights - step * gradient) - weights
        share, slope = 1.0, float(gradient @ move)
        while share > 1e-12 and loss(weights + share * move)[0] > value + 1e-4 * share * slope:
            share /= 2
        if share <= 1e-12:  # rounding is all that is left
            break
        before, weights, slopes = weights, weights + share * move, gradient
        value, gradient = loss(weights)
        moved, bent = weights - before, gradient - slopes
        curvature = float(moved @ bent)
        step = float(moved @ moved) / curvature if curvature > 0 else 2 * step
    return weights / weights.sum()


def _projected(values: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """The nearest weights that are not negative and sum to 1 (Held, Wolfe and Crowder 1974)."""
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, len(values) + 1)
    return np.maximum(values - excess[ordered > excess][-1], 0.0)


# ------------------------------------------------------------------------------------------------ what can be averaged


def require_alike(classes: Sequence[Sequence[Any] | np.ndarray], names: Sequence[str] | None = None) -> None:
    """See that all models know the same classes in the same order; ``names`` are those of the models.

    Raises:
        InputError: no model, or one that knows other classes than the first.
    """
    as_weights(None, len(classes))
    known = [list(one) for one in classes]
    called = list(names) if names is not None else [f"model {at + 1}" for at in range(len(known))]
    for name, one in zip(called, known, strict=True):
        if one == known[0]:
            continue
        if set(one) == set(known[0]):
            order = f"the classes of {called[0]} in another order"
            raise InputError(f"{name} has {order}; sort them alike before the scores are averaged.")
        difference = sorted({str(label) for label in set(one) ^ set(known[0])})
        listed = ", ".join(difference[:3]) + (", ..." if len(difference) > 3 else "")
        raise InputError(
            f"{name} knows {len(one)} classes and {called[0]} knows {len(known[0])}, "
            f"and only one of them knows {listed}; fit all on items of the same classes."
        )


def all_identical(predictions: np.ndarray | Sequence[Any]) -> bool:
    """Whether two models or more predict the same for every item, but for rounding.

    ``predictions`` has a row a model: probabilities, scores, targets or labels. One model is not identical to anything.
    """
    rows = list(predictions)
    if len(rows) < 2:
        return False
    return all(_same(rows[0], other) for other in rows[1:])


def identical_sentence(k: int) -> str:
    """What is said of ``k`` models that predict the same."""
    return f"these {k} models make identical predictions: averaging changes nothing; vary data, seed or architecture"


def _same(one: Any, other: Any) -> bool:
    first, second = np.asarray(one), np.asarray(other)
    if first.shape != second.shape:
        return False
    if np.issubdtype(first.dtype, np.floating) and np.issubdtype(second.dtype, np.floating):
        precision = max(np.finfo(first.dtype).eps, np.finfo(second.dtype).eps)
        size = np.abs(first[np.isfinite(first)]).max(initial=0.0)
        return np.allclose(first, second, rtol=8 * precision, atol=8 * precision * size, equal_nan=True)
    return bool(np.array_equal(first, second))


# ------------------------------------------------------------------------------------------------------------- details


def _finite(log_probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms with ``EXCLUDED`` for -inf, and where that was."""
    values = np.asarray(log_probabilities, np.float64)
    excluded = np.isneginf(values)
    return np.where(excluded, EXCLUDED, values), excluded


def _logsumexp(values: np.ndarray, axis: int) -> np.ndarray:
    """log(sum(exp(values))) without overflow; -inf where all are."""
    top = values.max(axis=axis, keepdims=True)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(values - safe).sum(axis=axis)) + np.squeeze(safe, axis=axis)


def _require_labels(labels: np.ndarray, n: int, n_classes: int) -> None:
    if n == 0:
        raise InputError("There are 0 items to learn weights on; hold out at least 1.")
    if len(labels) != n or labels.min() < 0 or labels.max() >= n_classes:
        raise InputError(
            f"{len(labels)} labels from {labels.min()} to {labels.max()} were given for {n} items and "
            f"{n_classes} classes; give one for each item, from 0 to {n_classes - 1}."
        )
