"""Training as it is written without Metavox: learn2learn's loops, and features computed from audio at every draw.

What ``benchmarks/time_to_accuracy.py`` sets our training beside; a loop is an outer rule, so that all else is shared.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from metavox.audio import read
from metavox.benchmarking.peers import PEERS
from metavox.benchmarking.timing import cpu_seconds
from metavox.config import Experiment
from metavox.contracts import Batch, Episode, Grads, Output, Task
from metavox.data.bank import Bank
from metavox.data.parts import computed
from metavox.data.selection import Tasks
from metavox.learners.classifier import N_SEGMENTS, unit
from metavox.learners.gradient import GradientLearner
from metavox.learners.metric import Prototypes
from metavox.learners.outer import joined
from metavox.losses import prototype_scores, within_class
from metavox.nets.heads import prototype_head, segment_means
from metavox.training import training_episodes

# --------------------------------------------------------------------------------------------------- learn2learn's loop


class ProtoNet(nn.Module):
    """Encoder and linear head; the head is None until it is built from a support set.

    ``log_scale`` stands in a tuple, so that the inner loop, which changes every parameter, does not see it.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, learner: GradientLearner) -> None:
        super().__init__()
        self.encoder = learner.encoder
        self.log_scale = (learner.log_scale,)
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def vectors(self, batch: Batch) -> Tensor:
        """(B, N_SEGMENTS D) vectors of the learned length."""
        frames = self.encoder(batch.inputs, batch.lengths)
        vectors = segment_means(frames, self.encoder.out_lengths(batch.lengths), N_SEGMENTS)
        return self.log_scale[0].exp() * unit(vectors)

    def forward(self, batch: Batch) -> Tensor:
        return functional.linear(self.vectors(batch), self.weight, self.bias)


def learn2learn_loop(learner: GradientLearner, task: Task, episodes: Sequence[Episode]) -> Grads:
    """First-order Proto-MAML: ``examples/vision/maml_omniglot.py`` with a head of class means.

    The head comes from the weights that are learned and not from those of the clone, so that an inner gradient is that
    of the loss in encoder and head, each alone, while the outer one reaches the encoder through the prototypes.
    """
    maml = PEERS["learn2learn"].find().MAML(ProtoNet(learner), lr=learner.rule.lr, first_order=True)
    learner.zero_grad()
    scored = []
    for episode in episodes:
        clone = maml.clone()
        head = prototype_head(maml.module.vectors(episode.support), episode.support.labels, episode.support.n_classes)
        clone.module._parameters.update(zip(("weight", "bias"), head, strict=True))  # as its update_module does
        for _ in range(learner.rule.n_steps):
            clone.adapt(task.loss(Output(clone(episode.support)), episode.support))
        scored.append(_backward(task, Output(clone(episode.query)), episode.query))
    return _mean(learner, scored)


def prototype_loop(learner: Prototypes, task: Task, episodes: Sequence[Episode]) -> Grads:
    """Prototypical networks as ``examples/vision/protonet_miniimagenet.py`` has them, with our similarity.

    Support and query of an episode go through the encoder together; the query alone is scored.
    """
    learner.zero_grad()
    scored = []
    for episode in episodes:
        n, labels, n_classes = len(episode.support), episode.support.labels, episode.support.n_classes
        frames, lengths = learner.embed(joined(episode))
        takes = frames[:n, None]
        among = learner.similarity(frames[:n], lengths[:n], takes, lengths[:n])
        similarity = learner.similarity(frames[n:], lengths[n:], takes, lengths[:n])
        scores = learner.log_scale.exp() * prototype_scores(similarity, labels, within_class(among, labels, n_classes))
        scored.append(_backward(task, Output(scores), episode.query))
    return _mean(learner, scored)


def _backward(task: Task, output: Output, query: Batch) -> tuple[float, float, float]:
    """Loss, mean score, and the loss of guessing."""
    loss = task.loss(output, query)
    loss.backward()
    return float(loss.detach()), float(task.score(output, query).mean()), math.log(query.n_classes)


def _mean(learner: nn.Module, scored: Sequence[tuple[float, float, float]]) -> Grads:
    values = {name: value.grad / len(scored) for name, value in learner.named_parameters() if value.grad is not None}
    losses, scores, guessing = zip(*scored, strict=True)
    return Grads(values, {"loss": statistics.fmean(losses), "accuracy": statistics.fmean(scores)}, losses, guessing)


# -------------------------------------------------------------------------------------------------- features from audio


class FromFiles:
    """What training asks of a bank, computed from the audio of each clip whenever it is drawn."""

    n_variants = 0

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self._drawn: dict[int, tuple[np.ndarray, tuple[int, int]]] = {}

    def window_bounds(self, positions: np.ndarray, variant: None = None, *, crop: bool = True) -> np.ndarray:
        """(B, 2) frames that hold speech; reads the files of an episode."""
        self._drawn = {position: self._computed(position) for position in positions.tolist()}
        return np.asarray([bounds if crop else (0, len(frames)) for frames, bounds in self._drawn.values()])

    def _computed(self, position: int) -> tuple[np.ndarray, tuple[int, int]]:
        path = self.bank.utterances[position].path
        found = computed(read(path, self.bank.front_end.rate_hz), path, self.bank.front_end)
        assert not isinstance(found, str)  # the bank has it
        return found[1], found[2]

    def n_frames(self, positions: np.ndarray, variant: None = None) -> np.ndarray:
        """(B,) frames of each clip."""
        return np.asarray([len(self._drawn[position][0]) for position in positions.tolist()])

    def padded(self, positions: np.ndarray, bounds: np.ndarray, variant: None = None) -> tuple[Tensor, Tensor]:
        """As ``Bank.padded``."""
        lengths = bounds[:, 1] - bounds[:, 0]
        out = np.zeros((len(positions), int(lengths.max()), self.bank.front_end.n_mels), np.float32)
        for row, (position, (start, end)) in enumerate(zip(positions.tolist(), bounds.tolist(), strict=True)):
            out[row, : end - start] = self._drawn[position][0][start:end]
        return torch.from_numpy(out), torch.from_numpy(lengths.astype(np.int64))


def drawing(experiment: Experiment, tasks: Tasks, step: int) -> dict[str, float]:
    """CPU seconds of drawing the episodes of one step from the bank and from files that were read just before."""
    files = replace(tasks, bank=FromFiles(tasks.bank))  # type: ignore[arg-type]
    apart = max(
        float((getattr(one, part).inputs - getattr(other, part).inputs).abs().max())
        for one, other in zip(
            training_episodes(experiment, files, step), training_episodes(experiment, tasks, step), strict=True
        )
        for part in ("support", "query")
    )
    stored = cpu_seconds(partial(training_episodes, experiment, tasks, step))
    return {"bank": stored, "files": cpu_seconds(partial(training_episodes, experiment, files, step)), "apart": apart}


def drawn(draws: Sequence[Mapping[str, float]], batch: int) -> dict[str, float]:
    """Means of ``drawing`` over some steps of ``batch`` episodes."""
    return {
        "episodes_measured": len(draws) * batch,
        "bank_cpu_s_per_step": statistics.fmean(one["bank"] for one in draws),
        "files_cpu_s_per_step": statistics.fmean(one["files"] for one in draws),
        "largest_difference": max(one["apart"] for one in draws),
    }
