"""The outer loop: it learns, repeats to the bit, stops and goes on as if it had not, and refuses what it cannot do."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sounds
import torch
import yaml

from metavox import training
from metavox.checkpoint import load_model, read_tensors, write_tensors
from metavox.config import Experiment
from metavox.contracts import Enrollable, Grads, InputError
from metavox.data.episodes import EpisodeSpec
from metavox.data.selection import Tasks, select_tasks
from metavox.engine import engine
from metavox.evaluation.protocols import Protocol, evaluate
from metavox.learners.outer import leave_one_out
from metavox.learners.presets import LEARNERS, Preset, has_base_classes, has_fixed_head
from metavox.training import (
    Step,
    as_episode,
    initialise,
    learn,
    step_size,
    training_episodes,
)

TINY: dict[str, Any] = {
    "model": {
        "front_end": {"n_mels": 20, "n_frames": 24, "normalize": False},
        "encoder": {"channels": 16, "blocks": 2, "dim": 8, "cepstra": 0, "halvings": 2},
        "learner": {"match": "soft"},
    },
    "data": {"validation_share": 0.34},
    "episodes": {"ways": 5, "shots": 2, "queries": 2},
    "train": {
        "steps": 8,
        "lr": 5e-3,
        "warmup": 2,
        "validate_every": 3,
        "checkpoint_every": 4,
        "validation_episodes": 3,
        "validation_ways": 4,
    },
}
"""A learner of a few thousand weights, on frames of which a tenth of a second is one."""


def test_an_executor_that_was_chosen_is_not_chosen_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one would round otherwise, and what goes on would not be what was interrupted."""
    plan = experiment(corpus, ("model.learner.name", "fomaml"), ("model.learner.inner_steps", 1))
    chosen = []
    choose = engine.calibrate
    monkeypatch.setattr(engine, "calibrate", lambda *args: chosen.append(1) or choose(*args))
    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path / "out", report=stop_at(4))
    assert len(chosen) == 1
    assert json.loads((tmp_path / "out" / "executors.json").read_text())
    run(plan, tmp_path / "out", resume=True)
    assert len(chosen) == 1


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sounds.manifest_corpus(tmp_path_factory.mktemp("data") / "tones")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path_factory.getbasetemp() / "training-cache"))


def experiment(corpus: Path, *overrides: tuple[str, Any]) -> Experiment:
    tree = json.loads(json.dumps(TINY))
    tree["data"]["corpora"] = [str(corpus)]
    for key, value in overrides:
        *sections, last = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return Experiment.model_validate(tree)


def run(plan: Experiment, out: Path, **options: Any) -> Tasks:
    tasks = select_tasks(plan, exact=has_fixed_head(plan.model))
    learn(plan, tasks, out, **options)
    return tasks


def log(out: Path) -> list[dict[str, Any]]:
    """The rows of a training, without the time that each took."""
    rows = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "cpu_s"} for row in rows]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return read_tensors(out / "model.safetensors")


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stop_at(*steps: int) -> Any:
    """A report that interrupts after these steps, as Ctrl-C does."""

    def report(step: Step) -> None:
        if step.step in steps:
            raise KeyboardInterrupt

    return report


# ----------------------------------------------------------------------------------------------------- it learns


def test_loss_falls_and_words_that_were_held_out_are_told_apart(corpus: Path, tmp_path: Path) -> None:
    """A few dozen steps on tones are enough to see that learning is learning; chance is 1 in 4."""
    plan = experiment(corpus, ("train.steps", 60), ("train.validate_every", 60), ("train.validation_episodes", 20))
    tasks = run(plan, tmp_path / "out")
    rows = log(tmp_path / "out")
    first, last = rows[:10], rows[-10:]
    assert sum(row["loss"] for row in last) < 0.6 * sum(row["loss"] for row in first)
    learner, _ = initialise(plan, tasks)
    before = training.validate(plan, tasks, learner, training.TASKS["commands"]())
    assert rows[-1]["validation"] > 0.75
    assert rows[-1]["validation"] > before
    about = load_model(tmp_path / "out").about
    assert about["validation_accuracy"] == rows[-1]["validation"]
    assert about["steps"] == 60


