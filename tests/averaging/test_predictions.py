"""Averages of predictions against their definitions, and weights against search and planted truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

from metavox.averaging.predictions import (
    EXCLUDED,
    all_identical,
    as_weights,
    identical_sentence,
    learned_regression_weights,
    learned_weights,
    log_mean,
    log_of_mean,
    mean,
    require_alike,
)
from metavox.contracts import InputError

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 20), st.integers(2, 5))
SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.sampled_from([0.01, 1.0, 30.0, 1000.0])


def drawn(size: tuple[int, int, int], seed: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log probabilities (K, N, C), weights (K,) and labels (N,)."""
    rng = np.random.default_rng(seed)
    scores = log_softmax(scale * rng.standard_normal(size), axis=-1)
    return scores, rng.dirichlet(np.ones(size[0])), rng.integers(size[2], size=size[1])


def log_loss(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


# ------------------------------------------------------------------------------------------------------------- means


@given(SIZES, SEEDS, SCALES)
def test_means_are_what_they_are_defined_as(size: tuple[int, int, int], seed: int, scale: float) -> None:
    """One product and one division an entry, in the widest float there is."""
    scores, weights, _ = drawn(size, seed, scale)
    wide = scores.astype(np.longdouble)
    arithmetic = sum(w * np.exp(one) for w, one in zip(weights, wide, strict=True))
    np.testing.assert_allclose(mean(np.exp(scores), weights), arithmetic.astype(float), rtol=1e-12, atol=1e-300)
    geometric = sum(w * one for w, one in zip(weights, wide, strict=True))
    np.testing.assert_allclose(log_mean(scores, weights), log_softmax(geometric, axis=-1), rtol=1e-9, atol=1e-12)
    mixed = logsumexp(wide + np.log(weights)[:, None, None], axis=0)
    np.testing.assert_allclose(log_of_mean(scores, weights), mixed.astype(float), rtol=1e-12, atol=1e-12)


@given(SIZES, SEEDS, SCALES)
def test_an_average_never_loses_more_than_its_members_do_on_average(
    size: tuple[int, int, int], seed: int, scale: float
) -> None:
    scores, weights, labels = drawn(size, seed, scale)
    members = float(weights @ [log_loss(one, labels) for one in scores])
    assert log_loss(log_of_mean(scores, weights), labels) <= members + 1e-9 * (1 + members)
    assert log_loss(log_mean(scores, weights), labels) <= members + 1e-9 * (1 + members)


@given(SIZES, SEEDS)
def test_the_order_of_members_changes_nothing(size: tuple[int, int, int], seed: int) -> None:
    scores, weights, _ = drawn(size, seed)
    order = np.random.default_rng(seed).permutation(size[0])
    np.testing.assert_allclose(mean(np.exp(scores[order]), weights[order]), mean(np.exp(scores), weights), atol=1e-14)
    np.testing.assert_allclose(log_mean(scores[order], weights[order]), log_mean(scores, weights), atol=1e-12)


@given(st.integers(1, 8), SEEDS, SCALES)
def test_k_identical_members_are_one(k: int, seed: int, scale: float) -> None:
    scores, _, labels = drawn((1, 7, 4), seed, scale)
    alike = np.repeat(scores, k, axis=0)
    np.testing.assert_allclose(mean(np.exp(alike)), np.exp(scores[0]), rtol=1e-14, atol=1e-300)
    np.testing.assert_allclose(log_mean(alike), scores[0], rtol=1e-12, atol=1e-12)
    for form in ("mean", "log-mean"):
        np.testing.assert_allclose(learned_weights(alike, labels, form), 1 / k)
    assert all_identical(alike) == (k > 1)


def test_single_precision_is_averaged_in_double() -> None:
    scores, _, _ = drawn((3, 5, 4), 0)
    assert log_mean(scores.astype(np.float32)).dtype == mean(np.exp(scores).astype(np.float32)).dtype == np.float64


def test_more_dimensions_than_items_are_averaged_alike() -> None:
    """Frames of a transcription are items too."""
    rng = np.random.default_rng(0)
    scores = log_softmax(rng.standard_normal((3, 2, 5, 4)), axis=-1)
    flat = scores.reshape(3, 10, 4)
    np.testing.assert_array_equal(log_mean(scores).reshape(10, 4), log_mean(flat))
    np.testing.assert_array_equal(mean(np.exp(scores)).reshape(10, 4), mean(np.exp(flat)))


def test_a_class_that_all_exclude_stays_excluded_and_members_at_odds_still_answer() -> None:
    with np.errstate(divide="ignore"):
        scores = np.log([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], [[0.1, 0.9, 0.0], [0.0, 1.0, 0.0]]])
    said = np.exp(log_mean(scores))
    np.testing.assert_allclose(said, [[0.25, 0.75, 0.0], [0.5, 0.5, 0.0]], atol=1e-12)
    assert log_mean(scores)[0, 2] == -np.inf
    np.testing.assert_allclose(np.exp(log_mean(scores, [1.0, 0.0]))[1], [1.0, 0.0, 0.0])
    assert log_of_mean(scores)[0, 2] == -np.inf
    assert EXCLUDED < -700


