"""Two people in a clip: what sides are compared, and a map that holds on people who were not heard in the fit."""

from functools import lru_cache

import numpy as np
import pytest
from voicing import RATE_HZ, say

from metavox.calibration.ratios import Ratios
from metavox.voices.classical import MfccStatistics
from metavox.voices.speech import Spoken, spoken
from metavox.voices.turns import MAX_CHANGES, MAX_SIDE_S, MIN_SIDE_S, Turns, learn_turns, log_odds_of_two, sides

N_PEOPLE = 14
NOBODY = np.zeros((0, MfccStatistics().dim), np.float32)


@lru_cache(maxsize=2)
def learned(cohort: bool = True) -> Turns:
    clips = [[say(5000 + person, take, 2.0) for take in range(3)] for person in range(N_PEOPLE)]
    found = learn_turns(
        MfccStatistics(), clips, ["made-up"] * N_PEOPLE, np.random.default_rng(0), NOBODY if cohort else None
    )
    assert found is not None
    return found


def speech_of(*parts: np.ndarray) -> Spoken:
    return spoken(np.concatenate(parts), RATE_HZ)


@pytest.mark.parametrize("cohort", [True, False])
def test_a_change_is_heard_in_people_whom_the_fit_did_not_hear(cohort: bool) -> None:
    turns, encoder = learned(cohort), MfccStatistics()

    def odds(speech: Spoken) -> float:
        found = sides(encoder, speech)
        assert found is not None
        return log_odds_of_two(found, turns.ratios, NOBODY, 0.5)

    one = np.array([odds(speech_of(say(6000 + k, 0), say(6000 + k, 1))) for k in range(12)])
    two = np.array([odds(speech_of(say(6000 + k, 0), say(6100 + k, 1))) for k in range(12)])
    assert (one[:, None] < two).mean() > 0.9
    assert turns.about["one"] == turns.about["two"] == 3 * N_PEOPLE
    assert turns.about["eer"] < 0.2


def test_the_generator_decides_everything() -> None:
    clips = [[say(5000 + person, take, 2.0) for take in range(3)] for person in range(N_PEOPLE)]
    asked = (MfccStatistics(), clips, ["made-up"] * N_PEOPLE)
    again = learn_turns(*asked, np.random.default_rng(0), NOBODY)
    other = learn_turns(*asked, np.random.default_rng(1), NOBODY)
    assert again == learned()
    assert other != again


def test_sides_lie_around_their_places() -> None:
    rng = np.random.default_rng(0)
    for seconds in (1.2, 1.3, 3.0, 30.0):
        found = sides(MfccStatistics(), Spoken(rng.standard_normal(round(seconds * RATE_HZ)), seconds, 20.0))
        assert found is not None
        assert 1 <= len(found.at_s) <= MAX_CHANGES
        assert found.before.speech_s == pytest.approx(np.minimum(found.at_s, MAX_SIDE_S))
        assert found.after.speech_s == pytest.approx(np.minimum(seconds - found.at_s, MAX_SIDE_S))
        assert min(found.before.speech_s.min(), found.after.speech_s.min()) >= MIN_SIDE_S - 1e-9
    assert sides(MfccStatistics(), Spoken(np.ones(round(1.19 * RATE_HZ), np.float32), 1.19, 20.0)) is None


def test_short_clips_of_one_speaker_are_heard_together() -> None:
    clips = [[say(5000 + person, take, 0.5) for take in range(9)] for person in range(N_PEOPLE)]
    found = learn_turns(MfccStatistics(), clips, ["words"] * N_PEOPLE, np.random.default_rng(0), NOBODY)
    assert found is not None
    assert found.about["one"] == 3 * N_PEOPLE


def test_of_too_little_nothing_is_learned() -> None:
    clips = [[say(5000 + person, take, 2.0) for take in range(2)] for person in range(5)]
    assert learn_turns(MfccStatistics(), clips, ["x"] * 5, np.random.default_rng(0), NOBODY) is None
    alone = [[say(5000 + person, take, 2.0) for take in range(8)] for person in range(4)]
    assert learn_turns(MfccStatistics(), alone, list("abcd"), np.random.default_rng(0), NOBODY) is None
    short = [[say(5000 + person, 0, 0.5)] for person in range(30)]
    assert learn_turns(MfccStatistics(), short, ["x"] * 30, np.random.default_rng(0), NOBODY) is None


def test_the_odds_follow_the_least_ratio_and_the_prior() -> None:
    found = sides(MfccStatistics(), speech_of(say(1), say(2)))
    assert found is not None
    ratios = Ratios({"score": 3.0, "shorter_log_s": 0.5}, 0.25)
    least = ratios(found.features(NOBODY)).min()
    assert log_odds_of_two(found, ratios, NOBODY, 0.5) == pytest.approx(-least)
    assert log_odds_of_two(found, ratios, NOBODY, 0.05) == pytest.approx(-least + np.log(0.05 / 0.95))
