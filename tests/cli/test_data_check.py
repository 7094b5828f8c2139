"""The verb ``data check``: what is printed where, and the exit status."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from metavox.cli.data_check import check

app = typer.Typer()
app.command()(check)
runner = CliRunner()


@pytest.fixture
def words(tmp_path: Path) -> Path:
    wave = 0.3 * np.sin(np.arange(8000) / 9)
    for name in ("ja/1.wav", "ja/2.wav", "nein/1.wav"):
        path = tmp_path / "[red]words" / name  # a name that a markup language would trip over
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, wave, 16_000)
    return tmp_path / "[red]words"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "manifest.jsonl").write_text('{"audio_filepath": "a.wav", "duration": -1, "text": ""}\nnonsense\n')
    return folder


def test_a_good_corpus_is_a_line_and_status_0(words: Path) -> None:
    result = runner.invoke(app, [str(words)])
    assert result.exit_code == 0, result.output
    assert "[red]words" in result.stdout
    assert "word_folders" in result.stdout
    assert "; " not in result.stdout


def test_every_problem_is_printed_with_its_remedy_and_status_2(words: Path, broken: Path) -> None:
    (words / "ja" / "3.wav").write_bytes(b"")
    result = runner.invoke(app, [str(broken), str(words), str(words / "none")])
    assert result.exit_code == 2
    problems = [line for line in result.stdout.splitlines() if "; " in line]
    assert len(problems) == 5
    assert (
        problems[0]
        == f"{broken} manifest.jsonl:1: duration is -1 s and must be above 0; write the seconds of the file."
    )
    assert problems[1] == f"{broken} manifest.jsonl:1: 'a.wav' does not exist; add the file or remove the row."
    assert problems[4] == f"{words / 'none'}: does not exist; correct the path."


def test_json_is_one_object_and_nothing_else(words: Path, broken: Path) -> None:
    result = runner.invoke(app, [str(words), "--json"])
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer == {
        "ok": True,
        "corpora": [
            {
                "path": str(words),
                "layout": "word_folders",
                "utterances": 3,
                "hours": round(1.5 / 3600, 4),
                "classes": 2,
                "speakers": 0,
                "languages": [],
                "problems": [],
            }
        ],
    }
    result = runner.invoke(app, [str(words), str(broken), "--json"])
    assert result.exit_code == 2
    answer = json.loads(result.stdout)
    assert not answer["ok"]
    assert [len(c["problems"]) for c in answer["corpora"]] == [0, 3]
    assert set(answer["corpora"][1]["problems"][0]) == {"where", "kind", "message", "remedy"}


def test_help_shows_an_example_and_needs_no_torch(words: Path) -> None:
    assert "Example: metavox data check" in runner.invoke(app, ["--help"]).stdout
    code = (
        "import sys, typer; from metavox.cli.data_check import check; "
        "sys.exit(bool({'torch', 'numpy', 'soundfile'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
