"""Other versions of a clip: which changes each goes through, and whose voices are heard behind it.

A variant is a function of the clip's samples, a seed, the variant's number, the settings, the recorded noise and the
other clips of its corpus: not of who computes it, nor of the order.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from ..augment.chain import change_wave
from ..augment.channel import through_codec
from ..augment.wave import coloured_noise
from ..config import WaveConfig
from ..contracts import InputError, Utterance
from .noise import Noise

FORMAT = 1
N_TALKERS = 8
"""Clips that a babble is made of, at most."""
_N_ASKED = 64
"""Clips that are looked at to find them."""

Clip = Callable[[int], Float[np.ndarray, " S"]]


@dataclass(frozen=True)
class Variants:
    """What is asked of a bank beside the clips themselves."""

    n: int
    """Variants of each clip."""
    wave: WaveConfig = field(default_factory=WaveConfig)
    seed: int = 0
    noise: tuple[Path, ...] = ()
    """Folders or files of recorded noise."""


@dataclass(frozen=True)
class Varying:
    """Everything that decides the variants of one corpus."""

    asked: Variants
    utterances: Sequence[Utterance]
    clip: Clip
    """Samples of a clip by its position."""
    rate_hz: int
    noise: Noise | None

    def __post_init__(self) -> None:
        codes = [_codes([u.speaker for u in self.utterances]), _codes([_word(u) for u in self.utterances])]
        object.__setattr__(self, "_codes", codes)

    def key(self) -> str:
        """Hash of all but the recordings of the corpus itself; who speaks what decides who is heard behind whom."""
        about = [
            FORMAT, self.asked.wave.model_dump(mode="json"), self.asked.seed, self.noise and self.noise.key,
            [[u.speaker, _word(u)] for u in self.utterances],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]

    def __call__(self, position: int, number: int) -> Float[np.ndarray, " S"]:
        """Samples of variant ``number`` (1 and on) of one clip.

        Raises:
            InputError: the changes leave nothing of it.
        """
        wave = self.clip(position)
        content = hashlib.sha256(wave.tobytes()).digest()
        rng = np.random.default_rng([self.asked.seed, number, int.from_bytes(content[:8], "little")])
        return change_wave(
            wave,
            self.rate_hz,
            self.asked.wave,
            rng,
            seed=self.asked.seed,
            recorded=None if self.noise is None else self.noise.stretch,
            talkers=lambda rng: self.talkers(position, rng),
        )

    def talkers(self, position: int, rng: np.random.Generator) -> list[Float[np.ndarray, " S"]]:
        """Clips that may be heard behind one clip; none where its corpus has no other voice."""
        asked = rng.integers(len(self.utterances), size=_N_ASKED)
        return [self.clip(i) for i in asked[self.may_be_behind(position, asked)][:N_TALKERS].tolist()]

    def may_be_behind(self, position: int, others: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Other speakers with another word; where speakers or words are not named, the other of the two decides."""
        speakers, words = self._codes  # type: ignore[attr-defined]
        named = (speakers[others] >= 0) & (speakers[position] >= 0)
        known = (words[others] >= 0) & (words[position] >= 0)
        other_voice = speakers[others] != speakers[position]
        other_word = words[others] != words[position]
        return np.where(named, other_voice & (other_word | ~known), known & other_word)


def _word(utterance: Utterance) -> str | None:
    return (utterance.label or utterance.text).casefold() or None


def _codes(names: Sequence[str | None]) -> Int[np.ndarray, " n"]:
    """A number for each name, -1 for none."""
    known: dict[str, int] = {}
    return np.asarray([-1 if name is None else known.setdefault(name, len(known)) for name in names], np.int64)


def require_fit(
    asked: Variants,
    noise: Noise | None,
    utterances: Sequence[Utterance],
    n_samples: Int[np.ndarray, " n"],
    rate_hz: int,
) -> None:
    """Refuse what cannot go well with clips of ``n_samples`` before anything is computed.

    Raises:
        InputError: no recording of noise is as long as the longest clip played slowest; a shift beyond the end of the
            shortest clip; a codec that is not here.
    """
    wave = asked.wave
    at = int(n_samples.argmin())
    if wave.shift_s and wave.shift_s >= n_samples[at] / rate_hz:
        raise InputError(
            f"augment.wave.shift_s of {wave.shift_s:g} s would empty {utterances[at].path}, which lasts "
            f"{n_samples[at] / rate_hz:.2f} s; shift by less, or leave that clip out."
        )
    if noise is not None and wave.noise_share and wave.recorded_share:
        at = int(n_samples.argmax())
        utterance, n_clip = utterances[at], int(n_samples[at])
        path, n_noise = noise.longest()
        n_needed = int(n_clip / (1 - wave.speed)) + 1
        if n_noise < n_needed:
            slowest = f", {n_needed / rate_hz:.2f} s at the slowest speed" if wave.speed else ""
            raise InputError(
                f"The longest recording of noise, {path}, lasts {n_noise / rate_hz:.2f} s, and {utterance.path} "
                f"{n_clip / rate_hz:.2f} s{slowest}; list a longer recording under augment.noise, or leave that clip "
                "out."
            )
    if wave.codec_share:
        trial = 0.1 * coloured_noise(rate_hz, "pink", np.random.default_rng(0))
        for codec in wave.codecs:
            through_codec(trial, rate_hz, codec)
