"""Sets of vectors: what is remembered, splits in turn against explicit ones, and what a support set must be."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metavox.checkpoint import build
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, FrontEnd, InputError
from metavox.learners import support_set
from metavox.learners.classifier import clip_vectors
from metavox.learners.support_set import places_in_class

NAMES = (
    *("protonet", "matching", "relation", "gaussian", "open_prototypes", "crosstransformer"),
    *("support_conditioned", "cnp", "set_attention"),
)


def learner_of(name: str, **options: Any) -> Any:
    """A small learner of double precision, whose layers that begin with zeros have learned something."""
    config = ModelConfig(
        front_end=FrontEnd(n_mels=16, n_frames=None),
        encoder=EncoderConfig(channels=8, dim=4, blocks=1),
        learner=LearnerConfig(name=name, width=6, **options),
    )
    learner = build(config, seed=2).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in learner.parameters():
            value.add_(0.1 * torch.randn(value.shape, dtype=value.dtype, generator=generator))
    return learner


def batch(labels: list[int], seed: int = 0, n_classes: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(len(labels), 14, 16, dtype=torch.float64, generator=generator)
    lengths = torch.randint(5, 15, (len(labels),), generator=generator)
    return Batch(inputs, lengths, torch.tensor(labels, dtype=torch.int64), n_classes or max(labels, default=0) + 1)


def some(whole: Batch, rows: Tensor) -> Batch:
    return replace(whole, inputs=whole.inputs[rows], lengths=whole.lengths[rows], labels=whole.labels[rows])


@torch.no_grad()
def test_a_state_is_the_vectors_of_the_takes_their_labels_and_how_many_each_class_has() -> None:
    learner, support = learner_of("protonet"), batch([0, 2, 2, 0, 2], n_classes=4)
    state = learner.adapt(support)
    assert torch.equal(state["takes"], clip_vectors(learner.encoder, support))
    assert torch.equal(state["labels"], support.labels)
    assert state["counts"].tolist() == [2, 0, 3, 0]


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_a_take_is_never_the_answer_and_changes_no_other_score(name: str) -> None:
    learner, query = learner_of(name), batch([0, 1], 1)
    support = batch([0, 2, 2, 0, 2], n_classes=4)
    scores = learner.predict(learner.adapt(support), query).scores
    assert bool((scores[:, [1, 3]] == -torch.inf).all())
    without = replace(support, labels=support.labels // 2, n_classes=2)
    torch.testing.assert_close(scores[:, [0, 2]], learner.predict(learner.adapt(without), query).scores)


def test_places_count_the_items_of_a_class_before() -> None:
    assert places_in_class(torch.tensor([1, 0, 1, 1, 2, 0]), 4).tolist() == [0, 0, 1, 2, 0, 1]


@torch.no_grad()
@pytest.mark.parametrize("n_known", [None, 2])
@pytest.mark.parametrize("name", NAMES)
def test_scores_in_turn_are_those_of_explicit_splits(name: str, n_known: int | None) -> None:
    """Round n: the nth item of each class is asked, the first again where there are fewer, and the rest are known."""
    learner = learner_of(name)
    items = batch([2, 0, 1, 1, 0, 2, 1])
    by_class = [[i for i, label in enumerate(items.labels.tolist()) if label == c] for c in range(3)]
    scores = learner.score_in_turn(items, n_known)
    for turn in range(3):
        apart = [members[turn % len(members)] for members in by_class]
        rest = [i for i in range(7) if i not in apart]
        if n_known is not None:
            rest = [i for i in rest if int(items.labels[i]) < n_known]
        support = replace(some(items, torch.tensor(rest)), n_classes=n_known or 3)
        asked = [members[turn] for members in by_class if turn < len(members)]
        expected = learner.predict(learner.adapt(support), some(items, torch.tensor(asked))).scores
        torch.testing.assert_close(scores[asked], expected)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_in_parts_it_is_the_same_comparison(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, support, query = learner_of(name), batch([0, 0, 1, 2, 2, 2]), batch([0, 1, 2, 0, 1], 1)
    state = learner.adapt(support)

    def found() -> list[Tensor]:
        return [learner.predict(state, query).scores, learner.leave_one_out(state), learner.score_in_turn(support)]

    whole = found()
    monkeypatch.setattr(support_set, "_MAX_CELLS", 1)
    for one, other in zip(found(), whole, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_takes_does_not_matter(name: str) -> None:
    learner, support, query = learner_of(name), batch([0, 0, 1, 2, 2, 2]), batch([0, 1, 2], 1)
    shuffled = some(support, torch.tensor([4, 1, 5, 0, 2, 3]))
    scores = [learner.predict(learner.adapt(takes), query).scores for takes in (support, shuffled)]
    torch.testing.assert_close(*scores)


def test_the_scale_of_the_configuration_is_what_training_starts_from() -> None:
    learner = build(ModelConfig(learner=LearnerConfig(name="protonet", scale=7.0)))
    assert float(learner.log_scale.exp()) == pytest.approx(7.0)  # type: ignore[operator,union-attr]


@pytest.mark.parametrize("name", [*NAMES, "film"])
def test_a_support_set_that_teaches_nothing_is_refused_in_one_sentence(name: str) -> None:
    learner = learner_of(name)
    good = batch([0, 1])
    with pytest.raises(InputError, match=r"holds no take; give at least one with its label\.$"):
        learner.adapt(batch([], n_classes=2))
    odd = batch([0, 1])
    object.__setattr__(odd, "labels", odd.labels[:1])  # which only tests refuse as soon as it is made
    with pytest.raises(InputError, match=r"holds 2 takes and 1 labels; give one label to each\.$"):
        learner.adapt(odd)
    for label in (-1, 2):
        labels = torch.tensor([0, label])
        with pytest.raises(InputError, match=rf"label {label} and the task has 2 classes; number them from 0 to 1\.$"):
            learner.adapt(replace(good, labels=labels))
    with pytest.raises(InputError, match=r"adapt to a support set with its labels first\.$"):
        learner.predict({}, good)


def test_no_takes_can_be_added_that_teach_nothing() -> None:
    learner = learner_of("protonet")
    state = learner.adapt(batch([0, 1]))
    with pytest.raises(InputError, match="holds no take"):
        learner.extend(state, batch([], n_classes=2))


@pytest.mark.parametrize("name", ["gaussian", "cnp", "set_attention", "crosstransformer", "open_prototypes"])
def test_slopes_through_adapting_agree_with_finite_differences(name: str) -> None:
    """In double precision, of the loss of a query, along one direction through all parameters."""
    learner = learner_of(name, scale=2.0)
    support, query = batch([0, 0, 1, 2, 2, 2]), batch([0, 1, 2], 1)

    def loss() -> Tensor:
        scores = learner.predict(learner.adapt(support), query).scores
        return torch.nn.functional.cross_entropy(scores, query.labels)

    parameters = list(learner.parameters())
    slopes = torch.autograd.grad(loss(), parameters)
    generator = torch.Generator().manual_seed(6)
    way = [torch.randn(value.shape, dtype=value.dtype, generator=generator) for value in parameters]
    expected = sum(float((slope * step).sum()) for slope, step in zip(slopes, way, strict=True))
    size, ends = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2, 1):  # ahead, back behind the start, and home
            for value, step in zip(parameters, way, strict=True):
                value.add_(sign * size * step)
            ends.append(float(loss()))
    assert (ends[0] - ends[1]) / (2 * size) == pytest.approx(expected, rel=1e-5, abs=1e-7)
