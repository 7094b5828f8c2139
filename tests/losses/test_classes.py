"""Class scores against loops, and against the squared distances that they stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metavox.losses.classes import cross_entropy, leave_one_out_scores, membership, prototype_scores, within_class

SHOTS = ([3, 3, 3], [1, 1, 1], [1, 2, 5], [4, 1, 1], [2, 0, 3], [6], [1], [0, 0, 2])
"""Takes a class: equal, one each, mixed, classes without any, one class alone."""


def labels_of(shots: list[int]) -> Tensor:
    return torch.tensor([label for label, n in enumerate(shots) for _ in range(n)])


def symmetric(n: int, seed: int = 0) -> Tensor:
    """A similarity with a diagonal that must never be read."""
    values = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values + values.T + 100 * torch.eye(n, dtype=torch.float64)


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def within_by_loops(similarity: Tensor, labels: Tensor, n_classes: int) -> list[float]:
    """The definition, one pair at a time."""
    own: dict[int, float] = {}
    counts = []
    for label in range(n_classes):
        members = [i for i, at in enumerate(labels.tolist()) if at == label]
        counts.append(len(members))
        pairs = [float(similarity[i, j]) for i in members for j in members if i != j]
        if pairs:
            own[label] = sum(pairs) / len(pairs)
    average = sum(own.values()) / len(own) if own else 0.0
    values = []
    for label, n in enumerate(counts):
        share = (n - 1) / n if n else 0.0
        values.append((share * own.get(label, 0.0) + (1 - share) * average) / 2)
    return values


def test_cross_entropy_is_minus_the_mean_log_softmax_of_the_right_class() -> None:
    scores, labels = normal(5, 3), torch.tensor([0, 2, 1, 1, 0])
    expected = -sum(float(scores[i].softmax(0)[label].log()) for i, label in enumerate(labels.tolist())) / 5
    assert float(cross_entropy(scores, labels)) == pytest.approx(expected, abs=1e-12)


def test_membership_marks_the_class_of_each_item() -> None:
    member = membership(torch.tensor([2, 0, 2]), 4, torch.float64)
    assert member.dtype == torch.float64
    assert member.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]]


# ------------------------------------------------------------------------------------------------------ within_class


@pytest.mark.parametrize("shots", SHOTS, ids=str)
def test_within_class_is_its_definition(shots: list[int]) -> None:
    labels = labels_of(shots)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    similarity = symmetric(len(labels))
    got = within_class(similarity[order][:, order], labels[order], len(shots))
    torch.testing.assert_close(got.tolist(), within_by_loops(similarity, labels, len(shots)), rtol=0, atol=1e-12)


def test_one_take_a_class_leaves_nothing_to_subtract() -> None:
    assert within_class(symmetric(3), torch.tensor([0, 1, 2]), 3).tolist() == [0, 0, 0]


def test_a_class_of_one_take_gets_the_average_of_the_others() -> None:
    labels = labels_of([1, 4, 4])
    similarity = symmetric(9)
    values = within_class(similarity, labels, 3)
    own = [float(similarity[at][:, at].fill_diagonal_(0).sum() / 12) for at in (labels == 1, labels == 2)]
    assert float(values[0]) == pytest.approx(sum(own) / 4)


def test_with_many_takes_it_is_half_the_squared_length_of_the_class_mean() -> None:
    takes = normal(1500, 5) + torch.tensor([2.0, 0, -1, 0, 0.5])
    labels = torch.arange(1500) % 2
    got = within_class(takes @ takes.T, labels, 2)
    for label in (0, 1):
        assert float(got[label]) == pytest.approx(float(takes[labels == label].mean(0).square().sum()) / 2, rel=5e-3)


# -------------------------------------------------------------------------------------------------- prototype_scores


def squared_distances(query: Tensor, takes: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    means = torch.stack([takes[labels == label].mean(0) for label in range(n_classes)])
    return (query[:, None] - means).square().sum(-1)


def test_mean_similarity_less_within_class() -> None:
    similarity, labels, within = normal(4, 6), labels_of([1, 3, 2]), normal(3, seed=2)
    for i in range(4):
        for label in range(3):
            expected = float(similarity[i, labels == label].mean() - within[label])
            assert float(prototype_scores(similarity, labels, within)[i, label]) == pytest.approx(expected)


@pytest.mark.parametrize("k_shot", [1, 2, 5])
def test_equal_shots_of_unit_takes_give_minus_half_the_squared_distance_up_to_a_shared_term(k_shot: int) -> None:
    """Snell et al. 2017, eq. 2, exactly: the differences between classes are those of the distances."""
    takes = torch.nn.functional.normalize(normal(4 * k_shot, 6), dim=-1)
    query, labels = normal(7, 6, seed=1), labels_of([k_shot] * 4)
    scores = prototype_scores(query @ takes.T, labels, within_class(takes @ takes.T, labels, 4))
    shared = scores + squared_distances(query, takes, labels, 4) / 2
    assert float(shared.std(1).max()) < 1e-12
    assert float(scores.std(1).min()) > 1e-2


@pytest.mark.parametrize("shots", [[1, 2, 5], [4, 1, 1], [2, 3, 3], [7, 7, 2]], ids=str)
def test_unequal_shots_of_any_length_differ_from_the_distance_by_what_few_takes_add_to_it(shots: list[int]) -> None:
    """A mean of K takes is longer than the true mean by (mean squared length - true squared length) / K.

    That is what the scores take out, with the average over classes for the true squared length.
    """
    labels, n_classes = labels_of(shots), len(shots)
    takes, query = normal(len(labels), 6), normal(7, 6, seed=1)
    gram = takes @ takes.T
    scores = prototype_scores(query @ takes.T, labels, within_class(gram, labels, n_classes))
    lengths = torch.stack([takes[labels == label].square().sum(1).mean() for label in range(n_classes)])
    members = [gram[labels == label][:, labels == label] for label in range(n_classes)]
    own = [(part.sum() - part.trace()) / (len(part) * (len(part) - 1)) for part in members if len(part) > 1]
    few = (lengths - torch.stack(own).mean()) / (2 * torch.tensor(shots))
    expected = query.square().sum(1, keepdim=True) / 2 - squared_distances(query, takes, labels, n_classes) / 2 + few
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-12)


def test_a_class_of_one_take_is_neither_favoured_nor_punished() -> None:
    """Classes of one distribution and 1, 2 and 8 takes: the scores have one mean, and the distances have not."""
    shots, n_trials = [1, 2, 8], 4000
    labels = labels_of(shots)
    gaps, distances = [], []
    centre = torch.tensor([1.0, -1, 0.5, 0])
    for trial in range(n_trials):
        sample = normal(len(labels) + 1, 4, seed=trial) + centre
        takes, query = sample[:-1], sample[-1:]
        gaps.append(prototype_scores(query @ takes.T, labels, within_class(takes @ takes.T, labels, 3))[0])
        distances.append(-squared_distances(query, takes, labels, 3)[0] / 2)
    scores, plain = torch.stack(gaps), torch.stack(distances)
    error = (scores - scores[:, 2:]).std(0) / n_trials**0.5
    assert bool(((scores.mean(0) - scores[:, 2].mean()).abs() <= 4 * error).all())
    assert float(plain[:, 2].mean() - plain[:, 0].mean()) > 1.0


# ---------------------------------------------------------------------------------------------- leave_one_out_scores


def left_out_by_loops(similarity: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    rows = []
    for i in range(len(labels)):
        rest = torch.arange(len(labels)) != i
        within = within_class(similarity[rest][:, rest], labels[rest], n_classes)
        row = prototype_scores(similarity[i : i + 1, rest], labels[rest], within)[0]
        counts = torch.bincount(labels[rest], minlength=n_classes)
        rows.append(row.masked_fill(counts == 0, -torch.inf))
    return torch.stack(rows)


@pytest.mark.parametrize("shots", SHOTS, ids=str)
def test_leaving_one_out_at_once_equals_leaving_out_one_by_one(shots: list[int]) -> None:
    labels = labels_of(shots)
    similarity = symmetric(len(labels))
    got = leave_one_out_scores(similarity, labels, len(shots))
    torch.testing.assert_close(got, left_out_by_loops(similarity, labels, len(shots)), rtol=0, atol=1e-12)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_leaving_one_out_of_any_set_in_any_order(shots: list[int], seed: int) -> None:
    labels = labels_of(shots)
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    similarity = symmetric(len(labels), seed)
    got = leave_one_out_scores(similarity, labels, len(shots))
    torch.testing.assert_close(got, left_out_by_loops(similarity, labels, len(shots)), rtol=0, atol=1e-12)


def test_an_item_never_meets_itself() -> None:
    labels = labels_of([3, 2])
    similarity = symmetric(5)
    changed = similarity + torch.diag(normal(5, seed=8))
    for scores in (leave_one_out_scores, within_class):
        assert torch.equal(scores(similarity, labels, 2), scores(changed, labels, 2))


def test_gradients_through_left_out_scores_are_those_of_the_loop_and_finite() -> None:
    labels = labels_of([3, 2, 1])
    similarity = symmetric(6).requires_grad_()
    for function in (leave_one_out_scores, left_out_by_loops):
        scores = function(similarity, labels, 3)[:5]  # the last item is the only take of its class: -inf
        (gradient,) = torch.autograd.grad(cross_entropy(scores, labels[:5]), similarity)
        assert bool(gradient.isfinite().all())
        if function is leave_one_out_scores:
            first = gradient + gradient.T
    torch.testing.assert_close(first, gradient + gradient.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_has_no_membership(label: int) -> None:
    with pytest.raises((IndexError, RuntimeError)):
        membership(torch.tensor([0, label]), 3)


def test_membership_can_be_vmapped() -> None:
    labels = torch.tensor([[0, 2, 1], [1, 1, 0]])
    found = torch.func.vmap(lambda row: membership(row, 3))(labels)
    assert torch.equal(found, torch.stack([membership(row, 3) for row in labels]))
