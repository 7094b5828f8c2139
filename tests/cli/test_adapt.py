"""``metavox adapt`` as a user types it: what is printed, written and refused, and what an early end leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds
import tonal
from calling import Metavox, Said, caller

from metavox.transcription import load_recogniser, plans


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapt")
    tonal.base_folder(root / "base")
    tonal.corpus(root / "new", tonal.texts(20, 3), dialect=True, speakers=list("vwxyz"))
    tonal.corpus(root / "more", tonal.texts(8, 5), dialect=True, seed=600, written=[""] * 8)
    return root


@pytest.fixture
def metavox(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, shelf: Path
) -> Metavox:
    """Call the real entry point as ``metavox ...`` would, in the folder of the corpora, with a short plan."""
    monkeypatch.setenv("METAVOX_CACHE", str(shelf / "cache"))
    monkeypatch.delenv("METAVOX_DATA", raising=False)
    monkeypatch.setitem(plans.WAYS, plans.DEFAULT_PLAN, plans.Way(tonal.PLAN))
    monkeypatch.chdir(shelf)

    return caller(monkeypatch, capsys)


@pytest.fixture
def unlearned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be learned: what is refused is refused before."""

    def learn(*_: object, **__: object) -> None:
        raise AssertionError("something was learned")

    monkeypatch.setattr("metavox.transcription.adaptation.adapt", learn)


def refused(said: Said) -> str:
    """The one sentence."""
    assert said.status == 2, said
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.startswith("metavox: ")]
    assert len(lines) == 1
    assert said.err.rstrip().splitlines()[-1] == lines[0]
    assert lines[0].endswith(".")
    return lines[0]


# ------------------------------------------------------------------------------------------------------- what it does


def test_a_course_is_told_in_words_and_undone(metavox: Metavox, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = metavox("adapt", "base", "new", "--out", out, "--threads", 1)
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].startswith("Adapted to 20 recordings, 0.5 minutes, in 40 steps and ")
    assert "x real time" in lines[0]
    assert lines[1].startswith("Character error ")
    assert " points, on 4 recordings held out (by other speakers, intervals over sentences)." in lines[1]
    assert lines[2].startswith("Word error ")
    assert lines[3].startswith("Old tasks: character error ")
    assert f"metavox transcribe {out} FILES..." in lines[4]
    assert len(lines) == 5
    assert f"{(out / 'part.safetensors').stat().st_size / 1000:.0f} kB" in lines[4]
    first = sounds.files_below(out)
    assert metavox("adapt", out, "new", "--out", out, "--seed", 1, "--json").status == 0
    undone = metavox("adapt", "--undo", out)
    assert undone.status == 0
    assert undone.out == f"{out} is again what it was before its last adaptation.\n"
    assert sounds.files_below(out) == first
    assert "no earlier adaptation" in refused(metavox("adapt", "--undo", out))


