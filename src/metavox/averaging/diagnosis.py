"""What an average can gain, told from what its members say on held-out data, and from nothing else.

Averaging takes away what members get wrong each in its own way; it cannot take away what all get wrong alike. Here is
how much of each there is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from ..contracts import InputError
from .predictions import all_identical, identical_sentence


@dataclass(frozen=True)
class Diagnosis:
    """What members are to one another on held-out items. Shares are of items, losses in nats."""

    n_members: int
    n_items: int
    errors: tuple[float, ...]
    """Error of each member alone."""
    disagreement: float
    """Share of items on which two members say different things, a mean over pairs (Kuncheva and Whitaker 2003)."""
    error_correlation: float | None
    """Correlation of two members' mistakes, a mean over pairs: 1 where they fail together, 0 where independently. None
    where a member makes none, or nothing but mistakes."""
    all_wrong: float
    """Share of items that every member gets wrong: what no vote can mend."""
    some_right: float
    """Share of items that some members get right and some wrong: all that a vote can gain, or lose."""
    bias: float | None
    """Loss of the average of all members: what averaging leaves (Heskes 1998). None where only answers are known."""
    variance: float | None
    """Mean loss of the members less that of their average: what averaging takes away, never below 0."""
    expected_gain: float
    """Relative fall of the error from the mean member to the average of all, on these items."""
    identical: bool

    @property
    def warning(self) -> str | None:
        """What to say where averaging changes nothing."""
        return identical_sentence(self.n_members) if self.identical else None

    def sentences(self) -> list[str]:
        """The diagnosis in plain words."""
        if self.warning is not None:
            return [f"Warning: {self.warning}."]
        mean = float(np.mean(self.errors))
        found = [
            f"Members err on {100 * min(self.errors):.1f} to {100 * max(self.errors):.1f} % of {self.n_items} items; "
            f"two of them disagree on {100 * self.disagreement:.1f} %.",
            f"All are wrong on {100 * self.all_wrong:.1f} %, which no average of these mends; on "
            f"{100 * self.some_right:.1f} % some are right and some wrong.",
        ]
        if self.error_correlation is not None:
            found.append(
                f"Their mistakes correlate by {self.error_correlation:.2f}; members of other data, seeds or "
                "architectures bring it down."
            )
        if self.bias is not None and self.variance is not None:
            found.append(
                f"Of a mean loss of {self.bias + self.variance:.3f} nats the average takes {self.variance:.3f} away "
                f"(variance) and leaves {self.bias:.3f} (bias and noise)."
            )
        gain = f"{100 * self.expected_gain:.1f} % fewer" if self.expected_gain >= 0 else "no fewer"
        found.append(
            f"On these items the average of all makes {gain} errors than the mean member ({100 * mean:.1f} %)."
        )
        return found


def diagnose(log_probabilities: Float[np.ndarray, "K N C"], labels: Int[np.ndarray, " N"]) -> Diagnosis:
    """The diagnosis of members that give probabilities, averaged as log probabilities are: normalised products.

    For that average the mean loss of the members is the loss of the average (bias and noise) and the mean divergence of
    the members from it (variance), exactly (Heskes 1998, eq. 8); so it is for no other mean.

    Raises:
        InputError: fewer than two members, no item, or labels that fit neither.
    """
    values = np.asarray(log_probabilities, np.float64)
    truth = np.asarray(labels)
    _require(values.shape[0], values.shape[1], len(truth))
    odd = truth[(truth < 0) | (truth >= values.shape[2])]
    if odd.size:
        raise InputError(f"A label is {int(odd[0])} and there are {values.shape[2]} classes; number them from 0.")
    rows = np.arange(len(truth))
    mean = values.mean(0)
    mean = mean - np.logaddexp.reduce(mean, axis=1, keepdims=True)
    bias = float(-mean[rows, truth].mean())
    variance = float(-values[:, rows, truth].mean()) - bias
    answers = values.argmax(2)
    averaged = float((mean.argmax(1) != truth).mean())
    identical = all_identical(values)
    return _of_answers(answers, truth, averaged, identical, bias, max(variance, 0.0))


def diagnose_answers(
    answers: Sequence[Sequence[object]], truth: Sequence[object], averaged: Sequence[object]
) -> Diagnosis:
    """The diagnosis of members that give nothing but answers, such as transcripts, and of an average of theirs.

    Raises:
        InputError: fewer than two members, no item, or answers of other items.
    """
    if answers and any(len(one) != len(truth) for one in (*answers, averaged)):
        raise InputError("Members answered other items than there are; let all hear the same ones.")
    _require(len(answers), len(truth), len(truth))
    codes: dict[object, int] = {}
    table = np.asarray([[codes.setdefault(item, len(codes)) for item in one] for one in answers])
    right = np.asarray([codes.setdefault(item, len(codes)) for item in truth])
    found = np.asarray([codes.setdefault(item, len(codes)) for item in averaged])
    identical = bool((table == table[0]).all())
    return _of_answers(table, right, float((found != right).mean()), identical, None, None)


def _require(n_members: int, n_items: int, n_labels: int) -> None:
    if n_members < 2:
        raise InputError(f"{n_members} model was given to compare; give two or more.")
    if n_items == 0 or n_items != n_labels:
        raise InputError(f"{n_items} items were answered and {n_labels} have a label; give one label to each of some.")


def _of_answers(
    answers: Int[np.ndarray, "K N"],
    truth: Int[np.ndarray, " N"],
    averaged: float,
    identical: bool,
    bias: float | None,
    variance: float | None,
) -> Diagnosis:
    wrong = answers != truth
    pairs = list(combinations(range(len(answers)), 2))
    disagreement = float(np.mean([(answers[i] != answers[j]).mean() for i, j in pairs]))
    shares = wrong.mean(1)
    correlation = None
    if ((shares > 0) & (shares < 1)).all():
        correlation = float(np.mean([np.corrcoef(wrong[i], wrong[j])[0, 1] for i, j in pairs]))
    alone = float(shares.mean())
    return Diagnosis(
        n_members=len(answers),
        n_items=len(truth),
        errors=tuple(shares.tolist()),
        disagreement=disagreement,
        error_correlation=correlation,
        all_wrong=float(wrong.all(0).mean()),
        some_right=float((wrong.any(0) & ~wrong.all(0)).mean()),
        bias=bias,
        variance=variance,
        expected_gain=0.0 if identical or not alone else 1 - averaged / alone,
        identical=identical,
    )


@dataclass(frozen=True)
class Decomposition:
    """Expected squared error of a model over training sets, in its parts."""

    bias2: float
    """Squared distance of the mean prediction from the truth, a mean over items; noise of the labels is in it."""
    variance: float
    """Spread of the predictions about their mean. A mean of K independent models has a K-th of it, and the same
    bias."""


def squared_error_parts(predictions: Float[np.ndarray, "K N"], truth: Float[np.ndarray, " N"]) -> Decomposition:
    """Bias and variance of predictions of models that were fitted to different draws of the data (Geman et al. 1992).

    The mean over models of the squared error is ``bias2 + variance``, exactly.

    Raises:
        InputError: fewer than two models, no item, or predictions of other items.
    """
    values = np.asarray(predictions, np.float64)
    _require(values.shape[0], values.shape[1], len(truth))
    mean = values.mean(0)
    return Decomposition(
        float(((mean - np.asarray(truth, np.float64)) ** 2).mean()), float(((values - mean) ** 2).mean())
    )
