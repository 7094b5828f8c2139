"""Comparisons of vectors against second implementations: loops, closed forms, and scipy."""

from math import exp

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from metavox.losses import membership
from metavox.nets.comparing import (
    Attention,
    Dummy,
    Euclidean,
    Gaussian,
    Relation,
    class_means,
    level,
    nothing_yet,
    usual_size,
)

DIM, N_SEGMENTS, SIZE = 3, 4, 12
LABELS = torch.tensor([0, 2, 2, 0, 1, 2])
SCALE = torch.tensor(3.0, dtype=torch.float64)


def vectors(n: int, seed: int) -> Tensor:
    return torch.randn(n, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


TAKES, QUERY = vectors(6, 0), vectors(5, 1)
KNOWN = membership(LABELS, 3, torch.float64)[None]


def learned(compare: nn.Module, seed: int = 5) -> nn.Module:
    """In double precision, and with something learned in every layer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in compare.double().parameters():
            value.add_(0.3 * torch.randn(value.shape, dtype=value.dtype, generator=generator))
    return compare


def of_class(label: int) -> Tensor:
    return TAKES[label == LABELS]


@torch.no_grad()
def test_class_means_are_those_of_a_loop_and_0_without_a_take() -> None:
    found = class_means(TAKES, membership(LABELS, 4, torch.float64)[None])[0]
    for label in range(3):
        torch.testing.assert_close(found[label], of_class(label).mean(0))
    assert not bool(found[3].any())


@torch.no_grad()
def test_a_levelled_vector_has_a_root_mean_square_of_1() -> None:
    found = level(TAKES)
    torch.testing.assert_close(found.square().mean(1), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(functional.cosine_similarity(found, TAKES), torch.ones(6, dtype=torch.float64))


@torch.no_grad()
def test_usual_sizes_are_those_of_the_takes_that_are_there() -> None:
    some = KNOWN.clone()
    some[0, 1] = 0  # left out
    frames = torch.cat([TAKES[:1], TAKES[2:]]).reshape(5 * N_SEGMENTS, DIM)
    expected = (frames.square().mean(0) + 1e-4).sqrt()
    torch.testing.assert_close(usual_size(TAKES, some, N_SEGMENTS)[0, 0], expected.repeat(N_SEGMENTS))


@torch.no_grad()
def test_euclidean_scores_say_which_class_mean_is_nearest() -> None:
    scores = Euclidean(N_SEGMENTS)(QUERY, TAKES, KNOWN, SCALE)
    for i, query in enumerate(QUERY):
        for label in range(3):
            distance = float((query - of_class(label).mean(0)).square().sum())
            assert float(scores[i, label]) == pytest.approx(-3 * distance / N_SEGMENTS)


@torch.no_grad()
def test_the_softmax_of_matching_is_the_summed_attention_over_all_takes() -> None:
    scores = Attention()(QUERY, TAKES, KNOWN, SCALE)
    for i, query in enumerate(QUERY):
        weights = [exp(3 * float(functional.cosine_similarity(query, take, 0))) for take in TAKES]
        shares = [sum(w for w, c in zip(weights, LABELS.tolist(), strict=True) if c == label) for label in range(3)]
        expected = torch.tensor(shares, dtype=torch.float64) / sum(weights)
        torch.testing.assert_close(scores[i].softmax(0), expected)
        torch.testing.assert_close(scores[i].exp(), torch.tensor(shares, dtype=torch.float64))


@torch.no_grad()
def test_gaussian_scores_are_the_log_density_of_a_student_t_after_one_take_at_a_time() -> None:
    """The posterior is updated take by take (Murphy 2007, section 3.3), and scipy knows the density."""
    compare = learned(Gaussian(SIZE))
    scores = compare(QUERY, TAKES, KNOWN, SCALE)
    query = level(QUERY).numpy()
    for label in range(3):
        place, kappa = torch.zeros(SIZE, dtype=torch.float64), float(compare.log_kappa.exp())
        alpha, beta = float(compare.log_alpha.exp()), compare.log_beta.exp().clone()
        for take in level(TAKES)[label == LABELS]:
            beta = beta + kappa * (take - place).square() / (2 * (kappa + 1))
            place = (kappa * place + take) / (kappa + 1)
            kappa, alpha = kappa + 1, alpha + 0.5
        size = (beta * (kappa + 1) / (alpha * kappa)).sqrt().numpy()
        expected = stats.t.logpdf(query, 2 * alpha, place.numpy(), size).mean(1)
        torch.testing.assert_close(scores[:, label], 3 * torch.from_numpy(expected))


@torch.no_grad()
def test_a_dummy_is_where_scores_are_0_and_is_of_the_classes_that_are_there() -> None:
    compare = learned(Dummy(SIZE, N_SEGMENTS, 5))
    means = torch.stack([of_class(label).mean(0) for label in range(3)])
    heard = torch.relu(means @ compare.hear.weight.T + compare.hear.bias).amax(0)
    dummy = means.mean(0) + compare.move.weight @ heard
    for member in (KNOWN, membership(LABELS, 4, torch.float64)[None]):  # a class without a take has no say
        scores = compare(QUERY, TAKES, member, SCALE)[:, :3]
        for i, query in enumerate(QUERY):
            expected = (query - dummy).square().sum() - (query - means).square().sum(1)
            torch.testing.assert_close(scores[i], 3 * expected / N_SEGMENTS)
        assert not bool(compare(dummy[None] + 0 * QUERY[:1], means, torch.eye(3)[None].double(), SCALE).ge(0).any())


@torch.no_grad()
def test_a_relation_is_heard_pair_by_pair() -> None:
    compare = learned(Relation(DIM, N_SEGMENTS, 5))
    scores = compare(QUERY, TAKES, KNOWN, SCALE)
    size = usual_size(level(TAKES), KNOWN, N_SEGMENTS)[0, 0]
    for i, query in enumerate(level(QUERY)):
        for label in range(3):
            mean = level(TAKES)[label == LABELS].mean(0)
            one, other = ((part / size).reshape(N_SEGMENTS, DIM) for part in (query, mean))
            heard = torch.cat([one, other, (one - other).square()], 1).T[None]
            for layer in (compare.first, compare.second):
                heard = functional.conv1d(heard, layer.weight, layer.bias, padding=1).relu()
            found = (compare.last.weight @ heard.mean(2)[0]).squeeze()
            expected = 3 * (functional.cosine_similarity(query, mean, 0) + found)
            torch.testing.assert_close(scores[i, label], expected)


@torch.no_grad()
def test_a_relation_that_has_learned_nothing_is_the_cosine() -> None:
    scores = Relation(DIM, N_SEGMENTS, 5).double()(QUERY, TAKES, KNOWN, SCALE)
    means = class_means(level(TAKES), KNOWN)
    torch.testing.assert_close(scores, 3 * functional.cosine_similarity(QUERY[:, None], means, -1))


@torch.no_grad()
@pytest.mark.parametrize("weight", [0.3, 10.0])
def test_in_usual_sizes_takes_are_alike_however_a_part_of_a_frame_is_weighed(weight: float) -> None:
    weights = torch.tensor([1.0, 1.0, weight], dtype=torch.float64).repeat(N_SEGMENTS)
    found = [takes / usual_size(takes, KNOWN, N_SEGMENTS) for takes in (TAKES, weights * TAKES)]
    torch.testing.assert_close(*found, rtol=2e-3, atol=0)


def test_a_layer_that_has_learned_nothing_says_nothing_and_learns() -> None:
    layer = nothing_yet(3, 2)
    out = layer(torch.ones(1, 3))
    assert not bool(out.any())
    out.sum().backward()
    assert layer.weight.grad is not None
    assert bool(layer.weight.grad.all())
