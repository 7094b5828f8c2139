"""Learners beside one another: the sign, the pairing, the sets, and what must not be paired."""

from typing import Any

import numpy as np
import pytest

from metavox.contracts import InputError
from metavox.evaluation.comparison import compare, episode_accuracy, paired
from metavox.statistics import holm


def rows(corpus: str, *episodes: list[int], first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "corpus": corpus,
            "episode": first + number,
            "item": f"{corpus}-{number}-{i}",
            "label": f"w{i}",
            "correct": correct,
        }
        for number, hits in enumerate(episodes)
        for i, correct in enumerate(hits)
    ]


GOOD = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 1]]
BAD = [[0, 1, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]]


def test_accuracy_is_by_corpus_and_episode() -> None:
    found = episode_accuracy([*rows("a", [1, 0], [1, 1]), *rows("b", [0], first=4)])
    assert found == {"a": {0: 0.5, 1: 1.0}, "b": {4: 0.0}}


def test_the_difference_is_ours_less_theirs() -> None:
    found = paired(rows("a", *GOOD), rows("a", *BAD), seed=0)
    assert found["difference"] == pytest.approx(np.mean(GOOD) - np.mean(BAD))
    assert 0 < found["low"] < found["difference"] < found["high"]
    turned = paired(rows("a", *BAD), rows("a", *GOOD), seed=0)
    assert turned["difference"] == pytest.approx(-found["difference"])
    assert turned["high"] < 0
    assert turned["p_value"] == pytest.approx(found["p_value"], abs=0.05)
    same = paired(rows("a", *GOOD), rows("a", *GOOD), seed=0)
    assert (same["difference"], same["p_value"]) == (0, 1)


def test_every_set_counts_alike_and_the_worst_is_named() -> None:
    ours = [*rows("a", *GOOD), *rows("b", [0], [0])]
    theirs = [*rows("a", *BAD), *rows("b", [1], [1])]
    found = paired(ours, theirs, seed=0)
    on_a = np.mean(GOOD) - np.mean(BAD)
    assert found["difference"] == pytest.approx((on_a - 1) / 2)
    assert (found["worst_corpus"], found["worst_difference"]) == ("b", -1)
    assert found["episodes"] == 6


def test_only_episodes_that_both_have_count() -> None:
    found = paired(rows("a", *GOOD), [*rows("a", *BAD[:2]), *rows("c", [1])], seed=0)
    assert found["episodes"] == 2
    assert found["difference"] == pytest.approx(np.mean(GOOD[:2]) - np.mean(BAD[:2]))


def test_other_words_may_differ_by_more_than_other_episodes() -> None:
    """One word of five makes the whole difference: episodes are sure of it, words are not."""
    better = [[1, 0, 1, 0, 1]] * 12
    worse = [[0, 0, 1, 0, 1]] * 12
    found = paired(rows("a", *better), rows("a", *worse), seed=0)
    assert found["difference"] == pytest.approx(0.2)
    assert found["low"] == pytest.approx(0.2)
    assert found["clustered_low"] <= 0 < found["difference"] < found["clustered_high"]


def test_the_seed_decides_the_interval() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = (rows("a", *rng.integers(0, 2, (40, 5)).tolist()) for _ in range(2))
    assert paired(ours, theirs, seed=1) == paired(ours, theirs, seed=1)
    assert paired(ours, theirs, seed=1) != paired(ours, theirs, seed=2)


def test_episodes_of_other_clips_are_not_paired() -> None:
    """The same numbers from another seed are other episodes: their difference is no paired difference."""
    theirs = [{**row, "item": f"other-{row['item']}"} for row in rows("a", *BAD)]
    with pytest.raises(InputError, match=r"Episode [0-3] of a .* the same seed"):
        paired(rows("a", *GOOD), theirs, seed=0)
    with pytest.raises(InputError, match="Episode 3 of a"):
        paired(rows("a", *GOOD), rows("a", *BAD)[:-1], seed=0)


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(InputError):
        paired(rows("a", *GOOD), rows("b", *BAD), seed=0)
    with pytest.raises(InputError):
        paired(rows("a", *GOOD), rows("a", *BAD, first=10), seed=0)


def test_every_model_meets_the_one_with_p_values_for_several() -> None:
    by_model = {"ours": rows("a", *GOOD), "base": rows("a", *BAD), "other": rows("a", *BAD[::-1])}
    by_model["other"] = [{**row, "correct": 1 - row["correct"]} for row in rows("a", *BAD)]
    found = compare(by_model, "base", seed=3)
    assert [(row["model"], row["versus"]) for row in found] == [("ours", "base"), ("other", "base")]
    alone = [paired(by_model[name], by_model["base"], 3)["p_value"] for name in ("ours", "other")]
    assert [row["p_value"] for row in found] == pytest.approx(holm(alone).tolist())
    assert compare({"base": by_model["base"]}, "base", seed=0) == []
