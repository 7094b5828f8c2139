"""Learners that spell: networks from frames to symbols, adapted to a support set of transcribed utterances.

The same two verbs as everywhere. ``adapt`` takes the whole support set as one padded batch and gives the values it has
changed; ``predict`` gives log probabilities of symbols with lengths. Nothing here knows speech: what may be changed in
a batch without changing its texts is a function that is handed in.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import cos, inf, pi
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from ..contracts import InputError, Output, State, Transcribed
from ..losses import ctc_loss
from .low_rank import factors, merged, owner

Change = Callable[[Transcribed, torch.Generator], Transcribed]
"""The same texts otherwise said: by other speakers, in other rooms."""

HEAD = ("head.weight", "head.bias")
AUXILIARY = ("phone_widen.*", "phone_head.*")
"""Values that only training needs."""
_LISTENING = "encode.*"
"""Values that made the encoding, which is there when adapting begins."""
ENCODING = "encoding"
"""Name of the support set's encoding in a state; it is no value of the network."""


@dataclass(frozen=True)
class Tuning:
    """How a network is fine-tuned.

    Raises:
        InputError: fewer than 0 steps or ranks, a share outside 0 to below 1, a step size or a batch of nothing.
    """

    steps: int = 300
    lr: float = 3e-4
    head_factor: float = 1.0
    """Step size of the head over that of the rest."""
    batch_frames: int = 4_000
    """Input frames of a step, padding counted."""
    warmup: int = 10
    weight_decay: float = 0.0
    average: float = 0.0
    """Decay of the running mean of the values that becomes the result (Polyak and Juditsky 1992), 0 for the last."""
    adapts: tuple[str, ...] = ("*",)
    """Patterns of the names that change, those with a ``!`` in front left out."""
    rank: int = 0
    """Change weights by products of this rank and vectors not at all (Hu et al. 2021, LoRA), 0 for whole values."""
    condition: bool = False
    """Hear an encoding of the support set where the network has one, and adapt it too (Zintgraf et al. 2019, CAVIA)."""
    encoding: Literal["support", "zero"] = "support"
    """What that encoding begins with."""
    held_out: float = 0.0
    """Share of the support utterances that no step sees and that choose among ``n_looks`` moments of the way."""
    n_looks: int = 8
    """Moments at which is looked, evenly spaced from the first step on; what is left over makes a few more."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0 or not 0 <= self.held_out < 1 or not 0 <= self.average < 1:
            raise InputError(
                f"Tuning has {self.steps} steps, holds {self.held_out:g} out and averages with {self.average:g}; give "
                "0 or more steps and shares from 0 to below 1."
            )
        if self.rank < 0:
            raise InputError(f"Tuning has a rank of {self.rank}; give 0 for whole values, or 1 or more.")
        if not 0 < self.lr < inf or self.batch_frames < 1 or self.n_looks < 1:
            raise InputError(
                f"Tuning has lr {self.lr:g}, {self.batch_frames} frames a step and {self.n_looks} looks; give a "
                "number above 0 for each."
            )


@dataclass(frozen=True)
class Look:
    """What is known at a moment of fine-tuning."""

    step: int
    n_steps: int
    loss: float
    """Of the last batch, nats a symbol."""
    held_out: float | None
    """Of the utterances that no step sees; None where there are none."""


class FineTuned(nn.Module):
    """Adapt by AdamW on small batches of the support set, each changed as ``change`` says.

    ``net`` takes (B, T, F), lengths, an encoding of the support or None, and in training a generator of what it leaves
    out at random; it gives log probabilities (B, T', V), and their lengths by ``out_lengths``. Without changes this is
    the baseline of every comparison.
    """

    fixed_ways = False
    adapts_body = True

    def __init__(
        self,
        net: nn.Module,
        tuning: Tuning | None = None,
        change: Change | None = None,
        watch: Callable[[Look], None] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.tuning, self.change, self.watch = net, tuning or Tuning(), change, watch

    @torch.enable_grad()
    def adapt(self, support: Transcribed) -> State:
        """The values after fine-tuning, by their names in the network; the network itself stays as it is.

        Where weights change by products it is their factors, named as ``low_rank`` says. No step at all leaves the
        encoding of the support set, where one is heard: a network that learned to listen needs no more (Garnelo et al.
        2018, conditional neural processes; Perez et al. 2018, FiLM).

        With utterances held out it is those of the moment at which these were spelled best, the first where several are
        alike; that of the start is {}. How much padding the support has does not matter, to the last bit; the order of
        its utterances does, as they meet in other batches.

        Raises:
            InputError: no utterance, a pattern that matches nothing, nothing that changes, values that are not finite.
        """
        if len(support) == 0:
            raise InputError("The support set holds no utterance; give at least one with its text.")
        if not self.tuning.steps:
            return self._encoded(support)
        generator = torch.Generator().manual_seed(self.tuning.seed)
        order = torch.randperm(len(support), generator=generator)
        n_out = min(round(self.tuning.held_out * len(support)), len(support) - 1)
        kept, out = order[n_out:], order[:n_out]
        best: State | None = None
        best_loss = self.loss({}, taken(support, out)) if n_out else 0.0
        every = max(1, self.tuning.steps // self.tuning.n_looks)
        state: State = {}
        for step, loss, values in self._way(taken(support, kept), generator):
            if step % every and step < self.tuning.steps:
                continue
            state = values()
            held_out = self.loss(state, taken(support, out)) if n_out else None
            if not all(bool(value.isfinite().all()) for value in state.values()):
                raise InputError(f"step {step} led to values that are not finite; lower lr, which is {self.tuning.lr}.")
            if held_out is not None and held_out < best_loss:
                best, best_loss = state, held_out
            if self.watch is not None:
                self.watch(Look(step, self.tuning.steps, loss, held_out))
        return (best or {}) if n_out else state

    @torch.no_grad()
    def predict(self, state: State, query: Transcribed) -> Output:
        """Log probabilities of the query's symbols with adapted values."""
        return spelled(self.net, state, query.inputs, query.lengths)

    @torch.no_grad()
    def loss(self, state: State, batch: Transcribed) -> float:
        """Nats a symbol of some utterances, a few at a time."""
        total, symbols = 0.0, 0
        for part in batches_of(batch, self.tuning.batch_frames, None):
            output = self.predict(state, part)
            assert output.lengths is not None
            scores = output.scores.transpose(0, 1)
            total += float(
                ctc_loss(scores, part.targets, output.lengths, part.target_lengths, reduction="sum", zero_infinity=True)
            )
            symbols += int(part.target_lengths.sum())
        return total / max(symbols, 1)

    # ------------------------------------------------------------------------------------------------- one way to go

    def _way(
        self, support: Transcribed, generator: torch.Generator
    ) -> Iterator[tuple[int, float, Callable[[], State]]]:
        """After each step its number, its loss, and what would give the state there."""
        plan = self.tuning
        moving = adapted_values(self.net, plan.adapts)
        start = {**(factors(moving, plan.rank) if plan.rank else moving), **self._encoded(support)}
        if not start:
            raise InputError("adapts names no value and the network hears no encoding; name what changes.")
        values = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
        mean = {name: value.detach().clone() for name, value in values.items()}
        optimizer = _optimizer(values, plan)

        def state() -> State:
            found = mean if plan.average else values
            return {name: value.detach().clone() for name, value in found.items()}

        waiting: list[Transcribed] = []
        for step in range(1, plan.steps + 1):
            if not waiting:
                waiting = batches_of(support, plan.batch_frames, generator)
            batch = waiting.pop()
            if self.change is not None:
                batch = self.change(batch, generator)
            loss = self._loss(values, batch, generator)
            grads = torch.autograd.grad(loss, list(values.values()), allow_unused=True)
            for value, grad in zip(values.values(), grads, strict=True):
                value.grad = grad
            torch.nn.utils.clip_grad_norm_(list(values.values()), 1.0)
            share = min(1.0, step / max(1, plan.warmup)) * (0.02 + 0.98 * (1 + cos(pi * (step - 1) / plan.steps)) / 2)
            for group in optimizer.param_groups:
                group["lr"] = plan.lr * group["factor"] * share
            optimizer.step()
            if plan.average:
                decay = min(plan.average, step / (step + 10))
                for name, value in values.items():
                    mean[name].lerp_(value.detach(), 1 - decay)
            yield step, float(loss.detach()), state

    @torch.no_grad()
    def _encoded(self, support: Transcribed) -> State:
        """The encoding of the support set, {} where none is heard."""
        if not self.tuning.condition or getattr(self.net, "encode", None) is None:
            return {}
        if self.tuning.encoding == "zero":
            return {ENCODING: silence(self.net)}
        parts = batches_of(support, self.tuning.batch_frames, None)
        found = [self.net.encoding(part.inputs, part.lengths) for part in parts]  # type: ignore[operator]
        weights = torch.tensor([float(part.lengths.sum()) for part in parts])
        return {ENCODING: (torch.stack(found) * (weights / weights.sum())[:, None]).sum(0)}

    def _loss(self, values: State, batch: Transcribed, generator: torch.Generator) -> Float[Tensor, ""]:
        training = self.net.training
        self.net.train()
        try:
            own, encoding = called_with(self.net, values)
            scores = functional_call(self.net, own, (batch.inputs, batch.lengths, encoding, generator))
        finally:
            self.net.train(training)
        lengths = self.net.out_lengths(batch.lengths)  # type: ignore[operator]
        return symbol_loss(scores, batch, lengths)


def symbol_loss(scores: Float[Tensor, "B T V"], batch: Transcribed, lengths: Int[Tensor, " B"]) -> Float[Tensor, ""]:
    """CTC, nats a symbol of the batch; a text that does not fit into its audio counts nothing."""
    nll = torch.nn.functional.ctc_loss(
        scores.transpose(0, 1), batch.targets, lengths, batch.target_lengths, reduction="none", zero_infinity=True
    )
    return nll.sum() / batch.target_lengths.sum()


def spelled(net: nn.Module, state: State, inputs: Tensor, lengths: Tensor) -> Output:
    """Log probabilities of a network with other values."""
    known = {name for name, _ in net.named_parameters()}
    strange = sorted(name for name in state if owner(name) not in known and name != ENCODING)
    if strange:
        raise InputError(f"the state holds {strange[0]}, which the network has not; adapt this network anew.")
    own, encoding = called_with(net, state)
    scores = functional_call(net, own, (inputs, lengths, *([] if encoding is None else [encoding])))
    return Output(scores, net.out_lengths(lengths))  # type: ignore[operator]


def called_with(net: nn.Module, state: State) -> tuple[State, Tensor | None]:
    """Values of the network itself that a state comes to, and the encoding that it hears."""
    own = {name: value for name, value in state.items() if name != ENCODING}
    return merged(dict(net.named_parameters()), own), state.get(ENCODING)


def silence(net: nn.Module) -> Tensor:
    """An encoding of zeros, as that of a support set that tells nothing.

    Raises:
        InputError: a network that hears no encoding.
    """
    encode = getattr(net, "encode", None)
    if not isinstance(encode, nn.Linear):
        raise InputError("An encoding is to be heard and recogniser.condition is 0; set a size for it.")
    return encode.weight.detach().new_zeros(encode.out_features)


def adapted_values(net: nn.Module, patterns: Sequence[str]) -> State:
    """The parameters that patterns name, without those that only training needs or that make the encoding of a support
    set; ``!PATTERN`` takes some out again.

    Raises:
        InputError: a pattern that matches none.
    """
    known = {
        name: value
        for name, value in net.named_parameters()
        if not any(fnmatchcase(name, pattern) for pattern in (*AUXILIARY, _LISTENING))
    }
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern.removeprefix("!")) for name in known):
            raise InputError(f"adapts names {pattern!r}, which matches none of {len(known)} values of the network.")
    out = tuple(pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!"))
    found = {name: value for name, value in known.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}
    return {name: value for name, value in found.items() if not any(fnmatchcase(name, pattern) for pattern in out)}


def taken(batch: Transcribed, rows: Int[Tensor, " b"]) -> Transcribed:
    """Some utterances, padded to the longest of them."""
    lengths, target_lengths = batch.lengths[rows], batch.target_lengths[rows]
    longest = int(lengths.max()) if len(rows) else 0
    widest = max(1, int(target_lengths.max())) if len(rows) else 1
    return Transcribed(batch.inputs[rows, :longest], lengths, batch.targets[rows, :widest], target_lengths)


def batches_of(batch: Transcribed, n_frames: int, generator: torch.Generator | None) -> list[Transcribed]:
    """All utterances in batches of like lengths and at most ``n_frames``, padding counted; at least one each.

    With a generator lengths are jittered and batches shuffled, else they come from short to long.
    """
    lengths = batch.lengths.double()
    if generator is not None:
        lengths = lengths + 50 * torch.rand(len(batch), generator=generator)
    groups: list[list[int]] = []
    longest = 0
    for row in torch.argsort(lengths, stable=True).tolist():
        longest = max(longest, int(batch.lengths[row]))
        if not groups or longest * (len(groups[-1]) + 1) > n_frames:
            groups.append([])
            longest = int(batch.lengths[row])
        groups[-1].append(row)
    order = range(len(groups)) if generator is None else torch.randperm(len(groups), generator=generator).tolist()
    return [taken(batch, torch.tensor(groups[i])) for i in order]


def _optimizer(values: State, plan: Tuning) -> torch.optim.AdamW:
    head = [value for name, value in values.items() if owner(name) in HEAD]
    rest = [value for name, value in values.items() if owner(name) not in HEAD]
    groups = [
        {"params": members, "factor": factor} for members, factor in ((rest, 1.0), (head, plan.head_factor)) if members
    ]
    return torch.optim.AdamW(groups, lr=plan.lr, betas=(0.9, 0.98), weight_decay=plan.weight_decay)


def shortened(tuning: Tuning, n_utterances: int) -> Tuning:
    """The same plan where fewer than eight utterances are there, none of which can be spared."""
    return replace(tuning, held_out=0.0) if n_utterances < 8 else tuning
