"""Figures of the noise protocol, computed from its rows."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ..statistics import cluster_bootstrap, mean_interval
from .noise import HEARINGS, NoiseProtocol, NoisyPlace
from .protocols import N_RESAMPLES, Row, clustering


def summary(rows: Sequence[Row], protocol: NoiseProtocol, places: Sequence[NoisyPlace], **about: Any) -> dict[str, Any]:
    """A flat summary. ``mean`` is the accuracy of words in noise after adapting, over all places and SNRs alike.

    ``gain`` is how much more that is than as it is, and ``gain_anywhere`` what of it needs no place; both are paired,
    with intervals over episodes, and ``gain_clustered_ci95`` over words and speakers. ``by_snr`` has a row an SNR,
    ``by_noise`` one a place with its SNRs, ``snr_db`` None being words without noise.
    """
    queries = [row for row in rows if row["kind"] == "query"]
    noisy = [row for row in queries if row["snr_db"] is not None] or queries
    overall = figures(noisy)
    by, clusters = clustering(noisy)
    differences = _values(noisy, "correct_adapted") - _values(noisy, "correct_as_is")
    clustered = cluster_bootstrap(differences, clusters, seed=protocol.seed, n_resamples=N_RESAMPLES)
    return {
        "metric": "accuracy",
        "mean": overall["adapted"],
        "ci95": overall["adapted_ci95"],
        **overall,
        "gain_clustered_ci95": clustered.ci95,
        "clustered_by": by,
        "n": len(noisy),
        **protocol.described(),
        "snr_db": list(protocol.snrs_db),
        "adapt_seconds": protocol.adapt_s,
        "noise_minutes": sum(place.test_minutes for place in places),
        "noise_apart": True,  # open_place refuses anything else
        "by_snr": [
            {"snr_db": snr_db, **figures([row for row in queries if row["snr_db"] == snr_db])}
            for snr_db in protocol.snrs_db
        ],
        "by_noise": [_of_place(rows, place, protocol) for place in places],
        **about,
    }


def _of_place(rows: Sequence[Row], place: NoisyPlace, protocol: NoiseProtocol) -> dict[str, Any]:
    here = [row for row in rows if row["noise"] == place.name]
    queries = [row for row in here if row["kind"] == "query"]
    noisy = [row for row in queries if row["snr_db"] is not None] or queries
    alone = [row for row in here if row["kind"] == "noise"]
    pieces = sum(row["pieces"] for row in alone)
    alarms = {
        name: sum(row[name] for row in alone) / pieces
        for name in (*(f"alarms_{hearing}" for hearing in HEARINGS), "alarms_adapted_as_is")
    }
    return {
        "noise": place.name,
        "minutes": place.test_minutes,
        **figures(noisy),
        "pieces": alone[0]["pieces"],
        **alarms,
        "by_snr": [
            {"snr_db": snr_db, **figures([row for row in queries if row["snr_db"] == snr_db])}
            for snr_db in protocol.snrs_db
        ],
    }


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Accuracy each way, what is right and accepted, and the paired gains."""
    found: dict[str, Any] = {}
    means = {name: per_episode(rows, f"correct_{name}") for name in HEARINGS}
    for name in HEARINGS:
        interval = mean_interval(means[name])
        found[name], found[f"{name}_ci95"] = interval.mean, interval.ci95
        found[f"heard_{name}"] = float(per_episode(rows, f"heard_{name}").mean())
    for key, name in (("gain", "adapted"), ("gain_anywhere", "anywhere")):
        interval = mean_interval(means[name] - means["as_is"])
        found[key], found[f"{key}_ci95"] = interval.mean, interval.ci95
    return found


def per_episode(rows: Sequence[Row], key: str) -> Float[np.ndarray, " n"]:
    """Mean of a figure over the queries of each episode."""
    values: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        values[row["episode"]].append(row[key])
    return np.asarray([np.mean(values[number]) for number in sorted(values)], np.float64)


def _values(rows: Sequence[Row], key: str) -> Float[np.ndarray, " n"]:
    return np.asarray([row[key] for row in rows], np.float64)


def over_sets(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean over sets with its worst one; the sets are fixed, so their intervals combine as errors do."""
    worst = min(summaries, key=lambda one: one["mean"])
    kept = ("metric", "episodes", "seed", "shots", "queries", "speakers", "snr_db", "adapt_seconds", "noise_minutes")
    return {
        **{key: summaries[0][key] for key in kept},
        "mean": float(np.mean([one["mean"] for one in summaries])),
        "ci95": _together([one["ci95"] for one in summaries]),
        **mean_of(summaries),
        "n": sum(one["n"] for one in summaries),
        "ways": max(one["ways"] for one in summaries),
        "by_snr": [
            {"snr_db": snr_db, **mean_of([one["by_snr"][i] for one in summaries])}
            for i, snr_db in enumerate(summaries[0]["snr_db"])
        ],
        "by_noise": [_over(rows) for rows in zip(*(one["by_noise"] for one in summaries), strict=True)],
        "worst_corpus": worst["corpus"],
        "worst_mean": worst["mean"],
    }


def _over(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    alarms = [key for key in rows[0] if key.startswith("alarms")]
    return {
        **{key: rows[0][key] for key in ("noise", "minutes", "pieces")},
        **mean_of(rows),
        **{key: float(np.mean([row[key] for row in rows])) for key in alarms},
        "by_snr": [
            {"snr_db": row["snr_db"], **mean_of([one["by_snr"][i] for one in rows])}
            for i, row in enumerate(rows[0]["by_snr"])
        ],
    }


def mean_of(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of what ``figures`` gave."""
    keys = (*HEARINGS, "gain", "gain_anywhere")
    return {
        **{
            key: float(np.mean([one[key] for one in found])) for key in (*keys, *(f"heard_{name}" for name in HEARINGS))
        },
        **{f"{key}_ci95": _together([one[f"{key}_ci95"] for one in found]) for key in keys},
        **{"worst_gain": min(one["gain"] for one in found)},
    }


def _together(intervals: Sequence[list[float | None]]) -> list[float | None]:
    """The interval of a mean of independent estimates."""
    ends = [(low, high) for low, high in intervals if low is not None and high is not None]
    if len(ends) < len(intervals):
        return [None, None]
    low, high = np.asarray(ends).T
    middle, half = float(np.mean((low + high) / 2)), float(np.sqrt(np.sum(((high - low) / 2) ** 2))) / len(ends)
    return [middle - half, middle + half]
