"""The classical way to tell voices apart: statistics of cepstra, discriminant analysis, and PLDA. A baseline.

A clip is the mean and deviation of its cepstra. Linear discriminant analysis keeps the directions along which people
differ, vectors are brought to one length (Garcia-Romero and Espy-Wilson 2011), and a two-covariance model (Brummer and
de Villiers 2010) says how likely it is that two clips are by one person. It is learned in a second from the clips of
given speakers, and is what a trained encoder has to beat.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from ..calibration.ratios import Ratios, fit_ratios
from ..contracts import InputError
from .classical import MfccStatistics
from .discriminants import DiscriminantStatistics, Vectors, discriminants, of_cuts, sums_of
from .heard import Heard
from .models import VoiceModel
from .speech import spoken

MIN_SPEAKERS = 4
"""With two clips or more each, on either side of the calibration."""
MAX_DIM = 40
"""Directions that discriminant analysis keeps, at most; and no more than one for two speakers."""
RIDGE = 0.05
"""Share of the mean variance that is added to every direction within voices, which few clips leave singular."""
N_STEPS = 20


# --------------------------------------------------------------------------------------------- the two-covariance model


@dataclass(frozen=True)
class TwoCovariance:
    """Voices are N(mean, between), clips of one are N(voice, within). All float64."""

    mean: Float[np.ndarray, " D"]
    between: Float[np.ndarray, "D D"]
    within: Float[np.ndarray, "D D"]

    @cached_property
    def _diagonal(self) -> tuple[Float[np.ndarray, "D D"], Float[np.ndarray, " D"]]:
        """Axes along which clips vary by 1 and voices by the second, all independent: (x - mean) @ axes."""
        root = np.linalg.inv(np.linalg.cholesky(self.within))
        spread, turned = np.linalg.eigh(root @ self.between @ root.T)
        return root.T @ turned, np.maximum(spread, 0.0)

    def llr(self, voices: Sequence[Float[np.ndarray, "_K D"]], tests: Vectors) -> Float[np.ndarray, "n V"]:
        """Natural logarithm of p(test | enrolled clips, same voice) / p(test), for voices of any numbers of clips.

        Given K clips whose sum is s, a voice is N(psi s / (1 + K psi), psi / (1 + K psi)) along each axis.
        """
        axes, psi = self._diagonal
        x = (np.asarray(tests, np.float64) - self.mean) @ axes
        clips = np.array([len(voice) for voice in voices], np.float64)[:, None]
        total = np.stack([((np.asarray(voice, np.float64) - self.mean) @ axes).sum(axis=0) for voice in voices])
        centre, spread = psi * total / (1 + clips * psi), 1 + psi / (1 + clips * psi)
        squares = (x**2) @ (1 / (1 + psi) - 1 / spread).T + 2 * x @ (centre / spread).T
        alone = (centre**2 / spread + np.log(spread / (1 + psi))).sum(axis=1)
        return np.asarray((squares - alone) / 2)

    def log_likelihood(self, vectors: Vectors, speaker: Int[np.ndarray, " n"]) -> float:
        """Of clips (n, D) with the speaker of each, 0 to S - 1: what ``fit_two_covariance`` raises."""
        axes, psi = self._diagonal
        x = (np.asarray(vectors, np.float64) - self.mean) @ axes
        clips = np.bincount(speaker).astype(np.float64)[:, None]
        total = sums_of(x, speaker)
        square = (x**2).sum() - (psi * total**2 / (1 + clips * psi)).sum()
        volume = np.log1p(clips * psi).sum() - 2 * len(x) * np.linalg.slogdet(axes)[1]
        return float(-(square + volume + x.size * np.log(2 * np.pi)) / 2)


def fit_two_covariance(
    vectors: Vectors, speaker: Int[np.ndarray, " n"], n_steps: int = N_STEPS, ridge: float = RIDGE
) -> TwoCovariance:
    """The model of clips (n, D) by speakers 0 to S - 1: moments first, then ``n_steps`` of EM. Deterministic.

    Raises:
        InputError: fewer than two speakers, or nobody with two clips.
    """
    x = np.asarray(vectors, np.float64)
    clips = np.bincount(speaker)
    if len(clips) < 2 or clips.min() < 1 or clips.max() < 2:
        raise InputError(
            f"PLDA learns from two speakers or more and from two clips of one, and has {len(clips)} speakers with "
            f"{len(x)} clips; give more recordings."
        )
    found = _moments(x, speaker, clips, ridge)
    for _ in range(n_steps):
        found = _step(found, x, speaker, clips)
    return found


def _moments(x: Vectors, speaker: np.ndarray, clips: np.ndarray, ridge: float) -> TwoCovariance:
    """Analysis of variance: what is left around each speaker's mean, and what the means vary beyond that."""
    means = sums_of(x, speaker) / clips[:, None]
    off = x - means[speaker]
    within = off.T @ off / max(len(x) - len(clips), 1)
    within += ridge * np.trace(within) / len(within) * np.eye(len(within))
    between = np.cov(means.T, ddof=1).reshape(within.shape) - within * np.mean(1 / clips)
    size, axes = np.linalg.eigh(between)
    floor = 1e-3 * np.trace(within) / len(within)
    return TwoCovariance(means.mean(axis=0), (axes * np.maximum(size, floor)) @ axes.T, within)


