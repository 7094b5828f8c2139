"""Figures of the verification protocol: errors and costs of each condition, of near people, and beside a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..statistics import Replicates
from .detection import difference, figures, interval, usable
from .trials import People
from .verification import Length, Scored, VerificationProtocol

GAINS = ("eer", "min_dcf", "min_dcf_p05", "cllr", "min_cllr")
"""Of which the difference to a baseline is printed."""
FIGURES = ("eer", "min_dcf", "min_dcf_p05", "act_dcf", "act_dcf_p05", "cllr", "min_cllr", "cllr_over_min")


@dataclass(frozen=True)
class Compared:
    """A condition as the model scored it, and as a baseline did the same trials."""

    scored: Scored
    baseline: Scored | None = None


def condition_figures(compared: Compared, people: People, seed: int) -> dict[str, Any]:
    """Every figure of one condition with its interval, flat."""
    scored = compared.scored
    found = figures(scored.values, scored.trials, calibrated=scored.calibrated, seed=seed)
    k = scored.trials.n_enrolled
    flat: dict[str, Any] = {"enroll": scored.enroll, "seconds": scored.seconds}
    flat |= _flat(found, k)
    flat |= counts(scored)
    flat |= _near(scored, people, seed)
    if compared.baseline is not None:
        flat |= _beside(found, compared.baseline, k, seed)
    return flat


def _flat(found: dict[str, Replicates], k: int, before: str = "") -> dict[str, Any]:
    """Figures and intervals; null where a model is not calibrated."""
    flat: dict[str, Any] = {}
    for name in FIGURES:
        known = name in found and np.isfinite(found[name].estimate)
        flat[before + name] = found[name].estimate if known else None
        flat[f"{before}{name}_ci95"] = interval(name, found[name], k) if known else [None, None]
    return flat


def counts(scored: Scored) -> dict[str, int]:
    """What a condition rests on."""
    trials = scored.trials
    n_target = int(trials.is_target.sum())
    return {
        "n_target": n_target,
        "n_nontarget": len(trials.is_target) - n_target,
        "n_speakers": trials.n_enrolled,
        "n_impostors": len(np.unique(trials.tested[~trials.is_target])),
        "n_voices": len(np.unique(scored.voice)),
        "n_test_clips": len(np.unique(scored.test)),
        "n_short": scored.n_short,
    }


def _near(scored: Scored, people: People, seed: int) -> dict[str, Any]:
    """The equal error rate where the two people of a trial are of one gender, and where they are of about one age."""
    trials = scored.trials
    flat: dict[str, Any] = {}
    for name, table in (("gender", people.same_gender()), ("age", people.same_age())):
        where = table[trials.enrolled, trials.tested]
        n_target, n_nontarget = int((where & trials.is_target).sum()), int((where & ~trials.is_target).sum())
        flat[f"eer_same_{name}"], flat[f"eer_same_{name}_ci95"] = None, [None, None]
        flat[f"n_nontarget_same_{name}"] = n_nontarget
        if n_target and n_nontarget:
            some = trials.at(where)
            found = figures(scored.values[where], some, calibrated=False, only_eer=True, seed=seed)["eer"]
            flat[f"eer_same_{name}"] = found.estimate
            flat[f"eer_same_{name}_ci95"] = interval("eer", found, some.n_enrolled)
    return flat


def _beside(found: dict[str, Replicates], baseline: Scored, k: int, seed: int) -> dict[str, Any]:
    """The baseline on the same trials and resamples, and by how much its errors are higher."""
    theirs = figures(baseline.values, baseline.trials, calibrated=baseline.calibrated, seed=seed)
    flat = _flat(theirs, k, "baseline_")
    for name in GAINS:
        if name in found and name in theirs:
            gain = usable(difference(theirs[name], found[name]))
            low, high = gain.interval(0.95)
            flat[f"gain_{name}"] = gain.estimate
            flat[f"gain_{name}_ci95"] = [float(end) if np.isfinite(end) else None for end in (low, high)]
            flat[f"gain_{name}_p"] = gain.p_value()
    return flat


def summary(
    conditions: Sequence[Compared], protocol: VerificationProtocol, people: People, **about: Any
) -> dict[str, Any]:
    """A flat summary: figures of the first condition, and all of them in ``by_condition``. ``mean`` is its ``eer``."""
    by_condition = [condition_figures(one, people, protocol.seed) for one in conditions]
    first = by_condition[0]
    return {
        "metric": "eer",
        "mean": first["eer"],
        "ci95": first["eer_ci95"],
        **first,
        "clustered_by": "speaker",
        "n": first["n_target"] + first["n_nontarget"],
        "text": protocol.text,
        "draws": protocol.draws,
        "seed": protocol.seed,
        "by_condition": by_condition,
        **about,
    }


def over_sets(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean over sets with its worst one, that of the largest equal error rate; intervals combine as errors do."""
    worst = max(summaries, key=lambda one: one["mean"])
    by_condition = [
        _mean_of([one["by_condition"][place] for one in summaries])
        for place in range(len(summaries[0]["by_condition"]))
    ]
    first = by_condition[0]
    return {
        "metric": "eer",
        "mean": first["eer"],
        "ci95": first["eer_ci95"],
        **first,
        "clustered_by": "speaker",
        "n": sum(one["n"] for one in summaries),
        **{key: summaries[0][key] for key in ("text", "draws", "seed")},
        "by_condition": by_condition,
        "worst_corpus": worst["corpus"],
        "worst_mean": worst["mean"],
    }


def _mean_of(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of one condition over sets: means of figures, sums of counts; null where a set has none."""
    flat: dict[str, Any] = {key: found[0][key] for key in ("enroll", "seconds")}
    for key in (key for key in found[0] if key not in flat and all(key in one for one in found)):
        values = [one[key] for one in found]
        if key.endswith("_p"):  # each set has its own; a mean of them says nothing
            continue
        if key.startswith("n_"):
            flat[key] = sum(values)
        elif key.endswith("_ci95"):
            flat[key] = _together([one[key.removesuffix("_ci95")] for one in found], values)
        else:
            flat[key] = None if None in values else float(np.mean(values))
    return flat


def _together(means: Sequence[float | None], intervals: Sequence[list[float | None]]) -> list[float | None]:
    """The interval of a mean of independent estimates, each end as far off as those of the sets say."""
    ends = [(mean, *pair) for mean, pair in zip(means, intervals, strict=True) if mean is not None and None not in pair]
    if len(ends) < len(intervals):
        return [None, None]
    middle, low, high = np.asarray(ends, np.float64).T
    off = [float(np.sqrt(np.sum((middle - end) ** 2))) / len(ends) for end in (low, high)]
    return [float(middle.mean()) - off[0], float(middle.mean()) + off[1]]


def title_of(enroll: int, seconds: Length) -> str:
    """``3 clips, 2 s``."""
    clips = "1 clip" if enroll == 1 else f"{enroll} clips"
    return f"{clips}, {'full' if seconds is None else f'{seconds:g} s'}"
