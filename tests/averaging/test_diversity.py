"""Members that differ: each in its seed and in what was asked for, all of them experiments that can be run."""

from typing import Any

import pytest
from refusals import said

from metavox.averaging.diversity import CLASS_SHARE, SHAPELESS, SOURCES, varied
from metavox.checkpoint import build
from metavox.config import Experiment
from metavox.nets.encoders import ENCODERS


def experiment(**train: Any) -> Experiment:
    model = {"front_end": {"n_mels": 20, "n_frames": 24}, "encoder": {"channels": 32, "blocks": 3, "dim": 8}}
    return Experiment.model_validate({"model": model, "data": {"corpora": ["tones"]}, "train": {"seed": 5, **train}})


def changed(one: Experiment, other: Experiment) -> set[str]:
    """Sections that differ, but for the seed."""
    alike = other.model_copy(update={"train": other.train.model_copy(update={"seed": one.train.seed})})
    ours, theirs = one.model_dump(), alike.model_dump()
    return {key for key in ours if ours[key] != theirs[key]}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("n", [2, 7])
def test_every_member_has_its_own_seed_and_is_a_sound_experiment(source: str, n: int) -> None:
    found = varied(experiment(), [source], n)
    assert [member.train.seed for member in found] == [5 + k for k in range(n)]
    for member in found:
        assert Experiment.model_validate(member.model_dump()) == member  # within the bounds of every field
    documents = [member.model_dump_json() for member in found]
    assert len(set(documents)) == n


def test_seeds_alone_change_seeds_alone() -> None:
    base = experiment()
    for sources in ([], ["seed"], ["seed", "seed"]):
        found = varied(base, sources, 3)
        assert found[0] == base
        assert all(changed(base, member) == set() for member in found)


@pytest.mark.parametrize(
    ("source", "section"),
    [("bootstrap", "data"), ("tasks", "data"), ("augmentation", "augment"), ("architecture", "model")],
)
def test_a_source_changes_its_section_alone(source: str, section: str) -> None:
    base = experiment()
    assert all(changed(base, member) == {section} for member in varied(base, [source], 5))


def test_sources_are_taken_in_turn() -> None:
    base = experiment()
    found = varied(base, ["bootstrap", "seed", "tasks", "bootstrap"], 5)
    assert [member.data.bootstrap for member in found] == [5, None, 7, None, 9]
    assert [member.data.class_share for member in found] == [1.0, CLASS_SHARE, 1.0, CLASS_SHARE, 1.0]


def test_a_share_of_classes_that_is_smaller_stays() -> None:
    base = experiment()
    few = base.model_copy(update={"data": base.data.model_copy(update={"class_share": 0.4})})
    assert {member.data.class_share for member in varied(few, ["tasks"], 3)} == {0.4}


def of_encoder(name: str) -> Experiment:
    base = experiment()
    encoder = base.model.encoder.model_copy(update={"name": name})
    return base.model_copy(update={"model": base.model.model_copy(update={"encoder": encoder})})


@pytest.mark.parametrize("name", sorted(ENCODERS.keys() - {*SHAPELESS}))
def test_networks_of_other_shapes_can_be_built(name: str) -> None:
    found = varied(of_encoder(name), ["architecture"], 3)
    sizes = [sum(value.numel() for value in build(member.model).parameters()) for member in found]
    assert len(set(sizes)) == 3


@pytest.mark.parametrize("name", SHAPELESS)
def test_an_encoder_of_one_shape_is_said_to_be(name: str) -> None:
    text = said(lambda: varied(of_encoder(name), ["architecture"], 3))
    assert f"model.encoder.name={name} has neither; choose another encoder" in text
    assert len(varied(of_encoder(name), ["bootstrap"], 3)) == 3


def test_augmentation_is_switched_on_and_differs() -> None:
    base = experiment()
    off = base.model_copy(update={"augment": base.augment.model_copy(update={"enabled": False})})
    found = varied(off, ["augmentation"], 3)
    assert all(member.augment.enabled for member in found)
    assert len({member.augment.model_dump_json() for member in found}) == 3


def test_what_makes_no_average_is_refused_in_one_sentence() -> None:
    base = experiment()
    assert said(lambda: varied(base, [], 1)) == "--members is 1; an average needs two or more."
    text = said(lambda: varied(base, ["bootstrap", "data"], 3))
    assert text == f"--vary is 'data'; choose from {', '.join(SOURCES)}."
    text = said(lambda: varied(experiment(init="exp/base"), ["architecture"], 3))
    assert "--vary architecture and train.init=exp/base exclude one another" in text
    assert len(varied(experiment(init="exp/base"), ["bootstrap"], 2)) == 2