def _step(model: TwoCovariance, x: Vectors, speaker: np.ndarray, clips: np.ndarray) -> TwoCovariance:
    """One step of EM along the axes of the model, where the posterior of every voice is diagonal."""
    axes, psi = model._diagonal
    z = (x - model.mean) @ axes
    shrunk = psi / (1 + clips[:, None] * psi)
    voice = shrunk * sums_of(z, speaker)
    off = z - voice[speaker]
    centre = voice.mean(axis=0)
    between = (voice - centre).T @ (voice - centre) / len(clips) + np.diag(shrunk.mean(axis=0))
    within = off.T @ off / len(x) + np.diag((clips[:, None] * shrunk).sum(axis=0) / len(x))
    back = np.linalg.inv(axes)
    turned = [back.T @ part @ back for part in (between, within)]
    return TwoCovariance(model.mean + centre @ back, turned[0], turned[1])


# ----------------------------------------------------------------------------------------------------- what is compared


@dataclass(frozen=True)
class PldaVoices(VoiceModel):
    """A model of voices whose scores are the likelihood ratios of PLDA; ``ratios`` maps them to calibrated ones."""

    plda: TwoCovariance | None = None

    def scores(self, voices: Sequence[Heard], tests: Heard) -> Float[np.ndarray, "n V"]:
        """Log-likelihood ratio by the model itself of each test clip against each enrolled voice."""
        assert self.plda is not None
        return self.plda.llr([voice.vectors for voice in voices], tests.vectors)


# ------------------------------------------------------------------------------------------------------------- learning


def train_plda(
    waves: Sequence[Float[np.ndarray, " _S"]],
    speakers: Sequence[str],
    *,
    seed: int,
    rate_hz: int = 16_000,
) -> PldaVoices:
    """The baseline, learned from clips (S,) in [-1, 1] with the speaker of each, and calibrated on part of them.

    A third of the speakers set the calibration of a model of the others; then the model learns from all of them.

    Raises:
        InputError: too few speakers with two clips.
    """
    require_enough(speakers)
    statistics = MfccStatistics(rate_hz)
    names, speaker = np.unique(np.asarray(speakers), return_inverse=True)
    rng = np.random.default_rng(seed)
    raw = np.stack([of_cuts(statistics, spoken(wave, rate_hz).wave, rng) for wave in waves])
    usable = np.flatnonzero(np.bincount(speaker) > 1)
    held = rng.permutation(usable)[: max(MIN_SPEAKERS, len(usable) // 3)]
    inside = np.isin(speaker, np.setdiff1d(usable, held))
    ratios = _calibration(_learned(statistics, raw[inside], speaker[inside]), raw, speaker, held, rng)
    kept = np.isin(speaker, usable)
    found = _learned(statistics, raw[kept], speaker[kept])
    about = {"speakers": [str(names[place]) for place in usable], "clips": int(kept.sum()), "seed": seed}
    digest = hashlib.sha256(f"{found.hash} {sorted(ratios.weights.items())} {ratios.bias}".encode()).hexdigest()
    return replace(found, hash=digest, ratios=ratios, about=about)


def require_enough(speakers: Sequence[str]) -> None:
    """Raise InputError where clips by these speakers teach nothing; to be asked before they are read."""
    n_usable = int((np.unique(np.asarray(speakers), return_counts=True)[1] > 1).sum())
    if n_usable < 2 * MIN_SPEAKERS:
        raise InputError(
            f"{n_usable} speakers of the baseline's recordings have two clips or more and {2 * MIN_SPEAKERS} are the "
            "least that it learns from; give recordings of more people."
        )


def _learned(statistics: MfccStatistics, raw: Float[np.ndarray, "n P F"], speaker: Int[np.ndarray, " n"]) -> PldaVoices:
    """Directions and PLDA of clips with their cuts; nothing is calibrated."""
    _, speaker = np.unique(speaker, return_inverse=True)
    each = np.repeat(speaker, raw.shape[1])
    flat = raw.reshape(-1, raw.shape[2])
    centre, directions, _ = discriminants(flat, each, min(MAX_DIM, (int(speaker.max()) + 1) // 2))
    encoder = DiscriminantStatistics(statistics, centre, directions)
    plda = fit_two_covariance(encoder.projected(flat), each)
    parts = (encoder.hash.encode(), *(part.astype("<f8").tobytes() for part in (plda.mean, plda.between, plda.within)))
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    return PldaVoices(encoder, "mfcc-plda", digest, np.zeros((0, encoder.dim), np.float32), None, plda=plda)


def _calibration(
    model: PldaVoices, raw: np.ndarray, speaker: np.ndarray, held: np.ndarray, rng: np.random.Generator
) -> Ratios:
    """From voices of one to three clips by ``held``, whom the model never heard, and tests of any length."""
    assert model.plda is not None
    assert isinstance(model.encoder, DiscriminantStatistics)
    vectors = model.encoder.projected(raw.reshape(-1, raw.shape[2])).reshape(*raw.shape[:2], -1)
    clips = np.flatnonzero(np.isin(speaker, held))
    target, nontarget = [], []
    for own in held:
        mine = rng.permutation(np.flatnonzero(speaker == own))
        enrolled = mine[: min(int(rng.integers(1, 4)), len(mine) - 1)]
        tests = np.setdiff1d(clips, enrolled)
        found = model.plda.llr([vectors[enrolled, 0]], vectors[tests].reshape(-1, vectors.shape[2])).reshape(
            len(tests), -1
        )
        target.append(found[speaker[tests] == own].ravel())
        nontarget.append(found[speaker[tests] != own].ravel())
    sides = [np.concatenate(side) for side in (target, nontarget)]
    shares = [np.concatenate([np.full(len(part), 1 / len(part)) for part in side]) for side in (target, nontarget)]
    return fit_ratios({"score": sides[0]}, {"score": sides[1]}, weights=(shares[0], shares[1]))
