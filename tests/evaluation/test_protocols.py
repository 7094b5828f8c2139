"""Rows against learners whose answers are known, and summaries against arithmetic."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metavox.contracts import Batch, FrontEnd, InputError, Output, State, Utterance
from metavox.data.bank import Bank, _Part
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.evaluation.protocols import Protocol, evaluate, fitted, over_corpora, per_episode, summary, transfer
from metavox.tasks import Commands

FRONT_END = FrontEnd(n_mels=8, normalize=False, n_frames=None, crop=False)
N_FRAMES = 4


def bank(n_words: int = 8, n_takes: int = 6, speakers: tuple[str | None, ...] = ("a", "b", "c")) -> Bank:
    """Clips whose every value is the number of their word: no learner can be mistaken that wants to be right."""
    who = [(word, take) for word in range(n_words) for take in range(n_takes)]
    utterances = [
        Utterance(f"{word}-{take}", Path("none.wav"), 1.0, label=f"w{word}", speaker=speakers[take % len(speakers)],
                  corpus="words")
        for word, take in who
    ]  # fmt: skip
    values = np.repeat(np.asarray([word for word, _ in who], np.float32), N_FRAMES)
    features = np.tile(values[:, None], (1, FRONT_END.n_mels))
    offsets = np.arange(len(who))[:, None] * N_FRAMES + np.asarray([[0, N_FRAMES]])
    bounds = np.tile(np.asarray([[0, N_FRAMES]]), (len(who), 1))
    part = _Part(np.zeros(0, np.int16), features)
    return Bank(utterances, FRONT_END, [part], np.zeros(len(who), np.int64), offsets, offsets, bounds)


class Nearest:
    """Right by the value of the clips; with ``sign`` -1 always wrong; with ``mute`` it forgets one word."""

    encoder = None
    fixed_ways = False
    adapts_body = False

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign
        self.asked: list[Any] = []

    def adapt(self, support: Batch) -> State:
        value = support.inputs[:, 0, 0]
        means = torch.stack([value[support.labels == c].mean() for c in range(support.n_classes)])
        self.asked.append(("adapt", support.inputs.sum(), support.labels.tolist()))
        return {"means": means}

    def predict(self, state: State, query: Batch) -> Output:
        self.asked.append(("predict", query.inputs.sum(), query.labels.tolist()))
        return Output(-self.sign * (query.inputs[:, :1, 0] - state["means"]).abs())


def rows_of(learner: Any, protocol: Protocol | None = None, **options: Any) -> list[dict[str, Any]]:
    found = bank()
    protocol = protocol or Protocol(EpisodeSpec(4, 2, 3), 5, 7)
    return evaluate(learner, Commands(), found, ClassIndex(found.utterances), protocol, FRONT_END, **options)


@pytest.mark.parametrize(("sign", "correct"), [(1.0, 1), (-1.0, 0)])
def test_a_perfect_learner_is_always_right_and_its_opposite_never(sign: float, correct: int) -> None:
    rows = rows_of(Nearest(sign))
    assert {row["correct"] for row in rows} == {correct}
    assert all((row["predicted"] == row["label"]) == bool(correct) for row in rows)
    assert all((row["margin"] > 0) == bool(correct) for row in rows)
    assert summary(rows, Protocol(EpisodeSpec(4, 2, 3), 5, 7))["mean"] == correct


def test_a_row_says_who_was_asked_and_what_was_answered() -> None:
    rows = rows_of(Nearest())
    assert len(rows) == 5 * 4 * 3
    assert Counter(row["episode"] for row in rows) == dict.fromkeys(range(5), 12)
    utterances = {u.id: u for u in bank().utterances}
    for row in rows:
        utterance = utterances[row["item"]]
        assert (row["label"], row["speaker"], row["corpus"]) == (utterance.label, utterance.speaker, "words")
        assert (row["ways"], row["shots"]) == (4, 2)
        # The nearest wrong word is at least one away, and the right one at zero.
        assert row["margin"] >= 1
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert {row["corpus"] for row in rows_of(Nearest(), corpus="renamed")} == {"renamed"}


def test_all_learners_are_asked_the_same() -> None:
    right, wrong = Nearest(), Nearest(-1.0)
    asked = rows_of(right), rows_of(wrong)
    for a, b in zip(*asked, strict=True):
        assert {k: a[k] for k in ("episode", "item", "label")} == {k: b[k] for k in ("episode", "item", "label")}
    assert right.asked == wrong.asked
    other = rows_of(Nearest(), Protocol(EpisodeSpec(4, 2, 3), 5, 8))
    assert [row["item"] for row in other] != [row["item"] for row in asked[0]]


def test_more_episodes_begin_with_the_same_ones() -> None:
    few = rows_of(Nearest(), Protocol(EpisodeSpec(4, 2, 3), 2, 7))
    many = rows_of(Nearest(), Protocol(EpisodeSpec(4, 2, 3), 5, 7))
    assert many[: len(few)] == few


def test_progress_counts_episodes() -> None:
    seen: list[tuple[int, int]] = []
    rows_of(Nearest(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 5) for i in range(1, 6)]


def test_no_gradient_is_kept_and_transfer_is_adapt() -> None:
    learner = Nearest()
    support = Batch(torch.ones(2, 4, 8), torch.tensor([4, 4]), torch.tensor([0, 1]), 2)
    assert torch.equal(transfer(learner, support)["means"], learner.adapt(support)["means"])


def test_no_episode_is_refused() -> None:
    with pytest.raises(InputError, match="episodes is 0; it must be at least 1"):
        Protocol(EpisodeSpec(2, 1, 1), 0, 0)


# ------------------------------------------------------------------------------------------------------ fewer classes


def test_fewer_classes_than_ways_are_all_used_and_said() -> None:
    index = ClassIndex(bank(n_words=3).utterances)
    asked = Protocol(EpisodeSpec(10, 2, 3), 5, 7)
    protocol, said = fitted(asked, index)
    assert protocol.spec == EpisodeSpec(3, 2, 3)
    assert (protocol.episodes, protocol.seed) == (5, 7)
    assert said == "3 classes have enough takes, fewer than the 10 ways asked for; all 3 are used."
    assert len(index.draw(protocol.spec, 0).classes) == 3
    assert fitted(Protocol(EpisodeSpec(3, 2, 3), 5, 7), index) == (Protocol(EpisodeSpec(3, 2, 3), 5, 7), None)


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(InputError, match=r"0 of 3 classes have the 7 takes .* \(the largest has 6\)"):
        fitted(Protocol(EpisodeSpec(2, 6, 1), 1, 0), ClassIndex(bank(3).utterances))
    with pytest.raises(InputError, match="1 of 1 classes"):
        fitted(Protocol(EpisodeSpec(2, 1, 1), 1, 0), ClassIndex(bank(1).utterances))


def test_a_corpus_without_labels_is_told_so() -> None:
    unlabelled = [Utterance("a", Path("a.wav"), 1.0, text="something said")]
    with pytest.raises(InputError, match="label"):
        fitted(Protocol(EpisodeSpec(2, 1, 1), 1, 0), ClassIndex(unlabelled))


def test_speakers_can_only_be_kept_apart_where_there_are_two() -> None:
    spec = EpisodeSpec(2, 1, 1, "disjoint")
    with pytest.raises(InputError, match="speaker"):
        fitted(Protocol(spec, 1, 0), ClassIndex(bank(3, speakers=("a",)).utterances))
    with pytest.raises(InputError, match="name no speaker"):
        fitted(Protocol(spec, 1, 0), ClassIndex(bank(3, speakers=("a", None)).utterances))
    protocol, said = fitted(Protocol(EpisodeSpec(9, 1, 1, "disjoint"), 1, 0), ClassIndex(bank(3).utterances))
    assert protocol.spec.n_way == 3
    assert said


# ---------------------------------------------------------------------------------------------------------- summaries


def row(episode: int, correct: int, label: str = "a", speaker: str | None = "s") -> dict[str, Any]:
    return {"episode": episode, "correct": correct, "label": label, "speaker": speaker}


def test_the_mean_is_over_episodes_and_has_students_interval() -> None:
    rows = [row(0, 1), row(0, 0), row(0, 0), row(0, 1), row(3, 1), row(3, 1)]
    np.testing.assert_array_equal(per_episode(rows), [0.5, 1.0])
    found = summary(rows, Protocol(EpisodeSpec(2, 1, 1), 2, 5), model="m", corpus="c", version="v")
    assert found["mean"] == 0.75
    half = 12.7062047 * np.std([0.5, 1.0], ddof=1) / np.sqrt(2)  # t of one degree of freedom, from a table
    np.testing.assert_allclose(found["ci95"], [0.75 - half, 0.75 + half], rtol=1e-6)
    expected = {"metric": "accuracy", "n": 6, "episodes": 2, "seed": 5, "ways": 2, "shots": 1, "queries": 1,
                "speakers": "any", "model": "m", "corpus": "c", "version": "v"}  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert all(not isinstance(value, dict) for value in found.values())
    json.dumps(found, allow_nan=False)


def test_one_episode_has_no_interval_and_is_still_json() -> None:
    rows = [row(0, 1), row(0, 0)]
    found = summary(rows, Protocol(EpisodeSpec(2, 1, 1), 1, 0), corpus="c")
    assert found["ci95"] == [None, None]
    assert json.loads(json.dumps(found, allow_nan=False))["ci95"] == [None, None]
    both = over_corpora([found, {**found, "corpus": "d"}])
    assert both["ci95"] == [None, None]
    json.dumps(both, allow_nan=False)


def test_clusters_are_words_and_speakers_where_all_are_known() -> None:
    protocol = Protocol(EpisodeSpec(2, 1, 1), 2, 0)
    rng = np.random.default_rng(0)
    rows = [row(i % 2, int(rng.random() < 0.7), f"w{i % 7}", f"s{i % 5}") for i in range(140)]
    found = summary(rows, protocol)
    assert found["clustered_by"] == "word and speaker"
    low, high = found["clustered_ci95"]
    assert low < np.mean([r["correct"] for r in rows]) < high
    assert summary(rows, protocol) == found  # the bootstrap has a seed
    unknown = [{**r, "speaker": None if i == 3 else r["speaker"]} for i, r in enumerate(rows)]
    assert summary(unknown, protocol)["clustered_by"] == "word"


def test_over_corpora_every_set_counts_alike_and_the_worst_is_named() -> None:
    def one(corpus: str, mean: float, half: float, n: int, ways: int) -> dict[str, Any]:
        return {"metric": "accuracy", "mean": mean, "ci95": [mean - half, mean + half], "n": n, "episodes": 10,
                "seed": 1, "ways": ways, "shots": 5, "queries": 3, "speakers": "any", "corpus": corpus}  # fmt: skip

    found = over_corpora([one("a", 0.9, 0.03, 100, 10), one("b", 0.6, 0.04, 5000, 7), one("c", 0.75, 0.0, 1, 10)])
    assert found["mean"] == pytest.approx(0.75)
    np.testing.assert_allclose(found["ci95"], [0.75 - 0.05 / 3, 0.75 + 0.05 / 3])
    assert (found["worst_corpus"], found["worst_mean"]) == ("b", 0.6)
    assert (found["n"], found["ways"], found["shots"], found["metric"]) == (5101, 10, 5, "accuracy")
    alone = over_corpora([one("a", 0.9, 0.03, 100, 10)])
    np.testing.assert_allclose(alone["ci95"], [0.87, 0.93])


# ------------------------------------------------------------------------------------------------- real recordings


@pytest.mark.real
def test_dtw_knows_real_words_far_above_chance(data_root: Path, tmp_path: Path) -> None:
    from metavox.checkpoint import load_model
    from metavox.data.bank import build_bank
    from metavox.data.manifests import load_corpus

    model = load_model("dtw")
    found = build_bank(load_corpus(data_root / "lithuanian_commands"), model.config.front_end, cache=tmp_path)
    protocol = Protocol(EpisodeSpec(5, 3, 2, "disjoint"), 4, 0)
    index = ClassIndex(found.utterances)
    rows = evaluate(model.learner, Commands(), found, index, protocol, model.config.front_end)
    assert summary(rows, protocol)["mean"] > 0.5
    assert evaluate(model.learner, Commands(), found, index, protocol, model.config.front_end) == rows
