"""The open-set protocol: enrolled words among sounds that are none of them.

Every episode enrols words, sets a threshold on one half of the negatives for a promised rate of false alarms, and
judges it on known queries and on the other half. Rows hold every score, so that whatever is printed, and any other
threshold, can be computed from them again.

Kinds of rows: ``piece`` (a negative, once), ``query`` (a known query of an episode), ``development`` and ``test``
(scores of all negatives on that side of an episode, with the thresholds that were set).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..calibration.bounds import threshold_for
from ..contracts import Comparing, Draw, FrontEnd, InputError
from ..data.bank import Bank
from ..data.episodes import ClassIndex
from ..metrics import auroc
from ..statistics import clopper_pearson, cluster_bootstrap, mean_interval
from .negatives import Negatives, Spoken, alike, draw_sides, split_by
from .protocols import (
    N_RESAMPLES,
    Protocol,
    Row,
    clustering,
    draws,
    episode_of,
    of_corpus,
    over_corpora,
    query_rows,
    transfer,
)

_DIGITS = 6
"""Scores are rounded to so many before anything is made of them, so that the rows give the same figures again."""
_SURE = 0.90
"""Two-sided level of an interval whose lower end is right 95 times in a hundred."""


@dataclass(frozen=True)
class OpenSetProtocol(Protocol):
    """Open-set command recognition: the i-th enrolment and the i-th share-out of negatives come from (seed, i)."""

    far: tuple[float, ...] = (0.05, 0.01)
    """Shares of negatives that may be accepted, each with a threshold of its own."""
    confidence: float = 0.95
    """How sure the upper bound of that share is."""
    max_negatives: int = 2000
    """Pieces on either side of an episode, at most."""
    max_test: int | None = None
    """Pieces on the test side, where that is to have others: the more, the surer is what a threshold lets through."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for far in self.far:
            if not 0 < far < 1:
                raise InputError(f"--far is {far:g}; give a share of negatives between 0 and 1, such as 0.05.")
        if not self.far or len(set(map(far_key, self.far))) < len(self.far):
            raise InputError("--far names no share, or one twice; name each once.")
        if not 0.5 < self.confidence < 1:
            raise InputError(f"--confidence is {self.confidence:g}; give one between 0.5 and 1, such as 0.95.")
        if min(self.max_negatives, self.at_most_on_test) < 1:
            raise InputError(f"--max-negatives is {self.max_negatives}; it must be at least 1.")

    @property
    def at_most_on_test(self) -> int:
        """Pieces on the test side, at most."""
        return self.max_negatives if self.max_test is None else self.max_test


def far_key(far: float) -> str:
    """A rate as the names of figures say it: ``5`` for 0.05, ``0.1`` for 0.001."""
    return f"{100 * far:.6g}"


def require_comparing(learner: Any, name: str) -> Comparing:
    """The learner, where it can be asked about what it embedded before.

    Raises:
        InputError: it cannot.
    """
    if not isinstance(learner, Comparing) or learner.adapts_body or learner.fixed_ways:
        raise InputError(
            f"Model {name} has a learner that cannot compare what was embedded before, and open-set needs thousands of "
            "negatives in every episode; evaluate a model of learner prototypes, or the baseline dtw."
        )
    return learner


# ------------------------------------------------------------------------------------------------------------ running


def evaluate_open_set(
    learner: Comparing,
    bank: Bank,
    index: ClassIndex,
    negatives: Negatives,
    protocol: OpenSetProtocol,
    front_end: FrontEnd,
    progress: Callable[[int, int], None] | None = None,
    *,
    corpus: str | None = None,
) -> list[Row]:
    """Rows of all episodes; those of the pieces are ``piece_rows``. ``corpus`` names the set of known words in them.

    Raises:
        InputError: the corpus cannot give an episode of this shape, or the negatives cannot support the promise.
    """
    rows: list[Row] = []
    spoken = Spoken(negatives.utterances)
    for i, draw in draws(index, protocol, progress):
        heard = [bank.utterances[position] for position in draw.support.tolist()]
        asked = [bank.utterances[position] for position in draw.query.tolist()]
        rng = np.random.default_rng([protocol.seed, i, 1])
        usable = spoken.none_of([*heard, *asked])
        sides = draw_sides(negatives, usable, protocol.max_negatives, protocol.at_most_on_test, rng)
        episode = episode_of(bank, draw, front_end)
        state = transfer(learner, episode.support)
        with torch.no_grad():
            scores = learner.predict(state, episode.query).scores
            development = _largest(learner.compare(state, *negatives.chosen(sides.development)).scores)
            test = _largest(learner.compare(state, *negatives.chosen(sides.test)).scores)
        of_known = _query_rows(bank, draw, scores, i)
        set_on = _side("development", i, sides.development, development, sides.development_hours)
        set_on |= thresholds(development, negatives.recording[sides.development], sides.development_hours, protocol)
        judged_on = _side("test", i, sides.test, test, sides.test_hours)
        rows += [*of_known, set_on, judged_on]
    return of_corpus(rows, corpus)


