"""The inner loop as learners use it: connected for meta-training, apart for enrolment."""

from itertools import pairwise

import pytest
import torch
from engine_cases import batch_of, classes, close, mlp, seeded, values_of
from torch import Tensor
from torch.func import functional_call, grad_and_value

from metavox.contracts import InputError
from metavox.engine import UpdateRule
from metavox.engine.inner import autograd_slope, blended, func_slope, inner_steps, one_step

MODULE = seeded(mlp())
SUPPORT = batch_of(4, 3, seed=1)


def loss(at: dict[str, Tensor]) -> Tensor:
    return classes(lambda x: functional_call(MODULE, at, (x,)), SUPPORT)


def test_both_systems_of_derivatives_agree() -> None:
    at = {name: value.detach() for name, value in values_of(MODULE).items()}
    for order in (0.0, 0.4, 1.0):
        (mine, value), (other, same) = autograd_slope(loss, at, order), func_slope(loss, at, order)
        close({name: grad.detach() for name, grad in mine.items()}, other)
        torch.testing.assert_close(value, same)
        assert not value.requires_grad


def test_states_are_gradient_descent_and_the_start_stays() -> None:
    start = {name: value.detach().clone() for name, value in values_of(MODULE).items()}
    kept = {name: value.clone() for name, value in start.items()}
    states = list(inner_steps(loss, start, UpdateRule(3, 0.2)))
    assert len(states) == 4
    for before, after in pairwise(states):
        slope, _ = grad_and_value(loss)({name: value.detach() for name, value in before.items()})
        close({n: v.detach() for n, v in after.items()}, {n: before[n].detach() - 0.2 * slope[n] for n in before})
    assert all(torch.equal(start[name], kept[name]) for name in kept)


def test_without_gradients_states_are_copies_that_outlive_the_model() -> None:
    start = {name: value.detach().clone() for name, value in values_of(MODULE).items()}
    with torch.no_grad():
        states = list(inner_steps(loss, start, UpdateRule(1, 0.2)))
    numbers = [value.clone() for value in states[0].values()]
    for value in start.values():
        value.zero_()
    assert all(torch.equal(value, number) for value, number in zip(states[0].values(), numbers, strict=True))
    assert not any(value.requires_grad for state in states for value in state.values())


@pytest.mark.parametrize(("order", "reaches"), [(0.0, False), (1.0, True)])
def test_with_gradients_every_state_reaches_the_start(order: float, reaches: bool) -> None:
    start = {name: value.detach().clone().requires_grad_() for name, value in values_of(MODULE).items()}
    *_, last = inner_steps(loss, start, UpdateRule(2, 0.2), order=order)
    (slope,) = torch.autograd.grad(last["0.weight"].sum(), [start["0.weight"]])
    assert bool((slope != 1).any()) == reaches  # the first order is a shift


def test_what_the_mask_leaves_out_is_a_constant_of_the_first_order() -> None:
    start = {name: value.detach().clone().requires_grad_() for name, value in values_of(MODULE).items()}
    for order, reaches in ((0.0, False), (1.0, True)):
        fast, _ = one_step(loss, UpdateRule(1, 0.2, ("2.*",)), start, 0, {}, order, autograd_slope)
        assert fast["0.weight"] is start["0.weight"]
        (slope,) = torch.autograd.grad(fast["2.bias"].sum(), [start["0.weight"]], allow_unused=True)
        assert (slope is not None) == reaches


def test_a_loss_that_reads_nothing_of_what_moves_is_refused() -> None:
    start = {name: value.detach().clone().requires_grad_() for name, value in values_of(MODULE).items()}
    with pytest.raises(InputError, match="the support loss does not depend on what adapts"):
        one_step(lambda at: start["0.weight"].sum(), UpdateRule(1), start, 0, {}, 1.0, autograd_slope)


def test_a_share_of_the_second_derivative_may_be_a_tensor() -> None:
    x = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    for share in (0.3, torch.tensor(0.3, dtype=torch.float64)):
        (slope,) = torch.autograd.grad(blended(x**2, share), [x])
        assert float(slope) == pytest.approx(0.3 * 4, rel=1e-15)
        assert float(blended(x**2, share)) == pytest.approx(4, rel=1e-15)
