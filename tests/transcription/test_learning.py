"""The outer loop of recognisers: it learns, repeats to the bit, goes on as if never stopped, hears what it may hear."""

import json
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import torch
import yaml
from sequence_cases import FRONT_END, equal, talk, values_of

from metavox.checkpoint import read_tensors, write_tensors
from metavox.config import load_recipe
from metavox.config.transcription import TranscriptionExperiment
from metavox.contracts import InputError, Transcribed
from metavox.data import spoken as spoken_module
from metavox.data.sentences import Sentences
from metavox.data.spoken import Spoken, select_spoken
from metavox.learners.sequence_outer import Inner, MetaLearning, SequenceGrads
from metavox.metrics import cer
from metavox.text.decode import greedy
from metavox.text.symbols import UNIVERSAL, Symbols
from metavox.transcription import changes, learning
from metavox.transcription import trainer as trainer_module
from metavox.transcription.learning import (
    Progress,
    check_out,
    known_phones,
    learn,
    start,
    step_size,
    validate,
)
from metavox.transcription.models import Recognition, load_recogniser, new_net, save_recogniser
from metavox.transcription.shelf import resolved

TINY: dict[str, Any] = {
    "recogniser": {
        "front_end": FRONT_END.model_dump(mode="json"),
        **{"channels": 16, "blocks": 2, "reduction": 4, "kernel": 3, "dim": 12, "heads": 2, "dropout": 0.1},
    },
    "data": {"validation_share": 0.15},
    "tasks": {"support_s": 1.0, "query_s": 1.0, "batch": 2},
    "learning": {"inner_steps": 2, "inner_lr": 0.01, "share": 0.5},
    "train": {
        **{"steps": 8, "lr": 5e-3, "warmup": 2, "plain_share": 0.5, "batch_s": 2.0, "precision": "float32"},
        **{"report_every": 1, "validate_every": 3, "checkpoint_every": 4},
    },
}
LETTERS = "abdegiko"


def texts(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < n:
        found["".join(rng.choice(list(LETTERS), int(rng.integers(2, 5))))] = None
    return list(found)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path_factory.getbasetemp() / "learning-cache"))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that eight steps cross the borders of several streams of batches; and TensorBoard takes its time."""
    monkeypatch.setattr(learning, "_ROUND", 3)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones that mean the same in two languages, a corpus of words, and a language that is left out."""
    root = tmp_path_factory.mktemp("data")
    talk(root / "north", texts(20, 1), ("anna", "bela"), "xx")
    talk(root / "south", texts(20, 2), ("carl",), "yy")
    talk(root / "other", texts(8, 3), ("dora",), "zz")
    talk(root / "words", texts(8, 4), ("emil",), "xx")
    return root


def experiment(data: Path, *overrides: tuple[str, Any]) -> TranscriptionExperiment:
    tree = json.loads(json.dumps(TINY))
    tree["data"]["corpora"] = [str(data / name) for name in ("north", "south", "other")]
    tree["data"]["words"] = [str(data / "words")]
    for key, value in overrides:
        *sections, last = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return TranscriptionExperiment.model_validate(tree)


def pronounced(utterances: Sequence[Any], n_workers: int = 2) -> list[tuple[str, ...]]:
    """Each letter is a phone of its own, but nobody knows how the language of the south sounds."""
    return [tuple(u.text) * 3 if u.lang != "yy" else () for u in utterances]


def spoken_of(plan: TranscriptionExperiment, phones: tuple[str, ...] | None = ()) -> Spoken:
    key = (plan.data, plan.tasks, plan.train.seed, phones)
    if key not in _SELECTED:
        _SELECTED[key] = _selected(plan, phones)
    return _SELECTED[key]


_SELECTED: dict[Any, Spoken] = {}


def _selected(plan: TranscriptionExperiment, phones: tuple[str, ...] | None) -> Spoken:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spoken_module, "pronounced", pronounced)
        patch.setattr(spoken_module, "inventory", lambda found: {c: i for i, c in enumerate(LETTERS, 1)})
        return select_spoken(plan.data, plan.tasks, FRONT_END, UNIVERSAL, plan.train.seed, phones=phones)


def run(plan: TranscriptionExperiment, out: Path, phones: tuple[str, ...] | None = (), **options: Any) -> Recognition:
    return learn(plan, spoken_of(plan, phones), out, **options)


def log(out: Path) -> list[dict[str, Any]]:
    """The rows of a training, without the time that each took."""
    rows = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "cpu_s"} for row in rows]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return read_tensors(out / "model.safetensors")


def stop_at(*steps: int) -> Callable[[Progress], None]:
    """A report that interrupts after these steps, as Ctrl-C does."""

    def report(at: Progress) -> None:
        if at.step in steps:
            raise KeyboardInterrupt

    return report


