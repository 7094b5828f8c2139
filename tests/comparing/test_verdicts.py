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
    return figures(Material(results, rows, {}), WORDS, 0)


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
    assert "meta-learning helps every time: beside joint, the least is gradient_one (+" in text
    assert "no learner ties with metric_one" in text
    assert "metric_one is not below the best untrained baseline, dtw, on any set" in text


def test_where_joint_training_wins_it_is_said() -> None:
    text = said({**ALL, "joint": 0.9})
    assert "joint is the best with" in text
    assert "ordinary joint training wins, and no meta-learning is needed for it" in text
    assert "meta-learning did not help 2 of 2 learners: metric_one (" in text
    assert "are worse than joint" in text


def test_no_difference_is_no_gain() -> None:
    text = said({**ALL, "gradient_one": 0.6, "metric_one": 0.6})
    assert "meta-learning did not help 2 of 2 learners: no gain over joint is shown for" in text
    assert "gradient_one (0.0 points, 0.0 to 0.0), joint (0.0 points, 0.0 to 0.0) tie with metric_one" in text
    mixed = said({**ALL, "gradient_one": 0.6})
    assert "did not help 1 of 2 learners" in mixed
    assert "it helps the other 1" in mixed


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
    found = figures(Material(results, rows, {}), measure, 0)
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
