"""Outer rules: how an episode, or several, becomes one gradient of the initialisation.

``Outer = (learner, task, episodes) -> Grads``; pure: no optimizer, no state.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log, nan

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..contracts import Batch, Episode, Grads, InputError, Output, Task
from ..losses import cross_entropy
from .classified import ClassifiedPrototypes
from .classifier import JointClassifier
from .gradient import GradientLearner
from .metric import Prototypes
from .sides import first_classes, joined
from .support_set import SupportSet
from .voiced import UNKNOWN, VoicedPrototypes


def query_loss(learner: nn.Module, task: Task, episodes: Sequence[Episode]) -> Grads:
    """Gradient of the mean query loss after adapting to the support (Finn et al. 2017, algorithm 1).

    What flows through ``adapt`` is the learner's affair: for first-order MAML the inner gradients are constants, for a
    metric learner everything is differentiated.
    """

    return _mean_gradient(learner, task, episodes, lambda episode: (_asked_once(learner, episode), episode.query))


def _asked_once(learner: nn.Module, episode: Episode) -> Output:
    return learner.predict(learner.adapt(episode.support), episode.query)  # type: ignore[operator]


def meta_gradient(learner: GradientLearner, task: Task, episodes: Sequence[Episode]) -> Grads:
    """Gradient of what the learner's outer rule asks after its inner loop, by the fastest way on this machine.

    With the outer rule ``query`` it is that of ``query_loss``. Reptile reports the support loss, and accuracy nowhere.
    """
    values, losses, scores = learner.meta_gradient(task, episodes)
    hits, n_items = 0.0, 0
    for episode, found in zip(episodes, scores, strict=True):
        if isinstance(found, torch.Tensor):
            hits += float(task.score(Output(found), episode.query).sum())
            n_items += len(episode.query)
    metrics = {"loss": float(torch.stack(losses).mean()), "accuracy": hits / n_items if n_items else nan}
    guessing = tuple(log(episode.query.n_classes) for episode in episodes)
    return Grads(values, metrics, tuple(float(loss) for loss in losses), guessing)


def leave_one_out(learner: Prototypes, task: Task, episodes: Sequence[Episode]) -> Grads:
    """Every clip of an episode is a query of the support without it; for prototypes.

    The same scores as ``adapt`` and ``predict`` give on each of these splits (a test holds them together), for one
    pass through the encoder and twice the queries of a fixed split. Where speakers are kept apart, the query alone is
    asked, as in ``query_loss``: nobody may be recognised by his own takes.
    """

    def forward(episode: Episode) -> tuple[Output, Batch]:
        if episode.draw.apart:
            return _asked_once(learner, episode), episode.query
        batch = joined(episode)
        return Output(learner.score_each(batch)), batch

    return _mean_gradient(learner, task, episodes, forward)


def in_turn(learner: SupportSet, task: Task, episodes: Sequence[Episode]) -> Grads:
    """Every clip of an episode is a query once, in the round of its place in its class; for sets of vectors.

    The mean over the splits of cross-validation, each with one clip of every class as the query and the rest as the
    support (a test holds them together), for one pass through the encoder. Unlike ``leave_one_out`` it leaves all
    classes of a split the same number of takes, so that a learned comparison cannot tell the right one by that. Where
    speakers are kept apart, the query alone is asked.
    """

    def forward(episode: Episode) -> tuple[Output, Batch]:
        if episode.draw.apart:
            return _asked_once(learner, episode), episode.query
        batch = joined(episode)
        return Output(learner.score_in_turn(batch)), batch

    return _mean_gradient(learner, task, episodes, forward)


def open_set(learner: SupportSet, task: Task, episodes: Sequence[Episode]) -> Grads:
    """As ``in_turn``, with the last third of the classes of each episode unknown (Kim et al. 2022, section 2.2).

    A score of 0 stands for refusing, the right answer to a clip of a class that was taken out. Classes are drawn in
    random order, so that each is taken out now and again.

    Raises:
        InputError: an episode with a single class.
    """

    def forward(episode: Episode) -> tuple[Output, Batch]:
        batch = episode.query if episode.draw.apart else joined(episode)
        if batch.n_classes < 2:
            raise InputError("a task has 1 class and none to take out; draw episodes.ways of 2 or more.")
        n_known = batch.n_classes - max(1, batch.n_classes // 3)
        if episode.draw.apart:
            found = learner.predict(learner.adapt(first_classes(episode.support, n_known)), batch).scores
        else:
            found = learner.score_in_turn(batch, n_known)
        scores = functional.pad(found, (0, 1))
        return Output(scores), replace(batch, labels=batch.labels.clamp_max(n_known), n_classes=n_known + 1)

    return _mean_gradient(learner, task, episodes, forward)


def leave_one_out_and_joint(learner: ClassifiedPrototypes, task: Task, episodes: Sequence[Episode]) -> Grads:
    """As ``leave_one_out``, and every clip is also told from all classes of training (Kye et al. 2020, equation 5).

    What is reported is the loss of the episodes alone.
    """
    beside: list[Tensor] = []

    def forward(episode: Episode) -> tuple[Output, Batch]:
        batch = joined(episode)
        scores, classes = learner.score_both(batch)
        ids = torch.from_numpy(episode.draw.class_ids).to(batch.labels)[batch.labels]
        beside.append(learner.base_weight * cross_entropy(classes, ids))
        if episode.draw.apart:
            return _asked_once(learner, episode), episode.query
        return Output(scores), batch

    return _mean_gradient(learner, task, episodes, forward, beside.pop)


def leave_one_out_and_voices(learner: VoicedPrototypes, task: Task, episodes: Sequence[Episode]) -> Grads:
    """As ``leave_one_out``, and every clip is also told from the other speakers by the second head.

    What is reported is the loss of the words alone.
    """
    beside: list[Tensor] = []

    def forward(episode: Episode) -> tuple[Output, Batch]:
        batch = joined(episode)
        positions = torch.from_numpy(np.concatenate([episode.draw.support, episode.draw.query]))
        unnamed = torch.full((len(batch),), UNKNOWN)
        scores, loss = learner.score_both(batch, learner.speakers[positions] if len(learner.speakers) else unnamed)
        beside.append(loss)
        if episode.draw.apart:
            return _asked_once(learner, episode), episode.query
        return Output(scores), batch

    return _mean_gradient(learner, task, episodes, forward, beside.pop)


def joint(learner: JointClassifier, task: Task, episodes: Sequence[Episode]) -> Grads:
    """Ordinary supervised training on all classes at once: the baseline that meta-learning has to beat.

    It sees the same clips as the other rules; the split into support and query means nothing to it.
    """

    def forward(episode: Episode) -> tuple[Output, Batch]:
        batch = joined(episode)
        ids = torch.from_numpy(episode.draw.class_ids).to(batch.labels)
        output = learner.classify(batch)
        return output, Batch(batch.inputs, batch.lengths, ids[batch.labels], output.scores.shape[1])

    return _mean_gradient(learner, task, episodes, forward)


def _mean_gradient(
    learner: nn.Module,
    task: Task,
    episodes: Sequence[Episode],
    forward: Callable[[Episode], tuple[Output, Batch]],
    beside: Callable[[], Tensor] | None = None,
) -> Grads:
    """Mean over episodes of the gradient of the task's loss; one graph at a time, so memory does not grow with them.

    ``beside`` gives what is asked apart from the task of the episode that was just put ``forward``.
    """
    parameters = {name: value for name, value in learner.named_parameters() if value.requires_grad}
    sums = {name: torch.zeros_like(value) for name, value in parameters.items()}
    losses, guessing = [], []
    hits, n_items = 0.0, 0
    for episode in episodes:
        output, target = forward(episode)
        loss = task.loss(output, target)
        whole = loss if beside is None else loss + beside()
        grads = torch.autograd.grad(whole, list(parameters.values()), allow_unused=True)
        for name, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                sums[name] += grad / len(episodes)
        losses.append(float(loss.detach()))
        guessing.append(log(target.n_classes))
        hits += float(task.score(output, target).sum())
        n_items += len(target)
    metrics = {"loss": sum(losses) / len(episodes), "accuracy": hits / n_items}
    return Grads(sums, metrics, tuple(losses), tuple(guessing))
