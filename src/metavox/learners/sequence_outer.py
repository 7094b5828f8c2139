"""Outer rules for networks that spell: one step of joint training, or the meta-gradient of adapting to a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import InputError, Transcribed
from ..engine import Engine, Problem, UpdateRule
from ..engine.rule import LEARNED
from ..losses import ctc_loss
from .sequence import AUXILIARY, adapted_values, symbol_loss

Tree = tuple[Tensor, Tensor, Tensor, Tensor]
META = ("fomaml", "maml", "reptile", "meta_sgd")
"""Outer rules that adapt before they are judged."""


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


class MetaLearning:
    """Meta-gradients of a network under one update rule (see ``metavox.engine``).

    ``meta_sgd`` learns a step size for each value beside the network (Li et al. 2017, one for a tensor and a step, as
    Antoniou et al. 2019): they stand in ``step_sizes`` and get gradients of their own. Like ``fomaml`` it is of first
    order: the slope that a step goes down is a constant to the steps before it. Values that only training needs stay
    as they are in all of them.

    Raises:
        InputError: an unknown outer rule, a pattern that matches nothing.
    """

    def __init__(
        self,
        net: nn.Module,
        outer: str,
        n_steps: int,
        lr: float,
        adapts: Sequence[str] = ("*",),
        *,
        multi_step: bool = False,
        unit: bool = False,
        executor: str = "loop",
    ) -> None:
        if outer not in META:
            raise InputError(f"learning.outer is {outer!r}, which does not adapt; choose from {', '.join(META)}.")
        self.net, self.outer = net, outer
        values = adapted_values(net, adapts)
        names = tuple(values)
        self.step_sizes: dict[str, Tensor] = {}
        if outer == "meta_sgd":
            self.step_sizes = {
                LEARNED + name: value.new_full((n_steps, *(1,) * value.ndim), float(lr), requires_grad=False)
                for name, value in values.items()
            }
        rule = UpdateRule(n_steps, lr, names, 1.0 if outer == "maml" else 0.0, unit_gradient if unit else None)
        judged = "reptile" if outer == "reptile" else ("multi_step" if multi_step else "query")
        self.engine = Engine(self._problem(), rule, judged, executor)

    def gradient(self, episodes: Sequence[tuple[Transcribed, Transcribed]]) -> SequenceGrads:
        """The mean meta-gradient over tasks, support and query each; of the step sizes too."""
        values = {name: value for name, value in self.net.named_parameters() if not _auxiliary(name)}
        sizes = {name: value.requires_grad_() for name, value in self.step_sizes.items()}
        found = self.engine.gradient({**values, **sizes}, [(as_tree(s), as_tree(q)) for s, q in episodes])
        return SequenceGrads(dict(found.values), float(found.losses.mean()))

    def _problem(self) -> Problem:
        net = self.net

        def loss(model: Any, tree: Tree) -> Tensor:
            inputs, lengths, targets, target_lengths = tree
            scores = model(inputs, lengths)
            nll = ctc_loss(
                scores.transpose(0, 1), targets, net.out_lengths(lengths), target_lengths, reduction="sum",  # type: ignore[operator]
                zero_infinity=True,
            )  # fmt: skip
            return nll / target_lengths.sum()

        problem = Problem.of(net, loss)
        return Problem(problem.inner_loss, problem.outer_loss, module=net)


def unit_gradient(_: str, grad: Tensor) -> Tensor:
    """A gradient with a root mean square of 1: all values then move alike, as under AdamW, which adapts in use."""
    return grad * torch.rsqrt(grad.square().mean() + 1e-20)


def as_tree(batch: Transcribed) -> Tree:
    """A batch as the engine carries it."""
    return batch.inputs, batch.lengths, batch.targets, batch.target_lengths


def _auxiliary(name: str) -> bool:
    return any(name.startswith(pattern.removesuffix("*")) for pattern in AUXILIARY)
