"""From posteriors to symbols: the best path of CTC, and the best prefixes by beam search with a language model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import InputError
from .align import ctc_align
from .beam import Fusion, search
from .fusion import LanguageModel
from .posteriors import DAMAGED, Scores, as_array
from .symbols import BLANK


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was heard."""

    ids: tuple[int, ...]
    frames: tuple[int, ...]
    """The frame of each symbol: the peak of its run."""
    log_prob: float
    """Of the path for ``greedy``; of the symbols, over all their paths that were not pruned, for a beam search."""
    confidences: tuple[float, ...]
    """The probability of each symbol at its peak."""
    score: float | None = None
    """What a beam search ranks by: ``log_prob``, the weighted language model and the bonus for length together."""


def greedy(log_probs: Scores) -> Decoded:
    """The best symbol of every frame, repetitions merged and blanks left out (Graves et al. 2006, section 3.2).

    Raises InputError for NaN among the log-probabilities.
    """
    values = as_array(log_probs)
    n_frames = len(values)
    if n_frames == 0:
        return Decoded((), (), 0.0, ())
    best = values.argmax(1)
    peaks = values[np.arange(n_frames), best]
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    ends = np.append(starts[1:], n_frames)
    runs = [(start, end) for start, end in zip(starts, ends, strict=True) if best[start] != BLANK]
    frames = [int(start + peaks[start:end].argmax()) for start, end in runs]
    return Decoded(
        tuple(int(best[frame]) for frame in frames),
        tuple(frames),
        float(peaks.sum()),
        tuple(float(np.exp(peaks[frame])) for frame in frames),
    )


def greedy_batch(log_probs: Float[Tensor, "B T V"], lengths: Int[Tensor, " B"]) -> list[tuple[int, ...]]:
    """The symbols of ``greedy`` for each item of a batch; frames at and after its length are not read.

    Raises InputError for NaN within the lengths.
    """
    peaks, best = log_probs.max(-1)
    n_frames = best.shape[1]
    inside = torch.arange(n_frames, device=best.device) < lengths.to(best.device).unsqueeze(1)
    if bool((peaks.isnan() & inside).any()):
        raise InputError(DAMAGED)
    new = torch.ones_like(inside)
    new[:, 1:] = best[:, 1:] != best[:, :-1]
    said = inside & new & (best != BLANK)
    counts = said.sum(1).tolist()
    symbols = best[said].tolist()
    out, start = [], 0
    for count in counts:
        out.append(tuple(symbols[start : start + count]))
        start += count
    return out


def prefix_beam(
    log_probs: Scores,
    beam: int = 16,
    lm: LanguageModel | None = None,
    lm_weight: float = 0.5,
    length_bonus: float = 0.0,
    prune: float = 1e-3,
    n_best: int | None = None,
) -> list[Decoded]:
    """The most probable texts, best first, by CTC prefix beam search (Hannun et al. 2014).

    A text's score is the log-probability of all its paths, plus ``lm_weight`` times that of the language model with its
    end, plus ``length_bonus`` for each symbol. ``beam`` texts are kept after each frame, of which ``n_best`` are
    returned (all by default). Symbols less probable than ``prune`` at a frame are not tried there, and a frame whose
    blank is more probable than 1 - ``prune`` is taken for silence; with 0 and a wide beam the result is exact. Frames
    and confidences come from the best path of each text.

    Raises InputError for a beam below 1, a ``prune`` outside 0 to 0.5, and NaN.
    """
    if beam < 1:
        raise InputError(f"The beam is {beam} wide; keep 1 text or more.")
    if not 0 <= prune <= 0.5:
        raise InputError(f"Pruning at a probability of {prune:g}; choose 0 to 0.5.")
    values = as_array(log_probs)
    found = search(values, beam=beam, fusion=Fusion(lm, lm_weight, length_bonus), prune=prune)
    return [replace(placed(values, one.ids), log_prob=one.log_prob, score=one.score) for one in found[:n_best]]


def placed(log_probs: Scores, ids: Sequence[int]) -> Decoded:
    """Symbols that are known, with their frames and confidences on the best path through them, whose ``log_prob`` it
    has.

    Raises InputError where there are fewer frames than the symbols need.
    """
    values = as_array(log_probs)
    frames, confidences, total = [], [], float(values[:, BLANK].sum())
    for span in ctc_align(values, ids):
        run = values[span.start_frame : span.end_frame, span.symbol]
        frames.append(span.start_frame + int(run.argmax()))
        confidences.append(float(np.exp(run.max())))
        total += float(run.sum() - values[span.start_frame : span.end_frame, BLANK].sum())
    return Decoded(tuple(ids), tuple(frames), total, tuple(confidences))
