"""Scores: the mean of clips, and the formula of adaptive normalisation."""

import numpy as np
import pytest

from metavox.voices.heard import Heard, together
from metavox.voices.scoring import COMMON_WEIGHT, common, cosines, normalised, template, unit


def heard(n: int, seed: int, dim: int = 12) -> Heard:
    rng = np.random.default_rng(seed)
    return Heard(unit(rng.standard_normal((n, dim))), rng.uniform(1, 5, n), rng.uniform(5, 40, n))


def test_a_voice_is_the_mean_of_its_clips_whatever_their_order() -> None:
    voice = heard(4, 0)
    np.testing.assert_allclose(template(voice), template(voice.at([3, 1, 0, 2])), rtol=1e-6)
    assert np.linalg.norm(template(voice)) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(template(voice.at([2])), voice.vectors[2], rtol=1e-6)


def test_cosines_of_a_clip_with_itself_are_one() -> None:
    clips = heard(5, 1)
    found = cosines([clips.at([k]) for k in range(5)], clips)
    np.testing.assert_allclose(np.diag(found), 1.0, atol=1e-6)
    np.testing.assert_allclose(found, found.T, atol=1e-6)


def test_normalised_scores_are_the_formula() -> None:
    voices, tests, cohort = [heard(3, 2), heard(2, 3)], heard(4, 4), heard(30, 5).vectors
    found = normalised(voices, tests, cohort)
    for j, voice in enumerate(voices):
        for i in range(len(tests)):
            raw = float(tests.vectors[i] @ template(voice))
            sides = [np.sort(cohort @ vector)[-15:].mean() for vector in (tests.vectors[i], template(voice))]
            assert found[i, j] == pytest.approx(raw - COMMON_WEIGHT * sum(sides), abs=1e-5)


def test_a_cohort_of_one_or_none_leaves_cosines() -> None:
    voices, tests = [heard(3, 2)], heard(4, 4)
    for cohort in (heard(0, 1).vectors, heard(1, 1).vectors):
        np.testing.assert_array_equal(normalised(voices, tests, cohort), cosines(voices, tests))


def test_only_the_nearest_of_a_large_cohort_are_asked() -> None:
    near = np.repeat(heard(1, 1).vectors, 30, axis=0)
    cohort = np.concatenate([near, heard(200, 5).vectors * 0.0])
    np.testing.assert_allclose(common(near[:1], cohort), 1.0, atol=1e-6)


def test_clips_together_are_all_of_them_in_order() -> None:
    one, two = heard(2, 0), heard(3, 1)
    both = together([one, two])
    assert len(both) == 5
    np.testing.assert_array_equal(both.at([2, 3, 4]).vectors, two.vectors)
    np.testing.assert_array_equal(both.at(slice(0, 2)).speech_s, one.speech_s)
