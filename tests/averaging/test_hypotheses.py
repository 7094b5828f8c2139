"""Voting on transcripts: what is sure to hold, the cost of the alignment by trying every one, and small cases."""

import itertools
from collections.abc import Sequence
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import said

from metavox.averaging.hypotheses import GAP, SUBSTITUTION, Vote, _alignment, _Place, rover
from metavox.metrics import edit_distance

TEXTS = st.text("abc", max_size=7)
SEVERAL = st.lists(TEXTS, min_size=1, max_size=5)


def voted(*texts: str, weights: Sequence[float] | None = None, vote: Vote | None = None) -> str:
    return "".join(rover(list(texts), None, vote, weights)[0])


def words(*texts: str, weights: Sequence[float] | None = None) -> str:
    return " ".join(rover([text.split() for text in texts], weights=weights)[0])


# ----------------------------------------------------------------------------------------------------- what is sure


@settings(deadline=None, max_examples=50)
@given(TEXTS)
def test_one_text_is_itself(text: str) -> None:
    found, shares = rover([text])
    assert "".join(found) == text
    assert shares == [1.0] * len(text)


@settings(deadline=None, max_examples=50)
@given(TEXTS, st.integers(2, 6))
def test_texts_that_are_alike_are_the_text(text: str, n: int) -> None:
    found, shares = rover([text] * n)
    assert "".join(found) == text
    assert shares == pytest.approx([1.0] * len(text))


@settings(deadline=None, max_examples=200)
@given(SEVERAL, st.integers(0, 4))
def test_a_member_with_most_of_the_votes_is_followed_to_the_letter(texts: list[str], favourite: int) -> None:
    """Wherever it stands and however the others are aligned to it."""
    at = favourite % len(texts)
    weights = [len(texts) + 0.5 if k == at else 1.0 for k in range(len(texts))]
    assert voted(*texts, weights=weights) == texts[at]


@settings(deadline=None, max_examples=200)
@given(SEVERAL, st.integers(0, 3))
def test_a_text_given_again_at_once_is_a_vote_of_double_weight(texts: list[str], doubled: int) -> None:
    at = doubled % len(texts)
    again = [*texts[: at + 1], *texts[at:]]
    weights = [2.0 if k == at else 1.0 for k in range(len(texts))]
    assert voted(*again) == voted(*texts, weights=weights)


@settings(deadline=None, max_examples=200)
@given(SEVERAL)
def test_every_letter_is_some_members_and_no_more_come_than_are_there(texts: list[str]) -> None:
    found, shares = rover(texts)
    assert len(found) == len(shares) <= sum(map(len, texts))
    assert set(found) <= set("".join(texts))
    assert all(0 < share <= 1 + 1e-12 for share in shares)


@settings(deadline=None, max_examples=50)
@given(SEVERAL, st.lists(st.floats(0.01, 10), min_size=5, max_size=5), st.floats(0.1, 100))
def test_only_the_ratio_of_the_weights_counts(texts: list[str], weights: list[float], scale: float) -> None:
    own = [round(weight, 3) for weight in weights[: len(texts)]]
    assert voted(*texts, weights=own) == voted(*texts, weights=[scale * weight for weight in own])


@settings(deadline=None, max_examples=50)
@given(SEVERAL)
def test_texts_of_no_weight_change_nothing(texts: list[str]) -> None:
    assert voted("abcab", *texts, weights=[1.0, *[0.0] * len(texts)]) == "abcab"


def test_empty_texts_are_votes_too() -> None:
    assert voted("", "") == ""
    assert voted("", "", "a") == ""
    assert voted("ab", "ab", "") == "ab"
    assert voted("", "ab", "ab") == "ab"


# ---------------------------------------------------------------------------------------------------------------- votes


def test_the_majority_has_it_place_by_place() -> None:
    """No member says it all rightly."""
    assert voted("kitten", "sitting", "kittin") == "kittin"
    assert words("the cat sat on mat", "the hat sat on the mat", "a cat sat in the mat") == "the cat sat on the mat"


def test_a_word_that_one_of_three_adds_falls_and_one_that_two_have_stays() -> None:
    assert words("turn on light", "turn on the light", "turn on light") == "turn on light"
    assert words("turn on light", "turn on the light", "turn on the light") == "turn on the light"


def test_where_two_are_alike_the_earlier_member_has_it() -> None:
    assert (voted("a", "b"), voted("b", "a")) == ("a", "b")
    assert voted("a", "b", "c", "b", "a") == "a"
    assert voted("ab", "a") == "ab"  # something is not outvoted by as much of nothing


@pytest.mark.parametrize("n", [2, 6, 10, 14, 20, 22, 30])
def test_a_tie_is_one_whatever_the_rounding_of_the_votes(n: int) -> None:
    """A seventh seven times is not 1 in binary."""
    half = n // 2
    assert voted(*["a"] * half, *[""] * half) == "a"
    assert voted(*[""] * half, *["a"] * half) == "a"
    assert voted(*["a"] * half, *["b"] * half) == "a"
    assert voted("b", "a", "a", weights=[0.3, 0.1, 0.2]) == "b"  # 0.1 + 0.2 is more than 0.3 in binary


def test_weights_decide() -> None:
    assert voted("a", "b", weights=[1.0, 1.1]) == "b"
    assert voted("ab", "a", weights=[1.0, 1.1]) == "a"
    assert rover(["ab", "ac", "ac"], weights=[2.0, 1.0, 0.5])[1] == pytest.approx([1.0, 2 / 3.5])


