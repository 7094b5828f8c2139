"""Recognisers whose errors are known: rows against a second edit distance, intervals against a bootstrap from the rows.

Nothing is trained here. What a recogniser hears is what was said with letters lost at a known rate.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import jiwer
import numpy as np
import pytest
from scipy import stats

from metavox.config.transcription import RecogniserConfig
from metavox.contracts import FrontEnd, InputError, Transcribed, Utterance
from metavox.data.bank import Bank, _Part
from metavox.data.sentences import Sentences
from metavox.evaluation.transcription import (
    Material,
    TranscriptionProtocol,
    area,
    clustered,
    curve,
    item_rows,
    open_material,
    score,
    summary,
)
from metavox.evaluation.transcription_split import Split, draw_supports, split_corpus
from metavox.text.symbols import UNIVERSAL
from metavox.transcription.adapting import Reached
from metavox.transcription.models import Recognition, new_net

FRONT_END = FrontEnd(n_mels=8, normalize=False, n_frames=None, crop=False)
N_FRAMES = 60
WORDS = ("the", "of", "sea", "cup", "brother", "wind", "nothing", "a", "under", "tree", "stone", "river", "bread")


def text_of(i: int) -> str:
    rng = np.random.default_rng(i)
    return " ".join(rng.choice(WORDS, rng.integers(2, 6))) + f" {'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10]}"


def corpus(n: int = 90, n_speakers: int = 30, lang: str | None = None) -> list[Utterance]:
    return [
        Utterance(f"u{i:03}", Path(f"{i}.wav"), 6.0, text_of(i), speaker=f"s{i % n_speakers}", lang=lang, corpus="c")
        for i in range(n)
    ]


def material_of(utterances: Sequence[Utterance], split: Split, protocol: TranscriptionProtocol) -> Material:
    """Without files: the features are the number of the utterance."""
    n = len(utterances)
    values = np.repeat(np.arange(n, dtype=np.float32), N_FRAMES)
    offsets = np.arange(n)[:, None] * N_FRAMES + np.asarray([[0, N_FRAMES]])
    part = _Part(np.zeros(0, np.int16), np.tile(values[:, None], (1, FRONT_END.n_mels)))
    bounds = np.tile(np.asarray([[0, N_FRAMES]]), (n, 1))
    bank = Bank(utterances, FRONT_END, [part], np.zeros(n, np.int64), offsets, offsets, bounds)
    targets = UNIVERSAL.encode_all([u.text for u in utterances], [u.lang for u in utterances])
    place = {u.id: i for i, u in enumerate(utterances)}
    pool, test = (np.asarray([place[u.id] for u in side]) for side in (split.pool, split.test))
    draws = draw_supports(split, protocol.minutes, protocol.n_seeds, protocol.split_seed)
    return Material(split, draws, Sentences(bank, targets, [()] * n), pool, test)


def split_of(utterances: Sequence[Utterance], way: Any = "speaker") -> Split:
    """The first third is tested, so that positions in the pool are not those in the corpus; no files to compare."""
    cut = len(utterances) // 3
    return Split(tuple(utterances[:cut]), tuple(utterances[cut:]), way, cut, 0, 0)


@pytest.fixture(scope="module")
def base() -> Recognition:
    net = new_net(RecogniserConfig(front_end=FRONT_END, channels=8, blocks=1, dim=8))
    return Recognition(net, UNIVERSAL, "base", "0" * 64, {})


RATES = {"base": 0.5, "good": 0.15, "plain": 0.3, "scratch": 0.45}


class Fakes:
    """Learners that are called by name, and what they were called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, list[int]]] = []

    def adapted_by(self, name: str, base: Recognition, support: Transcribed, seed: int) -> Recognition:
        assert base.name == "base"
        self.calls.append((name, seed, support.inputs[:, 0, 0].int().tolist()))
        return replace(base, name=f"{name} {len(support)} {seed}")

    def hear(self, recognition: Recognition, sentences: Sentences, positions: np.ndarray) -> Reached:
        """Letters are lost at the learner's rate, more with some speakers, less with more support."""
        name, size = recognition.name.split()[0], int((recognition.name + " 0").split()[1])
        said, found = [], []
        for i in positions.tolist():
            u = sentences.utterances[i]
            text = UNIVERSAL.decode(sentences.targets[i])
            of_speaker = np.random.default_rng(crc32(str(u.speaker).encode())).uniform(0.3, 1.7)
            rng = np.random.default_rng(crc32(f"{recognition.name} {u.id}".encode()))
            rate = min(0.95, RATES[name] * of_speaker / (1 + size / 20))
            said.append(text)
            found.append(" ".join("".join(char for char in text if rng.random() > rate).split()))
        return Reached(tuple(said), tuple(found))


