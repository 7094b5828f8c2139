"""Pooled errors of learners on several corpora, against sums by hand and the bootstrap of one corpus."""

from typing import Any

import numpy as np
import pytest

from metavox.contracts import InputError
from metavox.evaluation.transcription_comparison import compare, over_targets, paired, summaries
from metavox.statistics import holm, paired_bootstrap


def rows(learner: str, corpus: str, seed: int, rate: float, n: int = 24) -> list[dict[str, Any]]:
    """Two draws of utterances of unequal lengths; the lengths depend on the corpus alone."""
    luck = np.random.default_rng([seed, len(corpus)])
    chars = np.random.default_rng(len(corpus)).integers(5, 40, n)
    return [
        {
            "learner": learner, "corpus": corpus, "minutes": 5.0, "seed": draw, "id": f"{corpus}-{i}",
            "speaker": f"{corpus}-{i % 12}", "said": f"{corpus} {i}", "chars": int(chars[i]),
            "char_errors": int(luck.binomial(chars[i], rate)), "words": None, "word_errors": None,
        }
        for draw in range(2)
        for i in range(n)
    ]  # fmt: skip


GOOD = [*rows("good", "here", 1, 0.2), *rows("good", "there!", 2, 0.3)]
BAD = [*rows("bad", "here", 3, 0.4), *rows("bad", "there!", 4, 0.4)]


def pooled(some: list[dict[str, Any]], corpus: str) -> float:
    own = [row for row in some if row["corpus"] == corpus]
    return sum(row["char_errors"] for row in own) / sum(row["chars"] for row in own)


def test_who_errs_less_is_better_by_the_mean_over_corpora_of_pooled_errors() -> None:
    found = paired(GOOD, BAD, 0)
    by_set = {corpus: pooled(BAD, corpus) - pooled(GOOD, corpus) for corpus in ("here", "there!")}
    assert found["difference"] == pytest.approx(np.mean(list(by_set.values())))
    assert 0 < found["low"] < found["difference"] < found["high"]
    assert (found["worst_corpus"], found["worst_difference"]) == ("there!", pytest.approx(by_set["there!"]))
    back = paired(BAD, GOOD, 0)
    assert [back["difference"], back["low"], back["high"]] == pytest.approx(
        [-found["difference"], -found["high"], -found["low"]], abs=1e-9
    )
    assert found["p_value"] < 0.05


def test_one_corpus_is_the_paired_bootstrap_over_speakers() -> None:
    own, other = ([row for row in some if row["corpus"] == "here"] for some in (GOOD, BAD))
    found = paired(own, other, 0)
    expected = paired_bootstrap(
        [row["char_errors"] for row in other], [row["char_errors"] for row in own],
        per=[row["chars"] for row in own], clusters=[row["speaker"] for row in own], seed=1,
    )  # fmt: skip
    assert found["difference"] == pytest.approx(expected.difference)
    width = expected.high - expected.low
    assert [found["low"], found["high"]] == pytest.approx([expected.low, expected.high], abs=0.06 * width)


def test_the_order_of_rows_does_not_matter_and_other_utterances_are_refused() -> None:
    shuffled = [BAD[i] for i in np.random.default_rng(0).permutation(len(BAD))]
    assert paired(GOOD, shuffled, 0) == paired(GOOD, BAD, 0)
    with pytest.raises(InputError, match="not heard on the same utterances of here"):
        paired(GOOD, BAD[1:], 0)
    other = [{**row, "seed": 7} if row["seed"] else row for row in BAD]
    with pytest.raises(InputError, match="after the same draws"):
        paired(GOOD, other, 0)


def test_who_lacks_a_corpus_is_compared_on_the_others() -> None:
    here = [row for row in BAD if row["corpus"] == "here"]
    assert paired(GOOD, here, 0)["difference"] == pytest.approx(pooled(BAD, "here") - pooled(GOOD, "here"))


def test_p_values_are_adjusted_for_the_number_of_learners() -> None:
    third = [{**row, "learner": "third"} for row in BAD]
    found = compare({"good": GOOD, "bad": BAD, "third": third}, "bad", 0)
    raw = [paired(GOOD, BAD, 0)["p_value"], paired(third, BAD, 0)["p_value"]]
    assert [row["p_value"] for row in found] == pytest.approx(holm(raw).tolist())
    assert found[1]["difference"] == 0
    assert [(row["model"], row["versus"]) for row in found] == [("good", "bad"), ("third", "bad")]
    assert compare({"bad": BAD}, "bad", 0) == []


def test_summaries_and_their_mean_are_pooled_errors_with_the_worst_corpus() -> None:
    told = [
        one for corpus in ("here", "there!")
        for one in summaries([row for row in GOOD if row["corpus"] == corpus], corpus=corpus)
    ]  # fmt: skip
    assert [one["mean"] for one in told] == pytest.approx([pooled(GOOD, "here"), pooled(GOOD, "there!")])
    assert {one["clustered_by"] for one in told} == {"speaker"}
    both = over_targets(told)
    assert both["mean"] == pytest.approx(np.mean([one["mean"] for one in told]))
    assert both["worst_corpus"] == "there!"
    assert both["n"] == len(GOOD)
    low, high = both["ci95"]
    assert low < both["mean"] < high
    assert high - low < max(one["ci95"][1] - one["ci95"][0] for one in told)
    assert over_targets(told[:1])["ci95"] == pytest.approx(told[0]["ci95"])
    unknown = over_targets([told[0], {**told[1], "ci95": [None, None]}])
    assert unknown["ci95"] == [None, None]
