"""What the rows of the owner protocol come to: error rates by quadrant and mode, and how systems differ.

Each figure weighs the quadrants of non-targets alike, however many trials they have. Intervals resample people: one who
is drawn k times counts k times as an owner and k times as somebody else, a trial the product of both. They are the
bootstrap error times Student's t for the number of owners, and a difference is between systems on the same draws.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..calibration.fusion import QUADRANTS, Fusion, Mode, fitting, product_rule
from ..distributions import student_t_quantile, student_t_two_tails
from ..statistics import holm
from .owner import FEATURES, OwnerProtocol, features_of, quadrants_of
from .protocols import Row

FALSE_ACCEPTS = 0.01
"""Misses are told at this share of false acceptances."""
OURS = "fusion"
WITHOUT_TAKES = "fusion_without_takes"
"""The fusion that knows nothing of the owner's takes of the very word."""
N_RESAMPLES = 1000
_FIXED = {"episode", "item", "corpus", "owner", "speaker", "label", "enrolled", "claimed", "quadrant", *FEATURES}

TASKS: Mapping[str, tuple[Mode, tuple[int, ...]]] = {
    "own_other": ("owner-only", (1,)),
    "other_target": ("owner-only", (2,)),
    "other_other": ("owner-only", (3,)),
    "owner_only": ("owner-only", (1, 2, 3)),
    "owner_biased": ("owner-biased", (1, 3)),
}
"""Name -> how the fusion decides, and the quadrants that must be told from the owner's own words. As in the task
"target user biased" of Yang et al. 2022 the words of others are neither right nor wrong when the owner is preferred."""
_PEOPLE = 512
"""Trials of this many cells of owner and speaker are weighed at once."""


def system_scores(
    rows: Sequence[Row], fusions: Sequence[Fusion], mode: Mode, *, calibrated: bool = True
) -> dict[str, Float[np.ndarray, " n"]]:
    """Scores of each system for each trial: the fusion, the product rule, either part alone, and any other in the rows.

    ``product_in_word`` takes the voice in the very word instead of the voice over all takes. Without ``calibrated``
    voices have cosines, which the product rule takes to [0, 1] as (1 + cosine) / 2.
    """
    values = features_of(rows)
    others = [name for name in rows[0] if name not in _FIXED]
    return {
        OURS: fitting(fusions, values).llr(values, mode),
        **({WITHOUT_TAKES: fusions[-1].llr(values, mode)} if len(fusions) > 1 else {}),
        "product": product_rule(values["word"], _odds(values["voice"], calibrated)),
        "product_in_word": product_rule(values["word"], _odds(values["voice_in_word"], calibrated)),
        "word": values["word"],
        "voice": values["voice"],
        **features_of(rows, others),
    }


def _odds(voice: Float[np.ndarray, " n"], calibrated: bool) -> Float[np.ndarray, " n"]:
    """Log odds of the owner's voice; cosines are taken to [0, 1] first."""
    return voice if calibrated else np.log1p(np.maximum(voice, 1e-9 - 1)) - np.log1p(-np.minimum(voice, 1 - 1e-9))


@dataclass(frozen=True, eq=False)
class _People:
    """Who is in each trial, and how often each person is drawn in each resample."""

    owner: Int[np.ndarray, " n"]
    speaker: Int[np.ndarray, " n"]
    draws: Float[np.ndarray, "R P"]
    n_owners: int

    def weights(self, cells: Int[np.ndarray, "k 2"]) -> Float[np.ndarray, "R k"]:
        """Of pairs of owner and speaker; an owner's own trial counts as often as the owner."""
        own = cells[:, 0] == cells[:, 1]
        found: np.ndarray = self.draws[:, cells[:, 0]] * np.where(own, 1.0, self.draws[:, cells[:, 1]])
        return found


def _people(rows: Sequence[Row], seed: int, n_resamples: int) -> _People:
    names = sorted({row["owner"] for row in rows} | {row["speaker"] for row in rows})
    place = {name: k for k, name in enumerate(names)}
    owner, speaker = (np.asarray([place[row[key]] for row in rows]) for key in ("owner", "speaker"))
    rng = np.random.default_rng([seed, 1])
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), n_resamples).astype(np.float64)
    return _People(owner, speaker, draws, len(np.unique(owner)))


def _grid(scores: np.ndarray, quadrants: np.ndarray) -> Float[np.ndarray, " G"]:
    """Thresholds at which resamples are looked at, close together where errors are few."""
    levels = np.concatenate([np.linspace(0, 1, 101), np.linspace(0.9, 1, 101), np.linspace(0.98, 1, 81)])
    parts = [np.quantile(scores[quadrants == 0], np.linspace(0, 1, 301))]
    parts += [np.quantile(scores[quadrants == k], levels) for k in range(1, len(QUADRANTS))]
    return np.append(np.unique(np.concatenate(parts)), np.inf)


