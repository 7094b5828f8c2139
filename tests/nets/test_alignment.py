"""Similarities of embedding sequences against plain loops, one pair and one path at a time."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from metavox.nets import alignment
from metavox.nets.alignment import (
    SIMILARITIES,
    dtw_among,
    dtw_similarity,
    frame_mask,
    pooled_similarity,
    soft_similarity,
)

LENGTHS = ([7, 1, 4, 12], [3, 12, 1, 5, 9])
"""Unequal lengths of queries and takes; a single frame on both sides."""


def sequences(lengths: list[int], dim: int = 4, seed: int = 0, n_more: int = 0, garbage: float = 0.0) -> Tensor:
    """Unit frames in float64, padded with zeros or with garbage."""
    total = max(lengths) + n_more
    generator = torch.Generator().manual_seed(seed)
    padding = torch.Generator().manual_seed(seed + 1)
    out = garbage * torch.randn(len(lengths), total, dim, dtype=torch.float64, generator=padding)
    for i, n in enumerate(lengths):
        out[i, :n] = functional.normalize(torch.randn(n, dim, dtype=torch.float64, generator=generator), dim=-1)
    return out


def compared(similarity: Callable[..., Tensor], queries: list[int], takes: list[int], **padding: Any) -> Tensor:
    query, support = sequences(queries, seed=1, **padding), sequences(takes, seed=2, **padding)
    return similarity(query, torch.tensor(queries), support, torch.tensor(takes))


def by_pairs(of_pair: Callable[[Tensor, Tensor], float], queries: list[int], takes: list[int]) -> Tensor:
    query, support = sequences(queries, seed=1), sequences(takes, seed=2)
    rows = [[of_pair(a[:n], b[:m]) for b, m in zip(support, takes)] for a, n in zip(query, queries)]  # noqa: B905
    return torch.tensor(rows, dtype=torch.float64)


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)  # relative times are float32


def pooled_pair(a: Tensor, b: Tensor) -> float:
    first, second = a.mean(0), b.mean(0)
    return float(first @ second / (first.norm() * second.norm()))


def soft_pair(a: Tensor, b: Tensor, band: float = 0.25, temperature: float = 0.1) -> float:
    """The definition: each frame attends to what lies near its relative time, both ways."""
    reach = max(band, 0.5 / min(len(a), len(b))) + 1e-6

    def one_way(frames: Tensor, others: Tensor) -> float:
        total = 0.0
        for t, frame in enumerate(frames):
            time = (t + 0.5) / len(frames)
            near = [u for u in range(len(others)) if abs((u + 0.5) / len(others) - time) <= reach]
            cosines = [float(frame @ others[u]) for u in near]
            weights = [math.exp(cosine / temperature) for cosine in cosines]
            total += sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights)
        return total / len(frames)

    return (one_way(a, b) + one_way(b, a)) / 2


def dtw_pair(a: Tensor, b: Tensor) -> float:
    """The recursion of Sakoe and Chiba, cell by cell."""
    gain = (a @ b.T).tolist()
    best: dict[tuple[int, int], float] = {(0, 0): 2 * gain[0][0]}
    for i in range(len(a)):
        for j in range(len(b)):
            if i or j:
                best[i, j] = max(
                    best.get((i - 1, j), -math.inf) + gain[i][j],
                    best.get((i, j - 1), -math.inf) + gain[i][j],
                    best.get((i - 1, j - 1), -math.inf) + 2 * gain[i][j],
                )
    return best[len(a) - 1, len(b) - 1] / (len(a) + len(b))


ORACLES = {"pooled": pooled_pair, "soft": soft_pair, "dtw": dtw_pair}


def test_every_similarity_has_an_oracle() -> None:
    assert set(ORACLES) == set(SIMILARITIES)


def test_a_frame_mask_is_one_for_valid_frames() -> None:
    assert frame_mask(torch.tensor([0, 2, 3]), 3).tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(
    ("queries", "takes"),
    [
        LENGTHS,
        LENGTHS[::-1],
        ([1], [1]),
        ([1], [40]),
        ([40], [1]),
        ([2, 2], [37, 3]),
        ([6, 6], [6, 6, 6]),
        ([5, 5], [8]),
    ],
    ids=str,
)
def test_a_similarity_is_its_definition_pair_by_pair(name: str, queries: list[int], takes: list[int]) -> None:
    same(compared(SIMILARITIES[name], queries, takes), by_pairs(ORACLES[name], queries, takes))


@given(
    st.sampled_from(sorted(ORACLES)),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_it_is_its_definition_for_any_lengths(name: str, queries: list[int], takes: list[int]) -> None:
    same(compared(SIMILARITIES[name], queries, takes), by_pairs(ORACLES[name], queries, takes))


@pytest.mark.parametrize("band", [0.05, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_band_and_temperature_mean_what_they_say(band: float, temperature: float) -> None:
    options = {"band": band, "temperature": temperature}
    same(compared(partial(soft_similarity, **options), *LENGTHS), by_pairs(partial(soft_pair, **options), *LENGTHS))


def test_a_wider_band_changes_the_result() -> None:
    narrow = compared(partial(soft_similarity, band=0.05), *LENGTHS)
    assert not torch.allclose(narrow, compared(soft_similarity, *LENGTHS), atol=1e-3)


# -------------------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("garbage", [0.0, 1e3])
@pytest.mark.parametrize("n_more", [0, 1, 9])
def test_padding_does_not_matter(name: str, n_more: int, garbage: float) -> None:
    expected = compared(SIMILARITIES[name], *LENGTHS)
    same(compared(SIMILARITIES[name], *LENGTHS, n_more=n_more, garbage=garbage), expected)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_it_is_symmetric_and_at_most_one(name: str) -> None:
    x, lengths = sequences(LENGTHS[1]), torch.tensor(LENGTHS[1])
    similarity = SIMILARITIES[name](x, lengths, x, lengths)
    same(similarity, similarity.T)
    assert float(similarity.abs().max()) <= 1 + 1e-9


@pytest.mark.parametrize("similarity", [dtw_similarity, pooled_similarity])
def test_a_sequence_is_one_with_itself(similarity: Callable[..., Tensor]) -> None:
    x, lengths = sequences(LENGTHS[1]), torch.tensor(LENGTHS[1])
    same(similarity(x, lengths, x, lengths).diagonal(), torch.ones(len(lengths), dtype=torch.float64))


def test_saying_it_slower_costs_a_warped_comparison_nothing() -> None:
    x = sequences([6])
    slow = x.repeat_interleave(3, 1)
    assert float(dtw_similarity(x, torch.tensor([6]), slow, torch.tensor([18]))) == pytest.approx(1)


def test_order_in_time_is_seen_by_all_but_the_pooled_one() -> None:
    x, lengths = sequences([9, 9]), torch.tensor([9, 9])
    for name, similarity in SIMILARITIES.items():
        loss = similarity(x, lengths, x, lengths) - similarity(x.flip(1), lengths, x, lengths)
        assert (float(loss.diagonal().min()) > 0.05) is (name != "pooled")


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize(
    ("queries", "takes"), [([1, 60], [60, 1]), ([1], [1]), ([2], [60]), ([60, 3], [2, 59])], ids=str
)
def test_single_frames_and_very_unequal_lengths_stay_finite_with_their_gradients(
    name: str, queries: list[int], takes: list[int]
) -> None:
    query = sequences(queries, seed=1, n_more=2).float().requires_grad_()
    support = sequences(takes, seed=2, n_more=2).float().requires_grad_()
    similarity = SIMILARITIES[name](query, torch.tensor(queries), support, torch.tensor(takes))
    assert bool(similarity.isfinite().all())
    for side, lengths in zip(torch.autograd.grad(similarity.sum(), [query, support]), (queries, takes), strict=True):
        assert bool(side.isfinite().all())
        valid = torch.arange(side.shape[1]) < torch.tensor(lengths)[:, None]
        assert float(side[~valid].abs().max()) == 0
        assert float(side[valid].abs().sum(-1).min()) > 0  # every frame has a partner


@pytest.mark.parametrize("name", SIMILARITIES)
def test_its_gradient_is_that_of_finite_differences(name: str) -> None:
    query, support = sequences([4, 2], seed=1).requires_grad_(), sequences([3, 5], seed=2)
    lengths = torch.tensor([4, 2]), torch.tensor([3, 5])
    assert torch.autograd.gradcheck(lambda x: SIMILARITIES[name](x, lengths[0], support, lengths[1]), (query,))


@pytest.mark.parametrize("most", [1, 700, 10**9])
def test_sequences_are_warped_to_one_another_once_a_pair(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(5)
    frames = torch.randn(7, 9, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    lengths = torch.tensor([9, 5, 9, 1, 7, 9, 3])
    weight = torch.randn(7, 7, dtype=torch.float64, generator=generator).fill_diagonal_(0)
    whole = dtw_similarity(frames, lengths, frames, lengths)
    n_pairs: list[int] = []
    best_path = alignment._best_path
    monkeypatch.setattr(alignment, "_best_path", lambda g, *rest: n_pairs.append(g.shape[2]) or best_path(g, *rest))
    once = dtw_among(frames, lengths, most)
    assert sum(n_pairs) == 21
    assert len(n_pairs) == {1: 6, 700: 3, 10**9: 1}[most]
    assert not bool(once.diagonal().any())
    torch.testing.assert_close(once + torch.diag(whole.diagonal()), whole, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad((value * weight).sum(), frames)[0] for value in (once, whole))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_one_sequence_alone_is_warped_to_nothing() -> None:
    frames = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(dtw_among(frames, torch.tensor([5])), torch.zeros(1, 1))