PROTOCOL = TranscriptionProtocol(("good", "plain", "scratch"), (0.0, 1.0, 3.0), 2)


@pytest.fixture(scope="module")
def scored(base: Recognition) -> tuple[Fakes, list[dict[str, Any]], Split, dict[str, dict[str, float]]]:
    utterances, fakes = corpus(), Fakes()
    split = split_of(utterances)
    found = score(base, material_of(utterances, split, PROTOCOL), PROTOCOL, fakes.adapted_by, fakes.hear)
    return fakes, found.rows, split, found.adapt_seconds


@pytest.fixture(scope="module")
def rows(scored: Any) -> list[dict[str, Any]]:
    """As a stranger has them: read back from JSON."""
    return [json.loads(json.dumps(row)) for row in scored[1]]


# ----------------------------------------------------------------------------------------------------------- protocol


def test_every_learner_adapts_to_the_same_draws(scored: Any) -> None:
    fakes, _, split, seconds = scored
    by_learner = defaultdict(list)
    for name, seed, support in fakes.calls:
        by_learner[name].append((seed, support))
    assert set(by_learner) == {"good", "plain", "scratch"}
    assert by_learner["good"] == by_learner["plain"] == by_learner["scratch"]
    drawn = [support for _, support in by_learner["good"]]
    assert [len(support) for support in drawn] == [10, 10, 30, 30]  # of 6 s each
    assert [seed for seed, _ in by_learner["good"]] == [0, 1, 0, 1]
    assert drawn[2][:10] == drawn[0] != drawn[1] == drawn[3][:10]
    tested = {int(u.id[1:]) for u in split.test}
    assert not tested & {i for support in drawn for i in support}
    assert {name: list(costs) for name, costs in seconds.items()} == {name: ["1", "3"] for name in by_learner}
    assert all(each >= 0 for costs in seconds.values() for each in costs.values())


def test_a_test_utterance_in_the_support_stops_the_run(base: Recognition) -> None:
    utterances, fakes = corpus(), Fakes()
    material = material_of(utterances, split_of(utterances), PROTOCOL)
    (key, drawn), *_ = material.draws.items()
    leaking = replace(material, pool=np.append(material.pool, material.test[3]))
    leaking = replace(leaking, draws={**material.draws, key: np.append(drawn, len(material.pool))})
    with pytest.raises(AssertionError, match="a test utterance is in the support"):
        score(base, leaking, PROTOCOL, fakes.adapted_by, fakes.hear)


def test_a_learner_that_cannot_adapt_is_found_out_in_the_first_round(base: Recognition) -> None:
    utterances, fakes = corpus(), Fakes()
    split = split_of(utterances)

    def adapted_by(name: str, base: Recognition, support: Transcribed, seed: int) -> Recognition:
        if name == "scratch":
            raise InputError("this network has none.")
        return fakes.adapted_by(name, base, support, seed)

    with pytest.raises(InputError, match="has none"):
        score(base, material_of(utterances, split, PROTOCOL), PROTOCOL, adapted_by, fakes.hear)
    assert len(fakes.calls) == 2


def test_progress_is_told_of_every_adaptation(base: Recognition) -> None:
    told: list[tuple[int, int, str]] = []
    utterances, fakes = corpus(), Fakes()
    material = material_of(utterances, split_of(utterances), PROTOCOL)
    score(base, material, PROTOCOL, fakes.adapted_by, fakes.hear, lambda *each: told.append(each))
    assert [done for done, _, _ in told] == list(range(14))
    assert {total for _, total, _ in told} == {13}
    assert told[0][2] == "as it is"
    assert told[-2][2] == "scratch 3 min"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learners": ()}, "named twice or not at all"),
        ({"learners": ("a", "b", "a")}, "Learner a is named twice"),
        ({"minutes": (1.0, -1.0)}, "--minutes is -1.0; give 0 or more"),
        ({"minutes": (math.nan,)}, "--minutes is nan"),
        ({"minutes": (math.inf,)}, "--minutes is inf"),
        ({"minutes": ()}, "--minutes is"),
        ({"learners": ("a", "b"), "minutes": (0.0,)}, "where all learners are the base"),
        ({"n_seeds": 0}, "--seeds is 0"),
        ({"max_test": 9}, "--max-test 9; the least are 1 and 10"),
    ],
)
def test_what_cannot_be_asked_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TranscriptionProtocol(**{"learners": ("a",), **options})


