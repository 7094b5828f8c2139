"""Task selection for voices: whose speech is learned from, and stretches of it of any length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from ..audio import read
from ..augment.wave import speed
from ..config.voices import VoicesDataConfig
from ..contracts import InputError, Utterance
from ..data.corpora import locate, require, require_once
from ..data.manifests import load_corpus
from .speech import spoken

RATE_HZ = 16_000
Report = Callable[..., None]
"""(what is being done, done, total)."""


@dataclass(frozen=True)
class Person:
    """One voice of training: a speaker at one speed."""

    name: str
    speed: float
    clips: tuple[np.ndarray, ...]
    """int16 samples of speech, pauses left out."""

    @property
    def speech_s(self) -> float:
        """Seconds of all clips."""
        return sum(map(len, self.clips)) / RATE_HZ

    def stretch(self, n_samples: int, rng: np.random.Generator) -> Float[np.ndarray, " S"]:
        """``n_samples`` of speech in [-1, 1]: clips in random order, one after the other, from a random place on."""
        found: list[np.ndarray] = []
        missing = n_samples
        while missing > 0:
            for index in rng.permutation(len(self.clips)):
                clip = self.clips[index]
                first = int(rng.integers(max(1, len(clip) - missing + 1)))
                found.append(clip[first : first + missing])
                missing -= len(found[-1])
                if missing <= 0:
                    break
        return np.concatenate(found).astype(np.float32) / 32768


@dataclass(frozen=True)
class Material:
    """Everybody whom an experiment learns from."""

    people: tuple[Person, ...]
    corpora: tuple[str, ...]
    absent: tuple[str, ...] = ()
    """Corpora that a recipe names and this machine has not."""
    development: dict[str, tuple[Utterance, ...]] = field(default_factory=dict)
    """Recordings of the development speakers, whom the network does not hear."""

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names, each once."""
        return tuple(sorted({person.name for person in self.people}))


def gather(config: VoicesDataConfig, report: Report | None = None) -> Material:
    """Speech of everybody whom a recipe names, at each speed.

    Raises:
        InputError: a corpus that does not exist or comes twice; nobody, or only one, left to learn from.
    """
    wanted = [name for name in config.corpora if name not in config.leave_out_corpora]
    absent = tuple(name for name in wanted if "/" not in name and locate(name) is None)
    paths = [require(name) for name in wanted if name not in absent]
    require_once(paths)
    utterances = [utterance for path in paths for utterance in load_corpus(path)]
    known = {utterance.speaker for utterance in utterances}
    kept_out = {*config.leave_out_speakers, *config.development_speakers}
    unknown = sorted(kept_out - known)
    if unknown and not absent:
        raise InputError(
            f"data leaves out speaker {unknown[0]!r}, who is in none of {', '.join(wanted)}; correct the name."
        )
    learned = [one for one in utterances if one.speaker is not None and one.speaker not in kept_out]
    held = {
        name: tuple(one for one in utterances if one.speaker == name)
        for name in config.development_speakers
        if name in known
    }
    people = _people(learned, config, report)
    if len(people) < 2 * len(config.speeds):
        raise InputError(
            f"{len(people) // len(config.speeds)} speakers with {config.min_speech_s:g} s of speech are in "
            f"{', '.join(wanted) or 'no corpus'}; name recordings of at least 2 under data.corpora."
        )
    return Material(people, tuple(sorted({one.corpus for one in learned})), absent, held)


def _people(utterances: Sequence[Utterance], config: VoicesDataConfig, report: Report | None) -> tuple[Person, ...]:
    """Each speaker at each speed, in the order of their names."""
    speech: dict[tuple[str, str], list[np.ndarray]] = {}
    for index, one in enumerate(utterances):
        wave = spoken(read(one.path, RATE_HZ), RATE_HZ).wave
        if len(wave) >= RATE_HZ // 10:
            speech.setdefault((one.speaker or "", one.corpus), []).append(wave)
        if report is not None and (index % 50 == 0 or index + 1 == len(utterances)):
            report("speech", index + 1, len(utterances))
    enough = {who: clips for who, clips in speech.items() if sum(map(len, clips)) >= config.min_speech_s * RATE_HZ}
    return tuple(
        Person(name, factor, tuple(_stored(speed(clip, RATE_HZ, factor)) for clip in clips))
        for factor in config.speeds
        for (name, _), clips in sorted(enough.items())
    )


def _stored(wave: Float[np.ndarray, " S"]) -> np.ndarray:
    return (wave * 32767).clip(-32768, 32767).astype(np.int16)
