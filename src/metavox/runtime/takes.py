"""Takes: recordings that a user hands over, checked before anything is learned from them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..audio import check_take, from_array, read
from ..contracts import Batch, FrontEnd, InputError
from ..data.manifests import load_corpus
from ..features import prepare

Clip = str | Path | tuple[np.ndarray, int]
"""A path, or samples with their rate in Hz."""


def take_window(clip: Clip, front_end: FrontEnd, *, strict: bool = True) -> tuple[Tensor, Tensor]:
    """The (1, T, F) window of one clip and its length, computed as in training.

    With ``strict`` (enrolment) a short, silent or clipped take is refused; what is only to be recognised may be
    clipped, but must hold something.

    Raises:
        InputError: an unreadable or unusable recording.
    """
    match clip:
        case str() | Path():
            name, wave = str(clip), read(clip, front_end.rate_hz)
        case (np.ndarray() as samples, int() | np.integer() as rate_hz):
            name, wave = "The array", from_array(samples, int(rate_hz), front_end.rate_hz)
        case _:
            raise InputError(f"A clip is a path, or samples with their rate in Hz; {type(clip).__name__} is neither.")
    check_take(wave, front_end.rate_hz, name, clipping=strict)
    return prepare(wave, front_end)


def take_batch(
    clips: Sequence[Clip], labels: Sequence[int], n_classes: int, front_end: FrontEnd, *, strict: bool = True
) -> Batch:
    """Windows of several clips, padded to the longest.

    Raises:
        InputError: all unusable takes, in one message.
    """
    windows, faults = [], []
    for clip in clips:
        try:
            windows.append(take_window(clip, front_end, strict=strict))
        except InputError as err:
            faults.append(str(err))
    if faults:
        if len(faults) == 1:
            raise InputError(faults[0])
        listed = "; ".join(fault.removesuffix(".") for fault in faults)
        raise InputError(f"{len(faults)} of {len(clips)} takes cannot be used: {listed}.")
    longest = max(window.shape[1] for window, _ in windows)
    padded = [torch.nn.functional.pad(window, (0, 0, 0, longest - window.shape[1])) for window, _ in windows]
    lengths = torch.cat([length for _, length in windows])
    return Batch(torch.cat(padded), lengths, torch.as_tensor(list(labels), dtype=torch.int64), n_classes)


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
