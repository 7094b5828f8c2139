"""Made-up people who say made-up words: a voice has a pitch, a word a course of formants; and an ear for pitch."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import sounds

from metavox.calibration.ratios import fit_ratios
from metavox.voices.heard import Heard
from metavox.voices.models import VoiceModel
from metavox.voices.scoring import unit

RATE_HZ = 16_000
N_COURSE = 5


def utter(person: int, word: str, take: int = 0) -> np.ndarray:
    """About 0.7 s of a word, (S,) float32, quiet around it. The same word has the same course by everybody."""
    own, now = np.random.default_rng([7, person]), np.random.default_rng([23, person, take, *word.encode()])
    course = np.random.default_rng([29, *word.encode()])
    pitch, tract = 85 * 1.06 ** ((7 * person) % 20) * now.uniform(0.99, 1.01), own.uniform(0.98, 1.02)
    places = tract * np.array([500.0, 1500.0, 2500.0, 3500.0])
    n = round(0.6 * now.uniform(0.93, 1.07) * RATE_HZ)
    t = np.arange(n) / RATE_HZ
    ends = course.uniform(0.65, 1.45, (4, N_COURSE)) * now.uniform(0.98, 1.02, (4, N_COURSE))
    vowel = np.stack([np.interp(np.linspace(0, N_COURSE - 1, n), np.arange(N_COURSE), row) for row in ends])
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.03 * np.sin(2 * np.pi * 5 * t))) / RATE_HZ
    wave, tilt = np.zeros(n), own.uniform(0.4, 0.8)
    for harmonic in range(1, int(4500 / pitch)):
        heard = np.exp(-(((harmonic * pitch - places[:, None] * vowel) / 220) ** 2)).sum(axis=0)
        wave += harmonic**-tilt * heard * np.sin(harmonic * phase)
    wave = wave * np.hanning(n) ** 0.3
    wave = np.pad(wave / np.abs(wave).max() * 0.5, round(0.1 * RATE_HZ))
    return (wave + now.standard_normal(len(wave)) * 0.001).astype(np.float32)


def clips(person: int, words: Sequence[str], takes: Sequence[int]) -> tuple[list[tuple[np.ndarray, int]], list[str]]:
    """Each take of each word with its rate, and the words."""
    pairs = [((utter(person, word, take), RATE_HZ), word) for word in words for take in takes]
    return [clip for clip, _ in pairs], [word for _, word in pairs]


class Pitches:
    """Autocorrelation of the samples from 400 down to 70 Hz, a vector a clip. It tells people here, and nobody else."""

    name, hash, rate_hz = "pitches", "1" * 64, RATE_HZ
    lags = np.arange(RATE_HZ // 400, RATE_HZ // 70, 2)
    dim = len(lags)

    def embed(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        """See ``contracts.VoiceEncoder``."""
        found = np.zeros((len(waves), self.dim))
        for row, wave in zip(found, waves, strict=True):
            power = np.abs(np.fft.rfft(wave, 2 * len(wave))) ** 2
            same = np.fft.irfft(power)[self.lags]
            row[:] = same - same.mean()
        return unit(found)


@lru_cache(maxsize=1)
def word_voices() -> VoiceModel:
    """Calibrated on single words of people 40 to 59, without a cohort."""
    bare = VoiceModel(Pitches(), "pitches", "1" * 64, np.zeros((0, Pitches.dim), np.float32), None)
    n_people = 20
    heard = bare.hear([utter(40 + p, f"w{k}", 0) for p in range(n_people) for k in range(4)])
    voices = [heard.at([4 * p, 4 * p + 1]) for p in range(n_people)]
    tests = heard.at(np.concatenate([np.arange(n_people) * 4 + 2, np.arange(n_people) * 4 + 3]))
    scores, same = bare.scores(voices, tests), np.tile(np.eye(n_people, dtype=bool), (2, 1))
    return bare.with_ratios(fit_ratios({"score": scores[same]}, {"score": scores[~same]}, penalty=1e-2))


class Verifier:
    """Enrolled voices, as ``SpeakerVerifier`` holds them."""

    def __init__(self, **takes: Sequence[tuple[np.ndarray, int]]) -> None:
        self.model_ = word_voices()
        self.voices_: dict[str, Heard] = {
            name: self.model_.hear([wave for wave, _ in clips]) for name, clips in takes.items()
        }


def corpus(root: Path, people: Sequence[int], words: Sequence[str], n_takes: int) -> Path:
    """A corpus of all of them; a speaker is called ``p`` and a number."""
    rows = []
    for person in people:
        for word in words:
            for take in range(n_takes):
                name, wave = f"clips/{person}-{word}-{take}.wav", utter(person, word, take)
                sounds.write(root / name, wave)
                row = {"audio_filepath": name, "duration": len(wave) / RATE_HZ, "label": word, "text": word}
                rows.append(row | {"speaker": f"p{person}", "lang": "xx"})
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return root