JOINT: tuple[tuple[str, Any], ...] = ()
CONDITION = (("recogniser.condition", 4), ("learning.condition_share", 0.5))
OUTERS = {
    "joint": JOINT,
    "condition": CONDITION,
    "fomaml": (("learning.outer", "fomaml"), ("learning.multi_step", True)),
    "maml": (("learning.outer", "maml"), ("learning.unit_steps", False)),
    "reptile": (("learning.outer", "reptile"), *CONDITION),
    "meta_sgd": (("learning.outer", "meta_sgd"),),
    "conformer": (("recogniser.body", "conformer"),),
    "maml_plus_plus": (("learning.outer", "maml_plus_plus"),),
    "imaml": (("learning.outer", "imaml"), ("learning.prox", 50.0)),
    "cavia": (("learning.learner", "cavia"), ("learning.share", 0.5)),
    "lora": (("learning.learner", "maml_lora"), ("learning.share", 0.5)),
    "anil": (("learning.learner", "anil"), ("learning.share", 0.5)),
    "masked": (("learning.outer", "masked"),),
}

# ----------------------------------------------------------------------------------------------------- it learns


def test_loss_falls_and_utterances_that_were_held_out_are_spelled(data: Path, tmp_path: Path) -> None:
    plan = experiment(
        data, ("train.steps", 120), ("train.lr", 1e-2), ("train.plain_share", 1.0), ("train.batch_s", 6.0)
    )
    before = validate(start(plan, spoken_of(plan)), spoken_of(plan))
    seen: list[Progress] = []
    found = run(plan, tmp_path / "out", report=seen.append)
    losses = [row["loss"] for row in log(tmp_path / "out")]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert before is not None
    assert found.about["validation_cer"] < 0.75 * before
    assert [at.step for at in seen] == list(range(1, 121))
    assert (seen[-1].n_steps, seen[-1].cer) == (120, found.about["validation_cer"])


@pytest.mark.parametrize("name", OUTERS)
def test_every_way_to_learn_trains_and_loads(data: Path, tmp_path: Path, name: str) -> None:
    plan = experiment(data, *OUTERS[name])
    found = run(plan, tmp_path / "out", None)
    read = load_recogniser(tmp_path / "out")
    assert equal(values_of(found.net), values_of(read.net))
    assert (read.hash, read.phones, read.symbols) == (found.hash, tuple(LETTERS), UNIVERSAL)
    assert not found.net.training
    assert found.net.training_dtype == torch.float32
    fresh = values_of(start(resolved(plan), spoken_of(plan, None)))
    own = dict(read.net.named_parameters())
    unheard = {one for one in own if one.startswith("encode.")} if name in ("reptile", "cavia") else set()
    if plan.learning.learner:  # which no phones are told
        unheard |= {one for one in own if one.startswith("phone_")}
    assert all(not torch.equal(value, fresh[one]) for one, value in own.items() if one not in unheard)
    assert [row["step"] for row in log(tmp_path / "out")] == list(range(1, 9))
    sizes = read.about["step_sizes"]
    assert bool(sizes) == (name in ("meta_sgd", "maml_plus_plus"))
    if sizes:
        assert set(sizes) == {f"inner_lr.{one}" for one in own if not one.startswith("phone_")}
        assert all(float(torch.tensor(size).min()) > 0 for size in sizes.values())
        assert any(abs(float(torch.tensor(size).flatten()[0]) / 0.01 - 1) > 0.01 for size in sizes.values())


def test_provenance_names_what_was_learned_from_and_not_what_was_left_out(data: Path, tmp_path: Path) -> None:
    plan = experiment(
        data,
        ("data.leave_out_languages", ["zz"]),
        ("data.leave_out_corpora", [str(data / "words")]),
        ("data.leave_out_speakers", ["bela"]),
        ("train.steps", 2),
    )
    run(plan, tmp_path / "out")
    about = load_recogniser(tmp_path / "out").about
    spoken = spoken_of(plan)
    used = [spoken.sentences.utterances[i] for kind in spoken.kinds for i in kind]
    assert about["corpora"] == ["north", "south"]
    assert about["languages"] == ["xx", "yy"]
    assert about["left_out"] == [str(data / "words"), "zz", "bela"]
    assert about["hours"] == round(sum(u.duration_s for u in used) / 3600, 2)
    assert (about["seed"], about["steps"], about["init"]) == (0, 2, "")
    assert about["learning"]["outer"] == "joint"


# ------------------------------------------------------------------------------------------- the same to the bit


