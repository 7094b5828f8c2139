"""``metavox evaluate --protocol verification`` as a user types it."""

import json
from pathlib import Path

import crowd
import pytest
from calling import Metavox


@pytest.fixture
def evaluate(metavox: Metavox) -> Metavox:
    return lambda *arguments: metavox("evaluate", "mfcc", "--protocol", "verification", *arguments)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shelf")
    crowd.corpus(root / "crowd", range(6), 4, 0.7)
    crowd.corpus(root / "pair", range(20, 22), 3, 0.7)
    crowd.corpus(root / "others", range(100, 109), 2, 0.7)
    (root / "some.txt").write_text("p1\np2\np4\n")
    (root / "nobody.txt").write_text("p1\nmarvin\n")
    clips = [f"audio/p{person}/0.wav" for person in range(4)]
    lines = [f"1 {clip} {clip.replace('/0', '/1')}" for clip in clips]
    lines += [f"0 {one} {other}" for one in clips for other in clips if one != other]
    (root / "trials.txt").write_text("\n".join(lines) + "\n")
    return root


def test_a_summary_is_flat_and_rows_are_written(evaluate: Metavox, shelf: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    said = evaluate(
        "--corpus", shelf / "crowd", "--enroll", 1, "--enroll", 2, "--seconds", "full", "--seconds", 0.4,
        "--draws", 2, "--seed", 3, "--out", rows, "--json",
    )  # fmt: skip
    assert said.status == 0, said.err
    found = json.loads(said.out)
    expected = {"metric": "eer", "enroll": 1, "seconds": None, "n": 2 * 6 * 23, "n_speakers": 6, "draws": 2, "seed": 3,
                "text": "any", "model": "mfcc", "corpus": "crowd", "calibrated": False, "cllr": None,
                "clustered_by": "speaker"}  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert found["mean"] == found["eer"] < 0.4
    assert [(row["enroll"], row["seconds"]) for row in found["by_condition"]] == [
        (1, None),
        (1, 0.4),
        (2, None),
        (2, 0.4),
    ]
    assert len(found["eer_ci95"]) == len(found["min_dcf_p05_ci95"]) == 2
    assert found["eer_same_gender"] is not None
    kinds = [json.loads(line)["kind"] for line in rows.read_text().splitlines()]
    assert kinds.count("voice") == 4 * 2 * 6
    assert kinds.count("test") == 4 * 2 * 24
    assert "seen_in_training" not in found


def test_several_corpora_are_a_table_with_the_worst(evaluate: Metavox, shelf: Path) -> None:
    said = evaluate("--corpus", shelf / "crowd", "--corpus", shelf / "pair", "--enroll", 1, "--draws", 1)
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].startswith("crowd: 6 speakers enrolled, text any, 1 draws")
    assert lines[1].split("  ")[-1].strip() == "min Cllr"
    assert [line.split(",")[0] for line in lines if "full" in line] == ["1 clip"] * 3
    assert lines[-1].startswith("worst set: ")


def test_left_out_speakers_alone_are_tested(evaluate: Metavox, shelf: Path) -> None:
    said = evaluate("--corpus", shelf / "crowd", "--only-speakers", shelf / "some.txt", "--draws", 1, "--json")
    found = json.loads(said.out)
    assert (found["n_speakers"], found["n_target"], found["n_nontarget"]) == (3, 3, 3 * 8)


def test_a_list_names_the_trials(evaluate: Metavox, shelf: Path) -> None:
    said = evaluate("--corpus", shelf / "crowd", "--trials", shelf / "trials.txt", "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert (found["n_target"], found["n_nontarget"], found["trials"], found["enroll"]) == (4, 12, "trials.txt", 1)


def test_the_baseline_learns_from_others_and_is_paired(evaluate: Metavox, shelf: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    said = evaluate(
        "--corpus", shelf / "crowd", "--enroll", 2, "--draws", 2, "--baseline", "--baseline-corpus", shelf / "others",
        "--det", tmp_path / "det.svg", "--json",
    )  # fmt: skip
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert (found["baseline"], found["baseline_speakers"]) == ("mfcc-plda", 9)
    assert found["gain_eer"] == pytest.approx(found["baseline_eer"] - found["eer"])
    assert len(found["gain_eer_ci95"]) == 2
    assert found["baseline_cllr"] is not None
    assert "baseline" in (tmp_path / "det.svg").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--corpus", "crowd", "--enroll", "4"], "speakers have the 5 clips that 4 to enrol"),
        (["--corpus", "crowd", "--enroll", "0"], "'--enroll'"),
        (["--corpus", "crowd", "--seconds", "long"], "--seconds is 'long', which is no number"),
        (["--corpus", "crowd", "--seconds", "9", "--enroll", "1"], "No trial of one person is left"),
        (["--corpus", "crowd", "--text", "dependent"], "clips of one word that 3 to enrol"),
        (["--corpus", "crowd", "--ways", "5"], "--ways belongs to --protocol commands,"),
        (["--corpus", "crowd", "--learner", "maml"], "--learner adapts to words"),
        (["--corpus", "crowd", "--trials", "trials.txt", "--enroll", "1"], "--enroll draws trials, and --trials names"),
        (["--corpus", "crowd", "--corpus", "pair", "--trials", "trials.txt"], "--corpus is given 2 times"),
        (["--corpus", "pair", "--trials", "trials.txt"], "'audio/p0/0.wav' is no recording of the corpus pair"),
        (["--corpus", "crowd", "--only-speakers", "nobody.txt"], "names 'marvin', who speaks in none of the corpora"),
        (["--corpus", "crowd", "--baseline"], "name them with --baseline-corpus"),
        (["--corpus", "crowd", "--baseline-corpus", "others"], "give both, or neither"),
        (["--corpus", "crowd", "--baseline", "--baseline-corpus", "crowd"], "0 speakers of the baseline's recordings"),
        (["--corpus", "crowd", "--det", "det.txt"], "ends in no kind of picture"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    evaluate: Metavox, shelf: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.chdir(shelf)
    found = evaluate(*options)
    assert (found.status, found.out) == (2, "")
    assert said in found.err
    assert found.err.count("\n") == 1


def test_options_of_verification_are_told(metavox: Metavox, shelf: Path) -> None:
    found = metavox("evaluate", "dtw", "--corpus", shelf / "crowd", "--enroll", 1)
    assert found.status == 2
    assert "--enroll belongs to --protocol verification" in found.err
