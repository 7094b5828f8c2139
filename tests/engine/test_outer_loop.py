"""Outer steps: they follow the gradient, and skip, count and end where it is not finite."""

import pytest
import torch
from torch import Tensor, nn

from metavox.engine import Engine, OuterLoop, Problem, UpdateRule
from metavox.errors import InputError

Batch = tuple[Tensor, Tensor]


def squared(model: nn.Module, batch: Batch) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def task(seed: int, scale: float = 1.0) -> tuple[Batch, Batch]:
    generator = torch.Generator().manual_seed(seed)
    weight = 1 + 0.1 * torch.randn(3, 1, generator=generator)

    def batch() -> Batch:
        x = torch.randn(6, 3, generator=generator)
        return scale * x, x @ weight

    return batch(), batch()


def loop_of(max_skipped: int = 3) -> tuple[OuterLoop, nn.Module]:
    net = nn.Linear(3, 1)
    with torch.no_grad():
        for value in net.parameters():
            value.zero_()
    engine = Engine(Problem.of(net, squared), UpdateRule(1, 0.05), executor="loop")
    parameters = dict(net.named_parameters())
    return OuterLoop(engine, parameters, torch.optim.SGD(parameters.values(), lr=0.1), max_skipped), net


def test_it_learns_what_the_tasks_share() -> None:
    loop, net = loop_of()
    losses = [float(loop.step([task(2 * i), task(2 * i + 1)]).losses.mean()) for i in range(60)]
    assert sum(losses[-10:]) < 0.1 * sum(losses[:10])
    assert isinstance(net, nn.Linear)
    torch.testing.assert_close(net.weight.detach(), torch.ones(1, 3), rtol=0, atol=0.15)
    assert (loop.n_steps, loop.n_skipped) == (60, 0)


def test_a_gradient_that_is_not_finite_moves_nothing_and_is_counted() -> None:
    loop, net = loop_of()
    loop.step([task(0)])
    before = [value.detach().clone() for value in net.parameters()]
    found = loop.step([task(1, scale=float("inf"))])
    assert not found.finite
    assert all(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))
    assert (loop.n_steps, loop.n_skipped) == (2, 1)
    loop.step([task(2)])
    assert not all(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


def test_it_ends_after_as_many_in_a_row_as_was_said_and_a_good_step_starts_the_count_anew() -> None:
    loop, _ = loop_of(max_skipped=2)
    bad = [task(1, scale=float("nan"))]
    loop.step(bad)
    loop.step([task(0)])
    loop.step(bad)
    with pytest.raises(InputError, match=r"2 outer steps in a row .* up to step 4; lower the inner step size"):
        loop.step(bad)
    assert loop.n_skipped == 3
