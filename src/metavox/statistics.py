"""How sure a figure is: intervals over items and clusters, paired comparisons, correction for many of them.

Items that share a speaker or a word err together, so an interval that treats them as independent is too short.
Give the labels that items share as ``clusters`` and whole clusters are resampled. The intervals say what other
speakers and words drawn like these would give; they know nothing of kinds that were never sampled.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import Float, Int, Shaped

from metavox.contracts import InputError
from metavox.distributions import bisect, regularized_incomplete_beta, student_t_quantile, student_t_two_tails

Numbers = Shaped[np.ndarray, " _"] | Sequence[SupportsFloat]
"""One figure an item: an array or a plain list."""
Clusters = Shaped[np.ndarray, " _"] | Sequence[Any]
"""One label an item (speakers), or a list of several such arrays (speakers and classes)."""
Pair = tuple[Numbers, Numbers] | tuple[Numbers, Numbers, Clusters] | tuple[Numbers, Numbers, Clusters, Numbers]

_WEIGHTS_AT_ONCE = 1 << 20  # resamples times clusters held in memory together: 8 MiB an array


# ----------------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and how far off it may be. ``low`` and ``high`` are NaN where the data cannot tell (one item)."""

    mean: float
    low: float
    high: float
    n: int
    """Items, not clusters."""
    method: str
    n_clusters: tuple[int, ...] = ()
    """Number of clusters by way of clustering; empty where items stand for themselves."""
    level: float = 0.95

    @property
    def ci95(self) -> list[float | None]:
        """[low, high] for JSON, with None for what is unknown. Raises InputError where the level is not 0.95."""
        return _ci95(self.low, self.high, self.level)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The mean of a - b over the same items, its interval, and the chance of so wide a gap between equals."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    n_clusters: tuple[int, ...] = ()
    level: float = 0.95

    @property
    def ci95(self) -> list[float | None]:
        """As ``Interval.ci95``."""
        return _ci95(self.low, self.high, self.level)


@dataclass(frozen=True, slots=True, kw_only=True)
class StratifiedDifference(PairedDifference):
    """The mean over sets of their paired differences; ``n`` counts the items of all sets."""

    by_set: Mapping[str, PairedDifference]
    worst_set: str
    """The set with the smallest a - b."""

    @property
    def worst(self) -> PairedDifference:
        return self.by_set[self.worst_set]


def _ci95(low: float, high: float, level: float) -> list[float | None]:
    if level != 0.95:
        raise InputError(f"This interval has level {level:g} and is no ci95; ask for level 0.95 or print low and high.")
    return [value if math.isfinite(value) else None for value in (low, high)]


# ----------------------------------------------------------------------------------------------------- closed forms


def mean_interval(values: Numbers, level: float = 0.95) -> Interval:
    """The mean of independent values (episodes, seeds) with Student's t interval, mean +- t s / sqrt(n).

    Ends are not clipped: an accuracy near 1 may have an end above it, and one value has the ends NaN. Raises
    InputError for no values, or NaN or infinite ones.
    """
    _check_level(level)
    vector = _vector(values, "values")
    mean, half, n = float(vector.mean()), math.nan, len(vector)
    if n > 1:
        half = student_t_quantile((1 + level) / 2, n - 1) * float(vector.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, "student-t", level=level)


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """A proportion with Wilson's score interval (1927): on average over p, it covers as often as it says.

    Raises InputError unless 0 <= successes <= n and n >= 1.
    """
    p = _proportion(successes, n, level)
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = max(0.0, middle - half) if successes else 0.0
    high = min(1.0, middle + half) if successes < n else 1.0
    return Interval(p, low, high, n, "wilson", level=level)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """A proportion with the exact interval (Clopper and Pearson 1934): it covers at least as often as it says.

    Use it for a figure that is promised, such as false alarms; it is wider than ``wilson``. Raises InputError unless
    0 <= successes <= n and n >= 1.
    """
    p = _proportion(successes, n, level)
    tail, low, high = (1 - level) / 2, p, p
    # The chance of at least k successes is I_p(k, n - k + 1): the ends leave ``tail`` on either side of what was seen.
    if successes:
        low = bisect(lambda q: regularized_incomplete_beta(successes, n - successes + 1, q), tail, 0.0, 1.0)
    if successes < n:
        high = bisect(lambda q: regularized_incomplete_beta(successes + 1, n - successes, q), 1 - tail, 0.0, 1.0)
    return Interval(p, low, high, n, "clopper-pearson", level=level)


