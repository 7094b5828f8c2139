"""What training does for averages: common beginnings, averages along the way, checkpoints, and other recordings."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import torch
import yaml
from calling import Metavox, caller
from refusals import said

from metavox import training_state
from metavox.averaging.weights import MovingAverage, soup
from metavox.checkpoint import averaged, build, load_model, read_tensors, save_averaged, save_model
from metavox.config import Experiment
from metavox.contracts import State
from metavox.data.selection import Tasks, select_tasks
from metavox.learners.metric import FURNITURE
from metavox.tasks import TASKS
from metavox.training import Step, initialise, learn, validate
from metavox.training_state import Trainer

TINY: dict[str, Any] = {
    "model": {
        "front_end": {"n_mels": 20, "n_frames": 24, "normalize": False},
        "encoder": {"channels": 16, "blocks": 1, "dim": 8},
        "learner": {"match": "soft"},
    },
    "data": {"validation_share": 0.34},
    "episodes": {"ways": 3, "shots": 1, "queries": 1, "batch": 1},
    "train": {
        "steps": 4,
        "lr": 5e-3,
        "warmup": 1,
        "validate_every": 4,
        "checkpoint_every": 2,
        "validation_episodes": 2,
        "validation_ways": 2,
    },
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sounds.manifest_corpus(tmp_path_factory.mktemp("data") / "tones", sounds.WORDS, ("anna",), 6)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path_factory.getbasetemp() / "averages-cache"))
    monkeypatch.delenv("METAVOX_DATA", raising=False)


def tree(corpus: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(TINY))
    found["data"]["corpora"] = [str(corpus)]
    for name, changes in sections.items():
        found[name] = {**found.get(name, {}), **changes}
    return found


def experiment(corpus: Path, **sections: dict[str, Any]) -> Experiment:
    return Experiment.model_validate(tree(corpus, **sections))


def weights(folder: Path) -> State:
    return read_tensors(folder / "model.safetensors")


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def run(plan: Experiment, out: Path, **options: Any) -> Any:
    return learn(plan, select_tasks(plan), out, **options)


# ----------------------------------------------------------------------------------------------------- data.bootstrap


def positions(tasks: Tasks) -> list[int]:
    return sorted(p for group in tasks.training.groups for p in group.positions.tolist())


def test_a_bootstrap_keeps_what_drawing_with_replacement_hits(tmp_path: Path) -> None:
    """1 - (1 - 1/n)^n of n, 63 % of many."""
    many = sounds.manifest_corpus(tmp_path / "many", sounds.WORDS[:6], ("anna",), 20)
    whole = select_tasks(experiment(many))
    shares = []
    for seed in range(5):
        tasks = select_tasks(experiment(many, data={"bootstrap": seed, "validation_share": 0.34}))
        kept = positions(tasks)
        assert len(set(kept)) == len(kept)
        assert set(kept) < set(positions(whole))
        assert tasks.training.groups[0].classes == whole.training.groups[0].classes
        assert positions_of_validation(tasks) == positions_of_validation(whole)
        shares.append(len(kept) / len(positions(whole)))
    assert np.mean(shares) == pytest.approx(1 - (1 - 1 / 20) ** 20, abs=0.05)
    again = select_tasks(experiment(many, data={"bootstrap": 4, "validation_share": 0.34}))
    assert positions(again) == kept


def positions_of_validation(tasks: Tasks) -> list[int]:
    return sorted(p for group in tasks.validation.groups for p in group.positions.tolist())


def test_no_episode_of_a_bootstrap_hears_a_recording_on_both_sides(corpus: Path) -> None:
    tasks = select_tasks(experiment(corpus, data={"bootstrap": 3, "validation_share": 0.34}))
    kept = set(positions(tasks))
    for i in range(40):
        draw = tasks.training.episode(i, 0)
        support, query = draw.support.tolist(), draw.query.tolist()
        assert not set(support) & set(query)
        assert len({*support, *query}) == len(support) + len(query)
        assert {*support, *query} <= kept


@pytest.mark.parametrize("share", [1.0, 0.6, 0.01])
def test_a_member_may_hear_a_share_of_the_classes(corpus: Path, share: float) -> None:
    def classes(seed: int, **data: Any) -> set[str]:
        plan = experiment(corpus, data={"validation_share": 0.34, **data}, train={**TINY["train"], "seed": seed})
        return {name for group in select_tasks(plan).training.groups for name in group.classes}

    whole = classes(0)
    found = classes(0, class_share=share)
    assert found <= whole
    assert len(found) == max(2, round(share * len(whole)))
    assert classes(0, class_share=share) == found
    if share == 0.6:
        assert len({frozenset(classes(seed, class_share=share)) for seed in range(4)}) > 1


# ---------------------------------------------------------------------------------------------------------- train.init


def saved(folder: Path, plan: Experiment, seed: int) -> Path:
    save_model(folder, build(plan.model, seed=seed), plan.model, {})
    return folder


def test_training_starts_from_the_weights_that_are_named(corpus: Path, tmp_path: Path) -> None:
    plan = experiment(corpus)
    base = saved(tmp_path / "base", plan, 9)
    started = experiment(corpus, train={**TINY["train"], "init": str(base)})
    learner, config = initialise(started, select_tasks(started))
    assert equal(learner.state_dict(), weights(base))
    assert not equal(learner.state_dict(), build(config, seed=0).state_dict())
    run(started, tmp_path / "out")
    assert not equal(weights(tmp_path / "out"), weights(base))
    assert load_model(tmp_path / "out").config.encoder.channels == 16


def test_what_a_model_learned_after_its_training_stays_behind(corpus: Path, tmp_path: Path) -> None:
    plan = experiment(corpus)
    cohort = plan.model.learner.model_copy(update={"cohort": 4})
    config = plan.model.model_copy(update={"learner": cohort})
    learner = build(config, seed=9)
    save_model(tmp_path / "furnished", learner, config, {})
    bare = {name: value for name, value in learner.state_dict().items() if name not in FURNITURE}
    assert set(FURNITURE) == learner.state_dict().keys() - bare.keys()
    started = experiment(corpus, train={**TINY["train"], "init": str(tmp_path / "furnished")})
    assert equal(initialise(started, select_tasks(started))[0].state_dict(), bare)


def test_weights_that_do_not_fit_are_refused(corpus: Path, tmp_path: Path) -> None:
    plan = experiment(corpus)
    wider = experiment(corpus, model={**TINY["model"], "encoder": {"channels": 24, "blocks": 1, "dim": 8}})
    deeper = experiment(corpus, model={**TINY["model"], "encoder": {"channels": 16, "blocks": 2, "dim": 8}})
    models = [load_model(saved(tmp_path / str(k), plan, k)) for k in range(2)]
    save_averaged(tmp_path / "both", models, averaged(models, "mean"))
    bases = [saved(tmp_path / "wider", wider, 0), saved(tmp_path / "deeper", deeper, 0), tmp_path / "both"]
    for base in bases:
        started = experiment(corpus, train={**TINY["train"], "init": str(base)})
        text = said(lambda plan=started: run(plan, tmp_path / "out"))
        assert f"train.init is {base}, whose" in text
        assert "start from a model of the same encoder and learner" in text
        assert not (tmp_path / "out").exists()
    gone = experiment(corpus, train={**TINY["train"], "init": str(tmp_path / "gone")})
    assert "holds no model" in said(lambda: initialise(gone, select_tasks(gone)))


def test_members_that_began_alike_can_be_averaged_weight_by_weight(corpus: Path, tmp_path: Path) -> None:
    base = saved(tmp_path / "base", experiment(corpus), 9)
    for seed in range(2):
        train = {**TINY["train"], "init": str(base), "seed": seed}
        run(experiment(corpus, train=train), tmp_path / str(seed))
    states = [weights(tmp_path / str(seed)) for seed in range(2)]
    assert not equal(*states)
    learner = build(experiment(corpus).model)
    learner.load_state_dict(soup(states))


# -------------------------------------------------------------------------------------------- train.ema and keep_every


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[State]:
    """The weights after every step that an average is told of."""
    found: list[State] = []
    update = MovingAverage.update

    def spy(self: MovingAverage, state: State) -> None:
        found.append({name: value.detach().clone() for name, value in state.items()})
        update(self, state)

    monkeypatch.setattr(MovingAverage, "update", spy)
    return found


def test_the_model_is_the_average_of_the_steps(corpus: Path, tmp_path: Path, states: list[State]) -> None:
    plan = experiment(corpus, train={**TINY["train"], "ema": 0.6})
    returned = run(plan, tmp_path / "out")
    assert len(states) == 4
    average = MovingAverage(0.6)
    for state in states[:]:
        average.update(state)
    assert equal(weights(tmp_path / "out"), average.values)
    assert equal(returned.state_dict(), average.values)
    assert not equal(weights(tmp_path / "out"), states[3])
    found = load_model(tmp_path / "out")
    # What is said of the model was measured on the model that is written.
    measured = validate(plan, select_tasks(plan), found.learner, TASKS["commands"]())
    assert found.about["validation_accuracy"] == measured
    run(experiment(corpus), tmp_path / "plain")
    assert equal(weights(tmp_path / "plain"), states[3])  # it does not change how training goes


def test_an_interrupted_average_goes_on_exactly(corpus: Path, tmp_path: Path) -> None:
    plan = experiment(corpus, train={**TINY["train"], "ema": 0.6, "keep_every": 2})
    run(plan, tmp_path / "whole")

    def stop(step: Step) -> None:
        if step.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path / "parts", report=stop)
    assert load_model(tmp_path / "parts").about["steps"] == 3
    run(plan, tmp_path / "parts", resume=True)
    for part in (".", "steps/000002", "steps/000004"):
        assert equal(weights(tmp_path / "parts" / part), weights(tmp_path / "whole" / part))
    assert equal(read_tensors(tmp_path / "parts" / "trainer.safetensors") | {"trainer": torch.zeros(0)},
                 read_tensors(tmp_path / "whole" / "trainer.safetensors") | {"trainer": torch.zeros(0)})  # fmt: skip


def test_without_an_average_the_learner_itself_is_kept() -> None:
    learner = torch.nn.Linear(2, 2)
    trainer = Trainer(learner, torch.optim.AdamW(learner.parameters()))
    assert training_state.kept(trainer) is learner
    trainer.average = MovingAverage(0.5)
    assert training_state.kept(trainer) is learner  # before its first step
    trainer.average.update({name: value + 1 for name, value in learner.state_dict().items()})
    other = training_state.kept(trainer)
    assert torch.equal(other.weight, learner.weight + 1)


def test_models_of_the_way_are_kept_and_load(corpus: Path, tmp_path: Path) -> None:
    plan = experiment(corpus, train={**TINY["train"], "steps": 5, "keep_every": 2})
    run(plan, tmp_path / "out")
    folders = sorted((tmp_path / "out" / "steps").iterdir())
    assert [folder.name for folder in folders] == ["000002", "000004"]
    assert [load_model(folder).about["step"] for folder in folders] == [2, 4]
    short = experiment(corpus, train={**TINY["train"], "steps": 5, "checkpoint_every": 1})

    def stop(step: Step) -> None:
        if step.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(short, tmp_path / "short", report=stop)
    assert equal(weights(folders[0]), weights(tmp_path / "short"))


# ------------------------------------------------------------------------------------------------- --members and --vary


@pytest.fixture
def metavox(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Metavox:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


@pytest.fixture
def recipe(corpus: Path, tmp_path: Path) -> Path:
    asked = tree(corpus, train={**TINY["train"], "steps": 1, "validate_every": 1})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(asked))
    return tmp_path / "recipe.yaml"


def test_members_are_trained_into_folders_of_their_own(metavox: Metavox, recipe: Path, tmp_path: Path) -> None:
    call = ("train", recipe, "--members", 3, "--vary", "bootstrap", "--vary", "augmentation", "--out", "exp")
    told = metavox(*call, "--json")
    assert told.status == 0, told.err
    found = json.loads(told.out)
    assert found["model"] == ["exp/1", "exp/2", "exp/3"]
    assert all(len(found[key]) == 3 for key in ("loss", "validation_accuracy", "skipped"))
    experiments = [yaml.safe_load((Path("exp") / str(k) / "experiment.yaml").read_text()) for k in (1, 2, 3)]
    assert [one["train"]["seed"] for one in experiments] == [0, 1, 2]
    assert [one["data"]["bootstrap"] for one in experiments] == [0, None, 2]
    before = sounds.files_below(tmp_path / "exp")
    again = metavox(*call, "--resume")
    assert again.status == 0, again.err
    assert "metavox average exp/*" in again.out
    assert sounds.files_below(tmp_path / "exp") == before
    assert "exp is not empty" in metavox(*call).err


def test_members_that_were_stopped_go_on(metavox: Metavox, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def stopping(plan: Experiment, tasks: Tasks, out: Path, **options: Any) -> Any:
        done.append(out.name)
        if len(done) == 2:
            raise KeyboardInterrupt
        return learn(plan, tasks, out, **options)

    call = ("train", recipe, "--members", 2, "--out", "exp")
    monkeypatch.setattr("metavox.training.learn", stopping)
    assert metavox(*call).status == 130
    assert metavox(*call, "--resume").status == 0
    assert done == ["1", "2", "2"]
    assert sorted(path.name for path in Path("exp").iterdir()) == ["1", "2"]
    assert all(load_model(Path("exp") / str(k)).about["seed"] == k - 1 for k in (1, 2))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--members", "1"], "--members is 1; an average needs two or more."),
        (["--members", "0"], "--members is 0; an average needs two or more."),
        (["--vary", "tasks"], "--vary is tasks and --members is not given"),
        (["--members", "2", "--vary", "luck"], "--vary is 'luck'; choose from seed, bootstrap"),
        (["train.init=x", "--members", "2", "--vary", "architecture"], "exclude one another"),
    ],
)
def test_members_that_make_no_average_are_refused(
    metavox: Metavox, recipe: Path, options: list[str], sentence: str
) -> None:
    told = metavox("train", recipe, *options, "--out", "exp")
    assert (told.status, told.out) == (2, "")
    assert sentence in told.err
    assert told.err.count("\n") == 1
    assert not Path("exp").exists()


def test_recognisers_are_no_members_of_one_training(metavox: Metavox, tmp_path: Path) -> None:
    root = Path(sys.modules["metavox"].__file__ or "").parents[2]
    told = metavox("train", root / "recipes" / "transcription.yaml", "--members", 2, "--out", "exp")
    assert told.status == 2
    assert "--members trains models of words" in told.err