def test_a_head_of_fixed_size_has_the_ways_of_training(corpus: Path, tmp_path: Path) -> None:
    fixed = ("model.learner.name", "maml_fixed")
    plan = experiment(corpus, fixed, ("model.learner.executor", "loop"), ("train.steps", 2), ("episodes.ways", 3))
    tasks = run(plan, tmp_path / "out")
    assert tasks.validation.spec.n_way == tasks.training.spec.n_way == 3
    found = load_model(tmp_path / "out")
    assert (found.config.learner.ways, found.learner.ways, found.learner.fixed_ways) == (3, 3, True)
    wider, group = Protocol(EpisodeSpec(4, 1, 1), 2, 0), tasks.training.groups[0]
    with pytest.raises(InputError, match="a task has 4 classes and the head of this learner is fixed at 3; give it"):
        evaluate(found.learner, training.TASKS["commands"](), tasks.bank, group, wider, plan.model.front_end)
    with pytest.raises(InputError, match=r"ways is 4 and episodes.ways is 3; .* make them equal"):
        initialise(experiment(corpus, fixed, ("model.learner.ways", 4), ("episodes.ways", 3)), tasks)
    for ways in (3, 5):  # validated by others; and of all that each group has
        some = select_tasks(experiment(corpus, ("episodes.ways", ways), ("train.validation_ways", 4)))
        with pytest.raises(
            InputError, match=f"has a head for {ways} classes and some tasks have others; .* exact=True"
        ):
            initialise(experiment(corpus, fixed, ("episodes.ways", ways)), some)


@pytest.mark.parametrize("name", [name for name, preset in LEARNERS.items() if preset.outer is not None])
def test_every_learner_that_can_be_trained_is_trained_and_loads(corpus: Path, tmp_path: Path, name: str) -> None:
    plan = experiment(
        corpus,
        ("model.learner.name", name),
        ("model.learner.inner_steps", 2),
        ("model.learner.cg_iterations", 2),
        ("model.learner.executor", "loop"),
        ("train.steps", 2),
    )
    tasks = run(plan, tmp_path / "out")
    learner, _ = initialise(plan, tasks)
    found = load_model(tmp_path / "out")
    jointly = name in ("joint", "linear_probe", "simpleshot")
    assert found.config.learner.n_base_classes == (tasks.training.n_classes if has_base_classes(name) else 0)
    assert bool(dict(found.learner.named_buffers()).get("n_averaged", 0)) == jointly  # a mean of training is kept
    moved = [not torch.equal(a, b) for a, b in zip(learner.parameters(), found.learner.parameters(), strict=True)]
    assert any(moved)
    assert not found.learner.training
    assert bool(found.about.get("reference")) == isinstance(found.learner, Enrollable)


def test_what_cannot_be_trained_is_refused_and_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    for key, value, said in (
        ("model.learner.name", "dtw", "learners that can be trained: prototypes, "),
        ("model.learner.name", "protos", "did you mean prototypes"),
        ("model.encoder.name", "transformer", "did you mean conformer"),
        ("model.encoder.kernel", 4, "must be odd"),
    ):
        plan = experiment(corpus, (key, value))
        with pytest.raises(InputError, match=said):
            run(plan, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_provenance_names_what_was_learned_from_and_not_what_was_left_out(corpus: Path, tmp_path: Path) -> None:
    other = sounds.manifest_corpus(tmp_path / "other", sounds.WORDS[:2], ("anna",), 2, lang="yy")
    kept = ("data.corpora", [str(corpus), str(other)])
    run(experiment(corpus, kept, ("data.leave_out_languages", ["yy"]), ("train.steps", 1)), tmp_path / "out")
    about = load_model(tmp_path / "out").about
    assert about["corpora"] == ["tones"]
    assert about["languages"] == ["xx"]
    assert about["left_out"] == ["yy"]
    assert (about["seed"], about["steps"], about["absent"]) == (0, 1, [])
    drawn = json.loads((tmp_path / "out" / "drawn.json").read_text())
    assert set(drawn["classes"]) <= {f"xx:{word}" for word in sounds.WORDS}
    assert [row["group"] for row in drawn["groups"]] == ["tones * xx"]
    assert (drawn["sampler"], drawn["episodes"], drawn["groups"][0]["share"]) == ("uniform", 2, 1.0)


# ------------------------------------------------------------------------------------------- the same to the bit


def test_the_same_seed_gives_the_same_weights_and_another_others(corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    run(experiment(corpus), tmp_path / "a")
    torch.manual_seed(2)  # nobody listens to the global generator
    run(experiment(corpus), tmp_path / "b")
    run(experiment(corpus, ("train.seed", 1)), tmp_path / "c")
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert log(tmp_path / "a") == log(tmp_path / "b")
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "c"))
    assert load_model(tmp_path / "a").hash == load_model(tmp_path / "b").hash


