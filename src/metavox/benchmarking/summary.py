"""What the rows say: ratios to the best peer of each cell, and whether the targets are met."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .engines import BARE, OURS

Row = dict[str, Any]

TARGETS = {
    "smallest_ratio": 0.95,
    "geometric_mean_tc_resnet8": 1.5,
    "smallest_ratio_reptile_32_tasks": 3.5,
    "smallest_ratio_conv4": 0.97,
}
"""At least so many times the steps a CPU second of the best peer."""


def with_ratios(row: Row) -> Row:
    """The row with its best peer and the ratios of our speed to that one's, to each peer's and to the bare loop's."""
    speeds = {name: figures["steps_per_cpu_s"] for name, figures in row["engines"].items()}
    peers = {name: speed for name, speed in speeds.items() if name not in (OURS, BARE)}
    best = max(peers, key=lambda name: peers[name], default=None)
    ours = speeds[OURS]
    return {
        **row,
        "best_peer": best,
        "ratio": None if best is None else ours / peers[best],
        "ratios": {name: ours / speed for name, speed in speeds.items() if name != OURS},
    }


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """Worst cell, means and targets over rows of ``with_ratios``; None for what was not measured."""
    known = [row for row in rows if row["ratio"] is not None]
    small = [row for row in known if row["net"] == "tc_resnet8"]
    worst = min(known, key=lambda row: row["ratio"], default=None)
    figures = {
        "smallest_ratio": _smallest(known),
        "geometric_mean_tc_resnet8": geometric_mean(row["ratio"] for row in small),
        "smallest_ratio_reptile_32_tasks": _smallest(
            row for row in small if row["algorithm"] == "reptile" and row["tasks"] == 32
        ),
        "smallest_ratio_conv4": _smallest(row for row in known if row["net"] == "conv4"),
    }
    return {
        "cells": len(rows),
        "cells_compared": len(known),
        "worst_cell": None if worst is None else worst["cell"],
        **figures,
        "geometric_mean_by_algorithm": {
            algorithm: geometric_mean(row["ratio"] for row in small if row["algorithm"] == algorithm)
            for algorithm in dict.fromkeys(row["algorithm"] for row in small)
        },
        "geometric_mean_by_engine": {
            name: geometric_mean(row["ratios"][name] for row in rows if name in row["ratios"])
            for name in dict.fromkeys(name for row in rows for name in row["ratios"])
        },
        "largest_share_of_gemm": {name: max(shares) for name, shares in _shares(rows).items()},
        "targets": [
            {"figure": name, "at_least": least, "found": figures[name], "met": met(figures[name], least)}
            for name, least in TARGETS.items()
        ],
    }


def met(found: float | None, least: float) -> bool | None:
    """Whether a target is reached; None where it was not measured."""
    return None if found is None else found >= least


def geometric_mean(values: Iterable[float]) -> float | None:
    """The exponential of the mean logarithm; None of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def _smallest(rows: Iterable[Row]) -> float | None:
    return min((row["ratio"] for row in rows), default=None)


def _shares(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Shares of the matrix-product limit by engine, ours and the best peer of each cell."""
    found: dict[str, list[float]] = {OURS: [], "best peer": []}
    for row in rows:
        found[OURS].append(row["engines"][OURS]["share_of_gemm"])
        if row["best_peer"] is not None:
            found["best peer"].append(row["engines"][row["best_peer"]]["share_of_gemm"])
    return {name: shares for name, shares in found.items() if shares}
