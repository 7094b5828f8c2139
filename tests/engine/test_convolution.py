"""Convolutions against torch's own, their derivatives against differences, and many tasks against one after another."""

from typing import Any

import pytest
import torch
from engine_cases import normal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, func
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from metavox.engine.convolution import amounts, conv1d, conv2d

SETTINGS: list[dict[str, Any]] = [
    {},
    {"stride": 2, "padding": 1},
    {"padding": 2, "dilation": 2},
    {"groups": 2, "padding": 1, "stride": 2},
]
NATIVE = {1: functional.conv1d, 2: functional.conv2d}
OWN = {1: conv1d, 2: conv2d}


def inputs(n_dims: int, groups: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    x = normal(2, 2 * groups, *(6, 5)[:n_dims], seed=seed)
    return x, normal(2 * groups, 2, *(3, 2)[:n_dims], seed=seed + 1), normal(2 * groups, seed=seed + 2)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("n_dims", [1, 2])
def test_derivatives_are_those_of_differences(n_dims: int, setting: dict[str, Any]) -> None:
    args = [value.requires_grad_() for value in inputs(n_dims, setting.get("groups", 1))]
    assert gradcheck(lambda *a: OWN[n_dims](*a, **setting), args, fast_mode=True)
    assert gradgradcheck(lambda *a: OWN[n_dims](*a, **setting), args, fast_mode=True)


def test_a_third_derivative_is_that_of_differences() -> None:
    x, kernel, _ = inputs(1)

    def second(x: Tensor, kernel: Tensor) -> Tensor:
        slope = func.grad(lambda k: conv1d(x, k, padding=1).pow(3).sum())(kernel)
        return func.grad(lambda x: (conv1d(x, slope) ** 2).sum())(x)

    assert gradcheck(second, [x.requires_grad_(), kernel.requires_grad_()], fast_mode=True)


@settings(max_examples=40, deadline=None)
@given(
    n_dims=st.integers(1, 2), sizes=st.tuples(st.integers(1, 3), st.integers(1, 4)), kernel=st.integers(1, 4),
    stride=st.integers(1, 3), padding=st.integers(0, 3), dilation=st.integers(1, 2), groups=st.integers(1, 3),
    bias=st.booleans(), tupled=st.booleans(),
)  # fmt: skip
def test_values_and_gradients_are_torchs_for_any_setting(
    n_dims: int, sizes: tuple[int, int], kernel: int, stride: int, padding: int, dilation: int, groups: int, bias: bool,
    tupled: bool,
) -> None:  # fmt: skip
    x = normal(sizes[0], groups * 2, *(9, 8)[:n_dims]).requires_grad_()
    weight = normal(groups * sizes[1], 2, *(kernel, max(1, kernel - 1))[:n_dims], seed=1).requires_grad_()
    rest = normal(groups * sizes[1], seed=2).requires_grad_() if bias else None
    named: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    if tupled:
        named = {name: (value,) * n_dims for name, value in named.items()}
    found, expected = (one(x, weight, rest, groups=groups, **named) for one in (OWN[n_dims], NATIVE[n_dims]))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    leaves = [x, weight] + ([rest] if rest is not None else [])
    direction = normal(*expected.shape, seed=3)
    for one, other in zip(
        torch.autograd.grad(found, leaves, direction), torch.autograd.grad(expected, leaves, direction), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("n_dims", "dilation"), [(1, 1), (1, 2), (2, (2, 2)), (2, 2)])
def test_padding_by_name(n_dims: int, dilation: Any, padding: str) -> None:
    x, kernel = normal(2, 3, *(9, 10)[:n_dims]), normal(2, 3, *(3, 5)[:n_dims], seed=1)
    found = OWN[n_dims](x, kernel, padding=padding, dilation=dilation)
    torch.testing.assert_close(found, NATIVE[n_dims](x, kernel, padding=padding, dilation=dilation))


def test_padding_that_differs_from_side_to_side_is_left_to_torch() -> None:
    assert amounts("same", (4,), 1) is None
    assert amounts("same", (3, 4), (1, 3)) is None
    assert amounts("same", (4,), 2) == (3,)
    assert amounts("valid", (4,), 1) == (0,)
    assert amounts((1, 2), (4, 4), 1) == (1, 2)


@pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (0, 0), (1, 2), (2, 0)], ids=str)
@pytest.mark.parametrize("n_dims", [1, 2])
def test_many_tasks_at_once_are_one_after_another(n_dims: int, in_dims: tuple[int | None, int | None]) -> None:
    """Value, gradient, and gradient of the gradient, each with the tasks along any dimension."""
    pairs = [inputs(n_dims, 2, seed=10 * i)[:2] for i in range(3)]
    args = [
        pairs[0][i] if dim is None else torch.stack([pair[i] for pair in pairs], dim) for i, dim in enumerate(in_dims)
    ]

    def value(x: Tensor, kernel: Tensor) -> Tensor:
        return OWN[n_dims](x, kernel, stride=2, padding=1, groups=2)

    def slope(x: Tensor, kernel: Tensor) -> Any:
        return func.grad(lambda *a: value(*a).pow(3).sum(), argnums=(0, 1))(x, kernel)

    def curvature(x: Tensor, kernel: Tensor) -> Any:
        return func.grad(lambda *a: sum(part.sin().sum() for part in slope(*a)), argnums=(0, 1))(x, kernel)

    for function in (value, slope, curvature):
        found = func.vmap(function, in_dims)(*args)
        each = [
            function(*(arg if dim is None else arg.select(dim, i) for arg, dim in zip(args, in_dims, strict=True)))
            for i in range(3)
        ]
        expected = (
            torch.stack(each) if isinstance(each[0], Tensor) else tuple(map(torch.stack, zip(*each, strict=True)))
        )
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_one_of_the_two_may_want_no_gradient() -> None:
    x, kernel, _ = inputs(1)
    of_x = torch.autograd.grad(conv1d(x.requires_grad_(), kernel).sum(), x)[0]
    x = x.detach()
    of_kernel = torch.autograd.grad(conv1d(x, kernel.requires_grad_()).sum(), kernel)[0]
    assert of_x.shape == x.shape
    assert of_kernel.shape == kernel.shape


def test_single_precision_is_close_to_double() -> None:
    x, kernel, bias = inputs(2)
    found = conv2d(x.float(), kernel.float(), bias.float(), padding=1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), functional.conv2d(x, kernel, bias, padding=1), rtol=1e-4, atol=1e-5)
