"""Learners beside one another on the same utterances: differences of pooled character error, every target alike."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..contracts import InputError
from ..statistics import stratified_paired_difference
from . import comparison
from .protocols import Row
from .transcription import clustered, curve


def summaries(rows: Sequence[Row], **about: Any) -> list[dict[str, Any]]:
    """Of the rows of one learner on one corpus: character error by minutes of support, with its interval.

    Errors are pooled over utterances and draws, and intervals resample speakers or sentences, as in
    ``evaluation.transcription.curve``.
    """
    found = []
    for point in curve(rows):
        here = [row for row in rows if row["minutes"] == point["minutes"]]
        clusters, by = clustered(here)
        found.append(
            {
                "metric": "cer",
                "mean": point["cer"],
                "ci95": point["cer_ci95"],
                "minutes": point["minutes"],
                "n": point["n"],
                "wer": point["wer"],
                "cer_by_draw": point["cer_by_seed"],
                "clustered_by": by,
                "n_clusters": len(set(clusters.tolist())),
                **about,
            }
        )
    return found


def over_targets(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean over corpora with the worst one, that of most errors; the corpora are fixed, so their intervals combine
    as errors do."""
    means = np.asarray([s["mean"] for s in summaries])
    mean = float(means.mean())
    ends: list[float | None] = [None, None]
    if all(None not in s["ci95"] for s in summaries):
        reaches = np.asarray([s["ci95"] for s in summaries]) - means[:, None]
        low, high = np.sqrt(np.square(reaches).sum(0)) / len(summaries)
        ends = [float(mean - low), float(mean + high)]
    worst = summaries[int(means.argmax())]
    return {
        "metric": "cer",
        "mean": mean,
        "ci95": ends,
        "n": sum(s["n"] for s in summaries),
        "worst_corpus": worst["corpus"],
        "worst_mean": worst["mean"],
    }


def paired(rows: Sequence[Row], versus: Sequence[Row], seed: int) -> dict[str, Any]:
    """How much less ``rows`` err than ``versus``: errors of the other less own ones over the characters that were said.

    Pooled in each corpus over utterances and draws, clusters resampled with all their draws, and the mean over the
    corpora that both have; above 0, ``rows`` are better.

    Raises:
        InputError: a corpus in which they were not heard on the same utterances of the same draws, or none in common.
    """
    ours, theirs = _by_corpus(rows), _by_corpus(versus)
    pairs = {}
    for corpus in sorted(set(ours) & set(theirs)):
        own, other = ours[corpus], theirs[corpus]
        if [_asked(row) for row in own] != [_asked(row) for row in other]:
            raise InputError(
                f"Two learners were not heard on the same utterances of {corpus} after the same draws, which cannot be "
                "paired; compare both with the same split, draws and minutes."
            )
        a, b = (np.asarray([row["char_errors"] for row in side], np.float64) for side in (other, own))
        pairs[corpus] = (a, b, clustered(own)[0], np.asarray([row["chars"] for row in own], np.float64))
    found = stratified_paired_difference(pairs, seed=seed)
    return {
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "utterances": found.n,
        "worst_corpus": found.worst_set,
        "worst_difference": found.by_set[found.worst_set].difference,
    }


def compare(rows_by_model: Mapping[str, Sequence[Row]], versus: str, seed: int) -> list[dict[str, Any]]:
    """Every learner against one other, by how much less it errs: as ``comparison.compare``."""
    return comparison.compare(rows_by_model, versus, seed, paired)


def _by_corpus(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["corpus"]].append(row)
    return {corpus: sorted(some, key=_asked) for corpus, some in found.items()}


def _asked(row: Row) -> tuple[Any, ...]:
    return row["minutes"], row["seed"], row["id"], row["said"]
