"""Promises against SciPy, and against worlds in which the true rate is known."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metavox.calibration import as_sentence, threshold_for
from metavox.calibration.bounds import design_effect
from metavox.contracts import InputError, Promise

# ------------------------------------------------------------------------------------- what is chosen, against SciPy


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("n", "target"), [(59, 0.2), (300, 0.05), (1_000, 0.01), (1_000, 0.05), (20_000, 0.001)])
def test_as_many_alarms_pass_as_clopper_and_pearson_allow(n: int, target: float, confidence: float) -> None:
    scores = np.random.default_rng(n).permutation(n).astype(float)
    threshold, promise = threshold_for(scores, target=target, confidence=confidence)
    upper = stats.beta.ppf(confidence, np.arange(n) + 1, n - np.arange(n))
    most = int(np.flatnonzero(upper <= target)[-1])
    assert promise.n_alarms == most == (scores >= threshold).sum()
    assert promise.bound == pytest.approx(upper[most])
    assert promise.bound <= target
    # The same from the other side: that few alarms are unlikely where the rate is above the target.
    assert stats.binom.cdf(most, n, target) <= 1 - confidence < stats.binom.cdf(most + 1, n, target)
    assert (promise.n_negatives, promise.n_recordings, promise.design_effect) == (n, 0, 1.0)


@pytest.mark.parametrize(("hours", "target"), [(3.0, 1.0), (300.0, 0.01), (0.8, 40.0), (24.0, 2.0)])
def test_as_many_alarms_pass_in_the_hours_as_poisson_allows(hours: float, target: float) -> None:
    scores = np.random.default_rng(3).permutation(500).astype(float)
    threshold, promise = threshold_for(scores, target=target, per_hour=True, hours=hours)
    upper = stats.chi2.ppf(0.95, 2 * (np.arange(500) + 1)) / 2 / hours
    most = int(np.flatnonzero(upper <= target)[-1])
    assert promise.n_alarms == most == (scores >= threshold).sum()
    assert promise.bound == pytest.approx(upper[most])
    assert promise.bound <= target
    assert stats.poisson.cdf(most, target * hours) <= 0.05


def test_everything_passes_where_the_hours_allow_more_than_there_is() -> None:
    threshold, promise = threshold_for([3.0, 1.0, 2.0], target=5, per_hour=True, hours=10.0)
    assert (threshold, promise.n_alarms) == (1.0, 3)
    assert promise.bound == pytest.approx(stats.chi2.ppf(0.95, 8) / 20)


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.integers(-4, 4).map(float), min_size=14, max_size=60),
    target=st.sampled_from([0.2, 0.3, 0.6]),
)
def test_the_threshold_lies_above_what_it_refuses_and_no_alarm_too_many_passes(
    values: list[float], target: float
) -> None:
    """Ties lower the alarms, not the promise: the bound is that of the count chosen before any score was seen."""
    scores, n = np.asarray(values), len(values)
    threshold, promise = threshold_for(scores, target=target)
    upper = stats.beta.ppf(0.95, np.arange(n) + 1, n - np.arange(n))
    most = int(np.flatnonzero(upper <= target)[-1])
    refused = np.sort(scores)[::-1][most]
    assert threshold > refused
    assert promise.n_alarms == (scores >= threshold).sum() == (scores > refused).sum() <= most
    assert promise.bound == pytest.approx(upper[most])


def test_where_nothing_lies_above_the_threshold_is_the_next_number() -> None:
    assert threshold_for(np.full(100, 2.5), target=0.05)[0] == math.nextafter(2.5, math.inf)
    assert threshold_for(np.arange(59.0), target=0.05)[0] == math.nextafter(58.0, math.inf)
    largest = float(np.finfo(np.float64).max)
    assert -largest < threshold_for(np.repeat([-largest, largest], [99, 1]), target=0.05)[0] <= largest


def test_a_larger_target_never_raises_the_threshold_nor_a_larger_confidence_lowers_it() -> None:
    scores = np.random.default_rng(5).standard_normal(2_000)
    groups = np.repeat(np.arange(200), 10)
    for names in (None, groups):
        by_target = [threshold_for(scores, target=share, groups=names)[0] for share in (0.01, 0.02, 0.05, 0.1, 0.5)]
        assert by_target == sorted(by_target, reverse=True)
        by_trust = [threshold_for(scores, target=0.05, confidence=c, groups=names)[0] for c in (0.6, 0.9, 0.99)]
        assert by_trust == sorted(by_trust)


# ------------------------------------------------------------------------------------------------- recordings as one


def test_the_design_effect_is_known_in_the_extreme_cases() -> None:
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(200), 8)
    same = design_effect(np.repeat(rng.standard_normal(200), 8), codes, 80)
    assert same == pytest.approx(8, rel=0.05)  # all sounds of a recording are one
    apart = np.mean([design_effect(rng.standard_normal(1_600), codes, 80) for _ in range(20)])
    assert 1 <= apart < 1.4
    assert design_effect(rng.standard_normal(200), np.arange(200), 10) == 1


def test_names_of_recordings_may_be_anything_and_stand_in_any_order() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(60), 10)
    scores = rng.standard_normal(60)[groups] + rng.standard_normal(600)
    expected = threshold_for(scores, target=0.1, groups=groups)
    assert expected[1].n_recordings == 60
    mixed = rng.permutation(600)
    assert threshold_for(scores[mixed], target=0.1, groups=[f"{i}.wav" for i in groups[mixed]]) == expected
    each_its_own = threshold_for(scores, target=0.1, groups=np.arange(600))
    assert each_its_own[0] == threshold_for(scores, target=0.1)[0]


def test_one_long_recording_is_cut_into_stretches() -> None:
    """What drifts slowly within a recording tells less than as many independent sounds."""
    rng = np.random.default_rng(4)
    slow = np.repeat(rng.standard_normal(40), 50)
    for n_recordings in (1, 3):
        groups = np.arange(2_000) * n_recordings // 2_000
        _, drifting = threshold_for(slow + rng.standard_normal(2_000), target=0.2, groups=groups)
        _, steady = threshold_for(rng.standard_normal(2_000), target=0.2, groups=groups)
        assert drifting.design_effect > 10
        assert steady.design_effect < 4
        assert drifting.n_recordings == n_recordings


# -------------------------------------------------------------------------------------------- worlds with known rates

World = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray | None]]


def recordings(n: int, size: int, alike: float, spread: float = 0.0) -> World:
    """Standard normal scores, correlated within a recording; sizes are lognormal where ``spread`` is above 0."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        sizes = np.maximum(1, np.round(size * rng.lognormal(-(spread**2) / 2, spread, n))).astype(int)
        groups = np.repeat(np.arange(n), sizes)
        own = rng.standard_normal(len(groups))
        return math.sqrt(alike) * rng.standard_normal(n)[groups] + math.sqrt(1 - alike) * own, groups

    return draw