def test_the_same_seed_gives_the_same_weights_and_another_others(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    run(experiment(data), tmp_path / "a", None)
    torch.manual_seed(2)  # nobody listens to the global generator
    run(experiment(data), tmp_path / "b", None)
    run(experiment(data, ("train.seed", 1)), tmp_path / "c", None)
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert log(tmp_path / "a") == log(tmp_path / "b")
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize("name", OUTERS)
def test_stopped_and_resumed_is_as_if_nothing_had_happened(data: Path, tmp_path: Path, name: str) -> None:
    """Stopped at once, on the border of two streams of batches, and in the steps that learn to adapt."""
    plan = experiment(data, *OUTERS[name])
    torch.manual_seed(1)
    run(plan, tmp_path / "whole", None)
    torch.manual_seed(2)
    for number, stop in enumerate((1, 3, 5, 7)):
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path / "cut", None, resume=number > 0, report=stop_at(stop))
        assert load_recogniser(tmp_path / "cut").about["steps"] == stop  # what was learned can be used
    run(plan, tmp_path / "cut", None, resume=True)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    ours, theirs = (read_tensors(tmp_path / where / "trainer.safetensors") for where in ("whole", "cut"))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        if key == "trainer":  # step, skipped, CPU seconds, validation
            assert value[[0, 1, 3]].tolist() == theirs[key][[0, 1, 3]].tolist()
        else:
            assert torch.equal(value, theirs[key]), key
    assert log(tmp_path / "whole") == log(tmp_path / "cut")
    about = [dict(load_recogniser(tmp_path / where).about) for where in ("whole", "cut")]
    assert {**about[0], "cpu_s": 0} == {**about[1], "cpu_s": 0}


def test_a_crash_between_checkpoints_repeats_the_steps_since(data: Path, tmp_path: Path) -> None:
    """Killed at step 6 with a checkpoint of step 4: nothing is lost but time, and no step is in the log twice."""
    plan, out = experiment(data), tmp_path / "killed"
    run(plan, tmp_path / "whole")
    kept: list[bytes] = []

    def report(at: Progress) -> None:
        if at.step == 5:
            kept.append((out / "trainer.safetensors").read_bytes())
        if at.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, out, report=report)
    (out / "trainer.safetensors").write_bytes(kept[0])
    assert int(read_tensors(out / "trainer.safetensors")["trainer"][0]) == 4
    for name in ("model.safetensors", "config.json"):
        (out / name).unlink()
    run(plan, out, resume=True)
    assert equal(weights(tmp_path / "whole"), weights(out))
    assert log(tmp_path / "whole") == log(out)


def test_one_that_was_stopped_before_its_first_checkpoint_starts_again(data: Path, tmp_path: Path) -> None:
    plan, out = experiment(data, ("train.steps", 2)), tmp_path / "out"
    run(plan, out)
    before = weights(out)
    for path in out.iterdir():
        if path.name != "experiment.yaml" and path.is_file():
            path.unlink()
    run(plan, out, resume=True)
    assert equal(before, weights(out))


def test_a_finished_training_is_resumed_as_it_is(data: Path, tmp_path: Path) -> None:
    plan, out = experiment(data, ("train.steps", 3)), tmp_path / "out"
    run(plan, out)
    before, rows = weights(out), log(out)
    run(plan, out, resume=True)
    assert equal(before, weights(out))
    assert log(out) == rows


def test_ctrl_c_finishes_the_step_and_keeps_a_checkpoint(data: Path, tmp_path: Path) -> None:
    plan, out = experiment(data, ("train.checkpoint_every", 1000)), tmp_path / "out"
    before = signal.getsignal(signal.SIGINT)

    def report(at: Progress) -> None:
        if at.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(plan, out, report=report)
    assert signal.getsignal(signal.SIGINT) is before
    assert int(read_tensors(out / "trainer.safetensors")["trainer"][0]) == 3
    assert [row["step"] for row in log(out)] == [1, 2, 3]
    assert not list(out.rglob("*.tmp"))
    run(plan, out, resume=True)
    run(plan, tmp_path / "whole")
    assert equal(weights(out), weights(tmp_path / "whole"))


def test_coarse_training_resumes_exactly_too(data: Path, tmp_path: Path) -> None:
    plan = experiment(data, ("train.precision", "bfloat16"), ("learning.outer", "fomaml"))
    run(plan, tmp_path / "whole")
    for number, stop in enumerate((2, 6)):
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path / "cut", resume=number > 0, report=stop_at(stop))
    found = run(plan, tmp_path / "cut", resume=True)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert {value.dtype for value in weights(tmp_path / "cut").values()} == {torch.float32}
    assert found.net.training_dtype == torch.float32
    run(experiment(data, ("learning.outer", "fomaml")), tmp_path / "fine")
    assert not equal(weights(tmp_path / "whole"), weights(tmp_path / "fine"))


