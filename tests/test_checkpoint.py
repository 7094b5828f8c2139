"""Models on disk: what was saved comes back, and what is damaged is told in one sentence."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sounds
import torch
from refusals import said

from metavox import checkpoint
from metavox.checkpoint import (
    build,
    fingerprint,
    load_model,
    place_of,
    read_tensors,
    rehead,
    save_model,
    write_json,
    write_tensors,
)
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, FrontEnd

SMALL = ModelConfig(
    front_end=FrontEnd(n_mels=20, n_frames=24, normalize=False),
    encoder=EncoderConfig(channels=16, blocks=1, dim=8),
    learner=LearnerConfig(match="soft"),
)
ABOUT = {
    "corpora": ["a"],
    "steps": 3,
    "reference": {"1": {"target": [1.0, 2.0], "nontarget": [-1.0, 0.5]}},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "exp" / "model"
    save_model(folder, build(SMALL, seed=1), SMALL, ABOUT)
    return folder


def edited(path: Path, **changes: Any) -> None:
    document = json.loads(path.read_text())
    for key, value in changes.items():
        *above, last = key.split("__")
        node = document
        for part in above:
            node = node[part]
        if value is KeyError:
            del node[last]
        else:
            node[last] = value
    path.write_text(json.dumps(document))


# ----------------------------------------------------------------------------------------------------------- models


def test_a_model_comes_back_as_it_was(model: Path) -> None:
    learner = build(SMALL, seed=1)
    found = load_model(model)
    assert found.config == SMALL
    assert found.about == ABOUT
    assert (found.name, found.folder) == ("model", model)
    assert found.hash == fingerprint(learner, SMALL)
    assert not found.learner.training
    for name, value in learner.state_dict().items():
        assert torch.equal(found.learner.state_dict()[name], value)
    assert sorted(path.name for path in model.iterdir()) == ["config.json", "model.safetensors"]


def test_the_seed_draws_the_weights_and_nothing_else_does() -> None:
    torch.manual_seed(1)
    first = fingerprint(build(SMALL, seed=1), SMALL)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)  # the global generator is as it was
    assert fingerprint(build(SMALL, seed=1), SMALL) == first
    assert fingerprint(build(SMALL, seed=2), SMALL) != first


def test_the_hash_knows_every_weight_and_every_setting() -> None:
    learner = build(SMALL, seed=1)
    hashes = {fingerprint(learner, SMALL)}
    for name, value in learner.state_dict().items():
        before = value.clone()
        value.view(-1)[-1] += 1e-3
        hashes.add(fingerprint(learner, SMALL))
        value.copy_(before)
        assert name
    hashes.add(fingerprint(learner, SMALL.model_copy(update={"front_end": FrontEnd(n_mels=20, n_frames=25)})))
    assert len(hashes) == 2 + len(learner.state_dict())


@pytest.mark.parametrize("name", ["nearest_mean", "dtw", "scratch"])
def test_a_baseline_is_known_by_its_name_alone(name: str) -> None:
    found = load_model(name)
    assert (found.name, found.folder, found.about) == (name, None, {})
    assert found.hash == load_model(name).hash


def test_a_folder_of_the_name_of_a_baseline_is_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(Path("dtw"), build(SMALL), SMALL, {})
    assert load_model("dtw").config == SMALL


# --------------------------------------------------------------------------------- the same weights, adapting otherwise


def of_joint_training(folder: Path, name: str = "joint", **learner: Any) -> Path:
    """A model folder whose learner was in training mode once, so that it has a mean of training."""
    config = SMALL.model_copy(update={"learner": LearnerConfig(name=name, n_base_classes=5, **learner)})
    built: Any = build(config, seed=1)
    built.train().classify(clips())
    save_model(folder, built, config, ABOUT)
    return folder


def clips(seed: int = 0) -> Batch:
    inputs = torch.randn(6, 24, 20, generator=torch.Generator().manual_seed(seed))
    return Batch(inputs, torch.full((6,), 24), torch.tensor([0, 1, 2, 0, 1, 2]), 3)


def scores(learner: Any) -> torch.Tensor:
    with torch.no_grad():
        return learner.predict(learner.adapt(clips()), clips(1)).scores


@pytest.mark.parametrize("name", ["joint", "linear_probe", "simpleshot"])
def test_a_learner_of_joint_training_comes_back_with_its_mean_of_training(name: str, tmp_path: Path) -> None:
    found = load_model(of_joint_training(tmp_path / "model", name))
    assert int(found.learner.n_averaged) == 1
    assert bool(found.learner.base_mean.any())
    again = load_model(of_joint_training(tmp_path / "again", name))
    assert torch.equal(scores(found.learner), scores(again.learner))
    assert found.hash == again.hash


def test_a_saved_scratch_comes_back_as_it_was(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"learner": LearnerConfig(name="scratch", inner_steps=3)})
    save_model(tmp_path / "model", build(config, seed=4), config, {})
    assert torch.equal(scores(load_model(tmp_path / "model").learner), scores(build(config, seed=4)))


@pytest.mark.parametrize(
    "asked", [{"name": "linear_probe"}, {"name": "simpleshot"}, {"name": "joint", "inner_steps": 2}]
)
def test_another_head_on_the_same_weights_is_the_learner_that_would_have_been_trained(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    model = load_model(of_joint_training(tmp_path / "joint"))
    trained = load_model(of_joint_training(tmp_path / "other", **asked))
    found = rehead(model, trained.config.learner)
    assert torch.equal(scores(found.learner), scores(trained.learner))
    assert not torch.allclose(scores(found.learner), scores(model.learner), atol=1e-4)
    assert (found.hash, found.config) == (trained.hash, trained.config)
    assert found.hash != model.hash
    assert (found.name, found.about) == (f"joint as {asked['name']}", ABOUT)
    assert not found.learner.training


def test_a_head_of_another_training_is_refused(tmp_path: Path) -> None:
    model = load_model(of_joint_training(tmp_path / "model"))
    for name in ("prototypes", "fomaml", "scratch", "dtw"):
        text = said(lambda name=name: rehead(model, LearnerConfig(name=name, n_base_classes=5)))
        assert f"learns by joint, and {name} needs another training" in text
        assert "evaluate it as joint or linear_probe or simpleshot" in text
    text = said(lambda: rehead(load_model("dtw"), LearnerConfig(name="scratch")))
    assert "evaluate it as dtw" in text
    assert "learner.name is 'svm'" in said(lambda: rehead(model, LearnerConfig(name="svm")))
    assert "do not fit learner simpleshot with learner.n_base_classes=4" in said(
        lambda: rehead(model, LearnerConfig(name="simpleshot", n_base_classes=4))
    )


def test_names_that_nobody_knows_are_refused() -> None:
    encoder = SMALL.model_copy(update={"encoder": EncoderConfig(name="lstm")})
    known = "conv, linear, fc, sparse, conformer, crnn, logmel, mfcc"
    assert said(lambda: build(encoder)) == f"encoder.name is 'lstm'; it must be one of {known}."
    learner = SMALL.model_copy(update={"learner": LearnerConfig(name="svm")})
    assert "learner.name is 'svm'" in said(lambda: build(learner))


@pytest.mark.parametrize("source", ["", "nowhere", "nul\0byte", "x" * 3000, "empty", "file.txt"])
def test_no_model_there_names_what_could_be_given(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    text = said(lambda: load_model(source))
    assert "holds no model" in text
    assert "nearest_mean, dtw, scratch" in text


def test_a_bundled_name_is_a_folder(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = tmp_path / "bundled"
    shutil.copytree(model, shelf / "small")
    assert place_of("metavox/small", shelf) == shelf / "small"
    assert place_of(model, shelf) == model
    monkeypatch.setattr(checkpoint, "BUNDLED", shelf)
    found = load_model("metavox/small")
    assert (found.name, found.folder, found.hash) == ("metavox/small", shelf / "small", load_model(model).hash)
    for name in ("metavox/large", "metavox/small/..", "metavox/../exp"):
        assert said(lambda name=name: load_model(name)) == f"{name} is no bundled model; there are metavox/small."


def test_a_recogniser_of_speech_tells_no_words_apart() -> None:
    assert "transcribes and tells no words apart" in said(lambda: load_model("metavox/asr-small"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def another_encoder(folder: Path) -> None:
    write_tensors(folder / "model.safetensors", build(ModelConfig(), seed=1).state_dict())


def flipped(folder: Path) -> None:
    tensors = read_tensors(folder / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] += 1
    write_tensors(folder / "model.safetensors", tensors)


MODEL_DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights cut": (lambda f: cut(f / "model.safetensors"), "damaged or truncated"),
    "weights empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "damaged or truncated"),
    "weights of nothing": (lambda f: (f / "model.safetensors").write_bytes(os.urandom(500)), "damaged or truncated"),
    "weights gone": (lambda f: (f / "model.safetensors").unlink(), "is missing"),
    "weights of another encoder": (another_encoder, "belongs to another encoder or learner"),
    "a weight changed": (flipped, "is not as it was saved"),
    "config cut": (lambda f: cut(f / "config.json"), "damaged or truncated"),
    "config empty": (lambda f: (f / "config.json").write_text(""), "damaged or truncated"),
    "config binary": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "damaged or truncated"),
    "config deep": (lambda f: (f / "config.json").write_text("[" * 100_000), "damaged or truncated"),
    "config digits": (lambda f: (f / "config.json").write_text("9" * 10_000), "damaged or truncated"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "not written by Metavox"),
    "config of others": (lambda f: (f / "config.json").write_text('{"architectures": []}'), "not written by Metavox"),
    "another format": (lambda f: edited(f / "config.json", format=2, version="9.9"), "the version that wrote it (9.9)"),
    "no format": (lambda f: edited(f / "config.json", format=KeyError), "has format None"),
    "another setting": (lambda f: edited(f / "config.json", model__learner__match="dtw"), "is not as it was saved"),
    "another size": (lambda f: edited(f / "config.json", model__encoder__dim=9), "belongs to another encoder"),
    "an unknown key": (lambda f: edited(f / "config.json", model__encoder__depth=9), "unknown key encoder.depth"),
    "an unknown encoder": (lambda f: edited(f / "config.json", model__encoder__name="lstm"), "must be one of"),
    "no settings": (lambda f: edited(f / "config.json", model=KeyError), "config.json"),
    "another hash": (lambda f: edited(f / "config.json", hash="0" * 64), "is not as it was saved"),
    "no hash": (lambda f: edited(f / "config.json", hash=None), "is not as it was saved"),
    "a list about it": (lambda f: edited(f / "config.json", about=[1]), "about"),
    "no reference": (lambda f: edited(f / "config.json", about__reference="none"), "reference"),
    "an odd reference": (lambda f: edited(f / "config.json", about__reference={"few": {}}), "reference"),
    "an empty reference": (
        lambda f: edited(f / "config.json", about__reference={"1": {"target": [], "nontarget": [1.0]}}),
        "reference",
    ),
    "a reference of NaN": (
        lambda f: edited(f / "config.json", about__reference={"1": {"target": [float("nan")], "nontarget": [1.0]}}),
        "reference",
    ),
}


@pytest.mark.parametrize("name", MODEL_DAMAGE)
def test_a_damaged_model_is_refused(model: Path, name: str) -> None:
    damage, expected = MODEL_DAMAGE[name]
    damage(model)
    text = said(lambda: load_model(model))
    assert expected in text
    assert str(model) in text or "must be one of" in text


def test_a_model_that_nobody_knows_anything_about_can_be_used(model: Path) -> None:
    edited(model / "config.json", about={})
    assert load_model(model).about == {}
    edited(model / "config.json", about=KeyError)
    assert load_model(model).about == {}


# ------------------------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("what", ["tensors", "json"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, fault: BaseException
) -> None:
    def write(n: int) -> None:
        if what == "tensors":
            write_tensors(tmp_path / "file", {"a": torch.full((3,), n)})
        else:
            write_json(tmp_path / "file", {"a": n})

    write(1)
    before = (tmp_path / "file").read_bytes()

    def fails(*args: Any) -> None:
        raise fault

    monkeypatch.setattr(checkpoint.os, "replace", fails)
    with pytest.raises(type(fault)):
        write(2)
    assert sounds.files_below(tmp_path) == {"file": before}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="Permission"):
        write_tensors(tmp_path / "file", {"a": torch.zeros(1)})
    tmp_path.chmod(0o700)


def test_tensors_that_cannot_be_written_are_an_os_error(tmp_path: Path) -> None:
    """safetensors has an exception of its own; callers know one kind."""
    with pytest.raises(OSError, match="file"):
        write_tensors(tmp_path / "nowhere" / "file", {"a": torch.zeros(1)})


def test_views_and_shared_tensors_can_be_saved(tmp_path: Path) -> None:
    whole = torch.arange(6.0).view(2, 3)
    write_tensors(tmp_path / "file", {"whole": whole, "turned": whole.T, "row": whole[1]})
    found = read_tensors(tmp_path / "file")
    assert torch.equal(found["turned"], whole.T)
    assert torch.equal(found["row"], whole[1])


def test_a_model_from_before_heads_could_be_chosen_keeps_its_class_means(tmp_path: Path) -> None:
    config = ModelConfig(learner=LearnerConfig(name="fomaml", head="prototypes"))
    save_model(tmp_path / "model", build(config, seed=1), config, ABOUT)
    path = tmp_path / "model" / "config.json"
    document = json.loads(path.read_text())
    del document["model"]["learner"]["head"]
    document["hash"] = fingerprint(build(config, seed=1), document["model"])
    path.write_text(json.dumps(document))
    assert load_model(tmp_path / "model").learner.head.kind == "prototypes"
    assert build(ModelConfig(learner=LearnerConfig(name="fomaml"))).head.kind == "zero"
