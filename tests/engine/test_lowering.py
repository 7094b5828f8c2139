"""What takes the place of torch's functions, and what is left to them."""

from typing import Any

import pytest
import torch
from engine_cases import normal
from torch import Tensor, nn
from torch.nn import functional

from metavox.engine import lowering
from metavox.engine.lowering import Lowered, laid_out

X, W = normal(2, 4, 6), normal(4, 4, 3, seed=1)
X2, W2 = normal(2, 4, 6, 5), normal(4, 4, 3, 3, seed=1)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the forms that were taken."""
    names: list[str] = []

    def noted(name: str, form: Any) -> Any:
        return lambda *args, **named: (names.append(name), form(*args, **named))[1]

    forms = {func: (fits, noted(form.__name__, form)) for func, (fits, form) in lowering._FORMS.items()}
    monkeypatch.setattr(lowering, "_FORMS", forms)
    return names


@pytest.mark.parametrize(
    ("form", "call"),
    [
        ("conv1d", lambda: functional.conv1d(X, W, padding="same")),
        ("conv1d", lambda: functional.conv1d(X, W, None, 2, 1)),
        ("conv2d", lambda: nn.functional.conv2d(X2, W2, padding=(1, 0))),
        ("group_norm", lambda: functional.group_norm(X2, 2)),
        ("group_norm", lambda: functional.group_norm(X, num_groups=2, eps=0.1)),
        ("mean1d", lambda: functional.adaptive_avg_pool1d(X, 1)),
        ("mean2d", lambda: functional.adaptive_avg_pool2d(X2, (1, 1))),
        (None, lambda: functional.conv1d(X, normal(4, 4, 4), padding="same")),
        (None, lambda: functional.conv1d(input=X, weight=W)),
        (None, lambda: functional.conv1d(X[0], W)),
        (None, lambda: functional.conv1d(X.to(torch.complex128), W.to(torch.complex128))),
        (None, lambda: functional.group_norm(normal(3, 4), 2)),
        (None, lambda: functional.adaptive_avg_pool1d(X, 2)),
        (None, lambda: functional.adaptive_avg_pool2d(X2, (1, None))),
        (None, lambda: functional.conv_transpose1d(X, W)),
    ],
)
def test_values_are_the_same_whoever_computes_them(form: str | None, call: Any, taken: list[str]) -> None:
    expected = call()
    assert taken == []
    with Lowered():
        found = call()
    assert taken == ([form] if form else [])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_modules_are_lowered_too(taken: list[str]) -> None:
    net = nn.Sequential(nn.Conv1d(4, 4, 3, padding="same"), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool1d(1)).double()
    expected = net(X)
    with Lowered():
        found = net(X)
    assert taken == ["conv1d", "group_norm", "mean1d"]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 3, 2, 5), (4, 3), (4,), ()], ids=str)
def test_kernels_are_laid_out_with_the_same_numbers(shape: tuple[int, ...]) -> None:
    value: Tensor = normal(*shape).requires_grad_()
    laid = laid_out(value)
    assert torch.equal(laid, value)
    assert not laid.requires_grad
    if len(shape) > 2:
        assert laid.stride(1) == 1
