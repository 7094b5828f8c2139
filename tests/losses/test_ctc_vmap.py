"""CTC under ``torch.func``: vectorised forms against loops."""

from collections.abc import Callable

import pytest
import torch
from ctc_cases import B, T, V, close, normal, problem
from ctc_oracle import tensor_ops_ctc
from torch import Tensor
from torch.func import grad, hessian, jacrev, vmap

from metavox.contracts import InputError
from metavox.losses import ctc_loss, native_is_twice_differentiable


def product_of(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Hessian of a loss in its first argument times a direction, by nested ``grad``."""
    return lambda x, v, *rest: grad(lambda y: (grad(loss)(y, *rest) * v).sum())(x)


def looped(function: Callable[..., Tensor], dims: tuple[int | None, ...], *values: Tensor) -> Tensor:
    """What ``vmap`` should give, one slice at a time."""
    n = next(value.shape[dim] for value, dim in zip(values, dims, strict=True) if dim is not None)
    slices = [
        [value if dim is None else value.select(dim, i) for value, dim in zip(values, dims, strict=True)]
        for i in range(n)
    ]
    return torch.stack([function(*part) for part in slices])


N = 3
MAPPED = [(0, 0, 0, 0), (0, None, None, None), (None, 0, None, 0), (2, 1, 0, None), (None, 0, 0, 0), (1, None, 0, None)]


@pytest.mark.parametrize("dims", MAPPED, ids=str)
@pytest.mark.parametrize("one_item", [True, False])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_vmap_of_value_gradient_and_hessian_product_is_the_loop(
    dims: tuple[int | None, ...], one_item: bool, reduction: str
) -> None:
    drawn = [problem(seed) for seed in range(N)]
    targets, lengths = (torch.stack([part[i] for part in drawn]) for i in (0, 2))
    frames = torch.full_like(lengths, T) - torch.arange(B) % 2
    whole = [normal(N, T, B, V), targets, frames, lengths]
    if one_item:
        whole = [whole[0][:, :, 0], *(part[:, 0] for part in whole[1:])]
    values = [part[0] if dim is None else part.movedim(0, dim) for part, dim in zip(whole, dims, strict=True)]

    def loss(x: Tensor, *rest: Tensor) -> Tensor:
        return ctc_loss(x.log_softmax(-1), *rest, reduction=reduction).sum()

    for function in (loss, grad(loss)):
        close(vmap(function, dims)(*values), looped(function, dims, *values))
    direction = normal(T, B, V, seed=9)[:, 0] if one_item else normal(T, B, V, seed=9)
    for v, dim in ((direction, None), (torch.stack([direction, -direction, 2 * direction], -1), -1)):
        second_dims = (dims[0], dim, *dims[1:])
        found = vmap(product_of(loss), second_dims)(values[0], v, *values[1:])
        close(found, looped(product_of(loss), second_dims, values[0], v, *values[1:]))


def test_vmap_nests_and_takes_targets_end_to_end() -> None:
    log_probs = normal(2, N, T, B, V)
    targets, lengths = torch.tensor([1, 2, 3, 3, 1, 1]), torch.tensor([1, 3, 0, 2])
    other = torch.stack([lengths, lengths.flip(0), torch.tensor([2, 2, 1, 1])])

    def loss(x: Tensor, n: Tensor) -> Tensor:
        return ctc_loss(x, targets, [T] * B, n)

    def nested(function: Callable[..., Tensor]) -> Tensor:
        return vmap(vmap(function), (0, None))(log_probs, other)

    for function in (loss, grad(loss), lambda x, n: product_of(loss)(x, torch.ones_like(x), n)):
        expected = torch.stack([looped(function, (0, 0), part, other) for part in log_probs])
        close(nested(function), expected)
    close(vmap(lambda x: loss(x, lengths))(log_probs[0]), looped(lambda x: loss(x, lengths), (0,), log_probs[0]))


def test_the_whole_hessian_by_reverse_over_reverse_is_that_of_the_recursion_in_tensor_operations() -> None:
    log_probs, targets = normal(4, 1, 3), torch.tensor([[1, 2]])
    frames, lengths = torch.tensor([4]), torch.tensor([2])
    found = jacrev(jacrev(lambda x: ctc_loss(x, targets, frames, lengths, reduction="sum")))(log_probs)
    close(found, hessian(lambda x: tensor_ops_ctc(x, targets, frames, lengths).sum())(log_probs))


def test_it_may_be_called_first_inside_transforms_and_without_gradients() -> None:
    native_is_twice_differentiable.cache_clear()
    targets, frames, lengths = problem(2)
    log_probs, direction = normal(N, T, B, V), normal(T, B, V, seed=1)

    def second(x: Tensor) -> Tensor:
        return product_of(lambda y: ctc_loss(y, targets, frames, lengths))(x, direction)

    with torch.no_grad():
        found = vmap(second)(log_probs)
    assert not native_is_twice_differentiable()
    close(found, looped(second, (0,), log_probs))


def test_values_are_checked_under_vmap_too() -> None:
    log_probs, targets = normal(T, 2, V), torch.tensor([[1, 2], [3, 0]])
    bad = torch.stack([targets, targets.clamp_min(1), torch.full_like(targets, V)])
    with pytest.raises(InputError, match="Symbol 0 of target 4 is 5"):
        vmap(lambda y: ctc_loss(log_probs, y, [T, 5], [2, 1]))(bad)
