"""Learners beside one another on the same episodes: differences paired episode by episode, every set counting alike."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..contracts import InputError
from ..statistics import holm, stratified_paired_difference
from .protocols import Row

Pair = Callable[[Sequence[Row], Sequence[Row], int], dict[str, Any]]
"""(rows, those of another, seed) -> how much better they are: ``difference``, ``low``, ``high``, ``p_value``, ..."""


def episode_accuracy(rows: Sequence[Row]) -> dict[str, dict[int, float]]:
    """Accuracy by corpus and episode number."""
    hits: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        hits[row["corpus"]][row["episode"]].append(row["correct"])
    return {
        corpus: {number: float(np.mean(values)) for number, values in by_episode.items()}
        for corpus, by_episode in hits.items()
    }


def paired(rows: Sequence[Row], versus: Sequence[Row], seed: int) -> dict[str, Any]:
    """How much better ``rows`` are than ``versus``: mean over sets with its interval, and the worst set.

    Only episodes that both were scored on count; the same seed drew the same episodes for both. ``low`` and ``high``
    speak of other episodes of these words; ``clustered_low`` and ``clustered_high`` resample the words of each set, and
    speak of other words.

    Raises:
        InputError: an episode that is not the same clips for both, or none that both have.
    """
    _require_same_clips(rows, versus)
    ours, theirs = episode_accuracy(rows), episode_accuracy(versus)
    pairs = {}
    for corpus in sorted(set(ours) & set(theirs)):
        numbers = sorted(set(ours[corpus]) & set(theirs[corpus]))
        pairs[corpus] = (
            np.asarray([ours[corpus][number] for number in numbers]),
            np.asarray([theirs[corpus][number] for number in numbers]),
        )
    found = stratified_paired_difference(pairs, seed=seed)
    clustered = stratified_paired_difference(_answers(rows, versus), seed=seed, n_resamples=2000)
    return {
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "clustered_low": clustered.low,
        "clustered_high": clustered.high,
        "p_value": found.p_value,
        "episodes": sum(len(pair[0]) for pair in pairs.values()),
        "worst_corpus": found.worst_set,
        "worst_difference": found.by_set[found.worst_set].difference,
    }


def _require_same_clips(rows: Sequence[Row], versus: Sequence[Row]) -> None:
    asked: list[dict[tuple[str, int], list[str]]] = []
    for some in (rows, versus):
        items: dict[tuple[str, int], list[str]] = defaultdict(list)
        for row in some:
            items[row["corpus"], row["episode"]].append(row["item"])
        asked.append(items)
    for corpus, number in asked[0].keys() & asked[1].keys():
        if sorted(asked[0][corpus, number]) != sorted(asked[1][corpus, number]):
            raise InputError(
                f"Episode {number} of {corpus} asks two models about different clips, which cannot be paired; evaluate "
                "both with the same seed, ways, shots and queries."
            )


def _answers(rows: Sequence[Row], versus: Sequence[Row]) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Single answers of both to the same query in the same episode, and the word of each, by corpus."""
    theirs = {(row["corpus"], row["episode"], row["item"]): row["correct"] for row in versus}
    found: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for row in rows:
        key = (row["corpus"], row["episode"], row["item"])
        if key in theirs:
            found[row["corpus"]].append((row["correct"], theirs[key], row["label"]))
    return {
        corpus: (
            np.asarray([own for own, _, _ in answers], np.float64),
            np.asarray([other for _, other, _ in answers], np.float64),
            np.asarray([word for _, _, word in answers]),
        )
        for corpus, answers in found.items()
    }


def compare(
    rows_by_model: Mapping[str, Sequence[Row]], versus: str, seed: int, pair: Pair = paired
) -> list[dict[str, Any]]:
    """Every model against one other, p-values adjusted for the number of comparisons (Holm 1979).

    A model that was asked about no corpus of the other's is left out. Raises InputError as ``pair``.
    """
    corpora = {row["corpus"] for row in rows_by_model[versus]}
    found = [
        {"model": model, "versus": versus, **pair(rows, rows_by_model[versus], seed)}
        for model, rows in rows_by_model.items()
        if model != versus and not corpora.isdisjoint(row["corpus"] for row in rows)
    ]
    if found:
        for row, adjusted in zip(found, holm([row["p_value"] for row in found]), strict=True):
            row["p_value"] = float(adjusted)
    return found