def test_json_is_one_flat_document_and_the_default_model_is_the_bundled_one(
    metavox: Metavox, tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shelf / "base", tmp_path / "bundled" / "asr-small")
    monkeypatch.setattr("metavox.transcription.models.BUNDLED", tmp_path / "bundled")
    said = metavox("adapt", "new", "--out", tmp_path / "out", "--unlabelled", "more", "--suggest", 2, "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert found["model"] == "metavox/asr-small"
    assert found["helped"] is True
    assert found["cer_after"] < found["cer_before"]
    assert found["cer_change"] == pytest.approx(found["cer_after"] - found["cer_before"])
    low, high = found["cer_change_ci95"]
    assert low <= found["cer_change"] <= high < 0
    assert found["part_bytes"] == (tmp_path / "out" / "part.safetensors").stat().st_size
    assert found["unlabelled_n"] == 8
    assert len(found["suggestions"]) == 2
    nested = {key for key, value in found.items() if isinstance(value, dict)}
    assert not nested
    assert json.loads((tmp_path / "out" / "adapted.json").read_text())["base"] == "metavox/asr-small"
    assert load_recogniser(tmp_path / "out").report["n"] == 20


def test_what_did_not_help_is_a_result_and_no_failure(
    metavox: Metavox, tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metavox.transcription.adaptation.adapt", lambda *_, **__: {})
    said = metavox("adapt", "base", "new", "--out", tmp_path / "out", "--unlabelled", "more", "--suggest", 1)
    assert said.status == 0
    assert "Adaptation did not help here: of the characters of 4 recordings held out, " in said.out
    assert "with the values that it started from" in said.out
    assert "were not learned from: the adaptation did not help" in said.out
    assert "To transcribe next (1 of 1 asked for):" in said.out
    assert load_recogniser(tmp_path / "out").report["helped"] is False


def test_a_base_without_a_guard_is_told(metavox: Metavox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tonal.base_folder(tmp_path / "bare", guard=False)
    monkeypatch.setattr("metavox.transcription.adaptation.adapt", lambda *_, **__: {})
    said = metavox("adapt", tmp_path / "bare", "new", "--out", tmp_path / "out", "--max-forgetting", 2)
    assert (
        "could not be measured: its base model has no guard, and nothing of the adaptation was held back." in said.out
    )


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "No transcribed recordings were given"),
        (("base", "--out", "o"), "base is a model and no recordings were given"),
        (("base", "new", "more", "--out", "o"), "3 names were given"),
        (("base", "new"), "add --out FOLDER"),
        (("base", "new", "--undo", "o"), "the only folder that is needed"),
        (("--undo", "nowhere"), "no adapted recogniser"),
        (("base", "nowhere", "--out", "o"), "is no folder here"),
        (("nowhere", "new", "--out", "o"), "holds no recogniser"),
        (("metavox/none", "new", "--out", "o"), "is no bundled model"),
        (("base", "new", "--out", "base"), "choose another name"),
        (("base", "new", "--out", "new"), "choose another name"),
        (("base", "new", "--out", "new/000.wav"), "choose another name"),
        (("base", "new", "--out", "new/000.wav/o"), "is a file"),
        (("base", "new", "--out", "o", "--lang", "klingon"), "'klingon' is no language code"),
        (("base", "new", "--out", "o", "--minutes", "30"), "ask for at most"),
        (("base", "new", "--out", "o", "--minutes", "0"), "above 0"),
        (("base", "new", "--out", "o", "--suggest", "3"), "--unlabelled"),
        (("base", "new", "--out", "o", "--unlabelled", "nowhere"), "nowhere is no folder"),
        (("base", "new", "--out", "o", "--max-forgetting", "-1"), "allow 0 or more"),
        (("base", "new", "--out", "o", "--alphabet", "greek"), "'greek'"),
        (("base", "more", "--out", "o"), "8 of 8 recordings have an empty text"),
    ],
)
def test_bad_calls_are_one_sentence(
    metavox: Metavox, unlearned: None, arguments: tuple[str, ...], sentence: str, shelf: Path
) -> None:
    before = set(os.listdir(shelf))
    assert sentence in refused(metavox("adapt", *arguments))
    assert set(os.listdir(shelf)) - before <= {"cache"}


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            "digits",
            "1 of 6 texts cannot be written in the roman alphabet (row 3, bad-002: 'room 7' has '7' (DIGIT SEVEN))",
        ),
        ("nothing", "holds nothing that is said"),
        ("long text", "1 of 6 transcripts are too long for their audio"),
        ("an hour", "1 of 6 recordings with a text last more than 40 s, the first is bad-002 with 3600 s"),
        ("a lie", "1 of 6 recordings with a text last more than 40 s"),
        ("silence", "besides digital silence"),
        ("few", "2 transcribed recordings were given and 3 are the least"),
    ],
)
def test_bad_recordings_are_one_sentence(
    metavox: Metavox, unlearned: None, tmp_path: Path, fault: str, sentence: str
) -> None:
    corpus = tonal.corpus(tmp_path / "bad", tonal.texts(6, 0))
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    match fault:
        case "digits":
            rows[2]["text"] = "room 7"
        case "nothing":
            rows[2]["text"] = "?!"
        case "long text":
            rows[2]["text"] = "bdf " * 100
        case "an hour":
            rows[2]["duration"] = 3600.0
        case "a lie":
            soundfile.write(corpus / "002.wav", np.tile(tonal.said("bdf"), 90), 16_000)
        case "silence":
            soundfile.write(corpus / "002.wav", np.zeros(16_000), 16_000)
        case "few":
            rows = rows[:2]
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert sentence in refused(metavox("adapt", "base", corpus, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_part_whose_base_is_another_is_one_sentence(
    metavox: Metavox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tonal.base_folder(tmp_path / "base", guard=False)
    with monkeypatch.context() as patch:
        patch.setattr("metavox.transcription.adaptation.adapt", lambda *_, **__: {})
        assert metavox("adapt", tmp_path / "base", "new", "--out", tmp_path / "out").status == 0
    other = tonal.reader()
    other.net.head.bias.data += 1
    tonal.save_recogniser(tmp_path / "base", other)
    said = refused(metavox("adapt", tmp_path / "out", "new", "--out", tmp_path / "out2"))
    assert "base and part do not match" in said


# --------------------------------------------------------------------------------------------------------- interrupted

SCRIPT = """
import signal
import sys
from dataclasses import replace
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
sys.path.insert(0, {tests!r})
import tonal
from metavox.cli import main
from metavox.transcription import plans
plan = replace(tonal.PLAN, tuning=replace(tonal.PLAN.tuning, steps=1_000_000, n_looks=100_000))
plans.WAYS[plans.DEFAULT_PLAN] = plans.Way(plan)
sys.argv = ["metavox", "adapt", "base", "new", "--out", {out!r}]
main()
"""


def test_ctrl_c_leaves_what_was_there(shelf: Path, tmp_path: Path) -> None:
    out = tmp_path / "models" / "out"
    out.mkdir(parents=True)
    for name in ("adapted.json", "part.safetensors"):
        (out / name).write_text("as it was")
    before = sounds.files_below(out.parent)
    script = SCRIPT.format(tests=str(Path(tonal.__file__).parent), out=str(out))
    environment = {**os.environ, "METAVOX_CACHE": str(tmp_path / "cache"), "PYTHONUNBUFFERED": "1"}
    with (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen([sys.executable, "-c", script], cwd=shelf, env=environment, stderr=err)
        try:
            banks = tmp_path / "cache" / "banks"
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and not list(banks.glob("new-*/bank.json")):
                time.sleep(0.1)  # features are there: what follows is learning
            time.sleep(1.0)
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 130
        finally:
            process.kill()
    assert sounds.files_below(out.parent) == before
    assert (tmp_path / "err").read_text().rstrip().splitlines()[-1].startswith("metavox: stopped")