@pytest.mark.parametrize("name", ["prototypes", "maml", "joint"])
@pytest.mark.parametrize("stops", [(4,), (1, 3, 7)], ids=["once", "often"])
def test_stopped_and_resumed_is_as_if_nothing_had_happened(
    corpus: Path, tmp_path: Path, name: str, stops: Sequence[int]
) -> None:
    plan = experiment(
        corpus, ("model.learner.name", name), ("model.learner.inner_steps", 2), ("model.learner.executor", "captured")
    )
    torch.manual_seed(1)
    whole = run(plan, tmp_path / "whole")
    torch.manual_seed(2)
    for number, stop in enumerate(stops):
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path / "cut", resume=number > 0, report=stop_at(stop))
        assert load_model(tmp_path / "cut").about["steps"] == stop  # what was learned can be used
    tasks = run(plan, tmp_path / "cut", resume=True)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    for key, value in read_tensors(tmp_path / "whole" / "trainer.safetensors").items():
        other = read_tensors(tmp_path / "cut" / "trainer.safetensors")[key]
        if key == "trainer":  # step, skipped, CPU seconds, validation
            assert value[[0, 1, 3]].tolist() == other[[0, 1, 3]].tolist()
        else:
            assert torch.equal(value, other), key
    assert log(tmp_path / "whole") == log(tmp_path / "cut")
    assert [row["step"] for row in log(tmp_path / "cut")] == list(range(1, 9))
    assert (tmp_path / "whole" / "drawn.json").read_text() == (tmp_path / "cut" / "drawn.json").read_text()
    assert tasks.training.drawn == whole.training.drawn
    ours, theirs = (dict(load_model(tmp_path / where).about) for where in ("whole", "cut"))
    assert {**ours, "cpu_s": 0} == {**theirs, "cpu_s": 0}


@pytest.fixture(scope="module")
def two_languages(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("data")
    made = (("xx", sounds.WORDS[:5], ("anna", "bela")), ("yy", sounds.WORDS[5:10], ("carl",)))
    return [str(sounds.manifest_corpus(root / lang, some, who, 4, lang=lang)) for lang, some, who in made]


@pytest.mark.parametrize("name", ["prototypes", "joint"])
def test_adaptive_sampling_resumes_exactly_and_its_log_says_what_it_did(
    two_languages: list[str], tmp_path: Path, name: str
) -> None:
    changes = {"model.learner.name": name, "data.corpora": two_languages, "train.steps": 10, "episodes.batch": 2}
    changes |= {"tasks.sampler": "adaptive", "tasks.temperature": 0.05, "tasks.speakers": "where_known"}
    plan = experiment(Path("unused"), *changes.items())
    whole = run(plan, tmp_path / "whole")
    for number, stop in enumerate((3, 8)):
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path / "cut", resume=number > 0, report=stop_at(stop))
    run(plan, tmp_path / "cut", resume=True)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert log(tmp_path / "whole") == log(tmp_path / "cut")
    ours, theirs = (read_tensors(tmp_path / where / "trainer.safetensors") for where in ("whole", "cut"))
    for key in [key for key in ours if key.startswith("sampler/")]:
        assert torch.equal(ours[key], theirs[key]), key
    drawn = json.loads((tmp_path / "whole" / "drawn.json").read_text())
    assert drawn == json.loads((tmp_path / "cut" / "drawn.json").read_text())
    assert (drawn["sampler"], drawn["episodes"]) == ("adaptive", 20)
    rows = {row["group"]: row for row in drawn["groups"]}
    assert {name: row["speakers"] for name, row in rows.items()} == {"xx * xx": "disjoint", "yy * yy": "any"}
    levels = whole.training.arrays["level"]
    hard = rows[whole.training.groups[int(levels.argmax())].name]
    assert hard["probability"] > 0.5  # what costs more is drawn more
    assert hard["recent_loss"] == pytest.approx(float(levels.max()))
    assert min(row["probability"] for row in rows.values()) >= 0.125
    assert sum(row["probability"] for row in rows.values()) == pytest.approx(1)
    mean = sum(row["loss"] for row in log(tmp_path / "whole")) / 10
    assert sum(row["mean_loss"] * row["share"] for row in rows.values()) == pytest.approx(mean)


