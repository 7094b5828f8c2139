"""Learners that adapt by gradient: MAML and its kin, and fine-tuning, which is the same thing without meta-training."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..contracts import Batch, Encoder, Episode, InputError, Output, State, Task
from ..engine import Engine, MultiStep, Problem, UpdateRule
from ..engine.inner import first, inner_steps, support_loss
from ..engine.outers import Implicit, Outer, Reptile, outer_of
from ..losses import balanced_cross_entropy
from ..nets.heads import segment_means
from .adapted import CONTEXT, PATTERNS, Adapted
from .class_head import ALIKE, ClassHead
from .classifier import HEAD, N_SEGMENTS, JointClassifier, head_scores, unit
from .sides import joined
from .update import STEERING, LearnedUpdate

Tree = tuple[Tensor, ...]
"""A batch as the engine carries it: inputs, or vectors where the encoder is fixed; labels; lengths unless all full."""


class GradientLearner(JointClassifier):
    """Adapt encoder and head by ``n_steps`` of gradient descent on the support loss (Finn et al. 2017).

    Each class of a support set counts alike in that loss, however many takes it has.
    A state holds the values that the inner loop may change, a head that the support set says something about, and no
    others: with ``adapts="head"`` (ANIL, Raghu et al. 2020) the encoder stays fixed. A head of prototypes stays as it
    was built where only the encoder moves (BOIL, Oh et al. 2021), since one that began alike for all classes could not
    tell them apart then. Where a context moves (CAVIA) it is built anew from the support set with the context of each
    moment: the vectors of queries, which hear that context too, are compared with class means among which they belong.

    Meta-training is the engine's (see ``meta_gradient``), and its inner loop is the one of ``adapt``.

    Args:
        adapts: see ``adapted.Adapted``, or patterns of the names that change, as ``fnmatch`` has them: ``head.*``.
        order: share of the second derivative in the meta-gradient, 0 for first-order MAML, 1 for MAML.
        anneal: shares of training between which the order rises from 0 to ``order``; None for no rise.
        outer: what judges the inner loop, see ``engine.Engine``; or ``annealed``, a multi-step loss whose weights go
            from all alike to the last alone in the course of training.
        executor: how meta-gradients are computed, see ``engine.Engine``.
        head: what the head begins with, see ``class_head.ClassHead``, and for how many ``ways`` if that is fixed.
        step_sizes, curvature: what is learned of an inner step, see ``update.LearnedUpdate``.
        rank: of the changes of ``lora``.

    Raises:
        InputError: an encoder without what is to adapt, a head that could never tell classes apart.
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
        *,
        head: str = "prototypes",
        ways: int = 0,
        step_sizes: str = "given",
        curvature: bool = False,
        rank: int = 4,
    ) -> None:
        super().__init__(encoder, n_base_classes)
        self.adapted = Adapted(encoder, adapts, rank)
        self.head = ClassHead(head, N_SEGMENTS * encoder.dim, ways)
        self.fixed_ways, self.ways = head == "fixed", ways
        patterns = PATTERNS[adapts] if isinstance(adapts, str) else tuple(adapts)
        self.rule = UpdateRule(n_steps, lr, patterns, order, reads=STEERING)
        moving = self._moves()
        self.adapts_body = self.adapted.changes_encoder
        self._encoder_stays = not self.adapts_body and CONTEXT not in moving
        self.update = LearnedUpdate(moving, n_steps, step_sizes, curvature)
        if self.update.learns:
            self.rule = UpdateRule(n_steps, lr, patterns, order, self.update.change, STEERING)
        if head in ALIKE and (HEAD[0] not in moving or not n_steps):
            raise InputError(
                f"learner.head is {head}, learner.adapts {adapts} and learner.inner_steps {n_steps}: what begins alike "
                "for all classes and stays so tells none apart; set learner.head to prototypes, or let it move."
            )
        self.annealed = outer == "annealed"
        self.outer = outer_of("multi_step" if outer == "annealed" else outer, n_steps)
        self.executor, self.anneal = executor, anneal
        self.order = 0.0 if anneal else order
        self.judge = self.outer
        self.chosen: dict[str, Any] = {}
        """Executors that were chosen, by what they were chosen for; set before training to have the same again."""
        self._engines: dict[Any, Engine] = {}

    def _moves(self) -> dict[str, tuple[int, ...]]:
        """Shapes of what the inner loop moves, by name; settles what a state holds."""
        values = dict(self.named_parameters())
        shapes = {name: tuple(value.shape) for name, value in self.adapted.start(values).items()}
        shapes |= self.head.shapes()
        moving = self.rule.adapted(shapes)
        self.adapted.only(moving)
        # A fixed head that stays is no part of a state, nor one of the inner loop that is built anew after each step.
        self._head_adapts = self.head.kind != "fixed" or any(name in moving for name in HEAD)
        self._head_follows = CONTEXT in moving and self.head.kind == "prototypes"
        return {name: shapes[name] for name in moving}

    # ---------------------------------------------------------------------------------------------------- two verbs

    def vectors(self, batch: Batch, state: State | None = None) -> Tensor:
        """Vectors (B, N_SEGMENTS D) of the learned length; the encoder takes values of ``state``."""
        return self._vectors(dict(self.named_parameters()), state or {}, batch.inputs, batch.lengths)

    def initial(self, support: Batch) -> State:
        """The state of zero steps: the encoder as it is and a head as it begins."""
        return next(self.trajectory(support))

    def trajectory(self, support: Batch) -> Iterator[State]:
        """The state before the first inner step and after each.

        Raises:
            InputError: values that are not finite after a step, where gradients are off; other ways than a fixed head
                has.
        """
        problem = self.problem(None, self._ways_of(support))
        values: State = dict(self.named_parameters())
        tree: Any = as_tree(support)
        if problem.body is not None:
            tree = problem.body(values, tree)
        start = first(problem, self.rule, values, tree)
        prox = self.outer.prox if isinstance(self.outer, Implicit) else 0.0
        order = self.order if torch.is_grad_enabled() else 0.0
        loss = support_loss(problem, values, start, tree, order, prox)
        for index, fast in enumerate(inner_steps(loss, start, self.rule, values, order)):
            state = fast
            if self._head_follows:
                takes = partial(self._seen, values, fast, tree)
                state = {**fast, **self.head.start(values, takes, support.labels, support.n_classes)}
            if not torch.is_grad_enabled() and not all(bool(value.isfinite().all()) for value in state.values()):
                raise InputError(
                    f"inner step {index} of {self.rule.n_steps} led to values that are not finite; lower "
                    f"learner.inner_lr, which is {self.rule.lr}."
                )
            yield state

    def adapt(self, support: Batch) -> State:
        return deque(self.trajectory(support), maxlen=1).pop()

    def predict(self, state: State, query: Batch) -> Output:
        return Output(head_scores(self.vectors(query, state), {**dict(self.named_parameters()), **state}))

    def _ways_of(self, batch: Batch) -> int:
        if self.fixed_ways and batch.n_classes != self.ways:
            raise InputError(
                f"a task has {batch.n_classes} classes and the head of this learner is fixed at {self.ways}; give it "
                f"tasks of {self.ways} ways, or train a learner of any number, such as maml."
            )
        return batch.n_classes

    # ------------------------------------------------------------------------------------------------ meta-training

    def progress(self, share: float) -> None:
        """Say which share of training is over: the order follows ``anneal``, annealed weights go to the last step."""
        if self.annealed and isinstance(self.outer, MultiStep):
            n, share = len(self.outer.weights), min(1.0, max(0.0, share))
            early = (1 - share) / n
            self.judge = MultiStep((*(early,) * (n - 1), 1 - (n - 1) * early))
        if self.anneal:
            start, end = self.anneal
            self.order = self.rule.order * min(1.0, max(0.0, (share - start) / max(end - start, 1e-9)))

    def meta_gradient(
        self, task: Task, episodes: Sequence[Episode]
    ) -> tuple[dict[str, Tensor], list[Tensor], list[Any]]:
        """Mean meta-gradient by parameter name, and of each episode the outer loss and the scores of its query.

        Reptile asks no query, so that all takes of an episode are its support (Nichol et al. 2018, section 4: no split
        is needed): where scores would be it has ().

        Raises:
            InputError: an episode with a single class, or other ways than a fixed head has.
        """
        values: State = {name: value for name, value in self.named_parameters() if value.requires_grad}
        total = {name: torch.zeros_like(value) for name, value in values.items()}
        losses: list[Any] = [None] * len(episodes)
        scores: list[Any] = [None] * len(episodes)
        groups: dict[int, list[int]] = {}
        for position, episode in enumerate(episodes):
            if episode.support.n_classes < 2:
                raise InputError("a task has 1 class and nothing to tell apart; draw episodes.ways of 2 or more.")
            groups.setdefault(self._ways_of(episode.support), []).append(position)
        for n_classes, positions in groups.items():
            engine = self._engine(task, n_classes)
            whole = isinstance(self.outer, Reptile)
            pairs = [
                self._pair(replace(e, support=joined(e)) if whole else e) for e in (episodes[i] for i in positions)
            ]
            judge = self.judge if self.annealed and isinstance(self.judge, MultiStep) else None
            found = engine.gradient(values, pairs, self.order, judge)
            for name, grad in found.values.items():
                total[name] += grad * (len(positions) / len(episodes))
            for i, loss, extra in zip(positions, found.losses, found.extras, strict=True):
                losses[i], scores[i] = loss, extra
        return total, losses, scores

    def problem(self, task: Task | None, n_classes: int) -> Problem:
        """Adapting to a task of ``n_classes`` as pure functions; without a ``task`` there is no outer loss."""
        own: State = dict(self.named_parameters())  # what is frozen stands in no values

        def body(values: State, tree: Tree) -> Tree:
            return self._seen({**own, **values}, {}, tree), tree[1]

        def vectors(values: State, fast: State, tree: Tree) -> Tensor:
            return tree[0] if self._encoder_stays else self._seen({**own, **values}, fast, tree)

        def initial(values: State, support: Tree) -> State:
            known = {**own, **values}
            start = self.adapted.start(known)
            if self._head_follows or not self._head_adapts:
                return start
            return {**start, **self.head.start(known, lambda: vectors(values, {}, support), support[1], n_classes)}

        def scores(values: State, fast: State, seen: Tensor, takes: Tensor, labels: Tensor) -> Tensor:
            built = self.head.start({}, lambda: takes, labels, n_classes) if self._head_follows else {}
            return head_scores(seen, {**own, **values, **fast, **built})

        def inner(values: State, fast: State, support: Tree) -> Tensor:
            seen = vectors(values, fast, support)
            return balanced_cross_entropy(scores(values, fast, seen, seen, support[1]), support[1])

        def outer(values: State, fast: State, query: Any) -> tuple[Tensor, Tensor]:
            assert task is not None
            asked, support = query if self._head_follows else (query, query)
            seen = vectors(values, fast, asked)
            takes = vectors(values, fast, support) if self._head_follows else seen
            output = Output(scores(values, fast, seen, takes, support[1]))
            heard = asked[0][:, None] if self._encoder_stays else asked[0]  # a vector is a window of one frame
            return task.loss(output, Batch(heard, asked[1], asked[1], n_classes)), output.scores

        return Problem(inner, outer, initial, body if self._encoder_stays else None, self)

    def _seen(self, values: Mapping[str, Tensor], fast: State, tree: Tree) -> Tensor:
        """Vectors of a batch as the engine carries it."""
        inputs, _, *rest = tree
        lengths = rest[0] if rest else torch.full((len(inputs),), inputs.shape[1], device=inputs.device)
        return self._vectors(values, fast, inputs, lengths)

    def _vectors(self, values: Mapping[str, Tensor], fast: State, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Vectors of the learned length with all that is learned, and what a task has adapted of it."""
        assert isinstance(self.encoder, nn.Module)
        weights, heard = self.adapted.entering(values, fast)
        frames = functional_call(self.encoder, weights, (inputs, lengths, *heard))
        return values["log_scale"].exp() * unit(segment_means(frames, self.encoder.out_lengths(lengths), N_SEGMENTS))

    def _pair(self, episode: Episode) -> tuple[Any, Any]:
        """Support and query as the engine carries them; the query beside the support where the head is built anew."""
        support, query = as_tree(episode.support), as_tree(episode.query)
        return support, (query, support) if self._head_follows else query

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
