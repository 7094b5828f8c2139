"""Voices by hand: mean and deviation of cepstra over a clip, learned from nobody. A baseline, and for tests."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ..contracts import FrontEnd
from ..features import log_mel, mfcc
from .scoring import unit

N_CEPSTRA = 20


class MfccStatistics:
    """Mean and deviation over time of 20 cepstra, (40,) a clip, and unit length. Deterministic, without weights."""

    name = "mfcc-statistics"
    dim = 2 * N_CEPSTRA

    def __init__(self, rate_hz: int = 16_000) -> None:
        self.rate_hz = rate_hz
        self.front_end = FrontEnd(rate_hz=rate_hz, n_mels=40, n_frames=None, high_hz=min(7600.0, 0.475 * rate_hz))
        self.hash = hashlib.sha256(f"{self.name} {rate_hz}".encode()).hexdigest()

    def embed(self, waves: Sequence[Float[np.ndarray, " _S"]]) -> Float[np.ndarray, "n D"]:
        """See ``contracts.VoiceEncoder``."""
        return unit(np.stack([self.statistics(wave) for wave in waves]) if waves else np.zeros((0, self.dim)))

    def statistics(self, wave: Float[np.ndarray, " S"]) -> Float[np.ndarray, " D"]:
        """Mean and deviation of the cepstra, as they are."""
        shortest = self.front_end.window_samples
        frames = log_mel(wave if len(wave) >= shortest else np.resize(wave, shortest), self.front_end)
        cepstra = mfcc(frames, N_CEPSTRA)
        return np.concatenate([cepstra.mean(axis=0), cepstra.std(axis=0)])
