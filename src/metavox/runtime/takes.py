"""Takes: recordings that a user hands over, checked before anything is learned from them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..audio import check_take, from_array, read
from ..contracts import Batch, FrontEnd, InputError
from ..data.manifests import load_corpus
from ..features import Spoken, cropped, prepare, window

Clip = str | Path | tuple[np.ndarray, int]
"""A path, or samples with their rate in Hz."""
Clips = Sequence[Clip] | np.ndarray
"""Several; an array of paths will do."""
C = TypeVar("C")
R = TypeVar("R")


def take_wave(clip: Clip, rate_hz: int) -> tuple[str, Float[np.ndarray, " S"]]:
    """Samples of one clip, and what it is called in a message.

    Raises:
        InputError: an unreadable recording, or something that is none.
    """
    match clip:
        case str() | Path():
            return str(clip), read(clip, rate_hz)
        case (np.ndarray() as samples, int() | np.integer() as from_hz):
            return "The array", from_array(samples, int(from_hz), rate_hz)
    raise InputError(f"A clip is a path, or samples with their rate in Hz; {type(clip).__name__} is neither.")


def take_window(
    clip: Clip, front_end: FrontEnd, *, strict: bool = True, spoken: Spoken = cropped
) -> tuple[Tensor, Tensor]:
    """The (1, T, F) window of one clip and its length, computed as in training.

    With ``strict`` (enrolment) a short, silent or clipped take is refused; what is only to be recognised may be
    clipped, but must hold something.

    Raises:
        InputError: an unreadable or unusable recording.
    """
    name, wave = take_wave(clip, front_end.rate_hz)
    check_take(wave, front_end.rate_hz, name, clipping=strict)
    return prepare(wave, front_end, spoken)


def each_of(clips: Iterable[C], one: Callable[[C], R]) -> list[R]:
    """What ``one`` gives for each clip.

    Raises:
        InputError: all unusable takes, in one message.
    """
    found: list[R] = []
    faults: list[str] = []
    for clip in clips:
        try:
            found.append(one(clip))
        except InputError as err:
            faults.append(str(err))
    if len(faults) == 1:
        raise InputError(faults[0])
    if faults:
        listed = "; ".join(fault.removesuffix(".") for fault in faults)
        raise InputError(f"{len(faults)} of {len(faults) + len(found)} takes cannot be used: {listed}.")
    return found


def take_batch(
    clips: Sequence[Clip], labels: Sequence[int], n_classes: int, front_end: FrontEnd, *, strict: bool = True
) -> Batch:
    """Windows of several clips, padded to the longest.

    Raises:
        InputError: all unusable takes, in one message.
    """
    windows = each_of(clips, lambda clip: take_window(clip, front_end, strict=strict))
    longest = max(window.shape[1] for window, _ in windows)
    padded = [functional.pad(window, (0, 0, 0, longest - window.shape[1])) for window, _ in windows]
    lengths = torch.cat([length for _, length in windows])
    return Batch(torch.cat(padded), lengths, torch.as_tensor(list(labels), dtype=torch.int64), n_classes)


def batch_of(
    heard: Sequence[Float[Tensor, "_ F"]], labels: Sequence[int], n_classes: int, front_end: FrontEnd
) -> Batch:
    """The same of what ``features.heard`` gave of several clips."""
    lengths = torch.tensor([len(values) for values in heard])
    longest = int(lengths.max())
    padded = torch.stack([functional.pad(values.float(), (0, 0, 0, longest - len(values))) for values in heard])
    windows, window_lengths = window(padded, torch.zeros_like(lengths), lengths, front_end)
    return Batch(windows, window_lengths, torch.as_tensor(list(labels), dtype=torch.int64), n_classes)


def alike_in_length(lengths: Sequence[int], at_most: int = 64) -> Iterator[list[int]]:
    """Positions in parts of about equal length, so that little is padded and little is held at once."""
    part: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if part and (len(part) == at_most or lengths[position] > 1.25 * lengths[part[0]]):
            yield part
            part = []
        part.append(position)
    if part:
        yield part


def takes_in(folder: Path) -> tuple[list[Path], list[str]]:
    """Paths and words of a folder per word, or of any corpus whose utterances have labels.

    Raises:
        InputError: no such folder, or no labelled take in it.
    """
    utterances = load_corpus(folder)
    labelled = [(utterance.path, utterance.label) for utterance in utterances if utterance.label is not None]
    if not labelled:
        raise InputError(f"{folder} holds no labelled take; make a folder per word with the takes inside.")
    return [path for path, _ in labelled], [label for _, label in labelled]
