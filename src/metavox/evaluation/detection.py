"""Detection errors with intervals over people: whole speakers are resampled, on both sides of a trial at once.

A speaker takes part in many trials, as the one who is enrolled and as the one who tests, so that trials are far from
independent. Here speakers are drawn with replacement; a trial of one person counts as often as that person was drawn,
and one of two people as often as both were, the product (Bolle et al. 2004, Poh et al. 2007; the bootstrap of the nodes
of a graph, Snijders and Borgatti 1999). An equal error rate is no mean, so that ``statistics.cluster_bootstrap`` cannot
serve: scores are counted once in bins by pair of speakers, and a resample is then a weighted sum of counts. Points are
exact; bins, some hundreds of them and close where errors are rare, only say how far resamples fall from the point.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ..metrics import act_dcf, cllr, eer, min_cllr, min_dcf
from ..statistics import Replicates, clopper_pearson

PRIORS = {"": 0.01, "_p05": 0.05}
"""Ending of the name of a detection cost -> its prior of a trial of one person."""
N_RESAMPLES = 1000
_N_EDGES = 120
"""Quantiles of the scores of either kind, and as many steps into the tail where errors are rare."""
_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True)
class Trials:
    """n trials with the speakers on either side, as numbers below ``n_speakers``."""

    is_target: Bool[np.ndarray, " n"]
    enrolled: Int[np.ndarray, " n"]
    tested: Int[np.ndarray, " n"]
    n_speakers: int

    def at(self, where: Bool[np.ndarray, " n"]) -> "Trials":
        """Some of them."""
        return Trials(self.is_target[where], self.enrolled[where], self.tested[where], self.n_speakers)

    @property
    def n_enrolled(self) -> int:
        """Speakers who are asked for in a trial of one person: what an interval rests on."""
        return len(np.unique(self.enrolled[self.is_target]))


def figures(
    values: Float[np.ndarray, " n"],
    trials: Trials,
    *,
    calibrated: bool,
    seed: int,
    only_eer: bool = False,
    n_resamples: int = N_RESAMPLES,
) -> dict[str, Replicates]:
    """Every figure of a set of trials with its resamples, the same ones for the same seed and trials.

    ``values`` are log-likelihood ratios where they are ``calibrated``, otherwise scores: these have no ``act_dcf``
    and no ``cllr``. Names: eer, min_dcf (at a prior of 0.01), min_dcf_p05, min_cllr, and act_dcf, act_dcf_p05, cllr,
    cllr_over_min; with ``only_eer`` the first alone.
    """
    calibrated = calibrated and not only_eer
    target, nontarget = values[trials.is_target], values[~trials.is_target]
    exact = {"eer": eer(target, nontarget).rate}
    for ending, prior in () if only_eer else PRIORS.items():
        exact[f"min_dcf{ending}"] = min_dcf(target, nontarget, prior)
        if calibrated:
            exact[f"act_dcf{ending}"] = act_dcf(target, nontarget, prior)
    if not only_eer:
        exact["min_cllr"] = min_cllr(target, nontarget)
    if calibrated:
        exact["cllr"] = cllr(target, nontarget)
        exact["cllr_over_min"] = exact["cllr"] / exact["min_cllr"] if exact["min_cllr"] > 0 else math.nan
    counted = _Counted.of(values, trials, calibrated)
    weights = speaker_weights(trials.n_speakers, n_resamples, seed)
    point, drawn = (counted.figures(some, only_eer) for some in (np.ones((1, trials.n_speakers), np.float32), weights))
    k = trials.n_enrolled
    inflation = math.sqrt(k / (k - 1)) if k > 1 else math.inf
    found = {}
    for name, value in exact.items():
        with np.errstate(invalid="ignore"):
            deviations = drawn[name] - point[name]
        kept = deviations[np.isfinite(deviations)]
        enough = len(kept) > n_resamples // 2 and math.isfinite(value)
        dof = float(k - 1) if enough else 0.0
        found[name] = Replicates(value, deviations if enough else kept, dof, inflation, float(k) ** -k)
    return found


def interval(name: str, found: Replicates, n_enrolled: int) -> list[float | None]:
    """[low, high] at 95 %, no error rate below 0; None where the speakers cannot tell.

    Without a single error every resample has none either. Then the upper end of the equal error rate is that of
    0 errors in as many attempts as there are speakers (Clopper and Pearson), and those of other costs are unknown.
    """
    found = usable(found)
    low, high = (float(np.maximum(end, 0.0)) for end in found.interval(0.95))
    if math.isfinite(high) and float(np.abs(found.deviations).max()) < 1e-6:
        if name != "eer":
            return [low, None]
        high = max(high, clopper_pearson(0, n_enrolled).high)
    return [value if math.isfinite(value) else None for value in (low, high)]


def usable(found: Replicates) -> Replicates:
    """Without the resamples that drew no trial of one kind, which have no figure."""
    kept = found.deviations[np.isfinite(found.deviations)]
    return Replicates(found.estimate, kept, found.dof, found.inflation, found.finest_tail)


def difference(a: Replicates, b: Replicates) -> Replicates:
    """a - b of two systems on the same trials and resamples."""
    return Replicates(
        a.estimate - b.estimate, a.deviations - b.deviations, min(a.dof, b.dof), a.inflation, a.finest_tail
    )


def speaker_weights(n_speakers: int, n_resamples: int, seed: int) -> Float[np.ndarray, "R S"]:
    """How often each speaker is drawn in each resample."""
    drawn = np.random.default_rng(seed).integers(n_speakers, size=(n_resamples, n_speakers))
    drawn += n_speakers * np.arange(n_resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_resamples * n_speakers).reshape(n_resamples, -1).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------- in bins


@dataclass(frozen=True)
class _Counted:
    """Scores in G bins by speaker and by pair of speakers; a last column holds what Cllr sums up, in bits."""

    edges: Float[np.ndarray, " E"]
    """Bin g holds the scores at or above edge g - 1 and below edge g."""
    bayes: dict[str, int]
    """Figure -> the edge that is its threshold."""
    target: Float[np.ndarray, "S G1"]
    nontarget: Float[np.ndarray, "P G1"]
    pairs: Int[np.ndarray, "P 2"]

    @classmethod
    def of(cls, values: Float[np.ndarray, " n"], trials: Trials, calibrated: bool) -> "_Counted":
        kinds = trials.is_target, ~trials.is_target
        edges = _edges(values[kinds[0]], values[kinds[1]])
        bayes = {}
        if calibrated:
            thresholds = {name: math.log((1 - prior) / prior) for name, prior in PRIORS.items()}
            edges = np.unique(np.concatenate([edges, list(thresholds.values())]))
            bayes = {f"act_dcf{name}": int(np.searchsorted(edges, at)) for name, at in thresholds.items()}
        n_bins = len(edges) + 1
        place = np.searchsorted(edges, values, "right")
        low, high = np.minimum(trials.enrolled, trials.tested), np.maximum(trials.enrolled, trials.tested)
        pairs, pair = np.unique((low * trials.n_speakers + high)[kinds[1]], return_inverse=True)
        tables = []
        for kind, group, n_groups in (
            (kinds[0], trials.enrolled[kinds[0]], trials.n_speakers),
            (kinds[1], pair, len(pairs)),
        ):
            table = np.zeros((n_groups, n_bins + 1), np.float32)
            table[:, :n_bins] = np.bincount(group * n_bins + place[kind], minlength=n_groups * n_bins).reshape(
                -1, n_bins
            )
            sign = -1 if kind is kinds[0] else 1
            bits = np.logaddexp(0.0, sign * values[kind]) / math.log(2) if calibrated else np.zeros(int(kind.sum()))
            table[:, n_bins] = np.bincount(group, bits, n_groups)
            tables.append(table)
        both = np.stack([pairs // trials.n_speakers, pairs % trials.n_speakers], axis=1)
        return cls(edges, bayes, tables[0], tables[1], both)

    def figures(self, weights: Float[np.ndarray, "R S"], only_eer: bool) -> dict[str, Float[np.ndarray, " R"]]:
        """Each figure of each resample; NaN where one drew no trial of a kind."""
        target = (weights @ self.target).astype(np.float64)
        nontarget = np.zeros((len(weights), self.nontarget.shape[1]))
        for start in range(0, len(self.pairs), _PAIRS_AT_ONCE):
            some = slice(start, start + _PAIRS_AT_ONCE)
            both = weights[:, self.pairs[some, 0]] * weights[:, self.pairs[some, 1]]
            nontarget += both @ self.nontarget[some]
        sizes = target[:, :-1].sum(axis=1), nontarget[:, :-1].sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            target, nontarget = target / sizes[0][:, None], nontarget / sizes[1][:, None]
            return self._rates(target, nontarget, only_eer)

    def _rates(
        self, target: Float[np.ndarray, "R G1"], nontarget: Float[np.ndarray, "R G1"], only_eer: bool
    ) -> dict[str, np.ndarray]:
        """From shares of either kind by bin."""
        # Misses and false accepts at each edge, and at +inf, which rejects everything.
        miss = np.cumsum(target[:, :-1], axis=1)
        false = 1 - np.cumsum(nontarget[:, :-1], axis=1)
        miss, false = (
            np.concatenate([np.full((len(miss), 1), at), some], axis=1) for at, some in ((0, miss), (1, false))
        )
        found = {"eer": _crossing(miss, false)}
        if only_eer:
            return found
        for ending, prior in PRIORS.items():
            cost = miss + (1 - prior) / prior * false
            found[f"min_dcf{ending}"] = cost.min(axis=1)
            if self.bayes:
                found[f"act_dcf{ending}"] = cost[:, self.bayes[f"act_dcf{ending}"] + 1]
        found["min_cllr"] = np.array([_pooled(*both) for both in zip(target[:, :-1], nontarget[:, :-1], strict=True)])
        if self.bayes:
            found["cllr"] = (target[:, -1] + nontarget[:, -1]) / 2
            found["cllr_over_min"] = found["cllr"] / found["min_cllr"]
        return found


def _edges(target: Float[np.ndarray, " t"], nontarget: Float[np.ndarray, " n"]) -> Float[np.ndarray, " E"]:
    """Thresholds that cut both kinds evenly, and closely where errors of a kind are rare."""
    even = np.linspace(0, 1, _N_EDGES + 2)[1:-1]
    parts = []
    for scores, high in ((target, False), (nontarget, True)):
        rare = np.geomspace(0.5, max(1 / len(scores), 1e-6), _N_EDGES)
        shares = np.concatenate([even, 1 - rare if high else rare])
        parts.append(np.quantile(scores, np.clip(shares, 0, 1)))
    return np.unique(np.concatenate(parts))


def _crossing(miss: Float[np.ndarray, "R E"], false: Float[np.ndarray, "R E"]) -> Float[np.ndarray, " R"]:
    """Where both errors are equal, by straight lines between thresholds."""
    gap = miss - false
    after = np.argmax(gap > 0, axis=1)
    rows, before = np.arange(len(gap)), np.maximum(after - 1, 0)
    span = gap[rows, after] - gap[rows, before]
    share = np.where(span > 0, -gap[rows, before] / span, 0.0)
    rate = false[rows, before] + share * (false[rows, after] - false[rows, before])
    return np.where(np.isfinite(gap).all(axis=1), rate, np.nan)


def _pooled(target: Float[np.ndarray, " G"], nontarget: Float[np.ndarray, " G"]) -> float:
    """``metrics.min_cllr`` from shares by bin."""
    if not np.isfinite(target).all() or not np.isfinite(nontarget).all():
        return math.nan
    kept = (target > 0) | (nontarget > 0)
    blocks: list[tuple[float, float]] = []
    for t, n in zip(target[kept].tolist(), nontarget[kept].tolist(), strict=True):
        while blocks and blocks[-1][0] * n >= t * blocks[-1][1]:
            previous = blocks.pop()
            t, n = t + previous[0], n + previous[1]  # noqa: PLW2901
        blocks.append((t, n))
    bits = 0.0
    for t, n in blocks:
        bits += (t * math.log2((t + n) / t) if t > 0 else 0.0) + (n * math.log2((t + n) / n) if n > 0 else 0.0)
    return bits / 2
