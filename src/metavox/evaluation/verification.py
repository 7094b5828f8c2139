"""The protocol of speaker verification: is this the voice that was enrolled, asked of clips by it and by others.

Every clip is heard once in full and once in each length; voices are enrolled with full clips and tested with clips of
every length. Rows hold every ratio, so that whatever is printed, and any other threshold, can be computed from them
again.

Kinds of rows: ``voice`` (whose, and from which clips), ``test`` (a clip, and its ratio against each voice it is held
against; ``score`` in place of ``llr`` where the model is not calibrated; ``baseline`` beside it where one was asked).
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ..audio import read
from ..contracts import InputError, Utterance
from ..voices.heard import Heard, together
from ..voices.models import MIN_SPEECH_S, VoiceModel
from ..voices.speech import Spoken, spoken
from .detection import Trials
from .protocols import Row
from .trials import Block, People, TextMode, Voice

_AT_ONCE = 32
"""Clips that are embedded together."""
_DIGITS = 4
"""Ratios are rounded to so many before anything is made of them, so that the rows give the same figures again."""

Length = float | None
"""Seconds of speech in a test clip; None for all that there is."""


@dataclass(frozen=True)
class VerificationProtocol:
    """What is asked: which clips enrol, how long tests are, what they say, and how often clips are drawn."""

    enroll: tuple[int, ...] = (3,)
    seconds: tuple[Length, ...] = (None,)
    text: TextMode = "any"
    draws: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, values in (("--enroll", self.enroll), ("--seconds", self.seconds)):
            if not values or len(set(values)) < len(values):
                raise InputError(f"{name} names nothing, or one value twice; name each once.")
        if min(self.enroll) < 1:
            raise InputError(f"--enroll is {min(self.enroll)}; a voice is enrolled with 1 clip or more.")
        for seconds in self.seconds:
            if seconds is not None and not MIN_SPEECH_S <= seconds <= 600:
                raise InputError(f"--seconds is {seconds:g}; give {MIN_SPEECH_S:g} to 600 s of speech, or full.")
        if self.draws < 1:
            raise InputError(f"--draws is {self.draws}; it must be at least 1.")


# -------------------------------------------------------------------------------------------------------------- hearing


@dataclass(frozen=True)
class Clips:
    """All clips of a corpus as a model hears them."""

    full: Heard
    cut: Mapping[float, Heard]
    """By length; a clip with less speech than that has a vector of zeros."""
    long_enough: Mapping[float, Bool[np.ndarray, " N"]]
    recording: Int[np.ndarray, " N"]
    """A number for what is heard: two clips with one number are copies of each other."""

    def of(self, seconds: Length) -> Heard:
        """Clips at a length."""
        return self.full if seconds is None else self.cut[seconds]

    def usable(self, seconds: Length) -> Bool[np.ndarray, " N"]:
        """Which clips hold enough speech."""
        return np.ones(len(self.full), bool) if seconds is None else self.long_enough[seconds]


def hear_clips(
    model: VoiceModel,
    utterances: Sequence[Utterance],
    seconds: Sequence[Length],
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Clips:
    """Every clip in full and cut to every length, the place of a cut drawn by the seed and the id of the clip.

    Pauses are taken out once, before the cut. A few clips are in memory at a time.

    Raises:
        InputError: a recording that cannot be read or holds no sound.
    """
    lengths = [one for one in seconds if one is not None]
    parts: dict[Length, list[Heard]] = {one: [] for one in (None, *lengths)}
    enough: list[list[bool]] = []
    digests: list[str] = []
    rate = model.encoder.rate_hz
    for start in range(0, len(utterances), _AT_ONCE):
        some = utterances[start : start + _AT_ONCE]
        said = []
        for utterance in some:
            wave = read(utterance.path, rate)
            if not wave.any():
                raise InputError(f"{utterance.path} holds only digital silence; leave that recording out.")
            digests.append(hashlib.sha256(wave.tobytes()).hexdigest())
            said.append(spoken(wave, rate))
        enough += [[len(one.wave) >= round(length * rate) for length in lengths] for one in said]
        parts[None].append(_heard(model, said))
        for place, length in enumerate(lengths):
            cuts = [
                _cut(one, length, rate, [seed, zlib.crc32(utterance.id.encode())]) if fits[place] else None
                for one, utterance, fits in zip(said, some, enough[start:], strict=True)
            ]
            parts[length].append(_heard_where(model, cuts))
        if progress is not None:
            progress(start + len(some), len(utterances))
    fits = np.array(enough, bool).reshape(len(utterances), len(lengths))
    return Clips(
        together(parts[None]),
        {one: together(parts[one]) for one in lengths},
        {one: fits[:, place] for place, one in enumerate(lengths)},
        np.unique(np.asarray(digests), return_inverse=True)[1],
    )


def _cut(said: Spoken, seconds: float, rate_hz: int, seed: Sequence[int]) -> Spoken:
    size = round(seconds * rate_hz)
    first = int(np.random.default_rng([*seed, size]).integers(len(said.wave) - size + 1))
    return Spoken(said.wave[first : first + size], seconds, said.snr_db)


def _heard(model: VoiceModel, said: Sequence[Spoken]) -> Heard:
    """What ``VoiceModel.hear`` gives for clips whose pauses were taken out before."""
    least = round(MIN_SPEECH_S * model.encoder.rate_hz)
    waves = [one.wave if len(one.wave) >= least else np.resize(one.wave, least) for one in said]
    vectors = model.encoder.embed(waves) if waves else np.zeros((0, model.encoder.dim), np.float32)
    return Heard(vectors, np.array([one.speech_s for one in said]), np.array([one.snr_db for one in said]))


def _heard_where(model: VoiceModel, cuts: Sequence[Spoken | None]) -> Heard:
    """The same with zeros for those that are missing."""
    found = _heard(model, [one for one in cuts if one is not None])
    there = np.array([one is not None for one in cuts], bool)
    vectors = np.zeros((len(cuts), model.encoder.dim), np.float32)
    speech_s, snr_db = np.zeros(len(cuts)), np.zeros(len(cuts))
    vectors[there], speech_s[there], snr_db[there] = found.vectors, found.speech_s, found.snr_db
    return Heard(vectors, speech_s, snr_db)


# -------------------------------------------------------------------------------------------------------------- scoring


@dataclass(frozen=True)
class Scored:
    """The trials of one condition, n of them, in the order of ``asked``."""

    enroll: int
    seconds: Length
    voices: tuple[Voice, ...]
    voice: Int[np.ndarray, " n"]
    """Place of the enrolled voice in ``voices``."""
    test: Int[np.ndarray, " n"]
    """Place of the test clip in the corpus."""
    trials: Trials
    values: Float[np.ndarray, " n"]
    """Log-likelihood ratios where the model is ``calibrated``, else scores."""
    calibrated: bool
    n_short: int
    """Clips with less speech than the length of a test, left out."""


def score(
    model: VoiceModel, clips: Clips, people: People, blocks: Sequence[Block], seconds: Length, enroll: int
) -> Scored:
    """Every trial of the blocks. Copies of an enrolled clip are no trial, nor are clips with too little speech.

    Raises:
        InputError: no trial of one person is left, or none of two.
    """
    heard, usable = clips.of(seconds), clips.usable(seconds)
    calibrated = model.ratios is not None
    voices: list[Voice] = []
    parts: list[tuple[np.ndarray, ...]] = []
    for block in blocks:
        kept = np.flatnonzero(usable[block.tests])
        tests, asked = block.tests[kept], block.is_trial[kept].copy()
        for column, one in enumerate(block.voices):
            asked[np.isin(clips.recording[tests], clips.recording[one.clips]), column] = False
        if asked.any():
            enrolled = [clips.full.at(one.clips) for one in block.voices]
            found = (model.llr if calibrated else model.scores)(enrolled, heard.at(tests))
            row, column_of = np.nonzero(asked)
            parts.append((column_of + len(voices), tests[row], found[row, column_of]))
        voices += block.voices
    voice, test = (np.concatenate([part[i] for part in parts] or [np.zeros(0)]).astype(np.int64) for i in (0, 1))
    values = np.round(np.concatenate([part[2] for part in parts] or [np.zeros(0)]).astype(np.float64), _DIGITS)
    enrolled_speaker, test_speaker = np.array([one.speaker for one in voices])[voice], people.of_clip[test]
    same = enrolled_speaker == test_speaker
    if not same.any() or same.all():
        missing = "two people" if same.any() else "one person"
        longest = float(clips.full.speech_s.max())
        raise InputError(
            f"No trial of {missing} is left where tests hold {length_text(seconds)} of speech (the longest "
            f"clip holds {longest:.1f} s, and {int((~usable).sum())} of {len(usable)} hold too little); ask for "
            "shorter tests or fewer clips to enrol."
        )
    return Scored(
        enroll, seconds, tuple(voices), voice, test, Trials(same, enrolled_speaker, test_speaker, len(people.names)),
        values, calibrated, int((~usable).sum()),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------- rows


def rows_of(
    scored: Scored, baseline: Scored | None, clips: Clips, people: People, utterances: Sequence[Utterance], corpus: str
) -> Iterator[Row]:
    """A row for each voice, then one for each test clip in each draw with all its ratios."""
    shape = {"corpus": corpus, "enroll": scored.enroll, "seconds": scored.seconds}
    for number, voice in enumerate(scored.voices):
        enrolled = [utterances[clip].id for clip in voice.clips]
        yield {"kind": "voice", **shape, "draw": voice.draw, "voice": number,
               "speaker": people.names[voice.speaker], "clips": enrolled}  # fmt: skip
    draw = np.array([voice.draw for voice in scored.voices])[scored.voice]
    order = np.lexsort((scored.voice, scored.test, draw))
    changes = np.flatnonzero(np.diff(draw[order]) | np.diff(scored.test[order])) + 1
    heard = clips.of(scored.seconds)
    for some in np.split(order, changes):
        test = int(scored.test[some[0]])
        kind = "llr" if scored.calibrated else "score"
        row: dict[str, Any] = {
            "kind": "test", **shape, "draw": int(draw[some[0]]), "item": utterances[test].id,
            "speaker": people.names[people.of_clip[test]], "speech_s": round(float(heard.speech_s[test]), 3),
            "voices": scored.voice[some].tolist(), kind: scored.values[some].tolist(),
        }  # fmt: skip
        yield row if baseline is None else {**row, "baseline": baseline.values[some].tolist()}


def length_text(seconds: Length) -> str:
    """``2 s``, or ``full``."""
    return "full" if seconds is None else f"{seconds:g} s"


def seen_in_training(about: Mapping[str, Any], utterances: Sequence[Utterance]) -> int:
    """From how many of these people a model learned, or was calibrated on: those it names, of corpora that it names.

    ``about`` lists ``corpora`` and, where it can, ``speakers`` and ``development``; without these, everybody in its
    corpora counts.
    """
    corpora = _listed(about.get("corpora"))
    named = {*_listed(about.get("speakers")), *_listed(about.get("development"))}
    people = {(one.corpus, one.speaker) for one in utterances if one.speaker}
    if named:
        return sum(name in named and (not corpora or corpus in corpora) for corpus, name in people)
    return sum(corpus in corpora for corpus, _ in people)


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, Sequence) and not isinstance(value, str) else []
