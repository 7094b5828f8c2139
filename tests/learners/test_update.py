"""Learned step sizes and curvature: k steps on a quadratic have a meta-gradient that can be written down."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metavox.engine import Engine, Problem, UpdateRule
from metavox.engine.choice import EXECUTORS
from metavox.learners.update import STEERING, LearnedUpdate, optimizer_of

ROWS, COLUMNS, STEPS, LR = 2, 3, 3, 0.1
SIZE = ROWS * COLUMNS


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


FACTOR = normal(SIZE, SIZE, seed=1)
HESSIAN = FACTOR @ FACTOR.T / SIZE + torch.eye(SIZE, dtype=torch.float64)
CENTRE, TARGET = normal(SIZE, seed=2), normal(SIZE, seed=3)


def inner(values: Any, fast: Any, support: Any) -> Tensor:
    away = fast["w"].flatten() - support[0]
    return away @ HESSIAN @ away / 2


def outer(values: Any, fast: Any, query: Any) -> tuple[Tensor, Any]:
    return (fast["w"].flatten() - query[0]).square().sum() / 2, ()


def by_hand(values: dict[str, Tensor], sizes: str, order: int) -> dict[str, np.ndarray]:
    """Forward: ``e <- (I - lr P_i H) e`` with ``P_i`` the scaled product of the curvature of both modes. Backward: what
    reaches the end of a step reaches its beginning through the same matrix, or unchanged in first order."""
    at = {name.removeprefix(STEERING): value.detach().numpy() for name, value in values.items()}
    sides = [np.eye(n) + at.get(f"curvature.w/{mode}", 0 * np.eye(n)) for mode, n in enumerate((ROWS, COLUMNS))]
    curved, hessian = np.kron(*sides), HESSIAN.numpy()
    factor = at.get("log_factors.w", np.zeros(()))

    def scale(index: int) -> np.ndarray:
        return np.exp(np.broadcast_to(factor[index] if sizes == "step" else factor, (ROWS, COLUMNS)).flatten())

    away = [at["w"].flatten() - CENTRE.numpy()]
    steps = [scale(index)[:, None] * curved for index in range(STEPS)]
    for matrix in steps:
        away.append(away[-1] - LR * matrix @ hessian @ away[-1])
    reached = away[-1] + CENTRE.numpy() - TARGET.numpy()
    found = {"w": 0, "factor": np.zeros((STEPS, ROWS, COLUMNS)), "curved": 0}
    for index in reversed(range(STEPS)):
        in_matrix = -LR * np.outer(reached, hessian @ away[index])
        found["factor"][index] = (in_matrix * steps[index]).sum(1).reshape(ROWS, COLUMNS)
        found["curved"] = found["curved"] + scale(index)[:, None] * in_matrix
        if order:
            reached = reached - LR * hessian @ steps[index].T @ reached
    found["w"] = reached.reshape(ROWS, COLUMNS)
    in_kron = found.pop("curved").reshape(ROWS, COLUMNS, ROWS, COLUMNS)
    of_factor = found.pop("factor")
    found["log_factors.w"] = {
        "given": None,
        "tensor": of_factor.sum(),
        "step": of_factor.sum((1, 2)),
        "value": of_factor.sum(0),
    }[sizes]
    found["curvature.w/0"] = np.einsum("acbd,cd->ab", in_kron, sides[1])
    found["curvature.w/1"] = np.einsum("acbd,ab->cd", in_kron, sides[0])
    return {name: value for name, value in found.items() if name in at}


def prepared(sizes: str, curvature: bool) -> tuple[LearnedUpdate, dict[str, Tensor]]:
    update = LearnedUpdate({"w": (ROWS, COLUMNS)}, STEPS, sizes, curvature).double()
    values = {STEERING + name: value.detach() for name, value in update.named_parameters()}
    values = {name: 0.3 * normal(*value.shape, seed=5 + i) for i, (name, value) in enumerate(values.items())}
    return update, {"w": normal(ROWS, COLUMNS, seed=4), **values}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("curvature", [False, True])
@pytest.mark.parametrize("sizes", ["given", "tensor", "step", "value"])
def test_steps_on_a_quadratic_have_the_gradient_of_its_closed_form(
    sizes: str, curvature: bool, order: int, executor: str
) -> None:
    update, values = prepared(sizes, curvature)
    rule = UpdateRule(STEPS, LR, ("w",), float(order), update.change, STEERING)
    task = (CENTRE,), (TARGET,)
    found = Engine(Problem(inner, outer), rule, "query", executor).gradient(values, [task, task])
    expected = by_hand(values, sizes, order)
    assert {name.removeprefix(STEERING) for name in found.values} == set(expected)
    for name, value in found.values.items():
        other = torch.as_tensor(expected[name.removeprefix(STEERING)])
        torch.testing.assert_close(value, other, rtol=1e-10, atol=1e-12)
        assert bool(value.any()), name


@pytest.mark.parametrize("sizes", ["tensor", "step", "value"])
def test_a_fresh_update_is_plain_descent_and_stays_positive(sizes: str) -> None:
    update, grad = LearnedUpdate({"w": (2, 3)}, 4, sizes, True).double(), normal(2, 3, seed=0)
    torch.testing.assert_close(update.change("w", grad, 1, {}), grad, rtol=0, atol=0)
    with torch.no_grad():
        for value in update.log_factors.values():
            value.fill_(-3.0)
    assert bool((update.change("w", grad, 1, {}) * grad > 0).all())


def test_steps_beyond_those_of_training_take_the_last_size() -> None:
    update, grad = LearnedUpdate({"w": (2,)}, 2, "step", False).double(), normal(2, seed=0)
    values = {STEERING + "log_factors.w": torch.tensor([0.0, 1.0], dtype=torch.float64)}
    for index, size in ((0, 1.0), (1, np.e), (2, np.e), (7, np.e)):
        torch.testing.assert_close(update.change("w", grad, index, values), size * grad)


def test_classes_of_any_number_share_what_is_learned() -> None:
    update = LearnedUpdate({"head.weight": (1, 3), "head.bias": (1,)}, 2, "value", True)
    assert {name: tuple(value.shape) for name, value in update.named_parameters()} == {
        "log_factors.head/weight": (1, 3),
        "log_factors.head/bias": (1,),
        "curvature.head/weight/1": (3, 3),
    }
    for n in (2, 5):
        assert update.change("head.weight", torch.ones(n, 3), 0, {}).shape == (n, 3)


def test_what_says_how_an_inner_loop_goes_does_not_decay() -> None:
    net = nn.Linear(2, 2)
    net.update = LearnedUpdate({"w": (2, 3)}, 2, "value", True)
    with torch.no_grad():
        for value in net.parameters():
            value.fill_(1.0)
            value.grad = torch.zeros_like(value)
    optimizer = optimizer_of(net, 0.1, 0.5)
    optimizer.step()
    for name, value in net.named_parameters():
        expected = 1.0 if name.startswith(STEERING) else 0.95
        torch.testing.assert_close(value, torch.full_like(value, expected))
    assert len(optimizer_of(nn.Linear(2, 2), 0.1, 0.5).param_groups) == 1


def test_a_rule_that_reads_nothing_learned_adapts_all_but_step_sizes() -> None:
    names = ["w", "inner_lr.w", "update.log_factors.w"]
    rule = UpdateRule(reads=STEERING)
    assert rule.adapted(names) == ("w",)
    assert replace(rule, reads="").adapted(names) == ("w", "update.log_factors.w")
