"""Recordings: replay equals the function, whatever it shares, changes in place, draws or decides."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from engine_cases import normal
from torch import Tensor, func
from torch.nn import functional

from metavox.engine.graphs import CannotRecord, Recorded


def nodes(recorded: Recorded, part: int = 0) -> list[str]:
    """Native operations of a part, in their order."""
    graph = recorded._parts[part].graph
    return [str(node.target).removeprefix("aten.") for node in graph.nodes if node.op == "call_function"]


def equal(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


def slope(x: Tensor, w: Tensor) -> Tensor:
    return func.grad(lambda w: functional.gelu(x @ w).square().sum())(w)


FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "a gradient": slope,
    "a gradient of a gradient": lambda x, w: func.grad(lambda w: slope(x, w).sin().sum())(w),
    "many at once": lambda x, w: func.vmap(slope, (0, None))(x[:, None], w),
    "a tree": lambda x, w: {"b": (x + 1, [w]), "a": x},
    "tuple-valued operations": lambda x, w: (
        torch.max(x @ w, 1).values + torch.linalg.qr(w)[1].sum() + x.split(1, 1)[0][0]
    ),
    "inputs and constants": lambda x, w: (x, torch.ones(2), w, x),
    "no input at all": lambda x, w: torch.arange(3) * 2,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_replay_is_the_function_on_other_inputs(name: str) -> None:
    function = FUNCTIONS[name]
    recorded = Recorded(function, (normal(3, 3), normal(3, 3, seed=1)))
    for seed in (2, 3):
        args = normal(3, 3, seed=seed), normal(3, 3, seed=seed + 9)
        equal(recorded(*args), function(*args))


def test_equal_operations_are_done_once_and_unlike_ones_are_not() -> None:
    recorded = Recorded(lambda x: (x.sin() * 2 + x.sin() * 2, x.sum(0), x.sum(1), x * 2.0, x * True), (normal(2, 2),))
    assert sorted(nodes(recorded)) == sorted(
        ["sin.default", "mul.Tensor", "add.Tensor", "sum.dim_IntList", "sum.dim_IntList", "mul.Tensor", "mul.Tensor"]
    )
    x = normal(2, 2, seed=3)
    equal(recorded(x)[0], 4 * x.sin())


def test_the_way_back_shares_the_way_there() -> None:
    def there_and_back(x: Tensor, w: Tensor) -> Any:
        return torch.tanh(x @ w), slope(x, w), slope(x, w)

    assert len(nodes(Recorded(there_and_back, (normal(3, 3), normal(3, 3))))) < 2 * len(
        nodes(Recorded(slope, (normal(3, 3), normal(3, 3))))
    )


def test_what_draws_is_not_shared_and_draws_at_every_replay() -> None:
    def noisy(x: Tensor) -> Any:
        return torch.bernoulli(x / 2), torch.bernoulli(x / 2), torch.rand(3)

    recorded = Recorded(noisy, (torch.ones(64),))
    assert recorded.draws
    one, other, _ = recorded(torch.ones(64))
    again, *_ = recorded(torch.ones(64))
    assert not torch.equal(one, other)
    assert not torch.equal(one, again)
    assert not Recorded(torch.sin, (torch.ones(3),)).draws


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1 if x.sum() > 0 else x - 1,
        lambda x: x * float(x.max()),
        lambda x: x * x.tolist()[0],
        lambda x: x * x[1:].tolist()[0],
        lambda x: x * float(x.numpy()[0]),
        lambda x: x * np.asarray(x)[0],
        lambda x: x[x > 0].sum(),
        lambda x: x[: len((x > 0).nonzero())],
        lambda x: x * 2 if float(torch.rand(())) < 2 else x,  # a layer that is dropped by chance
        lambda x: x.add_(1),
        lambda x: x.view(-1)[:2].mul_(3),
        lambda x: func.grad(lambda y: (y * x.tolist()[0]).sum())(x),
    ],
)
def test_what_a_replay_could_not_do_again_is_not_recorded(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises((CannotRecord, RuntimeError), match=r"decide by|in place|data pointer"):
        Recorded(function, (normal(3).abs(),))


def test_what_is_decided_by_a_constant_is_decided_once() -> None:
    switch, table = torch.tensor(2.0), torch.arange(3)
    recorded = Recorded(lambda x: x * 2 if switch > 1 else x + table.tolist()[2], (normal(3),))
    x = normal(3, seed=1)
    equal(recorded(x), 2 * x)


def test_constants_from_elsewhere_are_followed_where_they_change_in_place_and_never_changed() -> None:
    weight = normal(3)
    recorded = Recorded(lambda x: x * weight, (normal(3),))
    assert any(value is weight for value in recorded.constants)
    weight.mul_(2)
    x = normal(3, seed=1)
    equal(recorded(x), x * weight)
    with pytest.raises(CannotRecord, match="changes in place what was given to it or belongs to others"):
        Recorded(weight.add_, (normal(3),))


# ------------------------------------------------------------------------------------------------------------ in place


def relu_net(x: Tensor, w: Tensor) -> Tensor:
    hidden = (x @ w).relu_()
    hidden[:, 1] = hidden[:, 0] * 2
    view = hidden.view(-1)
    view += 1
    return (hidden @ w).clamp_(min=-0.5).sum()


def test_changes_in_place_are_replayed_in_their_order_and_what_they_touch_is_not_shared() -> None:
    args = normal(3, 3), normal(3, 3, seed=1)
    recorded = Recorded(relu_net, args)

    def touching(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        moved, views = x + 1, (x - 1).view(9)
        views.mul_(2)
        return x.sin(), x.sin(), moved.relu_(), x + 1, views, x - 1, (x - 1).view(9)

    both = Recorded(touching, args)
    assert [nodes(both).count(name) for name in ("sin.default", "add.Tensor", "sub.Tensor")] == [1, 2, 2]
    for seed in (4, 5):
        other = normal(3, 3, seed=seed), normal(3, 3, seed=seed + 9)
        equal(recorded(*other), relu_net(*other))
        equal(both(*other), touching(*other))


# ------------------------------------------------------------------------------------------------------------ two parts


def check(function: Callable[..., Any], *shapes: tuple[int, ...], n_early: int = 1) -> Recorded:
    """Both parts against the function, twice, with new arguments."""
    recorded = Recorded(function, [normal(*shape, seed=i) for i, shape in enumerate(shapes)], n_early)
    for seed in (10, 20):
        args = [normal(*shape, seed=seed + i) for i, shape in enumerate(shapes)]
        early, late = function(*[value.clone() for value in args])
        found, kept = recorded.first(*args[:n_early])
        equal(found, early)
        equal(recorded.second(kept, *args[n_early:]), late)
    return recorded


def test_parts_are_cut_where_the_late_argument_is_needed() -> None:
    recorded = check(lambda a, b: (a.exp(), (a.exp() * b, a.sin())), (3,), (3,))
    assert nodes(recorded, 0) == ["exp.default", "sin.default"]
    assert nodes(recorded, 1) == ["mul.Tensor"]


def test_outputs_may_be_inputs_and_stand_in_both_parts() -> None:
    check(lambda a, b: ((a, a.exp()), (a.exp(), b, a, a.exp() + b)), (3,), (3,))
    check(lambda a, b: ((), {"only": b}), (3,), (3,))
    check(lambda a, b: ([a * 2], ()), (3,), (3,))
    check(lambda a, b, c: ({"x": a + b}, (c, b)), (3,), (3,), (3,), n_early=2)


def test_constants_stand_in_both_parts() -> None:
    constant = normal(3, seed=8)
    check(lambda a, b: ((a * constant, constant), (b * constant, constant)), (3,), (3,))


def test_parts_of_tuples_cross_the_border() -> None:
    def function(a: Tensor, b: Tensor) -> Any:
        values, places = a.max(1)
        left, right = a.split(1, 1)
        return (values,), (b.gather(1, places[:, None]) + left, right * b[:, :1])

    recorded = check(function, (3, 2), (3, 2))
    assert "max.dim" not in nodes(recorded, 1)


def test_a_pullback_keeps_what_it_needs_of_the_way_there() -> None:
    def function(w: Tensor, x: Tensor, cotangent: Tensor) -> Any:
        out, pull = func.vjp(lambda w: functional.layer_norm(torch.tanh(x @ w), (3,)), w)
        return out, pull(cotangent)

    recorded = check(function, (3, 3), (4, 3), (4, 3), n_early=2)
    assert "tanh.default" not in nodes(recorded, 1)


@pytest.mark.parametrize("kind", ["early", "late", "early after late", "view"])
def test_changes_in_place_keep_their_order_over_the_border(kind: str) -> None:
    def function(a: Tensor, b: Tensor) -> Any:
        total = torch.zeros(3, dtype=a.dtype)
        read = a * 2
        if kind == "early":
            total.add_(a)
            return total.sin(), total * b
        if kind == "late":  # what reads the sum afterwards has no late argument of its own
            total.add_(b)
            return a.sin(), (total.sum(), total.view(3)[1:] * 2)
        if kind == "view":
            total.view(3)[1:].add_(b[1:])
            return a.sin(), total.exp()
        product = read * b  # must see what was there before the change
        read.relu_()
        return a.sin(), (product, read.sum())

    check(function, (3,), (3,))


def test_nets_in_place_go_there_and_back_in_two_parts() -> None:
    def function(w: Tensor, x: Tensor, cotangent: Tensor) -> Any:
        out, pull = func.vjp(lambda w: ((x @ w).relu_() @ w).clamp_(min=-0.5).sum(0)[:2], w)
        return out, pull(cotangent)

    check(function, (3, 3), (4, 3), (2,), n_early=2)


def test_a_graph_holds_getitem_only_of_tuples() -> None:
    recorded = check(lambda a, b: ((), (a.topk(2).values * b).sum()), (4,), (2,))
    kept = [node for node in recorded._parts[1].graph.nodes if node.target is operator.getitem]
    assert kept == []
