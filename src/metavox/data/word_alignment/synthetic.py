"""Word times by a synthetic reader: espeak-ng says the sentence and tells when each word starts, and dynamic time
warping carries the times over to the recording (Malfrère and Dutoit 1997; aeneas does so with whole sentences).

Between the words the path may rest in a pause, which costs little where the recording is quiet, so that a speaker who
hesitates does not stretch a word. A first path shows how the reader's sounds differ from the speaker's; an affine map
of its features (as the MLLR of Leggetter and Woodland 1995) brings them closer for the second. Several voices read,
and the median of their limits counts.
"""

import base64
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float

from ...contracts import InputError
from ...features import DB, deltas, log_mel, mfcc
from ..synth_languages import find_language
from ..synth_process import Voice
from .levels import CENTRE_S, FRONT_END, HOP_S, frame_levels, pause_level, top_level
from .spans import RATE_HZ, Aligner, Span
from .warping import Path, States, warp

VARIANTS = ("", "+f3", "+m3")
"""The voices that read: the language's own, a woman, another man."""
RATE_WPM = 150
N_CEPS = 13
SLOPE_WEIGHT = 0.7
LEVEL_WEIGHT = 0.15
"""Of a decibel, against a standard deviation of a cepstrum."""
SPEECH_RANGE_DB = 30.0
"""Features are scaled over the frames within this of the loud ones."""
RIDGE = 300.0
"""How strongly the map from reader to speaker is held to the identity, in frames."""

PAUSE_COST = 0.6
"""Of a frame at the level below which it may be a pause; frames of the same sound lie at about 0.6 too."""
PAUSE_COST_PER_DB = 0.08
MIN_PAUSE_COST, MAX_PAUSE_COST = 0.3, 2.0

SPREAD_S = 0.1
"""Voices that disagree by this about a limit leave a confidence of 1 / e."""
GOOD_FIT = 0.68
"""Cost of a path against chance in sentences that were said as written; with a wrong text it is 0.73 and more."""
FIT_SCALE = 0.06
WORD_FIT_SLACK, WORD_FIT_SCALE = 0.05, 0.1
TEMPO_SLACK = 0.5
"""Natural logarithm of how much slower or faster than the sentence a word may be at no loss of confidence."""


@contextmanager
def synthetic_aligner() -> Iterator[Aligner]:
    """Open the aligner and its espeak-ng. The same sentence is read once when its recordings follow each other.

    Raises InputError when espeak-ng is not installed; the aligner raises it for a language that has no voice.
    """
    last: tuple[tuple[str, ...], str, list[States]] = ((), "", [])
    with Voice() as voice:

        def align(wave: np.ndarray, words: Sequence[str], lang: str) -> list[Span] | None:
            nonlocal last
            if last[:2] != (tuple(words), lang):
                last = (tuple(words), lang, _read(voice, words, lang))
            readings = last[2]
            if not readings or len(wave) < FRONT_END.window_samples:
                return None
            return _align(wave, len(words), readings)

        yield align


def voice_of(lang: str) -> str:
    """The name of the voice that reads a language. Raises InputError, with codes nearby and the other aligner."""
    try:
        return find_language(lang).voice
    except InputError as error:
        raise InputError(f"{str(error).rstrip('.?')}, or take the aligner energy.") from None


# ------------------------------------------------------------------------------------------------------------ reading


def _read(voice: Voice, words: Sequence[str], lang: str) -> list[States]:
    """The sentence in every voice; nothing where espeak-ng says nothing."""
    said = {"text": " ".join(words), "rate_wpm": RATE_WPM, "pitch": 50, "pitch_range": 50}
    takes = [{"voice": voice_of(lang) + variant, **said} for variant in VARIANTS]
    reply = voice.ask({"do": "timed", "takes": takes}, f"reading {lang}")
    readings = []
    for take in reply["takes"]:
        wave = np.frombuffer(base64.b64decode(take["pcm"]), "<i2").astype(np.float32) / 32768
        starts_s = word_starts(words, take["words"], len(wave) / RATE_HZ)
        readings.append(_states(speech_features(wave)[0], starts_s))
    return readings


def word_starts(
    words: Sequence[str], events: Sequence[Sequence[int | float]], duration_s: float
) -> Float[np.ndarray, " n"]:
    """When each word of ``" ".join(words)`` starts, in seconds, from the (position in the text, second) of
    all that espeak-ng said.

    What is said of one word (a number, a compound) starts with its first event. A word without an event of its own was
    said as one with the word before it: they share the time by their letters.
    """
    places = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
    starts = np.full(len(words), np.inf)
    for place, start_s in events:
        index = bisect_right(places, place) - 1
        starts[index] = min(starts[index], start_s)
    starts[0] = 0.0
    said = [*np.flatnonzero(np.isfinite(starts)), len(words)]
    ends = np.append(starts, duration_s)
    for first, after in pairwise(said):
        shares = np.cumsum([0, *(len(word) for word in words[first:after])])
        starts[first:after] = ends[first] + (ends[after] - ends[first]) * shares[:-1] / shares[-1]
    return np.maximum.accumulate(starts)


def _states(frames: np.ndarray, starts_s: np.ndarray) -> States:
    middles_s = np.arange(len(frames)) * HOP_S + CENTRE_S + HOP_S / 2
    owner = (np.searchsorted(starts_s, middles_s, side="right") - 1).clip(0)
    pause = np.zeros((1, frames.shape[1]), np.float32)
    rows, word = [pause], [np.array([-1])]
    for index in range(len(starts_s)):
        mine = frames[owner == index]
        rows += [mine, pause]
        word += [np.full(len(mine), index), np.array([-1])]
    return States(np.concatenate(rows), np.concatenate(word))


