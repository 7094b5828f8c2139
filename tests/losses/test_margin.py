"""Losses on a sphere against numpy, and what they must not do: turn round, or care for the order of voices."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from metavox.losses.margin import angular_margin, prototype_loss


def cosines(seed: int = 0, n: int = 6, c: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(n, c, generator=generator, dtype=torch.float64) - 1, torch.arange(n) % c


def test_it_is_the_formula_in_numpy() -> None:
    values, labels = cosines()
    logits = values.numpy().copy()
    for row, label in enumerate(labels.tolist()):
        logits[row, label] = math.cos(math.acos(logits[row, label]) + 0.2)
    logits *= 10
    expected = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels.numpy()])
    assert float(angular_margin(values, labels, 0.2, 10.0)) == pytest.approx(expected)


def test_without_a_margin_it_is_cross_entropy() -> None:
    values, labels = cosines()
    torch.testing.assert_close(angular_margin(values, labels, 0.0, 7.0), functional.cross_entropy(7 * values, labels))


def test_nearer_is_always_better_even_on_the_far_side() -> None:
    own = torch.linspace(-0.999, 0.999, 101, dtype=torch.float64)
    losses = [
        float(angular_margin(torch.tensor([[c, 0.0]], dtype=torch.float64), torch.tensor([0]), 0.3, 5.0)) for c in own
    ]
    assert (np.diff(losses) < 0).all()


def test_its_gradient_is_right() -> None:
    values, labels = cosines()
    assert torch.autograd.gradcheck(lambda x: angular_margin(0.9 * x, labels, 0.2, 4.0), values.requires_grad_())


def test_prototypes_ask_every_short_clip_for_its_voice() -> None:
    long = functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    right, wrong = long[:, None].expand(4, 3, 8), long.roll(1, 0)[:, None].expand(4, 3, 8)
    scale = torch.tensor(50.0)
    assert float(prototype_loss(long, right, scale)) < 0.01
    assert float(prototype_loss(long, wrong, scale)) > 1
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(prototype_loss(long, right, scale), prototype_loss(long[order], right[order], scale))