def test_a_weight_of_zero_leaves_a_member_out_even_one_that_excludes_the_truth() -> None:
    scores = np.array([[[0.0, -np.inf]], [[np.log(0.2), np.log(0.8)]]])
    np.testing.assert_allclose(np.exp(log_mean(scores, [0, 3])), [[0.2, 0.8]])
    np.testing.assert_allclose(np.exp(log_of_mean(scores, [0, 3])), [[0.2, 0.8]])


# ----------------------------------------------------------------------------------------------------------- weights


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(2, 5), st.integers(3, 40), st.integers(2, 4)), SEEDS, st.sampled_from([0.3, 1.0, 5.0]))
def test_learned_weights_are_as_good_as_a_general_optimiser_finds(
    size: tuple[int, int, int], seed: int, scale: float
) -> None:
    scores, _, labels = drawn(size, seed, scale)
    for form, average in (("mean", log_of_mean), ("log-mean", log_mean)):
        found = learned_weights(scores, labels, form)
        assert found.min() >= 0
        assert found.sum() == pytest.approx(1)
        reached = log_loss(average(scores, found), labels)
        others = [
            np.full(size[0], 1 / size[0]),
            *np.eye(size[0]),
            *np.random.default_rng(seed).dirichlet(found + 1, 20),
        ]
        assert reached <= min(log_loss(average(scores, other), labels) for other in others) + 1e-7

        def loss(free: np.ndarray, average=average) -> float:
            return log_loss(average(scores, np.maximum(free, 0) + 1e-300), labels)

        best = minimize(
            loss,
            found,
            bounds=[(0, 1)] * size[0],
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            method="SLSQP",
        )
        assert reached <= best.fun + 1e-6


def test_the_weights_of_a_planted_mixture_are_found() -> None:
    rng = np.random.default_rng(1)
    scores = log_softmax(2 * rng.standard_normal((3, 60_000, 4)), axis=-1)
    planted = np.array([0.6, 0.3, 0.1])
    labels = (mean(np.exp(scores), planted).cumsum(-1) < rng.random((60_000, 1))).sum(-1).clip(max=3)
    np.testing.assert_allclose(learned_weights(scores, labels), planted, atol=0.02)


def test_the_weights_of_a_planted_geometric_mean_are_found() -> None:
    rng = np.random.default_rng(2)
    scores = log_softmax(2 * rng.standard_normal((3, 40_000, 4)), axis=-1)
    planted = np.array([0.7, 0.3, 0.0])
    labels = (np.exp(log_mean(scores, planted)).cumsum(-1) < rng.random((40_000, 1))).sum(-1).clip(max=3)
    np.testing.assert_allclose(learned_weights(scores, labels, "log-mean"), planted, atol=0.02)


def test_a_member_that_is_always_wrong_weighs_nothing() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(3, size=200)
    right = np.where(np.eye(3)[labels] > 0, 0.8, 0.1)
    wrong = np.where(np.eye(3)[labels] > 0, 0.0, 0.5)
    with np.errstate(divide="ignore"):
        scores = np.log([right, wrong])
    for form in ("mean", "log-mean"):
        np.testing.assert_allclose(learned_weights(scores, labels, form), [1, 0], atol=1e-6)


