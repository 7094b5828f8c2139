"""What is wrong with enrolled takes among each other, said in a sentence each: takes of no word, copies, words that are
too close.

Limits were set by measuring on real recordings with models that had not seen them;
``docs/decisions/0010-enrolment.md`` has the rates.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ..contracts import State
from ..losses import leave_one_out_scores
from .take_quality import Finding

MISTAKEN = 0.05
"""By so much a take is nearer to another word than to its own (in cosines, itself left out) to be an outlier."""
MISTAKEN_NATS = 2.0
"""The same in scores, for learners that cannot be asked how alike two takes are: seven to one for the other word."""
ODD_SHARE = 0.6
"""An outlier too is a take that is less than this share as like its word's other takes as these are like each other."""
SAME = 0.97
"""Takes more alike than this are one recording; two takes of one voice were never above 0.94."""
ALIKE_SHARE = 0.9
"""Two words are too close when their takes are this much as like each other's as their own."""
MAX_MISTAKEN_SHARE = 0.3
"""Or when this share of their takes, and two at least, are nearer to the other word."""


def word_findings(learner: Any, state: State, labels: Sequence[str], names: Sequence[str]) -> list[Finding]:
    """What is wrong with takes among the other takes: outliers, copies, words that are too close, single takes.

    ``labels`` are the words in the order of the scores, ``names`` says which recording each enrolled take was, in the
    order of the state. A learner without ``similarity`` is asked for its scores alone, which tell of takes that stand
    under the wrong word.
    """
    of = state["labels"]
    found = _single(of, labels)
    if not hasattr(learner, "similarity") or "takes" not in state:
        with torch.no_grad():
            scores = learner.leave_one_out(state).double()
        return found + _misplaced(_mistaken(scores, of, MISTAKEN_NATS), MISTAKEN_NATS, of, labels, names)
    with torch.no_grad():
        alike = learner.similarity(state["takes"][:, 0], state["lengths"], state["takes"], state["lengths"])
    alike = (alike + alike.T).double() / 2
    scores = leave_one_out_scores(alike, of, len(labels))
    mistaken = _mistaken(scores, of, MISTAKEN)
    pairs = _close(alike, scores, of, labels, mistaken)
    # Where two words are close anyway, none of their takes is to blame.
    mistaken = {
        take: rival for take, rival in mistaken.items() if tuple(sorted((int(of[take]), rival[0]))) not in pairs
    }
    odd = _odd(alike, of, labels, names, mistaken)
    misplaced = _misplaced(mistaken, MISTAKEN, of, labels, names)
    return found + _copies(alike, of, labels, names) + misplaced + odd + list(pairs.values())


def _single(of: Tensor, labels: Sequence[str]) -> list[Finding]:
    counts = Counter(of.tolist())
    return [
        Finding(
            "single", None, word,
            f"{word!r} has 1 take and should have 3 at least: nothing tells how it varies, and its threshold rests on "
            "other words; record more takes of it.",
            False,
        )
        for label, word in enumerate(labels) if counts[label] == 1
    ]  # fmt: skip


def _mistaken(scores: Tensor, of: Tensor, limit: float) -> dict[int, tuple[int, float]]:
    """Takes nearer to another word than to their own by more than ``limit``: to which one, and by how much."""
    found = {}
    for take, own in enumerate(of.tolist() if scores.shape[1] > 1 else ()):
        rivals = scores[take].clone()
        rivals[own] = -torch.inf
        margin = float(rivals.max() - scores[take, own])  # infinite for the only take of a word
        if limit < margin < torch.inf:
            found[take] = int(rivals.argmax()), margin
    return found


def _misplaced(
    mistaken: Mapping[int, tuple[int, float]], limit: float, of: Tensor, labels: Sequence[str], names: Sequence[str]
) -> list[Finding]:
    found = []
    for take, (other, margin) in mistaken.items():
        own = labels[int(of[take])]
        sentence = (
            f"{names[take]} sounds more like {labels[other]!r} than like {own!r}, by {margin:.2f} where {limit:g} is "
            "the most; listen to it, and record it again or move it."
        )
        found.append(Finding("outlier", names[take], own, sentence, True))
    return found


