"""The contract: what every learner promises, whoever wrote it. A new learner joins by one line in ``CASES``."""

from copy import deepcopy
from dataclasses import replace
from inspect import getattr_static
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from metavox.checkpoint import build, read_tensors, write_tensors
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, Encoder, Enrollable, FrontEnd, Learner, State
from metavox.learners.gradient import GradientLearner
from metavox.learners.presets import BASELINES, LEARNERS
from metavox.losses import cross_entropy
from metavox.nets.heads import prototype_head

SMALL = ModelConfig(
    front_end=FrontEnd(n_mels=16, n_frames=None),
    encoder=EncoderConfig(channels=16, dim=8, blocks=3),
)


def small(name: str, **learner: Any) -> ModelConfig:
    return SMALL.model_copy(update={"learner": LearnerConfig(name=name, **learner)})


CASES = {
    "prototypes-soft": small("prototypes", match="soft"),
    "prototypes-dtw": small("prototypes", match="dtw"),
    "prototypes-pooled": small("prototypes", match="pooled"),
    "fomaml": small("fomaml", inner_steps=3),
    "fomaml-head": small("fomaml", inner_steps=3, adapts="head"),
    "joint": small("joint", inner_steps=3, n_base_classes=7),
    "nearest_mean": BASELINES["nearest_mean"],
    "dtw": BASELINES["dtw"],
}
GRADIENT = [name for name in CASES if name.startswith(("fomaml", "joint"))]
ENROLLABLE = [name for name in CASES if name.startswith(("prototypes", "dtw"))]
TOLERANCE = 1e-5

N_CLASSES = 4
SHOTS = (3, 1, 2, 4)
"""Takes a class: unequal on purpose, one of them a single take."""


def test_every_learner_and_every_baseline_is_held_to_the_contract() -> None:
    assert {config.learner.name for config in CASES.values()} == set(LEARNERS)
    assert set(BASELINES) <= set(CASES)


@pytest.fixture(params=CASES)
def learner(request: pytest.FixtureRequest) -> Any:
    return build(CASES[request.param], seed=3)


@pytest.fixture(params=ENROLLABLE)
def enrollable(request: pytest.FixtureRequest) -> Any:
    return build(CASES[request.param], seed=3)


@pytest.fixture(params=GRADIENT)
def by_gradient(request: pytest.FixtureRequest) -> Any:
    return build(CASES[request.param], seed=3)


def takes(learner: Any, labels: list[int], n_classes: int = N_CLASSES, seed: int = 0) -> Batch:
    """Takes of a class are one random trajectory, said slower or faster and with noise, padded with zeros.

    Each class moves in bins of its own, so that it is also known by what is left when order in time is lost.
    """
    generator = torch.Generator().manual_seed(seed)
    words = torch.Generator().manual_seed(99)
    shapes = torch.randn(n_classes, learner.encoder.front_end.n_mels, 6, generator=words)
    shapes = shapes * torch.randn(n_classes, shapes.shape[1], 1, generator=words).exp()
    lengths = torch.randint(9, 22, (len(labels),), generator=generator)
    inputs = torch.zeros(len(labels), int(lengths.max()), shapes.shape[1])
    for i, label in enumerate(labels):
        said = functional.interpolate(shapes[label][None], size=int(lengths[i]), mode="linear")[0].T
        inputs[i, : lengths[i]] = said + 0.1 * torch.randn(said.shape, generator=generator)
    return Batch(inputs, lengths, torch.tensor(labels), n_classes)


def support_of(learner: Any) -> Batch:
    return takes(learner, [label for label, n in enumerate(SHOTS) for _ in range(n)], seed=1)


def query_of(learner: Any) -> Batch:
    return takes(learner, [3, 0, 1, 2, 0, 1], seed=2)


def scores_of(learner: Any, support: Batch, query: Batch) -> Tensor:
    with torch.no_grad():
        return learner.predict(learner.adapt(support), query).scores


def some(batch: Batch, items: Any, n_classes: int | None = None) -> Batch:
    """The items at these positions."""
    n_classes = batch.n_classes if n_classes is None else n_classes
    return Batch(batch.inputs[items], batch.lengths[items], batch.labels[items], n_classes)


def padded(batch: Batch, n_more: int, garbage: bool) -> Batch:
    inputs = functional.pad(batch.inputs, (0, 0, 0, n_more))
    if garbage:
        padding = torch.arange(inputs.shape[1]) >= batch.lengths[:, None]
        noise = 1e3 * torch.randn(inputs.shape, generator=torch.Generator().manual_seed(5))
        inputs = torch.where(padding[:, :, None], noise, inputs)
    return replace(batch, inputs=inputs)


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=TOLERANCE)


# -------------------------------------------------------------------------------------------------------- conformity


