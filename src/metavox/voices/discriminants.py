"""Where people differ in the statistics of their cepstra: Fisher's directions, which a few speakers are enough for."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from .classical import MfccStatistics
from .scoring import unit

SHRINKAGE = 0.1
"""Of the covariance within voices towards its diagonal, before directions are found."""
CUT_S = (0.7, 3.0)
"""Each clip is learned from whole and in two cuts of this many seconds of speech: tests may be short."""
N_CUTS = 2

Vectors = Float[np.ndarray, "n D"]


class DiscriminantStatistics:
    """Cepstral statistics along the directions in which people differ, at unit length: a ``VoiceEncoder``."""

    name = "mfcc-plda"

    def __init__(
        self, statistics: MfccStatistics, centre: Float[np.ndarray, " F"], directions: Float[np.ndarray, "F D"]
    ) -> None:
        self.statistics, self.centre, self.directions = statistics, centre, directions
        self.rate_hz, self.dim = statistics.rate_hz, directions.shape[1]
        weights = np.concatenate([centre[:, None], directions], axis=1).astype("<f8").tobytes()
        self.hash = hashlib.sha256(statistics.hash.encode() + weights).hexdigest()

    def embed(self, waves: Sequence[Float[np.ndarray, " _S"]]) -> Float[np.ndarray, "n D"]:
        """See ``contracts.VoiceEncoder``."""
        if not waves:
            return np.zeros((0, self.dim), np.float32)
        return self.projected(np.stack([self.statistics.statistics(wave) for wave in waves]))

    def projected(self, raw: Float[np.ndarray, "n F"]) -> Float[np.ndarray, "n D"]:
        """Statistics of clips as unit vectors."""
        return unit((np.asarray(raw, np.float64) - self.centre) @ self.directions)


def discriminants(
    raw: Float[np.ndarray, "n F"], speaker: Int[np.ndarray, " n"], n_dims: int
) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, "F D"], Float[np.ndarray, " D"]]:
    """Centre, and the directions along which voices differ most for what one voice varies (Fisher), best first.

    Along each of them the clips of one voice vary by 1; the third is the variance of voices.
    """
    x = np.asarray(raw, np.float64)
    clips = np.bincount(speaker)
    means = sums_of(x, speaker) / clips[:, None]
    off = x - means[speaker]
    within = off.T @ off / len(x)
    within += np.diag(SHRINKAGE * np.diag(within) + 1e-9)
    root = np.linalg.inv(np.linalg.cholesky(within))
    centre = means.mean(axis=0)
    spread, turned = np.linalg.eigh(root @ ((means - centre).T @ (means - centre) / len(clips)) @ root.T)
    return centre, (root.T @ turned)[:, ::-1][:, :n_dims], np.maximum(spread[::-1][:n_dims], 0.0)


def sums_of(x: Vectors, speaker: Int[np.ndarray, " n"]) -> Float[np.ndarray, "S D"]:
    """Sum of the rows of each speaker."""
    total = np.zeros((int(speaker.max()) + 1, x.shape[1]))
    np.add.at(total, speaker, x)
    return total


def learned_statistics(
    people: Sequence[Sequence[Float[np.ndarray, " _S"]]], n_dims: int, seed: int, rate_hz: int = 16_000
) -> DiscriminantStatistics:
    """Statistics along directions that were learned from the speech of people, whole clips and cuts of them.

    Each direction is scaled by the root of the share of its variance that is between voices, so that one which tells
    little counts little in a cosine.
    """
    statistics, rng = MfccStatistics(rate_hz), np.random.default_rng(seed)
    raw = [np.concatenate([of_cuts(statistics, clip, rng) for clip in clips]) for clips in people]
    speaker = np.repeat(np.arange(len(raw)), [len(rows) for rows in raw])
    centre, directions, spread = discriminants(np.concatenate(raw), speaker, min(n_dims, len(people) // 2))
    return DiscriminantStatistics(statistics, centre, directions * np.sqrt(spread / (spread + 1)))


def of_cuts(statistics: MfccStatistics, speech: Float[np.ndarray, " S"], rng: np.random.Generator) -> np.ndarray:
    """Statistics of the speech of a clip and of cuts of it, (1 + N_CUTS, F)."""
    parts = [speech]
    for _ in range(N_CUTS):
        size = min(len(speech), round(rng.uniform(*CUT_S) * statistics.rate_hz))
        start = int(rng.integers(len(speech) - size + 1))
        parts.append(speech[start : start + size])
    return np.stack([statistics.statistics(part) for part in parts])