@given(st.integers(1, 6), st.integers(1, 30), SEEDS, st.sampled_from([1e-6, 1.0, 1e8]))
def test_weights_of_regressors_are_the_best_that_are_weights(k: int, n: int, seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    predictions, targets = size * rng.standard_normal((k, n)), size * rng.standard_normal(n)
    found = learned_regression_weights(predictions, targets)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    error = ((found @ predictions - targets) ** 2).mean()
    others = [np.full(k, 1 / k), *np.eye(k), *rng.dirichlet(np.ones(k), 50)]
    assert error <= min(((other @ predictions - targets) ** 2).mean() for other in others) + 1e-7 * size**2 * 30


def test_the_weights_of_planted_regressors_are_found_in_one_dimension_and_in_two() -> None:
    rng = np.random.default_rng(4)
    predictions = rng.standard_normal((3, 5_000, 2))
    targets = np.tensordot([0.5, 0.5, 0.0], predictions, axes=1) + 0.1 * rng.standard_normal((5_000, 2))
    np.testing.assert_allclose(learned_regression_weights(predictions, targets), [0.5, 0.5, 0], atol=0.01)
    np.testing.assert_allclose(learned_regression_weights(predictions[..., 0], targets[:, 0]), [0.5, 0.5, 0], atol=0.01)


def test_members_that_are_all_perfect_share_the_weight() -> None:
    targets = np.arange(4.0)
    np.testing.assert_allclose(learned_regression_weights(np.stack([targets, targets]), targets), 0.5)


def test_weights_are_scaled() -> None:
    np.testing.assert_allclose(as_weights([1, 3], 2), [0.25, 0.75])
    np.testing.assert_allclose(as_weights([1e308, 1e308], 2), 0.5)
    np.testing.assert_allclose(as_weights(None, 4), 0.25)


# ---------------------------------------------------------------------------------------------------------- identical


def test_identical_is_what_differs_by_rounding_only() -> None:
    values = np.random.default_rng(0).standard_normal((10, 3))
    assert all_identical(np.stack([values, values * (1 + 2e-16), values]))
    assert not all_identical(np.stack([values, values, values + 1e-9]))
    single = values.astype(np.float32)
    assert all_identical(np.stack([single, single * np.float32(1 + 1e-7)]))
    assert not all_identical(np.stack([single, single + np.float32(1e-4)]))
    assert not all_identical(values[None])


def test_labels_and_refusals_can_be_identical_too() -> None:
    assert all_identical([["on", None, "off"], ["on", None, "off"]])
    assert not all_identical([["on", None, "off"], ["on", "on", "off"]])
    assert not all_identical([[1, 2], [1, 2, 3]])


def test_the_sentence_says_how_many() -> None:
    assert identical_sentence(5) == (
        "these 5 models make identical predictions: averaging changes nothing; vary data, seed or architecture"
    )


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([0.5, 0.5], r"Weights of shape \(2,\) were given for 3 models; give 3, one for each model"),
        ([0.5, -1, 0.5], "Weight 2 of 3 is -1; give finite numbers of 0 or more"),
        ([0.5, 1, float("nan")], "Weight 3 of 3 is nan"),
        ([0.5, 1, float("inf")], "Weight 3 of 3 is inf"),
        ([0, 0, 0], "All 3 weights are 0; give at least one that is greater"),
    ],
)
def test_what_is_no_weight_is_refused(weights: list[float], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        mean(np.full((3, 1, 2), 0.5), weights)


def test_no_models_no_items_and_labels_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="There are 0 models to average; give at least 1"):
        mean(np.zeros((0, 1, 2)))
    with pytest.raises(InputError, match="There are 0 items to learn weights on; hold out at least 1"):
        learned_weights(np.zeros((2, 0, 3)), np.zeros(0, int))
    with pytest.raises(InputError, match="There are 0 items to learn weights on"):
        learned_regression_weights(np.zeros((2, 0)), np.zeros(0))
    with pytest.raises(InputError, match="2 labels from 0 to 3 were given for 2 items and 3 classes"):
        learned_weights(np.zeros((2, 2, 3)), np.array([0, 3]))


def test_models_of_other_classes_are_refused_by_name() -> None:
    require_alike([["a", "b"], np.array(["a", "b"])])
    with pytest.raises(
        InputError, match="model 2 knows 2 classes and model 1 knows 2, and only one of them knows b, c"
    ):
        require_alike([["a", "b"], ["a", "c"]])
    with pytest.raises(InputError, match="late has the classes of early in another order; sort them alike"):
        require_alike([["a", "b"], ["b", "a"]], ["early", "late"])
    with pytest.raises(InputError, match="0 models"):
        require_alike([])
