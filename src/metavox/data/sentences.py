"""Transcribed utterances at hand by position: features, symbols and phones; batches of like lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..contracts import FrontEnd, InputError, Transcribed, Utterance
from ..features import window
from ..text.symbols import Symbols, min_frames
from .bank import Bank, require_same_spectrum
from .corpora import Report, open_corpora

MAX_UTTERANCE_S = 40.0
"""A recording with a text of its own is at most this long: CTC on more is slow, and more is seldom one sentence."""
FRAME_REDUCTION = 2
"""Input frames for one frame that a recogniser spells in."""


@dataclass(frozen=True)
class Sentences:
    """Utterances of several corpora with the symbols of their texts; joined and selected without copying features."""

    bank: Bank
    targets: Sequence[tuple[int, ...]]
    phones: Sequence[tuple[int, ...]]
    """Phones of each utterance for the auxiliary head; () where nobody knows them."""

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def utterances(self) -> Sequence[Utterance]:
        return self.bank.utterances

    def durations_s(self, positions: Int[np.ndarray, " n"] | None = None) -> Float[np.ndarray, " n"]:
        """Seconds of sound of each utterance."""
        positions = np.arange(len(self)) if positions is None else positions
        return self.bank.n_frames(positions) * self.bank.front_end.hop_ms / 1000

    def features(
        self, positions: Int[np.ndarray, " B"], front_end: FrontEnd
    ) -> tuple[Float[Tensor, "B T F"], Int[Tensor, " B"]]:
        """Features as a device computes them from the files, padded with zeros, and their lengths."""
        require_same_spectrum(front_end, self.bank.front_end)
        raw, n_valid = self.bank.padded(positions, self.bank.window_bounds(positions, crop=front_end.crop))
        return window(raw, torch.zeros_like(n_valid), n_valid, front_end)

    def batch(self, positions: Int[np.ndarray, " B"], front_end: FrontEnd) -> Transcribed:
        """Some utterances with their symbols, unchanged."""
        inputs, lengths = self.features(positions, front_end)
        return Transcribed(inputs, lengths, *padded([self.targets[i] for i in positions]))

    def phone_targets(self, positions: Int[np.ndarray, " B"]) -> tuple[Int[Tensor, "B U"], Int[Tensor, " B"]]:
        """Phones of some utterances, padded, and their counts; 0 where none are known."""
        return padded([self.phones[i] for i in positions])


def open_sentences(
    paths: Sequence[Path],
    symbols: Symbols,
    front_end: FrontEnd,
    report: Report | None = None,
) -> Sentences:
    """Every utterance of some corpora with its symbols; no phones are known of them.

    Raises:
        InputError: texts that are empty, cannot be written in the alphabet or are too long for their audio, and
            recordings of more than 40 s, each by row; corpora that cannot be read.
    """
    bank = open_corpora(paths, front_end, report)
    require_texts(bank.utterances)
    targets = symbols.encode_all([u.text for u in bank.utterances], [u.lang for u in bank.utterances])
    require_room(bank, targets)
    return Sentences(bank, targets, [()] * len(bank))


def require_texts(utterances: Sequence[Utterance]) -> None:
    """Raise InputError where utterances have no text, and name the first."""
    empty = [u for u in utterances if not u.text.strip()]
    if empty:
        raise InputError(
            f"{len(empty)} of {len(utterances)} recordings have an empty text ({_named(empty)}); transcribe them or "
            "leave their rows out."
        )


def require_room(bank: Bank, targets: Sequence[tuple[int, ...]]) -> None:
    """Raise InputError for texts that no alignment fits into their audio, and for audio beyond ``MAX_UTTERANCE_S``."""
    frames, hop_s = bank.n_frames(np.arange(len(bank))), bank.front_end.hop_ms / 1000
    long = [u for u, n in zip(bank.utterances, frames, strict=True) if n * hop_s > MAX_UTTERANCE_S]
    if long:
        longest = max(u.duration_s for u in long)
        raise InputError(
            f"{len(long)} of {len(bank)} recordings with a text last more than {MAX_UTTERANCE_S:.0f} s, the longest "
            f"{longest:.0f} s ({_named(long)}); cut them into sentences first."
        )
    tight = crowded(bank, targets)
    if len(tight):
        first = int(tight[0])
        raise InputError(
            f"{len(tight)} of {len(bank)} transcripts are too long for their audio "
            f"({_named([bank.utterances[i] for i in tight])}; the first needs {min_frames(targets[first])} frames and "
            f"has {int(frames[first]) // FRAME_REDUCTION}); correct their texts or recordings."
        )


def crowded(bank: Bank, targets: Sequence[tuple[int, ...]]) -> Int[np.ndarray, " k"]:
    """Positions of texts that have more symbols than their audio has frames for."""
    frames = bank.n_frames(np.arange(len(bank)))
    needed = np.asarray([min_frames(target) for target in targets])
    return np.flatnonzero(needed > frames // FRAME_REDUCTION)


def padded(rows: Sequence[tuple[int, ...]]) -> tuple[Int[Tensor, "B U"], Int[Tensor, " B"]]:
    """Symbols of several texts, padded with 0 to the longest, and their counts."""
    lengths = torch.tensor([len(row) for row in rows])
    out = torch.zeros(len(rows), max(1, int(lengths.max())), dtype=torch.long)
    for row, ids in enumerate(rows):
        out[row, : len(ids)] = torch.tensor(ids)
    return out, lengths


def like_lengths(
    durations_s: Float[np.ndarray, " n"], batch_s: float, rng: np.random.Generator, jitter_s: float = 0.5
) -> list[Int[np.ndarray, " b"]]:
    """All positions in batches of at most ``batch_s`` seconds, padding counted, in random order (at least one each).

    Lengths are jittered before they are sorted, so that the same utterances do not always meet.
    """
    order = np.argsort(durations_s + jitter_s * rng.random(len(durations_s)), kind="stable")
    batches: list[list[int]] = []
    longest = 0.0
    for position in order.tolist():
        longest = max(longest, float(durations_s[position]))
        if not batches or longest * (len(batches[-1]) + 1) > batch_s:
            batches.append([])
            longest = float(durations_s[position])
        batches[-1].append(position)
    return [np.asarray(batches[i]) for i in rng.permutation(len(batches))]


def rounds(
    positions: Int[np.ndarray, " n"], durations_s: Float[np.ndarray, " n"], batch_s: float, rng: np.random.Generator
) -> Iterator[Int[np.ndarray, " b"]]:
    """Batches of like lengths without end: every utterance once before any comes again; none where there are none."""
    while len(positions):
        yield from (positions[batch] for batch in like_lengths(durations_s, batch_s, rng))


def _named(utterances: Sequence[Utterance], most: int = 3) -> str:
    names = ", ".join(u.id for u in utterances[:most])
    return names + (", ..." if len(utterances) > most else "")
