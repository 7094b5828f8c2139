"""What auto tries, believes and chooses."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from engine_cases import CASES, batch_of, classes, gradient, mlp, same, seeded, tasks_of, values_of
from torch import Tensor

from metavox.engine import Engine, Implicit, Problem, UpdateRule
from metavox.engine import choice as choices
from metavox.engine.choice import Executors, Option, chunk_sizes, difference, option_of, tolerance
from metavox.engine.memory import peak_bytes
from metavox.engine.plans import Found, Plan

RULE = UpdateRule(2, 0.2)
Clock = dict[str, float]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Seconds by executor, in place of measured ones; what is not named takes 1 s."""
    seconds: Clock = {}

    def timed(self: Any, option: Option) -> float:
        return seconds.get(option.executor, 1.0)

    monkeypatch.setattr(choices._Trial, "_seconds", timed)
    monkeypatch.setattr(choices._Trial, "_clocked", lambda self, run: (run(), 0.0)[1])
    return seconds


def wrong(monkeypatch: pytest.MonkeyPatch, executor: str, by: float = 1.01) -> None:
    """Let an executor give another gradient."""
    run = Executors.run

    def changed(self: Executors, option: Option, *args: Any) -> Found:
        found = run(self, option, *args)
        if option.executor == executor:
            found.grads = {name: by * grad for name, grad in found.grads.items()}
        return found

    monkeypatch.setattr(Executors, "run", changed)


@pytest.mark.parametrize("fastest", ["loop", "captured"])
def test_the_fastest_is_kept_and_every_trial_is_reported(fastest: str, clock: Clock) -> None:
    clock[fastest] = 0.5
    problem, values, tasks = CASES["tanh"].problem()
    engine = Engine(problem, RULE)
    found = engine.gradient(values, tasks)
    assert engine.choice is not None
    assert engine.choice.option.executor == fastest
    assert {timing.option.executor for timing in engine.choice.timings} == {"loop", "captured"}
    assert all(timing.seconds is not None for timing in engine.choice.timings)
    assert engine.choice.timings[0].peak_mb is not None
    assert list(engine.chosen.values()) == [engine.choice.option]
    same(found, gradient(problem, RULE, values, tasks))


