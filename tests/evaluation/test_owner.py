"""The owner protocol: what is drawn, what a trial is, and what the rates and their intervals are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import said
from uttered import corpus, word_voices

from metavox.calibration.fusion import QUADRANTS, fit_fusion, independent
from metavox.checkpoint import load_model
from metavox.data.bank import Bank
from metavox.data.corpora import open_corpora
from metavox.data.episodes import EpisodeSpec
from metavox.data.manifests import load_corpus
from metavox.evaluation.owner import (
    OwnerDraw,
    OwnerProtocol,
    Owners,
    beside,
    evaluate_owner,
    features_of,
    fit_on,
    quadrants_of,
)
from metavox.evaluation.owner_summary import error_rates, figures, over_sets, summary, system_scores
from metavox.metrics import eer

WORDS = ("open", "close", "light", "door")
PEOPLE = (1, 2, 3)
PROTOCOL = OwnerProtocol(EpisodeSpec(3, 2, 2), 6, 0)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("people"), PEOPLE, WORDS, 4)


@pytest.fixture(scope="module")
def bank(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAVOX_CACHE", str(tmp_path_factory.mktemp("cache")))
        return open_corpora([people], load_model("dtw").config.front_end)


@pytest.fixture(scope="module")
def owners(bank: Bank) -> Owners:
    return Owners(bank.utterances, PROTOCOL)


@pytest.fixture(scope="module")
def rows(bank: Bank, owners: Owners) -> list[dict[str, Any]]:
    return evaluate_owner(load_model("dtw"), word_voices(), bank, owners, corpus="people")


def test_a_draw_keeps_what_is_enrolled_apart_from_what_is_asked(bank: Bank, owners: Owners) -> None:
    for number in range(12):
        draw = owners.draw(number)
        of = bank.utterances
        assert not set(draw.support.tolist()) & set(draw.query.tolist())
        assert {of[k].speaker for k in draw.support} == {draw.owner}
        assert [f"xx:{of[k].label}" for k in draw.support] == [draw.words[label] for label in draw.support_labels]
        assert (draw.own == [of[k].speaker == draw.owner for k in draw.query]).all()
        assert list(draw.names) == [f"xx:{of[k].label}" for k in draw.query]
        assert draw.said.tolist() == [draw.words.index(name) if name in draw.words else -1 for name in draw.names]
        assert len(set(draw.query.tolist())) == len(draw.query)
        assert (np.bincount(draw.said[draw.own & (draw.said >= 0)]) == 2).all()
        again = owners.draw(number)
        assert (again.query == draw.query).all()
    assert [owners.draw(k).owner for k in range(3)] != [owners.draw(0).owner] * 3, "owners come in turn"
    assert {owners.draw(k).owner for k in range(3)} == {f"p{person}" for person in PEOPLE}


def test_every_clip_gives_the_trials_that_the_protocol_says(owners: Owners, rows: list[dict[str, Any]]) -> None:
    for number in range(PROTOCOL.episodes):
        draw, here = owners.draw(number), [row for row in rows if row["episode"] == number]
        enrolled = draw.said >= 0
        assert len(here) == len(draw.said) + enrolled.sum()
        for own, name in ((True, "own"), (False, "other")):
            targets = [row for row in here if row["quadrant"] == f"{name}_target"]
            assert len(targets) == (enrolled & (draw.own == own)).sum()
            assert all(row["claimed"] == row["label"] for row in targets)
            others = [row for row in here if row["quadrant"] == f"{name}_other"]
            assert len(others) == (draw.own == own).sum()
            assert all(row["claimed"] != row["label"] and row["claimed"] in draw.words for row in others)
        assert all((row["speaker"] == row["owner"]) == row["quadrant"].startswith("own") for row in here)


def test_the_wrong_word_is_the_likeliest_other_as_if_the_right_one_were_not_enrolled(bank: Bank) -> None:
    """With two words there is one other word, and its odds are those against none of them."""
    two = Owners(bank.utterances, replace(PROTOCOL, spec=EpisodeSpec(2, 2, 2), episodes=2))
    for row in evaluate_owner(load_model("dtw"), word_voices(), bank, two):
        if row["quadrant"].endswith("other") and row["enrolled"]:
            assert row["word"] == pytest.approx(row["nearness"], abs=1e-4)


def test_rows_hold_what_a_gate_would_see(bank: Bank, owners: Owners, rows: list[dict[str, Any]]) -> None:
    """The voice part is that of the model of voices, and further systems answer the same trials."""
    draw, voices = owners.draw(0), word_voices()
    heard = voices.hear([bank.audio(int(k)) for k in draw.query])
    own = voices.hear([bank.audio(int(k)) for k in draw.support])
    llr = voices.llr([own], heard)[:, 0]
    first = [row for row in rows if row["episode"] == 0]
    right = np.flatnonzero(draw.said >= 0)
    np.testing.assert_allclose([row["voice"] for row in first], np.concatenate([llr[right], llr]), atol=1e-4)

    def joint(bank: Bank, draw: OwnerDraw) -> np.ndarray:
        return np.arange(len(draw.query))[:, None] + 0.1 * np.arange(len(draw.words))

    again = evaluate_owner(load_model("dtw"), voices, bank, owners, systems={"joint": joint})
    assert len(again) == len(rows)
    one = [row for row in again if row["episode"] == 0]
    for k, row in enumerate(one[: len(right)]):
        assert row["joint"] == pytest.approx(right[k] + 0.1 * draw.words.index(row["label"]))
    assert "joint_eer_owner_only" in summary(again, owners.asked, [independent()], corpus="people")


def test_owners_that_cannot_be_drawn_are_refused(people: Path) -> None:
    utterances = load_corpus(people)
    more = replace(PROTOCOL, spec=EpisodeSpec(3, 4, 2))
    assert "the best has 0 such words" in said(lambda: Owners(utterances, more))
    alone = [one for one in utterances if one.speaker == "p1"]
    assert "somebody else" in said(lambda: Owners(alone, PROTOCOL))
    wide = replace(PROTOCOL, spec=EpisodeSpec(10, 2, 2))
    assert Owners(utterances, wide).asked.spec.n_way == len(WORDS)


# ------------------------------------------------------------------------------------------------------------ figures


def made_up(n_people: int = 10, n: int = 25, seed: int = 0, gap: float = 2.5) -> list[dict[str, Any]]:
    """Trials of normal scores, the voice of each person with a shift of its own."""
    rng = np.random.default_rng(seed)
    shift = rng.normal(0, 0.7, (n_people, n_people))
    rows = []
    for owner in range(n_people):
        for quadrant, name in enumerate(QUADRANTS):
            for _ in range(n):
                speaker = owner if quadrant < 2 else int(rng.choice([p for p in range(n_people) if p != owner]))
                word, voice = (gap if quadrant % 2 == 0 else -gap), (gap if quadrant < 2 else -gap)
                rows.append(
                    {
                        **{"episode": owner, "item": f"{len(rows)}", "corpus": "c", "label": "w", "enrolled": True},
                        **{"claimed": "w", "owner": f"p{owner}", "speaker": f"p{speaker}", "quadrant": name},
                        "word": word + 2 * rng.standard_normal(),
                        "nearness": word + 2 * rng.standard_normal(),
                        "voice": voice + shift[owner, speaker] + 2 * rng.standard_normal(),
                        "voice_in_word": voice + shift[owner, speaker] + 2 * rng.standard_normal(),
                    }
                )
    return rows


def test_rates_are_those_of_the_metrics() -> None:
    rows = made_up()
    quadrants = quadrants_of(rows)
    fusions = fit_on(made_up(seed=9), {})
    found = figures(rows, fusions, 0, n_resamples=100)
    scores = system_scores(rows, fusions, "owner-only")
    for system, values in scores.items():
        for k, task in ((1, "own_other"), (2, "other_target"), (3, "other_other")):
            expected = eer(values[quadrants == 0], values[quadrants == k])[0]
            assert found[system][f"eer_{task}"].value == pytest.approx(expected, abs=0.01)
        accepted = np.sort(values[quadrants > 0])[::-1][int(0.01 * (quadrants > 0).sum())]
        assert found[system]["miss_owner_only"].value == pytest.approx(
            (values[quadrants == 0] <= accepted).mean(), abs=0.02
        )
        pooled = eer(values[quadrants == 0], values[quadrants > 0])[0]
        assert found[system]["eer_owner_only"].value == pytest.approx(pooled, abs=0.01), "quadrants have equal numbers"


def test_lines_join_the_points_of_a_curve() -> None:
    miss, false = np.array([0.0, 0.0, 0.4, 1.0]), np.array([1.0, 0.5, 0.2, 0.0])
    equal, few = error_rates(miss, false)
    assert equal == pytest.approx(0.4 * 0.5 / 0.7)
    assert few == 1.0
    apart = error_rates(np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]))
    assert apart[0] == 0.0
    assert apart[1] == 0.0


def test_intervals_hold_the_rate_of_other_people() -> None:
    truth = figures(made_up(16, 40, seed=5), [independent()], 0, n_resamples=100)["word"]["eer_owner_only"].value
    held = 0
    for seed in range(5):
        one = figures(made_up(7, 12, seed=10 + seed), [independent()], seed, n_resamples=100)["word"]["eer_owner_only"]
        low, high = one.ci95()
        assert low is not None
        assert high is not None
        assert high - low < 0.25
        held += low <= truth <= high
    assert held >= 4


def test_a_difference_is_paired_and_none_is_no_finding() -> None:
    rows = made_up()
    for row in rows:
        row["twin"] = row["word"]
    found = figures(rows, fit_on(made_up(seed=9), {}), 0, n_resamples=150)
    same = found["word"]["eer_owner_only"].less(found["twin"]["eer_owner_only"])
    assert (same.value, same.ci95(), same.p_value()) == (0.0, [0.0, 0.0], 1.0)
    gain = found["voice"]["eer_owner_only"].less(found["fusion"]["eer_owner_only"])
    low, _ = gain.ci95()
    assert low is not None
    assert low > 0.1
    assert gain.p_value() < 1e-4
    assert figures([row for row in rows if row["owner"] == "p0"], [independent()], 0, n_resamples=100)["word"][
        "eer_owner_only"
    ].ci95() == [None, None]


def test_a_summary_is_flat_and_says_how_many_were_heard() -> None:
    rows, fusions = made_up(), fit_on(made_up(seed=9), {"corpora": ["dev"]})
    found = summary(rows, PROTOCOL, fusions, corpus="c")
    assert found["metric"] == "owner_only_eer"
    assert found["mean"] == found["fusion_eer_owner_only"]
    assert (found["n_owners"], found["n_impostors"], found["n"]) == (10, 10, len(rows))
    assert found["n_trials"] == dict.fromkeys(QUADRANTS, 250)
    for system in ("product", "word", "voice"):
        assert found[f"gain_eer_owner_only_over_{system}"] == pytest.approx(
            found[f"{system}_eer_owner_only"] - found["mean"]
        )
        assert 0 <= found[f"gain_eer_owner_only_over_{system}_p"] <= 1
    assert found["mean"] < found["product_eer_owner_only"]
    assert found["cllr_owner_only"] < 1
    other = {**found, "mean": found["mean"] + 0.1, "corpus": "d"}
    both = over_sets([found, other])
    assert both["worst_corpus"] == "d"
    assert both["mean"] == pytest.approx(found["mean"] + 0.05)
    assert both["n"] == 2 * len(rows)


def test_a_fusion_counts_every_corpus_alike_and_says_what_it_rests_on() -> None:
    rows = made_up(6, 20, seed=1)
    others = [{**row, "corpus": "d"} for row in made_up(6, 20, seed=2)]
    full, less = fit_on(rows + others * 2, {"corpora": ["c", "d"]})
    assert full.features[-1] == "voice_in_word"
    assert "voice_in_word" not in less.features
    assert full.about["n_owners"] == 12
    again = fit_fusion(
        features_of(rows + others), quadrants_of(rows + others), groups=["c"] * len(rows) + ["d"] * len(others)
    )
    np.testing.assert_allclose(full.weights, again.weights, atol=1e-8)


def test_a_joint_model_is_scored_on_the_same_trials() -> None:
    rows, fusions = made_up(), fit_on(made_up(seed=9), {})
    twin = beside(rows, rows, "joint", fusions)
    found = figures(twin, fusions, 0, n_resamples=100)
    assert found["joint"]["eer_owner_only"].value == pytest.approx(found["fusion"]["eer_owner_only"].value, abs=1e-3)
    assert "joint are others" in said(lambda: beside(rows, rows[::-1], "joint", fusions))
