"""Baselines that need no training: the trimmed nearest mean, and training from scratch on the support set."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from test_gradient import SmoothEncoder, batch, episode
from torch import nn
from torch.nn import functional

from metavox.checkpoint import build
from metavox.contracts import Batch
from metavox.learners.baselines import Scratch
from metavox.learners.classifier import N_SEGMENTS, clip_vectors
from metavox.learners.presets import BASELINES
from metavox.losses import cross_entropy
from metavox.nets.heads import segment_means


def test_the_nearest_mean_is_the_cosine_to_the_mean_of_unit_windows() -> None:
    learner: Any = build(BASELINES["nearest_mean"])
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 64, 40, generator=generator)
    labels = torch.tensor([0, 1, 2, 1, 1])
    support = Batch(inputs[:5], torch.full((5,), 64), labels, 3)
    query = Batch(inputs[5:], torch.full((3,), 64), torch.zeros(3, dtype=torch.long), 3)
    scores = learner.predict(learner.adapt(support), query).scores
    flat = inputs.flatten(1) / inputs.flatten(1).norm(dim=1, keepdim=True)
    for label in range(3):
        mean = flat[:5][labels == label].mean(0)
        for i in range(3):
            assert float(scores[i, label]) == pytest.approx(float(flat[5 + i] @ mean / mean.norm()), abs=1e-6)


# ------------------------------------------------------------------------------------------------------- from scratch


class Network(nn.Module):
    """Encoder and head as one module, to be trained as anybody would."""

    def __init__(self, encoder: SmoothEncoder, n_classes: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(N_SEGMENTS * encoder.dim, n_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, clips: Batch) -> torch.Tensor:
        frames = self.encoder(clips.inputs, clips.lengths)
        return self.head(functional.normalize(segment_means(frames, clips.lengths, N_SEGMENTS), dim=-1))


def test_scratch_is_an_ordinary_training_by_adam() -> None:
    learner, task = Scratch(SmoothEncoder(), n_steps=12, lr=0.02).double(), episode()
    network = Network(deepcopy(learner.encoder), 3).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(12):
        optimizer.zero_grad()
        cross_entropy(network(task.support), task.support.labels).backward()
        optimizer.step()
    state = learner.adapt(task.support)
    expected = {name.removeprefix("encoder."): value for name, value in network.named_parameters()}
    assert state.keys() == expected.keys()
    for name, value in state.items():
        torch.testing.assert_close(value, expected[name].detach(), rtol=0, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(learner.predict(state, task.query).scores, network(task.query))


def test_enough_steps_learn_takes_that_mean_nothing_by_heart() -> None:
    learner: Any = Scratch(SmoothEncoder(), n_steps=200, lr=0.05).double()
    noise = batch([0, 1, 2] * 4, 3, 7)
    scores = learner.predict(learner.adapt(noise), noise).scores
    assert scores.argmax(1).tolist() == noise.labels.tolist()
    learner.n_steps = 0
    assert not bool(learner.predict(learner.adapt(noise), noise).scores.any())


def test_the_seed_that_it_was_built_from_repeats_the_result() -> None:
    def state(seed: int) -> dict[str, torch.Tensor]:
        learner: Any = build(BASELINES["scratch"], seed=seed)
        learner.n_steps = 2
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(4, 64, 40, generator=generator)
        return learner.adapt(Batch(inputs, torch.full((4,), 64), torch.tensor([0, 1, 0, 1]), 2))

    first, again, other = state(0), state(0), state(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_what_stands_in_for_weights_is_what_scratch_trained() -> None:
    learner, task = Scratch(SmoothEncoder(), n_steps=3).double(), episode()
    state = learner.adapt(task.support)
    body = {name: value for name, value in state.items() if "head" not in name}
    unit = functional.normalize(clip_vectors(learner.encoder, task.query, body), dim=-1)
    with torch.no_grad():
        expected = unit @ state["head.weight"].T + state["head.bias"]
        torch.testing.assert_close(learner.predict(state, task.query).scores, expected)


def test_the_order_of_the_takes_does_not_matter_after_all_steps_of_the_baseline() -> None:
    """Adam makes rounding grow from step to step; the contract is kept at full length too."""
    learner: Any = build(BASELINES["scratch"])
    inputs = torch.randn(6, 24, 40, generator=torch.Generator().manual_seed(0))
    labels, lengths = torch.tensor([0, 1, 2] * 2), torch.full((6,), 24)
    order = torch.tensor([5, 2, 0, 3, 1, 4])
    query = Batch(inputs.roll(3, 1), lengths, labels, 3)
    one = learner.predict(learner.adapt(Batch(inputs, lengths, labels, 3)), query).scores
    other = learner.predict(learner.adapt(Batch(inputs[order], lengths, labels[order], 3)), query).scores
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
