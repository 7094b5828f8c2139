"""Scores in which near takes count most: against loops, the plain mean and the nearest take."""

import math

import pytest
import torch
from test_classes import SHOTS, labels_of, normal, symmetric

from metavox.losses.classes import leave_one_out_scores, prototype_scores, within_class
from metavox.losses.nearest import leave_one_out_nearest, nearest_scores, nearest_within


def mean_of(values: list[float], nearness: float) -> float:
    return math.log(sum(math.exp(nearness * value) for value in values) / len(values)) / nearness


@pytest.mark.parametrize("shots", SHOTS)
@pytest.mark.parametrize("nearness", [0.5, 6.0])
def test_within_a_class_is_half_the_mean_over_its_takes(shots: list[int], nearness: float) -> None:
    labels, n_classes = labels_of(shots), len(shots)
    similarity = symmetric(len(labels))
    own = {}
    for label in range(n_classes):
        members = [i for i, at in enumerate(labels.tolist()) if at == label]
        if len(members) > 1:
            means = [mean_of([float(similarity[i, j]) for j in members if j != i], nearness) for i in members]
            own[label] = sum(means) / len(means)
    average = sum(own.values()) / len(own) if own else 0.0
    expected = [
        ((n - 1) / n * own.get(label, 0.0) + (1 - (n - 1) / n) * average) / 2 if n > 1 else average / 2
        for label, n in enumerate(shots)
    ]
    found = nearest_within(similarity, labels, n_classes, nearness)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_scores_are_log_mean_exponentials_less_what_is_within() -> None:
    labels = labels_of([3, 1, 2])
    similarity, within = normal(4, 6), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    found = nearest_scores(similarity, labels, within, 6.0)
    for row in range(4):
        for label in range(3):
            values = similarity[row, labels == label].tolist()
            assert float(found[row, label]) == pytest.approx(mean_of(values, 6.0) - float(within[label]))


@pytest.mark.parametrize("shots", [s for s in SHOTS if len(s) > 1])
def test_leaving_out_is_scoring_with_the_others(shots: list[int]) -> None:
    labels, n_classes = labels_of(shots), len(shots)
    similarity = symmetric(len(labels)) / 3
    similarity = similarity + 0.1 * normal(*similarity.shape, seed=4)  # not the same from both sides
    found = leave_one_out_nearest(similarity, labels, n_classes, 6.0)
    for i in range(len(labels)):
        others = [j for j in range(len(labels)) if j != i]
        among = similarity[others][:, others]
        within = nearest_within(among, labels[others], n_classes, 6.0)
        expected = nearest_scores(similarity[i : i + 1, others], labels[others], within, 6.0)[0]
        there = torch.bincount(labels[others], minlength=n_classes) > 0
        torch.testing.assert_close(found[i, there], expected[there])
        assert bool((found[i, ~there] == -torch.inf).all())


def test_a_small_nearness_is_the_plain_mean() -> None:
    labels = labels_of([3, 1, 2])
    among, query = symmetric(6) / 10, normal(4, 6) / 10
    within = nearest_within(among, labels, 3, 1e-5)
    torch.testing.assert_close(within, within_class(among, labels, 3), atol=1e-5, rtol=0)
    plain = prototype_scores(query, labels, within)
    torch.testing.assert_close(nearest_scores(query, labels, within, 1e-5), plain, atol=1e-5, rtol=0)
    alone = leave_one_out_scores(among, labels, 3)
    torch.testing.assert_close(leave_one_out_nearest(among, labels, 3, 1e-5), alone, atol=1e-5, rtol=0)


def test_a_large_nearness_is_the_nearest_take() -> None:
    labels, query = labels_of([3, 1, 2]), normal(4, 6)
    found = nearest_scores(query, labels, torch.zeros(3, dtype=torch.float64), 100.0)
    nearest = torch.stack([query[:, labels == label].amax(1) for label in range(3)], 1)
    torch.testing.assert_close(found, nearest, atol=0.02, rtol=0)