def _below(
    scores: Float[np.ndarray, " n"], grid: Float[np.ndarray, " G"], people: _People, at: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "R G"]:
    """Share of some trials that lies below each threshold, in each resample."""
    cells, cell_of = np.unique(np.stack([people.owner[at], people.speaker[at]], 1), axis=0, return_inverse=True)
    place = np.searchsorted(grid, scores[at], "right")  # the first threshold above the score
    counts = np.zeros((len(cells), len(grid) + 1))
    np.add.at(counts, (cell_of.ravel(), np.minimum(place, len(grid))), 1)
    below = np.cumsum(counts, axis=1)[:, : len(grid)]
    total, total_below = np.zeros((len(people.draws), 1)), np.zeros((len(people.draws), len(grid)))
    for start in range(0, len(cells), _PEOPLE):
        here = slice(start, start + _PEOPLE)
        weights = people.weights(cells[here])
        total += weights @ counts[here].sum(axis=1, keepdims=True)
        total_below += weights @ below[here]
    with np.errstate(invalid="ignore"):
        return total_below / total


def error_rates(
    miss: Float[np.ndarray, "*R G"], false_accepts: Float[np.ndarray, "*R G"]
) -> tuple[Float[np.ndarray, "*R"], Float[np.ndarray, "*R"]]:
    """Equal error rate, and misses at ``FALSE_ACCEPTS``, of curves over rising thresholds; lines join the points."""
    gap = miss - false_accepts
    after = np.maximum((gap >= 0).argmax(axis=-1), 1)[..., None]

    def at(values: np.ndarray, place: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, place, -1)[..., 0]

    low, high = at(gap, after - 1), at(gap, after)
    share = np.where(high > low, -low / np.where(high > low, high - low, 1.0), 0.0)
    equal = at(miss, after - 1) + share * (at(miss, after) - at(miss, after - 1))
    few = (false_accepts <= FALSE_ACCEPTS + 1e-12).argmax(axis=-1)[..., None]
    return np.asarray(equal), at(miss, few)


