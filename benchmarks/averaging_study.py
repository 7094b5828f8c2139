"""What both studies of averaging share: relative gains on the same items, curves over K, and how sure they are."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from metavox.statistics import cluster_bootstrap, paired_bootstrap

KS = tuple(range(1, 11))
N_RESAMPLES = 10_000
POWER_Z = 2.8
"""Standard errors of a difference that is seen in 80 % of draws by a 95 % interval."""


def rate(errors: np.ndarray, per: np.ndarray, clusters: np.ndarray) -> dict[str, Any]:
    """Errors over items with its interval; clusters are resampled."""
    found = cluster_bootstrap(errors, clusters, per=per, seed=0, n_resamples=N_RESAMPLES)
    return {"error": found.mean, "error_ci95": list(found.ci95)}


def gain(single: np.ndarray, averaged: np.ndarray, clusters: np.ndarray) -> dict[str, Any]:
    """How many of the single model's errors the average does without, relative, paired by item."""
    found = paired_bootstrap(
        single.astype(float), averaged.astype(float), per=single.astype(float), clusters=clusters, seed=0,
        n_resamples=N_RESAMPLES,
    )  # fmt: skip
    low, high = found.ci95
    detectable = None if low is None or high is None else POWER_Z * (high - low) / 2 / 1.96
    return {
        "relative_gain": found.difference,
        "relative_gain_ci95": [low, high],
        "p_value": found.p_value,
        "minimum_detectable": detectable,
    }


def point(
    form: str,
    k: int,
    errors: np.ndarray,
    single: np.ndarray,
    per: np.ndarray,
    clusters: np.ndarray,
    sets: np.ndarray,
    **about: Any,
) -> dict[str, Any]:
    """One row of a study: the error of an average of K, and what it gains on the best single member, worst set too."""
    by_set = {
        name: 1 - float(errors[sets == name].sum()) / max(float(single[sets == name].sum()), 1e-9)
        for name in sorted(set(sets.tolist()))
    }
    worst = min(by_set, key=lambda name: by_set[name])
    return {
        "form": form,
        "members": k,
        **rate(errors, per, clusters),
        **gain(single, errors, clusters),
        "gain_by_set": by_set,
        "worst_set": worst,
        "worst_gain": by_set[worst],
        **about,
    }


def curve(
    form: str, make: Callable[[Sequence[int]], np.ndarray], order: Sequence[int], ks: Sequence[int], **given: Any
) -> list[dict[str, Any]]:
    """Points over K: the first K members of an order that was fixed before anything was scored."""
    return [point(form, k, make(order[:k]), **given) for k in ks if k <= len(order)]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """The rows as text."""
    for row in rows:
        low, high = row["relative_gain_ci95"]
        print(
            f"{row['family']:<9} {row['form']:<12} K={row['members']:<3} {100 * row['error']:5.2f} %  gain "
            f"{100 * row['relative_gain']:5.1f} [{100 * low:.1f}, {100 * high:.1f}]  worst {row['worst_set']} "
            f"{100 * row['worst_gain']:.1f}  detectable {100 * row['minimum_detectable']:.1f}"
        )
