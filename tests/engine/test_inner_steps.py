"""The inner loop against closed forms, in float64: where it goes, and what an outer gradient sees of it."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from metavox.contracts import State
from metavox.engine import UpdateRule
from metavox.engine.inner import inner_steps

LR = 0.1
STEPS = [0, 1, 2, 5]


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SQUARE = normal(4, 4)
A = SQUARE @ SQUARE.T + torch.eye(4, dtype=torch.float64)
B = normal(4, seed=1)
START = normal(4, seed=2)
TARGET = normal(4, seed=3)


def quadratic(state: State) -> Tensor:
    x = state["x"]
    return x @ A @ x / 2 - B @ x


def after(n_steps: int) -> Tensor:
    """Gradient descent on a quadratic: x_n = x* + (I - lr A)^n (x_0 - x*)."""
    best = torch.linalg.solve(A, B)
    return best + torch.linalg.matrix_power(torch.eye(4, dtype=torch.float64) - LR * A, n_steps) @ (START - best)


def adapted(
    loss: Callable[[State], Tensor], start: State, n_steps: int, lr: float, second_order: bool = False
) -> State:
    """The values after the last step."""
    return list(inner_steps(loss, start, UpdateRule(n_steps, lr, order=float(second_order))))[-1]


def outer_loss(x: Tensor) -> Tensor:
    return (x - TARGET).square().sum()


def finite_differences(function: Callable[[Tensor], Tensor], at: Tensor, by: float = 1e-6) -> Tensor:
    steps = by * torch.eye(len(at), dtype=at.dtype)
    return torch.stack([(function(at + step) - function(at - step)) / (2 * by) for step in steps])


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("second_order", [False, True])
def test_it_goes_where_the_closed_form_goes(grad: bool, second_order: bool) -> None:
    with torch.set_grad_enabled(grad):
        states = list(inner_steps(quadratic, {"x": START}, UpdateRule(5, LR, order=float(second_order))))
    assert len(states) == 6
    for n, state in enumerate(states):
        torch.testing.assert_close(state["x"].detach(), after(n), rtol=0, atol=1e-12)


def test_the_start_is_not_changed() -> None:
    start = {"x": START.clone().requires_grad_()}
    adapted(quadratic, start, 3, LR)
    assert torch.equal(start["x"].detach(), START)
    assert start["x"].grad is None


@pytest.mark.parametrize("n_steps", STEPS)
def test_the_second_order_gradient_is_that_of_the_closed_form_and_of_finite_differences(n_steps: int) -> None:
    start = START.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        outer_loss(adapted(quadratic, {"x": start}, n_steps, LR, second_order=True)["x"]), start
    )
    through = torch.linalg.matrix_power(torch.eye(4, dtype=torch.float64) - LR * A, n_steps)
    torch.testing.assert_close(gradient, through.T @ (2 * (after(n_steps) - TARGET)), rtol=0, atol=1e-12)
    measured = finite_differences(lambda x: outer_loss(adapted(quadratic, {"x": x}, n_steps, LR)["x"]), START)
    torch.testing.assert_close(gradient, measured, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_steps", STEPS)
def test_the_first_order_gradient_is_taken_at_the_fast_weights(n_steps: int) -> None:
    """Finn et al. 2017, section 5.2: inner gradients as if they were constants."""
    start = START.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(outer_loss(adapted(quadratic, {"x": start}, n_steps, LR)["x"]), start)
    torch.testing.assert_close(gradient, 2 * (after(n_steps) - TARGET), rtol=0, atol=1e-12)


def test_each_value_is_moved_by_its_own_derivative_even_where_one_was_made_from_another() -> None:
    """Loss a b^2 with b = 3 a: da = b^2 and db = 2 a b, and not the total derivative along a."""
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    for second_order in (False, True):
        state = adapted(lambda at: at["a"] * at["b"] ** 2, {"a": a, "b": 3 * a}, 1, LR, second_order=second_order)
        assert float(state["a"].detach()) == pytest.approx(0.7 - LR * 2.1**2)
        assert float(state["b"].detach()) == pytest.approx(2.1 - LR * 2 * 0.7 * 2.1)
        (gradient,) = torch.autograd.grad(state["a"] + state["b"], a)
        # a' + b' = a - 9 lr a^2 + 3 a - 6 lr a^2
        assert float(gradient) == pytest.approx(4 - 30 * LR * 0.7 if second_order else 4.0)


def test_what_the_loss_reads_besides_the_state_gets_a_gradient_in_second_order_only() -> None:
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    start = {"x": torch.tensor(1.5, dtype=torch.float64)}
    first = adapted(lambda at: scale * at["x"] ** 2 / 2, start, 1, LR)["x"]
    assert not first.requires_grad
    second = adapted(lambda at: scale * at["x"] ** 2 / 2, start, 1, LR, second_order=True)["x"]
    (gradient,) = torch.autograd.grad(second, scale)
    assert float(gradient) == pytest.approx(-LR * 1.5)


def test_values_that_the_loss_does_not_read_stay() -> None:
    start = {"x": START.clone().requires_grad_(), "unread": TARGET.clone().requires_grad_()}
    state = adapted(quadratic, start, 3, LR)
    assert torch.equal(state["unread"], TARGET)
    assert not torch.equal(state["x"], START)


@torch.no_grad()
@pytest.mark.parametrize("n_steps", STEPS)
def test_without_gradients_the_states_are_copies_of_their_own(n_steps: int) -> None:
    """Training goes on in place; what was enrolled before must not move with it."""
    start = {"x": START.clone().requires_grad_(), "unread": TARGET.clone().requires_grad_()}
    states = list(inner_steps(quadratic, start, UpdateRule(n_steps, LR, order=0.0)))
    assert not any(value.requires_grad for state in states for value in state.values())
    kept = [state["x"].clone() for state in states]
    for value in start.values():
        value.add_(100)
    assert all(torch.equal(state["x"], before) for state, before in zip(states, kept, strict=True))
    assert all(torch.equal(state["unread"], TARGET) for state in states)


def test_the_loss_falls_with_every_step() -> None:
    losses = [float(quadratic(state)) for state in inner_steps(quadratic, {"x": START}, UpdateRule(8, LR, order=0.0))]
    assert all(later < earlier for earlier, later in pairwise(losses))
