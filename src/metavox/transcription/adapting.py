"""From a base recogniser and a few minutes of transcribed speech to one that knows the new language or voice.

``adapt`` fine-tunes on the support with some of it held out, which says when to stop and what was reached; then, with
that many steps, on all of it. The base stays as it is, and what the adaptation did to its old tasks is measured.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Int

from ..config.transcription import ADAPTING_AUGMENT
from ..contracts import InputError, State, Transcribed
from ..data.sentences import Sentences
from ..learners.low_rank import merged
from ..learners.sequence import FineTuned, Look, Tuning
from ..metrics import cer, wer
from ..nets.precision import training_dtype
from ..nets.recogniser import Recogniser
from ..text.symbols import UNIVERSAL, Symbols
from .averages import require_single
from .changes import change_of
from .models import Recognition, new_net
from .spelling import Ids, Search, Spelling

MIN_UTTERANCES = 3
"""Fewer than this say nothing about a language."""
FIRST_STEPS = 40
"""Steps that the shortest support needs."""
MIN_TO_HOLD_OUT = 12
"""From so many utterances on, some are held out."""


@dataclass(frozen=True)
class Plan:
    """How a recogniser is adapted."""

    tuning: Tuning = field(default_factory=Tuning)
    augment: bool = True
    precision: str = "auto"
    """What is multiplied in while fine-tuning: ``auto``, ``bfloat16`` or ``float32``."""
    speed: float = 0.1
    held_out: float = 0.2
    """Share of the support that says when to stop and what was reached, before all of it is used."""
    refit: bool = True
    """Use all of the support in the end."""
    steps_per_s: float | None = None
    """Steps for each second of the support, ``FIRST_STEPS`` more and no more than the tuning's; None for the
    tuning's, however much there is."""
    n_runs: int = 1
    """Times that fine-tuning on all of it is done, each in another order with other changes; the result is the mean of
    their values (Wortsman et al. 2022)."""
    search: Search | None = None
    """How what was adapted spells; None for the best symbol of each frame."""

    def __post_init__(self) -> None:
        if self.n_runs < 1 or not 0 < (self.steps_per_s or 1.0) < np.inf:
            raise InputError(
                f"A plan has {self.n_runs} runs and {self.steps_per_s} steps a second; give 1 or more and above 0."
            )

    def for_support(self, seconds: float) -> "Plan":
        """The plan with the number of steps that suits so many seconds of speech."""
        if self.steps_per_s is None:
            return self
        steps = min(self.tuning.steps, FIRST_STEPS + round(self.steps_per_s * seconds))
        return replace(self, tuning=replace(self.tuning, steps=steps), steps_per_s=None)


@dataclass(frozen=True)
class Reached:
    """Errors of some utterances, with who said them: what intervals are made of."""

    said: tuple[str, ...]
    heard: tuple[str, ...]

    @property
    def cer(self) -> float:
        """Character errors over characters."""
        return float(cer(self.said, self.heard).rate)

    @property
    def wer(self) -> float:
        """Word errors over words."""
        return float(wer(self.said, self.heard).rate)


def support_of(sentences: Sentences, positions: Int[np.ndarray, " n"], net: Recogniser) -> Transcribed:
    """Utterances as the support set of a task."""
    return sentences.batch(positions, net.front_end)


def with_symbols(base: Recognition, symbols: Symbols) -> Recognition:
    """The base with a head for another alphabet: rows of characters that it has stay, new ones start from the letter
    that their romanisation begins with, else from the mean of all letters."""
    if symbols == base.symbols:
        return base
    old, ids = base.net.head, {char: i for i, char in enumerate(base.symbols.characters, 1)}
    weight, bias = old.weight.detach(), old.bias.detach()
    rows = [0, *(_row(char, symbols, ids) for char in symbols.characters)]
    mean_weight, low = weight[1:].mean(0), bias[1:].min()
    head_weight = torch.stack([mean_weight if row is None else weight[row] for row in rows])
    head_bias = torch.stack([low if row is None else bias[row] for row in rows])
    net = new_net(base.net.config.model_copy(update={"n_symbols": symbols.size}))
    net.load_state_dict({**base.net.state_dict(), "head.weight": head_weight, "head.bias": head_bias})
    return replace(base, net=net, symbols=symbols, spelling=None)


