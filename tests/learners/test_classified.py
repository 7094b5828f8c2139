"""Prototypes with global classification: two losses on one pass, and what is enrolled is that of prototypes."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from metavox.checkpoint import build
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, Draw, Episode, FrontEnd, Output
from metavox.learners.classified import ClassifiedPrototypes
from metavox.learners.classifier import N_SEGMENTS
from metavox.learners.outer import joined, leave_one_out, leave_one_out_and_joint
from metavox.nets.heads import segment_means
from metavox.tasks import TASKS

CLASS_IDS = (4, 0, 2)
"""Places of the classes of the episode among the five of training."""


def learner(weight: float = 0.5, n_base_classes: int = 5) -> ClassifiedPrototypes:
    config = ModelConfig(
        front_end=FrontEnd(n_mels=16, n_frames=None, normalize=False),
        encoder=EncoderConfig(channels=8, dim=6, blocks=2),
        learner=LearnerConfig(name="classified_prototypes", base_weight=weight, n_base_classes=n_base_classes),
    )
    found = build(config, seed=1)
    assert isinstance(found, ClassifiedPrototypes)
    return found


def episode() -> Episode:
    generator = torch.Generator().manual_seed(2)
    labels = torch.tensor([0, 1, 2])
    parts = [Batch(torch.randn(3, 12, 16, generator=generator), torch.tensor([12, 9, 11]), labels, 3) for _ in range(2)]
    places = np.arange(3)
    draw = Draw(("a", "b", "c"), np.asarray(CLASS_IDS), places, labels.numpy(), places + 3, labels.numpy())
    return Episode(*parts, draw)


def test_the_gradient_is_that_of_both_losses() -> None:
    model, task = learner(0.7), TASKS["commands"]()
    found = leave_one_out_and_joint(model, task, [episode(), episode()])
    batch = joined(episode())
    frames, lengths = model.embed(batch)
    vectors = functional.normalize(segment_means(frames, lengths, N_SEGMENTS), dim=-1)
    assert model.base_head is not None
    assert model.base_log_scale is not None
    rows = functional.normalize(model.base_head.weight, dim=-1)
    classes = model.base_log_scale.exp() * vectors @ rows.T + model.base_head.bias
    beside = functional.cross_entropy(classes, torch.tensor(CLASS_IDS).repeat(2))
    loss = task.loss(Output(model.score_each(batch)), batch)
    assert found.metrics["loss"] == pytest.approx(loss.item(), rel=1e-5)
    slopes = torch.autograd.grad(loss + 0.7 * beside, list(model.parameters()))
    for (name, _), slope in zip(model.named_parameters(), slopes, strict=True):
        torch.testing.assert_close(found.values[name], slope, rtol=1e-4, atol=1e-6)


def test_without_weight_it_learns_as_prototypes_do() -> None:
    model, task = learner(0.0), TASKS["commands"]()
    with_both = leave_one_out_and_joint(model, task, [episode()])
    alone = leave_one_out(model, task, [episode()])
    for name, value in alone.values.items():
        torch.testing.assert_close(with_both.values[name], value, rtol=1e-4, atol=1e-6)


def test_without_base_classes_there_is_no_classifier() -> None:
    model = learner(n_base_classes=0)
    assert not [name for name in model.state_dict() if name.startswith("base")]
    with pytest.raises(ValueError, match="without base classes"):
        model.score_both(joined(episode()))
