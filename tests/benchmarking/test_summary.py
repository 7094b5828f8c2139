"""The arithmetic of the summary against rows made by hand."""

from typing import Any

import pytest

from metavox.benchmarking.summary import TARGETS, geometric_mean, met, summarize, with_ratios


def row(net: str, algorithm: str, n_tasks: int, **speeds: float) -> dict[str, Any]:
    return with_ratios(
        {
            "cell": f"{net} {algorithm} {n_tasks}",
            "net": net,
            "algorithm": algorithm,
            "tasks": n_tasks,
            "engines": {
                name: {"steps_per_cpu_s": speed, "share_of_gemm": speed / 100} for name, speed in speeds.items()
            },
        }
    )


ROWS = [
    row("tc_resnet8", "maml", 4, metavox=3.0, bare=9.0, learn2learn=1.0, torchopt=1.5),
    row("tc_resnet8", "reptile", 32, metavox=8.0, bare=1.0, learn2learn=2.0, higher=1.0),
    row("tc_resnet8", "reptile", 4, metavox=2.0, bare=1.0, learn2learn=2.0, higher=1.0),
    row("conv4", "maml", 4, metavox=0.9, bare=1.0, learn2learn=1.0, higher=0.5),
]


def test_the_best_peer_is_the_fastest_one_and_the_bare_loop_is_none() -> None:
    assert [found["best_peer"] for found in ROWS] == ["torchopt", "learn2learn", "learn2learn", "learn2learn"]
    assert [found["ratio"] for found in ROWS] == [2.0, 4.0, 1.0, 0.9]
    assert ROWS[0]["ratios"] == pytest.approx({"bare": 1 / 3, "learn2learn": 3.0, "torchopt": 2.0})


def test_figures_and_targets() -> None:
    summary = summarize(ROWS)
    assert summary["worst_cell"] == "conv4 maml 4"
    assert summary["smallest_ratio"] == 0.9
    assert summary["geometric_mean_tc_resnet8"] == pytest.approx(2.0)
    assert summary["smallest_ratio_reptile_32_tasks"] == 4.0
    assert summary["smallest_ratio_conv4"] == 0.9
    assert summary["geometric_mean_by_algorithm"] == pytest.approx({"maml": 2.0, "reptile": 2.0})
    assert summary["geometric_mean_by_engine"]["learn2learn"] == pytest.approx((3 * 4 * 1 * 0.9) ** 0.25)
    assert summary["geometric_mean_by_engine"]["torchopt"] == pytest.approx(2.0)
    assert summary["largest_share_of_gemm"] == pytest.approx({"metavox": 0.08, "best peer": 0.02})
    assert {target["figure"]: target["met"] for target in summary["targets"]} == {
        "smallest_ratio": False,
        "geometric_mean_tc_resnet8": True,
        "smallest_ratio_reptile_32_tasks": True,
        "smallest_ratio_conv4": False,
    }
    assert [target["at_least"] for target in summary["targets"]] == list(TARGETS.values())


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    alone = row("tc_resnet8", "maml", 4, metavox=3.0, bare=9.0)
    assert (alone["best_peer"], alone["ratio"]) == (None, None)
    summary = summarize([alone])
    assert (summary["cells"], summary["cells_compared"], summary["worst_cell"]) == (1, 0, None)
    assert {target["met"] for target in summary["targets"]} == {None}
    assert summary["largest_share_of_gemm"] == {"metavox": 0.03}


def test_limits_are_inclusive_and_means_are_geometric() -> None:
    assert met(0.95, 0.95) is True
    assert met(0.9499, 0.95) is False
    assert geometric_mean([1.0, 8.0, 1.0]) == pytest.approx(2.0)
    assert geometric_mean([]) is None
