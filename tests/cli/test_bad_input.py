"""Whatever is wrong: status 2, one sentence that names it with a remedy, no traceback, nothing half written."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import yaml

from metavox.checkpoint import load_model, save_model
from metavox.cli import main

SHAPE = ["--ways", "2", "--shots", "1", "--queries", "1", "--episodes", "2"]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("METAVOX_DATA", raising=False)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Call the entry point, hold the refusal to the rules, and give its sentence."""

    def call(*arguments: Any) -> str:
        before = sounds.files_below(tmp_path / "work")
        monkeypatch.setattr(sys, "argv", ["metavox", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert stop.value.code == 2
        assert captured.out == ""
        assert captured.err.count("\n") == 1, captured.err
        assert captured.err.startswith("metavox: ")
        text = captured.err.removeprefix("metavox: ").strip()
        assert text.endswith((".", "?"))
        assert "Traceback" not in text
        assert sounds.files_below(tmp_path / "work") == before
        assert not [path for path in (tmp_path / "work").rglob(".*")]
        return text

    return call


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shelf")
    sounds.word_folders(root / "words", sounds.WORDS[:3], ("anna",), 3)
    sounds.manifest_corpus(root / "unlabelled", sounds.WORDS[:2], ("anna",), 2, without=["label"])
    sounds.manifest_corpus(root / "unnamed", sounds.WORDS[:2], ("anna", "bela"), 2, without=["speaker"])
    sounds.manifest_corpus(root / "lonely", sounds.WORDS[:2], ("anna",), 4)
    sounds.word_folders(root / "single", sounds.WORDS[:1], ("anna",), 3)
    (root / "empty").mkdir()
    (root / "bare" / "word").mkdir(parents=True)
    return root


# ------------------------------------------------------------------------------------------------------ how it is said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluat"], "No such command 'evaluat'"),
        (["data", "look"], "No such command 'look'"),
        (["evaluate", "dtw", "--corpus", "x", "--wayz", "3"], "No such option: --wayz"),
        (["evaluate"], "Missing argument 'model'"),
        (["evaluate", "dtw"], "Missing option '--corpus'"),
        (["evaluate", "dtw", "--corpus", "x", "--ways", "-1"], "'--ways'"),
        (["evaluate", "dtw", "--corpus", "x", "--ways", "1"], "'--ways'"),
        (["evaluate", "dtw", "--corpus", "x", "--shots", "0"], "'--shots'"),
        (["evaluate", "dtw", "--corpus", "x", "--queries", "0"], "'--queries'"),
        (["evaluate", "dtw", "--corpus", "x", "--episodes", "0"], "'--episodes'"),
        (["evaluate", "dtw", "--corpus", "x", "--episodes", "many"], "'--episodes'"),
        (["evaluate", "dtw", "--corpus", "x", "--seed", "-1"], "'--seed'"),
        (["evaluate", "dtw", "--corpus", "x", "--speakers", "same"], "'any', 'disjoint'"),
        (["evaluate", "dtw", "--corpus", "x", "--protocol", "dance"], "'--protocol'"),
        (["recognize", "profile"], "Missing argument 'files"),
        (["demo", "--minutes", "-1"], "'--minutes'"),
        (["train"], "Missing argument 'recipe'"),
    ],
)  # fmt: skip
def test_a_call_that_cannot_be_understood_names_the_help(
    refused: Callable[..., str], arguments: list[str], said: str
) -> None:
    text = refused(*arguments)
    assert said.lower() in text.lower()  # typer writes the names of arguments in either case
    assert "see `metavox" in text
    assert "--help`." in text


# ------------------------------------------------------------------------------------------------------------ corpora


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "give the path of a folder"),
        ("x" * 4000, "give the path of a folder"),
        ("nul\0byte", "give the path of a folder"),
        ("empty", "neither manifest.jsonl nor word folders"),
        ("bare", "neither manifest.jsonl nor word folders"),
        ("unlabelled", "add label to the rows"),
        ("single", "1 of 1 classes"),
    ],
)
def test_a_corpus_that_cannot_be_used(refused: Callable[..., str], shelf: Path, name: str, said: str) -> None:
    place = shelf / name if (name in os.listdir(shelf)) else name
    text = refused("evaluate", "dtw", "--corpus", place, *SHAPE, "--out", "rows.jsonl", "--json")
    assert said in text


