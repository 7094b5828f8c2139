"""Meta-gradients of the gradient learner against a reference built by hand and against finite differences."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metavox.contracts import Batch, Draw, Episode, FrontEnd
from metavox.learners.gradient import GradientLearner
from metavox.learners.outer import joint, query_loss
from metavox.losses import cross_entropy
from metavox.nets.heads import prototype_head
from metavox.tasks import Commands


class SmoothEncoder(nn.Module):
    """One layer and a tanh a frame: derivatives of every order, so that finite differences can judge."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.front_end, self.dim = FrontEnd(n_mels=8), 3
        self.weight = nn.Parameter(torch.randn(8, 3, generator=torch.Generator().manual_seed(seed)) / 3)
        self.bias = nn.Parameter(torch.randn(3, generator=torch.Generator().manual_seed(seed + 1)) / 3)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        return torch.tanh(inputs @ self.weight + self.bias)

    def out_lengths(self, lengths: Tensor) -> Tensor:
        return lengths


def batch(labels: list[int], n_classes: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(len(labels), 5, 8, dtype=torch.float64, generator=generator)
    lengths = torch.randint(2, 6, (len(labels),), generator=generator)
    return Batch(inputs, lengths, torch.tensor(labels), n_classes)


def episode(seed: int = 0) -> Episode:
    none = np.zeros(0, np.int64)
    draw = Draw(("a", "b", "c"), np.array([4, 0, 2]), none, none, none, none)
    return Episode(batch([0, 1, 2, 1, 0], 3, seed), batch([2, 0, 1, 1], 3, seed + 100), draw)


def learner_of(**options: Any) -> GradientLearner:
    return GradientLearner(SmoothEncoder(), **{"n_steps": 3, "lr": 0.3, **options}).double()


def loss_of(learner: GradientLearner, task: Episode) -> Tensor:
    return cross_entropy(learner.predict(learner.adapt(task.support), task.query).scores, task.query.labels)


def finite_differences(learner: GradientLearner, task: Episode, by: float = 1e-6) -> dict[str, Tensor]:
    """Of the whole computation, adapting included, in every single parameter."""
    measured = {}
    for name, parameter in learner.named_parameters():
        slope = torch.zeros_like(parameter)
        with torch.no_grad():
            for at in np.ndindex(*parameter.shape):
                value = parameter[at].item()
                ends = []
                for moved in (value + by, value - by):
                    parameter[at] = moved
                    ends.append(float(loss_of(learner, task)))
                parameter[at] = value
                slope[at] = (ends[0] - ends[1]) / (2 * by)
        measured[name] = slope
    return measured


def alike(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean over classes of the mean loss of their takes."""
    each = -torch.log_softmax(scores, 1)[torch.arange(len(labels)), labels]
    return torch.stack([each[labels == label].mean() for label in labels.unique()]).mean()


def by_hand_first_order(learner: GradientLearner, task: Episode) -> dict[str, Tensor]:
    """Plain loops: descend on detached copies, then carry the query's gradient at the end back to the start.

    What the inner steps add is a constant, so the gradient at the adapted encoder is that of the encoder, and the
    gradient at the adapted head goes on through the prototypes that it was built from.
    """
    support, query = task.support, task.query
    names = [name for name, _ in learner.encoder.named_parameters()] if learner.adapts_body else []
    own = dict(learner.named_parameters())
    weight, bias = prototype_head(learner.vectors(support), support.labels, support.n_classes)
    fast = [own[f"encoder.{name}"].detach().clone() for name in names] + [weight.detach(), bias.detach()]

    def scores(values: list[Tensor], items: Batch) -> Tensor:
        body = {f"encoder.{name}": value for name, value in zip(names, values, strict=False)}
        return learner.vectors(items, body) @ values[-2].T + values[-1]

    for _ in range(learner.rule.n_steps):
        at = [value.detach().requires_grad_() for value in fast]
        grads = torch.autograd.grad(alike(scores(at, support), support.labels), at)
        fast = [value - learner.rule.lr * grad for value, grad in zip(fast, grads, strict=True)]

    at = [value.detach().requires_grad_() for value in fast]
    outer = cross_entropy(scores(at, query), query.labels)
    at_end = torch.autograd.grad(outer, at, retain_graph=True)
    # The query also passes what is not adapted: the scale, and a fixed encoder.
    direct = torch.autograd.grad(outer, list(own.values()), allow_unused=True)
    built = torch.autograd.grad([weight, bias], list(own.values()), list(at_end[-2:]), allow_unused=True)
    total = {}
    for name, *parts in zip(own, direct, built, strict=True):
        total[name] = sum((part for part in parts if part is not None), torch.zeros_like(own[name]))
    for name, grad in zip(names, at_end, strict=False):
        total[f"encoder.{name}"] = total[f"encoder.{name}"] + grad
    return total


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float = 1e-12) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            value, other[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("adapts", ["all", "head"])
@pytest.mark.parametrize("n_steps", [0, 1, 3])
def test_the_first_order_meta_gradient_is_the_one_built_by_hand(adapts: str, n_steps: int) -> None:
    learner = learner_of(adapts=adapts, n_steps=n_steps)
    same(query_loss(learner, Commands(), [episode()]).values, by_hand_first_order(learner, episode()))


@pytest.mark.parametrize("adapts", ["all", "head"])
@pytest.mark.parametrize("n_steps", [0, 1, 3])
def test_the_second_order_meta_gradient_is_that_of_finite_differences(adapts: str, n_steps: int) -> None:
    learner = learner_of(adapts=adapts, n_steps=n_steps, order=1.0)
    same(query_loss(learner, Commands(), [episode()]).values, finite_differences(learner, episode()), 1e-6)


@pytest.mark.parametrize("adapts", ["all", "head"])
def test_first_and_second_order_predict_alike_and_learn_differently(adapts: str) -> None:
    first, second = learner_of(adapts=adapts), learner_of(adapts=adapts, order=1.0)
    assert float(loss_of(first, episode()).detach()) == pytest.approx(float(loss_of(second, episode()).detach()), 1e-12)
    one, other = (query_loss(learner, Commands(), [episode()]).values for learner in (first, second))
    for name, value in one.items():
        assert float((value - other[name]).norm() / value.norm()) > 1e-3, name


def test_the_joint_classifier_takes_no_part_in_adapting_or_predicting() -> None:
    plain, classifier = learner_of(), learner_of(n_base_classes=5)
    with torch.no_grad():
        assert float(loss_of(plain, episode())) == float(loss_of(classifier, episode()))
        assert not any("base" in name for name in classifier.adapt(episode().support))
    grads = query_loss(classifier, Commands(), [episode()]).values
    assert not bool(grads["base_head.weight"].any())


def test_joint_training_classifies_with_the_ids_of_the_classes() -> None:
    learner, task = learner_of(n_base_classes=5), episode()
    grads = joint(learner, Commands(), [task])
    batches = (task.support, task.query)
    ids = torch.cat([torch.from_numpy(task.draw.class_ids)[part.labels] for part in batches])
    scores = torch.cat([learner.classify(part).scores for part in batches])
    expected = cross_entropy(scores, ids)
    slopes = torch.autograd.grad(expected, list(learner.parameters()))
    same(grads.values, dict(zip(dict(learner.named_parameters()), slopes, strict=True)))
    assert all(bool(value.any()) for value in grads.values.values())
    assert grads.metrics["loss"] == pytest.approx(float(expected.detach()))
    assert grads.metrics["accuracy"] == pytest.approx(float((scores.argmax(1) == ids).double().mean()))


def test_a_learner_without_base_classes_cannot_classify() -> None:
    with pytest.raises(ValueError, match="without base classes"):
        learner_of().classify(episode().query)
