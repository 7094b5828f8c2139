"""The verb ``data align``: what is printed where, and the exit status."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from metavox.cli import app
from metavox.contracts import InputError
from tests.sounds import RATE_HZ, files_below, say, write


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    folder = tmp_path / "two sentences"
    rows = []
    for number, speaker in enumerate(("anna", "bela", "anna", "bela")):
        gap = np.zeros(RATE_HZ // 3, np.float32)
        wave = np.concatenate([gap, say("tula", speaker, number), gap, say("rime", speaker, number), gap])
        write(folder / f"{number}.wav", wave + 1e-3 * np.random.default_rng(number).standard_normal(len(wave)))
        row = {"audio_filepath": f"{number}.wav", "duration": len(wave) / RATE_HZ, "text": "Tula, rime!"}
        rows.append(row | {"speaker": speaker})
    write(folder / "short.wav", np.zeros(1600, np.float32))
    rows.append({"audio_filepath": "short.wav", "duration": 0.1, "text": "tula rime", "speaker": "bela"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_json_is_one_object_and_the_language_is_noted(sentences: Path, tmp_path: Path) -> None:
    words = ["data", "align", str(sentences), "--out", str(tmp_path / "words"), "--json"]
    done = CliRunner().invoke(app, [*words, "--aligner", "energy", "--lang", "qqq"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["n_words"], found["n_takes"], found["n_speakers"]) == (2, 8, 2)
    assert found["skipped"] == {"too short for its words": 1}
    assert 0 < found["median_confidence"] <= 1
    manifest = (tmp_path / "words" / "manifest.jsonl").read_text().splitlines()
    assert {json.loads(row)["lang"] for row in manifest} == {"qqq"}


def test_the_limits_are_obeyed(sentences: Path, tmp_path: Path) -> None:
    words = ["data", "align", str(sentences), "--out", str(tmp_path / "words")]
    for option, value in (("--min-takes", "5"), ("--min-speakers", "3")):
        done = CliRunner().invoke(app, [*words, option, value])
        assert isinstance(done.exception, InputError)
        assert "has 4 from 2; cut its words by `metavox data align` with a lower --min-takes or" in str(done.exception)
    done = CliRunner().invoke(app, [*words, "--min-letters", "5"])
    assert isinstance(done.exception, InputError)
    assert not (tmp_path / "words").exists()


def test_ctrl_c_leaves_nothing_and_says_so(sentences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = files_below(tmp_path)
    monkeypatch.setattr("metavox.data.word_alignment.corpus._write_clip", stop)
    done = CliRunner().invoke(app, ["data", "align", str(sentences), "--out", str(tmp_path / "words")])
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "metavox: stopped; nothing was written."
    assert files_below(tmp_path) == before


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from metavox.cli import main; main()", "data", "align", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_words_are_cut_and_the_next_command_is_named(sentences: Path, tmp_path: Path) -> None:
    out = tmp_path / "my words"
    done = run(str(sentences), "--out", str(out))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 words, 8 takes, 2 speakers")
    assert "(100% kept)" in lines[1]
    assert lines[-1] == f"Next: metavox evaluate dtw --corpus '{out}'"
    assert "1 of 5 sentences skipped: 1 too short for its words." in done.stderr
    assert "5 sentences by letters and quiet places" in done.stderr
    assert len([name for name in files_below(out) if name.endswith(".flac")]) == 8


def test_a_folder_with_something_in_it_is_refused(sentences: Path) -> None:
    done = run(str(sentences), "--out", str(sentences))
    assert done.returncode == 2
    assert done.stderr.strip().endswith("is not empty; choose a new folder.")