# ------------------------------------------------------------------------------------------------- what is heard


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Positions of every utterance whose features a step asked for."""
    asked: list[int] = []
    features = Sentences.features

    def spy(self: Sentences, positions: Any, front_end: Any) -> Any:
        asked.extend(positions.tolist())
        return features(self, positions, front_end)

    monkeypatch.setattr(Sentences, "features", spy)
    monkeypatch.setattr(learning, "validate", lambda net, spoken: 0.5)
    return asked


@pytest.mark.parametrize("name", ["joint", "condition", "fomaml"])
def test_no_step_hears_what_is_left_out_or_held_out(data: Path, tmp_path: Path, heard: list[int], name: str) -> None:
    left_out = ("data.leave_out_languages", ["zz"]), ("data.leave_out_speakers", ["bela"])
    plan = experiment(data, *OUTERS[name], *left_out, ("train.steps", 24), ("train.batch_s", 4.0))
    spoken = spoken_of(plan)
    learn(plan, spoken, tmp_path / "out")
    people = [spoken.sentences.utterances[i] for i in heard]
    assert {u.lang for u in people} == {"xx", "yy"}
    assert "bela" not in {u.speaker for u in people}
    assert len(spoken.held_out) >= 2
    assert not set(heard) & set(spoken.held_out.tolist())
    assert len(set(heard)) > 20


@pytest.mark.parametrize("name", ["joint", "masked", "conditioned", "fomaml", "reptile"])
def test_every_learner_of_the_shelf_hears_the_same_and_is_told_transcripts_alone(
    data: Path, tmp_path: Path, heard: list[int], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Phones and single words are there, and so is a language too short for tasks; none of them learns from these."""
    told: list[Any] = []
    joint = learning.joint_gradient
    monkeypatch.setattr(learning, "joint_gradient", lambda *given: told.append(given[3]) or joint(*given))
    plan = experiment(
        data, ("learning.learner", name), ("learning.inner_steps", 1), ("tasks.support_s", 4.0), ("tasks.query_s", 4.0),
        ("train.steps", 30), ("train.batch_s", 12.0), ("train.validate_every", 100),
    )  # fmt: skip
    spoken = spoken_of(plan, None)
    learn(plan, spoken, tmp_path / "out")
    people = [spoken.sentences.utterances[i] for i in heard]
    assert {u.corpus for u in people} == {"north", "south"}
    assert set(heard) == set(np.concatenate(spoken.groups).tolist())
    assert load_recogniser(tmp_path / "out").about["corpora"] == ["north", "south"]
    assert not any(told)
    assert all("phone_loss" not in row for row in log(tmp_path / "out"))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each step was: joint, conditioned, or adapting, and whether its utterances were changed."""
    seen: list[str] = []
    joint, gradient, change = learning.joint_gradient, MetaLearning.gradient, changes.change_speech
    changed: list[int] = []

    def note(what: str) -> None:
        seen.append(what + (" changed" if changed else ""))
        changed.clear()

    def of_joint(net: Any, batch: Any, phones: Any, weight: float, generator: Any, encoding: Any = None) -> Any:
        note("joint" if encoding is None else "conditioned")
        return joint(net, batch, phones, weight, generator, encoding)

    def of_tasks(self: MetaLearning, episodes: Any, generator: Any) -> Any:
        assert len(episodes) == 2
        note("adapting")
        return gradient(self, episodes, generator)

    def of_speech(*given: Any) -> Any:
        changed.append(1)
        return change(*given)

    monkeypatch.setattr(learning, "joint_gradient", of_joint)
    monkeypatch.setattr(MetaLearning, "gradient", of_tasks)
    monkeypatch.setattr(changes, "change_speech", of_speech)
    return seen


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((("train.plain_share", 0.25),), ["joint"] * 2 + ["joint changed"] * 6),
        ((("train.plain_share", 0.0),), ["joint changed"] * 8),
        ((("train.plain_share", 1.0),), ["joint"] * 8),
        (
            (("learning.outer", "fomaml"), ("learning.share", 0.25)),
            ["joint"] * 4 + ["joint changed"] * 2 + ["adapting changed"] * 2,
        ),
        ((("learning.outer", "fomaml"), ("learning.share", 1.0)), ["adapting"] * 4 + ["adapting changed"] * 4),
        ((("learning.outer", "fomaml"), ("learning.share", 0.0)), ["joint"] * 4 + ["joint changed"] * 4),
        ((*CONDITION[:1], ("learning.condition_share", 1.0), ("train.plain_share", 1.0)), ["conditioned"] * 8),
        ((*CONDITION[:1], ("learning.condition_share", 0.0), ("train.plain_share", 1.0)), ["joint"] * 8),
    ],
)
def test_steps_are_of_the_kind_that_the_recipe_says(
    data: Path, tmp_path: Path, steps: list[str], overrides: Any, expected: list[str]
) -> None:
    run(experiment(data, *overrides), tmp_path / "out")
    assert steps == expected


def test_some_steps_are_conditioned_by_their_share(data: Path, tmp_path: Path, steps: list[str]) -> None:
    run(experiment(data, *CONDITION, ("train.steps", 60), ("train.plain_share", 1.0)), tmp_path / "out")
    assert 18 <= steps.count("conditioned") <= 42
    assert set(steps) == {"joint", "conditioned"}


def test_the_inner_loop_is_that_of_the_recipe(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []
    init = MetaLearning.__init__

    def spy(self: Any, net: Any, *given: Any, **named: Any) -> None:
        assert not named
        made.append(given)
        init(self, net, *given)

    monkeypatch.setattr(MetaLearning, "__init__", spy)
    overrides = (("learning.adapts", ["head.*", "blocks.1.*"]), ("learning.multi_step", True))
    run(experiment(data, ("learning.outer", "maml"), *overrides, ("train.steps", 1)), tmp_path / "out")
    assert set(made) == {("maml", 2, 0.01, Inner(("head.*", "blocks.1.*"), multi_step=True, unit=True))}


# ------------------------------------------------------------------------------------------------- bad gradients


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Joint steps, by number from 0, whose gradient is not a number."""
    bad, n_calls, joint = set[int](), [0], learning.joint_gradient

    def spy(*given: Any) -> SequenceGrads:
        grads = joint(*given)
        if n_calls[0] in bad:
            next(iter(grads.values.values())).view(-1)[3] = math.nan if n_calls[0] % 2 else math.inf
            grads = replace(grads, loss=math.nan)
        n_calls[0] += 1
        return grads

    monkeypatch.setattr(learning, "joint_gradient", spy)
    return bad


