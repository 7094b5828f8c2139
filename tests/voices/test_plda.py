"""The classical baseline: PLDA against Gaussians written out, EM that climbs, and people told apart."""

import numpy as np
import pytest
from refusals import said
from voicing import say

from metavox.contracts import VoiceEncoder
from metavox.metrics import cllr, eer
from metavox.voices.discriminants import DiscriminantStatistics, discriminants
from metavox.voices.heard import together
from metavox.voices.plda import TwoCovariance, fit_two_covariance, train_plda

RNG = np.random.default_rng


def model(seed: int, dim: int = 3) -> TwoCovariance:
    rng = RNG(seed)
    roots = rng.normal(size=(2, dim, dim))
    between, within = (root @ root.T + 0.2 * np.eye(dim) for root in roots)
    return TwoCovariance(rng.normal(size=dim), between, within)


def log_gaussian(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    off = x - mean
    return -(off @ np.linalg.solve(covariance, off) + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2


def log_joint(clips: np.ndarray, plda: TwoCovariance) -> float:
    """Of clips (K, D) by one voice, as one long Gaussian vector: the oracle."""
    k = len(clips)
    covariance = np.kron(np.ones((k, k)), plda.between) + np.kron(np.eye(k), plda.within)
    return log_gaussian(clips.ravel(), np.tile(plda.mean, k), covariance)


def drawn(plda: TwoCovariance, clips: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng, zeros = RNG(seed), np.zeros(len(plda.mean))
    speaker = np.repeat(np.arange(len(clips)), clips)
    voices = rng.multivariate_normal(plda.mean, plda.between, len(clips))
    return voices[speaker] + rng.multivariate_normal(zeros, plda.within, len(speaker)), speaker


# ------------------------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize("seed", range(3))
def test_ratios_are_those_of_the_gaussians_written_out(seed: int) -> None:
    plda, rng = model(seed), RNG([seed, 1])
    voices = [rng.normal(size=(k, 3)) for k in (1, 2, 5)]
    tests = rng.normal(size=(4, 3))
    found = plda.llr(voices, tests)
    for i, test in enumerate(tests):
        for j, voice in enumerate(voices):
            same = log_joint(np.vstack([voice, test]), plda)
            assert found[i, j] == pytest.approx(same - log_joint(voice, plda) - log_joint(test[None], plda), abs=1e-9)


def test_one_clip_against_one_is_symmetric() -> None:
    plda, rng = model(4), RNG(5)
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    forth, back = plda.llr(list(a[:, None]), b), plda.llr(list(b[:, None]), a)
    np.testing.assert_allclose(forth, back.T, atol=1e-9)


def test_the_likelihood_is_that_of_the_clips_of_each_voice() -> None:
    plda = model(6)
    vectors, speaker = drawn(plda, np.array([1, 4, 2]), 7)
    whole = sum(log_joint(vectors[speaker == one], plda) for one in range(3))
    assert plda.log_likelihood(vectors, speaker) == pytest.approx(whole, abs=1e-9)


def test_every_step_of_em_climbs_and_the_truth_is_found() -> None:
    truth = model(8)
    vectors, speaker = drawn(truth, RNG(9).integers(1, 8, 1500), 10)
    steps = [fit_two_covariance(vectors, speaker, n, ridge=0.0) for n in (0, 1, 2, 4, 8, 16)]
    climbed = [step.log_likelihood(vectors, speaker) for step in steps]
    assert np.all(np.diff(climbed) > -1e-6)
    np.testing.assert_allclose(steps[-1].within, truth.within, atol=0.15 * np.trace(truth.within))
    np.testing.assert_allclose(steps[-1].between, truth.between, atol=0.1 * np.trace(truth.between))
    np.testing.assert_allclose(steps[-1].mean, truth.mean, atol=0.2)


def test_true_ratios_are_calibrated() -> None:
    truth = model(11)
    vectors, speaker = drawn(truth, np.full(300, 3), 12)
    voices = [vectors[speaker == one][:2] for one in range(300)]
    found = truth.llr(voices, vectors[2::3])
    same = np.eye(300, dtype=bool)
    target, nontarget = found[same], found[~same]
    # E[1 / LR | target] = E[LR | non-target] = 1: what a likelihood ratio is
    assert np.exp(nontarget).mean() == pytest.approx(1, abs=0.35)
    assert cllr(target, nontarget) < 0.9


def test_the_first_direction_is_the_one_that_tells_people_apart() -> None:
    rng = RNG(13)
    speaker = np.repeat(np.arange(30), 4)
    raw = rng.normal(size=(120, 5)) * [1, 10, 1, 1, 5]
    raw[:, 2] += 6 * rng.normal(size=30)[speaker]
    _, directions, _ = discriminants(raw, speaker, 2)
    assert directions.shape == (5, 2)
    assert np.argmax(np.abs(directions[:, 0] * raw.std(axis=0))) == 2


# ----------------------------------------------------------------------------------------------------------- from sound


@pytest.fixture(scope="module")
def trained() -> object:
    people = [(person, take) for person in range(300, 324) for take in range(3)]
    waves = [say(person, take, 1.0) for person, take in people]
    return train_plda(waves, [f"p{person}" for person, _ in people], seed=1)


def test_people_who_were_not_heard_are_told_apart_with_ratios(trained) -> None:
    heard = trained.hear([say(person, take, 1.0) for person in range(400, 410) for take in range(3)])
    voices = [heard.at([3 * person, 3 * person + 1]) for person in range(10)]
    tests = heard.at(np.arange(10) * 3 + 2)
    same = np.eye(10, dtype=bool)
    scores, llr = trained.scores(voices, tests), trained.llr(voices, tests)
    assert scores.shape == llr.shape == (10, 10)
    assert eer(scores[same], scores[~same]).rate <= 0.15
    assert cllr(llr[same], llr[~same]) < 0.9
    # one clip or three: a voice may have any number
    assert trained.scores([heard.at([0]), together(voices[:2])], tests).shape == (10, 2)


def test_it_is_an_encoder_whose_hash_tells_what_it_learned(trained) -> None:
    encoder = trained.encoder
    assert isinstance(encoder, VoiceEncoder)
    vectors = encoder.embed([say(1), say(2)])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors.dtype == np.float32
    assert encoder.embed([]).shape == (0, encoder.dim)
    other = DiscriminantStatistics(encoder.statistics, encoder.centre + 1, encoder.directions)
    assert other.hash != encoder.hash != trained.hash


def test_the_same_seed_learns_the_same() -> None:
    people = [(person, take) for person in range(500, 508) for take in range(2)]
    waves = [say(person, take, 0.6) for person, take in people]
    names = [str(person) for person, _ in people]
    first, again, other = (train_plda(waves, names, seed=seed) for seed in (3, 3, 4))
    assert first.hash == again.hash != other.hash


def test_too_few_people_are_refused() -> None:
    waves = [say(person, take, 0.3) for person in range(3) for take in range(2)]
    assert "3 speakers of the baseline's recordings have two clips or more and 8 are the least" in said(
        lambda: train_plda(waves, ["a", "a", "b", "b", "c", "c"], seed=0)
    )
    assert "PLDA learns from two speakers" in said(lambda: fit_two_covariance(np.ones((2, 2)), np.array([0, 1])))
