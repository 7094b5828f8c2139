"""Turns, budgets, memory and counts, without a clock."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from metavox.benchmarking import timing
from metavox.benchmarking.timing import Rounds, count_flops, machine, peak_growth, resident_bytes, spread, time_in_turn


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call takes one second."""

    def one_second(call: Callable[[], Any]) -> float:
        call()
        return 1.0

    monkeypatch.setattr(timing, "cpu_seconds", one_second)


@pytest.mark.usefixtures("clock")
def test_engines_take_turns_on_the_same_new_input() -> None:
    seen: list[tuple[str, int]] = []
    steps = {name: lambda given, name=name: seen.append((name, given)) for name in "abc"}
    drawn = iter(range(100))
    seconds = time_in_turn(steps, lambda: next(drawn), Rounds(least=4, most=4))
    assert [name for name, _ in seen] == ["a", "b", "c", "b", "c", "a", "c", "a", "b", "a", "b", "c"]
    assert [given for _, given in seen] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert seconds == {name: [1.0] * 4 for name in "abc"}


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("rounds", "n"),
    [
        (Rounds(5, 25, 12.0), 6),
        (Rounds(5, 25, 2.0), 5),
        (Rounds(2, 4, 100.0), 4),
        (Rounds(1, 9, 7.9), 3),
        (Rounds(5, 25, 2.0, long_s=1.9, least_long=3), 3),
        (Rounds(5, 25, 2.0, long_s=2.0, least_long=3), 5),
    ],
)
def test_rounds_go_on_while_the_budget_lasts(rounds: Rounds, n: int) -> None:
    seconds = time_in_turn({"a": lambda _: None, "b": lambda _: None}, lambda: 0, rounds)
    assert [len(found) for found in seconds.values()] == [n, n]


def test_a_call_that_takes_memory_is_seen_to_take_it() -> None:
    held = []

    def call() -> None:
        block = torch.ones(16_000_000)  # 64 MB
        held.append(block[:4].clone())

    growth = peak_growth(call)
    if growth is None:
        pytest.skip("the peak of memory cannot be reset here")
    assert 60e6 < growth < 110e6
    assert peak_growth(lambda: None) < 8e6  # type: ignore[operator]
    before = resident_bytes()
    held.append(torch.ones(16_000_000))
    after = resident_bytes()
    assert before is not None
    assert after is not None
    assert 50e6 < after - before < 80e6


def test_where_memory_cannot_be_measured_the_call_is_made_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(timing, "CLEAR", tmp_path / "nowhere" / "clear_refs")
    made: list[int] = []
    assert peak_growth(lambda: made.append(1)) is None
    assert made == [1]


def test_operations_are_counted_through_both_derivatives() -> None:
    layer = nn.Conv1d(3, 4, 5, bias=False)
    inputs = torch.zeros(2, 3, 11)
    forward = 2 * (2 * 4 * 7) * (3 * 5)
    assert count_flops(lambda: layer(inputs)) == forward
    assert count_flops(lambda: torch.autograd.grad(layer(inputs).sum(), layer.weight)) == 2 * forward


def test_spread_is_the_median_and_its_error() -> None:
    middle, error = spread([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    assert middle == 4.0
    assert error == pytest.approx((6 - 2) / 2 / 4 / math.sqrt(7))
    assert math.isnan(spread([2.0])[1])
    assert spread([2.0, 2.0, 2.0]) == (2.0, 0.0)


def test_a_machine_is_told_by_its_processor_and_not_by_its_name() -> None:
    told = machine()
    assert set(told) == {"cpu", "cores", "capability", "platform", "threads"}
    assert told["cpu"]
    assert told["cores"] >= 1


def test_rates_are_those_of_the_fastest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([4.0, 2.0, 1.0])
    monkeypatch.setattr(timing, "_fastest", lambda call, n_runs: next(taken))
    assert timing.gemm_rate((2, 4, 2)) == max(2 * 8 / 4, 2 * 64 / 2, 2 * 8 / 1)
    taken = iter([3.0, 1.0])
    assert timing.conv1d_rate((16, 8)) == max(2 * 75 * 98 * 16 * 16 * 9 / 3, 2 * 75 * 98 * 8 * 8 * 9)
