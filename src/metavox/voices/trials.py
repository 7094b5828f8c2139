"""Trials among development speakers: what a calibration of voices is learned from.

Speakers are cut into two halves. The cohort that normalises the trials of one half is made of the other, since in use
nobody who is compared is in the cohort. Voices are enrolled with 1, 3 and 5 clips and tested with whole clips and with
pieces of them, so that one map from scores to ratios serves all lengths and numbers.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ..contracts import InputError, VoiceEncoder
from .heard import Heard, together
from .models import features
from .scoring import normalised, template
from .speech import Spoken, spoken

CLIPS_OF_VOICE = (1, 3, 5)
"""Of which a voice is enrolled."""
SHORTEST_S = 0.3
"""Pieces of clips hold this much speech or more: a word. From 0.7 s on, ratios promised too much of single words."""
LEAST_SPEECH_S = 0.25
"""A clip with less speech teaches nothing and is left out."""
N_CLIPS = 12
"""Of a speaker, drawn where there are more: speakers teach, and not their clips."""
N_PIECES = 2
"""Of each clip, beside the whole of it."""
N_VOICES = 2
"""Drawn of each speaker with each number of clips."""
N_OTHERS = 60
"""Tests by other speakers that each voice is compared with, drawn."""
MIN_SPEAKERS = 8
"""With two clips or more each; fewer teach no calibration that holds for anybody else."""

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A development speaker, as heard: whole clips and pieces of them."""

    whole: Heard
    pieces: Heard
    clip_of_piece: Int[np.ndarray, " m"]

    def mean(self) -> Float[np.ndarray, " D"]:
        """The vector of the voice in all whole clips."""
        return template(self.whole)


@dataclass(frozen=True, slots=True)
class Trials:
    """One voice and one test clip each, n of them."""

    features: dict[str, Float[np.ndarray, " n"]]
    same: Bool[np.ndarray, " n"]
    voice: Int[np.ndarray, " n"]
    """Speaker whose voice is enrolled, by number."""
    test: Int[np.ndarray, " n"]
    """Speaker of the test clip."""
    weight: Float[np.ndarray, " n"]
    """So that each corpus counts alike, in it each speaker, and each pair of speakers; targets and others sum to 1."""

    def __len__(self) -> int:
        return len(self.same)

    def at(self, where: Bool[np.ndarray, " n"]) -> "Trials":
        """Those that are marked, with their weights as they are."""
        kept = {name: values[where] for name, values in self.features.items()}
        return Trials(kept, self.same[where], self.voice[where], self.test[where], self.weight[where])


# ------------------------------------------------------------------------------------------------------------ hearing


def hear_speakers(
    encoder: VoiceEncoder,
    speakers: Sequence[Sequence[Float[np.ndarray, " _S"]]],
    rng: np.random.Generator,
    report: Report | None = None,
) -> list[Recorded]:
    """The clips of each speaker and pieces of them as vectors; a clip that comes twice is taken once.

    Raises:
        InputError: one recording by two speakers, or a speaker without a clip that holds speech.
    """
    found, owners = [], dict[str, int]()
    for number, clips in enumerate(speakers):
        found.append(_recorded(encoder, _distinct(clips, number, owners), number, rng))
        if report is not None:
            report("voices", number + 1, len(speakers))
    return found


def _distinct(
    clips: Sequence[Float[np.ndarray, " _S"]], number: int, owners: dict[str, int]
) -> list[Float[np.ndarray, " _S"]]:
    """The clips without copies, and a refusal where another speaker has one of them."""
    kept = {}
    for clip in clips:
        mark = hashlib.sha256(np.ascontiguousarray(clip).tobytes()).hexdigest()
        owner = owners.setdefault(mark, number)
        if owner != number:
            raise InputError(
                f"One recording is by two speakers, numbers {owner + 1} and {number + 1}; a calibration would learn "
                "that they sound alike, so correct the names or leave the clip out."
            )
        kept[mark] = clip
    return list(kept.values())


def _recorded(
    encoder: VoiceEncoder, clips: Sequence[Float[np.ndarray, " _S"]], number: int, rng: np.random.Generator
) -> Recorded:
    """One speaker, heard."""
    chosen = np.sort(rng.permutation(len(clips))[:N_CLIPS])
    said = [spoken(clips[place], encoder.rate_hz) for place in chosen]
    said = [one for one in said if one.speech_s >= LEAST_SPEECH_S]
    if not said:
        raise InputError(
            f"Speaker number {number + 1} has no clip with {LEAST_SPEECH_S:g} s of speech; leave that speaker out."
        )
    pieces = [piece for one in said for piece in cut(one, encoder.rate_hz, N_PIECES, rng)]
    return Recorded(
        _heard(encoder, said), _heard(encoder, pieces), np.repeat(np.arange(len(said)), N_PIECES).astype(np.int64)
    )


def cut(said: Spoken, rate_hz: int, n_pieces: int, rng: np.random.Generator) -> list[Spoken]:
    """Pieces of the speech of a clip, 0.3 s to all of it long, short ones as likely as long ones (log-uniform)."""
    total = len(said.wave)
    shortest = min(round(SHORTEST_S * rate_hz), total)
    pieces = []
    for _ in range(n_pieces):
        size = round(np.exp(rng.uniform(np.log(shortest), np.log(total))))
        start = int(rng.integers(total - size + 1))
        pieces.append(Spoken(said.wave[start : start + size], size / rate_hz, said.snr_db))
    return pieces


