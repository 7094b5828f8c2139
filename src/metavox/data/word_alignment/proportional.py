"""Word times without any reader: in proportion to the letters of the words, moved to the quiet places nearby.

For languages that no synthesiser speaks. Pauses inside the sentence take no letters.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from jaxtyping import Bool, Float, Int

from ...features import log_mel, speech_bounds
from .levels import CENTRE_S, FRONT_END, HOP_S, frame_levels, pause_level
from .spans import Aligner, Span
from .tokens import n_letters

MIN_PAUSE_S = 0.15
"""Shorter silences are stop consonants."""
REACH_S = 0.12
"""How far a limit moves at most, towards a quiet place."""
REACH_COST_DB = 0.3
"""What a frame of the way must gain."""
SIDE_S = 0.3
DEPTH_DB = 25.0
"""A place this far below the loudest on both sides, within 0.3 s, is as sure to part two words as a pause is. Stop
consonants are such places too: the confidence sorts out limits without any dip, and says little beyond that."""
MIN_WORD_FRAMES = 2


@contextmanager
def energy_aligner() -> Iterator[Aligner]:
    """Open the aligner; it holds nothing and knows no language."""
    yield _align


def _align(wave: np.ndarray, words: Sequence[str], _lang: str) -> list[Span] | None:
    mel = log_mel(wave, FRONT_END)
    if not len(mel):
        return None
    levels = frame_levels(mel)
    spoken = _spoken(levels, *speech_bounds(mel, FRONT_END))
    if spoken.sum() < 2 * MIN_WORD_FRAMES * len(words):
        return None
    sizes = np.array([max(1, n_letters(word)) for word in words])
    limits, sure = _limits(levels, spoken, sizes)
    spans = []
    for index in range(len(words)):
        start, end = limits[index], limits[index + 1]
        inside = np.flatnonzero(spoken[start:end])
        if len(inside):
            start, end = start + inside[0], start + inside[-1] + 1
        confidence = float(np.sqrt(sure[index] * sure[index + 1]))
        spans.append(Span(float(start * HOP_S + CENTRE_S), float(end * HOP_S + CENTRE_S), confidence))
    return spans


def _spoken(levels: np.ndarray, first: int, last: int) -> Bool[np.ndarray, " T"]:
    """Which frames hold speech: those between the bounds that are in no pause."""
    spoken = np.zeros(len(levels), bool)
    spoken[first:last] = True
    edges = np.flatnonzero(np.diff(levels < pause_level(levels), prepend=False, append=False))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if (end - start) * HOP_S >= MIN_PAUSE_S:
            spoken[start:end] = False
    return spoken


def _limits(
    levels: Float[np.ndarray, " T"], spoken: Bool[np.ndarray, " T"], sizes: Int[np.ndarray, " n"]
) -> tuple[list[int], Float[np.ndarray, " n+1"]]:
    """The n + 1 frames at which the words begin and end, and how sure each is; the ends of the sentence are."""
    smooth = np.convolve(np.pad(levels, 2, mode="edge"), np.full(5, 0.2), mode="valid")
    clock = np.append(0, np.cumsum(spoken))  # frames of speech before each frame
    places = np.flatnonzero(spoken)
    reach, side = round(REACH_S / HOP_S), round(SIDE_S / HOP_S)
    limits, sure = [int(places[0])], [1.0]
    last = int(places[-1]) + 1
    for number, letters in enumerate(np.cumsum(sizes)[:-1], 1):
        due = int(np.searchsorted(clock, letters / sizes.sum() * clock[-1]))
        room = MIN_WORD_FRAMES * (len(sizes) - number)
        low = min(max(limits[-1] + MIN_WORD_FRAMES, due - reach), last - room)
        high = max(low + 1, min(due + reach + 1, last - room))
        frames = np.arange(low, high)
        place = int(frames[(smooth[low:high] + REACH_COST_DB * np.abs(frames - due)).argmin()])
        before, after = smooth[max(0, place - side) : place + 1], smooth[place : place + side + 1]
        limits.append(place)
        depth_db = float(min(before.max(), after.max()) - smooth[place])
        sure.append(min(1.0, depth_db / DEPTH_DB) if spoken[place] else 1.0)
    return [*limits, last], np.array([*sure, 1.0])
