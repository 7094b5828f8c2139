"""Posteriors and their tangent against what they must add up to, and against enumeration."""

from itertools import product

import torch
from ctc_oracle import collapsed
from torch import Tensor

from metavox.losses.forward_backward import Problem, gradient, hessian_product, posteriors

N_FRAMES, N_SYMBOLS, BLANK = 5, 3, 1
TARGETS = torch.tensor([[0, 0], [2, 0], [2, 7], [9, 9]])  # a repeat, two labels, one and none; the rest is padding
INPUT_LENGTHS, TARGET_LENGTHS = torch.tensor([5, 4, 5, 3]), torch.tensor([2, 2, 1, 0])


def normal(seed: int) -> Tensor:
    shape = (N_FRAMES, len(TARGETS), N_SYMBOLS)
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def problem() -> Problem:
    return Problem.cut(TARGETS, INPUT_LENGTHS, TARGET_LENGTHS, BLANK)


def moments(log_probs: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian product by listing every path: minus mean and covariance of what the paths visit."""
    first, second = torch.zeros_like(log_probs), torch.zeros_like(log_probs)
    for item, (n_frames, n_labels) in enumerate(zip(INPUT_LENGTHS.tolist(), TARGET_LENGTHS.tolist(), strict=True)):
        target = TARGETS[item, :n_labels].tolist()
        paths = [p for p in product(range(N_SYMBOLS), repeat=n_frames) if collapsed(p, BLANK) == target]
        visits = torch.nn.functional.one_hot(torch.tensor(paths), N_SYMBOLS).double()  # (paths, T, V)
        scores = torch.einsum("ptv,tv->p", visits, log_probs[:n_frames, item])
        slopes = torch.einsum("ptv,tv->p", visits, direction[:n_frames, item])
        weights = scores.softmax(0)
        first[:n_frames, item] = -torch.einsum("p,ptv->tv", weights, visits)
        centred = weights * (slopes - (weights * slopes).sum())
        second[:n_frames, item] = -torch.einsum("p,ptv->tv", centred, visits)
    return first, second


def test_the_posteriors_of_a_valid_frame_add_up_to_one_and_those_of_padding_to_zero() -> None:
    found = posteriors(normal(0), problem())
    sums = found.labels.sum(-1) + found.blanks.sum(-1)
    torch.testing.assert_close(sums, problem().valid.double(), rtol=0, atol=1e-14)


def test_gradient_and_hessian_product_are_the_moments_of_all_paths() -> None:
    log_probs, direction = normal(1), normal(2)
    found = posteriors(log_probs, problem())
    first, second = moments(log_probs, direction)
    torch.testing.assert_close(gradient(log_probs, problem(), found), first, rtol=0, atol=1e-13)
    torch.testing.assert_close(hessian_product(direction, problem(), found), second, rtol=0, atol=1e-13)
    assert float(second.abs().max()) > 0.1


def test_nothing_that_was_given_is_changed() -> None:
    log_probs, direction = normal(1), normal(2)
    found = posteriors(log_probs, problem())
    kept = [part.clone() for part in (found.labels, found.blanks, found.stays)]
    gradient(log_probs, problem(), found)
    hessian_product(direction, problem(), found)
    assert torch.equal(log_probs, normal(1))
    assert torch.equal(direction, normal(2))
    assert all(map(torch.equal, kept, (found.labels, found.blanks, found.stays)))
