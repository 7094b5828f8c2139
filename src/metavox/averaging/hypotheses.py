"""Several transcripts of one recording as one: aligned, and voted on place by place (ROVER, Fiscus 1997).

Nothing is asked of the networks but their texts, so that members may have other encoders, other frame rates and other
searches. A text is a sequence of tokens of any kind: symbols, characters or words.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ..contracts import InputError
from .predictions import as_weights

T = TypeVar("T", bound=Hashable)

SUBSTITUTION, GAP = 4, 3
"""Costs of the alignment, as in NIST's sclite and rover: a substitution is dearer than a gap and cheaper than two."""
_DIGITS = 12
"""Of a score that count, so that sums of votes which are alike but for rounding are a tie."""


@dataclass(frozen=True)
class Vote:
    """How a place of the alignment is decided.

    The score of a token is ``agreement`` times its share of the votes plus the rest times its mean confidence; a
    member that has nothing at a place votes for nothing, with a confidence of ``nothing`` (Fiscus 1997, eq. 1).

    Raises:
        InputError: a number outside 0 to 1.
    """

    agreement: float = 1.0
    nothing: float = 0.5

    def __post_init__(self) -> None:
        for name, value in (("agreement", self.agreement), ("nothing", self.nothing)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} of a vote is {value:g}; give a number from 0 to 1.")


@dataclass(frozen=True)
class _Place(Generic[T]):
    """What members have at one place: (member, token, confidence); the others have nothing there."""

    heard: tuple[tuple[int, T, float], ...]

    def has(self, token: T) -> bool:
        return any(token == other for _, other, _ in self.heard)


def rover(
    texts: Sequence[Sequence[T]],
    confidences: Sequence[Sequence[float]] | None = None,
    vote: Vote | None = None,
    weights: Sequence[float] | None = None,
) -> tuple[list[T], list[float]]:
    """The voted text and the share of the weight that voted for each of its tokens.

    Texts are aligned one after the other to what the earlier ones built, so give the most trusted first.

    Args:
        texts: a text of each member.
        confidences: of each token, 0 to 1; all 1 by default.
        weights: of each member's vote, equal by default; made to sum to 1.

    Raises:
        InputError: no text, or confidences that do not fit their texts.
    """
    if not texts:
        raise InputError("No transcript was given to vote on; give one or more.")
    sure = confidences if confidences is not None else [[1.0] * len(text) for text in texts]
    if len(sure) != len(texts) or any(len(one) != len(text) for one, text in zip(sure, texts, strict=True)):
        raise InputError("The confidences do not fit the transcripts; give one number to each token of each.")
    votes = as_weights(weights, len(texts)).tolist()
    places = [_Place[T](((0, token, at),)) for token, at in zip(texts[0], sure[0], strict=True)]
    for member in range(1, len(texts)):
        places = _woven(places, member, texts[member], sure[member])
    found: list[T] = []
    shared: list[float] = []
    for place in places:
        elected = _elected(place, votes, vote or Vote())
        if elected is not None:
            found.append(elected[0])
            shared.append(elected[1])
    return found, shared


def _elected(place: _Place[T], votes: Sequence[float], vote: Vote) -> tuple[T, float] | None:
    """The token with the best score and its share of the votes, the earlier member's where two are alike; None where
    those who have nothing there outvote every token."""
    share: dict[T, float] = defaultdict(float)
    sure: dict[T, float] = defaultdict(float)
    for member, token, at in place.heard:
        share[token] += votes[member]
        sure[token] += votes[member] * at
    scores = {
        token: round(vote.agreement * of + (1 - vote.agreement) * (sure[token] / of if of else 0.0), _DIGITS)
        for token, of in share.items()
    }
    best = max(scores, key=lambda token: scores[token])  # the first of the dict where two are alike
    silent = round(sum(votes) - sum(share.values()), _DIGITS)
    if silent > 0 and round(vote.agreement * silent + (1 - vote.agreement) * vote.nothing, _DIGITS) > scores[best]:
        return None
    return best, share[best]


def _woven(places: list[_Place[T]], member: int, text: Sequence[T], sure: Sequence[float]) -> list[_Place[T]]:
    """The places with another text aligned to them: its tokens join places or stand at new ones between."""
    steps = _alignment(places, text)
    found: list[_Place[T]] = []
    i = j = 0
    for step in steps:
        if step == "both":
            found.append(_Place((*places[i].heard, (member, text[j], sure[j]))))
            i, j = i + 1, j + 1
        elif step == "place":
            found.append(places[i])
            i += 1
        else:
            found.append(_Place(((member, text[j], sure[j]),)))
            j += 1
    return found


def _alignment(places: list[_Place[T]], text: Sequence[T]) -> list[str]:
    """Steps of the cheapest way through both; ``both`` where a place and a token meet."""
    n, m = len(places), len(text)
    costs = np.zeros((n + 1, m + 1), np.int64)
    costs[:, 0] = GAP * np.arange(n + 1)
    costs[0, :] = GAP * np.arange(m + 1)
    same = np.asarray([[place.has(token) for token in text] for place in places], bool).reshape(n, m)
    meeting = np.where(same, 0, SUBSTITUTION)
    for i in range(1, n + 1):
        above = np.minimum(costs[i - 1, 1:] + GAP, costs[i - 1, :-1] + meeting[i - 1])
        row = costs[i]
        for j in range(1, m + 1):
            row[j] = min(above[j - 1], row[j - 1] + GAP)
    steps: list[str] = []
    i, j = n, m
    while i or j:
        if i and j and costs[i, j] == costs[i - 1, j - 1] + meeting[i - 1, j - 1]:
            steps.append("both")
            i, j = i - 1, j - 1
        elif i and costs[i, j] == costs[i - 1, j] + GAP:
            steps.append("place")
            i -= 1
        else:
            steps.append("token")
            j -= 1
    return steps[::-1]
