"""Outer rules for networks that spell: one step of joint training, or the meta-gradient of adapting to a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import InputError, State, Transcribed
from ..engine import Engine, Implicit, MultiStep, Reptile, UpdateRule
from ..engine.outers import Outer
from ..engine.rule import LEARNED
from .sequence import AUXILIARY, symbol_loss
from .sequence_problem import Start, as_tree, problem_of

META = ("fomaml", "maml", "reptile", "meta_sgd", "maml_plus_plus", "imaml")
"""Outer rules that adapt before they are judged."""
WITH_STEP_SIZES = ("meta_sgd", "maml_plus_plus")
"""Those that learn how far a step goes."""
SECOND_ORDER = ("maml", "meta_sgd", "maml_plus_plus")
_NO_SLOPE = 1e-8
"""Root mean square of a gradient that counts as none, which AdamW too adds to its own."""


@dataclass(frozen=True)
class SequenceGrads:
    """A gradient by name, and the loss it belongs to, in nats a symbol."""

    values: dict[str, Tensor]
    loss: float
    phone_loss: float | None = None


def joint_gradient(
    net: nn.Module,
    batch: Transcribed,
    phones: tuple[Tensor, Tensor] | None,
    phone_weight: float,
    generator: torch.Generator | None,
    encoding: Tensor | None = None,
) -> SequenceGrads:
    """The gradient of ordinary training: symbols, and phones where they are known, both by CTC."""
    lengths = net.out_lengths(batch.lengths)  # type: ignore[operator]
    heard = None if phones is None else phones[1] > 0
    if phones is None or not phone_weight or heard is None or not bool(heard.any()):
        loss = total = symbol_loss(net(batch.inputs, batch.lengths, encoding, generator), batch, lengths)
        phone_loss = None
    else:
        scores, spoken = net.with_phones(  # type: ignore[operator]
            batch.inputs, batch.lengths, encoding, generator
        )
        loss = symbol_loss(scores, batch, lengths)
        known = Transcribed(batch.inputs[heard], batch.lengths[heard], phones[0][heard], phones[1][heard])
        part = symbol_loss(spoken[heard], known, lengths[heard])
        total, phone_loss = loss + phone_weight * part, float(part.detach())
    parameters = dict(net.named_parameters())
    grads = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    values = {name: grad for name, grad in zip(parameters, grads, strict=True) if grad is not None}
    return SequenceGrads(values, float(loss.detach()), phone_loss)


@dataclass(frozen=True)
class Inner:
    """What the inner loop changes, and how.

    Raises:
        InputError: a share outside 0 to 1 or out of order, a rank below 0.
    """

    adapts: tuple[str, ...] = ("*",)
    """Patterns of the names that change."""
    rank: int = 0
    """Change weights by products of this rank (Hu et al. 2021, LoRA), 0 for whole values."""
    encoding: Start = "none"
    """What the encoding that the blocks hear begins with, which then changes too (Zintgraf et al. 2019, CAVIA)."""
    multi_step: bool = False
    """Judge by the query loss after every step, all alike."""
    unit: bool = False
    """Take the length from the gradient of each value."""
    anneal: tuple[float, float] = (0.3, 0.6)
    """Shares of meta-training between which ``maml_plus_plus`` goes from first to second order, and from judging every
    step to judging the last (Antoniou et al. 2019, sections 4.1 and 4.2)."""
    prox: float = 1.0
    """How strongly the inner loop of ``imaml`` is held to where it began."""
    n_iterations: int = 3
    """Conjugate gradients of ``imaml``."""

    def __post_init__(self) -> None:
        first, last = self.anneal
        if not 0 <= first <= last <= 1 or self.rank < 0:
            raise InputError(
                f"learning.anneal goes from {first:g} to {last:g} and learning.rank is {self.rank}; give shares of 0 "
                "to 1 in their order, and a rank of 0 or more."
            )


class MetaLearning:
    """Meta-gradients of a network under one update rule (see ``metavox.engine``).

    ``meta_sgd`` learns step sizes beside the network, one for each number that adapts (Li et al. 2017): they stand in
    ``step_sizes`` and get gradients of their own. ``maml_plus_plus`` learns one for each tensor and step, and what it
    asks for follows ``progress`` (Antoniou et al. 2019). ``imaml`` asks for the gradient at the end of the inner loop,
    whatever led there, which must be near its optimum (Rajeswaran et al. 2019). Values that only training needs stay as
    they are in all.

    Raises:
        InputError: an unknown outer rule, a pattern that matches nothing, nothing that changes, or Reptile where what
            changes is no part of the network.
    """

    def __init__(
        self, net: nn.Module, outer: str, n_steps: int, lr: float, inner: Inner | None = None, *, executor: str = "loop"
    ) -> None:
        if outer not in META:
            raise InputError(f"learning.outer is {outer!r}, which does not adapt; choose from {', '.join(META)}.")
        self.net, self.outer, self.inner, self.executor = net, outer, inner or Inner(), executor
        self.problem, moving = problem_of(net, self.inner.adapts, self.inner.rank, self.inner.encoding)
        if outer == "reptile" and self.problem.initial is not None:
            raise InputError(
                "learning.outer is reptile, which moves what was adapted, and here that is no part of the network; "
                "set learning.rank to 0 and learning.encoding to none, or choose fomaml."
            )
        self.step_sizes: dict[str, Tensor] = {}
        if outer in WITH_STEP_SIZES:
            self.step_sizes = {
                LEARNED + name: value.detach().new_full(
                    value.shape if outer == "meta_sgd" else (n_steps, *(1,) * value.ndim), float(lr)
                )
                for name, value in moving.items()
            }
        unit = unit_gradient if self.inner.unit else None
        self.rule = UpdateRule(n_steps, lr, tuple(moving), 1.0 if outer in SECOND_ORDER else 0.0, unit)
        self.share = 1.0
        self._engines: dict[Outer | str, Engine] = {}

    def progress(self, share: float) -> None:
        """Say which share of meta-training is over, 0 to 1; as if all of it where nobody says."""
        self.share = min(1.0, max(0.0, share))

    def gradient(
        self, episodes: Sequence[tuple[Transcribed, Transcribed]], generator: torch.Generator | None = None
    ) -> SequenceGrads:
        """The mean meta-gradient over tasks, support and query each; of the step sizes too.

        ``generator`` draws what dropout leaves out of each query, the same however often that is judged; without one
        nothing is. Supports are heard whole. The executors ``loop`` and ``recursion`` can do so.
        """
        values: State = {name: value for name, value in self.net.named_parameters() if not _auxiliary(name)}
        sizes = {name: value.requires_grad_() for name, value in self.step_sizes.items()}
        seeds: Sequence[Tensor | None] = [None] * len(episodes)
        if generator is not None:
            seeds = torch.randint(2**62, (len(episodes),), generator=generator).unbind()
        tasks = [(as_tree(s), as_tree(q, seed)) for (s, q), seed in zip(episodes, seeds, strict=True)]
        found = self._engine().gradient({**values, **sizes}, tasks, order=self._order())
        return SequenceGrads(dict(found.values), float(found.losses.mean()))

    def _engine(self) -> Engine:
        """That of what is asked now; one is made anew where that has changed."""
        asked = self._asked()
        if asked not in self._engines:
            self._engines = {asked: Engine(self.problem, self.rule, asked, self.executor)}
        return self._engines[asked]

    def _asked(self) -> Outer | str:
        if self.outer == "reptile":
            return Reptile()
        if self.outer == "imaml":
            return Implicit(self.inner.prox, self.inner.n_iterations)
        if self.outer == "maml_plus_plus" and self.rule.n_steps:
            return MultiStep(annealed_weights(self.rule.n_steps, self._annealed()))
        return "multi_step" if self.inner.multi_step else "query"

    def _order(self) -> float:
        return self._annealed() if self.outer == "maml_plus_plus" else self.rule.order

    def _annealed(self) -> float:
        first, last = self.inner.anneal
        return float(self.share >= last) if first == last else min(1.0, max(0.0, (self.share - first) / (last - first)))


def annealed_weights(n_steps: int, share: float) -> tuple[float, ...]:
    """Weights of the query losses after each step: alike at share 0, of the last step alone at share 1."""
    others = (1 - share) / n_steps
    return (*(others,) * (n_steps - 1), 1 - others * (n_steps - 1))


def unit_gradient(_: str, grad: Tensor, *seen: Any) -> Tensor:
    """A gradient with a root mean square of 1: all values then move alike, as under AdamW, which adapts in use.

    One of nothing (below 1e-8) is left as it is: it has no direction, and to lengthen it would lengthen its own slope
    as much. New adapters begin there, since zeros behind them let no gradient through.
    """
    square = grad.square().mean()
    return grad * torch.where(square > _NO_SLOPE**2, square, 1.0).rsqrt()


def _auxiliary(name: str) -> bool:
    return any(name.startswith(pattern.removesuffix("*")) for pattern in AUXILIARY)
