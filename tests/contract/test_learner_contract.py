"""The contract: what every learner promises, whoever wrote it. A new learner joins by one line in ``CASES``."""

from copy import deepcopy
from dataclasses import replace
from inspect import getattr_static
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_cases import (
    CASES,
    ENROLLABLE,
    N_CLASSES,
    SHOTS,
    close,
    equal,
    padded,
    query_of,
    scores_of,
    some,
    support_of,
    takes,
)

from metavox.checkpoint import build, read_tensors, write_tensors
from metavox.contracts import Encoder, Enrollable, Learner
from metavox.learners.baselines import NearestMean, Scratch
from metavox.learners.film import Film
from metavox.learners.frozen import LinearProbe, SimpleShot
from metavox.learners.gradient import GradientLearner
from metavox.learners.metric import Prototypes
from metavox.learners.presets import BASELINES, LEARNERS
from metavox.learners.support_set import SupportSet


def test_every_learner_and_every_baseline_is_held_to_the_contract() -> None:
    assert {config.learner.name for config in CASES.values()} == set(LEARNERS)
    assert set(BASELINES) <= set(CASES)


# -------------------------------------------------------------------------------------------------------- conformity


def test_it_has_the_verbs_of_the_contract(learner: Any) -> None:
    assert isinstance(learner, Learner)
    assert isinstance(learner.encoder, Encoder)
    assert isinstance(learner.fixed_ways, bool)
    assert isinstance(learner.adapts_body, bool)


@pytest.mark.parametrize("name", CASES)
def test_it_says_truly_whether_words_can_be_enrolled_one_by_one(name: str) -> None:
    assert isinstance(build(CASES[name]), Enrollable) == (name in ENROLLABLE)


def test_it_conforms_by_the_rule_of_python_3_12_too(learner: Any) -> None:
    """From 3.12 on ``isinstance`` reads the attributes of a runtime protocol by ``inspect.getattr_static``."""
    missing = object()
    for member in ("fixed_ways", "adapts_body", "adapt", "predict"):
        if member in Learner.__annotations__ or callable(getattr(Learner, member, None)):
            assert getattr_static(learner, member, missing) is not missing, member


# ------------------------------------------------------------------------------------------------------------- adapt


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_adapting_leaves_the_model_unchanged(learner: Any, training: bool, grad: bool) -> None:
    learner.train(training)
    before = deepcopy(dict(learner.state_dict()))
    buffers = deepcopy(dict(learner.named_buffers()))  # also those that are not saved
    with torch.set_grad_enabled(grad):
        learner.predict(learner.adapt(support_of(learner)), query_of(learner))
    assert equal(before, learner.state_dict())
    assert equal(buffers, dict(learner.named_buffers()))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in learner.parameters())
    assert all(module.training is training for module in learner.modules())


def test_adapting_leaves_the_takes_unchanged(learner: Any) -> None:
    support, query = support_of(learner), query_of(learner)
    scores_of(learner, support, query)
    for batch, fresh in ((support, support_of(learner)), (query, query_of(learner))):
        assert torch.equal(batch.inputs, fresh.inputs)
        assert torch.equal(batch.lengths, fresh.lengths)
        assert torch.equal(batch.labels, fresh.labels)


def test_adapting_twice_gives_the_same_state_and_the_same_scores(learner: Any) -> None:
    with torch.no_grad():
        first, second = learner.adapt(support_of(learner)), learner.adapt(support_of(learner))
        assert equal(first, second)
        query = query_of(learner)
        assert torch.equal(learner.predict(first, query).scores, learner.predict(second, query).scores)


def test_predicting_leaves_the_state_unchanged(learner: Any) -> None:
    with torch.no_grad():
        state = learner.adapt(support_of(learner))
        before = {name: value.clone() for name, value in state.items()}
        learner.predict(state, query_of(learner))
    assert equal(before, state)


def test_learning_from_the_takes_beats_chance(learner: Any) -> None:
    """Without this a learner that returns zeros would keep most of the other promises."""
    query = takes(learner, [0, 1, 2, 3] * 20, seed=4)
    hits = scores_of(learner, support_of(learner), query).argmax(1) == query.labels
    assert float(hits.float().mean()) >= 0.4  # chance is 0.25


@pytest.mark.parametrize("n_steps", [0, 1])
def test_a_state_made_without_gradients_requires_none_and_shares_nothing_with_the_model(
    learner: Any, n_steps: int
) -> None:
    if hasattr(learner, "rule"):
        learner.rule = replace(learner.rule, n_steps=n_steps)
    with torch.no_grad():
        state = learner.adapt(support_of(learner))
    own = {value.untyped_storage().data_ptr() for value in learner.state_dict().values()}
    for name, value in state.items():
        assert not value.requires_grad, name
        assert value.grad_fn is None, name
        assert value.untyped_storage().data_ptr() not in own, name


