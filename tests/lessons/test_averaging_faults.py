"""The faults that the lesson on averaging shows, each failing by itself, and what mends it."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.ensemble import VotingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from metavox.averaging.predictions import IdenticalMembers, all_identical, mean
from metavox.estimators import ModelAverage

K = 5


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Items of a curve that no straight line fits, with noise of variance 0.25."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(n, 1))
    return X, curve(X) + 0.5 * rng.standard_normal(n)


def curve(X: np.ndarray) -> np.ndarray:
    return X[:, 0] ** 2


ASKED = np.linspace(-2, 2, 41)[:, None]


def decomposed(predicted: np.ndarray) -> tuple[float, float]:
    """Squared bias and variance of (R, N) predictions, against the curve itself."""
    variance = predicted.var(axis=0, ddof=1).mean()
    return float(((predicted.mean(axis=0) - curve(ASKED)) ** 2).mean() - variance / len(predicted)), float(variance)


def over_training_sets(member: object, k: int, bootstrap: bool, n_sets: int = 30) -> tuple[float, float]:
    said = []
    for seed in range(n_sets):
        average = ModelAverage([member] * k, bootstrap=bootstrap, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IdenticalMembers)
            said.append(average.fit(*drawn(40, seed)).predict(ASKED))
    return decomposed(np.stack(said))


# ------------------------------------------------------------------------------------------- the same model many times


def test_the_average_of_identical_models_is_the_one_model() -> None:
    X, y = drawn(60, 0)
    models = [LinearRegression().fit(X, y) for _ in range(K)]
    said = np.stack([model.predict(ASKED) for model in models])
    assert all((model.coef_ == models[0].coef_).all() for model in models)
    np.testing.assert_array_max_ulp(said.mean(axis=0), said[0], maxulp=2)
    assert all_identical(said)
    error = ((said.mean(axis=0) - curve(ASKED)) ** 2).mean()
    assert error == pytest.approx(((said[0] - curve(ASKED)) ** 2).mean(), rel=1e-12)


def test_scikit_learn_keeps_silent_about_it_and_model_average_does_not() -> None:
    X, y = drawn(60, 0)
    five = [(f"copy{at}", LinearRegression()) for at in range(K)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VotingRegressor(five).fit(X, y)
    with pytest.warns(IdenticalMembers, match="these 5 models make identical predictions: averaging changes nothing"):
        ModelAverage(five).fit(X, y)


def test_another_seed_does_not_help_a_model_that_draws_nothing() -> None:
    X, y = drawn(60, 0)
    with pytest.warns(IdenticalMembers):
        ModelAverage([LinearRegression()] * K, random_state=1).fit(X, y)


def test_bootstrap_samples_make_them_differ() -> None:
    X, y = drawn(60, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        average = ModelAverage([LinearRegression()] * K, bootstrap=True, random_state=0).fit(X, y)
    assert not all_identical(np.stack([one.predict(ASKED) for one in average.estimators_]))


# ---------------------------------------------------------------------------------------------------- bias and variance


def test_averaging_does_not_move_bias_of_a_model_that_is_wrong() -> None:
    """A straight line through a parabola: most of its error is bias, and stays."""
    one, many = (over_training_sets(LinearRegression(), k, bootstrap=True) for k in (1, 8))
    assert one[0] > 1.0
    assert many[0] == pytest.approx(one[0], rel=0.02)
    assert many[0] > 0.8 * sum(one)


def test_averaging_lowers_variance_of_a_model_that_is_unstable() -> None:
    tree = DecisionTreeRegressor(random_state=0)
    by_k = {k: over_training_sets(tree, k, bootstrap=True) for k in (1, 4, 16)}
    assert by_k[1][1] > 1.5 * by_k[4][1] > 1.5 * by_k[16][1]
    assert by_k[16][1] < 0.5 * by_k[1][1]
    assert abs(by_k[16][0] - by_k[1][0]) < 0.1


def test_copies_move_neither() -> None:
    tree = DecisionTreeRegressor(random_state=0)
    one, many = (over_training_sets(tree, k, bootstrap=False, n_sets=10) for k in (1, K))
    assert many == pytest.approx(one, rel=1e-12)


def test_members_that_err_independently_leave_one_kth_of_the_variance() -> None:
    """The best case; what members have in common remains."""
    rng = np.random.default_rng(0)
    common, own = rng.standard_normal((4000, 1, 10)), rng.standard_normal((4000, 16, 10))
    assert own.mean(axis=1).var() == pytest.approx(own[:, 0].var() / 16, rel=0.05)
    correlated = common + own
    assert correlated.mean(axis=1).var() == pytest.approx(1 + 1 / 16, rel=0.05)
    np.testing.assert_allclose(mean(own[0]), own[0].mean(axis=0))


# ------------------------------------------------------------------------------------- a validation split nobody uses


def test_a_split_that_nobody_uses_changes_nothing_but_the_data_that_is_left() -> None:
    """Whatever is written into it, the models stay the same; they are those of fewer items, and worse."""
    worse = []
    for seed in range(40):
        X, y = drawn(25, seed)
        rest, cut = (X[:20], y[:20]), y[20:]
        model = clone(DecisionTreeRegressor(min_samples_leaf=3, random_state=0)).fit(*rest)
        cut[:] = 1e6
        again = clone(model).fit(*rest)
        np.testing.assert_array_equal(model.predict(ASKED), again.predict(ASKED))
        full = clone(model).fit(*drawn(25, seed))
        error = [((one.predict(ASKED) - curve(ASKED)) ** 2).mean() for one in (model, full)]
        worse.append(error[0] - error[1])
    assert np.mean(worse) > 0


def test_learned_weights_depend_on_the_held_out_items_and_win_by_them() -> None:
    members = [("line", LinearRegression()), ("tree", DecisionTreeRegressor(max_depth=4, random_state=0))]
    X, y = drawn(200, 0)
    learned = ModelAverage(members, weights="learned", random_state=0).fit(X, y)
    assert learned.weights_[1] > 0.8
    spoiled = y.copy()
    spoiled[learned.validation_] = learned.estimators_[0].predict(X[learned.validation_])
    other = clone(learned).fit(X, spoiled)
    assert set(other.validation_) == set(learned.validation_)
    np.testing.assert_array_equal(other.estimators_[1].predict(ASKED), learned.estimators_[1].predict(ASKED))
    assert other.weights_[0] > 0.99
    even = ModelAverage(members).fit(X, y)
    error = [((one.predict(ASKED) - curve(ASKED)) ** 2).mean() for one in (learned, even)]
    assert error[0] < error[1]
