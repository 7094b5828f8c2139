"""Intervals of detection errors over people: against resampling written out, and how often they hold."""

import numpy as np
import pytest

from metavox.evaluation.detection import Trials, difference, figures, interval, speaker_weights, usable
from metavox.metrics import act_dcf, cllr, eer, min_cllr, min_dcf


def crossed(
    n_people: int, n_clips: int, seed: int, spread: float | int = 0.8, reach: float | int = 12
) -> tuple[np.ndarray, Trials]:
    """Everybody enrolled and tested against everybody, as ratios of vectors of people who are more or less steady."""
    rng = np.random.default_rng(seed)
    voices = rng.normal(size=(n_people, 6))
    steady = np.exp(0.4 * rng.normal(size=n_people))
    clips = voices[:, None] + spread * steady[:, None, None] * rng.normal(size=(n_people, n_clips, 6))
    unit = clips / np.linalg.norm(clips, axis=-1, keepdims=True)
    scores = unit[:, 1:].reshape(-1, 6) @ unit[:, 0].T
    enrolled = np.broadcast_to(np.arange(n_people), scores.shape).ravel()
    tested = np.repeat(np.arange(n_people), (n_clips - 1) * n_people)
    return reach * scores.ravel() - 0.6 * reach, Trials(enrolled == tested, enrolled, tested, n_people)


def written_out(values: np.ndarray, trials: Trials, drawn: np.ndarray, figure) -> float:
    """A figure of one resample, each trial as often in the list as its people were drawn."""
    times = drawn[trials.enrolled] * np.where(trials.is_target, 1, drawn[trials.tested])
    some = np.repeat(np.arange(len(values)), times.astype(int))
    kind = trials.is_target[some]
    return figure(values[some][kind], values[some][~kind])


FIGURES = {
    "eer": lambda t, n: eer(t, n).rate,
    "min_dcf": min_dcf,
    "min_dcf_p05": lambda t, n: min_dcf(t, n, 0.05),
    "act_dcf": act_dcf,
    "act_dcf_p05": lambda t, n: act_dcf(t, n, 0.05),
    "cllr": cllr,
    "min_cllr": min_cllr,
}


@pytest.mark.parametrize("name", FIGURES)
def test_points_are_exact_and_resamples_are_those_written_out(name: str) -> None:
    values, trials = crossed(12, 6, 3)
    found = figures(values, trials, calibrated=True, seed=5, n_resamples=100)[name]
    target = trials.is_target
    assert found.estimate == pytest.approx(FIGURES[name](values[target], values[~target]), abs=1e-12)
    weights = speaker_weights(12, 100, 5)
    expected = [written_out(values, trials, weights[place], FIGURES[name]) for place in range(25)]
    # Bins blur a staircase of few people a little, and less where there are many.
    np.testing.assert_allclose(found.estimate + found.deviations[:25], expected, atol=0.04 if "dcf" in name else 0.015)


def test_an_equal_error_rate_needs_no_other_figure() -> None:
    values, trials = crossed(10, 4, 1)
    whole, alone = (figures(values, trials, calibrated=True, seed=2, only_eer=only) for only in (False, True))
    assert list(alone) == ["eer"]
    assert interval("eer", alone["eer"], 10) == pytest.approx(interval("eer", whole["eer"], 10), abs=5e-3)


def test_the_interval_of_the_equal_error_rate_holds_as_often_as_it_says() -> None:
    truth = np.mean([eer(*(v[k] for k in (t.is_target, ~t.is_target))).rate for v, t in (crossed(400, 4, 9),)])
    held = []
    for seed in range(60):
        values, trials = crossed(20, 5, 100 + seed)
        low, high = interval("eer", figures(values, trials, calibrated=False, seed=seed, only_eer=True,
                                            n_resamples=200)["eer"], 20)  # fmt: skip
        held.append(low <= truth <= high)
    assert np.mean(held) >= 0.88


def test_more_people_make_intervals_shorter_and_more_draws_do_not() -> None:
    def width(values: np.ndarray, trials: Trials) -> float:
        low, high = interval("eer", figures(values, trials, calibrated=False, seed=0, only_eer=True)["eer"],
                             trials.n_enrolled)  # fmt: skip
        return high - low

    values, trials = crossed(20, 6, 7)
    tripled = Trials(np.tile(trials.is_target, 3), np.tile(trials.enrolled, 3), np.tile(trials.tested, 3), 20)
    assert width(np.tile(values, 3), tripled) == pytest.approx(width(values, trials), rel=0.05)
    assert width(*crossed(120, 6, 7)) < 0.75 * width(values, trials)


def test_no_error_among_few_people_promises_little() -> None:
    values, trials = crossed(8, 3, 2, spread=0.01)
    found = figures(values, trials, calibrated=True, seed=0)
    low, high = interval("eer", found["eer"], 8)
    assert low == found["eer"].estimate == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 8), abs=1e-6)  # Clopper and Pearson: 0 of 8
    assert interval("min_dcf", found["min_dcf"], 8) == [0, None]


def test_one_person_enrolled_tells_nothing_of_others() -> None:
    values, trials = crossed(6, 4, 4)
    some = trials.enrolled == 2
    found = figures(values[some], trials.at(some), calibrated=False, seed=0, n_resamples=100)
    assert interval("eer", found["eer"], 1) == [None, None]


def test_a_difference_is_paired() -> None:
    values, trials = crossed(30, 6, 11)
    worse = values + np.random.default_rng(1).normal(size=len(values)) * 6
    better, other = (figures(one, trials, calibrated=False, seed=3, only_eer=True)["eer"] for one in (values, worse))
    gain = usable(difference(other, better))
    low, high = gain.interval(0.95)
    assert 0 < low < gain.estimate < high
    assert gain.p_value() < 0.05
    apart = sum(np.diff(interval("eer", one, 30))[0] for one in (better, other))
    assert high - low < apart
    same = difference(better, better)
    assert (same.estimate, float(np.abs(same.deviations).max())) == (0, 0)
