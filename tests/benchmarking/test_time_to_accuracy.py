"""Times to an accuracy, on curves whose times are known in closed form."""

import numpy as np
import pytest
from accuracy_curves import best_so_far, geometric_mean, levels, ratios, summary, time_to

STEPS = [0, 10, 20, 30, 40]
RISING = [0.5, 0.6, 0.7, 0.8, 0.9]


def side(scale: float, *, choosing_s: float = 0.0) -> dict:
    """A side whose accuracy rises by 0.1 every ten steps of ``scale`` seconds, and that chooses in its first step."""
    plain = [scale * step for step in STEPS]
    return {
        "curve": {
            "step": STEPS,
            "accuracy": RISING,
            "cpu_s": [at + choosing_s * (at > 0) for at in plain],
            "cpu_s_once_chosen": plain,
        },
        "cpu_s_per_step": scale + choosing_s / 40,
        "cpu_s_once_chosen_per_step": scale,
        "beyond_learn2learn": 0.0,
    }


def test_a_straight_line_stays_as_it_is_but_for_its_end_and_never_falls():
    assert best_so_far(RISING) == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.85])
    assert best_so_far([0.6, 0.3, 0.3, 0.9]) == pytest.approx([0.6, 0.6, 0.6, 0.6])


def test_a_single_lucky_point_is_not_the_best_so_far():
    lucky = best_so_far([0.5, 0.5, 0.8, 0.5, 0.5])
    assert lucky.max() == pytest.approx(0.6)
    assert (np.diff(lucky) >= 0).all()


@pytest.mark.parametrize(("accuracy", "seconds"), [(0.4, 0.0), (0.5, 0.0), (0.55, 5.0), (0.7, 20.0), (0.9, 40.0)])
def test_the_time_is_linear_between_points(accuracy: float, seconds: float):
    assert time_to(accuracy, [0, 10, 20, 30, 40], RISING) == pytest.approx(seconds)


def test_what_is_never_reached_has_no_time_and_a_plateau_counts_from_its_start():
    assert time_to(0.91, [0, 10, 20, 30, 40], RISING) is None
    assert time_to(0.7, [0, 10, 20, 30], [0.5, 0.7, 0.7, 0.7]) == 10


def test_levels_are_shares_of_the_end_and_of_the_gain():
    found = levels([0.5, 0.7, 0.9])
    assert found["1 of its final accuracy"] == pytest.approx(0.9)
    assert found["0.95 of its final accuracy"] == pytest.approx(0.855)
    assert found["0.5 of its gain"] == pytest.approx(0.7)


def test_half_the_seconds_are_half_the_time_and_files_make_the_peer_slower():
    found = ratios({"learn2learn": side(2.0), "metavox": side(1.0)}, extra_s_per_step=2.0)
    for row in found.values():
        assert row["ratio"]["metavox/learn2learn"] == pytest.approx(1 / 2)
        assert row["ratio"]["metavox/learn2learn_on_the_fly"] == pytest.approx(1 / 4)


def test_choosing_counts_on_one_clock_and_not_on_the_other():
    found = ratios({"learn2learn": side(1.0), "metavox": side(1.0, choosing_s=20.0)}, 0.0)["1 of its final accuracy"]
    assert found["ratio"]["metavox/learn2learn"] == pytest.approx(60 / 40)
    assert found["ratio"]["metavox/learn2learn, once chosen"] == pytest.approx(1)


def test_what_the_peer_has_before_training_gives_no_ratio():
    at_once = side(1.0)
    at_once["curve"] = {**at_once["curve"], "accuracy": [0.9] * 5}
    found = ratios({"learn2learn": at_once, "metavox": at_once}, 0.0)
    assert all(value is None for row in found.values() for value in row["ratio"].values())


def test_a_summary_is_the_geometric_mean_over_seeds():
    drawing = {"files_cpu_s_per_step": 3.0, "bank_cpu_s_per_step": 1.0}
    runs = [
        {"seed": seed, "drawing": drawing, "sides": {"learn2learn": side(2.0), "metavox": side(scale)}}
        for seed, scale in enumerate((1.0, 4.0))
    ]
    found = summary(runs)
    assert found["time_to"]["0.9 of its gain"]["metavox/learn2learn"] == pytest.approx(1.0)  # of 1/2 and 2
    assert found["seconds_per_step"]["metavox/learn2learn_on_the_fly"] == pytest.approx(0.5)  # of 1/4 and 1


def test_a_mean_with_a_time_that_is_missing_is_missing():
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert geometric_mean([2.0, None]) is None
