"""The protocol of verification: clips heard once, trials as the model scores them, rows that give the figures again."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import crowd
import numpy as np
import pytest
import sounds
from refusals import said
from voicing import RATE_HZ, say, voice_model

from metavox.audio import read
from metavox.contracts import Utterance
from metavox.data.manifests import load_corpus
from metavox.evaluation.trials import drawn_blocks, people_of
from metavox.evaluation.verification import (
    Clips,
    Scored,
    VerificationProtocol,
    hear_clips,
    rows_of,
    score,
    seen_in_training,
)
from metavox.evaluation.verification_summary import Compared, over_sets, summary
from metavox.metrics import act_dcf, cllr, eer
from metavox.voices.speech import spoken

N_PEOPLE = 8


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    root = crowd.corpus(tmp_path_factory.mktemp("crowd"), range(N_PEOPLE), 4)
    sounds.write(root / "audio/p0/3.wav", say(0, 3, 0.3), RATE_HZ)  # too short for a cut
    return load_corpus(root)


@pytest.fixture(scope="module")
def clips(utterances: list[Utterance]) -> Clips:
    return hear_clips(voice_model(), utterances, (None, 0.5), 3)


def scored_of(clips: Clips, utterances: list[Utterance], seconds: float | None = None, enroll: int = 2) -> Scored:
    people = people_of(utterances)
    return score(voice_model(), clips, people, drawn_blocks(people, utterances, enroll, 2, 1), seconds, enroll)


# -------------------------------------------------------------------------------------------------------------- hearing


def test_whole_clips_are_heard_as_the_model_hears_them(utterances: list[Utterance], clips: Clips) -> None:
    expected = voice_model().hear([read(one.path, RATE_HZ) for one in utterances[:3]])
    np.testing.assert_allclose(clips.full.vectors[:3], expected.vectors, atol=1e-6)
    np.testing.assert_allclose(clips.full.speech_s[:3], expected.speech_s)
    np.testing.assert_allclose(clips.full.snr_db[:3], expected.snr_db)


def test_cuts_are_so_long_without_pauses_and_from_the_clip(utterances: list[Utterance], clips: Clips) -> None:
    assert clips.usable(0.5).sum() == len(utterances) - 1
    assert not clips.usable(0.5)[3]
    assert set(clips.cut[0.5].speech_s[clips.usable(0.5)]) == {0.5}
    speech = spoken(read(utterances[0].path, RATE_HZ)).wave
    cuts = np.lib.stride_tricks.sliding_window_view(speech, RATE_HZ // 2)[::1000]
    near = voice_model().encoder.embed(list(cuts)) @ clips.cut[0.5].vectors[0]
    assert near.max() > 0.98


def test_the_place_of_a_cut_depends_on_seed_and_clip_alone(utterances: list[Utterance], clips: Clips) -> None:
    some = utterances[4:7]
    again, other = (hear_clips(voice_model(), some, (0.5,), seed).cut[0.5].vectors for seed in (3, 4))
    np.testing.assert_allclose(again, clips.cut[0.5].vectors[4:7], atol=1e-6)
    assert not np.allclose(other, again, atol=1e-4)


def test_silence_is_refused(tmp_path: Path, utterances: list[Utterance]) -> None:
    silent = replace(utterances[0], path=sounds.write(tmp_path / "silent.wav", np.zeros(8000, np.float32)))
    assert "holds only digital silence" in said(lambda: hear_clips(voice_model(), [silent], (None,), 0))


# -------------------------------------------------------------------------------------------------------------- scoring


def test_every_trial_has_the_ratio_of_the_model(utterances: list[Utterance], clips: Clips) -> None:
    scored = scored_of(clips, utterances, 0.5)
    model = voice_model()
    assert scored.calibrated
    assert scored.n_short == 1
    for place in np.random.default_rng(0).integers(len(scored.values), size=20):
        voice, test = scored.voices[scored.voice[place]], int(scored.test[place])
        expected = model.llr([clips.full.at(voice.clips)], clips.cut[0.5].at([test]))[0, 0]
        assert scored.values[place] == pytest.approx(expected, abs=1e-3)
        assert test not in voice.clips
        same = utterances[test].speaker == utterances[voice.clips[0]].speaker
        assert scored.trials.is_target[place] == same


def test_a_copy_of_an_enrolled_clip_is_no_trial(utterances: list[Utterance], tmp_path: Path) -> None:
    copy = sounds.write(tmp_path / "copy.wav", read(utterances[0].path, RATE_HZ))
    more = [*utterances[:12], replace(utterances[0], id="copy", path=copy)]
    heard, people = hear_clips(voice_model(), more, (None,), 0), people_of(more)
    scored = score(voice_model(), heard, people, drawn_blocks(people, more, 2, 20, 0), None, 2)
    pairs = {(clip, int(test)) for voice, test in zip(scored.voice, scored.test, strict=True)
             for clip in scored.voices[voice].clips.tolist()}  # fmt: skip
    assert (0, 12) not in pairs
    assert (12, 0) not in pairs
    assert {0, 12} <= {clip for voice in scored.voices for clip in voice.clips.tolist()}


def test_tests_that_are_too_long_leave_no_trial(utterances: list[Utterance]) -> None:
    heard, people = hear_clips(voice_model(), utterances, (30.0,), 0), people_of(utterances)
    blocks = drawn_blocks(people, utterances, 1, 1, 0)
    text = said(lambda: score(voice_model(), heard, people, blocks, 30.0, 1))
    assert "No trial of one person is left where tests hold 30 s of speech" in text
    assert "and 32 of 32 hold too little" in text


# -------------------------------------------------------------------------------------------------------------- figures


def test_rows_give_the_figures_again(utterances: list[Utterance], clips: Clips) -> None:
    scored, people = scored_of(clips, utterances), people_of(utterances)
    found = summary([Compared(scored)], VerificationProtocol((2,), draws=2), people, corpus="crowd")
    rows = json.loads(json.dumps(list(rows_of(scored, None, clips, people, utterances, "crowd"))))
    assert Counter(row["kind"] for row in rows)["voice"] == 2 * N_PEOPLE
    voices = {row["voice"]: row for row in rows if row["kind"] == "voice"}
    target, nontarget = [], []
    for row in (row for row in rows if row["kind"] == "test"):
        for voice, llr in zip(row["voices"], row["llr"], strict=True):
            assert voices[voice]["draw"] == row["draw"]
            assert row["item"] not in voices[voice]["clips"]
            (target if voices[voice]["speaker"] == row["speaker"] else nontarget).append(llr)
    assert (len(target), len(nontarget)) == (found["n_target"], found["n_nontarget"])
    assert found["n"] == len(target) + len(nontarget) == 2 * N_PEOPLE * (4 * N_PEOPLE - 2)
    assert found["eer"] == found["mean"] == pytest.approx(eer(target, nontarget).rate)
    assert found["cllr"] == pytest.approx(cllr(target, nontarget))
    assert found["act_dcf_p05"] == pytest.approx(act_dcf(target, nontarget, 0.05))
    low, high = found["eer_ci95"]
    assert low <= found["eer"] <= high
    assert found["n_speakers"] == found["n_impostors"] == N_PEOPLE
    assert json.dumps(found, allow_nan=False)


def test_near_people_are_scored_apart(utterances: list[Utterance], clips: Clips) -> None:
    scored, people = scored_of(clips, utterances), people_of(utterances)
    found = summary([Compared(scored)], VerificationProtocol(), people)
    trials = scored.trials
    gender = np.array(people.gender)
    near = (gender[trials.enrolled] == gender[trials.tested]) & ~trials.is_target
    assert found["n_nontarget_same_gender"] == near.sum()
    expected = eer(scored.values[trials.is_target], scored.values[near]).rate
    assert found["eer_same_gender"] == pytest.approx(expected)
    assert 0 < found["n_nontarget_same_age"] < found["n_nontarget"]
    unknown = people_of([replace(one, gender=None, age=None) for one in utterances])
    blank = summary([Compared(scored)], VerificationProtocol(), unknown)
    assert (blank["eer_same_gender"], blank["eer_same_age_ci95"]) == (None, [None, None])
    assert blank["n_nontarget_same_age"] == 0


def test_scores_without_calibration_have_no_ratios(utterances: list[Utterance], clips: Clips) -> None:
    people = people_of(utterances)
    bare = replace(voice_model(), ratios=None)
    scored = score(bare, clips, people, drawn_blocks(people, utterances, 2, 1, 1), None, 2)
    found = summary([Compared(scored)], VerificationProtocol(), people)
    assert not scored.calibrated
    assert (found["act_dcf"], found["cllr"], found["cllr_over_min"]) == (None, None, None)
    assert found["min_dcf"] is not None
    rows = list(rows_of(scored, None, clips, people, utterances, "crowd"))
    assert "score" in rows[-1]
    assert "llr" not in rows[-1]


def test_a_baseline_is_scored_on_the_same_trials(utterances: list[Utterance], clips: Clips) -> None:
    people = people_of(utterances)
    blocks = drawn_blocks(people, utterances, 1, 2, 0)
    own = score(voice_model(), clips, people, blocks, None, 1)
    noise = np.random.default_rng(0).normal(size=len(own.values)) * 4 * own.values.std()
    worse = replace(own, values=own.values + noise)
    found = summary([Compared(own, worse)], VerificationProtocol((1,)), people)
    assert found["gain_eer"] == pytest.approx(found["baseline_eer"] - found["eer"])
    assert found["gain_eer"] > 0
    low, high = found["gain_eer_ci95"]
    assert low < found["gain_eer"] < high
    assert 0 < found["gain_eer_p"] <= 1
    same = summary([Compared(own, own)], VerificationProtocol((1,)), people)
    assert (same["gain_eer"], same["gain_cllr"]) == (0, 0)
    rows = list(rows_of(own, worse, clips, people, utterances, "crowd"))
    assert len(rows[-1]["baseline"]) == len(rows[-1]["llr"])


def test_several_sets_give_the_mean_with_the_worst(utterances: list[Utterance], clips: Clips) -> None:
    people = people_of(utterances)
    protocol = VerificationProtocol((1, 2), (None, 0.5))
    conditions = [Compared(scored_of(clips, utterances, seconds, k)) for k in (1, 2) for seconds in (None, 0.5)]
    one = summary(conditions, protocol, people, corpus="one")
    other = summary(conditions[::-1], protocol, people, corpus="other")
    other |= {"mean": 0.9, "eer": 0.9}
    other["by_condition"][0] |= {"eer": 0.9, "cllr": None, "cllr_ci95": [None, None]}
    found = over_sets([one, other])
    assert found["mean"] == found["eer"] == pytest.approx((one["eer"] + 0.9) / 2)
    assert (found["worst_corpus"], found["worst_mean"]) == ("other", 0.9)
    assert found["n"] == one["n"] + other["n"]
    assert found["cllr"] is None
    assert len(found["by_condition"]) == 4
    assert [row["enroll"] for row in one["by_condition"]] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("about", "seen"),
    [
        ({}, 0),
        ({"corpora": ["crowd"]}, 4),
        ({"corpora": ["other"]}, 0),
        ({"corpora": ["crowd"], "speakers": ["p1", "p2", "p77"]}, 2),
        ({"corpora": ["crowd"], "speakers": ["p1"], "development": ["p3"]}, 2),
        ({"corpora": ["other"], "speakers": ["p1", "p2"]}, 0),
        ({"speakers": ["p0"]}, 1),
    ],
)
def test_people_of_the_training_are_counted(about: dict[str, list[str]], seen: int) -> None:
    some = [Utterance(f"{n}", Path("x.wav"), 1.0, speaker=f"p{n % 4}", corpus="crowd") for n in range(8)]
    assert seen_in_training(about, some) == seen


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"enroll": ()}, "--enroll names nothing"),
        ({"enroll": (2, 2)}, "--enroll names nothing, or one value twice"),
        ({"enroll": (0,)}, "--enroll is 0"),
        ({"seconds": (0.01,)}, "--seconds is 0.01; give 0.1 to 600 s"),
        ({"seconds": (float("nan"),)}, "--seconds is nan"),
        ({"draws": 0}, "--draws is 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], sentence: str) -> None:
    assert sentence in said(lambda: VerificationProtocol(**settings))
