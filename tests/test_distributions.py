"""Beta, gamma and Student's t distributions against SciPy and closed forms."""

import math

import numpy as np
import pytest
from scipy import special, stats

from metavox.contracts import InputError
from metavox.distributions import (
    beta_quantile,
    bisect,
    gamma_quantile,
    regularized_incomplete_beta,
    regularized_incomplete_gamma,
    student_t_quantile,
    student_t_two_tails,
)


def test_incomplete_beta_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    for a, b in np.exp(rng.uniform(np.log(0.3), np.log(10_000), (200, 2))):
        centre = a / (a + b)
        for x in (centre / 2, centre, (1 + centre) / 2, rng.uniform()):
            expected = special.betainc(a, b, x)
            assert math.isclose(regularized_incomplete_beta(a, b, x), expected, rel_tol=1e-9, abs_tol=1e-13)


def test_incomplete_beta_closed_forms_and_symmetry() -> None:
    for x in (0.0, 1e-9, 0.2, 0.5, 0.97, 1.0):
        assert math.isclose(regularized_incomplete_beta(1, 1, x), x, rel_tol=1e-13)
        assert math.isclose(regularized_incomplete_beta(7, 1, x), x**7, rel_tol=1e-13)
        assert math.isclose(
            regularized_incomplete_beta(2.5, 4, x) + regularized_incomplete_beta(4, 2.5, 1 - x), 1, rel_tol=1e-13
        )


def test_incomplete_gamma_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    for a in np.exp(rng.uniform(np.log(0.05), np.log(20_000), 200)):
        for x in (a / 3, a * 0.99, a, a + 1, a + 3 * math.sqrt(a), 2 * a, rng.exponential(a)):
            expected = special.gammainc(a, x)
            assert math.isclose(regularized_incomplete_gamma(a, x), expected, rel_tol=1e-9, abs_tol=1e-13)
    for x in (-1.0, 0.0, 1e-9, 0.7, 30.0):
        assert regularized_incomplete_gamma(1, x) == pytest.approx(1 - math.exp(-max(x, 0.0)), rel=1e-7)


def test_beta_and_gamma_quantiles_agree_with_scipy() -> None:
    """Whole numbers of events and parts of them, as a design effect gives."""
    for probability in (0.05, 0.5, 0.9, 0.95, 0.999):
        for alarms, n in ((0, 1), (0, 400), (3, 59), (37, 1_000), (2.5, 61.7), (990, 1_000), (4_000, 90_000)):
            expected = stats.beta.ppf(probability, alarms + 1, n - alarms)
            assert beta_quantile(probability, alarms + 1, n - alarms) == pytest.approx(expected, rel=1e-9)
            expected = stats.gamma.ppf(probability, alarms + 1)
            assert gamma_quantile(probability, alarms + 1) == pytest.approx(expected, rel=1e-9)
    assert beta_quantile(0.95, 8, 0) == 1
    assert gamma_quantile(0.95, 1) == pytest.approx(-math.log(0.05))


@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.995, 0.9999])
def test_t_quantile_agrees_with_scipy(probability: float) -> None:
    for dof in [*range(1, 40), 99, 599, 1_000, 2.5, 33.3, 9_999, 10_000]:
        expected = stats.t.ppf(probability, dof)
        assert math.isclose(student_t_quantile(probability, dof), expected, rel_tol=1e-8)
        assert student_t_quantile(1 - probability, dof) == pytest.approx(-expected, rel=1e-8)


def test_t_quantile_of_one_and_two_degrees_has_a_closed_form() -> None:
    for p in (0.55, 0.8, 0.975, 0.9995):
        assert math.isclose(student_t_quantile(p, 1), math.tan(math.pi * (p - 0.5)), rel_tol=1e-10)
        assert math.isclose(student_t_quantile(p, 2), (2 * p - 1) / math.sqrt(2 * p * (1 - p)), rel_tol=1e-10)
    assert student_t_quantile(0.5, 7) == pytest.approx(0, abs=1e-12)


def test_two_tails_invert_the_quantile() -> None:
    for dof in (1, 4, 60.5, 5_000):
        for tails in (1e-6, 0.01, 0.05, 0.7):
            assert math.isclose(student_t_two_tails(student_t_quantile(1 - tails / 2, dof), dof), tails, rel_tol=1e-8)
        assert student_t_two_tails(0, dof) == 1
        assert student_t_two_tails(math.inf, dof) == 0


def test_bisect_reaches_the_last_bit() -> None:
    root = bisect(lambda x: x**3, 2.0, 0.0, 2.0)
    assert root in {np.nextafter(2 ** (1 / 3), 0), 2 ** (1 / 3), np.nextafter(2 ** (1 / 3), 2)}


@pytest.mark.parametrize(("probability", "dof"), [(0.0, 5), (1.0, 5), (0.9, 0), (math.nan, 5)])
def test_no_quantile_outside_the_range(probability: float, dof: int) -> None:
    with pytest.raises(InputError, match="no quantile"):
        student_t_quantile(probability, dof)
