"""The verb ``data import``: what is printed where, the exit status, and what is left after a refusal."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sounds

from metavox.cli import main


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def metavox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The command line in a folder of its own, as a user meets it."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["metavox", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return Done(int(stopped.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def kaldi(tmp_path: Path) -> Path:
    """A data directory of two recordings, one of which is broken."""
    folder = tmp_path / "train"
    sounds.write(folder / "a.wav", sounds.say("tula"))
    (folder / "b.wav").write_bytes(b"no sound")
    (folder / "wav.scp").write_text("r1 a.wav\nr2 b.wav\n")
    (folder / "text").write_text("r1 tula\nr2 rime\n")
    (folder / "utt2spk").write_text("r1 anna\nr2 bela\n")
    return folder


def test_an_import_says_what_it_did_and_what_comes_next(
    metavox: Callable[..., Done], kaldi: Path, tmp_path: Path
) -> None:
    done = metavox("data", "import", kaldi, "--out", "my words", "--lang", "sw")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "utterances: 1, hours: 0.00, speakers: 1, languages: sw, format: kaldi",
        "Next: metavox data check 'my words'",
    ]
    assert "1 of 2 skipped, see my words/IMPORT.json; the first, r2: " in done.stderr
    assert "b.wav cannot be decoded" in done.stderr
    check = metavox("data", "check", "my words")
    assert check.returncode == 0, check.stdout


def test_json_is_one_object_and_nothing_else(metavox: Callable[..., Done], kaldi: Path, tmp_path: Path) -> None:
    done = metavox("data", "import", kaldi, "--out", "out", "--json", "--format", "kaldi")
    answer = json.loads(done.stdout)
    assert (answer["out"], answer["format"], answer["n_utterances"], answer["skipped"]) == ("out", "kaldi", 1, 1)
    assert "b.wav" in answer["first_reason"]


def test_a_command_is_refused_then_run_with_trust_and_shown(
    metavox: Callable[..., Done], kaldi: Path, tmp_path: Path
) -> None:
    (kaldi / "wav.scp").write_text("r1 touch ran; cat train/a.wav |\nr2 train/b.wav\n")
    refused = metavox("data", "import", kaldi, "--out", "out")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert [line for line in refused.stderr.splitlines() if line.strip()] == [
        "metavox: train/wav.scp:1: the recording comes from the command 'touch ran; cat train/a.wav |'; read what it "
        "does, then run again with --trust, or write its output to a file and name that."
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train"]
    trusted = metavox("data", "import", kaldi, "--out", "out", "--trust")
    assert trusted.returncode == 0, trusted.stderr
    assert "--trust: running 1 command that the source names: touch ran; cat train/a.wav" in trusted.stderr
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("none",), "'none' does not exist"),
        (("train", "--format", "htk"), "'htk' is no format; choose one of shar, lhotse, kaldi"),
        (("train/a.wav",), "in no format that can be recognised"),
        (("none", "--format", "lhotse"), "'none' does not exist; check the path."),
        (("train", "--tier", "words"), "'kaldi' has no tiers, so there is no 'words' to read; leave --tier out."),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(
    metavox: Callable[..., Done], kaldi: Path, tmp_path: Path, words: tuple[str], sentence: str
) -> None:
    done = metavox("data", "import", *words, "--out", "out")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_nothing_and_says_so(
    metavox: Callable[..., Done], kaldi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("metavox.data.interchange.write._keep", stop)
    done = metavox("data", "import", kaldi, "--out", "out")
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "metavox: stopped; nothing was written."
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_the_verb_shows_an_example(metavox: Callable[..., Done]) -> None:
    assert "Example: metavox data import" in metavox("data", "import", "--help").stdout
