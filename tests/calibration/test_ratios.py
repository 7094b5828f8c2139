"""Ratios: a closed form is found again, priors and weights act as they should, and misuse is one sentence."""

import numpy as np
import pytest

from metavox.calibration.ratios import Ratios, fit_ratios
from metavox.contracts import InputError
from metavox.metrics import cllr, min_cllr


def gaussian(n: int, mean: float, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"score": rng.normal(mean, 1.0, n), "nothing": rng.normal(0, 3.0, n)}


def test_the_ratio_of_two_gaussians_of_one_deviation_is_found() -> None:
    """With means 2 and 0 and deviation 1 it is 2 s - 2, and what tells nothing weighs nothing."""
    found = fit_ratios(gaussian(40_000, 2.0, 0), gaussian(40_000, 0.0, 1), penalty=0.0)
    assert found.weights["score"] == pytest.approx(2.0, abs=0.08)
    assert found.bias == pytest.approx(-2.0, abs=0.08)
    assert found.weights["nothing"] == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("p_target", [0.5, 0.05])
def test_the_prior_of_the_fit_does_not_shift_the_ratios(p_target: float) -> None:
    target, nontarget = gaussian(4_000, 2.0, 0), gaussian(60_000, 0.0, 1)
    found = fit_ratios(target, nontarget, p_target=p_target, penalty=0.0)
    assert found.weights["score"] == pytest.approx(2.0, abs=0.2)
    assert found.bias == pytest.approx(-2.0, abs=0.25)
    sides = found(gaussian(5_000, 2.0, 2)), found(gaussian(5_000, 0.0, 3))
    assert cllr(*sides) < 1.03 * min_cllr(*sides)


def test_scores_in_another_unit_give_the_same_ratios() -> None:
    target, nontarget = gaussian(500, 2.0, 0), gaussian(800, 0.0, 1)
    scaled = [{name: 1e3 * values + 5 for name, values in side.items()} for side in (target, nontarget)]
    plain, other = fit_ratios(target, nontarget), fit_ratios(*scaled)
    np.testing.assert_allclose(plain(target), other(scaled[0]), rtol=1e-6, atol=1e-6)


def test_weights_count_as_repeated_trials() -> None:
    target, nontarget = gaussian(60, 2.0, 0), gaussian(80, 0.0, 1)
    times = np.random.default_rng(2).integers(1, 4, 60)
    repeated = {name: np.repeat(values, times) for name, values in target.items()}
    weighted = fit_ratios(target, nontarget, weights=(times.astype(float), np.ones(80)))
    found = fit_ratios(repeated, nontarget)
    assert found.weights == pytest.approx(weighted.weights, rel=1e-6)
    assert found.bias == pytest.approx(weighted.bias, rel=1e-6)


def test_perfect_separation_stays_finite() -> None:
    found = fit_ratios({"score": np.array([5.0, 6.0])}, {"score": np.array([-5.0, -6.0])})
    assert np.isfinite([found.bias, found.weights["score"]]).all()


@pytest.mark.parametrize(
    ("target", "nontarget", "options", "said"),
    [
        ({"score": []}, {"score": [1.0]}, {}, "0 target and 1 non-target trials"),
        ({"score": [1.0]}, {"cosine": [1.0]}, {}, "give both the same"),
        ({"score": [np.nan]}, {"score": [1.0]}, {}, "NaN or infinite"),
        ({"score": [1.0]}, {"score": [0.0]}, {"p_target": 1.0}, "p_target is 1"),
    ],
)
def test_misuse_is_one_sentence(target: dict, nontarget: dict, options: dict, said: str) -> None:
    sides = [{name: np.array(values) for name, values in side.items()} for side in (target, nontarget)]
    with pytest.raises(InputError, match=said):
        fit_ratios(*sides, **options)


def test_a_missing_feature_is_named() -> None:
    with pytest.raises(InputError, match="test_log_s"):
        Ratios({"score": 1.0, "test_log_s": 2.0}, 0.0)({"score": np.zeros(3)})
