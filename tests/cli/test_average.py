"""The verb ``average``: every form, what it prints and writes, and what other verbs make of what it wrote."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import sounds
import tonal
import torch
from calling import Metavox, Said

from metavox.averaging.members import AveragedLearner
from metavox.checkpoint import build, load_model, save_model
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import FrontEnd
from metavox.merging.forms import FORMS
from metavox.metrics import cer
from metavox.text.symbols import UNIVERSAL
from metavox.transcription.models import adapted, load_recogniser, save_adapted, save_recogniser

CONFIG = ModelConfig(
    front_end=FrontEnd(n_mels=20, n_frames=24, normalize=False),
    encoder=EncoderConfig(channels=16, blocks=1, dim=8),
    learner=LearnerConfig(match="soft"),
)
EPISODES = ["--ways", 3, "--shots", 1, "--episodes", 3]
MEMBERS = ("1", "2", "3")
READERS = ("adapted1", "adapted2", "adapted3")
SAID = tonal.texts(2, 5)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shelf")
    for seed in range(4):
        learner = build(CONFIG, seed=0)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for value in learner.parameters():
                value.add_(0.05 * seed * torch.randn(value.shape, generator=generator))
        save_model(root / str(seed), learner, CONFIG, {})
    sounds.word_folders(root / "words", sounds.WORDS[:4], ("anna", "bela"), 3)
    base = save_recogniser(root / "base", tonal.reader())
    for seed in (1, 2, 3):
        generator = torch.Generator().manual_seed(seed)
        values = base.net.state_dict()
        moved = {
            k: v + 0.05 * v.std(correction=0) * torch.randn(v.shape, generator=generator) for k, v in values.items()
        }
        save_adapted(root / f"adapted{seed}", adapted(base, moved, UNIVERSAL))
    tonal.corpus(root / "dev", tonal.texts(4, 9), seed=90)
    for i, text in enumerate(SAID):
        soundfile.write(root / f"said{i}.wav", tonal.said(text, seed=40 + i), 16_000)
    return root


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, metavox: Metavox) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def places(shelf: Path, names: tuple[str, ...]) -> list[Path]:
    return [shelf / name for name in names]


def options(form: str, base: Path) -> list[Any]:
    return ["--form", form, *(["--base", base] if form == "task-vector" else [])]


Refused = Callable[..., str]


@pytest.fixture
def refused(metavox: Metavox) -> Refused:
    """Call the entry point, hold the refusal to the rules, and give its sentence."""

    def call(*arguments: Any) -> str:
        before = sounds.files_below(Path())
        told = metavox("average", *arguments)
        assert (told.status, told.out) == (2, "")
        assert told.err.count("\n") == 1, told.err
        assert told.err.startswith("metavox: ")
        assert told.err.endswith((".\n", "?\n"))
        assert sounds.files_below(Path()) == before
        assert not list(Path().rglob(".*"))
        return told.err

    return call


def flat(told: Said) -> dict[str, Any]:
    """The summary: one document, no objects within, no number that JSON has not."""
    assert told.status == 0, told.err
    found: dict[str, Any] = json.loads(told.out, parse_constant=pytest.fail)
    assert not any(isinstance(value, dict) for value in found.values())
    return found


# ------------------------------------------------------------------------------------------------------------ the forms


@pytest.mark.parametrize("form", [form for form in FORMS if form != "rover"])
def test_models_of_words_in_every_form(metavox: Metavox, shelf: Path, form: str) -> None:
    dev = ["--dev", shelf / "words", *EPISODES]
    call = ["average", *places(shelf, MEMBERS), *options(form, shelf / "0")]
    found = flat(metavox(*call, *dev, "--out", "judged", "--json"))
    assert (found["metric"], found["form"], found["model"], found["members"]) == (
        "accuracy",
        form,
        "judged",
        ["1", "2", "3"],
    )
    assert (found["n"], found["corpus"], found["episodes"], found["seed"]) == (3 * 3 * 5, str(shelf / "words"), 3, 0)
    assert len(found["member_means"]) == len(found["weights"]) == 3
    assert 0 <= found["mean"] <= 1
    assert found["identical"] is False
    assert found["warning"] is None
    of_predictions = form in ("mean", "log-mean")
    assert isinstance(load_model("judged").learner, AveragedLearner) == of_predictions
    told = metavox(*call, *dev)
    assert told.status == 0, told.err
    assert [line.split()[0] for line in told.out.splitlines()[1:5]] == ["1", "2", "3", form]
    assert f"{100 * found['mean']:.1f}" in told.out
    assert "Members err on" in told.out
    if form != "greedy-soup":
        plain = metavox(*call, "--out", "plain")
        assert (plain.status, plain.out) == (0, "Wrote plain.\n")
        assert load_model("plain").folder == Path("plain")


@pytest.mark.parametrize("form", FORMS)
def test_recognisers_in_every_form(metavox: Metavox, shelf: Path, form: str) -> None:
    call = ["average", *places(shelf, READERS), *options(form, shelf / "base"), "--dev", shelf / "dev"]
    found = flat(metavox(*call, "--out", "judged", "--json"))
    assert (found["metric"], found["form"], found["n"]) == ("cer", form, 4)
    assert found["members"] == list(READERS)
    assert found["mean"] <= max(found["member_means"]) + 0.05
    assert (found["bias"], found["variance"]) == (None, None)
    assert load_recogniser("judged").name == "judged"


def test_without_development_data_figures_are_null(metavox: Metavox, shelf: Path) -> None:
    found = flat(metavox("average", *places(shelf, MEMBERS), "--out", "plain", "--json"))
    for key in ("mean", "member_means", "n", "corpus", "episodes", "disagreement", "identical", "warning"):
        assert found[key] is None
    assert found["weights"] == pytest.approx([1 / 3] * 3)


def test_a_corpus_of_few_words_is_said_to_have_few(metavox: Metavox, shelf: Path) -> None:
    told = metavox("average", *places(shelf, MEMBERS), "--dev", shelf / "words", "--shots", 1, "--episodes", 2)
    assert told.status == 0, told.err
    assert "4 classes have enough takes, fewer than the 10 ways asked for; all 4 are used." in told.err


def test_models_that_are_one_are_warned_of(metavox: Metavox, shelf: Path) -> None:
    sentence = "these 2 models make identical predictions: averaging changes nothing; vary data, seed or architecture"
    call = ["average", shelf / "1", shelf / "1"]
    assert f"Warning: {sentence}." in metavox(*call, "--out", "one").err
    judged = [*call, "--dev", shelf / "words", *EPISODES]
    assert f"Warning: {sentence}." in metavox(*judged).out
    found = flat(metavox(*judged, "--json"))
    assert (found["warning"], found["identical"]) == (sentence, True)


def test_the_help_has_an_example_of_each_kind(metavox: Metavox) -> None:
    told = metavox("average", "--help")
    assert told.status == 0
    text = " ".join(told.out.split())
    for part in ("Example: metavox average", "--form soup", "--dev", "--form rover"):
        assert part in text


# --------------------------------------------------------------------------------------------------------- every verb


@pytest.mark.parametrize("form", ["mean", "soup"])
def test_other_verbs_open_an_average_of_words(metavox: Metavox, shelf: Path, form: str) -> None:
    assert metavox("average", *places(shelf, MEMBERS), "--form", form, "--out", "house-model").status == 0
    asked = ["--corpus", shelf / "words", "--queries", 1, *EPISODES]
    found = json.loads(metavox("evaluate", "house-model", *asked, "--json").out)
    assert found["model"] == "house-model"
    assert 0 <= found["mean"] <= 1
    told = metavox("enroll", "house-model", shelf / "words", "--out", "profile")
    assert told.status == 0, told.err
    clip = shelf / "words" / sounds.WORDS[0] / "anna-0.wav"
    heard = metavox("recognize", "profile", clip)
    assert heard.status == 0, heard.err
    assert sounds.WORDS[0] in heard.out
    changed = metavox("enroll", "--into", "profile", "--remove", sounds.WORDS[3])
    assert changed.status == 0, changed.err
    assert "no takes were given" in metavox("enroll", "house-model").err


@pytest.mark.parametrize("form", ["mean", "rover", "soup"])
def test_other_verbs_open_an_average_of_recognisers(metavox: Metavox, shelf: Path, form: str) -> None:
    assert metavox("average", *places(shelf, READERS), "--form", form, "--out", "reader").status == 0
    told = metavox("transcribe", "reader", shelf / "said0.wav", shelf / "said1.wav", "--json")
    assert told.status == 0, told.err
    rows = json.loads(told.out)
    assert [row["model"] for row in rows] == ["reader", "reader"]
    assert float(cer(SAID, [row["text"] for row in rows]).rate) < 0.3
    words = [word for row in rows for word in row["words"]]
    assert all(word["end_s"] > word["start_s"] >= 0 for word in words)


def test_other_verbs_say_what_an_average_of_predictions_cannot_do(metavox: Metavox, shelf: Path) -> None:
    assert metavox("average", *places(shelf, READERS), "--form", "rover", "--out", "reader").status == 0
    assert metavox("average", *places(shelf, MEMBERS), "--out", "house-model").status == 0
    for call, sentence in (
        (["adapt", "reader", shelf / "dev", "--out", "more"], "no weights of its own to adapt"),
        (["adapt", "reader"], "reader is a model and no recordings were given"),
        (
            ["evaluate", "reader", "--corpus", shelf / "words", *EPISODES],
            "transcribes; name a model that tells words apart",
        ),
        (["transcribe", "house-model", shelf / "said0.wav"], "tells words apart; name a model that transcribes"),
        (["bench", "house-model"], "has several encoders; time its members one by one"),
        (["enroll", "house-model", shelf / "words", "--out", "p", "--negatives", shelf / "words"], "--form soup"),
        (["average", "reader", shelf / "adapted1", "--out", "more"], "reader is an average already; name its members"),
    ):
        told = metavox(*call)
        assert (told.status, told.out) == (2, ""), told
        assert told.err.count("\n") == 1
        assert sentence in told.err
    assert sorted(path.name for path in Path().iterdir()) == ["house-model", "reader"]


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["1", "2"], "Neither --out nor --dev is given"),
        (["--out", "new"], "No model was given to average; name two or more"),
        (["1", "--out", "new"], "1 model was given to average; name two or more"),
        (["1", "nowhere", "--out", "new"], "nowhere holds no model"),
        (["1", "adapted1", "--out", "new"], "adapted1 transcribes; average models of one kind"),
        (["1", "2", "--form", "best", "--out", "new"], "--form is 'best'; choose from"),
        (["1", "2", "--form", "rover", "--out", "new"], "votes on transcripts, and these models tell words apart"),
        (["1", "2", "--form", "greedy-soup", "--out", "new"], "name a corpus with --dev"),
        (["1", "2", "--form", "task-vector", "--out", "new"], "name it with --base"),
        (["1", "2", "--form", "ema", "--decay", 2, "--out", "new"], "--decay is 2"),
        (["1", "2", "--scale", 1, "--out", "new"], "--scale is for --form task-vector"),
        (["1", "2", "--dev", "nowhere"], "give the path of a folder"),
        (["1", "2", "--dev", "words", "--ways", 1], "'--ways'"),
        (["1", "2", "--dev", "words", "--episodes", 0], "'--episodes'"),
        (["1", "2", "--dev", "words", "--seed", -1], "'--seed'"),
        (["1", "2", "--dev", "words", "--shots", 9], "ask for fewer shots or record more takes"),
        (["1", "2", "--dev", "dev"], "No utterance has a label"),
        (["adapted1", "adapted2", "--dev", "1"], "neither manifest.jsonl nor word folders"),
    ],
)
def test_what_cannot_be_averaged_is_refused_in_one_sentence(
    refused: Refused, shelf: Path, arguments: list[Any], sentence: str
) -> None:
    there = {path.name for path in shelf.iterdir()}
    call = [shelf / one if one in there else one for one in arguments]
    assert sentence in refused(*call)


def test_task_vectors_take_a_scale_for_all_or_for_each(refused: Refused, metavox: Metavox, shelf: Path) -> None:
    call = [*places(shelf, MEMBERS), *options("task-vector", shelf / "0"), "--out", "new"]
    assert "--scale is given 2 times and there are 3 models" in refused(*call, "--scale", 1, "--scale", 2)
    assert "--scale is nan" in refused(*call, "--scale", "nan")
    found = flat(metavox("average", *call, "--scale", 1, "--scale", -0.5, "--scale", 0, "--json"))
    assert found["weights"] == [1.0, -0.5, 0.0]


def test_a_place_that_is_taken_is_told_before_anything_is_read(refused: Refused, shelf: Path) -> None:
    models = places(shelf, MEMBERS)
    assert ". is the working folder" in refused(*models, "--out", ".")
    Path("taken").mkdir()
    Path("taken/mine.txt").write_text("mine")
    Path("file").write_text("a file")
    assert "taken is not empty; choose another --out" in refused(*models, "--out", "taken")
    assert "file is not empty" in refused(*models, "--out", "file")
    assert "since" in refused(*models, "--out", "file/below")


def test_an_empty_folder_is_filled_and_a_link_to_one_too(metavox: Metavox, shelf: Path) -> None:
    Path("empty").mkdir()
    Path("real").mkdir()
    Path("link").symlink_to("real")
    for name in ("empty", "link", "deep/down/new"):
        told = metavox("average", *places(shelf, MEMBERS), "--out", name)
        assert told.status == 0, told.err
        assert load_model(name).name in (name.rsplit("/", maxsplit=1)[-1], "real")
    assert not list(Path().rglob(".*"))