def test_a_state_holds_adapted_values_only(learner: Any) -> None:
    with torch.no_grad():
        names = set(learner.adapt(support_of(learner)))
    body = {name for name, _ in learner.encoder.named_parameters()}
    if isinstance(learner, Prototypes):
        assert names == {"takes", "lengths", "labels", "within"}
    elif isinstance(learner, SupportSet | Film):
        assert names - {"context"} == {"takes", "labels", "counts"}
        assert ("context" in names) == isinstance(learner, Film)
    elif isinstance(learner, NearestMean):
        assert names == {"means"}
    elif isinstance(learner, LinearProbe | SimpleShot | Scratch):
        assert names == {"head.weight", "head.bias"} | (body if learner.adapts_body else set())
    # Of learners by gradient see test_gradient_contract.py; of others it is known whether they hold the encoder.
    assert isinstance(learner, GradientLearner) or learner.adapts_body == bool(names & body)


def test_a_state_survives_save_and_load(learner: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        state = learner.adapt(support_of(learner))
        write_tensors(tmp_path / "state.safetensors", state)
        loaded = read_tensors(tmp_path / "state.safetensors")
        assert equal(state, loaded)
        query = query_of(learner)
        assert torch.equal(learner.predict(state, query).scores, learner.predict(loaded, query).scores)


# ---------------------------------------------------------------------------------------------- what does not matter


def test_relabelling_the_classes_permutes_the_scores(of_any_ways: Any) -> None:
    learner = of_any_ways
    support, query = support_of(learner), query_of(learner)
    moved_to = torch.tensor([2, 0, 3, 1])
    scores = scores_of(learner, support, query)
    relabelled = scores_of(learner, replace(support, labels=moved_to[support.labels]), query)
    close(relabelled[:, moved_to], scores)
    assert not torch.allclose(relabelled, scores, atol=1e-3)


def test_the_order_of_the_takes_does_not_matter(learner: Any) -> None:
    support, query = support_of(learner), query_of(learner)
    order = torch.randperm(len(support), generator=torch.Generator().manual_seed(0))
    close(scores_of(learner, some(support, order), query), scores_of(learner, support, query))


@pytest.mark.parametrize("garbage", [False, True])
@pytest.mark.parametrize("n_more", [0, 1, 7, 16])
def test_padding_does_not_matter(learner: Any, n_more: int, garbage: bool) -> None:
    support, query = support_of(learner), query_of(learner)
    scores = scores_of(learner, support, query)
    close(scores_of(learner, padded(support, n_more, garbage), query), scores)
    close(scores_of(learner, support, padded(query, n_more, garbage)), scores)


def test_who_else_is_asked_does_not_matter(learner: Any) -> None:
    """One query alone, without any padding, is scored as among the others."""
    support, query = support_of(learner), query_of(learner)
    scores = scores_of(learner, support, query)
    for i in range(len(query)):
        alone = some(query, slice(i, i + 1))
        alone = replace(alone, inputs=alone.inputs[:, : int(alone.lengths[0])])
        close(scores_of(learner, support, alone), scores[i : i + 1])


def test_the_labels_of_the_query_do_not_matter(learner: Any) -> None:
    support, query = support_of(learner), query_of(learner)
    blind = replace(query, labels=torch.zeros_like(query.labels), n_classes=1)
    assert torch.equal(scores_of(learner, support, blind), scores_of(learner, support, query))


# ------------------------------------------------------------------------------------------------- numbers of things


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 1, 1, 1, 1, 1, 2, 3], [0, 0, 1, 1, 2, 2, 3, 3]])
def test_any_number_of_takes_a_class_will_do(learner: Any, labels: list[int]) -> None:
    query = query_of(learner)
    scores = scores_of(learner, takes(learner, labels), query)
    assert scores.shape == (len(query), N_CLASSES)
    assert bool(scores.isfinite().all())
    assert float(scores.std(1).min()) > 0


def test_the_only_take_of_a_class_is_recognised_among_classes_of_many(learner: Any) -> None:
    support = support_of(learner)
    alone = some(support, support.labels == SHOTS.index(1))
    assert scores_of(learner, support, alone).argmax(1).tolist() == [SHOTS.index(1)]


@pytest.mark.parametrize("n_takes", [1, 3])
def test_one_class_alone_can_be_learned(of_any_ways: Any, n_takes: int) -> None:
    learner = of_any_ways
    support = takes(learner, [0] * n_takes, n_classes=1)
    scores = scores_of(learner, support, query_of(learner))
    assert scores.shape == (6, 1)
    assert bool(scores.isfinite().all())


def test_double_precision_works_and_agrees_with_single(learner: Any) -> None:
    support, query = support_of(learner), query_of(learner)
    single = scores_of(learner, support, query)
    learner.double()
    both = [replace(batch, inputs=batch.inputs.double()) for batch in (support, query)]
    scores = scores_of(learner, *both)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores.float(), single, rtol=1e-3, atol=1e-3)