def test_a_corpus_named_twice(refused: Callable[..., str], shelf: Path) -> None:
    call = ["evaluate", "dtw", "--corpus", shelf / "words", "--corpus", shelf / "words", *SHAPE]
    assert "twice" in refused(*call)


def test_more_shots_than_takes(refused: Callable[..., str], shelf: Path) -> None:
    text = refused("evaluate", "dtw", "--corpus", shelf / "words", "--ways", 2, "--shots", 3)
    assert "0 of 3 classes have the 4 takes" in text
    assert "ask for fewer shots or record more takes" in text


@pytest.mark.parametrize("name", ["words", "unnamed"])
def test_speakers_that_nobody_named_cannot_be_kept_apart(refused: Callable[..., str], shelf: Path, name: str) -> None:
    text = refused("evaluate", "dtw", "--corpus", shelf / name, *SHAPE, "--speakers", "disjoint")
    assert "name no speaker; label them or use --speakers any" in text


def test_one_speaker_cannot_be_kept_apart(refused: Callable[..., str], shelf: Path) -> None:
    text = refused("evaluate", "dtw", "--corpus", shelf / "lonely", *SHAPE, "--speakers", "disjoint")
    assert "all 8 utterances are by one speaker; add recordings by somebody else" in text


def test_the_last_corpus_is_looked_at_before_the_first_is_scored(
    refused: Callable[..., str], shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metavox.evaluation import protocols

    monkeypatch.setattr(protocols, "evaluate", lambda *args, **options: pytest.fail("scored too early"))
    refused("evaluate", "dtw", "--corpus", shelf / "words", "--corpus", shelf / "single", *SHAPE)


def row(**changes: Any) -> str:
    wave = sounds.say("tula")
    whole = {"audio_filepath": "a.wav", "duration": len(wave) / 16_000, "text": "tula", "label": "tula"}
    return json.dumps({key: value for key, value in {**whole, **changes}.items() if value is not KeyError})


BAD_ROWS = {
    "missing key": (row(text=KeyError), "the key text is missing"),
    "no audio key": (row(audio_filepath=KeyError), "the key audio_filepath is missing"),
    "negative duration": (row(duration=-1), "duration is -1 s and must be above 0"),
    "duplicate id": (row(id="x") + "\n" + row(id="x", audio_filepath="b.wav"), "the id 'x' is already that of"),
    "a path outside": (row(audio_filepath="../a.wav"), "leaves the corpus folder"),
    "an absolute path": (row(audio_filepath="/etc/passwd"), "is absolute"),
    "no such file": (row(audio_filepath="gone.wav"), "does not exist"),
    "not UTF-8": (b"\xff\xfe{}", "UTF"),
    "not JSON": ("{audio", "not JSON"),
    "a number": ("3", "must be an object"),
    "empty": ("", "has no rows"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_manifest_row_that_is_wrong(refused: Callable[..., str], tmp_path: Path, name: str) -> None:
    folder = tmp_path / "corpus"
    for file in ("a.wav", "b.wav"):
        sounds.write(folder / file, sounds.say("tula"))
    text, said = BAD_ROWS[name]
    (folder / "manifest.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    for call in (
        ["evaluate", "dtw", "--corpus", folder, *SHAPE],
        ["enroll", "dtw", folder, "--out", "house"],
        ["train", recipe(tmp_path, folder), "--out", "model"],
    ):
        assert said in refused(*call)


def bad_clip(path: Path, kind: str) -> Path:
    wave = sounds.say("tula")
    if kind in ("empty", "not audio"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if kind == "empty" else b"these are no samples at all")
    elif kind == "truncated":
        sounds.write(path, wave)
        path.write_bytes(path.read_bytes()[:8000])
    elif kind != "missing":
        bad = {"silent": np.zeros(16_000), "short": wave[3000:3800], "clipped": np.clip(wave * 40, -1, 1)}[kind]
        sounds.write(path, bad.astype(np.float32))
    return path


@pytest.mark.parametrize("kind", ["empty", "not audio", "truncated", "silent"])
def test_a_recording_that_cannot_be_used_in_a_corpus(refused: Callable[..., str], tmp_path: Path, kind: str) -> None:
    folder = sounds.word_folders(tmp_path / "corpus", sounds.WORDS[:2], ("anna",), 3)
    bad_clip(folder / sounds.WORDS[0] / "bad.wav", kind)
    for call in (
        ["evaluate", "nearest_mean", "--corpus", folder, *SHAPE, "--out", "rows.jsonl"],
        ["train", recipe(tmp_path, folder), "--out", "model"],
    ):
        assert "bad" in refused(*call)


# ------------------------------------------------------------------------------------------------ enroll and recognize


@pytest.mark.parametrize("kind", ["empty", "not audio", "truncated", "silent", "short", "clipped"])
def test_a_take_that_cannot_be_enrolled(refused: Callable[..., str], tmp_path: Path, kind: str) -> None:
    folder = sounds.word_folders(tmp_path / "takes", sounds.WORDS[:2], ("anna",), 3)
    bad_clip(folder / sounds.WORDS[0] / "bad.wav", kind)
    assert "bad" in refused("enroll", "dtw", folder, "--out", "house")


def test_takes_that_are_not_there_or_too_few(refused: Callable[..., str], shelf: Path, tmp_path: Path) -> None:
    assert "does not exist" in refused("enroll", "dtw", "nowhere", "--out", "house")
    assert "neither" in refused("enroll", "dtw", shelf / "empty", "--out", "house")
    assert "make a folder per word" in refused("enroll", "dtw", shelf / "unlabelled", "--out", "house")
    assert "record two takes of two words" in refused("enroll", "dtw", shelf / "single", "--out", "house")


def test_a_profile_is_not_written_over_something_else(refused: Callable[..., str], shelf: Path) -> None:
    Path("photos").mkdir()
    Path("photos/me.jpg").write_text("me")
    Path("file").write_text("mine")
    for taken in ("photos", "file"):
        assert "exists and is no profile" in refused("enroll", "dtw", shelf / "words", "--out", taken)


def test_learners_that_cannot_enrol(refused: Callable[..., str], shelf: Path) -> None:
    assert "learner.name=prototypes" in refused("enroll", "nearest_mean", shelf / "words", "--out", "house")


@pytest.fixture
def house(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "house"
    monkeypatch.setattr(sys, "argv", ["metavox", "enroll", "dtw", str(shelf / "words"), "--out", str(folder)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code, capsys.readouterr()
    return folder


@pytest.mark.parametrize("kind", ["missing", "empty", "not audio", "truncated", "silent", "short"])
def test_a_file_that_cannot_be_recognised(refused: Callable[..., str], house: Path, tmp_path: Path, kind: str) -> None:
    good = sounds.write(tmp_path / "good.wav", sounds.say("tula", take=9))
    for json_out in ([], ["--json"]):
        assert "bad.wav" in refused("recognize", house, good, bad_clip(tmp_path / "bad.wav", kind), *json_out)


def test_all_files_that_cannot_be_recognised_are_named(
    refused: Callable[..., str], house: Path, tmp_path: Path
) -> None:
    good = sounds.write(tmp_path / "good.wav", sounds.say("tula", take=9))
    kinds = ["missing", "empty", "silent"]
    text = refused("recognize", house, good, *(bad_clip(tmp_path / f"{kind}.wav", kind) for kind in kinds))
    assert "3 of 4 takes cannot be used" in text
    assert all(f"{kind}.wav" in text for kind in kinds)
    assert "good.wav" not in text


def test_a_profile_that_cannot_be_read(refused: Callable[..., str], house: Path, shelf: Path, tmp_path: Path) -> None:
    clip = sounds.write(tmp_path / "good.wav", sounds.say("tula"))
    assert "holds no model" in refused("recognize", "nowhere", clip)
    assert "holds no model" in refused("recognize", shelf / "words", clip)
    (house / "state.safetensors").write_bytes((house / "state.safetensors").read_bytes()[:100])
    assert "damaged or truncated" in refused("recognize", house, clip)
    (house / "profile.json").write_text('{"library": "metavox", "format": 99, "version": "9.9"}')
    assert "install the version that wrote it (9.9)" in refused("recognize", house, clip)
    (house / "profile.json").write_text('{"library":')
    assert "damaged or truncated" in refused("recognize", house, clip)


def test_recognising_with_a_model_that_was_only_trained(refused: Callable[..., str], tmp_path: Path) -> None:
    clip = sounds.write(tmp_path / "good.wav", sounds.say("tula"))
    assert "enroll" in refused("recognize", "dtw", clip)


# ------------------------------------------------------------------------------------------------- models and recipes


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    found = load_model("dtw")
    save_model(folder, found.learner, found.config, {})
    return folder


@pytest.mark.parametrize("damage", ["cut", "gone", "version", "encoder", "config"])
def test_a_model_that_cannot_be_read(refused: Callable[..., str], model: Path, shelf: Path, damage: str) -> None:
    weights, config = model / "model.safetensors", model / "config.json"
    document = json.loads(config.read_text())
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:20])
    elif damage == "gone":
        weights.unlink()
    elif damage == "version":
        config.write_text(json.dumps({**document, "format": 7}))
    elif damage == "encoder":
        document["model"]["encoder"]["name"] = "conv"
        config.write_text(json.dumps(document))
    else:
        config.write_text(config.read_text()[:-40])
    for call in (
        ["evaluate", model, "--corpus", shelf / "words", *SHAPE],
        ["enroll", model, shelf / "words", "--out", "house"],
    ):
        refused(*call)


def test_no_model_names_the_baselines(refused: Callable[..., str], shelf: Path) -> None:
    assert "nearest_mean, dtw" in refused("evaluate", "nowhere", "--corpus", shelf / "words", *SHAPE)
    assert "nearest_mean, dtw" in refused("enroll", shelf, shelf / "words", "--out", "house")


def recipe(folder: Path, corpus: Path, **sections: Any) -> Path:
    tree = {
        "model": {"front_end": {"n_mels": 20}, "encoder": {"channels": 16, "blocks": 1}, "learner": {"match": "soft"}},
        "data": {"corpora": [str(corpus)]},
        "episodes": {"ways": 2, "shots": 1, "queries": 1},
        "train": {"steps": 1, "validation_episodes": 1},
    }
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section} if isinstance(section, dict) else section
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"train": {"stepz": 3}}, "unknown key train.stepz; did you mean train.steps?"),
        ({"trian": {}}, "unknown key trian; did you mean train?"),
        ({"train": {"steps": "many"}}, "train.steps is 'many'"),
        ({"train": {"seed": -1}}, "train.seed is -1"),
        ({"model": {"learner": {"name": "svm"}}}, "it must be one of prototypes"),
        ({"model": {"learner": {"name": "dtw"}}}, "learners that can be trained: prototypes"),
        ({"model": {"encoder": {"name": "rnn"}}}, "encoder.name is 'rnn'"),
        ({"model": {"encoder": {"kernel": 4}}}, "it must be odd"),
        ({"model": {"front_end": {"high_hz": 9000}}}, "at most 8000"),
        ({"episodes": {"shots": 30}}, "lower episodes.shots"),
        ({"data": {"corpora": ["./nowhere"]}}, "./nowhere"),
        ({"data": {"corpora": ["nowhere"]}}, "set METAVOX_DATA"),
        ({"data": {"corpora": ["nul\0byte"]}}, "set METAVOX_DATA"),
        ({"data": {"leave_out_corpora": ["x"]}}, "data.leave_out_corpora names x"),
        ({"data": {"synth": {"language": ["en"]}}}, "unknown key language; did you mean languages?"),
    ],
)
def test_a_recipe_that_cannot_be_trained_leaves_nothing(
    refused: Callable[..., str], shelf: Path, tmp_path: Path, sections: dict[str, Any], said: str
) -> None:
    assert said in refused("train", recipe(tmp_path, shelf / "words", **sections), "--out", "model")
    assert not Path("model").exists()


