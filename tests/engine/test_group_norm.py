"""Group norm against torch's own, its derivatives against differences, and many tasks against one after another."""

from typing import Any

import pytest
import torch
from engine_cases import normal
from torch import Tensor, func
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from metavox.engine.group_norm import group_norm

CASES = [((3, 4, 5), 2), ((2, 6, 3, 2), 3), ((2, 4, 4), 1), ((2, 3, 5), 3), ((2, 16, 3), 2), ((2, 8, 2, 2, 2), 1)]
"""Shapes and groups; the last two have wide groups, which take the native kernel."""


def parameters(channels: int) -> tuple[Tensor, Tensor]:
    return 1 + 0.3 * normal(channels, seed=5), normal(channels, seed=6)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("shape", "groups"), CASES, ids=str)
def test_values_are_torchs(shape: tuple[int, ...], groups: int, affine: bool) -> None:
    x = 2 + normal(*shape)
    rest = parameters(shape[1]) if affine else ()
    for laid in (x, x.transpose(0, -1).contiguous().transpose(0, -1)):
        expected = functional.group_norm(x, groups, *rest, eps=1e-3)
        torch.testing.assert_close(group_norm(laid, groups, *rest, eps=1e-3), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("shape", "groups"), CASES, ids=str)
def test_derivatives_are_those_of_differences(shape: tuple[int, ...], groups: int) -> None:
    args = [value.requires_grad_() for value in (normal(*shape), *parameters(shape[1]))]
    assert gradcheck(lambda x, *rest: group_norm(x, groups, *rest), args, fast_mode=True)
    assert gradgradcheck(lambda x, *rest: group_norm(x, groups, *rest), args, fast_mode=True)
    assert gradgradcheck(lambda x: group_norm(x, groups), args[:1], fast_mode=True)


@pytest.mark.parametrize("in_dims", [(0, None, None), (None, 0, 0), (0, 0, 0), (2, 1, 0), (0, None, 0)], ids=str)
@pytest.mark.parametrize(("channels", "groups"), [(4, 2), (16, 2)])
def test_many_tasks_at_once_are_one_after_another(channels: int, groups: int, in_dims: tuple[int | None, ...]) -> None:
    sets = [(normal(2, channels, 3, seed=i), *(p + 0.1 * i for p in parameters(channels))) for i in range(3)]
    args = [sets[0][i] if dim is None else torch.stack([s[i] for s in sets], dim) for i, dim in enumerate(in_dims)]

    def value(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return group_norm(x, groups, weight, bias)

    def slope(*parts: Tensor) -> Any:
        return func.grad(lambda *a: value(*a).pow(3).sum(), argnums=(0, 1, 2))(*parts)

    def curvature(*parts: Tensor) -> Any:
        return func.grad(lambda *a: sum(part.sin().sum() for part in slope(*a)), argnums=(0, 1, 2))(*parts)

    for function in (value, slope, curvature):
        found = func.vmap(function, in_dims)(*args)
        each = [
            function(*(arg if dim is None else arg.select(dim, i) for arg, dim in zip(args, in_dims, strict=True)))
            for i in range(3)
        ]
        expected = (
            torch.stack(each) if isinstance(each[0], Tensor) else tuple(map(torch.stack, zip(*each, strict=True)))
        )
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_a_third_derivative_is_refused_with_the_remedy() -> None:
    x = normal(2, 4, 3)

    def deeper(n: int, function: Any) -> Any:
        return function if not n else deeper(n - 1, func.grad(lambda x: function(x).pow(2).sum()))

    assert deeper(1, lambda x: group_norm(x, 2))(x).isfinite().all()
    with pytest.raises(NotImplementedError, match="lowered=False"):
        deeper(3, lambda x: group_norm(x, 2))(x)


@pytest.mark.parametrize("channels", [4, 32])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_single_precision_is_close_to_double(offset: float, channels: int) -> None:
    x = offset + normal(3, channels, 40)
    found = group_norm(x.float(), 2, *(p.float() for p in parameters(channels)))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), functional.group_norm(x, 2, *parameters(channels)), rtol=1e-3, atol=1e-4)


def test_a_group_without_variance_is_its_bias() -> None:
    weight, bias = parameters(4)
    found = group_norm(torch.full((2, 4, 3), 7.0, dtype=torch.float64), 2, weight, bias)
    torch.testing.assert_close(found, bias[None, :, None].expand(2, 4, 3), rtol=1e-9, atol=1e-9)
