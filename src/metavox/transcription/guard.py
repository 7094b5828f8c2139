"""What an adaptation forgets: a few held-out utterances of the old tasks travel with a base model, as 8-bit features.

``guard.safetensors`` and ``guard.json`` lie in the folder of the base, about a megabyte for 40 utterances. Where the
old tasks suffer more than is allowed, only a part of the adaptation is kept: the values go back on the straight line
to where they came from (WiSE-FT, Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int8
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ..checkpoint import FORMAT, read_document, read_tensors, write_json, write_tensors
from ..config import validated
from ..contracts import FrontEnd, InputError, State, Utterance
from ..data.sentences import Sentences
from ..text.decode import greedy_batch
from ..text.symbols import UNIVERSAL, Symbols
from .adapting import Reached
from .models import Recognition, adapted
from .scoring import Errors, errors_of

TENSORS, DOCUMENT = "guard.safetensors", "guard.json"
SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Of an adaptation, those that are tried one after the other."""
_LEVELS = 254
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Guard:
    """Utterances of the old tasks, as a network hears them, with what was said."""

    levels: Int8[np.ndarray, "N F"]
    """Frames of all utterances, one after the other."""
    counts: Int[np.ndarray, " n"]
    """Frames of each."""
    steps: Float[np.ndarray, " n"]
    """Log power of one level, by utterance."""
    middles: Float[np.ndarray, " n"]
    """Log power of level 0, by utterance."""
    targets: tuple[tuple[int, ...], ...]
    symbols: Symbols
    speakers: tuple[str | None, ...]
    langs: tuple[str | None, ...]
    front_end: FrontEnd

    def __len__(self) -> int:
        return len(self.targets)

    def features(self, rows: Sequence[int]) -> tuple[Float[Tensor, "B T F"], Int[Tensor, " B"]]:
        """Some utterances, padded with zeros to the longest, and their lengths."""
        ends = np.cumsum(self.counts)
        out = np.zeros((len(rows), int(self.counts[list(rows)].max()), self.levels.shape[1]), np.float32)
        for place, row in enumerate(rows):
            levels = self.levels[ends[row] - self.counts[row] : ends[row]]
            out[place, : len(levels)] = self.middles[row] + self.steps[row] * levels.astype(np.float32)
        return torch.from_numpy(out), torch.from_numpy(self.counts[list(rows)].astype(np.int64))


# ------------------------------------------------------------------------------------------------------------- on disk


def guard_positions(
    sentences: Sentences, positions: Int[np.ndarray, " n"], n: int = 40, longest_s: float = 6.0, seed: int = 0
) -> Int[np.ndarray, " m"]:
    """Up to ``n`` of some utterances at random, each language in turn, none longer than ``longest_s``."""
    short = positions[sentences.durations_s(positions) <= longest_s]
    waiting: dict[str, list[int]] = {}
    for position in np.random.default_rng(seed).permutation(np.sort(short)).tolist():
        waiting.setdefault(sentences.utterances[position].lang or "", []).append(position)
    found: list[int] = []
    while len(found) < n and any(waiting.values()):
        found += [queue.pop() for _, queue in sorted(waiting.items()) if queue]
    return np.sort(np.asarray(found[:n], np.int64))


def write_guard(
    folder: Path,
    sentences: Sentences,
    positions: Int[np.ndarray, " n"],
    front_end: FrontEnd | None = None,
    symbols: Symbols = UNIVERSAL,
) -> int:
    """Put utterances that no training step saw beside a base model, and return how many bytes they take.

    Features are stored in 255 levels between the smallest and the largest of each utterance. ``front_end`` is that of
    the network, by default that of the sentences; ``symbols`` is the alphabet of their targets.

    Raises:
        InputError: no position.
    """
    if not len(positions):
        raise InputError("No utterance was given to guard the old tasks with; give at least one, better 40.")
    front_end = front_end or sentences.bank.front_end
    levels, steps, middles = [], [], []
    for position in positions:
        frames = sentences.features(np.asarray([position]), front_end)[0][0].numpy()
        low, high = float(frames.min()), float(frames.max())
        step, middle = max(high - low, 1e-6) / _LEVELS, (high + low) / 2
        levels.append(np.round((frames - middle) / step).clip(-127, 127).astype(np.int8))
        steps.append(step)
        middles.append(middle)
    targets = [sentences.targets[i] for i in positions]
    tensors = {
        "levels": torch.from_numpy(np.concatenate(levels)),
        "counts": torch.tensor([len(each) for each in levels], dtype=torch.int32),
        "steps": torch.tensor(steps, dtype=torch.float32),
        "middles": torch.tensor(middles, dtype=torch.float32),
        "targets": torch.tensor([i for target in targets for i in target], dtype=torch.int32),
        "target_counts": torch.tensor([len(target) for target in targets], dtype=torch.int32),
    }
    utterances = [sentences.utterances[i] for i in positions]
    document = {
        "format": FORMAT,
        "library": "metavox",
        "kind": "guard",
        "version": version("metavox"),
        "front_end": front_end.model_dump(mode="json"),
        "symbols": symbols.to_json(),
        "ids": [u.id for u in utterances],
        "corpora": [u.corpus for u in utterances],
        "speakers": [u.speaker for u in utterances],
        "langs": [u.lang for u in utterances],
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / TENSORS, tensors)
    write_json(folder / DOCUMENT, document)
    return sum(os.path.getsize(folder / name) for name in (TENSORS, DOCUMENT))


