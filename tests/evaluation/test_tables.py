"""What the report says must follow from the numbers, also where they are not what one hoped for."""

import numpy as np
import pytest

from metavox.contracts import InputError
from metavox.evaluation import tables

GOOD = {"prototypes": (0.81, True), "MAML": (0.7, True), "mean": (0.6, False), "DTW": (0.63, False)}


def a_summary(model, corpus, shots, mean, *, half=0.02, ways=10, **more):
    ci95 = [None, None] if half is None else [mean - half, mean + half]
    return {
        "metric": "accuracy", "mean": mean, "ci95": ci95, "n": 500, "episodes": 10, "seed": 0, "ways": ways,
        "shots": shots, "queries": 5, "model": model, "corpus": corpus, **more,
    }  # fmt: skip


def summaries_of(levels, shots=(1, 5), corpora=("A", "B", "C")):
    """Means step down from corpus to corpus: the last one is the worst, and the middle one the mean."""
    return [
        a_summary(model, corpus, k, level + 0.1 * (1 - i) - (0.2 if k == 1 else 0), trained=trained, seconds=2.0)
        for model, (level, trained) in levels.items()
        for k in shots
        for i, corpus in enumerate(corpora)
    ]


def paired_row(model, versus, difference, half, shots=5):
    return {
        "model": model, "versus": versus, "shots": shots, "difference": difference,
        "low": difference - half, "high": difference + half, "p_value": 0.0004,
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------------- the headline


def said(summaries=None, paired=(), setting="new words"):
    checked = tables.checked(summaries_of(GOOD) if summaries is None else summaries, ())
    takeaway, reach = tables.headline(tables.standings(checked), paired, setting)
    return takeaway.replace("\u00a0", " "), reach.replace("\u00a0", " ")


def test_the_headline_says_how_much_better():
    takeaway, reach = said(paired=[paired_row("prototypes", "DTW", 0.18, 0.03)], setting="unknown words")
    # Three independent intervals of +-2 make +-2/sqrt(3) for their mean.
    assert takeaway == (
        "With 5 takes a word, the best trained learner (prototypes) recognises 10 unknown words with 81.0 % accuracy "
        "(95 % interval 79.8 to 82.2), 18.0 points above the best untrained baseline, DTW "
        "(paired interval +15.0 to +21.0)."
    )
    assert "mean over 3 sets; the lowest is C with 71.0 %" in reach
    assert "With 1 take a word it reaches 61.0 % (95 % interval 59.8 to 62.2)." in reach


def test_the_headline_says_plainly_that_training_did_not_help():
    worse = {"prototypes": (0.55, True), "DTW": (0.63, False)}
    tested, _ = said(summaries=summaries_of(worse), paired=[paired_row("prototypes", "DTW", -0.08, 0.03)])
    assert "8.0 points below the best untrained baseline, DTW (paired interval −11.0 to −5.0)" in tested
    assert tested.endswith("Training did not help here.")
    untested, _ = said(summaries=summaries_of(worse), paired=[])
    assert "8.0 points below" in untested
    assert "not tested in pairs" in untested
    assert untested.endswith("Training did not help here.")


@pytest.mark.parametrize("difference", [0.01, -0.01])
def test_the_headline_claims_no_gain_where_the_interval_includes_zero(difference):
    level = {"prototypes": (0.63 + difference, True), "DTW": (0.63, False)}
    takeaway, _ = said(summaries=summaries_of(level), paired=[paired_row("prototypes", "DTW", difference, 0.03)])
    assert takeaway.endswith("includes zero: no gain from training is shown.")
    assert ("above" if difference > 0 else "below") in takeaway


def test_a_difference_against_another_baseline_is_not_taken_for_the_best():
    takeaway, _ = said(paired=[paired_row("prototypes", "mean", 0.21, 0.03)])
    assert "18.0 points above the best untrained baseline, DTW (difference of means, not tested in pairs)" in takeaway


def test_the_headline_without_one_side_or_any():
    assert "no untrained baseline was scored" in said(summaries=summaries_of({"prototypes": (0.8, True)}))[0]
    assert "the untrained baseline (DTW)" in said(summaries=summaries_of({"DTW": (0.8, False)}))[0]
    assert said(summaries=())[0] == "Nothing was evaluated."


def test_a_learner_that_skipped_a_hard_set_wins_nothing():
    some = [*summaries_of(GOOD), a_summary("lucky", "A", 5, 0.99, trained=True)]
    takeaway, reach = said(summaries=some)
    assert "(prototypes)" in takeaway
    assert "not scored on every set: lucky" in reach
    found = {s.model: s for s in tables.standings(tables.checked(some, ())) if s.shots == 5}
    assert not found["lucky"].best
    assert found["prototypes"].best


def test_fewer_ways_in_one_set_are_said():
    some = summaries_of(GOOD)
    for summary in some:
        summary["ways"] = 4 if summary["corpus"] == "B" else 10
    assert "recognises up to 10 new words" in said(summaries=some)[0]
    assert tables.chance(some, 5) == pytest.approx((0.1 + 0.25 + 0.1) / 3)


def test_an_unknown_interval_is_said_not_drawn():
    some = [a_summary("prototypes", "A", 5, 0.8, half=None), a_summary("DTW", "A", 5, 0.7, half=None, trained=False)]
    assert "too few episodes for an interval" in said(summaries=some, paired=[])[0]


def test_an_interval_never_leaves_what_an_accuracy_can_be():
    assert tables.bounds([-0.03, 1.04]) == (0.0, 1.0)
    assert tables.bounds([None, None]) == tables.bounds(None) == (None, None)
    assert "100.0 to" not in said(summaries=summaries_of({"p": (0.999, True)}, corpora=("A",)))[0]


# ----------------------------------------------------------------------------------------------------------- the tables


def test_a_learner_with_a_training_log_counts_as_trained():
    some = [a_summary("prototypes", "A", 5, 0.8), a_summary("DTW", "A", 5, 0.7)]
    found = {s.model: s.trained for s in tables.standings(tables.checked(some, {"prototypes"}))}
    assert found == {"prototypes": True, "DTW": False}


def test_standings_agree_with_means_computed_by_hand():
    some = tables.checked(summaries_of(GOOD), ())
    for standing in tables.standings(some):
        own = [s for s in some if (s["model"], s["shots"]) == (standing.model, standing.shots)]
        assert standing.mean == pytest.approx(np.mean([s["mean"] for s in own]))
        assert standing.worst_mean == min(s["mean"] for s in own)
        assert standing.episode_ms == pytest.approx(1000 * 6.0 / 30)
    assert [s.model for s in tables.standings(some)][::2] == ["prototypes", "MAML", "DTW", "mean"]


def test_set_tables_hold_every_figure_once():
    some = tables.checked([s for s in summaries_of(GOOD) if (s["model"], s["shots"]) != ("DTW", 1)], ())
    found = tables.corpus_tables(some, list(GOOD))
    assert [t.corpus for t in found] == ["A", "B", "C"]
    means = [cell["mean"] for t in found for _, cells in t.rows for cell in cells if cell]
    assert sorted(means) == sorted(s["mean"] for s in some)
    assert all(sum(bool(cells[i] and cells[i]["best"]) for _, cells in t.rows) == 1 for t in found for i in range(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("ways"), "no 'ways'"),
        (lambda s: s.update(metric="wer"), "metric is 'wer'"),
        (lambda s: s.update(corpus="B"), "two summaries for B"),
    ],
)
def test_summaries_that_cannot_stand_in_one_table(change, message):
    some = summaries_of(GOOD)
    change(some[0])
    with pytest.raises(InputError, match=message):
        tables.checked(some, ())