def _heard(encoder: VoiceEncoder, said: Sequence[Spoken]) -> Heard:
    return Heard(
        encoder.embed([one.wave for one in said]),
        np.array([one.speech_s for one in said]),
        np.array([one.snr_db for one in said]),
    )


# ------------------------------------------------------------------------------------------------------------ drawing


def halves(corpus_of: Sequence[str], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """0 or 1 for each speaker, half of each corpus in either."""
    names = np.asarray(corpus_of)
    side = np.zeros(len(names), np.int64)
    for name in sorted(set(corpus_of)):
        members = rng.permutation(np.flatnonzero(names == name))
        side[members[::2]] = 1
    return side


def draw_trials(
    recorded: Sequence[Recorded],
    corpus_of: Sequence[str],
    rng: np.random.Generator,
    cohort: Float[np.ndarray, "M D"] | None = None,
) -> Trials:
    """Trials within each corpus, normalised by the speakers of the other half of all, or by ``cohort`` where given.

    Raises:
        InputError: so few speakers with two clips that nothing can be learned.
    """
    usable = [number for number, speaker in enumerate(recorded) if len(speaker.whole) > 1]
    if len(usable) < MIN_SPEAKERS:
        raise InputError(
            f"{len(usable)} speakers have two clips or more and {MIN_SPEAKERS} are the least for a calibration; add "
            "recordings of other people, who will be in nobody's gallery."
        )
    side = halves(corpus_of, rng)
    parts = []
    for half in (0, 1):
        others = np.stack([one.mean() for one, where in zip(recorded, side, strict=True) if where != half])
        for name in sorted(set(corpus_of)):
            inside = [number for number in usable if side[number] == half and corpus_of[number] == name]
            if inside:
                parts.append(_trials(recorded, inside, others if cohort is None else cohort, rng))
    return weighted(joined(parts), corpus_of)


def _trials(
    recorded: Sequence[Recorded], inside: Sequence[int], cohort: Float[np.ndarray, "M D"], rng: np.random.Generator
) -> Trials:
    """All target trials of these speakers, and some of the others."""
    voices, tests = _drawn_voices(recorded, inside, rng), _tests(recorded, inside)
    heard = [voice for voice, _, _ in voices]
    found = features(normalised(heard, tests.heard, cohort), heard, tests.heard)
    rows, columns = [], []
    for place, (_, speaker, enrolled) in enumerate(voices):
        own = tests.speaker == speaker
        rows.append(np.flatnonzero(own & ~np.isin(tests.clip, enrolled)))
        rows.append(rng.permutation(np.flatnonzero(~own))[:N_OTHERS])
        columns.append(np.full(len(rows[-1]) + len(rows[-2]), place))
    row, column = np.concatenate(rows), np.concatenate(columns)
    of_voice = np.array([speaker for _, speaker, _ in voices])[column]
    of_test = tests.speaker[row]
    return Trials(
        {name: values[row, column] for name, values in found.items()},
        of_voice == of_test,
        of_voice,
        of_test,
        np.ones(len(row)),
    )


def _drawn_voices(
    recorded: Sequence[Recorded], inside: Sequence[int], rng: np.random.Generator
) -> list[tuple[Heard, int, Int[np.ndarray, " k"]]]:
    """Enrolled voices, each with its speaker and the clips it is made of; every second one of pieces."""
    found = []
    for speaker in inside:
        own = recorded[speaker]
        for n_clips in CLIPS_OF_VOICE:
            if n_clips >= len(own.whole):
                continue
            for draw in range(N_VOICES):
                clips = np.sort(rng.permutation(len(own.whole))[:n_clips])
                piece = clips * N_PIECES + rng.integers(N_PIECES, size=n_clips)
                found.append((own.pieces.at(piece) if draw % 2 else own.whole.at(clips), speaker, clips))
    return found


@dataclass(frozen=True, slots=True)
class _Tests:
    heard: Heard
    speaker: Int[np.ndarray, " n"]
    clip: Int[np.ndarray, " n"]


def _tests(recorded: Sequence[Recorded], inside: Sequence[int]) -> _Tests:
    """Every whole clip and every piece of these speakers."""
    parts, speaker, clip = [], [], []
    for number in inside:
        own = recorded[number]
        parts += [own.whole, own.pieces]
        clip += [np.arange(len(own.whole)), own.clip_of_piece]
        speaker.append(np.full(len(own.whole) + len(own.pieces), number))
    return _Tests(together(parts), np.concatenate(speaker), np.concatenate(clip))


def joined(parts: Sequence[Trials]) -> Trials:
    """All trials of several."""
    return Trials(
        {name: np.concatenate([part.features[name] for part in parts]) for name in parts[0].features},
        np.concatenate([part.same for part in parts]),
        np.concatenate([part.voice for part in parts]),
        np.concatenate([part.test for part in parts]),
        np.concatenate([part.weight for part in parts]),
    )


def weighted(trials: Trials, corpus_of: Sequence[str]) -> Trials:
    """The same, with ``Trials.weight`` as it promises."""
    names, corpus = np.unique(np.asarray(corpus_of), return_inverse=True)
    pair = trials.voice * (max(len(corpus_of), 1)) + trials.test
    _, group, size = np.unique(pair, return_inverse=True, return_counts=True)
    weight = 1.0 / size[group]
    for number in range(len(names)):
        for kind in (trials.same, ~trials.same):
            where = kind & (corpus[trials.voice] == number)
            weight[where] /= max(weight[where].sum(), 1e-12)
    for kind in (trials.same, ~trials.same):
        weight[kind] /= max(weight[kind].sum(), 1e-12)
    return Trials(trials.features, trials.same, trials.voice, trials.test, weight)
