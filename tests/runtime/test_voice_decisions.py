"""Likelihood ratios to probabilities and decisions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metavox.runtime.voice_decisions import VoiceDecision, claimed, logit, named, odds_in_words

LLRS = st.lists(st.floats(-800, 800), min_size=1, max_size=20)
PRIORS = st.floats(0.001, 0.999)


def decided(llr: list[float], threshold: float, p_known: float) -> VoiceDecision:
    return named(tuple(f"v{k}" for k in range(len(llr))), np.array(llr), threshold, p_known)


@given(LLRS, PRIORS)
def test_probabilities_are_those_of_the_rule_of_bayes(llr: list[float], p_known: float) -> None:
    found = np.array(list(decided(llr, 0.0, p_known).probabilities.values()))
    assert ((found >= 0) & (found <= 1)).all()
    assert found.sum() <= 1 + 1e-9
    if max(np.abs(llr)) < 300:
        prior = p_known / len(llr)
        direct = prior * np.exp(llr) / (1 - p_known + prior * np.exp(llr).sum())
        np.testing.assert_allclose(found, direct, rtol=1e-9, atol=1e-300)


@given(LLRS, PRIORS)
def test_the_best_is_named_where_it_is_more_likely_than_all_else(llr: list[float], p_known: float) -> None:
    found = decided(llr, -logit(p_known), p_known)
    if abs(found.probability - 0.5) > 1e-9:
        assert found.accepted == (found.probability > 0.5)
    assert found.best == f"v{int(np.argmax(llr))}"
    assert found.name == (found.best if found.accepted else None)
    assert (found.reason == "") == found.accepted
    assert found.accepted == (found.llr >= found.threshold)
    assert found.probability == found.probabilities[found.best] == max(found.probabilities.values())


@given(st.floats(-50, 50), st.floats(-20, 20), PRIORS)
def test_one_name_is_a_single_claim(llr: float, threshold: float, p: float) -> None:
    alone, claim = decided([llr], threshold, p), claimed("a", llr, threshold, p)
    assert alone.threshold == pytest.approx(claim.threshold, abs=1e-9)
    assert alone.probability == pytest.approx(claim.probability)
    if abs(llr - threshold) > 1e-6:
        assert alone.accepted == claim.accepted


def test_the_more_are_enrolled_the_more_has_to_speak_for_one() -> None:
    thresholds = [decided([3.0] + [-9.0] * (n - 1), 0.0, 0.5).threshold for n in (1, 10, 100)]
    assert thresholds[0] == pytest.approx(0)
    assert thresholds[1] == pytest.approx(math.log(10), abs=0.01)
    assert thresholds[2] == pytest.approx(math.log(100), abs=0.05)


def test_impossible_ratios_do_no_harm() -> None:
    for llr in ([1e300, -1e300], [-1e300], [1e300, 1e300]):
        found = decided(llr, 0.0, 0.5)
        assert all(map(math.isfinite, found.probabilities.values()))
        assert not math.isnan(found.threshold)


@pytest.mark.parametrize(
    ("llr", "words"),
    [
        (0.0, "as likely anna as somebody else"),
        (math.log(2.5), "2.5 times as likely anna as somebody else"),
        (-math.log(25), "25 times as likely somebody else as anna"),
        (math.log(1234), "1,234 times as likely anna as somebody else"),
        (1e300, "more than 10,000 times as likely anna as somebody else"),
        (-1e300, "more than 10,000 times as likely somebody else as anna"),
    ],
)
def test_odds_are_told_in_words(llr: float, words: str) -> None:
    assert odds_in_words(llr, "anna") == words
