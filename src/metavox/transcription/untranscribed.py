"""Recordings without texts: what a recogniser hears in them, piece by piece."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..audio import probe, read
from ..contracts import FrontEnd, InputError
from ..data.corpora import Report
from ..data.layouts import MANIFEST
from ..data.manifests import load_corpus
from ..data.sentences import MAX_UTTERANCE_S
from ..features import prepare
from ..nets.recogniser import MIN_FRAMES
from .models import Recognition

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64"})
MAX_WHOLE_S = 20.0
"""Longer recordings are cut at their pauses, where somebody says how."""
MAX_TOTAL_S = 2 * 3600.0
"""More is not read: the features of all pieces are in memory, 25 kB a second."""
_BATCH = 8

Cut = Callable[[Path], Iterable[tuple[float, Float[np.ndarray, " S"]]]]
"""Stretches of speech in a recording of any length: where each starts, in seconds, and its samples at 16 kHz."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A recording, or a stretch of speech in one."""

    path: Path
    start_s: float
    end_s: float
    whole: bool

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s

    def __str__(self) -> str:
        return str(self.path) if self.whole else f"{self.path} from {self.start_s:.1f} to {self.end_s:.1f} s"


@dataclass(frozen=True, eq=False)
class Untranscribed:
    """Pieces with their features, in random order."""

    pieces: tuple[Piece, ...]
    features: tuple[Float[Tensor, "_ F"], ...]
    skipped: tuple[str, ...]
    """A sentence for each recording that was passed over because it cannot be used."""
    n_known: int
    """Recordings that were passed over because they are among the transcribed ones."""

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def seconds(self) -> float:
        return sum((piece.seconds for piece in self.pieces), 0.0)


def recordings_in(folder: Path) -> list[Path]:
    """The audio files of a folder and of those inside it, or those that a manifest names; texts are not looked at.

    Raises:
        InputError: no such folder, no recording in it, or a manifest that cannot be read.
    """
    if not os.path.exists(folder):
        raise InputError(f"{folder} is no folder; name one with untranscribed recordings.")
    if not os.path.isdir(folder) or os.path.lexists(folder / MANIFEST):
        return [utterance.path for utterance in load_corpus(folder)]
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(place, name)
            for name in sorted(names)
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    if not found:
        raise InputError(f"{folder} holds no recording ({', '.join(sorted(SUFFIXES))}); name another folder.")
    return found


def listen(
    paths: Sequence[Path],
    front_end: FrontEnd,
    *,
    apart_from: Iterable[Path] = (),
    cut: Cut | None = None,
    seed: int = 0,
    max_total_s: float = MAX_TOTAL_S,
    report: Report | None = None,
) -> Untranscribed:
    """Read recordings in random order until there is enough; copies of those in ``apart_from`` are passed over.

    Recordings of more than 20 s are cut by ``cut``; without it those of more than 40 s are passed over. What cannot
    be read, and what holds nothing but silence, is passed over with a sentence.

    Raises:
        InputError: nothing that can be used.
    """
    known = {_digest(path) for path in apart_from}
    pieces: list[Piece] = []
    features: list[Tensor] = []
    skipped: list[str] = []
    n_known, seconds = 0, 0.0
    order = np.random.default_rng(seed).permutation(len(paths)).tolist()
    for number, place in enumerate(order, 1):
        path = paths[place]
        if seconds >= max_total_s:
            break
        try:
            if _digest(path) in known:
                n_known += 1
                continue
            for piece, frames in _pieces(path, front_end, cut):
                pieces.append(piece)
                features.append(frames)
                seconds += piece.seconds
        except (InputError, OSError) as error:
            skipped.append(str(error))
        if report is not None:
            report("listening", number, len(paths))
    if not pieces:
        why = f", the first: {skipped[0]}" if skipped else "."
        raise InputError(
            f"None of {len(paths)} untranscribed recordings can be used; {n_known} are transcribed ones and "
            f"{len(skipped)} are unusable{why}"
        )
    return Untranscribed(tuple(pieces), tuple(features), tuple(skipped), n_known)


def _pieces(path: Path, front_end: FrontEnd, cut: Cut | None) -> Iterator[tuple[Piece, Float[Tensor, "T F"]]]:
    duration_s = probe(path).duration_s
    if duration_s <= (MAX_WHOLE_S if cut else MAX_UTTERANCE_S):
        waves: Iterable[tuple[float, np.ndarray]] = [(0.0, read(path, front_end.rate_hz))]
    elif cut is None:
        raise InputError(f"{path} lasts {duration_s:.0f} s; cut it into pieces of {MAX_UTTERANCE_S:.0f} s or less.")
    else:
        waves = cut(path)
    heard = False
    for start_s, wave in waves:
        if not np.abs(wave).max(initial=0) > 0:
            continue
        inputs, lengths = prepare(wave, front_end)
        if int(lengths) < MIN_FRAMES:
            continue
        heard = True
        end_s = start_s + len(wave) / front_end.rate_hz
        yield Piece(path, start_s, end_s, start_s == 0 and end_s >= duration_s - 0.05), inputs[0, : int(lengths)]
    if not heard:
        raise InputError(f"{path} holds no sound; leave it out.")


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


# ------------------------------------------------------------------------------------------------------------- hearing


@dataclass(frozen=True, eq=False)
class Heard:
    """What a network makes of one piece."""

    log_probs: Float[Tensor, "T V"]
    mean: Float[Tensor, " C"]
    """Mean over time of what the body gives."""


def hear(recognition: Recognition, features: Sequence[Float[Tensor, "_ F"]]) -> Iterator[tuple[int, Heard]]:
    """Place and posteriors of each piece, a few of like lengths at a time; shorter ones come first."""
    net = recognition.net
    order = sorted(range(len(features)), key=lambda i: len(features[i]))
    for first in range(0, len(order), _BATCH):
        rows = order[first : first + _BATCH]
        lengths = torch.tensor([len(features[i]) for i in rows])
        inputs = torch.nn.utils.rnn.pad_sequence([features[i] for i in rows], batch_first=True)
        with torch.no_grad():
            hidden, _ = net.hidden(inputs, lengths, recognition.encoding)
            scores = net.spell(hidden)
        ends = net.out_lengths(lengths)
        for row, place in enumerate(rows):
            n_body = -(-int(lengths[row]) // net.config.reduction)
            yield place, Heard(scores[row, : int(ends[row])], hidden[row, :, :n_body].mean(1))
