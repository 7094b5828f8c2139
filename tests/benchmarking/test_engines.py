"""One cell from gradients to figures, and the refusal of an engine that computes something else."""

import math
from typing import Any

import pytest
import torch

from metavox.benchmarking.ablation import ablate
from metavox.benchmarking.bare import build_bare
from metavox.benchmarking.cells import Build, Cell, Step, Tasks, Values
from metavox.benchmarking.engines import (
    BARE,
    Disagreement,
    Limits,
    check,
    measure,
    measure_cell,
    relative_difference,
    weights,
)
from metavox.benchmarking.nets import Classifier
from metavox.benchmarking.timing import Rounds, count_flops

CELL = Cell("tc_resnet8", "fomaml", 1, 1, 2)
LIMITS = Limits(gemm=100e9, conv1d=50e9)
ROUNDS = Rounds(least=2, most=2)


def off_by(factor: float, dtype: torch.dtype) -> Build:
    """The bare loop with its result scaled in one precision."""

    def build(cell: Cell, net: Classifier) -> Step:
        step = build_bare(cell, net)

        def wrong(tasks: Tasks) -> Values:
            scale = factor if tasks[0][0][0].dtype == dtype else 1.0
            return {name: scale * value for name, value in step(tasks).items()}

        return wrong

    return build


def absent(cell: Cell, net: Classifier) -> None:
    """A library without a path."""


def measured(**engines: Build) -> dict[str, Any]:
    return measure_cell(CELL, {BARE: build_bare, **engines}, LIMITS, ROUNDS, seed=0)


def test_a_row_holds_what_belongs_together() -> None:
    row = measured(again=build_bare, nobody=absent)
    assert set(row["engines"]) == {BARE, "again"}
    assert (row["cell"], row["rounds"], row["tasks"]) == (CELL.name, 2, 2)
    net = weights(CELL, 0, torch.float32)
    sides = [(torch.zeros(n, 40, 98), torch.zeros(n, dtype=torch.long)) for n in (5, 75)]
    n_flops = count_flops(lambda: build_bare(CELL, net)([(sides[0], sides[1])]))
    assert row["gflop"] == pytest.approx(2 * n_flops / 1e9)
    for figures in row["engines"].values():
        speed = figures["steps_per_cpu_s"]
        assert speed > 0
        assert figures["share_of_gemm"] == pytest.approx(row["gflop"] * speed / 100)
        assert figures["share_of_conv1d"] == pytest.approx(row["gflop"] * speed / 50)
        assert figures["difference_float64"] == 0
        assert "choice" not in figures


@pytest.mark.parametrize(
    ("factor", "dtype"),
    [(1 + 1e-7, torch.float64), (1.1, torch.float32), (math.nan, torch.float32), (math.nan, torch.float64)],
)
def test_an_engine_that_computes_something_else_is_refused(factor: float, dtype: torch.dtype) -> None:
    with pytest.raises(Disagreement, match=f"In {CELL.name} the float.. gradient of wrong"):
        measured(wrong=off_by(factor, dtype))


def test_rounding_is_no_disagreement() -> None:
    assert set(measured(close=off_by(1 + 1e-10, torch.float64))["engines"]) == {BARE, "close"}


def test_engines_that_have_no_path_are_not_checked() -> None:
    tasks: Tasks = [
        tuple((torch.ones(5, 40, 98, dtype=torch.float64), torch.arange(5)) for _ in range(2))  # type: ignore[misc]
    ]
    assert check(CELL, {"nobody": absent, "again": build_bare}, tasks, seed=0) == {"again": 0.0}


def test_differences_are_relative_to_all_parameters_together() -> None:
    expected = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}
    assert relative_difference({"a": torch.tensor([3.0]), "b": torch.tensor([4.5])}, expected) == pytest.approx(0.1)
    assert relative_difference({"a": torch.tensor([3.0])}, expected) == math.inf


def test_cells_are_reported_as_they_are_done() -> None:
    said: list[tuple[Any, ...]] = []
    rows = measure([CELL], {BARE: build_bare}, LIMITS, Rounds(1, 1), 0, lambda *told: said.append(told))
    assert [row["cell"] for row in rows] == [CELL.name]
    assert said == [("cells", 0, 1, CELL.name), ("cells", 1, 1)]


def test_parts_are_ratios_to_learn2learn_or_else_to_the_bare_loop() -> None:
    speeds = {BARE: 2.0, "learn2learn": 4.0, "vmap": 8.0}
    row = {"cell": "one", "rounds": 3, "engines": {name: {"steps_per_cpu_s": speed} for name, speed in speeds.items()}}
    found = ablate(row)
    assert found["beside"] == "learn2learn"
    assert {name: part["ratio"] for name, part in found["parts"].items()} == {BARE: 0.5, "learn2learn": 1, "vmap": 2}
    del row["engines"]["learn2learn"]  # type: ignore[attr-defined]
    assert ablate(row)["parts"]["vmap"]["ratio"] == 4
