"""``metavox evaluate --protocol open-set`` as a user types it: what it prints, writes and refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import sounds
from calling import Metavox

from metavox.data.episodes import EpisodeSpec
from metavox.evaluation.open_set import OpenSetProtocol, summary

SHAPE = ["--ways", 3, "--shots", 2, "--queries", 2, "--episodes", 3, "--seed", 5, "--far", 0.4]


@pytest.fixture
def evaluate(metavox: Metavox) -> Metavox:
    return lambda *arguments: metavox("evaluate", "dtw", "--protocol", "open-set", *arguments)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shelf")
    sounds.manifest_corpus(root / "known", sounds.WORDS[:4], sounds.SPEAKERS[:2], 3)
    sounds.manifest_corpus(root / "too", sounds.WORDS[4:8], sounds.SPEAKERS[:2], 2)
    sounds.manifest_corpus(root / "others", sounds.WORDS[8:], sounds.SPEAKERS, 3)
    rng = np.random.default_rng(0)
    for i in range(6):
        sounds.write(root / "noise" / f"{i}.wav", 0.05 * rng.standard_normal(48_000))
    (root / "empty").mkdir()
    return root


def test_a_summary_can_be_computed_again_from_the_rows(evaluate: Metavox, shelf: Path, tmp_path: Path) -> None:
    ask = ["--corpus", shelf / "known", "--negatives", shelf / "others", *SHAPE, "--json"]
    said = evaluate(*ask, "--out", tmp_path / "rows.jsonl")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    expected = {"metric": "auroc", "ways": 3, "shots": 2, "episodes": 3, "n": 18, "corpus": "known", "model": "dtw",
                "negatives": ["others"], "negatives_split_by": "speaker", "promised_far_40": 0.4,
                "n_negatives": 24, "n_dev_negatives": 24}  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert found["mean"] == found["auroc"] > 0.8  # tones of a few voices are easy for templates
    assert found["closed_accuracy"] >= found["oracle_accuracy_at_far_40"] >= 0
    assert found["bound_40"] <= 0.4
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    protocol = OpenSetProtocol(EpisodeSpec(3, 2, 2), 3, 5, far=(0.4,))
    again = summary(rows, protocol)
    assert {key: found[key] for key in again} == again
    assert evaluate(*ask).out == said.out


def test_the_text_labels_the_oracle_and_says_what_it_rests_on(evaluate: Metavox, shelf: Path) -> None:
    said = evaluate("--corpus", shelf / "known", "--negatives", shelf / "others", *SHAPE, "--far", 0.5)
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert lines[1].split()[-6:] == ["at", "most", "50", "at", "most", "40"]
    titles = {line[:24].strip() for line in lines}
    assert {"known words right", "oracle *", "known words refused", "false alarms", "draws above the bound"} <= titles
    assert "* oracle: its threshold is chosen on the test itself" in said.out
    assert "apart by speaker." in said.out


def test_several_corpora_give_the_mean_and_several_negatives_the_hardest(evaluate: Metavox, shelf: Path) -> None:
    ask = ["--corpus", shelf / "known", "--corpus", shelf / "too", "--negatives", shelf / "others"]
    ask += ["--noise", shelf / "noise", *SHAPE]
    found = json.loads(evaluate(*ask, "--json").out)
    assert found["corpus"] == ["known", "too"]
    assert found["mean"] == pytest.approx(np.mean([one["auroc"] for one in found["corpora"]]))
    assert found["worst_corpus"] in found["corpus"]
    assert found["noise_minutes"] == pytest.approx(0.3)
    for one in found["corpora"]:
        assert [row["negatives"] for row in one["by_negatives"]] == ["noise", "others"]
        assert one["negatives_split_by"] == "speaker or recording"
    said = evaluate(*ask)
    assert "0.3 min of noise among them" in said.out
    assert "Hardest to tell from known words: " in said.out
    assert "mean over sets: AUROC " in said.out


def test_words_of_the_same_corpus_that_are_not_enrolled_are_negatives(evaluate: Metavox, shelf: Path) -> None:
    ask = [
        "--corpus",
        shelf / "others",
        "--negatives",
        shelf / "others",
        *SHAPE[:-2],
        "--far",
        0.8,
        "--confidence",
        0.6,
    ]
    found = json.loads(evaluate(*ask, "--json").out)
    assert (found["ways"], found["n_negatives"] + found["n_dev_negatives"]) == (3, 12)  # the one word that is left
    said = evaluate(*ask, "--ways", 4)
    assert (said.status, said.out) == (2, "")
    assert "hold no enrolled word, too few for a threshold and its test; give more --negatives" in said.err


def test_a_threshold_may_be_set_on_other_negatives(evaluate: Metavox, shelf: Path) -> None:
    ask = ["--corpus", shelf / "known", "--negatives", shelf / "noise", "--dev-negatives", shelf / "others", *SHAPE]
    found = json.loads(evaluate(*ask, "--json").out)
    assert (found["negatives_split_by"], found["n_dev_negatives"]) == ("source", 48)
    assert found["negatives"] == ["noise", "others"]
    assert found["negative_hours"] == pytest.approx(18 / 3600)
    few = json.loads(evaluate(*ask, "--max-negatives", 20, "--json").out)
    assert (few["n_dev_negatives"], few["n_negatives"] <= 20) == (20, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--protocol open-set needs sounds that are no enrolled word; name a corpus with --negatives"),
        (["--negatives", "nowhere"], "Corpus nowhere is no folder here"),
        (["--negatives", "{}/empty"], "empty holds no recording (such as .wav or .flac); name a folder that does."),
        (["--negatives", "{}/others", "--noise", "{}/others"], "is named twice; name each corpus once."),
        (["--negatives", "{}/others", "--dev-negatives", "{}/others"], "is named twice"),
        (["--negatives", "{}/others", "--dev-negatives", "model"], "Model dtw comes without negatives; name a corpus"),
        (["--negatives", "{}/others", "--far", "2"], "--far is 2; give a share of negatives between 0 and 1"),
        (["--negatives", "{}/others", "--far", "0.01"], "1 % of unknown sounds needs at least"),
        (["--negatives", "{}/others", "--confidence", "1"], "--confidence is 1; give one between 0.5 and 1"),
        (["--negatives", "{}/others", "--along", "speaker"], "--along belongs to --protocol commands and not to open"),
        (["--negatives", "{}/others", "--base", "2"], "--base belongs to --protocol incremental and not to open-set"),
        (["--negatives", "{}/others", "--shots", "9"], "0 of 4 classes have the 10 takes"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(evaluate: Metavox, shelf: Path, options: list[str], said: str) -> None:
    found = evaluate("--corpus", shelf / "known", *SHAPE, *(option.format(shelf) for option in options))
    assert (found.status, found.out) == (2, "")
    assert said in found.err
    assert found.err.startswith("metavox: ")
    assert found.err.count("\n") == 1


def test_negatives_belong_to_this_protocol(metavox: Metavox, shelf: Path) -> None:
    found = metavox("evaluate", "dtw", "--corpus", shelf / "known", "--negatives", shelf / "others")
    assert found.status == 2
    assert "--negatives belongs to --protocol open-set and not to commands; leave it out or ask for" in found.err
    found = metavox("evaluate", "scratch", "--protocol", "open-set", "--corpus", shelf / "known", "--negatives", "x")
    assert "Model scratch has a learner that cannot compare what was embedded before" in found.err