def test_it_has_the_verbs_of_the_contract(learner: Any) -> None:
    assert isinstance(learner, Learner)
    assert isinstance(learner.encoder, Encoder)
    assert isinstance(learner.fixed_ways, bool)
    assert isinstance(learner.adapts_body, bool)


@pytest.mark.parametrize("name", CASES)
def test_it_says_truly_whether_words_can_be_enrolled_one_by_one(name: str) -> None:
    assert isinstance(build(CASES[name]), Enrollable) == (name in ENROLLABLE)


@pytest.mark.xfail(strict=True, reason="contracts.Learner asks for ``encoder``, which nn.Module keeps in _modules")
def test_it_conforms_by_the_rule_of_python_3_12_too(learner: Any) -> None:
    """From 3.12 on ``isinstance`` reads the attributes of a runtime protocol by ``inspect.getattr_static``."""
    missing = object()
    for member in ("encoder", "fixed_ways", "adapts_body", "adapt", "predict"):
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
    if isinstance(learner, GradientLearner):
        learner.n_steps = n_steps
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
    if isinstance(learner, GradientLearner):
        assert names == {"head.weight", "head.bias"} | (body if learner.adapts_body else set())
    elif isinstance(learner, Enrollable):
        assert names == {"takes", "lengths", "labels", "within"}
    else:
        assert names == {"means"}
    assert learner.adapts_body == bool(body and body <= names)


def test_a_state_survives_save_and_load(learner: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        state = learner.adapt(support_of(learner))
        write_tensors(tmp_path / "state.safetensors", state)
        loaded = read_tensors(tmp_path / "state.safetensors")
        assert equal(state, loaded)
        query = query_of(learner)
        assert torch.equal(learner.predict(state, query).scores, learner.predict(loaded, query).scores)


# ---------------------------------------------------------------------------------------------- what does not matter


def test_relabelling_the_classes_permutes_the_scores(learner: Any) -> None:
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
def test_one_class_alone_can_be_learned(learner: Any, n_takes: int) -> None:
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


# ----------------------------------------------------------------------------------------- learning by gradient steps


def support_losses(learner: Any, support: Batch) -> list[float]:
    return [
        float(cross_entropy(learner.predict(state, support).scores, support.labels))
        for state in learner.trajectory(support)
    ]


def test_zero_steps_are_no_adaptation(by_gradient: Any) -> None:
    by_gradient.n_steps = 0
    support, query = support_of(by_gradient), query_of(by_gradient)
    with torch.no_grad():
        state = by_gradient.adapt(support)
        weight, bias = prototype_head(by_gradient.vectors(support), support.labels, support.n_classes)
        assert equal(state, by_gradient.initial(support))
        assert torch.equal(state["head.weight"], weight)
        assert torch.equal(state["head.bias"], bias)
        for name, value in by_gradient.encoder.named_parameters():
            assert not by_gradient.adapts_body or torch.equal(state[name], value)
        close(by_gradient.predict(state, query).scores, by_gradient.vectors(query) @ weight.T + bias)


def test_no_step_size_is_no_adaptation(by_gradient: Any) -> None:
    support = support_of(by_gradient)
    by_gradient.lr = 0.0
    with torch.no_grad():
        assert equal(by_gradient.adapt(support), by_gradient.initial(support))


def test_more_steps_lower_the_support_loss(by_gradient: Any) -> None:
    by_gradient.n_steps, by_gradient.lr = 8, 0.005
    with torch.no_grad():
        losses = support_losses(by_gradient, support_of(by_gradient))
    assert len(losses) == 9
    assert all(later < earlier for earlier, later in pairwise(losses)), losses


def test_a_trajectory_ends_where_adapt_ends_and_keeps_its_earlier_states(by_gradient: Any) -> None:
    support = support_of(by_gradient)
    with torch.no_grad():
        states = list(by_gradient.trajectory(support))
        assert equal(states[-1], by_gradient.adapt(support))
        assert equal(states[0], by_gradient.initial(support))
        by_gradient.n_steps = 1
        assert equal(states[1], by_gradient.adapt(support))


@pytest.mark.parametrize("name", ["fomaml", "fomaml-head"])
def test_every_adapted_value_moves(name: str) -> None:
    learner: Any = build(CASES[name], seed=3)
    support = support_of(learner)
    with torch.no_grad():
        before, after = learner.initial(support), learner.adapt(support)
    assert all(not torch.equal(before[key], after[key]) for key in after)


# ------------------------------------------------------------------------------------------- enrolling word by word


def as_adapted(learner: Any, grown: State, all_takes: Batch) -> None:
    """``grown`` predicts, and leaves one out, as a state adapted on all takes together would."""
    query = query_of(learner)
    adapted = learner.adapt(all_takes)
    close(learner.predict(grown, query).scores, learner.predict(adapted, query).scores)
    close(learner.leave_one_out(grown), learner.leave_one_out(adapted))
    assert torch.equal(grown["labels"], adapted["labels"])
    close(grown["within"], adapted["within"])


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