def _curves(scores: np.ndarray, quadrants: np.ndarray, against: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Misses and false acceptances at every threshold that matters."""
    grid = np.append(np.unique(scores[np.isin(quadrants, (0, *against))]), np.inf)
    rates = [np.searchsorted(np.sort(scores[quadrants == k]), grid, "left") for k in (0, *against)]
    shares = [found / max(int((quadrants == k).sum()), 1) for found, k in zip(rates, (0, *against), strict=True)]
    return shares[0], 1 - np.mean(shares[1:], axis=0)


@dataclass(frozen=True, slots=True)
class Figure:
    """A rate with what resampling gave for it."""

    value: float
    resamples: Float[np.ndarray, " R"]
    n_owners: int
    is_difference: bool = False

    def ci95(self) -> list[float | None]:
        """Ends of the interval; None where one owner says nothing of others."""
        half = self._reach()
        if half is None:
            return [None, None]
        low = -1.0 if self.is_difference else 0.0
        return [max(low, self.value - half), min(1.0, self.value + half)]

    def p_value(self) -> float:
        """Two-sided, of a figure that is 0."""
        error = self._error()
        if error is None or error <= 0:
            return 1.0
        return student_t_two_tails(self.value / error, self.n_owners - 1)

    def less(self, other: "Figure") -> "Figure":
        """This less another on the same resamples."""
        return Figure(self.value - other.value, self.resamples - other.resamples, self.n_owners, True)

    def _error(self) -> float | None:
        if self.n_owners < 2:
            return None
        return float(np.nanstd(self.resamples)) * math.sqrt(self.n_owners / (self.n_owners - 1))

    def _reach(self) -> float | None:
        error = self._error()
        return None if error is None else error * student_t_quantile(0.975, self.n_owners - 1)


def figures(
    rows: Sequence[Row],
    fusions: Sequence[Fusion],
    seed: int,
    *,
    calibrated: bool = True,
    n_resamples: int = N_RESAMPLES,
) -> dict[str, dict[str, Figure]]:
    """``eer_TASK`` and ``miss_TASK`` of each system."""
    quadrants, people = quadrants_of(rows), _people(rows, seed, n_resamples)
    found: dict[str, dict[str, Figure]] = {}
    drawn: dict[tuple[str, Mode], list[np.ndarray]] = {}
    for task, (mode, against) in TASKS.items():
        for system, scores in system_scores(rows, fusions, mode, calibrated=calibrated).items():
            known = (system, mode if system.startswith(OURS) else "open")  # others score alike in every mode
            if known not in drawn:
                grid = _grid(scores, quadrants)
                drawn[known] = [_below(scores, grid, people, np.flatnonzero(quadrants == k)) for k in range(4)]
            below = drawn[known]
            exact = error_rates(*_curves(scores, quadrants, against))
            resampled = error_rates(below[0], 1 - np.mean([below[k] for k in against], axis=0))
            for name, value, values in zip(("eer", "miss"), exact, resampled, strict=True):
                found.setdefault(system, {})[f"{name}_{task}"] = Figure(float(value), values, people.n_owners)
    return found


def summary(
    rows: Sequence[Row],
    protocol: OwnerProtocol,
    fusions: Sequence[Fusion],
    *,
    calibrated: bool = True,
    **about: Any,
) -> dict[str, Any]:
    """Every system's rates with intervals, and how much lower those of the fusion are, from the rows of one corpus.

    The main figure is the equal error rate of the fusion when only the owner's own words are right.
    """
    found = figures(rows, fusions, protocol.seed, calibrated=calibrated)
    ours = found[OURS]
    result: dict[str, Any] = {"metric": "owner_only_eer", **_flat("", ours["eer_owner_only"])}
    for system, of_system in found.items():
        for name, figure in of_system.items():
            result |= _flat(f"{system}_{name}", figure)
    for name in ("eer_owner_only", "miss_owner_only", "eer_owner_biased", "miss_owner_biased"):
        gains = {system: of[name].less(ours[name]) for system, of in found.items() if system != OURS}
        adjusted = holm([gain.p_value() for gain in gains.values()])
        for (system, gain), p_value in zip(gains.items(), adjusted.tolist(), strict=True):
            result |= _flat(f"gain_{name}_over_{system}", gain) | {f"gain_{name}_over_{system}_p": p_value}
    return {**result, **_at_zero(rows, fusions), **_amounts(rows), **protocol.described(), **about}


def _flat(name: str, figure: Figure) -> dict[str, Any]:
    return {name or "mean": figure.value, f"{name}_ci95" if name else "ci95": figure.ci95()}


def _at_zero(rows: Sequence[Row], fusions: Sequence[Fusion]) -> dict[str, Any]:
    """What happens at the threshold that calibrated ratios ask for, and what they cost in bits."""
    quadrants = quadrants_of(rows)
    values = features_of(rows)
    llr = fitting(fusions, values).llr(values)
    accepted = {name: float((llr[quadrants == k] >= 0).mean()) for k, name in enumerate(QUADRANTS)}
    bits = [np.logaddexp(0, np.where(k == 0, -1, 1) * llr[quadrants == k]).mean() for k in range(len(QUADRANTS))]
    cost = (bits[0] + np.mean(bits[1:])) / (2 * math.log(2))
    return {"accepted_at_0": accepted, "cllr_owner_only": float(cost)}


def _amounts(rows: Sequence[Row]) -> dict[str, Any]:
    owners = {row["owner"] for row in rows}
    return {
        "n": len(rows),
        "n_owners": len(owners),
        "n_impostors": len({row["speaker"] for row in rows if row["speaker"] != row["owner"]}),
        "n_clips": len({row["item"] for row in rows}),
        "n_trials": {name: sum(row["quadrant"] == name for row in rows) for name in QUADRANTS},
    }


def over_sets(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over corpora with the worst one, the one with the most errors; their intervals combine as errors do."""
    shared = [
        name
        for name, value in summaries[0].items()
        if f"{name}_ci95" in summaries[0] and isinstance(value, float) and all(name in one for one in summaries)
    ]
    result: dict[str, Any] = {"metric": summaries[0]["metric"], **_mean(summaries, "mean", "ci95")}
    for name in shared:
        result |= _mean(summaries, name, f"{name}_ci95")
    worst = max(summaries, key=lambda one: float(one["mean"]))
    for name in ("episodes", "seed", "shots", "queries", "speakers"):
        result[name] = summaries[0][name]
    for name in ("n", "n_owners", "n_impostors"):
        result[name] = sum(one[name] for one in summaries)
    return result | {
        "ways": max(one["ways"] for one in summaries),
        "worst_corpus": worst["corpus"],
        "worst_mean": worst["mean"],
    }


def _mean(summaries: Sequence[dict[str, Any]], name: str, interval: str) -> dict[str, Any]:
    mean = float(np.mean([one[name] for one in summaries]))
    ends = [one[interval] for one in summaries]
    if any(None in pair for pair in ends):
        return {name: mean, interval: [None, None]}
    half = float(np.sqrt(np.sum([((high - low) / 2) ** 2 for low, high in ends]))) / len(summaries)
    return {name: mean, interval: [mean - half, mean + half]}