def _row(char: str, symbols: Symbols, ids: Mapping[str, int]) -> int | None:
    if char in ids:
        return ids[char]
    near = symbols.nearest_roman(char)
    return None if near is None else ids.get(UNIVERSAL.characters[near - 1])


def adapt(
    base: Recognition,
    support: Transcribed,
    plan: Plan,
    watch: Callable[[Look], None] | None = None,
) -> State:
    """The values that fine-tuning changes, by their names; ``base`` has the head of the support's alphabet already.

    Values that change by products of low rank are whole here, so that whatever is done with values can be done.

    Raises:
        InputError: fewer than three utterances, or values that are not finite.
    """
    if len(support) < MIN_UTTERANCES:
        raise InputError(
            f"{len(support)} transcribed recordings were given and {MIN_UTTERANCES} are the least; ten minutes are "
            "better."
        )
    require_single(base, "adapt")
    plan = plan.for_support(seconds_of(support, base))
    change = change_of(ADAPTING_AUGMENT, plan.speed, base.net.front_end) if plan.augment else None
    net = deepcopy(base.net)
    net.training_dtype = training_dtype(plan.precision)
    tuning = plan.tuning
    steps = tuning.steps
    if len(support) >= MIN_TO_HOLD_OUT and plan.held_out:
        looks: list[Look] = []

        def note(look: Look) -> None:
            looks.append(look)
            if watch is not None:
                watch(look)

        state = FineTuned(net, replace(tuning, held_out=plan.held_out), change, note).adapt(support)
        if not state or not plan.refit:
            return merged(net.state_dict(), state)
        steps = min(looks, key=lambda look: look.held_out if look.held_out is not None else np.inf).step
    runs = [
        FineTuned(net, replace(tuning, held_out=0.0, steps=steps, seed=_seed(tuning.seed, run)), change, watch)
        for run in range(plan.n_runs)
    ]
    return _mean([merged(net.state_dict(), run.adapt(support)) for run in runs])


def _seed(seed: int, run: int) -> int:
    """Another seed for each run, and the plan's own for the first."""
    return seed if run == 0 else int(np.random.default_rng([seed, run]).integers(2**31))


def _mean(states: list[State]) -> State:
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def spelling_of(plan: Plan, texts: Iterable[Ids]) -> Spelling | None:
    """How a recogniser spells that was adapted to texts; None where the plan searches for none."""
    return None if plan.search is None else Spelling(tuple(texts), plan.search)


def seconds_of(support: Transcribed, base: Recognition) -> float:
    """How long all utterances of a support set last together."""
    return float(support.lengths.sum()) * base.front_end.hop_ms / 1000


def texts_of(support: Transcribed) -> list[Ids]:
    """The texts of a support set in symbols."""
    return [
        tuple(target[:length].tolist()) for target, length in zip(support.targets, support.target_lengths, strict=True)
    ]


def heard(recognition: Recognition, sentences: Sentences, positions: Int[np.ndarray, " n"], batch: int = 16) -> Reached:
    """What is heard in some utterances, beside what was said, both in the recogniser's alphabet."""
    durations = sentences.durations_s(positions)
    order = np.argsort(durations, kind="stable")
    symbols = recognition.symbols
    found: list[str] = [""] * len(positions)
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        spelled = recognition.spell(*sentences.features(positions[rows], recognition.front_end))
        for row, ids in zip(rows.tolist(), spelled, strict=True):
            found[row] = symbols.decode(ids).strip()
    said = tuple(symbols.decode(sentences.targets[i]) for i in positions)
    return Reached(said, tuple(" ".join(text.split()) for text in found))