def test_what_was_chosen_is_not_chosen_again(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    clock["captured"] = 0.5
    problem, values, tasks = CASES["tanh"].problem()
    first = Engine(problem, RULE)
    first.gradient(values, tasks)
    monkeypatch.setattr("metavox.engine.engine.calibrate", lambda *args: pytest.fail("chosen again"))
    first.gradient(values, tasks)
    resumed = Engine(problem, RULE, chosen=dict(first.chosen))
    same(resumed.gradient(values, tasks), gradient(problem, RULE, values, tasks))


def test_an_executor_that_disagrees_is_not_believed(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    clock.update({"captured": 0.1, "vmap": 0.2})
    wrong(monkeypatch, "captured")
    problem, values, tasks = CASES["tanh"].problem()
    engine = Engine(problem, RULE)
    engine.gradient(values, tasks)
    assert engine.choice is not None
    assert engine.choice.option.executor == "vmap"
    assert all("differs from the loop by 1.0e-02" in t.note for t in engine.choice.timings if t.seconds is None)
    assert any(t.option.executor == "captured" for t in engine.choice.timings)


def test_where_every_other_disagrees_the_loop_is_left(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    clock.update({"captured": 0.1, "vmap": 0.2})
    for executor in ("captured", "vmap"):
        wrong(monkeypatch, executor, by=float("nan"))
    problem, values, tasks = CASES["tanh"].problem()
    engine = Engine(problem, RULE)
    same(engine.gradient(values, tasks), gradient(problem, RULE, values, tasks))
    assert engine.choice is not None
    assert engine.choice.option.executor == "loop"


def test_differences_count_gradients_that_only_one_has() -> None:
    one, two = Found({"a": torch.ones(2)}), Found({"a": torch.ones(2), "b": torch.ones(2)})
    assert difference(one, one) == 0
    assert difference(one, two) == pytest.approx(0.5**0.5)
    assert difference(two, one) == pytest.approx(1)
    assert tolerance({"a": torch.ones(2, dtype=torch.float64)}) < 1e-3 < tolerance({"a": torch.ones(2)})


def test_little_memory_means_smaller_chunks_and_less_the_recursion(clock: Clock) -> None:
    clock.update({"captured": 0.5, "vmap": 0.6, "recursion": 3.0})
    module = seeded(mlp())
    problem, values = Problem.of(module, classes), values_of(module)
    tasks, rule = tasks_of(batch_of, 3, n_tasks=6), UpdateRule(6, 0.1)
    plain = Engine(problem, rule, executor="loop")
    peak_mb = peak_bytes(lambda: plain.gradient(values, tasks[:1])) / 2**20
    for memory_mb, executor, chunk in ((100 * peak_mb, "captured", 6), (2.5 * peak_mb, "captured", 2)):
        engine = Engine(problem, rule, memory_mb=memory_mb)
        engine.gradient(values, tasks)
        assert engine.choice is not None
        assert (engine.choice.option.executor, engine.choice.option.chunk) == (executor, chunk)
    engine = Engine(problem, rule, memory_mb=0.5 * peak_mb)
    same(engine.gradient(values, tasks), gradient(problem, rule, values, tasks))
    assert engine.choice is not None
    assert engine.choice.option.executor == "recursion"  # slower, but the loop does not fit


def test_too_large_a_chunk_is_not_tried_where_it_was_asked_for_with_auto(clock: Clock) -> None:
    problem, values, _ = CASES["tanh"].problem()
    engine = Engine(problem, RULE, chunk=6, memory_mb=0.01)
    engine.gradient(values, tasks_of(batch_of, 3, n_tasks=6))
    assert engine.choice is not None
    notes = [t.note for t in engine.choice.timings if t.option.executor in ("captured", "vmap") and t.option.chunk == 6]
    assert notes
    assert all("MiB of 0.01 allowed" in note for note in notes)


def test_beyond_so_many_shapes_the_loop_is_taken(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr("metavox.engine.engine.MAX_SHAPES", 1)
    clock["captured"] = 0.1
    problem, values, tasks = CASES["tanh"].problem()
    engine = Engine(problem, RULE)
    engine.gradient(values, tasks)
    engine.gradient(values, tasks[:1])
    assert [option.executor for option in engine.chosen.values()] == ["captured", "loop"]


def test_another_shape_is_handled_as_the_first_unless_it_disagrees_or_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    clock["captured"] = 0.1
    problem, values, tasks = CASES["tanh"].problem()
    engine = Engine(problem, RULE)
    engine.gradient(values, tasks)
    first = engine.choice
    engine.gradient(values, tasks[:1])
    assert engine.choice is first  # nothing was timed again
    assert [option.executor for option in engine.chosen.values()] == ["captured", "captured"]
    engine.memory_mb = 1e-6
    engine.gradient(values, tasks_of(batch_of, 3, n_tasks=2, n_query=7))
    assert list(engine.chosen.values())[-1].executor != "captured"
    engine.memory_mb = None
    wrong(monkeypatch, "captured", by=3.0)
    engine.gradient(values, tasks_of(batch_of, 3, n_tasks=2, n_query=8))
    assert list(engine.chosen.values())[-1].executor != "captured"


def test_settings_left_open_are_filled_in_and_others_kept() -> None:
    assert option_of(Option("vmap"), 40) == Option("vmap", 16, 4)
    assert option_of(Option("captured", None, 1), 3) == Option("captured", 3, 1)
    asked = Option("captured", 2, None, False)
    assert option_of(asked, 40) == asked
    assert option_of(Option("recursion"), 40) == Option("recursion")


def test_chunks_hold_about_as_many_items_whatever_the_batches() -> None:
    problem, _, _ = CASES["tanh"].problem()
    plan = Plan(problem, RULE, Implicit())

    def sizes(n_items: int, n_tasks: int) -> list[int]:
        return chunk_sizes(plan, [((torch.ones(n_items, 3),), (torch.ones(4, 3),))] * n_tasks)

    assert sizes(24, 16) == [4, 16]
    assert sizes(24, 10) == [4, 10]
    assert sizes(1000, 8) == [1, 4]
    assert sizes(1, 3) == [3]
    whole = replace(plan, problem=replace(problem, body=lambda values, batch: batch))
    assert chunk_sizes(whole, [((torch.ones(24, 3),), (torch.ones(72, 3),))] * 8) == [1, 4]


def test_bfloat16_gives_what_single_precision_gives_about() -> None:
    module = mlp()
    problem, values = Problem.of(module, classes), values_of(module)
    tasks = [tuple((x.float(), y) for x, y in task) for task in tasks_of(batch_of, 3)]
    expected = Engine(problem, RULE, executor="loop").gradient(values, tasks)
    for executor in ("loop", "vmap", "captured"):
        found = Engine(problem, RULE, executor=executor, precision="bfloat16").gradient(values, tasks)
        assert all(grad.dtype == torch.float32 for grad in found.values.values())
        assert 0 < difference(Found(found.values), Found(expected.values)) < 0.1


def test_no_executor_at_all_is_an_error_of_the_loss() -> None:
    def broken(model: Any, batch: Any) -> Tensor:
        return model(batch[0][:, :2]).sum()

    module = seeded(mlp())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Engine(Problem.of(module, broken), RULE).gradient(values_of(module), tasks_of(batch_of, 3))
