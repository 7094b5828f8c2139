"""The verb ``data info``: what is printed where, and the exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from metavox.cli.data_info import info
from metavox.errors import InputError
from tests.sounds import manifest_corpus, word_folders

app = typer.Typer()
app.command()(info)
runner = CliRunner()


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return manifest_corpus(tmp_path / "[red]train", ("tula", "rime"), ("anna", "bela"))


@pytest.fixture
def test(tmp_path: Path) -> Path:
    return manifest_corpus(tmp_path / "test", ("tula", "sakko"), ("carl",))


def test_a_corpus_is_described_and_status_is_0(train: Path) -> None:
    result = runner.invoke(app, [str(train), "--strict"])
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert str(train) in result.stdout
    assert "8 in 0.1 minutes" in lines["utterances"]
    assert "2, each with 4 takes" in lines["classes"]
    assert "8: a e i l m r t u" in lines["symbols"]
    assert "16,000 Hz (8)" in lines["rates"]
    assert "Leaks" not in result.stdout


def test_leaks_are_shown_and_strict_counts_those_that_are_not_allowed(train: Path, test: Path) -> None:
    calls = ([str(train), str(test)], [str(train), "--corpus", str(test)])
    one, two = (runner.invoke(app, call) for call in calls)
    assert one.exit_code == two.exit_code == 0
    assert one.stdout == two.stdout
    (line,) = (line for line in one.stdout.splitlines() if line.startswith("1 word"))
    assert "[red]train and test" in line
    assert "4 and 2" in line
    assert line.rstrip().endswith("tula")
    assert runner.invoke(app, [*calls[0], "--strict"]).exit_code == 2
    assert runner.invoke(app, [*calls[0], "--strict", "--allow", "word"]).exit_code == 0
    assert runner.invoke(app, [*calls[0], "--strict", "--allow", "speaker"]).exit_code == 2


def test_every_symbol_can_be_seen(tmp_path: Path) -> None:
    root = word_folders(tmp_path / "ml", ("ക്‍",), ("anna",), 1)  # a letter, a mark and a joiner
    (line,) = (line for line in runner.invoke(app, [str(root)]).stdout.splitlines() if line.startswith("symbols"))
    assert set(line.split()[2:]) == {"ക", "\u25cc\u0d4d", "U+200D"}


def test_no_leak_is_said(train: Path, tmp_path: Path) -> None:
    other = word_folders(tmp_path / "other", ("golun",), ("dora",), 2)
    result = runner.invoke(app, [str(train), str(other), "--strict"])
    assert result.exit_code == 0
    assert "No leaks between 2 parts." in result.stdout


def test_json_is_one_object_with_flat_corpora(train: Path, test: Path) -> None:
    result = runner.invoke(app, [str(train), str(test), "--json"])
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert set(answer) == {"corpora", "parts", "leaks"}
    first = answer["corpora"][0]
    assert (first["utterances"], first["speakers"], first["classes"], first["takes_median"]) == (8, 2, 2, 4)
    assert first["languages"] == {"xx": 8}
    assert first["rates_hz"] == {"16000": 8}
    assert first["duration_s_p0"] <= first["duration_s_p50"] <= first["duration_s_p100"]
    assert answer["leaks"] == [
        {"kind": "word", "first": "[red]train", "second": "test", "n_shared": 1, "n_first": 4, "n_second": 2}
        | {"examples": ["tula"]}
    ]
    quiet = json.loads(runner.invoke(app, [str(train), "--json", "--no-audio"]).stdout)["corpora"][0]
    assert (quiet["rates_hz"], quiet["silent"]) == (None, None)


def test_what_cannot_be_used_is_one_sentence(train: Path, tmp_path: Path) -> None:
    for call, sentence in (
        (
            [str(train), "--allow", "noise"],
            "--allow noise is no kind of leak; choose from recording, speaker, sentence,",
        ),
        ([str(train), str(train)], "is named twice"),
        ([str(tmp_path / "none")], "is no folder here"),
    ):
        result = runner.invoke(app, call)
        assert isinstance(result.exception, InputError)
        assert sentence in str(result.exception)


def test_help_shows_an_example_and_needs_no_torch() -> None:
    assert "Example: metavox data info" in runner.invoke(app, ["--help"]).stdout
    code = (
        "import sys, typer; from metavox.cli.data_info import info; "
        "sys.exit(bool({'torch', 'numpy', 'soundfile'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
