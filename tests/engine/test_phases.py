"""The way there and back by hand, and conjugate gradients against a direct solve."""

import pytest
import torch
from engine_cases import CASES, close, gradient, normal
from torch import Tensor
from torch.func import hessian

from metavox.engine import UpdateRule
from metavox.engine.memory import peak_bytes
from metavox.engine.phases import added, conjugate_gradients, outer_gradient, step_back, way_back, way_forward


def positive(n: int, seed: int = 0) -> Tensor:
    root = normal(n, n, seed=seed)
    return root @ root.T + torch.eye(n, dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_conjugate_gradients_solve_in_as_many_iterations_as_dimensions(n: int) -> None:
    matrix, wanted = positive(n + 2), normal(n + 2, seed=1)

    def product(x: dict[str, Tensor]) -> dict[str, Tensor]:
        image = matrix @ torch.cat([x["a"], x["b"].flatten()])
        return {"a": image[:n], "b": image[n:].view(1, 2)}

    found = conjugate_gradients(product, {"a": wanted[:n], "b": wanted[n:].view(1, 2)}, n + 4)
    solved = torch.linalg.solve(matrix, wanted)
    close(found, {"a": solved[:n], "b": solved[n:].view(1, 2)}, 1e-10)


def test_conjugate_gradients_stop_where_nothing_is_left_or_the_product_is_not_positive() -> None:
    zero = {"a": torch.zeros(3, dtype=torch.float64)}
    assert torch.equal(conjugate_gradients(lambda x: x, zero, 3)["a"], zero["a"])
    wanted = {"a": normal(3)}
    assert not conjugate_gradients(lambda x: {"a": -x["a"]}, wanted, 3)["a"].any()
    many = conjugate_gradients(lambda x: {"a": 2 * x["a"]}, wanted, 50)["a"]
    torch.testing.assert_close(many, wanted["a"] / 2, rtol=1e-15, atol=0)


def test_the_recursion_is_the_chain_rule_with_hessians_written_out() -> None:
    problem, values, tasks = CASES["class weights"].problem()
    values = {name: value.detach() for name, value in values.items()}
    support, query = tasks[0]
    rule = UpdateRule(3, 0.3)
    path, _ = way_forward(problem, rule, values, support)
    assert len(path) == 4

    def flat(at: dict[str, Tensor]) -> Tensor:
        return torch.cat([value.flatten() for value in at.values()])

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([value.numel() for value in values.values()])
        at = {name: part.view(value.shape) for (name, value), part in zip(values.items(), parts, strict=True)}
        return problem.inner_loss(values, at, support)

    _, _, _, in_fast = outer_gradient(problem, values, path[-1], query)
    expected = flat({name: in_fast[name] for name in values})
    for state in reversed(path[:-1]):
        expected = expected - 0.3 * hessian(loss)(flat(state)) @ expected
    found = way_back(problem, rule, values, path, support, {3: in_fast}, 1.0)
    close({"all": flat({name: found[name] for name in values})}, {"all": expected})


def test_a_step_back_of_the_first_order_is_a_shift() -> None:
    problem, values, tasks = CASES["tanh"].problem()
    cotangent = {name: torch.ones_like(value) for name, value in values.items()}
    in_values, in_fast = step_back(problem, UpdateRule(1), values, values, tasks[0][0], 0, cotangent, 0.0)
    assert in_values == {}
    assert in_fast is cotangent


def test_memory_of_the_recursion_does_not_grow_with_steps_and_that_of_the_loop_does() -> None:
    problem, values, tasks = CASES["conv1d, group norm, residual"].problem()

    def peak(executor: str, n_steps: int) -> int:
        rule = UpdateRule(n_steps, 0.01)
        return peak_bytes(lambda: gradient(problem, rule, values, tasks[:1], executor=executor, chunk=1))

    states = 8 * 8 * sum(value.numel() for value in values.values())  # the values before each step are kept
    assert peak("recursion", 12) < peak("recursion", 4) + 2 * states
    assert peak("loop", 12) > 2 * peak("loop", 4)


def test_sums_by_name_take_what_only_one_has() -> None:
    one, two = {"a": torch.ones(2), "b": torch.ones(1)}, {"a": torch.ones(2), "c": torch.zeros(1)}
    total = added(one, two)
    assert {name: value.tolist() for name, value in total.items()} == {"a": [2, 2], "b": [1], "c": [0]}
    assert one["a"].tolist() == [1, 1]
