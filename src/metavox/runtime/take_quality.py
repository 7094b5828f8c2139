"""What is wrong with a take as a recording, said in a sentence each.

A take that cannot be used at all is refused elsewhere (``audio.check_take``). Here are those that can be used and would
do harm, or do no good; ``word_quality`` compares the takes of words with one another. Limits were set by measuring on
real recordings; ``docs/decisions/0010-enrolment.md`` has the rates.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from ..audio import check_take, clipped_share, from_array, probe, read, trim_padding
from ..contracts import FrontEnd, InputError
from ..data.measures import snr_db
from ..features import DB, SPEECH_ABOVE_FLOOR_DB, SPEECH_BELOW_PEAK_DB, SPEECH_MIN_RANGE_DB, log_mel, speech_bounds
from .takes import Clip

Kind = Literal[
    "unusable", "short", "long", "clipped", "quiet", "no voice", "noisy", "cut", "pause",
    "outlier", "copies", "alike", "single", "rates", "levels", "channels",
]  # fmt: skip

FRONT_END = FrontEnd()
"""Takes are judged at 16 kHz whatever a model hears."""

SHORTEST_S, LONGEST_S = 0.2, 2.5
"""Speech of a word, with the 50 ms that are kept on either side of it: 1 % of real wake words are longer."""
MAX_CLIPPED_SHARE = 0.02
"""Of the loudest half second. 3 in 1,000 real takes have more; from 15 % on nothing is learned."""
MIN_SPEECH_DBFS = -50.0
"""Effective level of the speech; 16 bits leave 48 dB below it."""
MIN_SNR_DB = 10.0
"""Speech over background: fewer than 1 % of real takes with quiet around them have less."""
MIN_VOICING, MAX_STEADY_DB = 0.7, 6.0
"""Where nothing stands out: periodicity of the loudest frames, and the range of levels over 0.6 s and more, that a word
has at least. Words cut to themselves look like noise by their level; 98 of 100 are told from it by these, while 76 of
100 recordings of noise are found."""
STEADY_S = 0.6
TIGHT_S = 0.9
"""A shorter sound in which nothing stands out is a word without what is around it, a longer one a word in noise."""
CUT_DB = 10.0
"""How far below its peak a take starts and ends: 74 % of words cut in two do not, nor 1 to 6 % of whole ones."""
CUT_FRAMES = 3
MAX_PAUSE_S = 0.6
"""The longest pause inside a word or a command of two words."""

MAX_LEVEL_RANGE_DB = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a take or with takes together."""

    kind: Kind
    take: str | None
    """The file, or None where several are meant."""
    word: str | None
    """Its word, or None where several words are meant."""
    sentence: str
    """The value, the limit and the remedy."""
    severe: bool
    """Whether it is refused where takes must be good."""


# ------------------------------------------------------------------------------------------------------- one recording


def take_findings(wave: Float[np.ndarray, " S"], rate_hz: int, name: str, word: str | None) -> list[Finding]:
    """What is wrong with one recording of one word; nothing for a good one. Mono samples in [-1, 1]."""
    found: list[Finding] = []

    def say(kind: Kind, sentence: str, severe: bool = True) -> None:
        found.append(Finding(kind, name, word, f"{name} {sentence}", severe))

    try:
        check_take(wave, rate_hz, name)
    except InputError as err:
        return [Finding("unusable", name, word, str(err), True)]
    share = clipped_share(wave, rate_hz)
    if share > MAX_CLIPPED_SHARE:
        say(
            "clipped",
            f"is clipped: {share:.0%} of its loudest half second is at full scale, and {MAX_CLIPPED_SHARE:.0%} is the "
            "most; lower the input gain and record it again.",
        )
    sound = trim_padding(from_array(wave, rate_hz, FRONT_END.rate_hz))
    levels = _levels(sound)
    if levels is None:
        return found
    _judge_speech(levels, say)
    return found