def thresholds(
    development: Float[np.ndarray, " n"], recordings: Int[np.ndarray, " n"], hours: float, protocol: OpenSetProtocol
) -> Row:
    """The threshold of each rate and what it promises, from negatives for development and from nothing else."""
    found = [
        threshold_for(
            development, target=far, per_hour=False, hours=hours, confidence=protocol.confidence, groups=recordings
        )
        for far in protocol.far
    ]
    return {
        "far": list(protocol.far),
        "thresholds": [float(threshold) for threshold, _ in found],
        "bounds": [float(promise.bound) for _, promise in found],
        "design_effects": [float(promise.design_effect) for _, promise in found],
    }


def _largest(scores: Tensor) -> Float[np.ndarray, " n"]:
    return np.round(scores.amax(-1).double().cpu().numpy(), _DIGITS)


def _query_rows(bank: Bank, draw: Draw, scores: Tensor, number: int) -> Iterator[Row]:
    correct = scores.argmax(-1).cpu() == torch.from_numpy(np.asarray(draw.query_labels, np.int64))
    for row, score in zip(query_rows(bank, draw, scores, correct, number), _largest(scores).tolist(), strict=True):
        yield {"kind": "query", **row, "score": score}


def _side(kind: str, number: int, pieces: np.ndarray, scores: np.ndarray, hours: float) -> Row:
    return {
        "kind": kind,
        "episode": number,
        "label": None,
        "hours": hours,
        "pieces": pieces.tolist(),
        "scores": scores.tolist(),
    }


def piece_rows(negatives: Negatives) -> list[Row]:
    """One row a piece: which recording it is of, where in it, and with which others it is never cut in two."""
    rows: list[Row] = []
    units = alike(negatives)
    for piece, (recording, span) in enumerate(
        zip(negatives.recording.tolist(), negatives.spans_s.tolist(), strict=True)
    ):
        utterance = negatives.utterances[recording]
        rows.append(
            {
                "kind": "piece",
                "piece": piece,
                "item": utterance.id,
                "corpus": utterance.corpus,
                "speaker": utterance.speaker,
                "label": None,
                "recording": recording,
                "unit": int(units[recording]),
                "start_s": round(span[0], 4),
                "end_s": round(span[1], 4),
            }
        )
    return rows


# ------------------------------------------------------------------------------------------------------------ figures


@dataclass(frozen=True)
class _Heard:
    """One episode, read back from its rows."""

    known: Float[np.ndarray, " q"]
    correct: Bool[np.ndarray, " q"]
    test: Float[np.ndarray, " m"]
    units: Int[np.ndarray, " m"]
    sets: np.ndarray
    thresholds: list[float]
    bounds: list[float]
    design_effects: list[float]


