"""Words learned without their labels: an encoder that guesses what was blanked, then adapted as joint training's is."""

from collections.abc import Sequence
from math import log, nan
from zlib import crc32

import torch
from torch import nn

from ..config import LearnerConfig
from ..contracts import Encoder, Episode, Grads, Task
from .by_gradient import require_no_learned_head
from .gradient import GradientLearner
from .self_supervised import Masking, masked_gradient
from .sides import joined

MASKING = Masking(share=0.3, n_frames=8)
"""A word is short: stretches of 80 ms of it, as long as a sound."""
_LONG = 1024


class MaskedLearner(GradientLearner):
    """Gradient descent from an encoder that has heard no label (Liu et al. 2021, TERA).

    ``guess`` gives the input frames of each frame of the encoder back; it is for training alone.
    """

    def __init__(self, encoder: Encoder, config: LearnerConfig) -> None:
        super().__init__(
            encoder,
            config.inner_steps,
            config.inner_lr,
            config.adapts,
            executor=config.executor,
            head=config.head,
            rank=config.rank,
        )
        n_frames = int(encoder.out_lengths(torch.tensor([_LONG]))[0])
        self.guess = nn.Linear(encoder.dim, max(1, round(_LONG / n_frames)) * encoder.front_end.n_mels)


def build_masked(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """The learner of a configuration.

    Raises:
        InputError: a head that is not learned without labels.
    """
    require_no_learned_head(config)
    return MaskedLearner(encoder, config)


def masked(learner: MaskedLearner, task: Task, episodes: Sequence[Episode]) -> Grads:
    """The mean gradient of guessing what was blanked of all takes of each episode; which is drawn from what is in it.

    It asks no query, so that accuracy is not known.
    """
    values = {name: value for name, value in learner.named_parameters() if value.requires_grad}
    sums = {name: torch.zeros_like(value) for name, value in values.items()}
    losses = []
    for episode in episodes:
        drawn = crc32(episode.draw.support.tobytes() + episode.draw.query.tobytes())
        batch = joined(episode)
        generator = torch.Generator().manual_seed(drawn)
        grads, loss = masked_gradient(
            values, learner.encoder, learner.guess, batch.inputs, batch.lengths, MASKING, generator
        )
        for name, grad in grads.items():
            sums[name] += grad / len(episodes)
        losses.append(loss)
    guessing = tuple(log(episode.support.n_classes) for episode in episodes)
    return Grads(sums, {"loss": sum(losses) / len(losses), "accuracy": nan}, tuple(losses), guessing)