def test_a_gradient_that_is_not_finite_moves_nothing_and_is_counted(
    data: Path, tmp_path: Path, poisoned: set[int]
) -> None:
    poisoned |= {0, 1}
    plan = experiment(data, ("train.steps", 2))
    run(plan, tmp_path / "out")
    assert equal(values_of(start(plan, spoken_of(plan))), weights(tmp_path / "out"))
    assert read_tensors(tmp_path / "out" / "trainer.safetensors")["trainer"][:2].tolist() == [2, 2]
    for line in (tmp_path / "out" / "training.jsonl").read_text().splitlines():
        row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert row["loss"] is None


def test_training_goes_on_after_a_bad_step(data: Path, tmp_path: Path, poisoned: set[int]) -> None:
    poisoned |= {1}
    run(experiment(data, ("train.steps", 4)), tmp_path / "out")
    assert read_tensors(tmp_path / "out" / "trainer.safetensors")["trainer"][:2].tolist() == [4, 1]
    assert all(bool(value.isfinite().all()) for value in weights(tmp_path / "out").values())
    assert [row["loss"] is None for row in log(tmp_path / "out")] == [False, True, False, False]


def test_too_many_bad_steps_in_a_row_stop_training_with_a_remedy(
    data: Path, tmp_path: Path, poisoned: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "MAX_SKIPPED", 3)
    poisoned |= {1, 3, 4, 5}
    with pytest.raises(InputError, match="3 steps in a row had a gradient that is not finite, up to step 6") as caught:
        run(experiment(data, ("train.steps", 40)), tmp_path / "out")
    assert "another --out" in str(caught.value)
    assert load_recogniser(tmp_path / "out").about["steps"] == 6