def summary(rows: Sequence[Row], protocol: OpenSetProtocol, **about: Any) -> dict[str, Any]:
    """Means over episodes with intervals, from the rows of the pieces and of one corpus.

    ``ci95`` and the other intervals are over episodes; ``clustered_ci95`` resample known words and speakers too.
    ``exceeded`` counts the episodes where the rate on the test half is above the bound; that rate is an estimate too,
    and ``exceeded_beyond_error`` counts those where it is surely above (95 %, what is never cut in two as clusters).
    """
    episodes, queries = _read_back(rows)
    by, clusters = clustering(queries)

    def clustered(values: Sequence[np.ndarray]) -> list[float | None]:
        flat = np.concatenate(values).astype(np.float64)
        return cluster_bootstrap(flat, clusters, seed=protocol.seed, n_resamples=N_RESAMPLES).ci95

    above = [_beaten(one.known, one.test) for one in episodes]
    found = {"metric": "auroc", **_mean("", [auroc(one.known, one.test) for one in episodes])}
    found |= {"clustered_ci95": clustered(above), "clustered_by": by, "auroc": found["mean"]}
    found |= {"auroc_ci95": found["ci95"]} | _mean("closed_accuracy", [one.correct.mean() for one in episodes])
    for place, far in enumerate(protocol.far):
        key = far_key(far)
        right = [one.correct & (one.known >= one.thresholds[place]) for one in episodes]
        found |= _mean(f"accuracy_at_far_{key}", [values.mean() for values in right])
        found[f"accuracy_at_far_{key}_clustered_ci95"] = clustered(right)
        missed = [(one.known < one.thresholds[place]).mean() for one in episodes]
        found |= _mean(f"miss_at_far_{key}", missed)
        found |= _mean(f"oracle_accuracy_at_far_{key}", [_oracle_accuracy(one, far) for one in episodes])
        found |= _promise(episodes, place, far)
    return {
        **found,
        **_amounts(rows),
        **_by_set(episodes, protocol),
        "n": len(queries),
        **protocol.described(),
        "confidence": protocol.confidence,
        "far": list(protocol.far),
        **about,
    }


def _read_back(rows: Iterable[Row]) -> tuple[list[_Heard], list[Row]]:
    pieces, queries = [], defaultdict(list)
    sides: dict[str, dict[int, Row]] = {"development": {}, "test": {}}
    for row in rows:
        if row["kind"] == "piece":
            pieces.append(row)
        elif row["kind"] == "query":
            queries[row["episode"]].append(row)
        else:
            sides[row["kind"]][row["episode"]] = row
    units = np.asarray([row["unit"] for row in pieces], np.int64)
    sets = np.asarray([row["corpus"] for row in pieces], object)
    heard = [
        _Heard(
            known=np.asarray([row["score"] for row in queries[number]], np.float64),
            correct=np.asarray([row["correct"] for row in queries[number]], bool),
            test=np.asarray(test["scores"], np.float64),
            units=units[test["pieces"]],
            sets=sets[test["pieces"]],
            thresholds=sides["development"][number]["thresholds"],
            bounds=sides["development"][number]["bounds"],
            design_effects=sides["development"][number]["design_effects"],
        )
        for number, test in sorted(sides["test"].items())
    ]
    return heard, [row for number in sorted(queries) for row in queries[number]]


def _mean(name: str, values: Sequence[Any]) -> dict[str, Any]:
    interval = mean_interval([float(value) for value in values])
    return {name or "mean": interval.mean, f"{name}_ci95" if name else "ci95": interval.ci95}


def _beaten(known: np.ndarray, negatives: np.ndarray) -> Float[np.ndarray, " q"]:
    """The share of negatives that each known query outscores, ties counting half; their mean is the AUROC."""
    ranked = np.sort(negatives)
    twice = np.searchsorted(ranked, known, "left") + np.searchsorted(ranked, known, "right")
    found: np.ndarray = twice / (2 * len(ranked))
    return found


def oracle_threshold(negatives: Float[np.ndarray, " n"], far: float) -> float:
    """The lowest threshold that no more than ``far`` of these negatives reach; whoever sets it has seen the test."""
    passing = int(far * len(negatives) + 1e-9)
    if passing >= len(negatives):
        return float(negatives.min())
    return float(np.nextafter(np.sort(negatives)[::-1][passing], np.inf))


def _oracle_accuracy(one: _Heard, far: float) -> float:
    return float((one.correct & (one.known >= oracle_threshold(one.test, far))).mean())