@dataclass(frozen=True, slots=True)
class _Levels:
    """Of one sound between its padding zeros, in frames of 10 ms."""

    frames_db: Float[np.ndarray, " T"]
    peak_db: float
    """The loudest level held for 50 ms."""
    range_db: float
    """From the lowest tenth of the frames to the peak."""
    start: int
    end: int
    speech_dbfs: float
    snr_db: float
    voicing: float

    @property
    def speech_s(self) -> float:
        return (self.end - self.start) * FRONT_END.hop_ms / 1000

    @property
    def pause_s(self) -> float:
        """The longest stretch within the speech that is none."""
        least, most = SPEECH_BELOW_PEAK_DB
        floor_db = self.peak_db - self.range_db
        threshold = min(max(floor_db + SPEECH_ABOVE_FLOOR_DB, self.peak_db - most), self.peak_db - least)
        above = np.flatnonzero(self.frames_db[self.start : self.end] > threshold)
        return float(np.diff(above).max(initial=1) - 1) * FRONT_END.hop_ms / 1000


def _levels(sound: Float[np.ndarray, " S"]) -> _Levels | None:
    """None for less than a tenth of a second, of which nothing can be said."""
    values = log_mel(sound, FRONT_END)
    n_held = round(50 / FRONT_END.hop_ms) + 1
    if len(values) <= n_held:
        return None
    frames_db = np.log(np.exp(values).sum(axis=1)) / DB
    floor_db = float(np.partition(frames_db, len(values) // 10)[len(values) // 10])
    peak_db = float(np.lib.stride_tricks.sliding_window_view(frames_db, n_held).min(axis=1).max())
    start, end = speech_bounds(values, FRONT_END)
    hop, size = FRONT_END.hop_samples, FRONT_END.window_samples
    speech = sound[start * hop : end * hop + size]
    effective = float(np.sqrt(np.mean(np.square(speech - speech.mean(), dtype=np.float64))))
    return _Levels(
        frames_db, peak_db, peak_db - floor_db, start, end, 20 * np.log10(max(effective, 1e-6)),
        snr_db(values, (start, end), FRONT_END), _voicing(sound),
    )  # fmt: skip


def _judge_speech(levels: _Levels, say: Callable[..., None]) -> None:
    """What the levels say of a take."""
    sound_s = len(levels.frames_db) * FRONT_END.hop_ms / 1000
    stands_out = levels.range_db >= SPEECH_MIN_RANGE_DB
    steady = levels.range_db < MAX_STEADY_DB and sound_s >= STEADY_S
    if not stands_out and (steady or levels.voicing < MIN_VOICING):
        say(
            "no voice",
            f"holds no voice that stands out: its loudest sound is {levels.range_db:.0f} dB over its quietest and a "
            f"word is {SPEECH_MIN_RANGE_DB:.0f} dB at least; come nearer to the microphone and record it again.",
        )
        return
    tight = not stands_out and sound_s < TIGHT_S
    if not tight and levels.snr_db < MIN_SNR_DB:
        say(
            "noisy",
            f"is noisy: its speech is {levels.snr_db:.0f} dB over the noise and should be {MIN_SNR_DB:.0f} dB over it; "
            "come nearer to the microphone or choose a quieter place.",
        )
    if stands_out or tight:  # else nobody can tell where the speech begins and ends
        _judge_ends(levels, say)
    if levels.speech_s < SHORTEST_S:
        say(
            "short",
            f"holds {levels.speech_s:.2g} s of speech and a word lasts at least {SHORTEST_S:g} s; record it again, "
            "the whole word.",
        )
    if levels.speech_s > LONGEST_S:
        say(
            "long",
            f"holds {levels.speech_s:.2g} s of speech and a word lasts at most {LONGEST_S:g} s; record the word once "
            "and nothing else.",
        )
    if levels.pause_s > MAX_PAUSE_S:
        say(
            "pause",
            f"has a pause of {levels.pause_s:.2g} s inside, at most {MAX_PAUSE_S:g} s belong to one word; record the "
            "word once and nothing else.",
        )
    if levels.speech_dbfs < MIN_SPEECH_DBFS:
        say(
            "quiet",
            f"is quiet: its speech has {levels.speech_dbfs:.0f} dBFS and should have {MIN_SPEECH_DBFS:.0f} dBFS at "
            "least; come nearer to the microphone or raise the input gain.",
            severe=False,
        )


def _judge_ends(levels: _Levels, say: Callable[..., None]) -> None:
    edges = levels.frames_db[:CUT_FRAMES].mean(), levels.frames_db[-CUT_FRAMES:].mean()
    below = [levels.peak_db - float(edge) for edge in edges]
    if min(below) < CUT_DB:
        where = "at both ends" if max(below) < CUT_DB else ("at its start" if below[0] < CUT_DB else "at its end")
        say(
            "cut",
            f"may be cut off {where}: its sound there is {max(0.0, min(below)):.0f} dB below its loudest and should "
            f"have fallen by {CUT_DB:.0f} dB; leave a quarter of a second before and after the word.",
        )


def _voicing(sound: Float[np.ndarray, " S"]) -> float:
    """Periodicity at 70 to 400 Hz of the louder frames of 40 ms, about 0 (noise) to 1 (a vowel): the upper quartile of
    the normalised autocorrelation below 2 kHz (Boersma 1993)."""
    rate_hz = FRONT_END.rate_hz
    size = rate_hz // 25
    if len(sound) < size:
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[:: FRONT_END.hop_samples]
    frames = frames - frames.mean(axis=1, keepdims=True)
    loud = np.argsort(np.square(frames).sum(axis=1))[::-1][: max(5, len(frames) // 5)]
    power = np.square(np.abs(np.fft.rfft(frames[loud], 2 * size)))
    hz = np.fft.rfftfreq(2 * size, 1 / rate_hz)
    power[:, (hz < 70) | (hz > 2000)] = 0
    correlation = np.fft.irfft(power)[:, :size]
    shortest, longest = rate_hz // 400, rate_hz // 70
    share = 1 - np.arange(shortest, longest) / size  # of the frame that overlaps itself
    periodic = correlation[:, shortest:longest] / share / np.maximum(correlation[:, :1], 1e-12)
    return float(np.quantile(periodic.max(axis=1), 0.75))


# ---------------------------------------------------------------------------------------------------- all recordings


def clip_findings(clips: Sequence[Clip], words: Sequence[str], names: Sequence[str] | None = None) -> list[Finding]:
    """``take_findings`` of every clip at its own rate, and what differs between them: rates, channels, levels.

    Clips that cannot be read at all are left to whoever learns from them.
    """
    found: list[Finding] = []
    facts = []
    for position, (clip, word) in enumerate(zip(clips, words, strict=True)):
        try:
            wave, rate_hz, n_channels = _opened(clip)
        except InputError:
            continue
        name = names[position] if names else (f"Take {position + 1}" if isinstance(clip, tuple) else str(clip))
        mine = take_findings(wave, rate_hz, name, word)
        found += mine
        if not any(one.kind in ("unusable", "no voice") for one in mine):
            levels = _levels(trim_padding(from_array(wave, rate_hz, FRONT_END.rate_hz)))
            facts.append((rate_hz, n_channels, levels.speech_dbfs if levels else np.nan))
    return found + _differing(facts)


def _opened(clip: Clip) -> tuple[np.ndarray, int, int]:
    """Mono samples, their rate and how many channels they were."""
    if isinstance(clip, tuple):
        samples = np.asarray(clip[0])
        return (
            from_array(samples, int(clip[1]), int(clip[1])),
            int(clip[1]),
            1 if samples.ndim == 1 else min(samples.shape),
        )
    info = probe(clip)
    return read(clip, info.rate_hz), info.rate_hz, info.n_channels


def _differing(facts: Sequence[tuple[int, int, float]]) -> list[Finding]:
    """What takes do not share; of no harm by itself, and often the mark of two microphones."""
    found: list[Finding] = []
    rates, channels = (Counter(fact[i] for fact in facts) for i in (0, 1))
    remedy = "record all takes with the microphone that will be used"
    if len(rates) > 1:
        listed = ", ".join(f"{n} at {rate_hz} Hz" for rate_hz, n in sorted(rates.items()))
        sentence = f"Takes have {len(rates)} sampling rates ({listed}) and should have one; {remedy}."
        found.append(Finding("rates", None, None, sentence, False))
    if len(channels) > 1:
        listed = ", ".join(f"{n} with {count}" for count, n in sorted(channels.items()))
        sentence = f"Takes differ in their channels ({listed}) and should not; {remedy}."
        found.append(Finding("channels", None, None, sentence, False))
    levels = [level for _, _, level in facts if np.isfinite(level)]
    if levels and max(levels) - min(levels) > MAX_LEVEL_RANGE_DB:
        sentence = (
            f"Takes have levels from {min(levels):.0f} to {max(levels):.0f} dBFS, and {MAX_LEVEL_RANGE_DB:.0f} dB is "
            f"as much as they should differ; {remedy}, at one distance."
        )
        found.append(Finding("levels", None, None, sentence, False))
    return found
