"""The contract of learners that products enrol with: states grow and shrink word by word, without the recordings."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from learner_cases import N_CLASSES, SHOTS, close, equal, padded, query_of, some, support_of, takes

from metavox.contracts import Batch, State


def as_adapted(learner: Any, grown: State, all_takes: Batch) -> None:
    """``grown`` predicts, and leaves one out, as a state adapted on all takes together would."""
    query = query_of(learner)
    adapted = learner.adapt(all_takes)
    close(learner.predict(grown, query).scores, learner.predict(adapted, query).scores)
    close(learner.leave_one_out(grown), learner.leave_one_out(adapted))
    assert torch.equal(grown["labels"], adapted["labels"])
    assert grown.keys() == adapted.keys()
    for name in grown.keys() - {"takes"}:  # takes may be padded further
        close(grown[name], adapted[name])


@torch.no_grad()
def test_extending_equals_adapting_on_all_takes(enrollable: Any) -> None:
    support = support_of(enrollable)
    for n_first in (1, 3, 6):  # first takes of few classes, then more of these and all the others
        first = some(support, slice(0, n_first), int(support.labels[n_first - 1]) + 1)
        grown = enrollable.extend(enrollable.adapt(first), some(support, slice(n_first, None)))
        as_adapted(enrollable, grown, support)


@torch.no_grad()
def test_extending_with_longer_or_shorter_padding_makes_no_difference(enrollable: Any) -> None:
    support = support_of(enrollable)
    first, second = some(support, slice(0, 5)), some(support, slice(5, None))
    for one, other in ((padded(first, 9, True), second), (first, padded(second, 9, True))):
        as_adapted(enrollable, enrollable.extend(enrollable.adapt(one), other), support)


@torch.no_grad()
@pytest.mark.parametrize("label", range(N_CLASSES))
def test_forgetting_a_class_equals_never_having_heard_it(enrollable: Any, label: int) -> None:
    support = support_of(enrollable)
    rest = some(support, support.labels != label, N_CLASSES - 1)
    rest = replace(rest, labels=rest.labels - (rest.labels > label).long())
    state = enrollable.adapt(support)
    before = {name: value.clone() for name, value in state.items()}
    as_adapted(enrollable, enrollable.without(state, label), rest)
    assert equal(before, state)


@torch.no_grad()
def test_leaving_one_out_equals_adapting_without_it(enrollable: Any) -> None:
    support = support_of(enrollable)
    scores = enrollable.leave_one_out(enrollable.adapt(support))
    assert scores.shape == (len(support), N_CLASSES)
    for i, label in enumerate(support.labels.tolist()):
        others = torch.arange(len(support)) != i
        expected = enrollable.predict(enrollable.adapt(some(support, others)), some(support, slice(i, i + 1))).scores[0]
        if SHOTS[label] == 1:
            expected[label] = -torch.inf
        close(scores[i], expected)
    assert int(scores.isinf().sum()) == SHOTS.count(1)


@torch.no_grad()
def test_one_word_with_one_take_can_be_enrolled_and_a_second_one_added(enrollable: Any) -> None:
    support = takes(enrollable, [0, 1], n_classes=2)
    state = enrollable.adapt(some(support, slice(0, 1), 1))
    assert bool((enrollable.leave_one_out(state) == -torch.inf).all())
    as_adapted(enrollable, enrollable.extend(state, some(support, slice(1, 2))), support)