def test_a_second_training_with_the_same_tasks_starts_its_log_and_its_sampling_anew(
    corpus: Path, tmp_path: Path
) -> None:
    plan = experiment(corpus, ("tasks.sampler", "adaptive"))
    tasks = select_tasks(plan)
    for out in ("a", "b"):
        learn(plan, tasks, tmp_path / out)
    assert (tmp_path / "a" / "drawn.json").read_text() == (tmp_path / "b" / "drawn.json").read_text()


def test_a_crash_between_checkpoints_repeats_the_steps_since(corpus: Path, tmp_path: Path) -> None:
    """Killed at step 6 with a checkpoint of step 4: nothing is lost but time, and no step is in the log twice."""
    plan = experiment(corpus)
    run(plan, tmp_path / "whole")
    out = tmp_path / "killed"
    kept: dict[str, bytes] = {}

    def report(step: Step) -> None:
        if step.step == 4:
            kept["trainer.safetensors"] = (out / "trainer.safetensors").read_bytes()
        if step.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, out, report=report)
    for name, content in kept.items():
        (out / name).write_bytes(content)
    for name in ("model.safetensors", "config.json"):
        (out / name).unlink()
    text = (out / "training.jsonl").read_text()
    (out / "training.jsonl").write_text(text[:-30])  # its last line was not written whole
    run(plan, out, resume=True)
    assert equal(weights(tmp_path / "whole"), weights(out))
    assert log(tmp_path / "whole") == log(out)


def test_a_checkpoint_is_never_ahead_of_the_log(corpus: Path, tmp_path: Path) -> None:
    """After power is lost, the log has at least the steps that the checkpoint has."""
    out = tmp_path / "out"
    n_lines = []

    def report(step: Step) -> None:
        if step.step == 4:
            n_lines.append(len((out / "training.jsonl").read_text().splitlines()))
            assert (out / "trainer.safetensors").is_file()

    run(experiment(corpus), out, report=report)
    assert n_lines == [4]


def test_a_finished_training_is_resumed_as_it_is(corpus: Path, tmp_path: Path) -> None:
    run(experiment(corpus), tmp_path / "out")
    before = weights(tmp_path / "out")
    rows = log(tmp_path / "out")
    run(experiment(corpus), tmp_path / "out", resume=True)
    assert equal(before, weights(tmp_path / "out"))
    assert log(tmp_path / "out") == rows


# ------------------------------------------------------------------------------------------------------ step size


def test_the_step_size_warms_up_and_falls_as_a_cosine() -> None:
    plan = Experiment.model_validate({"train": {"steps": 110, "warmup": 10, "lr": 2.0}})
    sizes = [step_size(plan, step) for step in range(110)]
    assert sizes[0] == pytest.approx(0.2)
    assert sizes[9] == sizes[10] == pytest.approx(2.0)
    assert sizes[60] == pytest.approx(2 * (0.01 + 0.99 / 2))  # half way
    assert step_size(plan, 110) == pytest.approx(0.02)
    assert sizes[10:] == sorted(sizes[10:], reverse=True)
    assert step_size(Experiment.model_validate({"train": {"warmup": 0, "lr": 2.0}}), 0) == 2.0
    assert step_size(Experiment.model_validate({"train": {"steps": 3, "warmup": 10, "lr": 1.0}}), 2) == pytest.approx(
        0.3
    )