def test_minutes_are_asked_once_and_in_order() -> None:
    assert TranscriptionProtocol(("a",), (5.0, 0.0, 1.0, 5.0)).minutes == (0.0, 1.0, 5.0)


# --------------------------------------------------------------------------------------------------------------- rows


def test_there_is_a_row_for_each_learner_minute_draw_and_utterance(rows: list[dict[str, Any]], scored: Any) -> None:
    n = len(scored[2].test)
    counts = Counter((row["learner"], row["minutes"], row["seed"]) for row in rows)
    drawn = {(name, m, seed): n for name in PROTOCOL.learners for m in (1.0, 3.0) for seed in (0, 1)}
    assert counts == drawn | {("good", 0.0, None): n, ("plain", 0.0, None): n}  # scratch starts from no base
    keys = "learner minutes seed id speaker said heard char_errors chars word_errors words"
    assert all(list(row) == keys.split() for row in rows)
    by_id = {u.id: u for u in scored[2].test}
    assert all(row["speaker"] == by_id[row["id"]].speaker and row["said"] == by_id[row["id"]].text for row in rows)
    zero = [[row["heard"] for row in rows if (row["learner"], row["minutes"]) == (name, 0.0)] for name in RATES]
    assert zero[1] == zero[2] != []


def test_edits_of_a_row_are_those_of_another_implementation(rows: list[dict[str, Any]]) -> None:
    for row in rows[:: len(rows) // 40]:
        heard = row["heard"] or " "
        assert row["chars"] == len(row["said"])
        assert row["words"] == len(row["said"].split())
        assert row["char_errors"] == pytest.approx(jiwer.cer(row["said"], heard) * row["chars"])
        assert row["word_errors"] == pytest.approx(jiwer.wer(row["said"], heard) * row["words"])


def lost(said: Sequence[str], heard: Sequence[str], langs: Sequence[str | None]) -> list[dict[str, Any]]:
    """Rows of texts that are what they are, whatever was recorded."""
    utterances = [replace(u, lang=lang) for u, lang in zip(corpus(len(said)), langs, strict=True)]
    return item_rows(Reached(tuple(said), tuple(heard)), utterances, UNIVERSAL, "good", 1.0, 0)


def test_where_spaces_mark_no_words_they_do_not_count() -> None:
    said, heard = "zhong1 guo2 ren2", "zhong1guo3 r en2"
    (row,) = lost([said], [heard], ["cmn"])
    assert (row["char_errors"], row["chars"]) == (1, 14)
    assert (row["char_errors_without_tones"], row["chars_without_tones"]) == (0, 11)
    assert row["word_errors"] is row["words"] is None
    assert (row["said"], row["heard"]) == (said, heard)
    (row,) = lost([said], [heard], ["en"])
    assert (row["char_errors"], row["chars"], row["word_errors"], row["words"]) == (3, 16, 3, 3)
    assert "chars_without_tones" not in row
    (row,) = lost(["sawatdi khrap"], ["sawatdikhrap"], ["th"])
    assert (row["char_errors"], row["chars"], row["words"]) == (0, 12, None)
    assert "chars_without_tones" not in row


def test_the_curve_of_mandarin_has_no_words_and_is_also_without_tones() -> None:
    rows = lost(["ma1 ma5", "ma3", "hao3"] * 4, ["ma1ma5", "ma4", "ha4"] * 4, ["zh-CN"] * 12)
    (point,) = curve(rows)
    assert point["cer"] == pytest.approx((0 + 1 + 2) / (6 + 3 + 4))
    assert point["cer_without_tones"] == pytest.approx((0 + 0 + 1) / (4 + 2 + 3))
    assert (point["wer"], point["wer_ci95"]) == (None, [None, None])
    low, high = point["cer_without_tones_ci95"]
    assert low < point["cer_without_tones"] < high
    mixed = lost(["ma1 ma5", "one two"] * 6, ["ma1 ma5", "one"] * 6, ["zh", "en"] * 6)
    (point,) = curve(mixed)
    assert point["cer"] == pytest.approx((0 + 4) / (6 + 7))
    assert point["wer"] is None
    assert "cer_without_tones" not in point


# ------------------------------------------------------------------------------------------------ figures from the rows


def strangers_interval(
    clusters: Sequence[str], errors: Sequence[float], sizes: Sequence[float], n_resamples: int = 20_000
) -> tuple[float, float, float]:
    """errors / sizes with an interval from whole clusters drawn with replacement; percentiles as Student's t asks."""
    names = sorted(set(clusters))
    sums = {name: np.zeros(2) for name in names}
    for name, *pair in zip(clusters, errors, sizes, strict=True):
        sums[name] += np.asarray(pair)
    table = np.stack([sums[name] for name in names])
    k, rng = len(names), np.random.default_rng(12345)
    ratios = []
    for _ in range(n_resamples):
        total = table[rng.choice(k, k)].sum(0)
        ratios.append(total[0] / total[1])
    tail = stats.norm.cdf(-math.sqrt(k / (k - 1)) * stats.t.ppf(0.975, k - 1))
    low, high = np.percentile(ratios, [100 * tail, 100 * (1 - tail)])
    return table[:, 0].sum() / table[:, 1].sum(), low, high


def near(found: Sequence[float], expected: Sequence[float]) -> None:
    """Two bootstraps agree within what is left to chance: a small share of the width."""
    width = expected[1] - expected[0]
    assert found == pytest.approx(expected, abs=0.06 * width)


def test_a_stranger_recomputes_the_curve_from_the_rows(rows: list[dict[str, Any]]) -> None:
    points = curve(rows)
    assert len(points) == 8
    for point in points:
        some = [row for row in rows if (row["learner"], row["minutes"]) == (point["learner"], point["minutes"])]
        assert point["n"] == len(some) == (30 if point["minutes"] == 0 else 60)
        for rate, errors, sizes in (("cer", "char_errors", "chars"), ("wer", "word_errors", "words")):
            mean, *ends = strangers_interval(
                [row["speaker"] for row in some], [row[errors] for row in some], [row[sizes] for row in some], 4_000
            )
            assert point[rate] == pytest.approx(mean)
            near(point[f"{rate}_ci95"], ends)
        by_seed = [[row for row in some if row["seed"] == seed] for seed in dict.fromkeys(r["seed"] for r in some)]
        rates = [sum(row["char_errors"] for row in part) / sum(row["chars"] for row in part) for part in by_seed]
        assert point["cer_by_seed"] == pytest.approx(rates)


def test_a_stranger_recomputes_the_areas_and_gains_from_the_rows(rows: list[dict[str, Any]]) -> None:
    found = {point["learner"]: point for point in area(rows, "good")}
    assert list(found) == ["good", "plain", "scratch"]
    points = curve(rows)
    drawn: dict[str, list[dict[str, Any]]] = {
        name: [row for row in rows if row["learner"] == name and row["minutes"] > 0] for name in found
    }
    for name, point in found.items():
        of_name = [p["cer"] for p in points if p["learner"] == name and p["minutes"] > 0]
        assert point["area"] == pytest.approx(np.mean(of_name))
        some = drawn[name]
        _, *ends = strangers_interval(
            [r["speaker"] for r in some], [r["char_errors"] for r in some], [r["chars"] for r in some], 4_000
        )
        near(point["area_ci95"], ends)
    assert "relative_gain" not in found["good"]
    for name in ("plain", "scratch"):
        own = {(row["minutes"], row["seed"], row["id"]): row["char_errors"] for row in drawn["good"]}
        saved = [row["char_errors"] - own[row["minutes"], row["seed"], row["id"]] for row in drawn[name]]
        gain, *ends = strangers_interval(
            [row["speaker"] for row in drawn[name]], saved, [row["char_errors"] for row in drawn[name]]
        )
        assert found[name]["versus"] == "good"
        assert found[name]["relative_gain"] == pytest.approx(gain)
        assert gain == pytest.approx(1 - found["good"]["area"] / found[name]["area"])
        near(found[name]["relative_gain_ci95"], ends)
        assert found[name]["relative_gain_ci95"][0] > 0.2
        assert found[name]["p_value"] < 0.01


def test_the_gain_does_not_depend_on_the_order_of_rows(rows: list[dict[str, Any]]) -> None:
    order = np.random.default_rng(0).permutation(len(rows))
    mixed = {point["learner"]: point for point in area([rows[i] for i in order], "good")}
    for point in area(rows, "good"):
        for key, value in point.items():
            assert mixed[point["learner"]][key] == (pytest.approx(value) if not isinstance(value, str) else value)


def made(errors: Sequence[Sequence[int]], learner: str, n_speakers: int = 12) -> list[dict[str, Any]]:
    """Rows of 20 characters each with known errors, one list a draw."""
    return [
        {"learner": learner, "minutes": 5.0, "seed": seed, "id": f"u{i}", "speaker": f"s{i % n_speakers}",
         "said": f"text {i}", "heard": "", "char_errors": n, "chars": 20, "word_errors": 0, "words": 2}
        for seed, each in enumerate(errors) for i, n in enumerate(each)
    ]  # fmt: skip


def test_equal_learners_gain_nothing_and_swapped_ones_the_opposite() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 10, (2, 48)), rng.integers(2, 14, (2, 48))
    same = area(made(a.tolist(), "a") + made(a.tolist(), "b"), "a")[1]
    assert (same["relative_gain"], same["relative_gain_ci95"], same["p_value"]) == (0.0, [0.0, 0.0], 1.0)
    there = area(made(a.tolist(), "a") + made(b.tolist(), "b"), "a")[1]
    back = area(made(a.tolist(), "a") + made(b.tolist(), "b"), "b")[0]
    assert there["relative_gain"] == pytest.approx(1 - a.sum() / b.sum())
    assert back["relative_gain"] == pytest.approx(1 - b.sum() / a.sum())
    assert back["p_value"] == pytest.approx(there["p_value"], abs=0.01)