def test_confidences_decide_where_they_are_asked() -> None:
    texts, sure = ["a", "b", "b"], [[0.9], [0.2], [0.2]]
    assert rover(texts, sure, Vote(agreement=1.0))[0] == ["b"]
    assert rover(texts, sure, Vote(agreement=0.0))[0] == ["a"]
    limit = 0.7 / (0.7 + 1 / 3)  # agreement / 3 more votes against (1 - agreement) 0.7 more confidence
    assert rover(texts, sure, Vote(agreement=limit - 0.01))[0] == ["a"]
    assert rover(texts, sure, Vote(agreement=limit + 0.01))[0] == ["b"]


def test_the_confidence_of_nothing_decides_where_confidences_do() -> None:
    texts, sure = ["ab", "a"], [[0.9, 0.6], [0.9]]
    for nothing, expected in ((0.5, "ab"), (0.6, "ab"), (0.7, "a")):
        assert "".join(rover(texts, sure, Vote(0.0, nothing))[0]) == expected
        assert "".join(rover(texts, sure, Vote(1.0, nothing))[0]) == "ab"  # of votes alone it has no part
    assert "".join(rover(["ab", "ab"], [[0.1, 0.1]] * 2, Vote(0.0, 1.0))[0]) == "ab"  # nobody has nothing


def test_a_mean_confidence_is_weighed_as_the_votes_are() -> None:
    texts, sure = ["a", "a", "b"], [[1.0], [0.0], [0.6]]
    assert rover(texts, sure, Vote(0.0))[0] == ["b"]
    assert rover(texts, sure, Vote(0.0), [3.0, 1.0, 4.0])[0] == ["a"]


def test_tokens_may_be_anything_that_can_be_compared() -> None:
    assert rover([(1, 2, 3), (1, 3), (1, 2, 3)])[0] == [1, 2, 3]
    assert rover([["ka", "la"], ["ka", "ra"], ["ga", "la"]])[0] == ["ka", "la"]


# ------------------------------------------------------------------------------------------------------ the alignment


def least_cost(places: Sequence[str], text: str) -> int:
    """By trying every alignment; a place is all letters that are heard there."""

    @lru_cache(None)
    def cost(i: int, j: int) -> int:
        if i == len(places):
            return GAP * (len(text) - j)
        if j == len(text):
            return GAP * (len(places) - i)
        meet = 0 if text[j] in places[i] else SUBSTITUTION
        return min(meet + cost(i + 1, j + 1), GAP + cost(i + 1, j), GAP + cost(i, j + 1))

    return cost(0, 0)


def cost_of(steps: Sequence[str], places: Sequence[str], text: str) -> int:
    total = i = j = 0
    for step in steps:
        if step == "both":
            total += 0 if text[j] in places[i] else SUBSTITUTION
        else:
            total += GAP
        i, j = i + (step != "token"), j + (step != "place")
    assert (i, j) == (len(places), len(text))
    return total


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text("abc", min_size=1, max_size=3), max_size=6), st.text("abcd", max_size=6))
def test_the_alignment_is_the_cheapest_of_all(places: list[str], text: str) -> None:
    heard = [_Place(tuple((k, letter, 1.0) for k, letter in enumerate(place))) for place in places]
    assert cost_of(_alignment(heard, text), places, text) == least_cost(places, text)


def test_every_pair_of_short_texts_is_aligned_as_trying_all_ways_says() -> None:
    short = ["".join(letters) for n in range(4) for letters in itertools.product("ab", repeat=n)]
    for one, other in itertools.product(short, repeat=2):
        heard = [_Place(((0, letter, 1.0),)) for letter in one]
        assert cost_of(_alignment(heard, other), one, other) == least_cost(one, other)


def test_costs_are_those_of_the_tool_of_nist() -> None:
    """A substitution is cheaper than two gaps, and two substitutions are dearer than two gaps around a match."""
    assert GAP < SUBSTITUTION < 2 * GAP
    assert least_cost("ab", "ba") == 2 * GAP
    assert least_cost("a", "b") == SUBSTITUTION


def test_a_vote_of_three_readings_of_a_sentence_is_nearer_to_it_than_any() -> None:
    """Each makes other mistakes, as networks of other seeds do."""
    right = "mi prendo cura dei bambini la sera"
    heard = [
        "mi brendo cura dei bambini la sera",
        "mi prendo gura de bambini la sira",
        "i prendo cura dei bambin la zera",
    ]
    found = voted(*heard)
    assert found == right
    assert all(edit_distance(right, text).edits > 0 for text in heard)


# ------------------------------------------------------------------------------------------------------------ refusals


def test_what_cannot_be_voted_on_is_refused_in_one_sentence() -> None:
    assert "No transcript was given" in said(lambda: rover([]))
    assert "do not fit the transcripts" in said(lambda: rover(["ab"], [[1.0]]))
    assert "do not fit the transcripts" in said(lambda: rover(["ab"], [[1.0, 1.0], []]))
    assert "for 2 models" in said(lambda: rover(["a", "b"], weights=[1.0]))
    assert "-1" in said(lambda: rover(["a", "b"], weights=[1.0, -1.0]))


@pytest.mark.parametrize(("name", "value"), [("agreement", -0.1), ("agreement", 1.5), ("nothing", float("nan"))])
def test_a_vote_has_shares(name: str, value: float) -> None:
    assert said(lambda: Vote(**{name: value})) == f"{name} of a vote is {value:g}; give a number from 0 to 1."
