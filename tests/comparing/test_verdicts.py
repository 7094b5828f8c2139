"""Figures and what is said of them, from rows made by hand: who wins is known, and so is every sentence."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from metavox.comparing.page import page
from metavox.comparing.table import Material, figures
from metavox.comparing.verdicts import sentences
from metavox.comparing.words import MEASURE as WORDS
from metavox.data.episodes import EpisodeSpec
from metavox.evaluation.protocols import Protocol, over_corpora, summary

SETS = ("here", "there")
FAMILIES = {
    "metric_one": "metric",
    "gradient_one": "gradient",
    "joint": "joint",
    "dtw": "untrained",
    "raw": "untrained",
    "masked": "joint",
    "linear_probe": "joint",
}
N_EPISODES, N_WORDS, N_QUERIES = 60, 5, 4
PROTOCOL = Protocol(EpisodeSpec(N_WORDS, 1, N_QUERIES), N_EPISODES, 0)


def answers(name: str, chances: Mapping[str, float]) -> list[dict[str, Any]]:
    """Rows that are right as often as told by set; whoever is better is right wherever the others are."""
    found = []
    for corpus, chance in chances.items():
        luck = np.random.default_rng([len(corpus), 1]).random((N_EPISODES, N_WORDS, N_QUERIES))
        for (episode, word, query), value in np.ndenumerate(luck):
            found.append(
                {"learner": name, "fold": "1", "episode": episode, "item": f"{word}-{query}", "corpus": corpus,
                 "speaker": None, "label": str(word), "correct": int(value < chance), "ways": N_WORDS, "shots": 1}
            )  # fmt: skip
    return found


def compared(chances: Mapping[str, Any], notes: Mapping[str, list[str]] | None = None) -> dict[str, Any]:
    results, rows = [], []
    for name, chance in chances.items():
        by_set = dict.fromkeys(SETS, chance) if isinstance(chance, float) else chance
        own = answers(name, by_set)
        rows += own
        told = [summary([row for row in own if row["corpus"] == c], PROTOCOL, corpus=c) for c in by_set]
        results.append(
            {"fold": "1", "learner": name, "family": FAMILIES[name], "source": "", "shares": None, "trials": 3,
             "chosen": {}, "training": {"cpu_s": 1.0, "steps": 9}, "training_cpu_s_all_trials": 3.0,
             "peak_memory_mb": None, "parameters": 1, "parameters_encoder": 1,
             "notes": list((notes or {}).get(name, [])), "summaries": told}
        )  # fmt: skip
    return figures(Material(results, rows, {}, len(SETS)), WORDS, 0)


def said(chances: Mapping[str, Any], **options: Any) -> str:
    return "\n".join(sentences(compared(chances, **options), WORDS))


ALL = {"metric_one": 0.8, "gradient_one": 0.7, "joint": 0.6, "dtw": 0.5, "raw": 0.3}


def test_means_worst_sets_and_differences_are_those_of_the_rows() -> None:
    found = compared({**ALL, "metric_one": {"here": 0.9, "there": 0.7}})
    assert [row["learner"] for row in found["standings"]] == ["metric_one", "gradient_one", "joint", "dtw", "raw"]
    assert found["versus"] == [{"shots": 1, "baseline": "dtw", "joint": "joint", "best": "metric_one"}]
    first = found["standings"][0]
    means = {c: np.mean([r["correct"] for r in answers("m", {c: p})]) for c, p in (("here", 0.9), ("there", 0.7))}
    assert first["mean"] == pytest.approx(np.mean(list(means.values())))
    assert (first["worst_corpus"], first["worst_mean"]) == ("there", pytest.approx(means["there"]))
    means_of = {row["learner"]: row["mean"] for row in found["standings"]}
    for row in found["paired"]:
        assert row["difference"] == pytest.approx(means_of[row["learner"]] - means_of[row["versus"]])
        assert row["low"] <= row["difference"] <= row["high"]
    assert {row["corpus"] for row in found["best_by_set"]} == set(SETS)


def test_the_smallest_difference_to_be_seen_follows_from_the_intervals() -> None:
    """(1.96 + 0.84) standard errors, for a power of 0.8 at 0.05."""
    found = compared(ALL)
    rows = [row for row in found["paired"] if row["question"] == "joint"]
    expected = [(1.959964 + 0.841621) * (row["high"] - row["low"]) / (2 * 1.959964) for row in rows]
    assert found["detectable"][0]["median"] == pytest.approx(np.median(expected), rel=1e-5)
    assert found["detectable"][0]["largest"] == pytest.approx(max(expected), rel=1e-5)


def test_where_meta_learning_helps_it_is_said() -> None:
    text = said(ALL)
    assert "With 1 take a word, metric_one is the best with" in text
    assert "meta-learning is shown to help 2 of 2 learners: beside joint, the least gain is gradient_one (+" in text
    assert (
        "The best is chosen on these tests, so its figure and its distance to others are a little optimistic." in text
    )
    assert "no learner ties with metric_one" in text
    assert "metric_one is not below the best untrained baseline, dtw, on any set" in text


def test_where_joint_training_wins_it_is_said() -> None:
    text = said({**ALL, "joint": 0.9})
    assert "joint is the best with" in text
    assert "ordinary joint training wins, and no meta-learning is needed for it" in text
    assert "meta-learning is shown to help 0 of 2 learners; metric_one (" in text
    assert "are worse than joint." in text


def test_what_is_not_shown_is_not_told_as_its_contrary() -> None:
    text = said({**ALL, "gradient_one": 0.6, "metric_one": 0.6})
    assert "meta-learning is shown to help 0 of 2 learners; no difference to joint is shown: metric_one (0.0" in text
    assert "gradient_one (0.0 points, 0.0 to 0.0), joint (0.0 points, 0.0 to 0.0) tie with metric_one" in text
    mixed = said({**ALL, "gradient_one": 0.6})
    assert "shown to help 1 of 2 learners; for the others no difference to joint is shown: gradient_one (0.0" in mixed
    three = said({"metric_one": 0.8, "gradient_one": 0.4, "joint": 0.6, "dtw": 0.2})
    assert "shown to help 1 of 2 learners; gradient_one (" in three
    assert "is worse than joint." in three


def test_a_win_of_joint_training_is_no_verdict_on_meta_learners_that_tie_with_it() -> None:
    text = said({"joint": 0.8, **{name: chance for name, chance in ALL.items() if name != "joint"}})
    assert "metric_one (0.0 points, 0.0 to 0.0) ties with joint: no difference is shown" in text
    assert "joint is the best" in text
    assert "ordinary joint training wins" not in text
    assert "ordinary joint training wins" not in said({"joint": 0.8, "dtw": 0.3})


def test_self_supervised_training_and_other_ways_to_adapt_are_not_called_joint_training() -> None:
    masked = said({**ALL, "masked": 0.95})
    assert "masked is the best with" in masked
    assert "self-supervised training, without labels and without meta-learning" in masked
    probe = said({**ALL, "linear_probe": 0.95})
    assert "another way to adapt what ordinary training made, without meta-learning" in probe
    assert not any("no meta-learning is needed" in text for text in (masked, probe))


def changed(found: dict[str, Any], question: str, **values: Mapping[str, Any]) -> str:
    """The sentences where some learners have other figures in a question."""
    paired = [{**row, **values.get(row["learner"], {})} if row["question"] == question else row
              for row in found["paired"]]  # fmt: skip
    return "\n".join(sentences({**found, "paired": paired}, WORDS))


def test_sentences_go_by_the_adjusted_p() -> None:
    """An interval without 0 whose p, once adjusted, is above 0.05 shows nothing."""
    found = compared(ALL)
    above = {"difference": 0.02, "low": 0.001, "high": 0.04, "p_value": 0.07}
    text = changed(found, "joint", gradient_one=above)
    assert "shown to help 1 of 2 learners; for the others no difference to joint is shown: gradient_one (+2.0" in text
    below = {"difference": -0.02, "low": -0.04, "high": -0.001, "p_value": 0.07}
    assert "no difference to joint is shown: gradient_one" in changed(found, "joint", gradient_one=below)
    assert "gradient_one (\u22122.0 points, \u22124.0 to \u22120.1) ties with metric_one" in changed(
        found, "best", gradient_one=below
    )
    sure = {**below, "p_value": 0.05}
    assert "gradient_one (\u22122.0 points, \u22124.0 to \u22120.1) is worse than joint" in changed(
        found, "joint", gradient_one=sure
    )
    assert "no learner ties with metric_one" in changed(found, "best", gradient_one=sure)


def test_p_is_adjusted_for_those_whom_a_question_is_about() -> None:
    """Beside joint: for two meta-learners, and for the three others apart; beside the best: for all."""
    from metavox.evaluation.comparison import paired
    from metavox.statistics import holm

    chances = {**ALL, "metric_one": 0.62, "gradient_one": 0.61, "linear_probe": 0.57}
    found = compared(chances)
    rows = {name: answers(name, dict.fromkeys(SETS, chance)) for name, chance in chances.items()}
    plain = {name: paired(own, rows["joint"], 0)["p_value"] for name, own in rows.items() if name != "joint"}
    told = {row["learner"]: row["p_value"] for row in found["paired"] if row["question"] == "joint"}
    for names in (["metric_one", "gradient_one"], ["dtw", "raw", "linear_probe"]):
        assert [told[name] for name in names] == pytest.approx(holm([plain[name] for name in names]).tolist())
    best = found["versus"][0]["best"]
    beside = [name for name in chances if name != best]
    expected = holm([paired(rows[name], rows[best], 0)["p_value"] for name in beside])
    told = {row["learner"]: row["p_value"] for row in found["paired"] if row["question"] == "best"}
    assert [told[name] for name in beside] == pytest.approx(expected.tolist())


def test_where_the_best_is_below_a_baseline_the_set_is_named() -> None:
    text = said({**ALL, "metric_one": {"here": 0.95, "there": 0.45}, "gradient_one": 0.5, "joint": 0.5})
    assert "metric_one is below the best untrained baseline, dtw, on there (\u2212" in text
    assert text.split("baseline, dtw, on ")[1].startswith("there (")


def test_a_baseline_that_nobody_beats_is_said_to_be_the_best() -> None:
    text = said({**ALL, "dtw": 0.95})
    assert "nothing that was trained is better than this untrained baseline" in text
    assert "dtw, which needs no training, is not beaten" in text


def test_without_joint_training_nothing_is_claimed() -> None:
    text = said({name: chance for name, chance in ALL.items() if name != "joint"})
    assert "joint gave no result to stand beside: whether meta-learning helps cannot be said" in text
    assert "no meta-learner gave a result" in said({"joint": 0.5, "dtw": 0.4})


def test_who_lacks_a_set_is_not_the_best_and_is_compared_on_the_others() -> None:
    found = compared({**ALL, "gradient_one": {"here": 0.99}})
    row = next(row for row in found["standings"] if row["learner"] == "gradient_one")
    assert (row["complete"], row["sets"]) == (False, 1)
    assert found["versus"][0]["best"] == "metric_one"
    pair = next(r for r in found["paired"] if (r["question"], r["learner"]) == ("joint", "gradient_one"))
    assert pair["episodes"] == N_EPISODES


def test_who_has_no_set_in_common_is_left_out_of_the_pair_and_nothing_else() -> None:
    found = compared({**ALL, "metric_one": {"here": 0.8}, "joint": {"there": 0.6}})
    pairs = {(row["question"], row["learner"]) for row in found["paired"]}
    assert ("joint", "metric_one") not in pairs
    assert {("joint", "gradient_one"), ("baseline", "metric_one"), ("best", "metric_one")} <= pairs
    assert "meta-learning is shown to help 1 of 1 learners" in "\n".join(sentences(found, WORDS))
    alone = compared({"metric_one": {"here": 0.8}, "joint": {"there": 0.6}, "dtw": 0.5})
    assert "joint gave no result to stand beside" in "\n".join(sentences(alone, WORDS))


def test_where_everybody_lacks_a_set_nothing_is_the_best() -> None:
    found = compared({name: {"here": chance} for name, chance in ALL.items()})
    assert not any(row["complete"] for row in found["standings"])
    text = "\n".join(sentences(found, WORDS))
    assert "no learner was asked about every set, and nothing is the best" in text
    assert "The best is chosen" not in text


def test_notes_of_cells_and_empty_results_reach_the_reader() -> None:
    text = said({**ALL, "gradient_one": {}}, notes={"gradient_one": ["It reached 2 outer steps."]})
    assert "gradient_one in fold 1: It reached 2 outer steps." in text
    found = compared({**ALL, "gradient_one": {}})
    assert "gradient_one" not in [row["learner"] for row in found["standings"]]
    assert "gradient_one" in [row["learner"] for row in found["costs"]]


def test_of_errors_the_lowest_is_the_best() -> None:
    from dataclasses import replace

    def reverse(rows: Any, versus: str, seed: int) -> list[dict[str, Any]]:
        found = WORDS.compare(rows, versus, seed)
        return [{**row, "difference": -row["difference"], "low": -row["high"], "high": -row["low"]} for row in found]

    rows = [row for name, chance in ALL.items() for row in answers(name, dict.fromkeys(SETS, chance))]
    measure = replace(WORDS, highest=False, compare=reverse)
    results = []
    for name in ALL:
        own = [row for row in rows if row["learner"] == name]
        told = [summary([row for row in own if row["corpus"] == c], PROTOCOL, corpus=c) for c in SETS]
        results.append({"fold": "1", "learner": name, "family": FAMILIES[name], "source": "", "shares": None,
                        "trials": 3, "chosen": {}, "training": None, "training_cpu_s_all_trials": 0.0,
                        "parameters": 1, "parameters_encoder": 1, "notes": [], "summaries": told})  # fmt: skip
    found = figures(Material(results, rows, {}, len(SETS)), measure, 0)
    assert found["versus"][0] == {"shots": 1, "baseline": "raw", "joint": "joint", "best": "raw"}
    assert over_corpora(results[0]["summaries"])["mean"] == found["standings"][-1]["mean"]


def test_the_page_holds_every_sentence_and_every_learner() -> None:
    found = compared({**ALL, "gradient_one": {"here": 0.4}})
    document = {**found, "what": "what", "measured": "how", "search": "search", "sentences": sentences(found, WORDS)}
    text = page(document, WORDS)
    assert all(sentence in text for sentence in document["sentences"])
    assert "| gradient_one (1 sets) |" in text
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|-"):
            assert line.count("|") >= 3