def speech_features(wave: Float[np.ndarray, " S"]) -> tuple[Float[np.ndarray, "T D"], Float[np.ndarray, " T"]]:
    """What is compared, (T, 25): cepstra 1 to 12 with zero mean and unit variance over the speech, their slopes, and
    the level below the loud frames; and the level of each frame in dB. Two unrelated frames are about 1 apart."""
    mel = log_mel(wave, FRONT_END)
    levels = frame_levels(mel)
    top = top_level(levels)
    speech = levels > top - SPEECH_RANGE_DB
    ceps = mfcc(np.maximum(mel, mel.max() - FRONT_END.range_db * DB), N_CEPS)[:, 1:]
    ceps = (ceps - ceps[speech].mean(axis=0)) / (ceps[speech].std(axis=0) + 1e-3)
    slopes = deltas(torch.from_numpy(ceps)[None], torch.tensor([len(ceps)]))[0].numpy()
    slopes = slopes / (slopes[speech].std(axis=0) + 1e-3)
    height = (levels - top).clip(-40, 5)[:, None] * LEVEL_WEIGHT
    scale = np.sqrt(2 * ceps.shape[1] * (1 + SLOPE_WEIGHT**2))
    return (np.concatenate([ceps, SLOPE_WEIGHT * slopes, height], axis=1) / scale).astype(np.float32), levels


# ----------------------------------------------------------------------------------------------------------- alignment


def _align(wave: np.ndarray, n_words: int, readings: Sequence[States]) -> list[Span] | None:
    frames, levels = speech_features(wave)
    pause_cost = PAUSE_COST + PAUSE_COST_PER_DB * (levels - pause_level(levels))
    pause_cost = pause_cost.clip(MIN_PAUSE_COST, MAX_PAUSE_COST).astype(np.float32)
    paths = warp(frames, pause_cost, readings)
    if paths is None:
        return None
    readings = [_adapted(reading, frames, path) for reading, path in zip(readings, paths, strict=True)]
    paths = warp(frames, pause_cost, readings)
    assert paths is not None  # the same states, elsewhere
    limits = np.stack([_limits(reading, path, n_words) for reading, path in zip(readings, paths, strict=True)])
    confidence = _confidence(limits, readings, paths)
    starts, ends = np.median(limits, axis=0).T
    starts = np.maximum.accumulate(starts)
    ends = np.minimum(np.maximum(ends, starts), np.append(starts[1:], len(frames)))
    return [
        Span(float(start * HOP_S + CENTRE_S), float(end * HOP_S + CENTRE_S), float(sure))
        for start, end, sure in zip(starts, ends, confidence, strict=True)
    ]


def _adapted(reading: States, frames: np.ndarray, path: Path) -> States:
    """The reading moved towards the speaker: a ridge regression from the states on the path to their frames."""
    spoken = reading.word[path.states] >= 0
    states = np.append(reading.frames, np.ones((len(reading.frames), 1), np.float32), axis=1)
    source = states[path.states[spoken]].astype(np.float64)
    target = frames[spoken] - source[:, :-1]
    held = np.append(np.full(source.shape[1] - 1, RIDGE * source[:, :-1].var()), 1e-2)
    moved = np.linalg.solve(source.T @ source + np.diag(held), source.T @ target)
    return replace(reading, frames=reading.frames + (states @ moved).astype(np.float32))


def _limits(reading: States, path: Path, n_words: int) -> Float[np.ndarray, "n 2"]:
    """First frame of each word and the frame after its last. A word that is leapt over lies between its neighbours."""
    word = reading.word[path.states]
    reached = np.maximum.accumulate(word)
    starts = np.searchsorted(reached, np.arange(n_words))
    last = np.full(n_words, -1)
    last[word[word >= 0]] = np.flatnonzero(word >= 0)
    return np.stack([starts, np.maximum(last + 1, starts)], axis=1).astype(float)


def _confidence(
    limits: Float[np.ndarray, "V n 2"], readings: Sequence[States], paths: Sequence[Path]
) -> Float[np.ndarray, " n"]:
    """Agreement of the voices, times fit of the sentence and of the word, times plausibility of the word's tempo."""
    spread_s = np.abs(limits - np.median(limits, axis=0)).mean(axis=0).max(axis=1) * HOP_S
    n_words = limits.shape[1]
    fits, tempi, sentence_fits = np.ones((len(paths), n_words)), [], []
    for number, (reading, path) in enumerate(zip(readings, paths, strict=True)):
        word = reading.word[path.states]
        fit = path.costs / path.chance
        sentence_fits.append(fit[word >= 0].mean())
        counts = np.bincount(word[word >= 0], minlength=n_words)
        sums = np.bincount(word[word >= 0], fit[word >= 0], minlength=n_words)
        fits[number] = np.where(counts > 0, sums / counts.clip(1), 1.0)
        tempi.append(counts.clip(0.5) / np.bincount(reading.word[reading.word >= 0], minlength=n_words).clip(0.5))
    sentence_fit = float(np.median(sentence_fits))
    fit = np.median(fits, axis=0)
    tempo = np.log(np.median(tempi, axis=0))
    confidence: np.ndarray = (
        np.exp(-spread_s / SPREAD_S)
        * np.exp(-max(sentence_fit - GOOD_FIT, 0) / FIT_SCALE)
        * np.exp(-(fit - sentence_fit - WORD_FIT_SLACK).clip(0) / WORD_FIT_SCALE)
        * np.exp(-(np.abs(tempo - np.median(tempo)) - TEMPO_SLACK).clip(0))
    )
    return confidence
