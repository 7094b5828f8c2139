"""Words that come by and by: figures against a second computation, and learners that lose or keep what they knew."""

import json
from collections import defaultdict
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sets_of_numbers import FRONT_END, Nearby, words

from metavox.checkpoint import load_model
from metavox.contracts import Batch, InputError, State
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.evaluation.incremental import (
    IncrementalProtocol,
    evaluate_incremental,
    forgetting,
    require_enrollable,
    summary,
)

PROTOCOL = IncrementalProtocol(EpisodeSpec(7, 3, 4), 5, 3, base=2, per_session=2)


class Forgetful(Nearby):
    """Old takes fade to 0, where no word is."""

    def extend(self, state: State, support: Batch) -> State:
        return super().extend({**state, "takes": torch.full_like(state["takes"], -50.0)}, support)


def run(learner: Any = None, protocol: IncrementalProtocol = PROTOCOL, **options: Any) -> list[dict[str, Any]]:
    bank = words(spread=options.pop("spread", 0.5))
    index = ClassIndex(bank.utterances)
    return evaluate_incremental(learner or Nearby(), bank, index, protocol, FRONT_END, **options)


def test_words_come_session_by_session_and_all_are_asked_for() -> None:
    assert PROTOCOL.sessions() == [2, 4, 6, 7]  # the last brings what is left
    rows = run(corpus="renamed")
    queries = [row for row in rows if row["kind"] == "query"]
    for episode in range(5):
        known: list[set[str]] = []
        for session, n_words in enumerate(PROTOCOL.sessions()):
            some = [row for row in queries if (row["episode"], row["session"]) == (episode, session)]
            known.append({row["label"] for row in some})
            assert len(some) == 4 * n_words
            assert len(known[-1]) == n_words
            assert {row["predicted"] for row in some} <= known[-1]
            assert {row["ways"] for row in some} == {n_words}
            for row in some:
                came = next(i for i, labels in enumerate(known) if row["label"] in labels)
                assert row["came_in"] == came
        assert all(a < b for a, b in pairwise(known))
    assert {row["corpus"] for row in rows} == {"renamed"}
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_figures_agree_with_a_second_computation() -> None:
    rows = run()
    found = summary(rows, PROTOCOL, model="m")
    cells: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "query":
            cells[row["episode"], row["session"], row["came_in"]].append(row["correct"])
    so_far = np.asarray(
        [[np.mean(list(chain(*(cells[e, s, w] for w in range(s + 1))))) for s in range(4)] for e in range(5)]
    )
    np.testing.assert_allclose(found["accuracy_by_session"], so_far.mean(0))
    assert found["mean"] == pytest.approx(so_far.mean())
    assert found["final_accuracy"] == pytest.approx(so_far[:, -1].mean())
    np.testing.assert_allclose(
        found["newest_by_session"], [np.mean([np.mean(cells[e, s, s]) for e in range(5)]) for s in range(4)]
    )
    np.testing.assert_allclose(
        found["first_by_session"], [np.mean([np.mean(cells[e, s, 0]) for e in range(5)]) for s in range(4)]
    )
    lost = [
        np.mean([max(np.mean(cells[e, s, w]) for s in range(w, 3)) - np.mean(cells[e, 3, w]) for w in range(3)])
        for e in range(5)
    ]
    assert found["forgetting"] == pytest.approx(np.mean(lost))
    assert found["clustered_ci95"][0] < found["mean"] < found["clustered_ci95"][1]
    assert (found["metric"], found["n"], found["words_by_session"]) == ("accuracy", 5 * 4 * 19, [2, 4, 6, 7])
    json.dumps(found, allow_nan=False)


def test_who_loses_nothing_forgets_nothing_and_extends_as_it_adapts() -> None:
    found = summary(run(spread=0.01), PROTOCOL)
    assert (found["mean"], found["forgetting"]) == (1.0, 0.0)
    assert found["extend_equals_adapt"]
    assert (found["extend_changed_answers"], found["extend_difference"]) == (0, 0.0)


def test_a_learner_that_forgets_is_found_out() -> None:
    found = summary(run(Forgetful(), spread=0.01), PROTOCOL)
    assert found["first_by_session"][0] == 1.0
    assert found["newest_by_session"] == [1.0] * 4
    assert found["first_by_session"][-1] == 0.0
    assert found["forgetting"] == pytest.approx(1.0)
    assert not found["extend_equals_adapt"]
    assert found["extend_changed_answers"] > 0


def test_forgetting_is_the_best_before_less_the_last() -> None:
    accuracy = np.zeros((1, 3, 3))
    accuracy[0, :, 0] = [0.8, 0.9, 0.5]
    accuracy[0, 1:, 1] = [0.6, 0.7]
    accuracy[0, 2, 2] = 1.0
    np.testing.assert_allclose(forgetting(accuracy), [((0.9 - 0.5) + (0.6 - 0.7)) / 2])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"base": 1}, "--base is 1; a first session needs at least 2 words"),
        ({"per_session": 0}, "--per-session is 0"),
        ({"base": 7}, "The first session has 7 words and there are 7 in all, so that none is added"),
    ],
)
def test_impossible_sessions_are_one_sentence(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(PROTOCOL, **wrong).sessions()


def test_a_learner_that_cannot_be_extended_is_refused() -> None:
    assert require_enrollable(load_model("dtw").learner, "dtw")
    for name in ("nearest_mean", "scratch"):
        with pytest.raises(InputError, match=f"Model {name} has a learner that cannot gain a word"):
            require_enrollable(load_model(name).learner, name)


@pytest.mark.real
def test_dtw_gains_real_words_and_extends_as_it_adapts(data_root: Path, tmp_path: Path) -> None:
    from metavox.data.bank import build_bank
    from metavox.data.manifests import load_corpus

    model = load_model("dtw")
    some = [u for u in load_corpus(data_root / "bengali_digits") if u.speaker in ("bn01", "bn02")]
    bank = build_bank(some, model.config.front_end, cache=tmp_path)
    protocol = IncrementalProtocol(EpisodeSpec(6, 2, 2), 2, 0, base=2, per_session=2)
    rows = evaluate_incremental(model.learner, bank, ClassIndex(some), protocol, model.config.front_end)
    found = summary(rows, protocol)
    assert found["extend_equals_adapt"]
    assert found["mean"] > 0.5