def test_a_recipe_that_is_none(refused: Callable[..., str], shelf: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, shelf / "words")
    assert "does not exist" in refused("train", "nowhere.yaml", "--out", "model")
    assert "cannot be read" in refused("train", shelf, "--out", "model")
    assert "section.key=value" in refused("train", path, "steps", "--out", "model")
    assert "did you mean train.steps?" in refused("train", path, "train.step=3", "--out", "model")


def test_a_folder_that_is_taken_is_told_before_anything_is_computed(
    refused: Callable[..., str], shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metavox.data import selection

    monkeypatch.setattr(selection, "select_tasks", lambda *args: pytest.fail("computed too early"))
    Path("taken").mkdir()
    Path("taken/mine.txt").write_text("mine")
    path = recipe(tmp_path, shelf / "words")
    assert "use --resume to go on, or another --out" in refused("train", path, "--out", "taken")
    assert "holds no training to resume" in refused("train", path, "--out", "nowhere", "--resume")


# ------------------------------------------------------------------------------------------- the disk and permissions


@pytest.mark.parametrize("out", ["folder", "file/rows.jsonl"])
def test_rows_that_cannot_be_written_are_told_before_anything_is_scored(
    refused: Callable[..., str], shelf: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metavox.evaluation import protocols

    monkeypatch.setattr(protocols, "evaluate", lambda *args, **options: pytest.fail("scored too early"))
    Path("folder").mkdir()
    Path("file").write_text("mine")
    refused("evaluate", "dtw", "--corpus", shelf / "words", *SHAPE, "--out", out)


def test_outputs_below_a_file_cannot_be_made(refused: Callable[..., str], shelf: Path, tmp_path: Path) -> None:
    Path("file").write_text("mine")
    assert "file" in refused("enroll", "dtw", shelf / "words", "--out", "file/house")
    assert "file" in refused("train", recipe(tmp_path, shelf / "words"), "--out", "file/model")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "permissions"), (errno.EROFS, "permissions"), (errno.EIO, "")],
)
def test_a_disk_that_fails_is_a_sentence(
    refused: Callable[..., str], shelf: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def fails(*args: Any) -> None:
        raise OSError(number, os.strerror(number), "/some/place")

    monkeypatch.setattr("metavox.checkpoint.os.replace", fails)
    text = refused("enroll", "dtw", shelf / "words", "--out", "house")
    assert "/some/place" in text
    assert os.strerror(number) in text
    assert remedy in text


def test_rows_are_whole_or_not_there(refused: Callable[..., str], shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("rows.jsonl").write_text("the rows of before\n")

    def fails(*args: Any, **options: Any) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("metavox.cli.output.json.dumps", fails)
    assert "No space left" in refused("evaluate", "dtw", "--corpus", shelf / "words", *SHAPE, "--out", "rows.jsonl")
    assert Path("rows.jsonl").read_text() == "the rows of before\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_a_sentence(refused: Callable[..., str], shelf: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "permissions" in refused("enroll", "dtw", shelf / "words", "--out", locked / "house")


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch, shelf: Path) -> None:
    """A traceback of a real bug is what a report needs: only foreseen faults become sentences."""

    def bug(*args: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("metavox.checkpoint.load_model", bug)
    monkeypatch.setattr(sys, "argv", ["metavox", "evaluate", "dtw", "--corpus", str(shelf / "words")])
    with pytest.raises(RuntimeError, match="a bug"):
        main()


# ---------------------------------------------------------------------------------------------------- as real processes


def test_a_process_says_one_sentence_and_nothing_else(shelf: Path, tmp_path: Path) -> None:
    """Progress had begun in the second: a bar that stopped half way is no part of the sentence."""
    broken = sounds.word_folders(tmp_path / "broken", sounds.WORDS[:2], ("anna",), 40)
    bad_clip(broken / sounds.WORDS[1] / "zz.wav", "not audio")
    sounds.write(broken / sounds.WORDS[1] / "zz.wav", np.zeros(16_000, np.float32))
    environment = {**os.environ, "METAVOX_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    script = "from metavox.cli import main; main()"
    for corpus, said in ((tmp_path / "nowhere", "give the path"), (broken, "zz.wav")):
        done = subprocess.run(
            [sys.executable, "-c", script, "evaluate", "dtw", "--corpus", str(corpus), *SHAPE],
            capture_output=True, text=True, env=environment, timeout=120, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("metavox: ")
        assert done.stderr.count("\n") == 1, done.stderr
        assert said in done.stderr
    assert not sounds.files_below(tmp_path / "cache")
