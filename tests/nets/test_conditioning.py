"""What is scored beside a whole support set, against the formulas written out for one query and one class."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from metavox.losses import membership
from metavox.nets.comparing import Euclidean, class_means, level
from metavox.nets.conditioning import Added, NeuralProcess, SetAttention, SetEncoder, mean_over_classes

SIZE, N_SEGMENTS, WIDTH = 12, 4, 5
LABELS = torch.tensor([0, 2, 2, 0, 1, 2])
SCALE = torch.tensor(3.0, dtype=torch.float64)


def vectors(n: int, seed: int) -> Tensor:
    return torch.randn(n, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


TAKES, QUERY = vectors(6, 0), vectors(5, 1)
KNOWN = membership(LABELS, 3, torch.float64)[None]
WITH_AN_EMPTY_ONE = membership(LABELS, 4, torch.float64)[None]


def learned(net: nn.Module) -> nn.Module:
    """In double precision, and with something learned in every layer."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in net.double().parameters():
            value.add_(0.3 * torch.randn(value.shape, dtype=value.dtype, generator=generator))
    return net


def cosine_to_means() -> Tensor:
    return functional.cosine_similarity(QUERY[:, None], class_means(level(TAKES), KNOWN), -1)


@torch.no_grad()
@pytest.mark.parametrize("kind", [Added, NeuralProcess])
def test_what_has_learned_nothing_is_the_cosine(kind: type[nn.Module]) -> None:
    net = kind(SIZE, WIDTH).double()
    torch.testing.assert_close(net(QUERY, TAKES, KNOWN, SCALE), 3 * cosine_to_means())


@torch.no_grad()
def test_set_attention_that_has_learned_nothing_is_the_class_means() -> None:
    scores = SetAttention(SIZE, N_SEGMENTS, WIDTH).double()(QUERY, TAKES, KNOWN, SCALE)
    torch.testing.assert_close(scores, Euclidean(N_SEGMENTS)(QUERY, TAKES, KNOWN, SCALE))


@torch.no_grad()
def test_representations_of_query_and_class_are_added() -> None:
    net = learned(Added(SIZE, WIDTH))
    scores = net(QUERY, TAKES, KNOWN, SCALE)
    means = level(class_means(level(TAKES), KNOWN)[0])
    for i, query in enumerate(level(QUERY)):
        for label in range(3):
            both = net.project(query) + net.project(means[label])
            found = net.last(net.hidden(both.relu()).relu())[0] + cosine_to_means()[i, label]
            torch.testing.assert_close(scores[i, label], 3 * found)


@torch.no_grad()
@pytest.mark.parametrize("member", [KNOWN, WITH_AN_EMPTY_ONE])
def test_a_neural_process_hears_its_class_and_the_mean_of_all_classes(member: Tensor) -> None:
    net = learned(NeuralProcess(SIZE, WIDTH))
    scores = net(QUERY, TAKES, member, SCALE)
    by_class = [net.hear(level(TAKES)[label == LABELS]).mean(0) for label in range(3)]
    whole = torch.stack(by_class).mean(0)
    for i, query in enumerate(level(QUERY)):
        for label in range(3):
            heard = net.of_query(query) + net.of_class(by_class[label]) + net.of_set(whole)
            found = net.last(net.hidden(heard.relu()).relu())[0] + cosine_to_means()[i, label]
            torch.testing.assert_close(scores[i, label], 3 * found)


@torch.no_grad()
@pytest.mark.parametrize("member", [KNOWN, WITH_AN_EMPTY_ONE])
def test_class_means_move_by_what_they_attend_to(member: Tensor) -> None:
    net = learned(SetAttention(SIZE, N_SEGMENTS, WIDTH))
    scores = net(QUERY, TAKES, member, SCALE)
    means = torch.stack([TAKES[label == LABELS].mean(0) for label in range(3)])
    heard = functional.scaled_dot_product_attention(net.ask(means), net.key(means), net.value(means))
    moved = means + net.move(heard)
    for label in range(3):
        expected = -3 * (QUERY - moved[label]).square().sum(1) / N_SEGMENTS
        torch.testing.assert_close(scores[:, label], expected)


@torch.no_grad()
def test_the_mean_over_classes_counts_each_class_once() -> None:
    values = torch.arange(8.0).reshape(1, 4, 2)
    found = mean_over_classes(values, WITH_AN_EMPTY_ONE.float())
    torch.testing.assert_close(found, values[:, :3].mean(1))


@torch.no_grad()
def test_a_set_is_encoded_class_by_class_and_is_nothing_before_something_is_learned() -> None:
    assert not bool(SetEncoder(SIZE, WIDTH, 7).double()(TAKES, KNOWN[0]).any())
    net = learned(SetEncoder(SIZE, WIDTH, 7))
    heard = net.hear(level(TAKES))
    mean = torch.stack([heard[label == LABELS].mean(0) for label in range(3)]).mean(0)
    found = net(TAKES, KNOWN[0])
    torch.testing.assert_close(found, net.tell(net.think(mean)))
    torch.testing.assert_close(net(TAKES, WITH_AN_EMPTY_ONE[0]), found)
    twice = torch.cat([TAKES, TAKES[4:5]]), torch.cat([KNOWN[0], KNOWN[0, 4:5]])
    torch.testing.assert_close(net(*twice), found)  # a class of the same take twice is the same class
