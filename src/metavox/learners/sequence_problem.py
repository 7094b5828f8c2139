"""What a network that spells adapts to a task, as pure functions for the engine: its values, or less than those."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from ..contracts import InputError, State, Transcribed
from ..engine import Problem
from ..losses import ctc_loss
from .low_rank import factors, merged
from .sequence import ENCODING, HEAD, adapted_values, silence

Tree = tuple[Tensor, ...]
"""Inputs, lengths, targets and their lengths; where only the head adapts, what it reads and how much of it. A query may
have a seed behind them, the same for each item: that of what dropout leaves out."""
_HEARD_WHOLE = 4
"""Tensors of a batch without a seed."""
Start = Literal["none", "zero", "support"]
"""What the encoding that is adapted begins with: none is, zeros, or what the support set sounds like."""


def problem_of(net: nn.Module, adapts: Sequence[str], rank: int, encoding: Start) -> tuple[Problem, State]:
    """Adapting ``net`` to a task, and what the inner loop changes, by name.

    Whole values begin as they are; their factors (``rank`` above 0) and the encoding begin anew in every task, so that
    what is learned is a network to be adapted that way. Where only the head changes, the body hears every utterance
    once (Raghu et al. 2020, ANIL).

    Raises:
        InputError: a pattern that matches nothing, nothing that changes, a network that hears no encoding.
    """
    whole = adapted_values(net, adapts)
    moving = dict(factors(whole, rank)) if rank else dict(whole)
    if encoding != "none":
        moving[ENCODING] = silence(net)
    if not moving:
        raise InputError("learning.adapts names no value that changes; name some, or set learning.encoding.")
    if set(moving) <= set(HEAD):
        return _of_head(net), moving
    if not rank and encoding == "none":
        return Problem(*_losses(net), module=net), moving
    listening = _Listening(net)

    def initial(values: State, support: Tree) -> State:
        start = {name: values[name] if name in whole else value for name, value in moving.items()}
        if encoding == "support":
            own = {f"net.{name}": values[name] for name, _ in net.named_parameters() if name in values}
            start[ENCODING] = functional_call(listening, own, (support[0], support[1]))
        return start

    return Problem(*_losses(net), initial, module=net), moving


def as_tree(batch: Transcribed, seed: Tensor | None = None) -> Tree:
    """A batch as the engine carries it."""
    tree = batch.inputs, batch.lengths, batch.targets, batch.target_lengths
    return tree if seed is None else (*tree, seed.expand(len(batch)))


def _dropping(tree: Tree) -> torch.Generator | None:
    """What draws dropout for a batch, from its start each time; None where nothing is left out."""
    return torch.Generator().manual_seed(int(tree[-1][0])) if len(tree) > _HEARD_WHOLE else None


def _losses(net: nn.Module) -> tuple[Any, Any]:
    """Inner and outer loss of a network whose values, factors and encoding are those of ``fast`` where it has them."""
    names = {name for name, _ in net.named_parameters()}

    def inner(values: State, fast: State, tree: Tree) -> Tensor:
        inputs, lengths, targets, target_lengths = tree[:_HEARD_WHOLE]
        own = {**{name: value for name, value in values.items() if name in names}, **fast}
        encoding = own.pop(ENCODING, None)
        scores = functional_call(net, merged(own, own), (inputs, lengths, encoding, _dropping(tree)))
        return nats(scores, net.out_lengths(lengths), targets, target_lengths)  # type: ignore[operator]

    return inner, lambda values, fast, tree: (inner(values, fast, tree), ())


def _of_head(net: nn.Module) -> Problem:
    """Adapting the head alone, on what it reads of each utterance."""
    reading = _Reading(net)
    names = {name for name, _ in net.named_parameters()}

    def body(values: State, tree: Tree) -> Tree:
        inputs, lengths, *rest = tree[:_HEARD_WHOLE]
        own = {f"net.{name}": value for name, value in values.items() if name in names}
        frames = functional_call(reading, own, (inputs, lengths, _dropping(tree)))
        return (frames, net.out_lengths(lengths), *rest)  # type: ignore[operator]

    def inner(values: State, fast: State, tree: Tree) -> Tensor:
        frames, lengths, targets, target_lengths = tree
        weight, bias = ({**values, **fast}[name] for name in HEAD)
        return nats(functional.linear(frames, weight, bias).log_softmax(-1), lengths, targets, target_lengths)

    return Problem(inner, lambda values, fast, tree: (inner(values, fast, tree), ()), body=body, module=net)


def nats(scores: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """CTC that can be differentiated twice, nats a symbol; a text that does not fit into its audio counts nothing."""
    nll = ctc_loss(scores.transpose(0, 1), targets, lengths, target_lengths, reduction="sum", zero_infinity=True)
    return nll / target_lengths.sum()


class _Listening(nn.Module):
    """The encoding of a support set as a module's call, which other values can be put into."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        return self.net.encoding(inputs, lengths)  # type: ignore[operator]


class _Reading(nn.Module):
    """What the head reads, likewise."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor, lengths: Tensor, generator: torch.Generator | None) -> Tensor:
        hidden, _ = self.net.hidden(inputs, lengths, None, generator)  # type: ignore[operator]
        return self.net.before_head(hidden)  # type: ignore[operator]