def test_pairing_finds_what_differs_little_on_utterances_that_differ_much() -> None:
    hard = np.random.default_rng(0).integers(2, 19, 120)
    rows = made([hard.tolist()], "plain") + made([(hard - (np.arange(120) % 3 > 0)).tolist()], "ours")
    points = {p["learner"]: p for p in curve(rows)}
    assert points["ours"]["cer_ci95"][1] > points["plain"]["cer_ci95"][0]  # apart they cannot be told apart
    compared = {p["learner"]: p for p in area(rows, "ours")}["plain"]
    assert compared["relative_gain_ci95"][0] > 0
    assert compared["p_value"] < 0.01


def test_draws_of_an_utterance_are_one_cluster() -> None:
    """Three draws that hear the same are no more evidence than one."""
    errors = np.random.default_rng(1).integers(0, 9, 40).tolist()
    for n_speakers in (1, 40):
        once, thrice = (made([errors] * n, "a", n_speakers) for n in (1, 3))
        (one,), (three,) = curve(once), curve(thrice)
        assert three["cer_ci95"] == pytest.approx(one["cer_ci95"])
        assert (one["n"], three["n"]) == (40, 120)


def test_speakers_are_resampled_from_ten_on_else_sentences() -> None:
    errors = [np.random.default_rng(1).integers(0, 9, 60).tolist()]
    nine, ten = made(errors, "a", 9), made(errors, "a", 10)
    assert clustered(nine)[1] == "sentence"
    assert len(set(clustered(nine)[0])) == 60
    assert clustered(ten)[1] == "speaker"
    assert len(set(clustered(ten)[0])) == 10
    ten[3]["speaker"] = None
    assert clustered(ten)[1] == "sentence"
    twice = [{**row, "said": f"text {i // 2}"} for i, row in enumerate(nine)]
    assert len(set(clustered(twice)[0])) == 30  # one sentence by two speakers


