"""Segments and support-built heads, against loops over items."""

import pytest
import torch
from torch import Tensor

from metavox.nets.heads import prototype_head, segment_means


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("garbage", [0.0, 1e3, -1e3])
@pytest.mark.parametrize("n_segments", [1, 2, 4])
def test_segments_are_means_of_equal_stretches_of_the_valid_frames(n_segments: int, garbage: float) -> None:
    """The oracle repeats every frame so often that the borders fall between frames."""
    frames, lengths = normal(4, 6, 3), torch.tensor([6, 1, 3, 5])
    expected = []
    for i, n in enumerate(lengths.tolist()):
        fine = frames[i, :n].repeat_interleave(n_segments, 0)  # n frames for each segment
        expected.append(fine.reshape(n_segments, n, 3).mean(1).flatten())
        frames[i, n:] = garbage
    torch.testing.assert_close(segment_means(frames, lengths, n_segments), torch.stack(expected), rtol=0, atol=1e-6)


def test_segments_give_padding_no_gradient() -> None:
    frames = normal(2, 5, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(segment_means(frames, torch.tensor([5, 2]), 4).sum(), frames)
    assert bool(gradient.isfinite().all())
    assert float(gradient[1, 2:].abs().max()) == 0
    assert float(gradient[1, :2].abs().min()) > 0


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [2, 0, 1, 0, 0, 0], [1, 2, 0, 1, 1, 2]], ids=str)
def test_a_prototype_head_scores_minus_the_squared_distance_up_to_a_shared_term(labels: list[int]) -> None:
    """Triantafillou et al. 2020, section 3.2, for equal and unequal shots."""
    vectors, query = normal(6, 4), normal(5, 4, seed=1)
    weight, bias = prototype_head(vectors, torch.tensor(labels), 3)
    means = torch.stack([vectors[torch.tensor(labels) == label].mean(0) for label in range(3)])
    shared = query @ weight.T + bias + (query[:, None] - means).square().sum(-1)
    torch.testing.assert_close(shared, query.square().sum(1, keepdim=True).expand(5, 3), rtol=0, atol=1e-12)


def test_relabelling_permutes_the_rows_of_the_head() -> None:
    vectors, labels = normal(6, 4), torch.tensor([0, 1, 2, 0, 1, 1])
    moved_to = torch.tensor([1, 2, 0])
    weight, bias = prototype_head(vectors, labels, 3)
    permuted_weight, permuted_bias = prototype_head(vectors, moved_to[labels], 3)
    torch.testing.assert_close(permuted_weight[moved_to], weight)
    torch.testing.assert_close(permuted_bias[moved_to], bias)