def _odd(
    alike: Tensor, of: Tensor, labels: Sequence[str], names: Sequence[str], known: Collection[int]
) -> list[Finding]:
    """Takes that are far from all others of their word; ``known`` are outliers already."""
    found = []
    for take, own in enumerate(of.tolist()):
        others = of == own
        others[take] = False
        if int(others.sum()) < 2 or take in known:
            continue
        share = float(alike[take, others].mean()) / max(_within(alike, others), 1e-3)
        if share < ODD_SHARE:
            sentence = (
                f"{names[take]} is unlike the other takes of {labels[own]!r}: {share:.0%} as like them as they are "
                f"like each other, and {ODD_SHARE:.0%} is the least; listen to it and record it again."
            )
            found.append(Finding("outlier", names[take], labels[own], sentence, True))
    return found


def _within(alike: Tensor, mine: Bool[Tensor, " N"]) -> float:
    """Mean similarity of some takes with one another."""
    among = alike[mine][:, mine]
    n = len(among)
    return float((among.sum() - among.diagonal().sum()) / (n * (n - 1)))


def _copies(alike: Tensor, of: Tensor, labels: Sequence[str], names: Sequence[str]) -> list[Finding]:
    """Takes of a word that are nearly the same as an earlier one, and recordings that stand under two words."""
    found = []
    earlier: dict[int, list[int]] = defaultdict(list)
    across = []
    same = alike > SAME
    for take, own in enumerate(of.tolist()):
        before = [i for i in range(take) if same[take, i]]
        if any(of[i] == own for i in before):
            earlier[own].append(take)
        across += [(i, take) for i in before if of[i] != own][:1]
    for own, takes in earlier.items():
        n = int((of == own).sum())
        listed = ", ".join(names[take] for take in takes[:3]) + (", ..." if len(takes) > 3 else "")
        sentence = (
            f"{len(takes)} of {n} takes of {labels[own]!r} are nearly the same as an earlier one ({listed}); "
            "copies teach nothing and make it look surer than it is, so say the word anew for each take."
        )
        found.append(Finding("copies", names[takes[0]] if len(takes) == 1 else None, labels[own], sentence, True))
    for one, other in across:
        words = f"{labels[int(of[one])]!r} and {labels[int(of[other])]!r}"
        sentence = f"{names[other]} is nearly the same as {names[one]} and stands for {words}; keep it for one word."
        found.append(Finding("copies", names[other], labels[int(of[other])], sentence, True))
    return found


def _close(
    alike: Tensor, scores: Tensor, of: Tensor, labels: Sequence[str], mistaken: Mapping[int, tuple[int, float]]
) -> dict[tuple[int, int], Finding]:
    """Pairs of words whose takes are hardly nearer to their own than to each other.

    One take that stands under the wrong word makes no two words close: a word's only mistaken take is left out.
    """
    own_scores = scores.gather(1, of[:, None])[:, 0]
    members = [of == label for label in range(len(labels))]
    counts = Counter(int(of[take]) for take in mistaken)
    for take in mistaken:
        own = int(of[take])
        if counts[own] == 1 and int(members[own].sum()) > 2:
            members[own][take] = False
    found = {}
    for one, other in combinations(range(len(labels)), 2):
        a, b = members[one], members[other]
        n = int(a.sum() + b.sum())
        if int(a.sum()) < 2 or int(b.sum()) < 2:
            continue
        share = float(alike[a][:, b].mean()) / max((_within(alike, a) + _within(alike, b)) / 2, 1e-3)
        n_mistaken = int((scores[a, other] > own_scores[a]).sum() + (scores[b, one] > own_scores[b]).sum())
        if share > ALIKE_SHARE or n_mistaken >= max(2.0, MAX_MISTAKEN_SHARE * n):
            sentence = (
                f"{labels[one]!r} and {labels[other]!r} sound alike: their takes are {share:.0%} as like each other's "
                f"as their own, {ALIKE_SHARE:.0%} is the most, and {n_mistaken} of {n} would be mistaken; choose "
                "another word for one of them."
            )
            found[one, other] = Finding("alike", None, None, sentence, True)
    return found
