"""From curves of accuracy over CPU seconds to ratios of the times that an accuracy takes.

The arithmetic of ``benchmarks/time_to_accuracy.py``.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PEER, ON_THE_FLY = "learn2learn", "learn2learn_on_the_fly"
SHARES = (1.0, 0.98, 0.95)
"""Of the peer's final accuracy."""
GAINS = (0.9, 0.75, 0.5)
"""Of what the peer gains from the first to the last point."""
CLOCKS = {"": "cpu_s", ", once chosen": "cpu_s_once_chosen"}
"""Two clocks, by what a ratio is called: all of training, and without what an engine spends on choosing an executor."""


def best_so_far(accuracies: Sequence[float]) -> np.ndarray:
    """Each point averaged with its neighbours, then the largest so far; the first stays, since nothing is trained."""
    values = np.asarray(accuracies, float)
    smooth = [values[max(0, i - 1) : i + 2].mean() if i else values[0] for i in range(len(values))]
    return np.maximum.accumulate(smooth)


def time_to(accuracy: float, seconds: Sequence[float], best: Sequence[float]) -> float | None:
    """CPU seconds at which a rising curve first has ``accuracy``, linear between points; None where it never has."""
    for i, value in enumerate(best):
        if value >= accuracy:
            if i == 0:
                return float(seconds[0])
            share = (accuracy - best[i - 1]) / (value - best[i - 1])
            return float(seconds[i - 1] + share * (seconds[i] - seconds[i - 1]))
    return None


def levels(best_of_peer: Sequence[float]) -> dict[str, float]:
    """The accuracies at which times are compared, by what they are."""
    first, last = float(best_of_peer[0]), float(best_of_peer[-1])
    of_final = {f"{share:g} of its final accuracy": share * last for share in SHARES}
    return of_final | {f"{share:g} of its gain": first + share * (last - first) for share in GAINS}


def ratios(sides: Mapping[str, Mapping[str, Any]], extra_s_per_step: float) -> dict[str, Any]:
    """Times to the levels of the peer, and ours over those of the peer with features from the bank and from files.

    Args:
        sides: by name, ``curve`` with the columns ``step``, ``accuracy`` and those of ``CLOCKS``.
        extra_s_per_step: what features from files cost above those of the bank.
    """
    best = {name: best_so_far(side["curve"]["accuracy"]).tolist() for name, side in sides.items()}
    found: dict[str, Any] = {}
    for level, wanted in levels(best[PEER]).items():
        row: dict[str, Any] = {"accuracy": wanted, "cpu_s": {}, "ratio": {}}
        for suffix, clock in CLOCKS.items():
            seconds = {name: side["curve"][clock] for name, side in sides.items()}
            times = {name: time_to(wanted, seconds[name], best[name]) for name in sides}
            files = np.add(seconds[PEER], extra_s_per_step * np.asarray(sides[PEER]["curve"]["step"]))
            times[ON_THE_FLY] = time_to(wanted, files.tolist(), best[PEER])
            row["cpu_s"] |= {
                f"{name}{suffix}": value for name, value in times.items() if suffix == "" or "learn" not in name
            }
            for name in sides.keys() - {PEER}:
                for beside in (PEER, ON_THE_FLY):
                    ours, theirs = times[name], times[beside]
                    row["ratio"][f"{name}/{beside}{suffix}"] = ours / theirs if ours is not None and theirs else None
        found[level] = row
    return found


def per_step(sides: Mapping[str, Mapping[str, Any]], extra_s_per_step: float) -> dict[str, float]:
    """Our seconds an outer step over those of the peer."""
    found = {}
    for suffix, clock in CLOCKS.items():
        for name in sides.keys() - {PEER}:
            for beside, more in ((PEER, 0.0), (ON_THE_FLY, extra_s_per_step)):
                theirs = sides[PEER][f"{clock}_per_step"] + more
                found[f"{name}/{beside}{suffix}"] = sides[name][f"{clock}_per_step"] / theirs
    return dict(sorted(found.items()))


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Geometric means over seeds of ratios, with those of each seed."""
    seeds = []
    for run in runs:
        extra = run["drawing"]["files_cpu_s_per_step"] - run["drawing"]["bank_cpu_s_per_step"]
        at = ratios(run["sides"], extra)
        seeds.append({"seed": run["seed"], "time_to": at, "seconds_per_step": per_step(run["sides"], extra)})
    first = seeds[0]
    return {
        "time_to": {
            level: {
                key: geometric_mean([s["time_to"][level]["ratio"][key] for s in seeds]) for key in sorted(row["ratio"])
            }
            for level, row in first["time_to"].items()
        },
        "seconds_per_step": {
            key: geometric_mean([s["seconds_per_step"][key] for s in seeds]) for key in first["seconds_per_step"]
        },
        "beyond_learn2learn": {
            name: statistics.fmean(run["sides"][name]["beyond_learn2learn"] for run in runs)
            for name in runs[0]["sides"]
            if name != PEER
        },
        "seeds": seeds,
    }


def geometric_mean(values: Sequence[float | None]) -> float | None:
    """None where one of the values is, or is 0."""
    known = [value for value in values if value]
    return statistics.geometric_mean(known) if len(known) == len(values) else None