def test_draws_are_told_by_language_and_none_is_lost():
    drawn = {f"l{i:02}:w{j}": 1 + i + j for i in range(30) for j in range(4)} | {"bare": 7}
    found = tables.drawn_languages(drawn, max_rows=12)
    assert len(found) == 12
    assert sum(d.total for d in found) == sum(drawn.values())
    assert sum(d.n_classes for d in found) == len(drawn)
    assert sum(d.share for d in found) == pytest.approx(1)
    assert [d.total for d in found[:-1]] == sorted((d.total for d in found[:-1]), reverse=True)
    assert (found[0].language, found[0].low, found[0].median, found[0].high) == ("l29", 30, 31.5, 33)
    assert found[-1].language == "20 other languages"


def a_group(name, episodes, loss=1.0, **more):
    return {
        **{"group": name, "kind": "real", "episodes": episodes, "share": episodes / 100, "classes": 2, "of_classes": 4},
        **{"utterances": 10, "of_utterances": 30, "mean_loss": loss, **more},
    }


def test_groups_are_told_by_their_share_and_none_is_lost():
    rows = [a_group(f"g{i}", i, loss=float(i)) for i in range(1, 14)] + [a_group("never", 9, loss=None)]
    found = tables.drawn_groups(rows, max_rows=5)
    assert [group.group for group in found] == ["g13", "g12", "g11", "g10", "10 other groups"]
    assert sum(group.episodes for group in found) == 100
    assert sum(group.share for group in found) == pytest.approx(1)
    assert (found[-1].classes, found[-1].utterances) == ((20, 40), (100, 300))
    assert found[-1].mean_loss == pytest.approx(sum(i * i for i in range(1, 10)) / sum(range(1, 10)))
    assert found[0].probability is None
    assert tables.drawn_groups([a_group("", 1, None)])[0].group == "all recordings"
    assert tables.drawn_groups([a_group("", 1, None)])[0].mean_loss is None
    chances = tables.drawn_groups([a_group(str(i), 1, probability=0.25, kind="ab"[i % 2]) for i in range(4)], 3)
    assert [group.probability for group in chances] == [0.25, 0.25, 0.5]
    assert chances[-1].kind == "a and b"


def test_the_most_frequent_mistakes_are_named_with_their_row():
    counts = np.array([[5, 3, 0], [0, 8, 1], [2, 0, 9]])
    assert tables.confused("abc", counts) == [("a", "b", 3, 8), ("c", "a", 2, 11), ("b", "c", 1, 9)]
    assert tables.confused("abc", np.diag([1, 2, 3])) == []
    assert counts[0, 0] == 5


# -------------------------------------------------------------------------------------------------------------- numbers


def test_numbers_are_printed_as_people_write_them():
    assert tables.percent(0.8125) == "81.2"
    assert tables.points(0.182) == "+18.2"
    assert tables.points(-0.031) == "−3.1"
    assert tables.points(-0.0001) == tables.points(0.0) == "0.0"
    assert tables.p_value(0.00001) == "<\u00a00.001"
    assert tables.p_value(0.0421) == "0.042"
    assert tables.takes(1) == "1\u00a0take"
    assert [tables.significant(v) for v in (0.75, 123.4, 0.00123)] == ["0.750", "123", "0.00123"]
