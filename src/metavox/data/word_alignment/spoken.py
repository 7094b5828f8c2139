"""Word times by a recogniser that was trained with CTC: the best path of its posteriors through the known text.

The recogniser is handed over by whoever has one, since networks are built on higher floors than data.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ...audio import PADDING_PEAK
from ...contracts import FrontEnd, InputError
from ...text.align import ctc_align
from ...text.symbols import Symbols, min_frames
from .spans import RATE_HZ, Aligner, Span

SPACING_S = 0.08
"""Between two symbols where a word has but one."""
MAX_LEAD_S = 0.1
WILD_COST = 0.1
"""What a frame of a word that cannot be written costs more than the best symbol there."""


@runtime_checkable
class Recogniser(Protocol):
    """A trained network with its alphabet, as alignment and transcription take it."""

    @property
    def symbols(self) -> Symbols: ...

    @property
    def front_end(self) -> FrontEnd: ...

    @property
    def frame_s(self) -> float:
        """Seconds between two output frames, about 0.02."""
        ...

    def log_probs(self, wave: Float[np.ndarray, " S"]) -> Float[Tensor, "T V"]:
        """Log-probabilities of symbols, 0 the blank, in samples at 16 kHz: one segment, from its first sample on."""
        ...


def hear(recogniser: Recogniser, wave: Float[np.ndarray, " S"]) -> tuple[Float[np.ndarray, "T V"], float] | None:
    """Log-probabilities of a segment, and when its first frame is, in seconds from the segment's start.

    A frame stands for the hop in the middle of its analysis window. None where ``sounding`` finds nothing.
    """
    found = sounding(recogniser.front_end, wave)
    if found is None:
        return None
    part, start_s = found
    log_probs = recogniser.log_probs(part)
    return log_probs.detach().double().cpu().numpy(), start_s + first_frame_s(recogniser.front_end)


def sounding(front_end: FrontEnd, wave: Float[np.ndarray, " S"]) -> tuple[Float[np.ndarray, " S2"], float] | None:
    """A segment without the digital zeros at its ends, which front ends leave out, and the seconds before it; None
    where less than a window is left."""
    sound = np.flatnonzero(np.abs(wave) > PADDING_PEAK)
    if not len(sound) or sound[-1] + 1 - sound[0] < front_end.window_samples:
        return None
    return wave[sound[0] : sound[-1] + 1], int(sound[0]) / RATE_HZ


def first_frame_s(front_end: FrontEnd) -> float:
    """Where the first frame's hop begins in its analysis window."""
    return (front_end.window_ms - front_end.hop_ms) / 2000


@contextmanager
def spoken_aligner(load: Callable[[], Recogniser]) -> Iterator[Aligner]:
    """Open the aligner with the recogniser that ``load`` gives.

    A confidence is the geometric mean of the posteriors of the word's symbols over their frames. A word that cannot be
    written in the symbols (it has digits, or letters of another alphabet) takes what its neighbours leave and has
    confidence 0. The aligner raises InputError where the package that romanises a script is not installed.
    """
    recogniser = load()

    def align(wave: np.ndarray, words: Sequence[str], lang: str) -> list[Span] | None:
        return _align(recogniser, wave, words, lang or None)

    yield align


def _align(recogniser: Recogniser, wave: np.ndarray, words: Sequence[str], lang: str | None) -> list[Span] | None:
    written = [_written(word, recogniser.symbols, lang) for word in words]
    heard = hear(recogniser, wave)
    if heard is None:
        return None
    values, offset_s = heard
    wild = values.shape[1]
    space = (recogniser.symbols.characters.index(" ") + 1,) if " " in recogniser.symbols.characters else ()
    ids: list[int] = []
    places = []
    for number, word in enumerate(written):
        ids += space if number else ()
        places.append((len(ids), len(ids) + len(word or (wild,))))
        ids += word or (wild,)
    if min_frames(ids) > len(values):
        return None
    values = np.append(values, values.max(axis=1, keepdims=True) - WILD_COST, axis=1)
    found = ctc_align(values, ids)
    symbols = [[(span.start_frame, span.end_frame) for span in found[start:end]] for start, end in places]
    limits = word_limits(symbols, recogniser.frame_s, offset_s, len(wave) / RATE_HZ)
    spans = []
    for word, (start, end), (start_s, end_s) in zip(written, places, limits, strict=True):
        n_frames = np.array([span.end_frame - span.start_frame for span in found[start:end]])
        mean = float(np.average([span.log_prob for span in found[start:end]], weights=n_frames))
        spans.append(Span(start_s, end_s, float(np.exp(mean)) if word else 0.0))
    return spans


def _written(word: str, symbols: Symbols, lang: str | None) -> tuple[int, ...] | None:
    """The symbols of a word; None where it has no reading."""
    try:
        return symbols.encode(word, lang)
    except InputError as error:
        if isinstance(error.__cause__, ImportError):  # not the word is wrong
            raise
        return None


# ------------------------------------------------------------------------------------------------------------- limits


def word_limits(
    words: Sequence[Sequence[tuple[int, int]]], frame_s: float, offset_s: float, duration_s: float
) -> list[tuple[float, float]]:
    """Start and end of each word in seconds, in order and without overlap, within 0 and ``duration_s``.

    A word is given by the frames (first, exclusive last) of each of its symbols. CTC marks a symbol somewhere inside
    its sound, often by a single frame (Graves et al. 2006, figure 1), so a word reaches half the distance of its
    symbols beyond the first and the last of them, 0.1 s at most, and never beyond the middle of the gap to the next
    word.
    """
    most = MAX_LEAD_S / frame_s
    limits = []
    for symbols in words:
        centres = [(start + end) / 2 for start, end in symbols]
        spacing = (centres[-1] - centres[0]) / (len(centres) - 1) if len(centres) > 1 else SPACING_S / frame_s
        lead = min(spacing / 2, most)
        limits.append([min(symbols[0][0], centres[0] - lead), max(symbols[-1][1], centres[-1] + lead)])
    for (before, after), (symbols, following) in zip(pairwise(limits), pairwise(words), strict=True):
        middle = (symbols[-1][1] + following[0][0]) / 2
        before[1], after[0] = min(before[1], middle), max(after[0], middle)
    frames = np.maximum.accumulate(np.array(limits).ravel())  # a beam search may put two words into one run
    times = np.clip(frames * frame_s + offset_s, 0, duration_s).reshape(-1, 2)
    return [(float(start), float(end)) for start, end in times]
