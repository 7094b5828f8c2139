"""Made-up people for tests of voices, each with a pitch, formants and tilt; and a model that needs no training."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from metavox.calibration.ratios import fit_ratios
from metavox.voices.classical import MfccStatistics
from metavox.voices.models import VoiceModel
from metavox.voices.turns import learn_turns

RATE_HZ = 16_000


def say(person: int, take: int = 0, seconds: float = 2.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    """A few syllables by one of any number of people; another take has other vowels. (S,) float32."""
    own, now = np.random.default_rng([7, person]), np.random.default_rng([11, person, take])
    pitch, tract = own.uniform(80, 280), own.uniform(0.8, 1.25)
    places = tract * np.array([500.0, 1500.0, 2500.0, 3500.0]) * own.uniform(0.9, 1.1, 4)
    n = round(seconds * rate_hz)
    t = np.arange(n) / rate_hz
    vowel = np.repeat(now.uniform(0.85, 1.15, (4, int(4 * seconds) + 1)), rate_hz // 4, axis=1)[:, :n]
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.03 * np.sin(2 * np.pi * 5 * t))) / rate_hz
    wave = np.zeros(n)
    tilt = own.uniform(0, 1.2)
    for harmonic in range(1, int(4500 / pitch)):
        heard = np.exp(-(((harmonic * pitch - places[:, None] * vowel) / 220) ** 2)).sum(axis=0)
        wave += harmonic**-tilt * heard * np.sin(harmonic * phase)
    envelope = 0.25 + 0.75 * np.sin(np.pi * 4 * t) ** 2
    wave = wave * envelope / np.abs(wave * envelope).max() * 0.5 + now.standard_normal(n) * 0.001
    return wave.astype(np.float32)


@lru_cache(maxsize=1)
def voice_model() -> VoiceModel:
    """Calibrated on people 1000 to 1011, with people 2000 to 2015 as cohort; vectors have 40 values."""
    bare = VoiceModel(MfccStatistics(), "made-up", "0" * 64, np.zeros((0, MfccStatistics.dim), np.float32), None)
    model = replace(bare, cohort=bare.hear([say(person, 0, 1.0) for person in range(2000, 2016)]).vectors)
    n_people = 12
    heard = model.hear([say(1000 + person, take, 1.0) for person in range(n_people) for take in range(3)])
    first = np.arange(n_people) * 3
    voices = [heard.at([int(k)]) for k in first]
    tests = heard.at(np.concatenate([first + 1, first + 2]))
    scores = model.scores(voices, tests)
    same = np.tile(np.eye(n_people, dtype=bool), (2, 1))
    clips = [[say(1000 + person, take, 2.0) for take in range(3)] for person in range(n_people)]
    turns = learn_turns(model.encoder, clips, ["made-up"] * n_people, np.random.default_rng(0), model.cohort)
    assert turns is not None
    ratios = fit_ratios({"score": scores[same]}, {"score": scores[~same]}, penalty=1e-2)
    return replace(model.with_ratios(ratios), turns=turns.ratios)
