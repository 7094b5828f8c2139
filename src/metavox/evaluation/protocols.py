"""Seeded protocols: a learner and a bank in, one row an item out. Everything later (means, intervals, comparisons,
plots) is computed from the rows, and learners that share a seed are scored on the same episodes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..contracts import Batch, Draw, Episode, FrontEnd, InputError, Learner, State, Task
from ..data.bank import Bank
from ..data.episodes import ClassIndex, EpisodeSpec
from ..statistics import cluster_bootstrap, mean_interval

Row = dict[str, Any]
N_RESAMPLES = 2000
"""Of the bootstrap over clusters."""


@dataclass(frozen=True)
class Protocol:
    """Closed N-way K-shot command recognition: ``episodes`` draws of ``spec``, the i-th from (seed, i)."""

    spec: EpisodeSpec
    episodes: int
    seed: int

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise InputError(f"episodes is {self.episodes}; it must be at least 1.")

    def described(self) -> dict[str, Any]:
        """What every summary says of the episodes."""
        return {
            "episodes": self.episodes,
            "seed": self.seed,
            "ways": self.spec.n_way,
            "shots": self.spec.k_shot,
            "queries": self.spec.n_query,
            "speakers": self.spec.speakers,
        }


P = TypeVar("P", bound=Protocol)


def fitted(protocol: P, index: ClassIndex) -> tuple[P, str | None]:
    """The protocol with as many ways as the corpus has, and a sentence where that is fewer than asked.

    Raises:
        InputError: fewer than two classes have enough takes, nothing is labelled, or speakers that are to be kept
            apart are not named.
    """
    spec = protocol.spec
    if len(index) == 0:
        if index.axis != "word":
            axis = index.axis if isinstance(index.axis, str) else "*".join(index.axis)
            raise InputError(
                f"No utterance says its {axis}; add it to the rows of the manifest or choose another axis."
            )
        raise InputError(
            "No utterance has a label, and words are told apart by their labels; add label to the rows of the "
            "manifest, or give a folder per word."
        )
    if spec.speakers == "disjoint":
        index.require_speakers()
    n = len(index.eligible(spec))
    if n >= spec.n_way:
        return protocol, None
    if n < 2:
        most = max((index.n_takes(i) for i in range(len(index))), default=0)
        other = " by another speaker" if spec.speakers == "disjoint" else ""
        any_speaker = " by anybody" if other else ""
        raise InputError(
            f"{n} of {len(index)} classes have the {spec.k_shot + 1} takes that {spec.k_shot} shots and a query{other} "
            f"need (the largest has {most}{any_speaker}), and an episode needs two; ask for fewer shots or record more "
            "takes."
        )
    note = f"{n} classes have enough takes, fewer than the {spec.n_way} ways asked for; all {n} are used."
    return replace(protocol, spec=replace(spec, n_way=n)), note


def draws(
    index: ClassIndex, protocol: Protocol, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[int, Draw]]:
    """The number and the draw of each episode; ``progress`` hears of it when the next is asked for.

    Raises:
        InputError: the corpus cannot give an episode of this shape.
    """
    for i in range(protocol.episodes):
        yield i, index.draw(protocol.spec, [protocol.seed, i])
        if progress is not None:
            progress(i + 1, protocol.episodes)


def episode_of(bank: Bank, draw: Draw, front_end: FrontEnd) -> Episode:
    """Support and query of a draw."""
    n_classes = len(draw.classes)
    support = bank.batch(draw.support, draw.support_labels, n_classes, front_end)
    return Episode(support, bank.batch(draw.query, draw.query_labels, n_classes, front_end), draw)


def of_corpus(rows: list[Row], corpus: str | None) -> list[Row]:
    """The rows, with the name of the set where it is not one folder."""
    return rows if corpus is None else [{**row, "corpus": corpus} for row in rows]


def transfer(learner: Learner, support: Batch) -> State:
    """Knowledge transfer: what enrolment on a device does, and nothing else."""
    return learner.adapt(support)


def evaluate(
    learner: Learner,
    task: Task,
    bank: Bank,
    index: ClassIndex,
    protocol: Protocol,
    front_end: FrontEnd,
    progress: Callable[[int, int], None] | None = None,
    *,
    corpus: str | None = None,
) -> list[Row]:
    """Rows of all episodes: who was asked, what was right, what was answered, and by how much.

    ``corpus`` names the set in the rows, where it is not one folder.

    Raises:
        InputError: the corpus cannot give an episode of this shape.
    """
    rows: list[Row] = []
    for i, draw in draws(index, protocol, progress):
        rows += _episode_rows(learner, task, bank, episode_of(bank, draw, front_end), i)
    return of_corpus(rows, corpus)


def _episode_rows(learner: Learner, task: Task, bank: Bank, episode: Episode, number: int) -> Iterable[Row]:
    with torch.no_grad():
        output = learner.predict(transfer(learner, episode.support), episode.query)
        correct = task.score(output, episode.query)
    return query_rows(bank, episode.draw, output.scores, correct, number)


def query_rows(bank: Bank, draw: Draw, scores: Tensor, correct: Tensor, number: int) -> Iterable[Row]:
    """A row for each query of a draw: who was asked, what was answered (``scores`` (B, C)) and what was right (B,)."""
    best = scores.argmax(-1).tolist()
    labels = torch.from_numpy(np.asarray(draw.query_labels, np.int64))[:, None].to(scores.device)
    margin = scores.gather(1, labels)[:, 0] - scores.scatter(1, labels, -torch.inf).amax(1)
    shots = np.bincount(draw.support_labels, minlength=len(draw.classes))
    for k, position in enumerate(draw.query.tolist()):
        utterance, label = bank.utterances[position], int(draw.query_labels[k])
        yield {
            "episode": number,
            "item": utterance.id,
            "corpus": utterance.corpus,
            "speaker": utterance.speaker,
            "label": draw.classes[label],
            "predicted": draw.classes[best[k]],
            "correct": int(correct[k]),
            "margin": round(float(margin[k]), 5),
            "ways": len(draw.classes),
            "shots": int(shots[label]),
        }


def per_episode(rows: Sequence[Row]) -> np.ndarray:
    """Mean accuracy of each episode, in order."""
    hits: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        hits[row["episode"]].append(row["correct"])
    return np.asarray([np.mean(hits[number]) for number in sorted(hits)])


def summary(rows: Sequence[Row], protocol: Protocol, axis: str = "word", **about: Any) -> dict[str, Any]:
    """A flat summary: mean accuracy over episodes with its interval, and with one clustered by speaker and class.

    ``ci95`` says how sure the mean is over episodes of *these* recordings; ``clustered_ci95`` resamples speakers and
    classes too, and says what other people and other words might give. ``axis`` is what the classes were drawn along;
    where that is the speaker, there is but one kind of cluster.
    """
    interval = mean_interval(per_episode(rows))
    values = np.asarray([row["correct"] for row in rows], np.float64)
    by, clusters = clustering(rows, axis)
    clustered = cluster_bootstrap(values, clusters, seed=protocol.seed, n_resamples=N_RESAMPLES)
    return {
        "metric": "accuracy",
        "mean": interval.mean,
        "ci95": interval.ci95,
        "clustered_ci95": clustered.ci95,
        "clustered_by": by,
        "n": len(rows),
        **protocol.described(),
        "along": axis,
        **about,
    }


def clustering(rows: Sequence[Row], axis: str = "word") -> tuple[str, list[np.ndarray]]:
    """What the rows share, in words, and the label of each: its class and, where all are named, its speaker."""
    clusters = [np.asarray([row["label"] for row in rows])]
    if "speaker" in axis.split("*") or any(row["speaker"] is None for row in rows):
        return axis, clusters
    return f"{axis} and speaker", [*clusters, np.asarray([row["speaker"] for row in rows])]


def over_corpora(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean over corpora with its worst one; the corpora are fixed, so their intervals combine as errors do."""
    means = np.asarray([s["mean"] for s in summaries])
    widths = [(s["ci95"][1] - s["ci95"][0]) / 2 for s in summaries if None not in s["ci95"]]
    half = float(np.sqrt(np.sum(np.square(widths)))) / len(summaries) if len(widths) == len(summaries) else None
    worst = summaries[int(means.argmin())]
    mean = float(means.mean())
    first = {key: summaries[0][key] for key in ("metric", "episodes", "seed", "shots", "queries", "speakers")}
    return {
        **first,
        "mean": mean,
        "ci95": [None, None] if half is None else [mean - half, mean + half],
        "n": sum(s["n"] for s in summaries),
        "ways": max(s["ways"] for s in summaries),
        "worst_corpus": worst["corpus"],
        "worst_mean": worst["mean"],
    }
