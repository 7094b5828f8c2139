"""Who speaks synthetic speech: variants of espeak-ng at their own rate, pitch, range and length of vocal tract."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import soundfile as sf
import soxr

from .synth_languages import LANGUAGES
from .synth_spec import SynthSpec

LOW_VARIANTS = (
    "m1", "m3", "m4", "m7", "m8", "Alex", "Denis", "Gene", "Mario", "Reed", "Storm", "Tweaky", "boris", "david",
    "grandpa", "iven2", "klatt", "klatt4", "marcelo", "norbert", "pablo", "paul", "quincy", "rob", "sandro", "travis",
)  # fmt: skip
HIGH_VARIANTS = ("f1", "f2", "f3", "f5", "Andrea", "Annie", "anika", "aunty", "belinda", "grandma", "steph")
"""Variants of espeak-ng whose median pitch is 70 to 125 Hz and 175 to 270 Hz, chosen by measure. Of 60 words in each
of five languages at least 95 in 100 are recognised from other variants (nearest MFCC template), and no two have the
same long-term spectrum. That leaves out Alicia (33 %), zac (36 %), Lee (68 %), shelby (73 %) and most robots."""

TRACTS = (1.0, 0.9, 1.1, 0.95, 1.05)
"""Lengths of the vocal tract, of the variant's own, that a variant speaks with when it is used the first time, the
second time, and so on: 110 unlike speakers of each language before anything but rate and pitch repeats."""

_SPEED_JITTER, _PITCH_JITTER, _RANGE_JITTER = 0.06, 3, 6
"""How far a take strays from its speaker: share of the rate, points of pitch, points of range."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """A synthetic speaker of one language."""

    id: str
    voice: str
    """Voice and variant of espeak-ng, ``de+f3``."""
    rate_wpm: float
    pitch: float
    pitch_range: float
    tract: float = 1.0
    """Length of the vocal tract, of the variant's own: with 1.1 formants and pitch are 1.1 times lower."""


def speakers(spec: SynthSpec, code: str) -> list[Speaker]:
    """The speakers of a language, low and high voices in turn; they depend on the seed and on no other language."""
    rng = np.random.default_rng([spec.seed, crc32(code.encode()), 1])
    pools = [[pool[i] for i in rng.permutation(len(pool))] for pool in (LOW_VARIANTS, HIGH_VARIANTS)]
    found = []
    for i in range(spec.n_voices):
        pool = pools[i % 2]
        n_used, place = divmod(i // 2, len(pool))
        rate, pitch, pitch_range = (float(rng.uniform(*ends)) for ends in (spec.rate_wpm, spec.pitch, spec.pitch_range))
        voice = f"{LANGUAGES[code].voice}+{pool[place]}"
        tract = TRACTS[n_used % len(TRACTS)]
        found.append(Speaker(f"synth-{code}-{i:02d}", voice, rate, pitch, pitch_range, tract))
    return found


def takes(spec: SynthSpec, speaker: Speaker, texts: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """What one speaker says, each take a little unlike the others, as jobs for ``synth_voice``.

    The rate makes up for the tract, which ``resize_tract`` applies afterwards.
    """
    rng = np.random.default_rng([spec.seed, crc32(speaker.id.encode()), 2])
    number = speaker.id.rpartition("-")[2]
    jobs = []
    for i, text in enumerate(texts):
        for j in range(spec.n_takes):
            speed, pitch, pitch_range = rng.uniform(-1, 1, 3)
            rate_wpm = speaker.rate_wpm * speaker.tract * (1 + _SPEED_JITTER * speed)
            jobs.append(
                {
                    "voice": speaker.voice,
                    "text": text,
                    "rate_wpm": round(np.clip(rate_wpm, 80, 450)),
                    "pitch": round(np.clip(speaker.pitch + _PITCH_JITTER * pitch, 0, 99)),
                    "pitch_range": round(np.clip(speaker.pitch_range + _RANGE_JITTER * pitch_range, 0, 99)),
                    "path": str(folder / f"{number}-{i:04d}-{j}.wav"),
                }
            )
    return jobs


def resize_tract(path: Path, tract: float) -> int:
    """Speak a 16-bit recording again with a vocal tract of another length, in place; the number of samples.

    The samples are played ``tract`` times slower (as by resampling), so every formant, and the pitch with them, is
    divided by it, as with the tubes of the source-filter model (Fant, 1960).
    """
    sound, rate_hz = sf.read(path, dtype="float32")
    resized = soxr.resample(sound, rate_hz, rate_hz * tract)
    sf.write(path, np.clip(np.rint(resized * 32768), -32768, 32767).astype(np.int16), rate_hz, subtype="PCM_16")
    return len(resized)