def test_speakers_who_differ_make_the_interval_wider() -> None:
    errors = [[1 if i % 12 < 6 else 10 for i in range(240)]]
    (of_speakers,), (of_sentences,) = curve(made(errors, "a", 12)), curve(made(errors, "a", 1))
    widths = [point["cer_ci95"][1] - point["cer_ci95"][0] for point in (of_speakers, of_sentences)]
    assert widths[0] > 3 * widths[1]


def test_p_values_are_adjusted_for_the_number_of_comparisons() -> None:
    rng = np.random.default_rng(5)
    ours = rng.integers(2, 8, 60)
    others = {f"b{i}": ours + (rng.random(60) < 0.5) * rng.integers(-2, 3 + i, 60) for i in range(3)}
    rows = made([ours.tolist()], "ours")
    for name, errors in others.items():
        rows += made([errors.clip(0).tolist()], name)
    points = [point for point in area(rows, "ours") if "versus" in point]
    in_order = sorted(points, key=lambda point: point["p_value"])
    running = 0.0
    for i, point in enumerate(in_order):
        running = max(running, min(1.0, (3 - i) * point["p_value"]))
        assert point["p_holm"] == pytest.approx(running)
    alone = [point for point in area(rows[:120], "ours") if "versus" in point]
    assert alone[0]["p_holm"] == alone[0]["p_value"]