def alone(n: int) -> World:
    return lambda rng: (rng.standard_normal(n), None)


def realised(world: World, target: float, n_draws: int, seed: int = 0) -> np.ndarray:
    """True share beyond the threshold over the target, in each draw; 0 where the target is refused."""
    rng = np.random.default_rng(seed)
    shares = []
    for _ in range(n_draws):
        scores, groups = world(rng)
        try:
            shares.append(stats.norm.sf(threshold_for(scores, target=target, groups=groups)[0]) / target)
        except InputError:
            shares.append(0.0)
    return np.asarray(shares)


def require_kept(share_above: float, n_draws: int, allowed: float = 0.05) -> None:
    assert share_above <= allowed + 3 * math.sqrt(allowed * (1 - allowed) / n_draws)


@pytest.mark.parametrize(("target", "exact"), [(0.05, 38), (0.01, 4)])
def test_independent_negatives_keep_the_promise_sharply(target: float, exact: int) -> None:
    shares = realised(alone(1_000), target, 1_000)
    require_kept(float((shares > 1).mean()), 600)
    # As often as the beta distribution says, so that nothing is given away but the step to the next whole alarm.
    assert (shares > 1).mean() == pytest.approx(stats.beta.sf(target, exact + 1, 1_000 - exact), abs=0.025)
    assert np.median(shares) >= 0.4


@pytest.mark.parametrize(
    ("world", "target", "at_least"),
    [
        (recordings(100, 10, 0.0), 0.05, 0.6),
        (recordings(100, 10, 0.4), 0.05, 0.4),
        (recordings(300, 5, 0.5), 0.02, 0.4),
        (recordings(60, 20, 0.3, 0.8), 0.05, 0.3),
    ],
)
def test_recordings_keep_the_promise_and_are_not_punished(world: World, target: float, at_least: float) -> None:
    shares = realised(world, target, 400)
    require_kept(float((shares > 1).mean()), 400)
    assert np.median(shares) >= at_least


def test_a_promise_that_takes_recordings_for_independent_is_broken() -> None:
    """Proof that the tests above can fail."""
    world = recordings(100, 10, 0.8)
    shares = realised(lambda rng: (world(rng)[0], None), 0.05, 400)
    assert (shares > 1).mean() > 0.15


