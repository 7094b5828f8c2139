"""Word-sized stretches of recordings: what a recogniser of words hears where nobody says a command.

A recording of connected speech is no fair negative as it is: nobody mistakes a sentence for a word. It is therefore cut
where its energy falls, as a detector of voices would cut it, and what is still longer than a word is cut further.
"""

import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float

from ..audio import trim_padding
from ..contracts import FrontEnd, InputError
from ..features import DB, MIN_SPEECH_MS, SPEECH_ABOVE_FLOOR_DB, SPEECH_BELOW_PEAK_DB, heard, log_mel

PAUSE_MS = 150.0
"""A gap of at least this much ends a stretch, as it may end a word."""
SHORTEST_S, LONGEST_S = 0.25, 1.2
"""A stretch of connected speech is at least and at most this long; a shorter rest is left out."""
WHOLE_S = 1.5
"""Recordings up to this long are one fragment, as they are: single words, most often."""


def fragments(wave: Float[np.ndarray, " S"], front_end: FrontEnd) -> list[tuple[int, int]]:
    """First sample and the sample after the last of each word-sized stretch; a function of the samples alone.

    Stretches louder than a threshold between the noise floor and the loudest frame, joined over gaps shorter than
    ``PAUSE_MS``; one longer than ``LONGEST_S`` is cut into pieces whose lengths are drawn evenly between ``SHORTEST_S``
    and ``LONGEST_S``, from a seed that the samples give. Where nothing stands out, as in noise, the whole is cut so.
    """
    rate_hz, total = front_end.rate_hz, len(wave)
    if total <= WHOLE_S * rate_hz:
        return [(0, total)] if len(trim_padding(wave)) >= front_end.window_samples else []
    rng = np.random.default_rng(zlib.crc32(np.round(wave * 32768).astype(np.int16).tobytes()))
    found: list[tuple[int, int]] = []
    for start, end in _loud(wave, front_end):
        found += _pieces(start, end, rate_hz, rng)
    return found


def heard_at(
    wave: Float[np.ndarray, " S"], spans: Iterable[tuple[int, int]], front_end: FrontEnd
) -> Iterator[tuple[int, int, Float[np.ndarray, "_ F"]]]:
    """Each span with what is ``features.heard`` in it; digital silence, which no microphone sends, is passed over."""
    for start, end in spans:
        try:
            yield start, end, heard(wave[start:end], front_end)
        except InputError:
            continue


def _loud(wave: Float[np.ndarray, " S"], front_end: FrontEnd) -> list[tuple[int, int]]:
    """Samples of the loud stretches; all of them where floor and peak are close."""
    values = log_mel(wave, front_end)
    energy = np.log(np.exp(values).sum(axis=1)) / DB
    floor, peak = np.quantile(energy, 0.1), np.quantile(energy, 0.98)
    least, most = SPEECH_BELOW_PEAK_DB
    if peak - floor < least:
        return [(0, len(wave))]
    above = energy > min(max(floor + SPEECH_ABOVE_FLOOR_DB, peak - most), peak - least)
    edges = np.flatnonzero(np.diff(above, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    apart = starts[1:] - ends[:-1] >= PAUSE_MS / front_end.hop_ms
    starts, ends = starts[np.append(True, apart)], ends[np.append(apart, True)]
    lasting = ends - starts >= MIN_SPEECH_MS / front_end.hop_ms
    hop, size = front_end.hop_samples, front_end.window_samples
    pairs = zip(starts[lasting].tolist(), ends[lasting].tolist(), strict=True)
    return [(start * hop, min(len(wave), end * hop + size)) for start, end in pairs]


def _pieces(start: int, end: int, rate_hz: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    found = []
    shortest, longest = round(SHORTEST_S * rate_hz), round(LONGEST_S * rate_hz)
    while end - start > longest:
        length = int(rng.integers(shortest, longest + 1))
        found.append((start, start + length))
        start += length
    if end - start >= shortest:
        found.append((start, end))
    return found
