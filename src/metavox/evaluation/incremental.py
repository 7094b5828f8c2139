"""The incremental protocol: words come session by session, and nothing that was enrolled is heard again.

After each session the learner is asked for all words so far. Accuracy is that of one answer among all of them, so that
it falls as words are added even where nothing is forgotten; ``forgetting`` counts both (Chaudhry et al. 2018).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..contracts import Batch, Draw, Enrollable, Episode, FrontEnd, InputError, State
from ..data.bank import Bank
from ..data.episodes import ClassIndex
from ..statistics import cluster_bootstrap, mean_interval
from .protocols import N_RESAMPLES, Protocol, Row, clustering, draws, episode_of, of_corpus, query_rows, transfer

TOLERANCE = 1e-3
"""Scores after ``extend`` may differ from those after ``adapt`` by this share of the largest."""


@dataclass(frozen=True)
class IncrementalProtocol(Protocol):
    """The words of ``spec`` come in sessions, the first with ``base`` of them."""

    base: int = 2
    per_session: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base < 2:
            raise InputError(f"--base is {self.base}; a first session needs at least 2 words to tell apart.")
        if self.per_session < 1:
            raise InputError(f"--per-session is {self.per_session}; it must be at least 1.")

    def sessions(self) -> list[int]:
        """Words known after each session; the last may bring fewer.

        Raises:
            InputError: all words come at once.
        """
        n_way = self.spec.n_way
        if self.base >= n_way:
            raise InputError(
                f"The first session has {self.base} words and there are {n_way} in all, so that none is added; ask for "
                "a smaller --base or for more --ways."
            )
        return [*range(self.base, n_way, self.per_session), n_way]


def require_enrollable(learner: Any, name: str) -> Enrollable:
    """The learner, where it gains words without the recordings of the old ones.

    Raises:
        InputError: it does not.
    """
    if not isinstance(learner, Enrollable) or learner.adapts_body or learner.fixed_ways:
        raise InputError(
            f"Model {name} has a learner that cannot gain a word without the takes of the others; evaluate a model of "
            "learner prototypes, or a baseline such as dtw."
        )
    return learner


# ------------------------------------------------------------------------------------------------------------ running


def evaluate_incremental(
    learner: Enrollable,
    bank: Bank,
    index: ClassIndex,
    protocol: IncrementalProtocol,
    front_end: FrontEnd,
    progress: Callable[[int, int], None] | None = None,
    *,
    corpus: str | None = None,
) -> list[Row]:
    """A row for each query in each session, and one an episode (``kind`` is ``check``) on ``extend`` against ``adapt``.

    Raises:
        InputError: the corpus cannot give an episode of this shape.
    """
    known = protocol.sessions()
    rows: list[Row] = []
    for i, draw in draws(index, protocol, progress):
        with torch.no_grad():
            rows += _episode_rows(learner, bank, episode_of(bank, draw, front_end), known, i)
    return of_corpus(rows, corpus)


def _episode_rows(
    learner: Enrollable, bank: Bank, episode: Episode, known: Sequence[int], number: int
) -> Iterator[Row]:
    state: State | None = None
    n_before = 0
    scores = torch.zeros(0)
    came_in = np.searchsorted(known, np.arange(known[-1]), "right")
    for session, n_words in enumerate(known):
        new = _among(episode.support, n_before, n_words)
        state = transfer(learner, new) if state is None else learner.extend(state, new)
        asked, so_far = _among(episode.query, 0, n_words), _draw_of(episode.draw, n_words)
        scores = learner.predict(state, asked).scores
        correct = scores.argmax(-1) == asked.labels
        labels = so_far.query_labels.tolist()
        for row, label in zip(query_rows(bank, so_far, scores, correct, number), labels, strict=True):
            yield {"kind": "query", "session": session, "came_in": int(came_in[label]), **row}
        n_before = n_words
    yield {
        "kind": "check",
        "episode": number,
        "label": None,
        **_compared(learner, episode.support, episode.query, scores),
    }


def _among(batch: Batch, first: int, end: int) -> Batch:
    """The items of classes ``first`` to ``end`` (exclusive), among ``end`` classes."""
    at = (batch.labels >= first) & (batch.labels < end)
    return Batch(batch.inputs[at], batch.lengths[at], batch.labels[at], end)


def _draw_of(draw: Draw, n_words: int) -> Draw:
    asked, learned = draw.query_labels < n_words, draw.support_labels < n_words
    return replace(
        draw,
        classes=draw.classes[:n_words],
        class_ids=draw.class_ids[:n_words],
        support=draw.support[learned],
        support_labels=draw.support_labels[learned],
        query=draw.query[asked],
        query_labels=draw.query_labels[asked],
    )


def _compared(learner: Enrollable, support: Batch, query: Batch, scores: Tensor) -> Row:
    """How far the scores of words that came one after the other are from those of words enrolled at once."""
    at_once = learner.predict(transfer(learner, support), query).scores
    largest = float(at_once.abs().max())
    return {
        "difference": float((at_once - scores).abs().max()) / (largest or 1.0),
        "changed": int((at_once.argmax(-1) != scores.argmax(-1)).sum()),
    }


# ------------------------------------------------------------------------------------------------------------ figures


def summary(rows: Sequence[Row], protocol: IncrementalProtocol, **about: Any) -> dict[str, Any]:
    """Accuracy by session, its mean over sessions, and forgetting, with intervals over episodes.

    ``mean`` is the accuracy over all words so far, averaged over all sessions, the first among them, as NeuroBench does
    (Yik et al. 2023, its keyword task). ``forgetting`` is, over the words of each session but the last, the best
    accuracy that they had before the last session less that after it (Chaudhry et al. 2018).
    """
    queries = [row for row in rows if row["kind"] == "query"]
    checks = [row for row in rows if row["kind"] == "check"]
    right, asked = _counts(queries, len(protocol.sessions()))
    so_far = right.sum(2) / asked.sum(2)
    found = {"metric": "accuracy", **_mean("", so_far.mean(1))}
    found |= _clustered(queries, protocol.seed)
    of_session = right / np.maximum(asked, 1)
    newest = np.stack([of_session[:, s, s] for s in range(right.shape[1])], 1)
    by_session = {"accuracy": so_far, "newest": newest, "first": of_session[:, :, 0]}
    for name, values in by_session.items():
        found[f"{name}_by_session"] = values.mean(0).tolist()
        found[f"{name}_by_session_ci95"] = [mean_interval(column).ci95 for column in values.T]
    found |= _mean("final_accuracy", so_far[:, -1]) | _mean("forgetting", forgetting(of_session))
    difference = max(row["difference"] for row in checks)
    return {
        **found,
        "words_by_session": protocol.sessions(),
        "extend_difference": difference,
        "extend_changed_answers": sum(row["changed"] for row in checks),
        "extend_equals_adapt": difference <= TOLERANCE,
        "n": len(queries),
        **protocol.described(),
        "base": protocol.base,
        "per_session": protocol.per_session,
        **about,
    }


def _counts(queries: Sequence[Row], n_sessions: int) -> tuple[Int[np.ndarray, "E S W"], Int[np.ndarray, "E S W"]]:
    """Right answers and queries of each episode, after session S, for words that came in session W."""
    episodes = {number: place for place, number in enumerate(sorted({row["episode"] for row in queries}))}
    right = np.zeros((len(episodes), n_sessions, n_sessions), np.int64)
    asked = np.zeros_like(right)
    for row in queries:
        at = episodes[row["episode"]], row["session"], row["came_in"]
        right[at] += row["correct"]
        asked[at] += 1
    return right, asked


def forgetting(accuracy: Float[np.ndarray, "E S W"]) -> Float[np.ndarray, " E"]:
    """Of each episode: the mean over sessions but the last of (best accuracy before the last session - the final one).

    ``accuracy[e, s, w]`` is that on the words of session w after session s; what is above the diagonal is not read.
    """
    last = accuracy.shape[1] - 1
    lost = [accuracy[:, w:last, w].max(1) - accuracy[:, last, w] for w in range(last)]
    found: np.ndarray = np.mean(lost, axis=0)
    return found


def _mean(name: str, values: np.ndarray) -> dict[str, Any]:
    interval = mean_interval(values)
    return {name or "mean": interval.mean, f"{name}_ci95" if name else "ci95": interval.ci95}


def _clustered(queries: Sequence[Row], seed: int) -> dict[str, Any]:
    """The mean over sessions with words and speakers resampled: every session weighs the same."""
    sizes: dict[tuple[int, int], int] = defaultdict(int)
    for row in queries:
        sizes[row["episode"], row["session"]] += 1
    weights = np.asarray([1 / sizes[row["episode"], row["session"]] for row in queries])
    weights *= len(queries) / weights.sum()
    correct = np.asarray([row["correct"] for row in queries], np.float64)
    by, clusters = clustering(queries)
    found = cluster_bootstrap(weights * correct, clusters, seed=seed, per=weights, n_resamples=N_RESAMPLES)
    return {"clustered_ci95": found.ci95, "clustered_by": by}
