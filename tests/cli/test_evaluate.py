"""``metavox evaluate --learner``: one training, several ways to adapt."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sounds
import torch

from metavox.checkpoint import build, load_model, rehead, save_model
from metavox.cli import main
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, FrontEnd

CONFIG = ModelConfig(
    front_end=FrontEnd(n_mels=20, n_frames=24, normalize=False),
    encoder=EncoderConfig(channels=16, blocks=1, dim=8),
    learner=LearnerConfig(name="joint", n_base_classes=5),
)
SHAPE = ["--ways", "3", "--shots", "1", "--queries", "2", "--episodes", "3", "--json"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sounds.word_folders(tmp_path_factory.mktemp("corpus") / "words", sounds.WORDS[:4], sounds.SPEAKERS[:1], 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    learner: Any = build(CONFIG, seed=1)
    inputs = torch.randn(4, 24, 20, generator=torch.Generator().manual_seed(0))
    learner.train().classify(Batch(inputs, torch.full((4,), 24), torch.zeros(4, dtype=torch.long), 5))
    folder = tmp_path_factory.mktemp("exp") / "small"
    save_model(folder, learner, CONFIG, {})
    return folder


@pytest.fixture
def evaluate(
    model: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))

    def call(learner: str, source: Path | str = model) -> tuple[int, str, str]:
        arguments = ["metavox", "evaluate", str(source), "--corpus", str(words), *SHAPE, "--learner", learner]
        monkeypatch.setattr(sys, "argv", arguments)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("linear_probe", {"name": "linear_probe"}),
        ("simpleshot,centring=l2n", {"name": "simpleshot", "centring": "l2n"}),
        ("joint,inner_steps=2,inner_lr=0.1", {"name": "joint", "inner_steps": 2, "inner_lr": 0.1}),
        ("joint,tracts=[0.9, 1.2]", {"name": "joint", "tracts": (0.9, 1.2)}),
    ],
)
def test_the_learner_is_the_one_that_was_asked_for(
    evaluate: Callable[..., tuple[int, str, str]], model: Path, text: str, asked: dict[str, Any]
) -> None:
    status, out, err = evaluate(text)
    assert status == 0, err
    found = json.loads(out)
    expected = rehead(load_model(model), CONFIG.learner.model_copy(update=asked))
    assert found["model_hash"] == expected.hash[:16]
    assert found["model"] == f"small as {text}"


def test_a_baseline_takes_other_settings_too(evaluate: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = evaluate("scratch,inner_steps=1", "scratch")
    assert status == 0, err
    assert json.loads(out)["model"] == "scratch as scratch,inner_steps=1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prototypes", "prototypes needs another training; evaluate it as joint or linear_probe or simpleshot."),
        ("svm", "learner.name is 'svm'; it must be one of prototypes, "),
        ("", "learner.name is ''; it must be one of prototypes, "),
        ("simpleshot,centrig=l2n", "unknown key learner.centrig; did you mean learner.centring?"),
        ("simpleshot,centring=l3", "learner.centring is 'l3': input should be 'none', 'l2n' or 'cl2n'."),
        ("simpleshot,l2n", "--learner has 'l2n', which is not of the form key=value; write for example"),
        ("linear_probe,probe_l2=0", "learner.probe_l2 is 0: input should be greater than 0."),
        ("joint,inner_steps=[", "has a value that is not YAML"),
        ("joint,n_base_classes=4", "do not fit learner joint with learner.n_base_classes=4"),
    ],
)
def test_what_cannot_be_asked_for_is_told_in_one_sentence(
    evaluate: Callable[..., tuple[int, str, str]], text: str, said: str
) -> None:
    status, out, err = evaluate(text)
    assert (status, out) == (2, "")
    assert err.startswith("metavox: ")
    assert said in err
    assert err.count("\n") == 1
    assert err.strip().endswith((".", "?"))


# -------------------------------------------------------------------------------------------------- what is told apart


@pytest.fixture
def ask(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Evaluate on a corpus that names its speakers, with further options."""
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    corpus = sounds.manifest_corpus(tmp_path / "named", sounds.WORDS[:5], sounds.SPEAKERS[:3], 2)

    def call(*options: str) -> tuple[int, str, str]:
        arguments = ["metavox", "evaluate", str(model), "--corpus", str(corpus), *SHAPE, "--learner", "linear_probe"]
        monkeypatch.setattr(sys, "argv", [*arguments, *options])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


def test_speakers_are_told_apart_when_asked(ask: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    status, out, err = ask("--along", "speaker", "--out", "rows.jsonl")
    assert status == 0, err
    found = json.loads(out)
    assert (found["along"], found["clustered_by"], found["ways"]) == ("speaker", "speaker", 3)
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert {row["label"] for row in rows} == {f"named:{who}" for who in sounds.SPEAKERS[:3]}
    assert all(row["label"] == f"named:{row['speaker']}" for row in rows)
    found = json.loads(ask()[1])
    assert (found["along"], found["clustered_by"]) == ("word", "word and speaker")


def test_only_the_listed_classes_are_drawn(ask: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("\n".join(sounds.WORDS[1:4]))
    status, _, err = ask("--classes", "test.txt", "--rows", "rows.jsonl")
    assert status == 0, err
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert {row["label"] for row in rows} == {f"xx:{word}" for word in sounds.WORDS[1:4]}
    assert {row["predicted"] for row in rows} <= {row["label"] for row in rows}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--along", "speakr"), "'speakr' is no axis; known are word, language, speaker"),
        (("--along", "rate"), "--along is 'rate', which no manifest says; choose among word, language, speaker"),
        (("--along", "age"), "No utterance says its age; add it to the rows of the manifest or choose another axis."),
        (("--along", "speaker", "--speakers", "disjoint"), "--speakers disjoint cannot be where speakers are told"),
        (("--classes", "none.txt"), "--classes is none.txt, which is no file here nor in METAVOX_DATA"),
        (("--classes", "wrong.txt"), "--classes names 'tulla', and no recording is of that class; did you mean tula?"),
        (("--minutes", "1"), "--minutes belongs to --protocol transcription"),
    ],
)
def test_what_cannot_be_told_apart_is_one_sentence(
    ask: Callable[..., tuple[int, str, str]], tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "wrong.txt").write_text("rime\ntulla\n")
    status, out, err = ask(*options)
    assert (status, out) == (2, "")
    assert err.startswith(f"metavox: {sentence}")
    assert err.count("\n") == 1
