"""Small CTC problems, and how their derivatives are taken and compared."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

T, B, V, S = 9, 4, 5, 4


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, dtype=torch.float64, generator=generator(seed))


def problem(seed: int, blank: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Targets (B, S) of random lengths, often with repeats, sometimes empty, that fit random lengths of at most T."""
    draw = generator(seed)
    symbols = torch.tensor([v for v in range(3 if seed % 2 else V) if v != blank])
    targets = symbols[torch.randint(len(symbols), (B, S), generator=draw)]
    lengths = torch.randint(0, S + 1, (B,), generator=draw)
    repeats = [sum(a == b for a, b in pairwise(row[:n].tolist())) for row, n in zip(targets, lengths, strict=True)]
    least = (lengths + torch.tensor(repeats)).clamp_min(1)
    frames = least + (torch.rand(B, generator=draw) * (T + 1 - least)).long()
    return targets, frames, lengths


def derivatives(loss: Callable[[Tensor], Tensor], at: Tensor, along: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, gradient of its sum, and Hessian of its sum times a direction."""
    at = at.detach().requires_grad_()
    value = loss(at)
    (first,) = torch.autograd.grad(value.sum(), at, create_graph=True)
    (second,) = torch.autograd.grad((first * along).sum(), at)
    return value.detach(), first.detach(), second


def close(found: Any, expected: Any, limit: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=limit, atol=limit)
