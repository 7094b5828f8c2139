"""The update rule: which names it moves, how far, and what it refuses."""

from typing import Any

import pytest
import torch
from engine_cases import CASES, Values, classes, close, gradient, mlp, normal, numerical, seeded, tasks_of, values_of

from metavox.contracts import InputError
from metavox.engine import Engine, Problem, UpdateRule
from metavox.engine.rule import LEARNED

NAMES = ["body.weight", "body.bias", "head.weight", LEARNED + "head.weight"]


def test_a_step_moves_what_has_a_gradient_and_leaves_its_argument() -> None:
    fast = {"a": normal(2, 3), "b": normal(2, seed=1)}
    grads = {"a": normal(2, 3, seed=2), "b": None}
    stepped = UpdateRule(lr={"a": 0.5}, transform=lambda name, grad, index, values: 2 * grad).step(fast, grads, 0, {})
    torch.testing.assert_close(stepped["a"], fast["a"] - grads["a"], rtol=1e-15, atol=0)
    assert stepped["b"] is fast["b"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("*",), ["body.weight", "body.bias", "head.weight"]),
        (("*.bias", "head.*"), ["body.bias", "head.weight"]),
        (("body.weigh[tx]",), ["body.weight"]),
        (("head.weight", "*.weight"), ["body.weight", "head.weight"]),
    ],
)
def test_patterns_choose_names_in_their_order_and_never_step_sizes(patterns: Any, expected: list[str]) -> None:
    assert UpdateRule(adapts=patterns).adapted(NAMES) == tuple(expected)


def test_a_pattern_that_matches_nothing_is_named_with_the_nearest_name() -> None:
    with pytest.raises(
        InputError, match=r"'haed.weight', which matches none of 3 parameters; the nearest .* 'head.weight'"
    ):
        UpdateRule(adapts=("body.*", "haed.weight")).adapted(NAMES)
    with pytest.raises(InputError, match="there are none"):
        UpdateRule().adapted([])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"n_steps": -1}, "-1 inner steps"), ({"order": 1.5}, "order is 1.5"), ({"order": -0.1}, "order is -0.1")],
)
def test_rules_that_cannot_be_are_refused(options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        UpdateRule(**options)


SHAPES = [(), (4, 3), (4, 1), (1, 3), (2, 4, 3), (2, 1, 1), (3, 4, 1)]
"""Of step sizes for a value (4, 3) and two steps: one, by coordinate, by row, by step."""


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_learned_step_sizes_have_the_gradient_that_differences_measure(shape: tuple[int, ...]) -> None:
    problem, values, tasks = CASES["tanh"].problem()
    values = {**values, LEARNED + "0.weight": 0.3 + 0.05 * normal(*shape, seed=7)}
    rule = UpdateRule(2, 0.2)
    engine = Engine(problem, rule, executor="loop")
    name = LEARNED + "0.weight"
    found = engine.gradient(values, tasks[:1])
    measured = numerical(lambda at: engine.gradient({**values, **at}, tasks[:1]).losses.sum(), {name: values[name]})
    close({name: found.values[name]}, measured, 1e-7)
    for executor, order in (("captured", 0.0), ("vmap", 1.0), ("recursion", 0.4)):
        expected = engine.gradient(values, tasks, order=order)
        close(Engine(problem, rule, executor=executor).gradient(values, tasks, order).values, expected.values)


def test_a_learned_step_size_counts_and_one_that_is_given_by_name_is_fixed() -> None:
    problem, values, tasks = CASES["tanh"].problem()
    sizes = {name: torch.full_like(value, 0.3) for name, value in values.items()}
    expected = gradient(problem, UpdateRule(2, 0.3), values, tasks).values
    close(gradient(problem, UpdateRule(2, sizes), values, tasks).values, expected)
    learned = gradient(problem, UpdateRule(2, 99.0), {**values, **{LEARNED + n: s for n, s in sizes.items()}}, tasks)
    close({name: learned.values[name] for name in expected}, expected)


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 4), (3, 1), (1, 4, 3), (2, 3, 4), (2, 2, 4, 3)], ids=str)
def test_step_sizes_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    problem, values, tasks = CASES["tanh"].problem()
    values = {**values, LEARNED + "0.weight": torch.ones(shape, dtype=torch.float64)}
    with pytest.raises(InputError, match=r"step size of '0.weight' has shape .*; it needs \(\), \(4, 3\), or 2 of"):
        Engine(problem, UpdateRule(2), executor="loop").gradient(values, tasks)


def test_a_step_size_never_widens_a_value() -> None:
    with pytest.raises(InputError, match=r"has shape \(5, 3\)"):
        UpdateRule(lr={"a": torch.ones(5, 3)}).step({"a": torch.ones(1, 3)}, {"a": torch.ones(1, 3)}, 0, {})


def test_a_missing_step_size_is_named() -> None:
    problem, values, tasks = CASES["tanh"].problem()
    for executor in ("auto", "captured"):
        with pytest.raises(InputError, match=r"lr has no step size for '0.bias'; add one, or leave"):
            Engine(problem, UpdateRule(1, {"0.weight": 0.1}), executor=executor).gradient(values, tasks)


def test_what_the_mask_leaves_out_does_not_move_but_learns() -> None:
    module = seeded(mlp())
    problem, values = Problem.of(module, classes), values_of(module)
    tasks = tasks_of(CASES["tanh"].make, 3)
    rule = UpdateRule(2, 0.3, adapts=("2.*",))

    def outer(at: Values) -> torch.Tensor:
        return Engine(problem, rule, executor="loop").gradient(at, tasks[:1]).losses.sum()

    found = Engine(problem, rule, executor="captured").gradient(values, tasks[:1])
    close(found.values, numerical(outer, values), 1e-7)
