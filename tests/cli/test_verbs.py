"""The verbs as a user types them: what is printed where, what is written, and what follows on what."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import yaml
from calling import Metavox, Said

from metavox.checkpoint import load_model

VERBS = [
    *("demo", "data check", "train", "evaluate", "compare", "record", "enroll", "recognize", "adapt", "transcribe"),
    *(f"speaker {verb}" for verb in ("enroll", "verify", "identify", "forget", "export", "list", "calibrate")),
]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shelf")
    sounds.manifest_corpus(root / "one", sounds.WORDS[:5], sounds.SPEAKERS[:3], 2)
    sounds.word_folders(root / "two", sounds.WORDS[5:8], sounds.SPEAKERS[:2], 2)
    return root


SMALL = {
    "model": {
        "front_end": {"n_mels": 20, "n_frames": 24, "normalize": False},
        "encoder": {"channels": 16, "blocks": 1, "dim": 8},
        "learner": {"match": "soft"},
    },
    "episodes": {"ways": 3, "shots": 1, "queries": 1},
    "train": {"steps": 3, "validation_episodes": 2, "validation_ways": 2},
}


def recipe(folder: Path, corpus: Path, **train: Any) -> Path:
    tree = {**SMALL, "data": {"corpora": [str(corpus)], "validation_share": 0.4}}
    tree["train"] = {**SMALL["train"], **train}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


# --------------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example_that_begins_with_the_verb(metavox: Metavox, verb: str) -> None:
    said = metavox(*verb.split(), "--help")
    assert (said.status, said.err) == (0, "")
    assert f"Example: metavox {verb} " in " ".join(said.out.split())


def test_help_lists_every_verb(metavox: Metavox) -> None:
    said = metavox("--help")
    assert (said.status, said.err) == (0, "")
    assert all(verb.split()[0] in said.out for verb in VERBS)
    assert "check" in metavox("data", "--help").out


def test_no_verb_is_answered_with_the_help(metavox: Metavox) -> None:
    said = metavox()
    assert said.status == 2
    assert "evaluate" in said.out + said.err
    assert "Traceback" not in said.err


def test_the_version_is_printed(metavox: Metavox) -> None:
    assert metavox("--version") == Said(0, version("metavox") + "\n", "")


# ----------------------------------------------------------------------------------------------------------- evaluate

SHAPE = ["--ways", 3, "--shots", 2, "--queries", 2, "--episodes", 3, "--seed", 5]


def test_a_summary_is_one_flat_json_object_and_nothing_else(metavox: Metavox, shelf: Path) -> None:
    said = metavox("evaluate", "dtw", "--corpus", shelf / "one", "--protocol", "commands", *SHAPE, "--json")
    assert said.status == 0
    found = json.loads(said.out)
    expected = {"metric": "accuracy", "n": 18, "episodes": 3, "seed": 5, "ways": 3, "shots": 2, "queries": 2,
                "speakers": "any", "model": "dtw", "corpus": "one", "version": version("metavox")}  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    low, high = found["ci95"]
    assert low <= found["mean"] <= high
    assert found["mean"] > 0.8  # tones of a few voices are easy for templates
    assert not any(isinstance(value, dict) for value in found.values())
    assert "note" not in found
    assert "Traceback" not in said.err


def test_the_same_seed_gives_the_same_figures(metavox: Metavox, shelf: Path) -> None:
    calls = [
        metavox("evaluate", "nearest_mean", "--corpus", shelf / "one", *SHAPE[:-1], seed, "--json").out
        for seed in (1, 1, 2)
    ]
    assert calls[0] == calls[1] != calls[2]


def test_several_corpora_give_the_mean_with_the_worst(metavox: Metavox, shelf: Path) -> None:
    said = metavox(
        "evaluate", "nearest_mean", "--corpus", shelf / "one", "--corpus", shelf / "two", *SHAPE, "--json"
    )  # fmt: skip
    found = json.loads(said.out)
    by_name = {one["corpus"]: one for one in found["corpora"]}
    assert found["corpus"] == ["one", "two"] == list(by_name)
    assert found["mean"] == pytest.approx(np.mean([one["mean"] for one in by_name.values()]))
    assert by_name[found["worst_corpus"]]["mean"] == found["worst_mean"] == min(o["mean"] for o in by_name.values())
    assert found["n"] == sum(one["n"] for one in by_name.values())
    assert len(found["ci95"]) == 2
    assert (found["metric"], found["seed"], found["model"]) == ("accuracy", 5, "nearest_mean")


def test_rows_are_json_lines_one_an_item(metavox: Metavox, shelf: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "rows.jsonl"
    said = metavox(
        "evaluate", "dtw", "--corpus", shelf / "one", "--corpus", shelf / "two", *SHAPE, "--out", out, "--json"
    )  # fmt: skip
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    found = json.loads(said.out)
    assert len(rows) == found["n"]
    for one in found["corpora"]:
        accuracy: dict[int, list[int]] = {}
        for row in rows:
            if row["corpus"] == one["corpus"]:
                accuracy.setdefault(row["episode"], []).append(row["correct"])
        assert np.mean([np.mean(hits) for hits in accuracy.values()]) == pytest.approx(one["mean"])
    assert os.listdir(out.parent) == ["rows.jsonl"]


def test_fewer_classes_than_ways_are_all_used_and_said(metavox: Metavox, shelf: Path) -> None:
    call = ["evaluate", "nearest_mean", "--corpus", shelf / "two", "--ways", 10, "--shots", 1, "--episodes", 2]
    said = metavox(*call, "--json")
    found = json.loads(said.out)
    assert found["ways"] == 3
    assert "3 classes have enough takes, fewer than the 10 ways asked for" in found["note"]
    assert found["note"] in said.err
    assert "3-way" in metavox(*call).out


def test_speakers_are_kept_apart_when_asked(metavox: Metavox, shelf: Path, tmp_path: Path) -> None:
    call = ["evaluate", "nearest_mean", "--corpus", shelf / "one", *SHAPE, "--speakers", "disjoint"]
    said = metavox(*call, "--out", tmp_path / "rows.jsonl", "--json")
    assert json.loads(said.out)["speakers"] == "disjoint"
    assert json.loads(said.out)["clustered_by"] == "word and speaker"


def test_one_episode_has_no_interval_and_is_still_json(metavox: Metavox, shelf: Path) -> None:
    call = ["evaluate", "nearest_mean", "--corpus", shelf / "one", "--ways", 2, "--shots", 1, "--episodes", 1]
    assert json.loads(metavox(*call, "--json").out)["ci95"] == [None, None]
    assert metavox(*call).status == 0


def test_corpora_of_the_same_name_are_told_apart(metavox: Metavox, tmp_path: Path) -> None:
    folders = [
        sounds.word_folders(tmp_path / place / "words", sounds.WORDS[i : i + 3], ("anna",), 3)
        for i, place in enumerate(("here", "there"))
    ]
    out = tmp_path / "rows.jsonl"
    call = [option for folder in folders for option in ("--corpus", folder)]
    found = json.loads(metavox("evaluate", "nearest_mean", *call, *SHAPE, "--out", out, "--json").out)
    assert found["corpus"] == ["here/words", "there/words"]
    assert {json.loads(line)["corpus"] for line in out.read_text().splitlines()} == set(found["corpus"])


def test_a_corpus_is_found_by_its_name_in_metavox_data(
    metavox: Metavox, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAVOX_DATA", str(shelf))
    assert json.loads(metavox("evaluate", "nearest_mean", "--corpus", "two", *SHAPE, "--json").out)["corpus"] == "two"


@pytest.mark.parametrize("name", ["[red]wörter[bold] 100%", "слова\u200d", "a'b\"c", "-dash", "surrogate\udcff"])
def test_odd_names_of_folders_do_no_harm(metavox: Metavox, tmp_path: Path, name: str) -> None:
    root = sounds.word_folders(tmp_path / name, sounds.WORDS[:3], ("anna",), 3)
    out = tmp_path / "rows.jsonl"
    said = metavox("evaluate", "nearest_mean", "--corpus", root, *SHAPE, "--out", out, "--json")
    assert said.status == 0, said.err
    assert json.loads(said.out)["corpus"] == name
    assert json.loads(out.read_text().splitlines()[0])["corpus"] == name
    assert metavox("evaluate", "nearest_mean", "--corpus", root, *SHAPE).status == 0


# ------------------------------------------------------------------------------------------ train, enroll, recognize


def test_train_then_evaluate_enroll_and_recognize(metavox: Metavox, shelf: Path, tmp_path: Path) -> None:
    """The whole way, with a learner too small to be good."""
    model = tmp_path / "exp" / "small"
    said = metavox("train", recipe(tmp_path, shelf / "one"), "train.steps=4", "--out", model, "--json")
    assert said.status == 0, said.err
    summary = json.loads(said.out)
    assert (summary["model"], summary["steps"], summary["skipped"]) == (str(model), 4, 0)
    assert 0 <= summary["validation_accuracy"] <= 1
    assert load_model(model).about["steps"] == 4
    written = {"config.json", "drawn.json", "experiment.yaml", "model.safetensors", "training.jsonl"}
    assert written | {"trainer.safetensors"} <= set(os.listdir(model))

    again = metavox("train", recipe(tmp_path, shelf / "one"), "train.steps=4", "--out", model, "--resume", "--json")
    assert again.status == 0, again.err

    found = json.loads(metavox("evaluate", model, "--corpus", shelf / "one", *SHAPE, "--json").out)
    assert (found["model"], found["seen_in_training"]) == ("small", True)
    assert "seen_in_training" not in json.loads(
        metavox("evaluate", model, "--corpus", shelf / "two", *SHAPE, "--json").out
    )

    takes = sounds.word_folders(tmp_path / "takes", sounds.WORDS[:3], ("anna",), 3)
    said = metavox("enroll", model, takes, "--out", tmp_path / "house", "--json")
    assert said.status == 0, said.err
    enrolled = json.loads(said.out)
    assert enrolled["takes"] == {word: 3 for word in sorted(sounds.WORDS[:3])}
    assert enrolled["source"] == "both"

    clips = [sounds.write(tmp_path / f"{word}.wav", sounds.say(word, take=7)) for word in sounds.WORDS[:4]]
    said = metavox("recognize", tmp_path / "house", *clips, "--json")
    assert said.status == 0, said.err
    heard = json.loads(said.out)
    assert [row["file"] for row in heard] == [str(path) for path in clips]
    for row in heard:
        assert row["best"] == max(row["scores"], key=row["scores"].get)
        assert row["label"] in (row["best"], None)
        assert (row["label"] is None) == (row["score"] < row["threshold"])
        assert row["threshold"] == enrolled["threshold"]
    lines = metavox("recognize", tmp_path / "house", *clips).out.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [[row["file"], row["label"] or "-"] for row in heard]


def test_templates_recognise_a_users_words_and_refuse_others(metavox: Metavox, tmp_path: Path) -> None:
    takes = sounds.word_folders(tmp_path / "takes", sounds.WORDS[:4], ("anna",), 3)
    said = metavox("enroll", "dtw", takes, "--out", tmp_path / "house")
    assert said.status == 0
    assert "Refuses below" in said.out
    words = [*sounds.WORDS[:4], *sounds.WORDS[6:9]]
    clips = [sounds.write(tmp_path / f"{word}.wav", sounds.say(word, take=7)) for word in words]
    heard = json.loads(metavox("recognize", tmp_path / "house", *clips, "--json").out)
    assert [row["label"] for row in heard] == [*sounds.WORDS[:4], None, None, None]
    # Enrolling again replaces the profile.
    other = sounds.word_folders(tmp_path / "other", sounds.WORDS[6:9], ("anna",), 2)
    assert metavox("enroll", "dtw", other, "--out", tmp_path / "house").status == 0
    heard = json.loads(metavox("recognize", tmp_path / "house", *clips, "--json").out)
    assert [row["label"] for row in heard] == [None] * 4 + list(sounds.WORDS[6:9])


def test_what_is_absent_is_named_and_left_out(metavox: Metavox, shelf: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, shelf / "one")
    said = metavox("train", path, f"data.corpora=[{shelf / 'one'}, gone_away]", "--out", tmp_path / "m", "--json")
    assert said.status == 0
    assert "Not here and left out: gone_away" in said.err
    assert load_model(tmp_path / "m").about["absent"] == ["gone_away"]


def test_no_gradient_that_is_finite_is_still_json(
    metavox: Metavox, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metavox import training
    from metavox.learners.outer import leave_one_out
    from metavox.learners.presets import Preset

    def outer(learner: Any, task: Any, episodes: Any) -> Any:
        grads = leave_one_out(learner, task, episodes)
        next(iter(grads.values.values())).fill_(float("nan"))
        grads.metrics["loss"] = float("nan")
        return grads

    monkeypatch.setitem(training.LEARNERS, "prototypes", Preset(training.LEARNERS["prototypes"].build, outer))
    said = metavox("train", recipe(tmp_path, shelf / "one"), "--out", tmp_path / "m", "--json")
    assert said.status == 0, said.err
    assert json.loads(said.out)["loss"] is None
    assert json.loads(said.out)["skipped"] == 3


# -------------------------------------------------------------------------------------------------------- as a process


def test_results_alone_are_on_standard_output(shelf: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from metavox.cli import main; main()", "evaluate", "dtw"]
    environment = {**os.environ, "METAVOX_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--corpus", str(shelf / "one"), *map(str, SHAPE), "--json"],
        capture_output=True, text=True, env=environment, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metric"] == "accuracy"


def test_a_reader_that_stops_early_sees_no_traceback(shelf: Path, tmp_path: Path) -> None:
    script = "from metavox.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, "data", "check", str(shelf / "two"), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        process.wait(timeout=60)
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
