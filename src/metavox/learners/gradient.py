"""Learners that adapt by gradient: MAML and its kin, and fine-tuning, which is the same thing without meta-training."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..contracts import Batch, Encoder, Episode, InputError, Output, State, Task
from ..engine import Engine, Problem, UpdateRule
from ..engine.inner import first, inner_steps, support_loss
from ..engine.outers import Implicit, Outer, outer_of
from ..losses import cross_entropy
from ..nets.heads import prototype_head, segment_means
from .classifier import ENCODER, HEAD, N_SEGMENTS, JointClassifier, clip_vectors, head_scores, unit

Tree = tuple[Tensor, ...]
"""A batch as the engine carries it: inputs, or vectors where the encoder is fixed; labels; lengths unless all full."""


class GradientLearner(JointClassifier):
    """Adapt encoder and head by ``n_steps`` of gradient descent on the support loss (Finn et al. 2017).

    The head is built from the support set as in Proto-MAML (Triantafillou et al. 2020), so any number of words and of
    takes will do. A state holds the values that the inner loop may change, and no others: with ``adapts="head"``
    (ANIL, Raghu et al. 2020) the encoder stays fixed.

    Meta-training is the engine's (see ``meta_gradient``), and its inner loop is the one of ``adapt``.

    Args:
        adapts: ``all``, ``head``, or patterns of the names that change, as ``fnmatch`` has them: ``head.*``.
        order: share of the second derivative in the meta-gradient, 0 for first-order MAML, 1 for MAML.
        anneal: shares of training between which the order rises from 0 to ``order``; None for no rise.
        outer: what judges the inner loop, see ``engine.Engine``.
        executor: how meta-gradients are computed, see ``engine.Engine``.
    """

    fixed_ways = False

    def __init__(
        self,
        encoder: Encoder,
        n_steps: int = 5,
        lr: float = 0.05,
        adapts: str | Sequence[str] = "all",
        order: float = 0.0,
        anneal: tuple[float, float] | None = None,
        outer: str | Outer = "query",
        executor: str = "auto",
        n_base_classes: int = 0,
    ) -> None:
        super().__init__(encoder, n_base_classes)
        patterns = ("*",) if isinstance(adapts, str) else tuple(adapts)
        self.rule = UpdateRule(n_steps, lr, patterns, order)
        self.outer, self.executor, self.anneal = outer_of(outer, n_steps), executor, anneal
        self.adapts_body = adapts != "head"
        known = [name for name, _ in self.named_parameters() if name.startswith(ENCODER)] if self.adapts_body else []
        moving = self.rule.adapted([*known, *HEAD])
        self._moving = tuple(name for name in moving if name not in HEAD)
        self.order = 0.0 if anneal else order
        self.chosen: dict[str, Any] = {}
        """Executors that were chosen, by what they were chosen for; set before training to have the same again."""
        self._engines: dict[Any, Engine] = {}

    # ---------------------------------------------------------------------------------------------------- two verbs

    def vectors(self, batch: Batch, state: State | None = None) -> Tensor:
        """Vectors (B, N_SEGMENTS D) of the learned length; the encoder takes values of ``state``."""
        return self.scaled(clip_vectors(self.encoder, batch, state))

    def initial(self, support: Batch) -> State:
        """The state of zero steps: the encoder as it is and a head built from the support set."""
        return next(self.trajectory(support))

    def trajectory(self, support: Batch) -> Iterator[State]:
        """The state before the first inner step and after each.

        Raises:
            InputError: values that are not finite after a step, where gradients are off.
        """
        problem = self.problem(None, support.n_classes)
        values: State = dict(self.named_parameters())
        tree: Any = as_tree(support)
        if problem.body is not None:
            tree = problem.body(values, tree)
        start = first(problem, self.rule, values, tree)
        prox = self.outer.prox if isinstance(self.outer, Implicit) else 0.0
        order = self.order if torch.is_grad_enabled() else 0.0
        loss = support_loss(problem, values, start, tree, order, prox)
        for index, state in enumerate(inner_steps(loss, start, self.rule, order=order)):
            if not torch.is_grad_enabled() and not all(bool(value.isfinite().all()) for value in state.values()):
                raise InputError(
                    f"inner step {index} of {self.rule.n_steps} led to values that are not finite; lower "
                    f"learner.inner_lr, which is {self.rule.lr}."
                )
            yield state

    def adapt(self, support: Batch) -> State:
        return deque(self.trajectory(support), maxlen=1).pop()

    def predict(self, state: State, query: Batch) -> Output:
        return Output(head_scores(self.vectors(query, state), state))

    # ------------------------------------------------------------------------------------------------ meta-training

    def progress(self, share: float) -> None:
        """Say which share of training is over: the order follows ``anneal``."""
        if self.anneal:
            start, end = self.anneal
            self.order = self.rule.order * min(1.0, max(0.0, (share - start) / max(end - start, 1e-9)))

    def meta_gradient(
        self, task: Task, episodes: Sequence[Episode]
    ) -> tuple[dict[str, Tensor], list[Tensor], list[Any]]:
        """Mean meta-gradient by parameter name, and of each episode the outer loss and the scores of its query.

        Reptile asks no query: where scores would be it has ().

        Raises:
            InputError: an episode with a single class.
        """
        values: State = {name: value for name, value in self.named_parameters() if value.requires_grad}
        total = {name: torch.zeros_like(value) for name, value in values.items()}
        losses: list[Any] = [None] * len(episodes)
        scores: list[Any] = [None] * len(episodes)
        groups: dict[int, list[int]] = {}
        for position, episode in enumerate(episodes):
            if episode.support.n_classes < 2:
                raise InputError("a task has 1 class and nothing to tell apart; draw episodes.ways of 2 or more.")
            groups.setdefault(episode.support.n_classes, []).append(position)
        for n_classes, positions in groups.items():
            engine = self._engine(task, n_classes)
            pairs = [(as_tree(episodes[i].support), as_tree(episodes[i].query)) for i in positions]
            found = engine.gradient(values, pairs, order=self.order)
            for name, grad in found.values.items():
                total[name] += grad * (len(positions) / len(episodes))
            for i, loss, extra in zip(positions, found.losses, found.extras, strict=True):
                losses[i], scores[i] = loss, extra
        return total, losses, scores

    def problem(self, task: Task | None, n_classes: int) -> Problem:
        """Adapting to a task of ``n_classes`` as pure functions; without a ``task`` there is no outer loss."""
        own = dict(self.named_parameters())

        def clip(values: Mapping[str, Tensor], tree: Tree) -> Tensor:
            inputs, _, *rest = tree
            lengths = rest[0] if rest else torch.full((len(inputs),), inputs.shape[1], device=inputs.device)
            known = {name[len(ENCODER) :]: values.get(name, own[name]) for name in own if name.startswith(ENCODER)}
            assert isinstance(self.encoder, nn.Module)
            frames = functional_call(self.encoder, known, (inputs, lengths))
            vectors = segment_means(frames, self.encoder.out_lengths(lengths), N_SEGMENTS)
            return values.get("log_scale", own["log_scale"]).exp() * unit(vectors)

        def body(values: State, tree: Tree) -> Tree:
            return clip(values, tree), tree[1]

        def vectors(values: State, fast: State, tree: Tree) -> Tensor:
            return clip({**values, **fast}, tree) if self.adapts_body else tree[0]

        def initial(values: State, support: Tree) -> State:
            head = prototype_head(vectors(values, {}, support), support[1], n_classes)
            return {**{name: values[name] for name in self._moving}, **dict(zip(HEAD, head, strict=True))}

        def inner(values: State, fast: State, support: Tree) -> Tensor:
            return cross_entropy(head_scores(vectors(values, fast, support), fast), support[1])

        def outer(values: State, fast: State, query: Tree) -> tuple[Tensor, Tensor]:
            assert task is not None
            output = Output(head_scores(vectors(values, fast, query), fast))
            return task.loss(output, Batch(query[0], query[1], query[1], n_classes)), output.scores

        return Problem(inner, outer, initial, None if self.adapts_body else body, self)

    def _engine(self, task: Task, n_classes: int) -> Engine:
        key = (type(task), n_classes)
        if key not in self._engines:
            self._engines[key] = Engine(
                self.problem(task, n_classes), self.rule, self.outer, self.executor, chosen=self.chosen
            )
        return self._engines[key]


def as_tree(batch: Batch) -> Tree:
    """Inputs, labels, and lengths unless every item fills its window."""
    if bool((batch.lengths == batch.inputs.shape[1]).all()):
        return batch.inputs, batch.labels
    return batch.inputs, batch.labels, batch.lengths
