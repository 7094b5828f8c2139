"""Cohort and calibration from development speakers: made-up people, trials with a known truth, and real recordings."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from refusals import said
from voicing import say

from metavox.audio import read
from metavox.data.manifests import load_corpus
from metavox.metrics import cllr, min_cllr
from metavox.voices.classical import MfccStatistics
from metavox.voices.furnishing import Furnished, choose_features, folds, furnish
from metavox.voices.models import VoiceModel
from metavox.voices.trials import Recorded, Trials, cut, draw_trials, halves, hear_speakers, weighted

N_PEOPLE = 20


@lru_cache(maxsize=1)
def people() -> list[list[np.ndarray]]:
    return [[say(3000 + person, take, 1.2) for take in range(4)] for person in range(N_PEOPLE)]


@lru_cache(maxsize=1)
def heard() -> list[Recorded]:
    return hear_speakers(MfccStatistics(), people(), np.random.default_rng(0))


@lru_cache(maxsize=2)
def furnished(seed: int = 0) -> Furnished:
    return furnish(MfccStatistics(), people(), seed)


def test_people_are_told_apart_by_ratios_that_hold() -> None:
    found = furnished()
    model = VoiceModel(MfccStatistics(), "made-up", "", found.cohort, found.ratios)
    others = range(4000, 4008)
    voices = [model.hear([say(person, take, 1.5) for take in range(3)]) for person in others]
    for seconds in (0.8, 2.0):
        tests = model.hear([say(person, 9, seconds) for person in others])
        llr = model.llr(voices, tests)
        own = np.eye(len(voices), dtype=bool)
        assert llr[own].mean() > 0.5
        assert llr[~own].mean() < -0.5
        assert cllr(llr[own], llr[~own]) < 0.8
    assert found.about["cllr"] < 0.5
    assert found.about["features"][0] == "score"


def test_the_seed_decides_everything() -> None:
    again = furnish(MfccStatistics(), people(), 0)
    assert again.ratios == furnished().ratios
    assert again.about == furnished().about
    assert np.array_equal(again.cohort, furnished().cohort)
    assert furnish(MfccStatistics(), people(), 1).ratios != again.ratios


def test_a_cohort_that_is_given_stays() -> None:
    given = furnished().cohort[:7]
    found = furnish(MfccStatistics(), people()[7:], 0, cohort=given)
    assert np.array_equal(found.cohort, given)


def test_trials_hold_no_enrolled_clip_and_halves_share_nobody() -> None:
    corpora = ["a"] * 8 + ["b"] * 12
    trials = draw_trials(heard(), corpora, np.random.default_rng(1))
    assert max(trials.features["score"]) < 1e3  # a clip against itself, in deviations of the cohort, would be far off
    assert trials.same.any()
    assert (trials.same == (trials.voice == trials.test)).all()
    side = halves(corpora, np.random.default_rng(1))
    assert (side[trials.voice] == side[trials.test]).all()
    assert (np.array(corpora)[trials.voice] == np.array(corpora)[trials.test]).all()


def test_each_corpus_and_in_it_each_speaker_counts_alike() -> None:
    corpora = ["a"] * 8 + ["b"] * 12
    trials = draw_trials(heard(), corpora, np.random.default_rng(1))
    of_corpus = np.array([name == "b" for name in corpora])[trials.voice]
    for kind in (trials.same, ~trials.same):
        assert trials.weight[kind].sum() == pytest.approx(1)
        assert trials.weight[kind & of_corpus].sum() == pytest.approx(0.5)
    own = np.bincount(trials.voice[trials.same], trials.weight[trials.same])
    assert own[:8] == pytest.approx(np.full(8, 1 / 16))
    assert own[8:] == pytest.approx(np.full(12, 1 / 24))


def made_trials(n_people: int = 24, seed: int = 0) -> Trials:
    """Scores that tell less the shorter the clip, beside a feature that tells nothing."""
    rng = np.random.default_rng(seed)
    voice = np.repeat(np.arange(n_people), 120)
    same = np.tile(np.arange(120) < 40, n_people)
    test = np.where(same, voice, (voice + rng.integers(1, n_people, len(voice))) % n_people)
    log_s = rng.uniform(-0.7, 1.5, len(voice))
    score = np.where(same, 3.0 + 1.5 * log_s, 0.0) + rng.standard_normal(len(voice))
    features = {
        "score": score,
        "test_log_s": log_s,
        "enrolled_log_s": rng.standard_normal(len(voice)),
        "score_by_test_log_s": score * log_s,
        "score_by_enrolled_log_s": score * rng.standard_normal(len(voice)),
        "test_snr": rng.standard_normal(len(voice)),
        "enrolled_snr": rng.standard_normal(len(voice)),
    }
    return weighted(Trials(features, same, voice, test, np.ones(len(voice))), ["x"] * n_people)


def test_features_that_help_are_chosen_and_others_are_named_as_tried() -> None:
    chosen, tried = choose_features(made_trials(), folds(["x"] * 24, np.random.default_rng(0)))
    assert {"test_log_s", "score_by_test_log_s"} <= set(chosen)
    assert not {"enrolled_log_s", "score_by_enrolled_log_s", "test_snr", "enrolled_snr"} & set(chosen)
    nulls = [row for row in tried if "test_snr" in row["features"]]
    assert nulls
    assert not any(row["kept"] for row in nulls)


def test_three_corpora_are_folds() -> None:
    rng = np.random.default_rng(0)
    assert folds(["b", "a", "c", "a"], rng).tolist() == [1, 0, 2, 0]
    assert sorted(set(folds(["a"] * 20 + ["b"], rng).tolist())) == [0, 1, 2, 3, 4]


def test_pieces_are_part_of_the_speech() -> None:
    from metavox.voices.speech import Spoken

    wave = np.arange(16_000, dtype=np.float32)
    for piece in cut(Spoken(wave, 1.0, 20.0), 16_000, 50, np.random.default_rng(0)):
        assert 0.3 <= piece.speech_s <= 1.0
        assert np.array_equal(piece.wave, wave[int(piece.wave[0]) :][: len(piece.wave)])
    short = Spoken(wave[:4500], 0.28, 20.0)
    assert all(len(piece.wave) == 4500 for piece in cut(short, 16_000, 3, np.random.default_rng(0)))


def test_a_clip_that_comes_twice_counts_once() -> None:
    clips = people()[0]
    found = hear_speakers(MfccStatistics(), [[*clips, clips[0]]], np.random.default_rng(0))
    assert len(found[0].whole) == len(clips)


def test_what_teaches_nothing_is_refused() -> None:
    encoder = MfccStatistics()
    assert "8 are the least" in said(lambda: furnish(encoder, people()[:7], 0))
    single = [clips[:1] for clips in people()]
    assert "0 speakers have two clips" in said(lambda: furnish(encoder, single, 0))
    shared = [*people()[:10], people()[0]]
    assert "by two speakers, numbers 1 and 11" in said(lambda: furnish(encoder, shared, 0))
    silent = [*people()[:10], [np.zeros(16_000, np.float32)]]
    assert "Speaker number 11" in said(lambda: furnish(encoder, silent, 0))
    assert "name one for each" in said(lambda: furnish(encoder, people(), 0, corpus_of=["a"]))


@pytest.mark.real
def test_ratios_hold_for_real_people_who_were_left_out(data_root: Path) -> None:
    by: dict[str, list[np.ndarray]] = {}
    for utterance in load_corpus(data_root / "speechocean_en_l2"):
        assert utterance.speaker is not None
        if len(by) < 48 or utterance.speaker in by:
            clips = by.setdefault(utterance.speaker, [])
            if len(clips) < 5:
                clips.append(read(utterance.path))
    speakers = list(by.values())
    encoder = MfccStatistics()
    found = furnish(encoder, speakers[:30], 0)
    assert found.about["cllr"] < 1.15 * found.about["min_cllr"]
    model = VoiceModel(encoder, "mfcc", "", found.cohort, found.ratios)
    tested = hear_speakers(encoder, speakers[30:], np.random.default_rng(0))
    voices = [one.whole.at([0, 1, 2]) for one in tested]
    own, others = [], []
    for number, one in enumerate(tested):
        for tests in (one.whole.at(slice(3, None)), one.pieces.at(np.flatnonzero(one.clip_of_piece > 2))):
            llr = model.llr(voices, tests)
            own.append(llr[:, number])
            others.append(np.delete(llr, number, axis=1).ravel())
    target, nontarget = np.concatenate(own), np.concatenate(others)
    assert cllr(target, nontarget) < 1.5 * min_cllr(target, nontarget)  # few people: either may be lucky
    assert cllr(target, nontarget) < 0.55