class _GuardDocument(BaseModel):
    model_config = ConfigDict(frozen=True)

    front_end: FrontEnd
    symbols: dict[str, Any]
    speakers: tuple[str | None, ...]
    langs: tuple[str | None, ...]


def read_guard(folder: Path | None) -> Guard | None:
    """The guard of a base model's folder, or None where it has none.

    Raises:
        InputError: one that is damaged, or half of one.
    """
    if folder is None or not any(os.path.isfile(folder / name) for name in (TENSORS, DOCUMENT)):
        return None
    found = validated(_GuardDocument, read_document(folder / DOCUMENT, "guard"), str(folder / DOCUMENT))
    tensors = read_tensors(folder / TENSORS)
    try:
        counts, of_target = tensors["counts"].numpy(), tensors["target_counts"].numpy()
        bounds = np.cumsum([0, *of_target.tolist()])
        ids = tensors["targets"].tolist()
        guard = Guard(
            tensors["levels"].numpy(),
            counts,
            tensors["steps"].numpy(),
            tensors["middles"].numpy(),
            tuple(tuple(ids[a:b]) for a, b in pairwise(bounds.tolist())),
            Symbols.from_json(found.symbols),
            found.speakers,
            found.langs,
            found.front_end,
        )
        sizes = {len(guard), len(counts), len(guard.steps), len(guard.middles), len(guard.speakers), len(guard.langs)}
        whole = (
            len(sizes) == 1
            and len(guard) > 0
            and guard.levels.shape == (int(counts.sum()), found.front_end.n_mels)
            and len(ids) == int(of_target.sum())
            and min(counts.min(), of_target.min()) > 0
            and 0 < min(ids) <= max(ids) < guard.symbols.size
        )
    except (KeyError, ValueError):
        whole = False
    if not whole:
        raise InputError(f"{folder / TENSORS} and {DOCUMENT} do not fit each other; restore both or remove both.")
    return guard


# ----------------------------------------------------------------------------------------------------------- measuring


def old_task_error(recognition: Recognition, guard: Guard) -> Errors:
    """Errors of a recogniser on the utterances of a guard, by greedy decoding.

    A recogniser that was adapted to another alphabet is heard through the head of its base, since its own cannot write
    the old texts: what its body has forgotten is measured.

    Raises:
        InputError: a recogniser that hears or writes otherwise than the guard.
    """
    recognition = _writing(recognition, guard.symbols)
    if recognition.front_end != guard.front_end:
        raise InputError("The guard was stored for another front end than the recogniser's; write it again.")
    net = recognition.net
    heard = [""] * len(guard)
    order = np.argsort(guard.counts, kind="stable").tolist()
    with torch.no_grad():
        for first in range(0, len(order), _BATCH):
            rows = order[first : first + _BATCH]
            inputs, lengths = guard.features(rows)
            scores = net(inputs, lengths, recognition.encoding)
            for row, ids in zip(rows, greedy_batch(scores, net.out_lengths(lengths)), strict=True):
                heard[row] = " ".join(guard.symbols.decode(ids).split())
    said = tuple(guard.symbols.decode(target) for target in guard.targets)
    who = [
        Utterance("", Path(), 0.0, speaker=speaker, lang=lang)
        for speaker, lang in zip(guard.speakers, guard.langs, strict=True)
    ]
    return errors_of(Reached(said, tuple(heard)), who)


def _writing(recognition: Recognition, symbols: Symbols) -> Recognition:
    """The recogniser with a head for the alphabet of the old tasks: its own, or else that of its base."""
    if recognition.symbols == symbols:
        return recognition
    base = recognition.base
    if base is None or base.symbols != symbols:
        raise InputError("The guard was stored for another alphabet than the recogniser's; write it again.")
    body = {name: value for name, value in recognition.net.state_dict().items() if not name.startswith("head.")}
    return replace(adapted(base, body), encoding=recognition.encoding)


def scaled(state: State, start: State, share: float) -> State:
    """Values that went only a share of the way from where they started."""
    if share == 1:
        return state
    return {name: torch.lerp(start[name].detach().to(value), value, share) for name, value in state.items()}


@dataclass(frozen=True, eq=False)
class Forgetting:
    """What an adaptation did to the old tasks."""

    before: Errors
    """Of what the adaptation started from."""
    after: Errors
    share: float
    """Of the adaptation that was kept: 1 all of it, 0 nothing."""
    limit_points: float | None
    """Points of character error (hundredths) that the old tasks may lose; None where they are only measured."""


def held_back(
    start: Recognition, at_share: Callable[[float], Recognition], guard: Guard, limit_points: float | None
) -> tuple[Recognition, Forgetting]:
    """The largest share of an adaptation, among ``SHARES``, that costs the old tasks no more than is allowed.

    ``at_share`` gives the recogniser with a share of the adaptation. Without a limit it is the whole.
    """
    before = old_task_error(start, guard)
    for share in SHARES:
        found = at_share(share)
        after = old_task_error(found, guard)
        if limit_points is None or 100 * (after.rate - before.rate) <= limit_points:
            return found, Forgetting(before, after, share, limit_points)
    # Nothing is left of the adaptation, and what its storage rounds is no forgetting.
    return found, Forgetting(before, after, share, limit_points)
