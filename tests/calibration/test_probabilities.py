"""Probabilities against decisions, against scikit-learn, and against worlds whose temperature is known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from metavox.calibration import (
    Probabilities,
    brier_score,
    decide,
    enrolment_probabilities,
    expected_calibration_error,
    fit_probabilities,
    reliability,
)
from metavox.calibration.probabilities import probabilities
from metavox.checkpoint import build
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, Calibration, FrontEnd, InputError, Output

# Quarters, so that no difference is lost in rounding.
rows = st.lists(st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=3, max_size=3), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(scores=rows, threshold=st.integers(-40, 40), temperature=st.floats(0.05, 20))
def test_the_most_probable_is_the_decision(scores: list[list[float]], threshold: int, temperature: float) -> None:
    found = probabilities(np.asarray(scores), Probabilities(temperature, float(threshold)))
    assert found.shape == (len(scores), 4)
    assert (found >= 0).all()
    assert np.allclose(found.sum(1), 1)
    output = Output(torch.tensor(scores, dtype=torch.float64))
    answers = decide(output, ("a", "b", "c"), Calibration(float(threshold), 1, 1, "both"))
    names = ("a", "b", "c", None)
    assert [names[i] for i in found.argmax(1)] == [answer.label for answer in answers]


def test_probabilities_are_the_softmax_of_scores_beside_the_threshold() -> None:
    scores = torch.tensor([[1.0, -2.0], [500.0, 480.0], [-float("inf"), 0.0]])
    expected = torch.softmax(torch.cat([scores, torch.full((3, 1), 0.5)], 1) / 2, 1)
    assert np.allclose(probabilities(scores, Probabilities(2.0, 0.5)), expected.numpy(), atol=1e-7)


def world(n: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose softmax at the temperature, with 0 for none, is how often each answer is right."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (n, 6))
    logits = np.concatenate([scores, np.zeros((n, 1))], 1) / temperature
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return scores, (chances.cumsum(1) < rng.uniform(size=(n, 1))).sum(1)


def takes(n: int, apart: float, noise: float, seed: int, n_classes: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    scores = rng.normal(0, noise, (n, n_classes))
    scores[np.arange(n), labels] += apart
    return scores, labels


def as_answers(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every take as itself and without its word."""
    unknown = scores.copy()
    unknown[np.arange(len(labels)), labels] = -np.inf
    none = np.full(len(labels), scores.shape[1])
    return np.concatenate([scores, unknown]), np.concatenate([labels, none])