@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_alarms_per_hour_keep_the_promise(alike: float) -> None:
    """Fragments come at random, 40 an hour from recordings of a quarter of an hour."""
    rng, above, n_draws, n = np.random.default_rng(8), 0, 500, 80
    for _ in range(n_draws):
        groups = np.repeat(np.arange(n), rng.poisson(10, n))
        own = rng.standard_normal(len(groups))
        scores = math.sqrt(alike) * rng.standard_normal(n)[groups] + math.sqrt(1 - alike) * own
        threshold, _ = threshold_for(scores, target=2, per_hour=True, hours=20.0, groups=groups if alike else None)
        above += 40 * stats.norm.sf(threshold) > 2
    require_kept(above / n_draws, n_draws)


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.05, 0.02, 0.01])
@pytest.mark.parametrize("n", [20, 100, 400])
@pytest.mark.parametrize("alike", [0.0, 0.3, 0.8, 0.999])
@pytest.mark.parametrize("spread", [0.0, 0.8])
def test_the_promise_is_kept_over_a_grid_of_worlds(n: int, alike: float, spread: float, target: float) -> None:
    shares = realised(recordings(n, 2_000 // n, alike, spread), target, 1_000)
    require_kept(float((shares > 1).mean()), 1_000)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "loud"), [(100, 0.05), (100, 0.1), (300, 0.02), (300, 0.05)])
def test_a_few_recordings_that_pass_almost_whole_keep_it_too(n: int, loud: float) -> None:
    """Five of them or more are to be expected; a kind that a draw holds none of cannot be seen in it."""
    rng, shares = np.random.default_rng(6), []
    for _ in range(1_500):
        groups = np.repeat(np.arange(n), 10)
        scores = rng.standard_normal(len(groups)) + 3 * (rng.random(n) < loud)[groups]
        try:
            threshold, _ = threshold_for(scores, target=0.05, groups=groups)
        except InputError:
            threshold = math.inf
        shares.append((1 - loud) * stats.norm.sf(threshold) + loud * stats.norm.sf(threshold - 3))
    require_kept(float((np.asarray(shares) > 0.05).mean()), 1_500)


# ---------------------------------------------------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"scores": []}, "There are no negatives"),
        ({"target": 0.0}, "target is 0; give a share between 0 and 1"),
        ({"target": 1.0}, "target is 1; give a share between 0 and 1"),
        ({"target": -1.0, "per_hour": True, "hours": 9.0}, "-1 false alarms an hour; give a number above 0"),
        ({"confidence": 0.5}, "confidence is 0.5; give a share between 0.5 and 1"),
        ({"confidence": 95}, "confidence is 95"),
        ({"target": 3.0, "per_hour": True}, "last 0 hours"),
        ({"scores": [1.0, math.nan]}, "1 of the 2 scores of negatives are NaN"),
        ({"groups": ["a.wav"]}, "1 names of recordings for 400 negatives"),
        ({"target": 0.001}, "0.1 % of unknown sounds needs at least 2995 negatives at 95 % confidence; 400 are there"),
        ({"target": 0.001}, "or ask for 0.75 % or more"),
        (
            {"target": 0.01, "per_hour": True, "hours": 0.4},
            "0.01 false alarms an hour needs at least 300 hours of negatives at 95 % confidence; you gave 0.4; ",
        ),
        ({"target": 0.01, "per_hour": True, "hours": 0.4}, "or ask for 7.5 an hour or more"),
        ({"groups": np.arange(400) // 20, "scores": np.arange(400) // 20}, "pass together and count as"),
    ],
)
def test_what_cannot_be_promised_is_said_in_a_sentence(asked: dict, said: str) -> None:  # type: ignore[type-arg]
    options = {"scores": np.random.default_rng(0).standard_normal(400), "target": 0.05, **asked}
    options["scores"] = np.asarray(options["scores"], np.float64)
    with pytest.raises(InputError) as caught:
        threshold_for(options.pop("scores"), **options)
    assert said in str(caught.value)
    assert str(caught.value).count(". ") == 0
    assert str(caught.value).endswith(".")


def test_what_is_said_to_be_enough_is_enough_and_one_less_is_not() -> None:
    for target, n in ((0.05, 59), (0.01, 299), (0.001, 2995)):
        assert threshold_for(np.arange(float(n)), target=target)[1].n_alarms == 0
        with pytest.raises(InputError, match=f"at least {n} negatives"):
            threshold_for(np.arange(float(n - 1)), target=target)
    assert threshold_for([1.0], target=0.01, per_hour=True, hours=299.58)[1].bound == pytest.approx(0.01, rel=1e-3)


def test_a_promise_is_a_plain_sentence() -> None:
    promise = Promise(0.05, False, 0.04951, 0.95, 1000, 37, 0.8, "model")
    assert as_sentence(promise) == (
        "At most 5.0 % of sounds that are no enrolled word are accepted (95 % confidence; 37 of 1000 negatives from "
        "0.8 h pass)."
    )
    promise = Promise(1.0, True, 0.961, 0.9, 5210, 6, 12.04, "tv", 40, 1.62)
    assert as_sentence(promise) == (
        "At most 0.97 false alarms an hour (90 % confidence; 6 of 5210 negatives from 12 h in 40 recordings pass, "
        "which tell as much as 3216 independent ones)."
    )
    assert "accepted where it sounds as in this recording (" in as_sentence(
        Promise(0.1, False, 0.1, 0.95, 99, 4, 0.0, "", 1)
    )