def test_a_step_size_that_has_no_gradient_moves_nothing_either(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradient = MetaLearning.gradient

    def spy(self: MetaLearning, *given: Any) -> SequenceGrads:
        grads = gradient(self, *given)
        grads.values["inner_lr.head.bias"].fill_(math.nan)
        return grads

    monkeypatch.setattr(MetaLearning, "gradient", spy)
    plan = experiment(data, ("learning.outer", "meta_sgd"), ("learning.share", 1.0), ("train.steps", 2))
    run(plan, tmp_path / "out")
    trainer = read_tensors(tmp_path / "out" / "trainer.safetensors")
    assert trainer["trainer"][:2].tolist() == [2, 2]
    assert all(bool((v == math.log(0.01)).all()) for k, v in trainer.items() if k == "size/inner_lr.head.bias")
    assert equal(values_of(start(plan, spoken_of(plan))), weights(tmp_path / "out"))


def test_the_gradient_is_clipped_and_that_of_a_step_size_is_of_its_logarithm(data: Path) -> None:
    plan = experiment(data, ("learning.outer", "maml_plus_plus"), ("train.clip", 0.5), ("recogniser.dropout", 0.0))
    trainer = trainer_module.trainer_of(plan, start(plan, spoken_of(plan)))
    generator = torch.Generator().manual_seed(0)
    named = dict(trainer.net.named_parameters())
    values = {name: torch.randn(value.shape, generator=generator) for name, value in named.items() if "head" in name}
    values["inner_lr.head.bias"] = torch.tensor([[3.0], [-2.0]])
    norm = math.sqrt(sum(float(values[n].square().sum()) for n in ("head.weight", "head.bias")))
    assert norm > 0.5
    assert trainer_module.apply(trainer, SequenceGrads(values, 1.0), plan)
    for name in ("head.weight", "head.bias"):
        torch.testing.assert_close(named[name].grad, values[name] * 0.5 / norm)
    assert named["stem.0.weight"].grad is None
    torch.testing.assert_close(trainer.sizes["inner_lr.head.bias"].grad, torch.tensor([[0.03], [-0.02]]))
    assert trainer.sizes["inner_lr.head.weight"].grad is None
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [
        step_size(plan, 0.0),
        trainer_module.STEP_SIZE_LR,
    ]
    small = {name: value * 0.01 for name, value in values.items() if name in named}
    trainer_module.apply(trainer, SequenceGrads(small, 1.0), plan)
    torch.testing.assert_close(named["head.bias"].grad, small["head.bias"])


def test_the_step_size_warms_up_and_falls_as_a_cosine(data: Path) -> None:
    plan = experiment(data, ("train.steps", 110), ("train.warmup", 10), ("train.lr", 2.0))
    sizes = [step_size(plan, float(step)) for step in range(110)]
    assert sizes[0] == pytest.approx(0.2)
    assert sizes[9] == sizes[10] == pytest.approx(2.0)
    assert sizes[60] == pytest.approx(2 * (0.02 + 0.98 / 2))  # half way
    assert step_size(plan, 110.0) == pytest.approx(0.04)
    assert sizes[10:] == sorted(sizes[10:], reverse=True)
    assert step_size(experiment(data, ("train.warmup", 0), ("train.lr", 2.0)), 0.0) == pytest.approx(2.0)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the processor's time is a tenth of a second later."""
    seen = [0.0]

    def tick() -> float:
        seen[0] += 0.1
        return seen[0]

    monkeypatch.setattr(learning.time, "process_time", tick)


def test_a_budget_ends_learning_and_its_schedules_follow_it(
    data: Path, tmp_path: Path, steps: list[str], ticking: None
) -> None:
    plan = experiment(
        data,
        ("train.budget_s", 1.0),
        ("train.steps", 1000),
        ("train.plain_share", 0.35),
        ("train.warmup", 0),
        ("learning.outer", "fomaml"),
        ("learning.share", 0.55),
        ("train.validate_every", 1000),
    )
    run(plan, tmp_path / "out")
    assert steps == ["joint"] * 4 + ["joint changed"] + ["adapting changed"] * 5
    about = load_recogniser(tmp_path / "out").about
    assert (about["steps"], about["skipped"]) == (10, 0)
    assert about["cpu_s"] == pytest.approx(1.1)  # a tenth for the validation at the end
    trainer = trainer_module.trainer_of(plan, start(plan, spoken_of(plan)))
    trainer.cpu_s = 0.5
    assert trainer.at(plan.train) == pytest.approx(500)
    assert step_size(plan, trainer.at(plan.train)) == pytest.approx(plan.train.lr * (0.02 + 0.98 / 2))
    trainer.cpu_s = 7.0
    assert trainer.at(plan.train) == 1000


def test_what_is_guessed_first_is_spelled_later(data: Path, tmp_path: Path, steps: list[str]) -> None:
    """The first steps of ``masked`` look at no text, and the head stays until joint steps move it."""
    plan = experiment(data, ("learning.outer", "masked"), ("learning.share", 1.0), ("train.weight_decay", 0.0))
    found = run(plan, tmp_path / "out")
    before = values_of(start(plan, spoken_of(plan)))
    moved = {name for name, value in values_of(found.net).items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in moved} == {"stem", "blocks"}
    assert not steps
    half = experiment(data, ("learning.outer", "masked"), ("learning.share", 0.5), ("train.plain_share", 1.0))
    run(half, tmp_path / "half")
    assert [what.split()[0] for what in steps] == ["joint"] * 4
    assert not any(name.startswith("guess") for name in weights(tmp_path / "half"))


# --------------------------------------------------------------------------------------------------------- validation


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("batch", [1, 4, 16])
def test_validation_is_the_error_of_the_utterances_that_were_held_out(data: Path, training: bool, batch: int) -> None:
    plan = experiment(data, ("recogniser.dropout", 0.5), ("data.validation_share", 0.3))
    spoken, net = spoken_of(plan), start(plan, spoken_of(plan))
    with torch.no_grad():
        net.head.weight.mul_(30)
        net.head.bias[0] -= 5
    found = validate(net.train(training), spoken, batch)
    assert net.training is training
    net.eval()
    said, heard = [], []
    for i in spoken.held_out:
        inputs, lengths = spoken.sentences.features(np.array([i]), FRONT_END)
        with torch.no_grad():
            heard.append(UNIVERSAL.decode(greedy(net(inputs, lengths)[0]).ids))
        said.append(spoken.sentences.utterances[i].text)
    assert len(said) >= 6
    assert any(heard)
    assert found == pytest.approx(cer(said, heard).rate)


def test_nothing_is_validated_where_nothing_is_held_out(data: Path, tmp_path: Path) -> None:
    plan = experiment(data, ("data.validation_share", 1e-9), ("train.steps", 3))
    assert validate(start(plan, spoken_of(plan)), spoken_of(plan)) is None
    found = run(plan, tmp_path / "out")
    assert found.about["validation_cer"] is None
    assert all("validation_cer" not in row for row in log(tmp_path / "out"))
    assert run(plan, tmp_path / "out", resume=True).about["validation_cer"] is None


def test_validation_comes_when_the_recipe_says_and_at_the_end(data: Path, tmp_path: Path) -> None:
    run(experiment(data), tmp_path / "out")
    known = ["validation_cer" in row for row in log(tmp_path / "out")]
    assert known == [False, False, True, True, True, True, True, True]


# -------------------------------------------------------------------------------------------------- what it starts from


def test_a_training_starts_from_another_ones_weights(data: Path, tmp_path: Path) -> None:
    plan = experiment(data, ("train.steps", 2))
    first = run(plan, tmp_path / "first", None)
    again = experiment(data, ("train.init", str(tmp_path / "first")), ("train.seed", 5), ("recogniser.dropout", 0.3))
    assert known_phones(again) == tuple(LETTERS)
    assert known_phones(plan) is None
    spoken = spoken_of(again, known_phones(again))
    found = start(again, spoken)
    assert equal(values_of(found), values_of(first.net))
    assert found.config.dropout == 0.3
    learn(again, spoken, tmp_path / "second")
    assert load_recogniser(tmp_path / "second").about["init"] == str(tmp_path / "first")


@pytest.mark.parametrize("sizes", [{"adapter": 2}, {"condition": 4}, {"adapter": 2, "condition": 4}])
def test_a_training_goes_on_from_a_base_that_lacks_what_it_adapts(
    data: Path, tmp_path: Path, sizes: dict[str, int]
) -> None:
    first = run(experiment(data, ("train.steps", 3)), tmp_path / "first")
    changes = tuple((f"recogniser.{name}", size) for name, size in sizes.items())
    again = experiment(data, ("train.init", str(tmp_path / "first")), ("train.steps", 6), *changes)
    found = start(again, spoken_of(again, known_phones(again)))
    batch = spoken_of(again).sentences.batch(np.arange(3), FRONT_END)
    with torch.no_grad():
        assert torch.equal(found(batch.inputs, batch.lengths), first.net.eval()(batch.inputs, batch.lengths))
    learned = run(again, tmp_path / "second")
    assert {name: getattr(learned.net.config, name) for name in sizes} == sizes
    assert learned.net.config.condition_by == ("film" if "condition" in sizes else "gate")
    before, after = values_of(found), values_of(load_recogniser(tmp_path / "second").net)
    new = [name for name in before if name not in values_of(first.net)]
    assert all(not torch.equal(before[name], after[name]) for name in new)
    # And what was learned so is gone on from as it is.
    third = experiment(
        data,
        ("train.init", str(tmp_path / "second")),
        *changes,
        ("recogniser.condition_by", learned.net.config.condition_by),
    )
    assert equal(values_of(start(third, spoken_of(third))), after)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 32},
        {"blocks": 3},
        {"reduction": 8},
        {"condition": 4},
        {"front_end": FRONT_END.model_copy(update={"high_hz": 7000.0})},
        {"n_phones": 0},
        {"symbols": Symbols((*UNIVERSAL.characters[1:], "ä"), "native")},
        {"phones": tuple(reversed(LETTERS))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_networks_weights_are_refused(data: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    symbols, phones = change.pop("symbols", UNIVERSAL), change.pop("phones", tuple(LETTERS))
    config = experiment(data).recogniser.model_copy(update={"n_symbols": UNIVERSAL.size, "n_phones": 9, **change})
    if not config.n_phones:
        phones = ()
    save_recogniser(tmp_path / "other", Recognition(new_net(config), symbols, "other", "", {}, phones))
    plan = experiment(data, ("train.init", str(tmp_path / "other")))
    with pytest.raises(InputError, match=r"train\.init is .*, a network of another shape, front end or alphabet"):
        run(plan, tmp_path / "out", None)
    assert not (tmp_path / "out").exists()


# ----------------------------------------------------------------------------------------------------- out folders


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((("recogniser.kernel", 4),), "recogniser.kernel is 4; it must be odd"),
        ((("recogniser.body", "conformer"), ("recogniser.condition", 4)), "a conformer has none"),
        ((("learning.outer", "fomaml"), ("learning.adapts", ["tail.*"])), r"adapts names 'tail\.\*'"),
        ((("learning.outer", "meta_sgd"), ("learning.adapts", ["tail.*"])), r"adapts names 'tail\.\*'"),
        ((("learning.outer", "fomaml"), ("tasks.support_s", 900.0)), "No group of the training data is long enough"),
        ((("recogniser.condition", 4), ("tasks.support_s", 900.0)), "No group of the training data is long enough"),
        ((("train.init", "/nowhere"),), "/nowhere holds no recogniser"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once_and_leaves_nothing(
    data: Path, tmp_path: Path, overrides: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        run(experiment(data, *overrides), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tasks_of_one_text_are_refused_when_they_are_drawn(tmp_path: Path) -> None:
    talk(tmp_path / "data" / "alike", ["abba"] * 10)
    tree = experiment(tmp_path / "data").model_dump(mode="json")
    tree["data"] |= {"corpora": [str(tmp_path / "data" / "alike")], "words": []}
    tree["learning"] |= {"outer": "fomaml", "share": 1.0}
    with pytest.raises(InputError, match=r"No two texts differ along language; choose another tasks\.axis"):
        run(TranscriptionExperiment.model_validate(tree), tmp_path / "out")


def test_a_recipe_that_contradicts_its_learner_is_refused_before_anything_is_computed(
    data: Path, tmp_path: Path
) -> None:
    plan = experiment(data, ("learning.learner", "anil"), ("learning.outer", "joint"))
    with pytest.raises(InputError, match=r"learning\.outer is joint and anil is the learner with outer=maml"):
        check_out(plan, tmp_path / "out")


def test_the_recipe_that_ships_takes_any_learner() -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "transcription.yaml"
    found = resolved(load_recipe(recipe, ["learning.learner=cavia"]))
    assert (found.learning.outer, found.learning.encoding, found.recogniser.condition_by) == ("maml", "zero", "film")


def test_a_folder_that_is_taken_is_refused_and_left_alone(data: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "file"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    file.write_text("mine")
    for taken in (out, file):
        with pytest.raises(InputError, match="is not empty; use --resume to go on, or another --out"):
            run(experiment(data), taken)
    for folder in (out, tmp_path / "nowhere", file):
        with pytest.raises(InputError, match="holds no training to resume"):
            run(experiment(data), folder, resume=True)
    assert sounds.files_below(out) == {"mine.txt": b"mine"}
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "empty").mkdir()
    check_out(experiment(data), tmp_path / "empty")


def test_another_experiment_cannot_be_resumed(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(experiment(data, ("train.steps", 1)), out)
    before = sounds.files_below(out)
    for change in (("train.lr", 0.1), ("recogniser.dim", 14), ("data.leave_out_languages", ["zz"])):
        with pytest.raises(InputError, match="was trained with another recipe; resume with the same one"):
            run(experiment(data, ("train.steps", 1), change), out, resume=True)
    assert sounds.files_below(out) == before
    tree = yaml.safe_load((out / "experiment.yaml").read_text())
    assert TranscriptionExperiment.model_validate(tree) == experiment(data, ("train.steps", 1))


@pytest.mark.parametrize("damage", ["cut", "another", "shape"])
def test_a_damaged_checkpoint_cannot_be_resumed(data: Path, tmp_path: Path, damage: str) -> None:
    out, plan = tmp_path / "out", experiment(data, ("train.steps", 1))
    run(plan, out)
    path = out / "trainer.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "another":
        write_tensors(path, {"trainer": torch.zeros(4), "value/x": torch.zeros(3)})
    else:
        write_tensors(path, {**read_tensors(path), "value/head.bias": torch.zeros(3)})
    with pytest.raises(InputError, match=r"trainer\.safetensors"):
        run(plan, out, resume=True)


def test_the_best_known_is_kept_when_the_disk_is_full(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, out = experiment(data), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(plan, out, report=stop_at(4))
    before = (out / "trainer.safetensors").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("metavox.checkpoint.os.replace", full)
        with pytest.raises(OSError, match="No space left"):
            run(plan, out, resume=True)
    assert (out / "trainer.safetensors").read_bytes() == before
    assert not list(out.rglob("*.tmp"))
    assert run(plan, out, resume=True).about["steps"] == 8


# ------------------------------------------------------------------------------------------------------ augmentation


def test_a_change_of_a_batch_keeps_its_texts(data: Path) -> None:
    plan = experiment(data)
    spoken = spoken_of(plan)
    batch = spoken.sentences.batch(np.arange(5), FRONT_END)
    change = learning.changing(plan, FRONT_END)
    found = change(batch, torch.Generator().manual_seed(1))
    assert isinstance(found, Transcribed)
    assert found.targets is batch.targets
    assert found.target_lengths is batch.target_lengths
    assert not torch.equal(found.lengths, batch.lengths)
    off = learning.changing(experiment(data, ("augment.enabled", False)), FRONT_END)
    assert torch.equal(off(batch, torch.Generator()).inputs, batch.inputs)
