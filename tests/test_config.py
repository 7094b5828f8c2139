"""Experiments: what is read, what is refused, and whether the sentence helps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import refusals
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from metavox.config import (
    Experiment,
    TargetConfig,
    TranscriptionComparison,
    TranscriptionExperiment,
    WordsComparison,
    load_comparison,
    load_experiment,
    load_recipe,
)
from metavox.contracts import InputError
from metavox.learners.presets import LEARNERS
from metavox.transcription.shelf import SHELF

FOLDER = Path(__file__).parents[1] / "recipes"
TRANSCRIPTION = FOLDER / "transcription.yaml"
RECIPES = sorted(path for path in FOLDER.rglob("*.yaml") if isinstance(load_recipe(path), Experiment))


def recipe(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path: Path, *overrides: str, load: Callable[..., Any] = load_experiment) -> str:
    return refusals.said(lambda: load(path, overrides))


def test_there_are_recipes() -> None:
    assert FOLDER / "commands.yaml" in RECIPES
    assert TRANSCRIPTION not in RECIPES
    assert len(list(FOLDER.rglob("*.yaml"))) > len(RECIPES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    assert load_experiment(path).train.steps >= 1


def test_an_empty_recipe_is_all_defaults(tmp_path: Path) -> None:
    assert load_experiment(recipe(tmp_path, "")) == Experiment()


def test_overrides_win_over_the_file_and_are_written_as_in_yaml(tmp_path: Path) -> None:
    path = recipe(tmp_path, "train: {steps: 7, lr: 0.1}\ndata: {corpora: [a]}\n")
    found = load_experiment(
        path,
        [
            "train.steps=9",
            "train.steps=11",  # the last one counts
            "data.corpora=[x, y]",
            "data.synth.n_words=5",
            "model.encoder.name=mfcc",
            "train.warmup=0",
            "episodes.ways = 3",
        ],
    )
    assert (found.train.steps, found.train.lr, found.train.warmup) == (11, 0.1, 0)
    assert found.data.corpora == ("x", "y")
    assert found.data.synth == {"n_words": 5}
    assert (found.model.encoder.name, found.episodes.ways) == ("mfcc", 3)
    assert load_experiment(path, ["data.synth.n_words=5", "data.synth=null"]).data.synth is None
    assert load_experiment(path, ["train.lr=1e-3"]).train.lr == 1e-3


def test_an_override_can_fill_a_section_that_is_empty_in_the_file(tmp_path: Path) -> None:
    assert load_experiment(recipe(tmp_path, "train:\n"), ["train.steps=3"]).train.steps == 3


def test_what_is_dumped_loads_as_it_was(tmp_path: Path) -> None:
    found = load_experiment(RECIPES[0], ["train.lr=1e-5", "train.seed=12345678901"])
    again = load_experiment(recipe(tmp_path, yaml.safe_dump(found.model_dump(mode="json"))))
    assert again == found


def test_an_experiment_is_frozen() -> None:
    experiment = Experiment()
    with pytest.raises(ValidationError):
        experiment.train.steps = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        experiment.model.front_end.n_mels = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "key", "neighbour"),
    [
        ("trian: {steps: 3}", "trian", "train"),
        ("train: {stepz: 3}", "train.stepz", "train.steps"),
        ("model: {encoder: {chanels: 8}}", "model.encoder.chanels", "model.encoder.channels"),
        ("model: {front_end: {n_mel: 8}}", "model.front_end.n_mel", "model.front_end.n_mels"),
        ("model: {learner: {inner_step: 8}}", "model.learner.inner_step", "model.learner.inner_steps"),
    ],
)
def test_an_unknown_key_names_its_neighbour(tmp_path: Path, text: str, key: str, neighbour: str) -> None:
    said = refused(recipe(tmp_path, text))
    assert f"unknown key {key}; did you mean {neighbour}?" in said
    said = refused(recipe(tmp_path, ""), f"{key}=3")
    assert f"did you mean {neighbour}?" in said


def test_a_key_without_a_neighbour_names_the_known_ones(tmp_path: Path) -> None:
    assert f"known keys are {', '.join(Experiment.model_fields)}." in refused(recipe(tmp_path, "zzz: 1"))


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    said = refused(recipe(tmp_path, "train: {steps: 0, lr: -1}\nepisodes: {wayz: 3}"))
    assert all(part in said for part in ("train.steps is 0", "train.lr is -1", "episodes.ways"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {steps: many}", "train.steps is 'many'"),
        ("train: {steps: 1.5}", "train.steps is 1.5"),
        ("train: {steps: 0}", "greater than or equal to 1"),
        ("train: {seed: -1}", "train.seed is -1"),
        ("train: {threads: 100000000000}", "train.threads is 100000000000"),
        ("train: {lr: .nan}", "train.lr is nan"),
        ("train: {lr: .inf}", "train.lr is inf"),
        ("train: 3", "train is 3"),
        ("train:", "train is None"),
        ("data: {corpora: lithuanian}", "data.corpora is 'lithuanian'"),
        ("data: {corpora: [1, 2]}", "data.corpora.0 is 1"),
        ("data: {validation_share: 0}", "data.validation_share is 0"),
        ("model: {learner: {match: fuzzy}}", "model.learner.match is 'fuzzy'"),
        ("1: 2", "1"),
        ("- a\n- b", "holds a list"),
        ("just words", "holds a str"),
        ("train: {steps: [", "cannot be read as YAML"),
        ("train: {seed: 2024-99-99}", "cannot be read as YAML"),  # a date that no calendar has
        ("!!python/object/apply:os.system [echo]", "cannot be read as YAML"),
        (b"\xff\xfe\x00train", "cannot be read as YAML"),
        ("a: " + "[" * 5000, "cannot be read as YAML"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path, text: str | bytes, said: str) -> None:
    path = recipe(tmp_path, text)
    found = refused(path)
    assert said in found
    assert str(path) in found
    assert len(found) < 600


def test_a_missing_recipe_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "no.yaml")
    assert "cannot be read" in refused(tmp_path)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.steps", "section.key=value"),
        ("=3", "section.key=value"),
        ("train..steps=3", "section.key=value"),
        ("train.steps.more=3", "which holds a value"),
        ("train.steps=[1", "not YAML"),
        ("train.seed=2024-99-99", "not YAML"),
        ("train.steps=", "train.steps is None"),
    ],
)
def test_an_override_that_means_nothing_is_refused(tmp_path: Path, override: str, said: str) -> None:
    assert said in refused(recipe(tmp_path, "train: {steps: 3}"), override)


@settings(max_examples=60, deadline=None)
@example(text="?", override="?")
@example(text="1: 2", override="train.steps=3")
@given(text=st.text(max_size=40), override=st.text(max_size=20))
def test_any_text_gives_an_experiment_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str, override: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "recipe.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for overrides in ((), (override,)):
        said = ""
        try:
            load_experiment(path, overrides)
        except InputError as err:
            said = str(err)
        assert "\n" not in said


def test_augmentation_out_of_range_is_refused_with_the_limit(tmp_path: Path) -> None:
    path = recipe(tmp_path, "augment: {snr_db: [0, 20], wave: {rt60_s: [0.2, 0.2]}}")
    found = load_experiment(path).augment
    assert (found.snr_db, found.wave.rt60_s) == ((0, 20), (0.2, 0.2))
    for override, said in (
        ("augment.snr_db=[30, 3]", "augment.snr_db is [30, 3]: the lower end must come first"),
        ("augment.wave.snr_db=[3, 300]", "augment.wave.snr_db.1 is 300: input should be less than or equal to 80"),
        ("augment.wave.rt60_s=[0, 1]", "augment.wave.rt60_s.0 is 0: input should be greater than or equal to 0.05"),
        ("augment.tempo=1", "augment.tempo is 1: input should be less than or equal to 0.9"),
        ("augment.variant_share=.nan", "augment.variant_share is nan"),
        ("augment.wrap=1", "unknown key augment.wrap; did you mean augment.warp?"),
        ("augment.wave.codecs=[gsm]", "augment.wave.codecs.0 is 'gsm': input should be 'mulaw'"),
    ):
        assert said in refused(path, override)


# -------------------------------------------------------------------------------------------------------------- tasks


def test_axes_are_read_as_products_and_written_the_same(tmp_path: Path) -> None:
    text = "tasks: {classes: speaker, within: ' corpus *language', sampler: adaptive, floor: 0.1}"
    found = load_experiment(recipe(tmp_path, text))
    assert (found.tasks.classes, found.tasks.within) == ("speaker", "corpus*language")
    assert load_experiment(recipe(tmp_path, text), ["tasks.within="]).tasks.within == ""
    assert Experiment.model_validate(found.model_dump(mode="json")) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tasks: {within: lang}", "tasks.within is 'lang': lang is no axis; known are word, language, speaker"),
        ("tasks: {within: speaker*speaker}", "it names one axis twice"),
        ("tasks: {classes: ''}", "classes is empty; name what is told apart, such as word"),
        ("tasks: {classes: language}", "language is both in classes and in within; leave it in one"),
        ("tasks: {classes: speaker, speakers: disjoint}", "set speakers to any"),
        ("tasks: {within: speaker, speakers: disjoint}", "speakers cannot be disjoint"),
        ("tasks: {sampler: adversarial}", "tasks.sampler is 'adversarial'"),
        ("tasks: {alpha: 1.5}", "tasks.alpha is 1.5"),
        ("tasks: {temperature: 0}", "tasks.temperature is 0"),
        ("tasks: {floor: -0.1}", "tasks.floor is -0.1"),
        ("tasks: {samplers: uniform}", "did you mean tasks.sampler?"),
    ],
)
def test_tasks_that_cannot_be_made_are_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(recipe(tmp_path, text))


# ------------------------------------------------------------------------------------------------------ transcription


def test_the_recipe_for_transcription_loads_and_is_complete() -> None:
    found = load_recipe(TRANSCRIPTION)
    assert isinstance(found, TranscriptionExperiment)
    assert found.data.corpora
    assert found.data.synth is not None
    assert TranscriptionExperiment.model_validate(found.model_dump(mode="json")) == found
    assert (
        TranscriptionExperiment.model_validate(yaml.safe_load(yaml.safe_dump(found.model_dump(mode="json")))) == found
    )


def test_the_languages_of_the_recipe_can_be_spoken() -> None:
    from metavox.data.synth_sentences import SentenceSpec, spoken_languages

    found = load_recipe(TRANSCRIPTION)
    assert isinstance(found, TranscriptionExperiment)
    assert set(SentenceSpec.model_validate(found.data.synth).languages) <= set(spoken_languages())


@pytest.mark.parametrize(
    "text",
    [
        "recogniser: {}",
        "recogniser: {channels: 16}\ndata: {corpora: [a]}",
        "learning: {outer: joint}",
        "train: {steps: 3}\nlearning: {}",
    ],
)
def test_a_section_of_its_own_makes_it_a_recipe_for_transcription(tmp_path: Path, text: str) -> None:
    path = recipe(tmp_path, text)
    assert isinstance(load_recipe(path), TranscriptionExperiment)
    said = refused(path)
    assert said == f"Recipe {path} trains a recogniser; name one with a model section, such as commands.yaml."


def test_overrides_reach_a_recipe_for_transcription(tmp_path: Path) -> None:
    found = load_recipe(
        recipe(tmp_path, "recogniser:\n"),
        [
            "recogniser.channels=32",
            "tasks.axis=speaker",
            "speed=0.0",
            "augment.noise_share=0",
            "recogniser.front_end.n_mels=80",
        ],
    )
    assert isinstance(found, TranscriptionExperiment)
    assert (found.recogniser.channels, found.tasks.axis, found.speed) == (32, "speaker", 0.0)
    assert found.recogniser.front_end.n_mels == 80
    assert isinstance(load_recipe(recipe(tmp_path, ""), ["recogniser.channels=32"]), TranscriptionExperiment)
    assert isinstance(load_recipe(recipe(tmp_path, ""), ["train.steps=32"]), Experiment)


@pytest.mark.parametrize(
    ("text", "key", "neighbour"),
    [
        ("recogniser: {chanels: 8}", "recogniser.chanels", "recogniser.channels"),
        ("recogniser: {front_end: {n_mel: 8}}", "recogniser.front_end.n_mel", "recogniser.front_end.n_mels"),
        ("recogniser: {}\nlerning: {outer: joint}", "lerning", "learning"),
        ("recogniser: {}\ntrain: {stepz: 3}", "train.stepz", "train.steps"),
        ("recogniser: {}\ntasks: {axes: speaker}", "tasks.axes", "tasks.axis"),
        ("recogniser: {}\ndata: {leave_out_language: [ml]}", "data.leave_out_language", "data.leave_out_languages"),
        ("recognizer: {channels: 8}", "recognizer", "recogniser"),
        ("recogniser_: {channels: 8}\ntrain: {steps: 3}", "recogniser_", "recogniser"),
    ],
)
def test_an_unknown_key_of_transcription_names_its_neighbour(
    tmp_path: Path, text: str, key: str, neighbour: str
) -> None:
    said = refused(recipe(tmp_path, text), load=load_recipe)
    assert f"unknown key {key}; did you mean {neighbour}?" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recogniser: {channels: 4}", "recogniser.channels is 4: input should be greater than or equal to 8"),
        ("recogniser: {body: transformer}", "recogniser.body is 'transformer'"),
        ("recogniser: {reduction: 5}", "recogniser.reduction is 5"),
        ("recogniser: {dropout: .nan}", "recogniser.dropout is nan"),
        ("recogniser: 3", "recogniser is 3"),
        ("recogniser: {}\nmodel: {}", "unknown key model; known keys are recogniser, data, augment, speed"),
        ("recogniser: {}\nspeed: 0.6", "speed is 0.6: input should be less than or equal to 0.5"),
        ("recogniser: {}\ntasks: {axis: word}", "tasks.axis is 'word'"),
        ("recogniser: {}\nlearning: {outer: leap}", "learning.outer is 'leap'"),
        ("recogniser: {}\ndata: {corpora: malayalam_msc}", "data.corpora is 'malayalam_msc'"),
        ("recogniser: {}\ndata: {validation_share: 0}", "data.validation_share is 0"),
        ("recogniser: {}\ntrain: {batch_s: 0}", "train.batch_s is 0"),
    ],
)
def test_what_cannot_be_used_for_transcription_is_refused_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = recipe(tmp_path, text)
    found = refused(path, load=load_recipe)
    assert said in found
    assert str(path) in found


def test_a_recipe_for_words_with_a_slip_is_one_for_words_still(tmp_path: Path) -> None:
    said = refused(recipe(tmp_path, "model: {}\nlearning: {outer: joint}"), load=load_recipe)
    assert "unknown key learning; did you mean" in said
    said = refused(recipe(tmp_path, "episodes: {ways: 3}\nrecognizer: {}"), load=load_recipe)
    assert "unknown key recognizer; known keys are model" in said


def test_an_experiment_of_transcription_is_frozen() -> None:
    with pytest.raises(ValidationError):
        TranscriptionExperiment().recogniser.channels = 3  # type: ignore[misc]


def test_targets_with_bases_make_a_comparison_one_of_transcription(tmp_path: Path) -> None:
    text = "data: {corpora: [a]}\ncompare: {folds: [{target: b, base: c}]}"
    found = load_comparison(recipe(tmp_path, text))
    assert isinstance(found, TranscriptionComparison)
    assert found.compare.folds == (TargetConfig(target="b", base="c"),)
    trained = load_recipe(recipe(tmp_path, text))  # what is compared is no part of a training
    assert type(trained) is TranscriptionExperiment
    assert trained.data.corpora == ("a",)
    assert type(load_recipe(recipe(tmp_path, "compare: {folds: [[b]]}"))) is Experiment
    assert isinstance(load_comparison(recipe(tmp_path, "compare: {folds: [[b]]}")), WordsComparison)


@pytest.mark.parametrize("name", ["compare_words", "compare_initialisations", "compare_transcription"])
def test_shipped_comparisons_can_be_read_and_name_learners_that_there_are(name: str) -> None:
    found = load_comparison(FOLDER / f"{name}.yaml")
    shelf = SHELF if isinstance(found, TranscriptionComparison) else LEARNERS
    assert set(found.compare.learners) <= {"all", *shelf}
    assert isinstance(found, TranscriptionComparison) is (name == "compare_transcription")