def _promise(episodes: Sequence[_Heard], place: int, far: float) -> dict[str, Any]:
    key = far_key(far)
    accepted = [one.test >= one.thresholds[place] for one in episodes]
    realised = np.asarray([values.mean() for values in accepted])
    bounds = np.asarray([one.bounds[place] for one in episodes])
    above = int((realised > bounds).sum())
    surely = sum(
        _lower_end(values, one.units) > bound
        for values, one, bound in zip(accepted, episodes, bounds.tolist(), strict=True)
    )
    return {
        f"promised_far_{key}": far,
        f"bound_{key}": float(bounds.mean()),
        f"design_effect_{key}": float(np.median([one.design_effects[place] for one in episodes])),
        **_mean(f"realised_far_{key}", realised.tolist()),
        f"realised_over_promised_{key}": float(np.median(realised)) / far,
        f"exceeded_{key}": above / len(episodes),
        f"exceeded_{key}_ci95": clopper_pearson(above, len(episodes)).ci95,
        f"exceeded_beyond_error_{key}": surely / len(episodes),
    }


def _lower_end(accepted: Bool[np.ndarray, " n"], units: Int[np.ndarray, " n"]) -> float:
    """What the true rate is surely above: the exact interval of so many independent pieces as these count for.

    Pieces of one recording or speaker are alike; with the variance of clusters over the binomial one they count less.
    """
    n, rate = len(accepted), float(accepted.mean())
    inflation = 1.0
    codes = np.unique(units, return_inverse=True)[1]
    n_clusters = int(codes.max()) + 1
    if 0 < rate < 1 and n_clusters > 1:
        sizes = np.bincount(codes)
        off = np.bincount(codes, weights=accepted) - rate * sizes
        variance = n_clusters / (n_clusters - 1) * float(np.square(off).sum()) / n**2
        inflation = max(1.0, variance / (rate * (1 - rate) / n))
    count = max(1, round(n / inflation))
    return clopper_pearson(min(count, round(accepted.sum() / inflation)), count, _SURE).low


def _amounts(rows: Sequence[Row]) -> dict[str, Any]:
    """Negatives and hours on either side, means over episodes."""
    found: dict[str, Any] = {}
    for kind, prefix in (("test", ""), ("development", "dev_")):
        sides = [row for row in rows if row["kind"] == kind]
        found[f"n_{prefix}negatives"] = round(float(np.mean([len(row["scores"]) for row in sides])))
        found[f"{prefix}negative_hours"] = float(np.mean([row["hours"] for row in sides]))
    return found


def _by_set(episodes: Sequence[_Heard], protocol: OpenSetProtocol) -> dict[str, Any]:
    """Each set of negatives on its own, where there are several, with the one that is hardest to tell."""
    names = sorted({name for one in episodes for name in one.sets})
    if len(names) < 2:
        return {}
    found = []
    for name in names:
        some = [(one, one.sets == name) for one in episodes if (one.sets == name).any()]
        row: dict[str, Any] = {"negatives": name, "n_negatives": round(float(np.mean([at.sum() for _, at in some])))}
        row |= _mean("auroc", [auroc(one.known, one.test[at]) for one, at in some])
        for place, far in enumerate(protocol.far):
            realised = [(one.test[at] >= one.thresholds[place]).mean() for one, at in some]
            row |= _mean(f"realised_far_{far_key(far)}", realised)
        found.append(row)
    return {"by_negatives": found, "worst_negatives": min(found, key=lambda row: row["auroc"])["negatives"]}


def described(negatives: Negatives) -> dict[str, Any]:
    """What the negatives are, for a summary."""
    noise_s = float(negatives.durations_s[negatives.is_noise].sum())
    return {
        "negatives": sorted({utterance.corpus for utterance in negatives.utterances}),
        "n_negative_recordings": len(negatives.utterances),
        "negatives_split_by": split_by(negatives),
        **({"noise_minutes": noise_s / 60} if negatives.is_noise.any() else {}),
    }


def over_sets(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of every figure over sets of known words, with the worst set by AUROC."""
    found = over_corpora(summaries)
    for key, value in summaries[0].items():
        if not isinstance(value, float) or key in found:
            continue
        found[key] = float(np.mean([one[key] for one in summaries]))
        if all(f"{key}_ci95" in one for one in summaries) and not key.startswith("exceeded"):
            alike = [{**one, "mean": one[key], "ci95": one[f"{key}_ci95"]} for one in summaries]
            found[f"{key}_ci95"] = over_corpora(alike)["ci95"]
    shared = ("far", "negatives", "negatives_split_by")
    return {**found, **{key: summaries[0][key] for key in shared if key in summaries[0]}}