def holm(p_values: Numbers) -> Float[np.ndarray, " n"]:
    """p-values adjusted for being several, in the order given (Holm 1979): reject those at or below the level.

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1. Raises InputError for no
    values or values outside 0 to 1.
    """
    vector = _vector(p_values, "p-values")
    if vector.min() < 0 or vector.max() > 1:
        raise InputError(f"The p-values span {vector.min():g} to {vector.max():g}; give probabilities from 0 to 1.")
    order = np.argsort(vector, kind="stable")
    adjusted = np.empty_like(vector)
    adjusted[order] = np.maximum.accumulate(vector[order] * np.arange(len(vector), 0, -1)).clip(max=1.0)
    return adjusted


# --------------------------------------------------------------------------------------------------------- bootstrap


def cluster_bootstrap(
    values: Numbers,
    clusters: Clusters | None,
    *,
    seed: int,
    per: Numbers | None = None,
    n_resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """The mean of ``values`` with an interval from resampling whole clusters with replacement.

    ``clusters`` is one label an item (its speaker), or a list of label arrays for items that share several things
    (speakers and classes): each way is resampled on its own and an item counts the product of its weights, the
    pigeonhole bootstrap (Owen 2007), which errs on the wide side. None makes each item its own cluster.

    With ``per`` the figure is sum(values) / sum(per) instead: edits per reference words, for a word error rate.

    Percentiles are taken further out, as Student's t asks for k clusters (Hesterberg 2015, section 5.3), k being the
    smallest number over the ways; where k clusters cannot resolve them (k below 5 at level 0.95) the interval is
    t times the bootstrap standard error. One cluster has the ends NaN. Raises InputError for no values, NaN,
    infinity, unequal lengths or missing labels.
    """
    _check_level(level)
    vector = _vector(values, "values")
    replicates, n_clusters = _resample(vector, per, clusters, np.random.SeedSequence(seed), n_resamples)
    low, high = replicates.interval(level)
    method = "bootstrap" if clusters is None else "pigeonhole-bootstrap" if len(n_clusters) > 1 else "cluster-bootstrap"
    return Interval(replicates.estimate, low, high, len(vector), method, n_clusters, level)


def paired_bootstrap(
    a: Numbers,
    b: Numbers,
    *,
    seed: int,
    clusters: Clusters | None = None,
    per: Numbers | None = None,
    n_resamples: int = 10_000,
    level: float = 0.95,
) -> PairedDifference:
    """The mean of a - b over the same items, with an interval as in ``cluster_bootstrap`` and a p-value.

    The p-value is two-sided and inverts the interval: the level whose interval would just reach 0. One resample is
    counted against the finding, and clusters too few to decide leave it large, so it is never 0. Raises InputError
    for no items, NaN, infinity, unequal lengths or missing labels.
    """
    _check_level(level)
    difference = _paired(a, b, "")
    replicates, n_clusters = _resample(difference, per, clusters, np.random.SeedSequence(seed), n_resamples)
    return _as_difference(replicates, len(difference), n_clusters, level)


def stratified_paired_difference(
    pairs_by_set: Mapping[str, Pair],
    *,
    seed: int,
    n_resamples: int = 10_000,
    level: float = 0.95,
) -> StratifiedDifference:
    """The mean over sets of the mean a - b of each, every set counting the same whatever its size.

    ``pairs_by_set`` maps a set's name to (a, b), (a, b, clusters) or (a, b, clusters, per), where a set's figure is
    sum(a - b) / sum(per). Items or clusters are resampled within each set; the sets stay, so the interval speaks of
    these sets and not of others. The worst set is that of the smallest a - b: for error rates give the other's as a
    and yours as b. Raises InputError for no sets and, with the set's name, as ``paired_bootstrap`` does.
    """
    _check_level(level)
    if not pairs_by_set:
        raise InputError("There are 0 sets to compare on; give at least 1.")
    names = sorted(pairs_by_set)
    streams = np.random.SeedSequence(seed).spawn(len(names))
    parts: list[Replicates] = []
    by_set: dict[str, PairedDifference] = {}
    for name, stream in zip(names, streams, strict=True):
        a, b, clusters, per = (*pairs_by_set[name], None, None)[:4]
        difference = _paired(a, b, f" of set {name}")
        part, n_clusters = _resample(difference, per, clusters, stream, n_resamples)
        parts.append(part)
        by_set[name] = _as_difference(part, len(difference), n_clusters, level)
    mean = _mean_over_sets(parts)
    (low, high), p_value = mean.interval(level), mean.p_value()
    n, worst = sum(part.n for part in by_set.values()), min(names, key=lambda name: by_set[name].difference)
    return StratifiedDifference(mean.estimate, low, high, p_value, n, level=level, by_set=by_set, worst_set=worst)


@dataclass(frozen=True, slots=True)
class Replicates:
    """What resampling gave: the estimate, how far each resample fell from it, and how much k clusters can tell."""

    estimate: float
    deviations: Float[np.ndarray, " R"]
    dof: float
    """Degrees of freedom, k - 1; 0 where one cluster says nothing of others."""
    inflation: float
    """sqrt(k / (k - 1)): resamples vary about the mean of k clusters by that much less than the mean itself does."""
    finest_tail: float
    """k ** -k, the chance of the rarest resample: a smaller tail cannot be read off."""

    def interval(self, level: float) -> tuple[float, float]:
        if self.dof <= 0:
            return math.nan, math.nan
        tail, reach = self._tail(level)
        if tail < self.finest_tail:
            half = reach * float(self.deviations.std())
            return self.estimate - half, self.estimate + half
        low, high = np.quantile(self.deviations, [tail, 1 - tail])
        return self.estimate + float(low), self.estimate + float(high)

    def p_value(self) -> float:
        if self.dof <= 0:
            return 1.0
        if self._tail(0.95)[0] < self.finest_tail:
            error = float(self.deviations.std())
            if error <= 1e-12 * abs(self.estimate):  # all clusters agree, which few of them may do by chance
                return min(1.0, 2 * self.finest_tail) if self.estimate else 1.0
            z = abs(self.estimate) / error
        else:
            replicates, rounding = self.estimate + self.deviations, 1e-12 * float(np.abs(self.deviations).max())
            beyond = int(min((replicates <= rounding).sum(), (replicates >= -rounding).sum()))
            tail = max((beyond + 1) / (len(replicates) + 1), self.finest_tail)
            z = -NormalDist().inv_cdf(min(tail, 0.5))
        return student_t_two_tails(z / self.inflation, self.dof)

    def _tail(self, level: float) -> tuple[float, float]:
        """The share of resamples beyond each end, and the same as standard errors of the resamples."""
        reach = student_t_quantile((1 + level) / 2, self.dof) * self.inflation
        return math.erfc(reach / math.sqrt(2)) / 2, reach


def _resample(
    values: Float[np.ndarray, " n"],
    per: Numbers | None,
    clusters: Clusters | None,
    stream: np.random.SeedSequence,
    n_resamples: int,
) -> tuple[Replicates, tuple[int, ...]]:
    """Resample every way of clustering with replacement; a cell of the ways counts the product of its weights."""
    if n_resamples < 100:
        raise InputError(f"n_resamples is {n_resamples}; an interval needs at least 100, better 10000.")
    sizes = np.ones_like(values) if per is None else _sizes(per, len(values))
    ways = _codes(clusters, len(values))
    n_clusters = tuple(int(codes.max()) + 1 for codes in ways)
    cells, cell_of_item = np.unique(np.stack(ways, axis=1), axis=0, return_inverse=True)
    estimate = float(values.sum() / sizes.sum())
    # Only what each cell adds beyond the estimate is resampled: exact under shifts, and steady for large means.
    excess, size = (np.bincount(cell_of_item.ravel(), weights=column) for column in (values - estimate * sizes, sizes))
    generators = [np.random.default_rng(child) for child in stream.spawn(len(ways))]
    deviations, weight = np.empty(n_resamples), np.empty(n_resamples)
    step = max(1, _WEIGHTS_AT_ONCE // max(len(cells), *n_clusters))
    for start in range(0, n_resamples, step):
        rows = slice(start, min(start + step, n_resamples))
        weights = np.ones(())
        for generator, codes, k in zip(generators, cells.T, n_clusters, strict=True):
            counts = _multinomial(generator, rows.stop - rows.start, k)
            weights = weights * (counts if len(ways) == 1 else counts[:, codes])
        deviations[rows], weight[rows] = weights @ excess, weights @ size
    kept = weight > 0  # the product of several ways can miss every cell
    k = min(n_clusters)
    inflation = math.sqrt(k / (k - 1)) if k > 1 else math.inf
    replicates = Replicates(estimate, deviations[kept] / weight[kept], float(k - 1), inflation, float(k) ** -k)
    return replicates, () if clusters is None else n_clusters


def _multinomial(generator: np.random.Generator, n_rows: int, k: int) -> Float[np.ndarray, "B k"]:
    """How often each of k clusters is drawn in k draws, a row a resample; counting draws beats binomials tenfold."""
    draws = generator.integers(k, size=(n_rows, k))
    draws += k * np.arange(n_rows)[:, None]
    return np.bincount(draws.ravel(), minlength=n_rows * k).reshape(n_rows, k).astype(np.float64)


def _mean_over_sets(parts: list[Replicates]) -> Replicates:
    """The mean of independent estimates; degrees of freedom after Welch (1947) and Satterthwaite (1946)."""
    estimate = float(np.mean([part.estimate for part in parts]))
    n_common = min(len(part.deviations) for part in parts)
    deviations = np.mean([part.deviations[:n_common] for part in parts], axis=0)
    finest_tail = math.prod(part.finest_tail for part in parts)
    dof = np.array([part.dof for part in parts])
    if dof.min() <= 0:
        return Replicates(estimate, deviations, 0.0, math.inf, finest_tail)
    variances = np.array([part.deviations.var() for part in parts])
    variances = variances if variances.any() else np.ones(len(parts))
    inflated = variances * [part.inflation**2 for part in parts]
    welch = inflated.sum() ** 2 / (inflated**2 / dof).sum()
    inflation = math.sqrt(inflated.sum() / variances.sum())
    return Replicates(estimate, deviations, float(welch), inflation, finest_tail)


def _as_difference(replicates: Replicates, n: int, n_clusters: tuple[int, ...], level: float) -> PairedDifference:
    low, high = replicates.interval(level)
    return PairedDifference(replicates.estimate, low, high, replicates.p_value(), n, n_clusters, level)


# ------------------------------------------------------------------------------------------------------------ checks


def _vector(values: Numbers, name: str) -> Float[np.ndarray, " n"]:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not len(vector):
        raise InputError(f"The {name} have shape {vector.shape}; give a list of at least one.")
    n_bad = int((~np.isfinite(vector)).sum())
    if n_bad:
        raise InputError(f"{n_bad} of the {len(vector)} {name} are NaN or infinite; leave those items out.")
    return vector


def _paired(a: Numbers, b: Numbers, where: str) -> Float[np.ndarray, " n"]:
    first, second = _vector(a, f"first values{where}"), _vector(b, f"second values{where}")
    if len(first) != len(second):
        numbers = f"{len(first)} first and {len(second)} second values"
        raise InputError(f"There are {numbers}{where}; score both on the same items.")
    return first - second


def _sizes(per: Numbers, n: int) -> Float[np.ndarray, " n"]:
    sizes = _vector(per, "sizes")
    if len(sizes) != n or sizes.min() < 0 or not sizes.sum():
        raise InputError(f"There are {len(sizes)} sizes for {n} values; give one an item, none negative, not all zero.")
    return sizes


def _codes(clusters: Clusters | None, n: int) -> list[Int[np.ndarray, " n"]]:
    """Each way of clustering as numbers 0 to k - 1, in the order of the sorted labels."""
    if clusters is None:
        return [np.arange(n)]
    plain = isinstance(clusters, np.ndarray) or not len(clusters) or not isinstance(clusters[0], Sequence | np.ndarray)
    codes = []
    for way in [clusters] if plain or isinstance(clusters[0], str) else clusters:
        labels = np.asarray(way)
        if labels.shape != (n,):
            raise InputError(f"Cluster labels have shape {labels.shape} for {n} items; give one label an item.")
        n_none = labels.tolist().count(None)
        if n_none:
            raise InputError(f"{n_none} of the {n} cluster labels are None; give each its own label or leave them out.")
        codes.append(np.unique(labels.astype(str) if labels.dtype == object else labels, return_inverse=True)[1])
    return codes


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"The level of an interval is {level:g}; give a share between 0 and 1, such as 0.95.")


def _proportion(successes: int, n: int, level: float) -> float:
    _check_level(level)
    if not 0 <= successes <= n or n < 1:
        raise InputError(f"{successes} successes of {n} is no proportion; give 0 <= successes <= n and n of 1 or more.")
    return successes / n
