"""Takes of a word that nobody has spoken, in several synthetic voices: for a word of which a person has none."""

import numpy as np
from jaxtyping import Float

from ..data.synth import RATE_HZ, speak

VOICES = (
    ("f2", 150, 50), ("m3", 150, 50), ("Annie", 175, 45), ("paul", 135, 55),
    ("f5", 135, 55), ("m7", 170, 45), ("belinda", 160, 60), ("david", 160, 40),
)  # fmt: skip
"""Variant of espeak-ng, words a minute and pitch (0 to 99): high and low voices in turn, unlike each other."""
QUIET_S = 0.2
QUIET_LEVEL = 1e-4
"""Effective level of the noise around the word: no recording is silent."""


def synthetic_takes(word: str, lang: str) -> list[tuple[Float[np.ndarray, " S"], int]]:
    """The word as each of ``VOICES`` says it: samples with their rate. The same every time.

    Raises:
        InputError: an unknown language, a word that nothing is said for, or espeak-ng not installed.
    """
    rng = np.random.default_rng(0)
    text = word.replace("-", " ").replace("_", " ")
    found = []
    for variant, rate_wpm, pitch in VOICES:
        spoken = speak(text, lang, variant=variant, rate_wpm=rate_wpm, pitch=pitch)
        wave = np.pad(spoken, round(QUIET_S * RATE_HZ)).astype(np.float32)
        wave += QUIET_LEVEL * rng.standard_normal(len(wave)).astype(np.float32)
        found.append((np.clip(wave, -1, 1), RATE_HZ))
    return found