def log_loss(scores: np.ndarray, labels: np.ndarray, fitted: Probabilities) -> float:
    return float(-np.log(probabilities(scores, fitted)[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_many_takes_find_the_temperature_that_no_other_beats(scale: float) -> None:
    """Oracle: every temperature on a fine grid; the unit of the scores is of no account."""
    scores, labels = takes(4_000, 4.0, 1.5, 0)
    fitted = fit_probabilities(scores * scale, labels, 2.5 * scale)
    answers = as_answers(scores * scale, labels)
    losses = [log_loss(*answers, Probabilities(t * scale, 2.5 * scale)) for t in np.exp(np.arange(-2, 2, 0.02))]
    assert log_loss(*answers, fitted) == pytest.approx(min(losses), abs=1e-4)
    fresh = as_answers(*takes(4_000, 4.0, 1.5, 1))
    assert expected_calibration_error(probabilities(fresh[0] * scale, fitted), fresh[1]) < 0.03


def test_few_takes_stay_near_what_the_model_expects() -> None:
    reference = {"target": [10.0, 12.0], "nontarget": [0.0, 2.0]}  # a gap of 10, so a temperature of 2
    few, many = (
        fit_probabilities(*takes(n, 10.0, 10.0, 2, n_classes=2), 5.0, reference=reference).temperature for n in (4, 400)
    )
    assert 2.0 < few < many
    assert many > 2 * few
    alone = np.where(np.eye(3, dtype=bool), -np.inf, 1.0)  # one take a word
    assert fit_probabilities(alone, np.arange(3), 15.0, reference=reference).temperature == pytest.approx(2.0)


def test_negatives_count_as_much_as_words_left_out() -> None:
    scores, labels = takes(300, 4.0, 1.0, 3)
    near = np.random.default_rng(4).normal(2.6, 1.0, (500, 8))  # many are accepted wrongly
    without = fit_probabilities(scores, labels, 3.0)
    assert fit_probabilities(scores, labels, 3.0, negatives=near).temperature > 1.2 * without.temperature
    assert fit_probabilities(scores, labels, 3.0, negatives=near[:0]) == without
    assert fit_probabilities(scores, labels, 3.0, negatives=np.repeat(near, 3, 0)) == fit_probabilities(
        scores, labels, 3.0, negatives=near
    )


def test_where_nothing_is_told_apart_nothing_is_sure() -> None:
    rng = np.random.default_rng(5)
    fitted = fit_probabilities(rng.normal(size=(60, 4)), np.arange(60) % 4, 0.5)
    assert np.isfinite(fitted.temperature)
    assert probabilities(np.asarray([[2.0, 0.0, 0.0, 0.0]]), fitted).max() < 0.7
    assert fit_probabilities(np.ones((2, 1)), np.zeros(2, int), 0.0).temperature > 0  # one word, two equal takes


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(InputError, match="record two takes of a word"):
        fit_probabilities(np.where(np.eye(3, dtype=bool), -np.inf, 1.0), np.arange(3), 1.0)


def test_an_enrolment_gives_its_leave_one_out_scores() -> None:
    config = ModelConfig(
        front_end=FrontEnd(n_mels=16, normalize=False, n_frames=None),
        encoder=EncoderConfig(name="mfcc"),
        learner=LearnerConfig(name="dtw"),
    )
    learner = build(config)
    inputs = torch.randn(6, 12, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    state = learner.adapt(Batch(inputs, torch.full((6,), 12), labels, 3))
    expected = fit_probabilities(learner.leave_one_out(state).detach().double().numpy(), labels.numpy(), -3.0)
    assert enrolment_probabilities(learner, state, -3.0) == expected


# --------------------------------------------------------------------------------------------------------- how true


@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_true_probabilities_have_no_calibration_error_and_others_have(temperature: float) -> None:
    scores, labels = world(20_000, temperature, 6)
    true = probabilities(scores, Probabilities(temperature, 0.0))
    assert expected_calibration_error(true, labels) < 0.015
    for other in (temperature / 3, temperature * 3):
        found = probabilities(scores, Probabilities(other, 0.0))
        assert expected_calibration_error(found, labels) > 0.05
        assert brier_score(found, labels) > brier_score(true, labels)


def test_brier_score_of_two_classes_is_twice_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(7)
    chance, labels = rng.uniform(size=200), rng.integers(0, 2, 200)
    expected = 2 * brier_score_loss(labels, chance)
    assert brier_score(np.stack([1 - chance, chance], 1), labels) == pytest.approx(expected)


def test_reliability_counts_every_answer_once() -> None:
    found = np.asarray([[1.0, 0.0], [0.5, 0.5], [0.3, 0.7], [0.25, 0.75]])
    bins = reliability(found, np.asarray([0, 1, 1, 0]), n_bins=4)
    assert [row.n for row in bins] == [0, 0, 2, 2]
    assert (bins[2].confidence, bins[2].accuracy) == (pytest.approx(0.6), 0.5)
    assert (bins[3].confidence, bins[3].accuracy) == (0.875, 0.5)
    assert np.isnan(bins[0].confidence)
    assert expected_calibration_error(found, np.asarray([0, 1, 1, 0]), 4) == pytest.approx((0.1 + 0.375) / 2)
    with pytest.raises(InputError, match="0 items"):
        reliability(found[:0], np.zeros(0, int))