# ------------------------------------------------------------------------------------------------- bad gradients


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Calls of the outer rule, by number from 0, whose gradient is not a number."""
    bad: set[int] = set()
    n_calls = [0]

    def outer(learner: Any, task: Any, episodes: Any) -> Grads:
        grads = leave_one_out(learner, task, episodes)
        if n_calls[0] in bad:
            next(iter(grads.values.values())).fill_(math.nan if n_calls[0] % 2 else math.inf)
            grads.metrics["loss"] = math.nan
        n_calls[0] += 1
        return grads

    preset = training.LEARNERS["prototypes"]
    monkeypatch.setitem(training.LEARNERS, "prototypes", Preset(preset.build, outer))
    return bad


def test_a_gradient_that_is_not_finite_moves_nothing_and_is_counted(
    corpus: Path, tmp_path: Path, poisoned: set[int]
) -> None:
    poisoned |= {0, 1}
    seen: list[Step] = []
    plan = experiment(corpus, ("train.steps", 2))
    tasks = run(plan, tmp_path / "out", report=seen.append)
    learner, _ = initialise(plan, tasks)
    assert equal(dict(learner.state_dict()), weights(tmp_path / "out"))
    assert [step.skipped for step in seen] == [1, 2]
    assert load_model(tmp_path / "out").about["skipped"] == 2
    for line in (tmp_path / "out" / "training.jsonl").read_text().splitlines():
        row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert row["loss"] is None


def test_training_goes_on_after_a_bad_step(corpus: Path, tmp_path: Path, poisoned: set[int]) -> None:
    poisoned |= {1}
    run(experiment(corpus, ("train.steps", 4)), tmp_path / "out")
    assert load_model(tmp_path / "out").about["skipped"] == 1
    assert all(value.isfinite().all() for value in weights(tmp_path / "out").values())
    assert log(tmp_path / "out")[-1]["loss"] is not None


def test_too_many_bad_steps_in_a_row_stop_training_with_a_remedy_that_works(
    corpus: Path, tmp_path: Path, poisoned: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "MAX_SKIPPED", 3)
    poisoned |= {1, 3, 4, 5}
    with pytest.raises(InputError, match="3 outer steps in a row") as caught:
        run(experiment(corpus, ("train.steps", 40)), tmp_path / "out")
    assert "another --out" in str(caught.value)  # a resumed training must have the same recipe
    assert load_model(tmp_path / "out").about["skipped"] == 4


# ----------------------------------------------------------------------------------------------------- out folders


def test_a_folder_that_is_taken_is_refused_and_left_alone(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    file = tmp_path / "file"
    file.write_text("mine")
    for taken in (out, file):
        with pytest.raises(InputError, match="is not empty; use --resume to go on, or another --out"):
            run(experiment(corpus), taken)
    assert sounds.files_below(out) == {"mine.txt": b"mine"}
    with pytest.raises(InputError, match="holds no training to resume"):
        run(experiment(corpus), out, resume=True)
    with pytest.raises(InputError, match="holds no training to resume"):
        run(experiment(corpus), tmp_path / "nowhere", resume=True)
    assert sounds.files_below(out) == {"mine.txt": b"mine"}
    assert not (tmp_path / "nowhere").exists()


def test_another_experiment_cannot_be_resumed(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(experiment(corpus), out)
    before = sounds.files_below(out)
    with pytest.raises(InputError, match="another train section; resume with the same recipe"):
        run(experiment(corpus, ("train.lr", 0.1)), out, resume=True)
    with pytest.raises(InputError, match="another model section"):
        run(experiment(corpus, ("model.encoder.dim", 9)), out, resume=True)
    assert sounds.files_below(out) == before


@pytest.mark.parametrize("text", ["", "- a list", "train: [", "\0", "just words"])
def test_a_damaged_record_of_the_experiment_is_told(corpus: Path, tmp_path: Path, text: str) -> None:
    out = tmp_path / "out"
    run(experiment(corpus, ("train.steps", 1)), out)
    (out / "experiment.yaml").write_text(text)
    with pytest.raises(InputError, match="experiment"):
        run(experiment(corpus, ("train.steps", 1)), out, resume=True)


def test_an_experiment_of_a_later_version_cannot_be_resumed(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(experiment(corpus, ("train.steps", 1)), out)
    tree = yaml.safe_load((out / "experiment.yaml").read_text())
    (out / "experiment.yaml").write_text(yaml.safe_dump({**tree, "novelty": {"a": 1}}))
    with pytest.raises(InputError, match="another novelty section"):
        run(experiment(corpus, ("train.steps", 1)), out, resume=True)


@pytest.mark.parametrize("damage", ["cut", "another", "renamed"])
def test_a_damaged_checkpoint_cannot_be_resumed(corpus: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    run(experiment(corpus, ("train.steps", 1)), out)
    path = out / "trainer.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "another":
        write_tensors(path, {"trainer": torch.zeros(4), "value/x": torch.zeros(3)})
    else:
        write_tensors(path, {f"x{name}": value for name, value in read_tensors(path).items()})
    with pytest.raises(InputError, match=r"trainer\.safetensors"):
        run(experiment(corpus, ("train.steps", 1)), out, resume=True)


def test_the_best_known_is_kept_when_the_disk_is_full(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that cannot be written leaves the one before it as it was."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(experiment(corpus), out, report=stop_at(4))
    before = (out / "trainer.safetensors").read_bytes()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("metavox.checkpoint.os.replace", full)
        with pytest.raises(OSError, match="No space left"):
            run(experiment(corpus), out, resume=True)
    assert (out / "trainer.safetensors").read_bytes() == before
    assert not list(out.rglob("*.tmp"))
    run(experiment(corpus), out, resume=True)
    assert load_model(out).about["steps"] == 8


# ------------------------------------------------------------------------------------------------------ Ctrl-C


def test_ctrl_c_on_the_command_line_keeps_a_model_that_goes_on(corpus: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    plan = experiment(corpus, ("train.steps", 4000), ("train.checkpoint_every", 1), ("train.validate_every", 1000))
    recipe.write_text(yaml.safe_dump(plan.model_dump(mode="json")))
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from metavox.cli import main; main()", "train", str(recipe), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (out / "trainer.safetensors").is_file() and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "--resume" in said.splitlines()[-1]
    n_steps = load_model(out).about["steps"]
    assert 1 <= n_steps < 4000
    assert [row["step"] for row in log(out)] == list(range(1, n_steps + 1))
    with pytest.raises(KeyboardInterrupt):
        run(plan, out, resume=True, report=stop_at(n_steps + 2))
    assert [row["step"] for row in log(out)] == list(range(1, n_steps + 3))
    assert load_model(out).about["steps"] == n_steps + 2


# ------------------------------------------------------------------------------------------------------- augmentation


def inputs(plan: Experiment, tasks: Tasks, step: int = 0) -> torch.Tensor:
    return torch.cat([x.inputs for e in training_episodes(plan, tasks, step) for x in (e.support, e.query)])


def test_an_episode_without_augmentation_is_what_is_validated_on(corpus: Path) -> None:
    off = {"warp": 0, "noise_share": 0, "masks": 0, "crop_jitter": 0}
    plans = [experiment(corpus, ("augment", value)) for value in ({"enabled": False}, off, {})]
    tasks = select_tasks(plans[0])
    plain = [as_episode(tasks.bank, e.draw, plans[0].model.front_end) for e in training_episodes(plans[0], tasks, 0)]
    expected = torch.cat([x.inputs for e in plain for x in (e.support, e.query)])
    assert torch.equal(inputs(plans[0], tasks), expected)
    torch.testing.assert_close(inputs(plans[1], tasks), expected)
    assert not torch.allclose(inputs(plans[2], tasks), expected, atol=0.1)


def test_items_are_drawn_as_variants_by_their_share_and_validation_never_is(corpus: Path) -> None:
    off = {"warp": 0, "noise_share": 0, "masks": 0, "crop_jitter": 0, "variants": 2}
    plans = {share: experiment(corpus, ("augment", {**off, "variant_share": share})) for share in (0.5, 1.0)}
    plain = select_tasks(experiment(corpus))
    for share, plan in plans.items():
        tasks = select_tasks(plan)
        assert tasks.bank.n_variants == 2
        drawn, clean = inputs(plan, tasks), inputs(experiment(corpus, ("augment", {"enabled": False})), tasks)
        same = (drawn - clean).flatten(1).abs().amax(1) < 1e-5
        assert (0.2 < float(same.float().mean()) < 0.8) if share < 1 else not bool(same.any())
        assert torch.equal(inputs(plan, tasks), drawn)
        front_end = plan.model.front_end
        ours, theirs = (as_episode(t.bank, t.validation.episode(0, 0), front_end) for t in (tasks, plain))
        assert torch.equal(ours.query.inputs, theirs.query.inputs)


def test_no_variants_are_computed_that_nobody_draws(corpus: Path) -> None:
    for augment in ({"variants": 2, "enabled": False}, {"variants": 2, "variant_share": 0}):
        assert select_tasks(experiment(corpus, ("augment", augment))).bank.n_variants == 0