def test_nothing_can_be_gained_over_a_learner_without_errors() -> None:
    rows = made([[1] * 40], "ours") + made([[0] * 40], "perfect") + made([[2] * 40], "bad")
    points = {point["learner"]: point for point in area(rows, "ours")}
    assert [points["perfect"][key] for key in ("relative_gain", "p_value", "p_holm")] == [None] * 3
    assert points["perfect"]["relative_gain_ci95"] == [None, None]
    assert points["bad"]["p_holm"] == points["bad"]["p_value"]  # one comparison was made
    assert points["bad"]["relative_gain"] == pytest.approx(0.5)


@pytest.mark.parametrize("change", [{"id": "new"}, {"minutes": 6.0}, {"seed": 7}, {"said": "another"}])
def test_learners_that_were_asked_other_things_are_not_compared(change: dict[str, Any]) -> None:
    other = made([[2] * 40], "b")
    with pytest.raises(InputError, match="b and a were not heard on the same utterances"):
        area([*made([[1] * 40], "a"), {**other[0], **change}, *other[1:]], "a")
    with pytest.raises(InputError, match="not heard on the same"):
        area(made([[1] * 40], "a") + other[1:], "a")


# ------------------------------------------------------------------------------------------------------------- summary


def test_the_summary_is_json_and_says_what_it_rests_on(scored: Any) -> None:
    _, rows, split, _ = scored
    found = summary(rows, split, PROTOCOL, model="base", version="1")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    last = next(p for p in found["curve"] if (p["learner"], p["minutes"]) == ("good", 3.0))
    assert (found["mean"], found["ci95"], found["n"]) == (last["cer"], last["cer_ci95"], 60)
    expected = {
        "protocol": "transcription", "metric": "cer", "learners": ["good", "plain", "scratch"],
        "minutes": [0.0, 1.0, 3.0], "seeds": 2, "split": "speaker", "split_seed": 0, "n_test": 30, "n_test_all": 30,
        "max_test": 200, "n_test_speakers": 30, "n_pool": 60, "n_pool_speakers": 30, "pool_minutes": 6.0,
        "n_dropped": 0, "n_shared_speakers": 0, "clustered_by": "speaker", "n_clusters": 30, "n_resamples": 10_000,
        "bootstrap_seed": 0, "model": "base", "version": "1",
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert len(found["area"]) == 3


def test_zero_minutes_alone_are_a_summary_without_areas(base: Recognition) -> None:
    protocol, utterances, fakes = TranscriptionProtocol(("good",), (0.0,), 3), corpus(), Fakes()
    split = split_of(utterances)
    found = score(base, material_of(utterances, split, protocol), protocol, fakes.adapted_by, fakes.hear)
    assert fakes.calls == []
    said = summary(found.rows, split, protocol)
    assert said["area"] == []
    assert (len(said["curve"]), said["n"]) == (1, 30)


# ---------------------------------------------------------------------------------------------------------- recordings


@pytest.mark.real
def test_material_of_recordings_is_where_the_split_says(
    data_root: Path, base: Recognition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metavox.data.manifests import load_corpus

    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path))
    utterances = load_corpus(data_root / "librispeech_test_other_mini")
    split = split_corpus(utterances, 0, 12)
    protocol = TranscriptionProtocol(("good",), (0.0, 1.0), 1)
    material = open_material(split, protocol, utterances, base)
    spoken = material.sentences.utterances
    assert [spoken[i] for i in material.pool] == list(split.pool)
    assert [spoken[i] for i in material.test] == list(split.test)
    for i in material.test:
        assert UNIVERSAL.decode(material.sentences.targets[i]) == spoken[i].text.lower()
    fakes = Fakes()
    rows = score(base, material, protocol, fakes.adapted_by, fakes.hear).rows
    assert len(rows) == 24
    (drawn,) = material.draws.values()
    assert sum(split.pool[i].duration_s for i in drawn) >= 60
    with pytest.raises(InputError, match="ask for at most"):
        open_material(split, TranscriptionProtocol(("good",), (60.0,), 1), utterances, base)
    with pytest.raises(InputError, match="1 of 50 recordings have an empty text"):
        open_material(split, protocol, [replace(utterances[0], text=" "), *utterances[1:]], base)
    with pytest.raises(InputError, match=r"row 1: '7' .*spell numbers out"):
        open_material(split, protocol, [replace(utterances[0], text="7"), *utterances[1:]], base)
