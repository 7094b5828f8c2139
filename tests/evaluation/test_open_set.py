"""The open-set protocol against a second, plain computation, and what its threshold may not know."""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sets_of_numbers import FRONT_END, Nearby, negatives, recording, words

from metavox.calibration.bounds import threshold_for
from metavox.checkpoint import load_model
from metavox.contracts import InputError
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.evaluation.negatives import TEST, Negatives
from metavox.evaluation.open_set import (
    OpenSetProtocol,
    _lower_end,
    described,
    evaluate_open_set,
    far_key,
    oracle_threshold,
    over_sets,
    piece_rows,
    require_comparing,
    summary,
)
from metavox.statistics import clopper_pearson

PROTOCOL = OpenSetProtocol(EpisodeSpec(4, 3, 5), 6, 7, far=(0.2, 0.1), max_negatives=150)
SOUNDS = negatives()


def run(protocol: OpenSetProtocol = PROTOCOL, sounds: Negatives = SOUNDS, **options: Any) -> list[dict[str, Any]]:
    bank = words()
    return evaluate_open_set(Nearby(), bank, ClassIndex(bank.utterances), sounds, protocol, FRONT_END, **options)


def of_kind(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == kind]


# --------------------------------------------------------------------------------------------------------------- rows


def test_an_episode_gives_its_queries_and_both_sides() -> None:
    seen: list[tuple[int, int]] = []
    rows = run(corpus="renamed", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]
    assert [len(of_kind(rows, kind)) for kind in ("query", "development", "test")] == [6 * 4 * 5, 6, 6]
    assert {row["corpus"] for row in rows} == {"renamed"}
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for side in (*of_kind(rows, "development"), *of_kind(rows, "test")):
        assert side["label"] is None
        assert len(side["pieces"]) == len(side["scores"]) == 150
    assert run() == run()
    other = run(replace(PROTOCOL, seed=8))
    assert of_kind(other, "query")[0]["item"] != of_kind(rows, "query")[0]["item"]
    assert run(replace(PROTOCOL, episodes=2), corpus="renamed") == rows[: len(rows) // 3]


def test_no_recording_is_on_both_sides_and_episodes_differ_in_theirs() -> None:
    tests = defaultdict(set)
    for row in run():
        if row["kind"] != "query":
            tests[row["kind"], row["episode"]] = {int(SOUNDS.recording[piece]) for piece in row["pieces"]}
    for episode in range(6):
        assert not tests["development", episode] & tests["test", episode]
    assert len({tuple(sorted(tests["test", episode])) for episode in range(6)}) == 6


def test_scores_are_those_of_the_largest_word() -> None:
    rows, bank = run(), words()
    by_id = {utterance.id: i for i, utterance in enumerate(bank.utterances)}
    draw = ClassIndex(bank.utterances).draw(PROTOCOL.spec, [7, 0])
    values = np.asarray([bank.features(i)[0, 0] for i in range(len(bank))], np.float64)
    means = np.asarray([values[draw.support[draw.support_labels == c]].mean() for c in range(4)])
    test = next(row for row in rows if row["kind"] == "test")
    heard = SOUNDS.frames[test["pieces"], 0, 0].double().numpy()
    np.testing.assert_allclose(test["scores"], -np.abs(heard[:, None] - means).min(1) - 0.1 * (heard > 4), atol=2e-6)
    for row in of_kind(rows, "query")[:20]:
        distances = np.abs(values[by_id[row["item"]]] - means)
        common = 0.1 * (values[by_id[row["item"]]] > 4)
        assert row["score"] == pytest.approx(-distances.min() - common, abs=2e-6)
        assert row["correct"] == (draw.classes[int(distances.argmin())] == row["label"])


def test_the_threshold_never_sees_the_test() -> None:
    protocol = replace(PROTOCOL, episodes=1)
    rows = run(protocol)
    (side,), (test,) = of_kind(rows, "development"), of_kind(rows, "test")
    at, rng = np.asarray(test["pieces"]), np.random.default_rng(5)
    for changed in (rng.permutation(SOUNDS.frames[at].numpy()), np.full((len(at), 1, 1), 3.0, np.float32)):
        frames = SOUNDS.frames.clone()
        frames[at] = torch.from_numpy(changed)
        other = run(protocol, replace(SOUNDS, frames=frames))
        assert of_kind(other, "development") == [side]
        assert of_kind(other, "test") != [test]
    groups = SOUNDS.recording[side["pieces"]]
    for far, threshold, bound in zip(side["far"], side["thresholds"], side["bounds"], strict=True):
        again, promise = threshold_for(side["scores"], target=far, groups=groups, hours=side["hours"])
        assert (again, promise.bound) == (threshold, bound)
        assert bound <= far


def test_enrolled_words_are_dropped_and_words_of_the_same_corpus_serve() -> None:
    who = [recording(i, "words", label=f"W{i % 8}", lang="xx" if i % 2 else None) for i in range(80)]
    who += [recording(i, "theirs", label=f"w{i % 8}", lang="yy") for i in range(16)]
    rows = run(replace(PROTOCOL, far=(0.5,)), negatives(who))
    enrolled = defaultdict(set)
    for row in of_kind(rows, "query"):
        enrolled[row["episode"]].add(row["label"].removeprefix("xx:"))
    recordings = np.repeat(np.arange(len(who)), 8)
    heard = defaultdict(set)
    for row in (*of_kind(rows, "development"), *of_kind(rows, "test")):
        for i in set(recordings[row["pieces"]].tolist()):
            utterance = who[i]
            heard[row["episode"]].add((utterance.corpus, utterance.label.casefold()))
    for episode, labels in enrolled.items():
        assert not labels & {label for corpus, label in heard[episode] if corpus == "words"}
        assert labels & {label for corpus, label in heard[episode] if corpus == "theirs"}  # another language


def test_a_promise_that_so_few_negatives_cannot_keep_is_refused() -> None:
    with pytest.raises(InputError, match=r"0\.1 % of unknown sounds needs at least .* negatives"):
        run(replace(PROTOCOL, far=(0.001,)))


# ------------------------------------------------------------------------------------------------------------- figures


def plainly(rows: list[dict[str, Any]], sounds: Negatives) -> dict[str, float]:
    """The same figures by scikit-learn and by loops."""
    from sklearn.metrics import roc_auc_score

    found = defaultdict(list)
    for episode in range(6):
        some = [row for row in rows if row.get("episode") == episode]
        queries = of_kind(some, "query")
        (development,), (test,) = of_kind(some, "development"), of_kind(some, "test")
        truth = [1] * len(queries) + [0] * len(test["scores"])
        found["auroc"].append(roc_auc_score(truth, [row["score"] for row in queries] + test["scores"]))
        found["closed_accuracy"].append(np.mean([row["correct"] for row in queries]))
        for far, threshold, bound in zip((0.2, 0.1), development["thresholds"], development["bounds"], strict=True):
            key = f"{100 * far:g}"
            accepted = [row for row in queries if row["score"] >= threshold]
            found[f"miss_at_far_{key}"].append(1 - len(accepted) / len(queries))
            found[f"accuracy_at_far_{key}"].append(sum(row["correct"] for row in accepted) / len(queries))
            realised = sum(score >= threshold for score in test["scores"]) / len(test["scores"])
            found[f"realised_far_{key}"].append(realised)
            found[f"bound_{key}"].append(bound)
            found[f"exceeded_{key}"].append(realised > bound)
            best = 0.0
            for level in [row["score"] for row in queries]:  # any threshold that lets no more pass
                if sum(score >= level for score in test["scores"]) <= far * len(test["scores"]):
                    right = sum(row["correct"] for row in queries if row["score"] >= level)
                    best = max(best, right / len(queries))
            found[f"oracle_accuracy_at_far_{key}"].append(best)
    figures = {name: float(np.mean(values)) for name, values in found.items()}
    for key, far in (("20", 0.2), ("10", 0.1)):
        figures[f"realised_over_promised_{key}"] = float(np.median(found[f"realised_far_{key}"])) / far
    return figures


def test_figures_agree_with_a_second_computation() -> None:
    rows = run()
    found = summary([*piece_rows(SOUNDS), *rows], PROTOCOL, model="m")
    for name, value in plainly(rows, SOUNDS).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert (found["metric"], found["mean"], found["ci95"]) == ("auroc", found["auroc"], found["auroc_ci95"])
    assert 0.5 < found["clustered_ci95"][0] < found["auroc"] < found["clustered_ci95"][1]
    assert (found["promised_far_20"], found["promised_far_10"], found["model"]) == (0.2, 0.1, "m")
    assert found["accuracy_at_far_20"] <= found["oracle_accuracy_at_far_20"] + 0.1
    assert (found["n_negatives"], found["n_dev_negatives"], found["n"]) == (150, 150, 120)
    assert found["negative_hours"] == pytest.approx(30 * 2 / 3600 * 150 / 240)
    assert "by_negatives" not in found
    json.dumps(found, allow_nan=False)


def test_rows_from_a_file_give_the_same_figures(tmp_path: Path) -> None:
    rows = [*piece_rows(SOUNDS), *run()]
    again = [json.loads(json.dumps(row)) for row in rows]
    assert summary(again, PROTOCOL) == summary(rows, PROTOCOL)


def test_the_bound_is_kept_by_negatives_like_those_that_it_was_set_on() -> None:
    protocol = replace(PROTOCOL, episodes=40, far=(0.2,), max_negatives=1000)
    sounds = negatives([recording(i) for i in range(250)], 8)
    found = summary([*piece_rows(sounds), *run(protocol, sounds)], protocol)
    assert found["exceeded_beyond_error_20"] <= 0.1
    assert found["exceeded_20"] <= 0.3  # the rate on the test side is itself an estimate
    assert 0.7 < found["realised_over_promised_20"] <= 1.05


def test_unlike_negatives_break_the_promise_and_the_set_is_named() -> None:
    near = negatives([recording(i, "near") for i in range(20)], roles=[TEST] * 20)
    near = replace(
        near, frames=torch.from_numpy(np.random.default_rng(0).integers(0, 8, len(near))).float()[:, None, None]
    )
    far_off = negatives([recording(i, "far") for i in range(40)], roles=[1] * 30 + [TEST] * 10)
    both = Negatives(
        (*far_off.utterances, *near.utterances),
        *(np.concatenate([getattr(far_off, n), getattr(near, n)]) for n in ("roles", "is_noise", "durations_s")),
        np.concatenate([far_off.recording, near.recording + 40]),
        np.concatenate([far_off.spans_s, near.spans_s]),
        torch.cat([far_off.frames + 20, near.frames]),
        torch.cat([far_off.lengths, near.lengths]),
        torch.zeros(60 * 8),
    )
    rows = run(sounds=both)
    found = summary([*piece_rows(both), *rows], PROTOCOL, **described(both))
    assert found["exceeded_20"] == found["exceeded_beyond_error_20"] == 1.0
    assert found["worst_negatives"] == "near"
    by = {row["negatives"]: row for row in found["by_negatives"]}
    assert by["far"]["auroc"] == 1.0
    assert by["far"]["realised_far_20"] < 0.3 < by["near"]["realised_far_20"]
    assert (found["negatives"], found["negatives_split_by"]) == (["far", "near"], "source")


def test_noise_is_counted_in_minutes() -> None:
    noisy = replace(SOUNDS, is_noise=np.arange(60) < 15)
    assert described(noisy)["noise_minutes"] == pytest.approx(0.5)
    assert "noise_minutes" not in described(SOUNDS)


@pytest.mark.parametrize("far", [0.5, 0.05, 0.01, 0.001])
@pytest.mark.parametrize("ties", [False, True])
def test_the_oracle_lets_as_many_pass_as_it_may(far: float, ties: bool) -> None:
    scores = np.random.default_rng(1).standard_normal(200)
    scores = np.round(scores) if ties else scores
    threshold = oracle_threshold(scores, far)
    assert (scores >= threshold).mean() <= far
    below = scores[scores < threshold].max()
    assert (scores >= below).mean() > far
    assert ties or (scores >= threshold).sum() == int(200 * far + 1e-9)


def test_pieces_of_one_recording_say_less_than_as_many_recordings() -> None:
    accepted = np.arange(400) % 10 == 0
    alone = _lower_end(accepted, np.arange(400))
    assert alone == pytest.approx(clopper_pearson(40, 400, 0.90).low, abs=2e-3)
    together = _lower_end(np.sort(accepted), np.arange(400) // 20)
    assert 0 <= together < alone < 0.1
    assert _lower_end(np.zeros(9, bool), np.zeros(9, np.int64)) == 0


def test_over_sets_is_the_mean_with_the_worst() -> None:
    one = summary([*piece_rows(SOUNDS), *run()], PROTOCOL, corpus="a", negatives=["noises"])
    two = {**one, "corpus": "b", "mean": one["mean"] - 0.1, "auroc": one["auroc"] - 0.1, "realised_far_20": 0.5}
    found = over_sets([one, two])
    assert (found["worst_corpus"], found["metric"]) == ("b", "auroc")
    assert found["auroc"] == found["mean"] == pytest.approx(one["mean"] - 0.05)
    assert found["realised_far_20"] == pytest.approx((one["realised_far_20"] + 0.5) / 2)
    low, high = one["accuracy_at_far_20_ci95"]
    assert found["accuracy_at_far_20_ci95"][1] - found["accuracy_at_far_20_ci95"][0] == pytest.approx(
        (high - low) / 2**0.5
    )
    json.dumps(found, allow_nan=False)


# -------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"far": (0.0,)}, "--far is 0; give a share"),
        ({"far": (1.5,)}, "--far is 1.5"),
        ({"far": ()}, "--far names no share"),
        ({"far": (0.1, 0.1)}, "or one twice"),
        ({"confidence": 1.0}, "--confidence is 1; give one between"),
        ({"max_negatives": 0}, "--max-negatives is 0"),
    ],
)
def test_impossible_questions_are_one_sentence(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(PROTOCOL, **wrong)


def test_rates_are_named_in_per_cent() -> None:
    assert [far_key(far) for far in (0.05, 0.01, 0.001, 0.07, 0.0005)] == ["5", "1", "0.1", "7", "0.05"]


def test_a_learner_that_cannot_compare_is_refused() -> None:
    assert require_comparing(load_model("dtw").learner, "dtw")
    for name in ("scratch", "nearest_mean"):
        with pytest.raises(InputError, match=f"Model {name} has a learner that cannot compare"):
            require_comparing(load_model(name).learner, name)


@pytest.mark.real
def test_dtw_tells_real_words_from_another_language(data_root: Path, tmp_path: Path) -> None:
    from metavox.data.bank import build_bank
    from metavox.data.manifests import load_corpus
    from metavox.evaluation.negatives import embedded, open_source

    model = load_model("dtw")
    some = [u for u in load_corpus(data_root / "bengali_digits") if u.speaker in ("bn01", "bn02")]
    bank = build_bank(some, model.config.front_end, cache=tmp_path)
    sounds = embedded(model.learner, [open_source(data_root / "hebrew_yesno", "hebrew")], model.config.front_end)
    protocol = OpenSetProtocol(EpisodeSpec(3, 2, 2), 2, 0, far=(0.3,), max_negatives=60)
    rows = evaluate_open_set(model.learner, bank, ClassIndex(some), sounds, protocol, model.config.front_end)
    found = summary([*piece_rows(sounds), *rows], protocol)
    assert found["auroc"] > 0.6
    assert found["realised_far_30"] < 0.45
