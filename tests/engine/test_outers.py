"""Outer rules against closed forms: MAML on a quadratic, Reptile, and implicit gradients of a ridge."""

from typing import Any

import pytest
import torch
from engine_cases import EXECUTIONS, close, gradient, normal, seeded, values_of
from torch import Tensor, nn

from metavox.contracts import InputError
from metavox.engine import Implicit, MultiStep, Problem, Query, Reptile, UpdateRule
from metavox.engine.outers import outer_of, step_weights

DIM, LR = 4, 0.1
WAYS = ["loop", "vmap", "captured", "recursion"]


class Point(nn.Module):
    """A point in space."""

    def __init__(self) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.zeros(DIM))

    def forward(self) -> Tensor:
        return self.at


def quadratic(model: Any, batch: Any) -> Tensor:
    """1/2 (x - c)' A (x - c)."""
    away = model() - batch[1]
    return 0.5 * away @ batch[0] @ away


def bowl(seed: int) -> tuple[Tensor, Tensor]:
    """A positive matrix and a centre."""
    root = normal(DIM, DIM, seed=seed)
    return root @ root.T / DIM + torch.eye(DIM, dtype=torch.float64), normal(DIM, seed=seed + 1)


BOWLS = [(bowl(i), bowl(i + 40)) for i in range(3)]
ONE = torch.eye(DIM, dtype=torch.float64)


def found(outer: Any, n_steps: int, ways: str, order: float = 1.0, lr: float = LR) -> tuple[Tensor, Tensor]:
    """Where the module stands, and the engine's gradient there."""
    module = seeded(Point())
    rule = UpdateRule(n_steps, lr, order=order)
    options = {"outer": outer, **EXECUTIONS.get(ways, {})}
    result = gradient(Problem.of(module, quadratic), rule, values_of(module), BOWLS, **options)
    return module.at.detach(), result.values["at"]


def steps(start: Tensor, n_steps: int, matrix: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Where the steps lead, and the Jacobian in the start."""
    shrink = torch.linalg.matrix_power(ONE - LR * matrix, n_steps)
    return centre + shrink @ (start - centre), shrink


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("n_steps", [0, 1, 7])
def test_maml_and_its_first_order_on_a_quadratic(n_steps: int, ways: str) -> None:
    start, second = found("query", n_steps, ways)
    _, first = found("query", n_steps, ways, order=0.0)
    expected = {"second": torch.zeros(DIM, dtype=torch.float64), "first": torch.zeros(DIM, dtype=torch.float64)}
    for (a, c), (b, d) in BOWLS:
        end, shrink = steps(start, n_steps, a, c)
        expected["second"] += shrink.T @ b @ (end - d) / 3
        expected["first"] += b @ (end - d) / 3
    close({"second": second, "first": first}, expected)


@pytest.mark.parametrize("ways", WAYS)
def test_a_multi_step_loss_weighs_the_losses_after_each_step(ways: str) -> None:
    weights = (0.0, 0.7, -0.2, 0.0)
    start, value = found(MultiStep(weights), 4, ways)
    expected = torch.zeros(DIM, dtype=torch.float64)
    for (a, c), (b, d) in BOWLS:
        for done, weight in enumerate(weights, 1):
            end, shrink = steps(start, done, a, c)
            expected += weight * shrink.T @ b @ (end - d) / 3
    close({"at": value}, {"at": expected})


@pytest.mark.parametrize("ways", WAYS)
def test_reptile_goes_where_the_inner_loop_went(ways: str) -> None:
    start, value = found("reptile", 5, ways)
    expected = sum(start - steps(start, 5, a, c)[0] for (a, c), _ in BOWLS) / 3
    close({"at": value}, {"at": expected})


@pytest.mark.parametrize("ways", WAYS)
def test_implicit_gradients_at_the_optimum_of_a_ridge(ways: str) -> None:
    """x* = (A + p)^-1 (A c + p start), so dL/dstart = p (A + p)^-1 B (x* - d)."""
    prox = 1.5
    start, value = found(Implicit(prox, DIM + 2), 60, ways, lr=0.2)
    expected = torch.zeros(DIM, dtype=torch.float64)
    for (a, c), (b, d) in BOWLS:
        both = a + prox * ONE
        end = torch.linalg.solve(both, a @ c + prox * start)
        expected += prox * torch.linalg.solve(both, b @ (end - d)) / 3
    close({"at": value}, {"at": expected}, 1e-10)


def test_implicit_gradients_reach_what_the_inner_loss_reads_beside_what_moves() -> None:
    """A value that stays within the task, whether it is read from the values or stands in the first ``fast``."""
    prox, values = 1.0, {"at": normal(DIM), "scale": 1.0 + 0.1 * normal(DIM, seed=1).abs()}

    def loss(values: Any, fast: Any, batch: Any) -> Tensor:
        known = {**values, **fast}
        away = known["at"] * known["scale"] - batch[1]
        return 0.5 * away @ batch[0] @ away

    def expected(at: Tensor, scale: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for (a, c), (b, d) in BOWLS:
            design = torch.diag(scale) @ a @ torch.diag(scale) + prox * ONE
            end = torch.linalg.solve(design, scale * (a @ c) + prox * at)
            away = end * scale - d
            total = total + 0.5 * away @ b @ away / 3
        return total

    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    truth = dict(zip(leaves, torch.autograd.grad(expected(**leaves), list(leaves.values())), strict=True))
    rule = UpdateRule(80, 0.2, adapts=("at",))
    for initial in (None, lambda known, batch: {"at": known["at"], "scale": 1.0 * known["scale"]}):
        problem = Problem(loss, lambda *args: (loss(*args), ()), initial)
        for ways in ("vmap whole", "recursion"):
            options = {**EXECUTIONS[ways], "outer": Implicit(prox, DIM + 2)}
            close(gradient(problem, rule, values, BOWLS, **options).values, truth, 1e-10)


def test_rules_by_name_and_what_they_refuse() -> None:
    assert outer_of("multi_step", 4) == MultiStep((0.25, 0.25, 0.25, 0.25))
    assert outer_of("query", 0) == Query()
    assert outer_of(Reptile(), 3) == Reptile()
    assert step_weights(Query(), 2) == (0.0, 0.0, 1.0)
    assert step_weights(MultiStep((0.3, 0.7)), 2) == (0.0, 0.3, 0.7)
    for outer, n_steps, words in (
        ("query loss", 1, "outer is 'query loss'; outer rules are query, multi_step"),
        ("multi_step", 0, "0 weights for 0 inner steps"),
        (MultiStep((1.0,)), 2, "1 weights for 2 inner steps"),
        (MultiStep((0.0, 0.0)), 2, "every weight of the multi-step loss is 0"),
    ):
        with pytest.raises(InputError, match=words):
            outer_of(outer, n_steps)
    for options in ({"prox": 0.0}, {"n_iterations": 0}):
        with pytest.raises(InputError, match="prox above 0 and at least 1 iteration"):
            Implicit(**options)
