"""When each symbol of a known text was said: the best path of CTC through it (Viterbi forced alignment)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ..errors import InputError
from .posteriors import Scores, as_array
from .symbols import BLANK, Symbols, min_frames

_IMPOSSIBLE = -1e9
"""Instead of -inf: a path through something impossible is still better than none, and is compared with others."""


@dataclass(frozen=True, slots=True)
class Span:
    """One symbol of the text and its frames on the best path."""

    symbol: int
    start_frame: int
    end_frame: int
    """Exclusive."""
    log_prob: float
    """Mean log posterior of the symbol over its frames."""


@dataclass(frozen=True, slots=True)
class WordSpan:
    """One word of the text and its frames, from the first of its first symbol to the last of its last one."""

    word: str
    start_frame: int
    end_frame: int
    """Exclusive."""
    confidence: float
    """The geometric mean of the posteriors over the frames of its symbols, 0 to 1."""


def ctc_align(log_probs: Scores, ids: Sequence[int]) -> list[Span]:
    """The frames of each symbol on the most probable path that says exactly ``ids``, blanks between them.

    Spans follow one another without overlap; frames in none of them are blank. Of equal paths, the one that leaves a
    state later is taken. Raises InputError for a text that needs more frames than there are, for an id that is the
    blank or outside the alphabet, and for NaN.
    """
    values = as_array(log_probs)
    n_frames, n_symbols = values.shape
    wrong = [each for each in ids if not 0 < each < n_symbols]
    if wrong:
        raise InputError(
            f"Symbol {wrong[0]} of the text is not between 1 and {n_symbols - 1}; use the model's alphabet."
        )
    needed = min_frames(ids)
    if needed > n_frames:
        raise InputError(
            f"The transcript is too long for its audio: its {len(ids)} symbols need {needed} frames and the recording "
            f"has {n_frames}; correct the transcript or give the whole recording."
        )
    if not ids:
        return []
    states = _best_states(values, np.asarray(ids, dtype=np.int64))
    spans = []
    for place, symbol in enumerate(ids):
        frames = np.flatnonzero(states == 2 * place + 1)
        start, end = int(frames[0]), int(frames[-1]) + 1
        spans.append(Span(int(symbol), start, end, float(values[start:end, symbol].mean())))
    return spans


def word_spans(alignment: Sequence[Span], symbols: Symbols) -> list[WordSpan]:
    """The words of an aligned text, parted by the symbol of the space."""
    words: list[list[Span]] = [[]]
    for span in alignment:
        if symbols.decode([span.symbol]) == " ":
            words.append([])
        else:
            words[-1].append(span)
    return [_word_span(word, symbols) for word in words if word]


def _word_span(word: list[Span], symbols: Symbols) -> WordSpan:
    n_frames = [span.end_frame - span.start_frame for span in word]
    mean = sum(span.log_prob * n for span, n in zip(word, n_frames, strict=True)) / sum(n_frames)
    text = symbols.decode([span.symbol for span in word])
    return WordSpan(text, word[0].start_frame, word[-1].end_frame, float(np.exp(mean)))


def _best_states(values: Float[np.ndarray, "T V"], ids: Int[np.ndarray, " U"]) -> Int[np.ndarray, " T"]:
    """The state of each frame on the best path: 2u + 1 for symbol u, even numbers for the blanks around."""
    states = np.full(2 * len(ids) + 1, BLANK)
    states[1::2] = ids
    n_frames, n_states = len(values), len(states)
    may_skip = np.zeros(n_states, dtype=bool)
    may_skip[3::2] = ids[1:] != ids[:-1]
    score = np.full(n_states, -np.inf)
    score[:2] = np.maximum(values[0, states[:2]], _IMPOSSIBLE)
    steps = np.zeros((n_frames, n_states), dtype=np.int8)
    options = np.full((3, n_states), -np.inf)
    for frame in range(1, n_frames):
        options[0] = score
        options[1, 1:] = score[:-1]
        options[2, 2:] = np.where(may_skip[2:], score[:-2], -np.inf)
        steps[frame] = options.argmax(0)
        score = options.max(0) + np.maximum(values[frame, states], _IMPOSSIBLE)
    state = n_states - 1 if score[-1] > score[-2] else n_states - 2
    path = np.empty(n_frames, dtype=np.int64)
    for frame in range(n_frames - 1, -1, -1):
        path[frame] = state
        state -= int(steps[frame, state])
    return path
