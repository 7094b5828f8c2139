"""Outer rules: what they average over, which splits leave-one-out stands for, and that no parameter is forgotten."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from weights import started

from metavox.checkpoint import build
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, Draw, Episode, FrontEnd, InputError, Output
from metavox.learners.outer import in_turn, joint, leave_one_out, open_set, query_loss
from metavox.learners.presets import LEARNERS, has_base_classes
from metavox.learners.sides import joined
from metavox.losses import cross_entropy
from metavox.tasks import Commands

TRAINED = [name for name, preset in LEARNERS.items() if preset.outer is not None]


def learner_of(name: str, **options: Any) -> Any:
    if has_base_classes(name):
        options["n_base_classes"] = 5
    if LEARNERS[name].fixed.get("head") == "fixed":
        options["ways"] = 3
    if LEARNERS[name].family == "gradient":
        options["executor"] = "loop"
    config = ModelConfig(
        front_end=FrontEnd(n_mels=16, n_frames=None),
        encoder=EncoderConfig(channels=8, dim=4, blocks=2),
        learner=LearnerConfig(name=name, inner_steps=2, cg_iterations=2, **options),
    )
    return build(config, seed=2).double()


def batch(labels: list[int], n_frames: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(len(labels), n_frames, 16, dtype=torch.float64, generator=generator)
    lengths = torch.randint(n_frames // 2, n_frames + 1, (len(labels),), generator=generator)
    return Batch(inputs, lengths, torch.tensor(labels), 3)


def episode(seed: int = 0, query: list[int] | None = None) -> Episode:
    none = np.zeros(0, np.int64)
    draw = Draw(("a", "b", "c"), np.array([4, 0, 2]), none, none, none, none)
    query_labels = [2, 0, 1, 1] if query is None else query
    return Episode(batch([0, 1, 2, 1, 0], 12, seed), batch(query_labels, 17, seed + 100), draw)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


def test_support_and_query_are_joined_in_one_padding() -> None:
    task = episode()
    both = joined(task)
    assert both.inputs.shape == (9, 17, 16)
    assert both.n_classes == 3
    for i in range(9):
        part, at = (task.support, i) if i < 5 else (task.query, i - 5)
        n = int(part.lengths[at])
        assert int(both.lengths[i]) == n
        assert int(both.labels[i]) == int(part.labels[at])
        assert torch.equal(both.inputs[i, :n], part.inputs[at, :n])


@pytest.mark.parametrize("name", TRAINED)
def test_the_gradient_names_and_reaches_every_trainable_parameter(name: str) -> None:
    learner = learner_of(name)
    started(learner)
    outer = LEARNERS[name].outer
    assert outer is not None
    grads = outer(learner, Commands(), [episode()])
    assert grads.values.keys() == dict(learner.named_parameters()).keys()
    for key, value in grads.values.items():
        assert value.shape == dict(learner.named_parameters())[key].shape
        assert bool(value.isfinite().all()), key
        if key == "log_scale" and name in ("reptile", "masked"):  # no inner step moves it; no head is learned
            continue
        if key.startswith(("pool.", "voice", "directions.")):  # nobody is known here; see test_voiced
            continue
        assert bool(value.any()), key
    assert all(parameter.grad is None for parameter in learner.parameters())


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_frozen_gets_no_gradient(name: str) -> None:
    learner = learner_of(name)
    learner.log_scale.requires_grad_(False)
    outer = LEARNERS[name].outer
    assert outer is not None
    grads = outer(learner, Commands(), [episode()])
    assert set(grads.values) == {key for key, _ in learner.named_parameters()} - {"log_scale"}


@pytest.mark.parametrize("name", TRAINED)
def test_the_gradient_is_the_mean_over_episodes(name: str) -> None:
    learner = learner_of(name)
    outer = LEARNERS[name].outer
    assert outer is not None
    episodes = [episode(seed) for seed in (0, 1, 2)]
    each = [outer(learner, Commands(), [one]) for one in episodes]
    together = outer(learner, Commands(), episodes)
    same(together.values, {key: sum(one.values[key] for one in each) / 3 for key in together.values})
    for key in ("loss",) if name in ("reptile", "masked") else ("loss", "accuracy"):  # these ask no query
        assert together.metrics[key] == pytest.approx(np.mean([one.metrics[key] for one in each]))


@pytest.mark.parametrize("name", TRAINED)
def test_each_episode_has_its_loss_and_what_guessing_costs(name: str) -> None:
    learner = learner_of(name)
    outer = LEARNERS[name].outer
    assert outer is not None
    episodes = [episode(seed) for seed in (0, 1, 2)]
    found = outer(learner, Commands(), episodes)
    assert found.losses == pytest.approx([outer(learner, Commands(), [one]).metrics["loss"] for one in episodes])
    assert found.metrics["loss"] == pytest.approx(np.mean(found.losses))
    n_classes = 5 if outer is joint else 3  # joint training tells all classes apart at once
    assert found.guessing == pytest.approx([np.log(n_classes)] * 3)


def test_accuracy_counts_items_where_episodes_differ_in_size() -> None:
    learner = learner_of("prototypes")
    large, small = episode(0), episode(1, query=[2])
    hits = []
    for one in (large, small):
        scores = learner.predict(learner.adapt(one.support), one.query).scores
        hits += (scores.argmax(1) == one.query.labels).tolist()
    assert query_loss(learner, Commands(), [large, small]).metrics["accuracy"] == pytest.approx(np.mean(hits))


def test_the_query_loss_is_that_of_adapting_and_predicting() -> None:
    learner, task = learner_of("prototypes"), episode()
    loss = cross_entropy(learner.predict(learner.adapt(task.support), task.query).scores, task.query.labels)
    slopes = torch.autograd.grad(loss, list(learner.parameters()))
    grads = query_loss(learner, Commands(), [task])
    same(grads.values, dict(zip(dict(learner.named_parameters()), slopes, strict=True)))
    assert grads.metrics["loss"] == pytest.approx(float(loss.detach()))


@pytest.mark.parametrize("match", ["soft", "dtw", "pooled"])
def test_leave_one_out_is_the_mean_over_explicit_splits_with_its_gradient(match: str) -> None:
    """Nine clips: nine times adapt on eight and predict the ninth."""
    learner, task = learner_of("prototypes", match=match), episode()
    both = joined(task)
    rows = []
    for i in range(len(both)):
        rest = torch.arange(len(both)) != i
        support = replace(both, inputs=both.inputs[rest], lengths=both.lengths[rest], labels=both.labels[rest])
        query = replace(
            both, inputs=both.inputs[i : i + 1], lengths=both.lengths[i : i + 1], labels=both.labels[i : i + 1]
        )
        rows.append(learner.predict(learner.adapt(support), query).scores)
    output = Output(torch.cat(rows))
    loss = Commands().loss(output, both)
    slopes = torch.autograd.grad(loss, list(learner.parameters()))
    grads = leave_one_out(learner, Commands(), [task])
    same(grads.values, dict(zip(dict(learner.named_parameters()), slopes, strict=True)))
    assert grads.metrics["loss"] == pytest.approx(float(loss.detach()))
    assert grads.metrics["accuracy"] == pytest.approx(float(Commands().score(output, both).mean()))


def at(batch: Batch, rows: list[int], n_classes: int = 3) -> Batch:
    return Batch(batch.inputs[rows], batch.lengths[rows], batch.labels[rows], n_classes)


@pytest.mark.parametrize("name", ["protonet", "relation", "cnp"])
def test_in_turn_is_the_mean_over_the_splits_of_cross_validation_with_its_gradient(name: str) -> None:
    """Nine clips, three of each class: three times adapt on six and predict three."""
    learner, task = learner_of(name), episode(query=[2, 0, 1, 2])
    started(learner)
    both = joined(task)
    rounds = [[0, 1, 2], [4, 3, 5], [6, 7, 8]]  # labels are 0 1 2 1 0 2 0 1 2
    assert [both.labels[rows].tolist() for rows in rounds] == [[0, 1, 2]] * 3
    losses = []
    for asked in rounds:
        rest = [i for i in range(9) if i not in asked]
        scores = learner.predict(learner.adapt(at(both, rest)), at(both, asked)).scores
        losses.append(cross_entropy(scores, both.labels[asked]))
    loss = torch.stack(losses).mean()
    slopes = torch.autograd.grad(loss, list(learner.parameters()))
    grads = in_turn(learner, Commands(), [task])
    same(grads.values, dict(zip(dict(learner.named_parameters()), slopes, strict=True)))
    assert grads.metrics["loss"] == pytest.approx(float(loss.detach()))


def test_an_open_set_takes_the_last_class_out_whose_clips_are_to_be_refused() -> None:
    learner, task = learner_of("open_prototypes"), episode(query=[2, 0, 1, 2])
    started(learner)
    both = joined(task)
    losses, hits = [], []
    for asked in ([0, 1, 2], [4, 3, 5], [6, 7, 8]):
        rest = [i for i in range(9) if i not in asked and int(both.labels[i]) < 2]
        scores = learner.predict(learner.adapt(at(both, rest, 2)), at(both, asked)).scores
        known, refused = scores.logsumexp(1).exp() + 1, torch.zeros(3, dtype=torch.float64)
        own = torch.where(both.labels[asked] < 2, scores.gather(1, both.labels[asked].clamp_max(1)[:, None])[:, 0], 0.0)
        losses.append((known.log() - own).mean())
        best = torch.where(scores.amax(1) > refused, scores.argmax(1), 2)
        hits += (best == both.labels[asked]).tolist()
    loss = torch.stack(losses).mean()
    slopes = torch.autograd.grad(loss, list(learner.parameters()))
    grads = open_set(learner, Commands(), [task])
    same(grads.values, dict(zip(dict(learner.named_parameters()), slopes, strict=True)))
    assert grads.metrics["loss"] == pytest.approx(float(loss.detach()))
    assert grads.metrics["accuracy"] == pytest.approx(np.mean(hits))


def test_an_open_set_of_one_class_has_none_to_take_out() -> None:
    one = Batch(torch.zeros(2, 8, 16, dtype=torch.float64), torch.tensor([8, 8]), torch.tensor([0, 0]), 1)
    with pytest.raises(InputError, match=r"1 class and none to take out; draw episodes\.ways of 2 or more\.$"):
        open_set(learner_of("open_prototypes"), Commands(), [Episode(one, one, episode().draw)])


@pytest.mark.parametrize("name", TRAINED)
def test_following_the_gradient_lowers_the_loss(name: str) -> None:
    """A small step along the meta-gradient does what it is for, after inner steps so small that first order will do."""
    learner = learner_of(name, inner_lr=1e-3)
    outer = LEARNERS[name].outer
    assert outer is not None
    before = outer(learner, Commands(), [episode()])
    norm = torch.cat([value.flatten() for value in before.values.values()]).norm()
    with torch.no_grad():
        for key, parameter in learner.named_parameters():
            parameter.sub_(1e-4 * before.values[key] / norm)
    assert outer(learner, Commands(), [episode()]).metrics["loss"] < before.metrics["loss"]


# ------------------------------------------------------------------------------------------------------ speakers apart


@pytest.mark.parametrize("name", ["prototypes", "classified_prototypes", "protonet", "cnp"])
def test_where_speakers_are_kept_apart_nobody_is_asked_beside_his_own_takes(name: str) -> None:
    """The support is asked nothing, so that what a query is compared with holds no take of its speaker."""
    learner, task = started(learner_of(name)), episode()
    task = replace(task, draw=replace(task.draw, apart=True))
    outer = LEARNERS[name].outer
    assert outer is not None
    found, expected = outer(learner, Commands(), [task]), query_loss(learner, Commands(), [task])
    assert found.losses == pytest.approx(expected.losses)
    assert found.metrics["accuracy"] == expected.metrics["accuracy"]
    if name != "classified_prototypes":  # whose classifier is asked beside
        same(found.values, expected.values)


def test_an_open_set_of_speakers_apart_takes_a_class_out_of_support_and_asks_the_query() -> None:
    learner, task = started(learner_of("open_prototypes")), episode()
    task = replace(task, draw=replace(task.draw, apart=True))
    known = [i for i, label in enumerate(task.support.labels.tolist()) if label < 2]
    scores = learner.predict(learner.adapt(at(task.support, known, 2)), task.query).scores
    expected = cross_entropy(torch.cat([scores, torch.zeros(4, 1, dtype=torch.float64)], 1), task.query.labels)
    assert open_set(learner, Commands(), [task]).metrics["loss"] == pytest.approx(float(expected.detach()))
