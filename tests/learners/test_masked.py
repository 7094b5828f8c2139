"""Words learned without labels: neither labels nor the order of episodes nor a global generator has a say."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metavox.checkpoint import build
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, Draw, Episode, FrontEnd
from metavox.learners.masked import MASKING, masked
from metavox.learners.self_supervised import blanked, masked_loss
from metavox.learners.sides import joined
from metavox.tasks import Commands


def learner_of(**encoder: Any) -> Any:
    config = ModelConfig(
        front_end=FrontEnd(n_mels=16, n_frames=None),
        encoder=EncoderConfig(**{"channels": 8, "dim": 4, "blocks": 2, **encoder}),
        learner=LearnerConfig(name="masked", inner_steps=2, executor="loop"),
    )
    return build(config, seed=2).double()


def episode(seed: int, labels: int = 0) -> Episode:
    def batch(n: int, n_frames: int, offset: int) -> Batch:
        generator = torch.Generator().manual_seed(seed + offset)
        inputs = torch.randn(n, n_frames, 16, dtype=torch.float64, generator=generator)
        lengths = torch.randint(n_frames // 2, n_frames + 1, (n,), generator=generator)
        return Batch(inputs, lengths, (torch.arange(n) + labels) % 3, 3)

    none = np.zeros(0, np.int64)
    draw = Draw(("a", "b", "c"), np.arange(3), np.arange(5) + seed, none, np.arange(4) + 50, none)
    return Episode(batch(5, 21, 0), batch(4, 17, 100), draw)


def test_labels_have_no_say_and_the_takes_decide_what_is_blanked() -> None:
    learner = learner_of()
    torch.manual_seed(1)
    first = masked(learner, Commands(), [episode(0)])
    torch.manual_seed(2)
    again, other = (masked(learner, Commands(), [one]) for one in (episode(0, labels=1), episode(1)))
    assert first.metrics["loss"] == again.metrics["loss"] != other.metrics["loss"]
    assert all(torch.equal(first.values[name], again.values[name]) for name in first.values)
    moved = replace(episode(0), draw=replace(episode(0).draw, support=np.arange(5) + 7))
    assert masked(learner, Commands(), [moved]).metrics["loss"] != first.metrics["loss"]
    assert math.isnan(first.metrics["accuracy"])


@pytest.mark.parametrize("halvings", [1, 2])
def test_the_loss_is_that_of_what_was_blanked_in_all_takes(halvings: int) -> None:
    learner, one = learner_of(halvings=halvings), episode(3)
    batch = joined(one)
    assert learner.guess.out_features == 16 * 2**halvings
    losses = set()
    for seed in range(3):
        heard, blank = blanked(batch.inputs, batch.lengths, MASKING, torch.Generator().manual_seed(seed))
        frames = learner.encoder(heard, batch.lengths)
        losses.add(float(masked_loss(frames, learner.guess, batch.inputs, batch.lengths, blank).detach()))
    found = masked(learner, Commands(), [one]).metrics["loss"]
    assert min(losses) * 0.8 < found < max(losses) * 1.25  # as with another draw
    assert len(losses) == 3


def test_training_lowers_it() -> None:
    learner, losses = learner_of(), []
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-2)
    for _ in range(30):
        grads = masked(learner, Commands(), [episode(0), episode(1)])
        for name, value in learner.named_parameters():
            value.grad = grads.values[name]
        optimizer.step()
        losses.append(grads.metrics["loss"])
    assert losses[-1] < 0.9 * losses[0]
