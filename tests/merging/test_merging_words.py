"""Models of words made into one: every form, what is written comes back to the bit, and what cannot be averaged."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import torch
from refusals import said

from metavox.averaging.members import AveragedLearner
from metavox.averaging.weights import moved, moving_average, soup, task_vector
from metavox.checkpoint import averaged, build, load_model, read_tensors, rehead, save_averaged, save_model
from metavox.cli.bench import _encoder
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, FrontEnd, InputError, State
from metavox.data.episodes import EpisodeSpec
from metavox.evaluation.protocols import Protocol
from metavox.merging.forms import FORMS, Asked, kind_of
from metavox.merging.words import MergedWords, merge_words, save_words

CONFIG = ModelConfig(
    front_end=FrontEnd(n_mels=20, n_frames=24, normalize=False),
    encoder=EncoderConfig(channels=16, blocks=1, dim=8),
    learner=LearnerConfig(match="soft"),
)
PROTOCOL = Protocol(EpisodeSpec(3, 1, 2), 4, 0)
OF_WEIGHTS = ("soup", "ema", "task-vector")


def changed(part: str, **changes: Any) -> ModelConfig:
    return CONFIG.model_copy(update={part: getattr(CONFIG, part).model_copy(update=changes)})


def saved(folder: Path, seed: int = 0, config: ModelConfig = CONFIG) -> Path:
    """A model whose weights were drawn around those of seed 0, as members of one beginning are."""
    learner = build(config, seed=0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in learner.parameters():
            value.add_(0.05 * seed * torch.randn(value.shape, generator=generator))
    save_model(folder, learner, config, {"corpora": [f"corpus-{seed}"], "seed": seed})
    return folder


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Members 1 to 3 and their base, models of other kinds, and a corpus."""
    root = tmp_path_factory.mktemp("shelf")
    for seed in range(4):
        saved(root / str(seed), seed)
    saved(root / "wider", 1, changed("encoder", channels=24))
    saved(root / "pooled", 1, changed("learner", match="pooled"))
    saved(root / "finer", 1, changed("front_end", n_mels=24))
    saved(root / "longer", 1, changed("front_end", n_frames=32))
    saved(root / "maml", 1, changed("learner", name="maml", inner_steps=1))
    for ways in (3, 4):
        saved(root / f"fixed{ways}", 1, changed("learner", name="maml_fixed", head="fixed", ways=ways, inner_steps=1))
    broken = build(CONFIG, seed=1)
    with torch.no_grad():
        next(iter(broken.parameters())).view(-1)[0] = torch.nan
    save_model(root / "broken", broken, CONFIG, {})
    sounds.word_folders(root / "words", sounds.WORDS[:4], ("anna", "bela"), 3)
    (root / "voices").mkdir()
    (root / "voices" / "config.json").write_text(json.dumps({"library": "metavox", "kind": "voices"}))
    (root / "empty").mkdir()
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path_factory.getbasetemp() / "merging-cache"))
    monkeypatch.delenv("METAVOX_DATA", raising=False)


def three(shelf: Path) -> list[str]:
    return [str(shelf / str(k)) for k in (1, 2, 3)]


def asked_of(form: str, shelf: Path, *, dev: bool = False) -> Asked:
    base = str(shelf / "0") if form == "task-vector" else None
    return Asked(form, str(shelf / "words") if dev or form == "greedy-soup" else None, None, base)


def merged(form: str, shelf: Path, *, dev: bool = False) -> MergedWords:
    return merge_words(three(shelf), asked_of(form, shelf, dev=dev), PROTOCOL)


def clips(seed: int) -> Batch:
    inputs = torch.randn(6, 24, 20, generator=torch.Generator().manual_seed(seed))
    return Batch(inputs, torch.full((6,), 24), torch.tensor([0, 1, 2, 0, 1, 2]), 3)


def scores(learner: Any) -> torch.Tensor:
    with torch.no_grad():
        return learner.predict(learner.adapt(clips(0)), clips(1)).scores


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---------------------------------------------------------------------------------------------------------- every form


@pytest.mark.parametrize("form", [form for form in FORMS if form != "rover"])
@pytest.mark.parametrize("dev", [False, True])
def test_what_is_written_comes_back_to_the_bit(form: str, shelf: Path, tmp_path: Path, dev: bool) -> None:
    found = merged(form, shelf, dev=dev)
    save_words(tmp_path / "out" / "average", found)
    again = load_model(tmp_path / "out" / "average")
    assert torch.equal(scores(again.learner), scores(found.model.learner))
    assert again.hash == found.model.hash
    assert not again.learner.training
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["average"]
    assert sum(found.weights) == pytest.approx(1) or form == "task-vector"
    if dev or form == "greedy-soup":
        assert found.accuracies is not None
        assert found.diagnosis is not None
        assert (len(found.accuracies), found.diagnosis.n_items) == (3, 4 * 3 * 2)
        assert found.accuracy is not None
    else:
        assert (found.accuracies, found.accuracy, found.diagnosis) == (None, None, None)


@pytest.mark.parametrize("form", ["mean", "log-mean"])
def test_an_average_of_predictions_is_that_of_its_members(form: Any, shelf: Path) -> None:
    found = merged(form, shelf)
    own = [load_model(source) for source in three(shelf)]
    assert torch.equal(scores(found.model.learner), scores(AveragedLearner([m.learner for m in own], form).eval()))
    assert found.weights == (1 / 3, 1 / 3, 1 / 3)
    assert found.model.about["corpora"] == ["corpus-1", "corpus-2", "corpus-3"]


def test_averages_of_weights_are_those_of_the_states(shelf: Path, tmp_path: Path) -> None:
    states = [read_tensors(Path(source) / "model.safetensors") for source in three(shelf)]
    base = read_tensors(shelf / "0" / "model.safetensors")
    vectors = [task_vector(base, state) for state in states]
    expected = {
        "soup": soup(states),
        "ema": moving_average(states, 0.9),
        "task-vector": moved(base, vectors, [1 / 3] * 3),
    }
    for form in OF_WEIGHTS:
        found = merged(form, shelf)
        assert equal(found.model.learner.state_dict(), expected[form])
        save_words(tmp_path / form, found)
        assert sorted(path.name for path in (tmp_path / form).iterdir()) == ["config.json", "model.safetensors"]
        about = load_model(tmp_path / form).about
        assert (about["form"], about["averaged"]) == (form, ["1", "2", "3"])
    decayed = merge_words(three(shelf), Asked("ema", decay=0.5))
    assert decayed.weights == pytest.approx((1 / 7, 2 / 7, 4 / 7))
    assert equal(decayed.model.learner.state_dict(), moving_average(states, 0.5))
    scaled = merge_words(three(shelf), Asked("task-vector", base=str(shelf / "0"), scales=(1.0, -0.5, 0.0)))
    assert equal(scaled.model.learner.state_dict(), moved(base, vectors, [1.0, -0.5, 0.0]))
    one = merge_words(three(shelf), Asked("task-vector", base=str(shelf / "0"), scales=(0.3,)))
    assert one.weights == (0.3, 0.3, 0.3)


def test_a_greedy_soup_is_no_worse_than_any_member(shelf: Path) -> None:
    found = merged("greedy-soup", shelf)
    assert found.accuracies is not None
    assert found.accuracy is not None
    assert found.accuracy >= max(found.accuracies)
    n = sum(weight > 0 for weight in found.weights)
    assert f"The soup is of {n} of 3 models." in found.notes


def test_members_of_other_networks_and_heads_share_their_predictions(shelf: Path, tmp_path: Path) -> None:
    sources = [str(shelf / name) for name in ("1", "wider", "pooled", "maml")]
    found = merge_words(sources, Asked("mean"))
    of_members = [load_model(source).learner for source in sources]
    assert torch.equal(scores(found.model.learner), scores(AveragedLearner(of_members).eval()))
    save_words(tmp_path / "mixed", found)
    assert torch.equal(scores(load_model(tmp_path / "mixed").learner), scores(found.model.learner))


def test_baselines_are_members_too(tmp_path: Path) -> None:
    found = merge_words(["dtw", "dtw"], Asked("log-mean"))
    save_words(tmp_path / "both", found)
    again = load_model(tmp_path / "both")
    assert (again.hash, [member.name for member in found.members]) == (found.model.hash, ["dtw", "dtw"])


@pytest.mark.parametrize("form", ["mean", "soup"])
@pytest.mark.parametrize("dev", [False, True])
def test_members_that_are_one_are_warned_of(form: str, dev: bool, shelf: Path, tmp_path: Path) -> None:
    shutil.copytree(shelf / "1", tmp_path / "copy")
    asked = Asked(form, str(shelf / "words") if dev else None)
    found = merge_words([str(shelf / "1"), str(tmp_path / "copy")], asked, PROTOCOL)
    sentence = "these 2 models make identical predictions: averaging changes nothing; vary data, seed or architecture"
    told = [found.diagnosis.warning] if found.diagnosis is not None else [note[9:-1] for note in found.notes]
    assert told == [sentence]
    torch.testing.assert_close(scores(found.model.learner), scores(load_model(shelf / "1").learner))


# -------------------------------------------------------------------------------------------------------------- on disk


@pytest.mark.parametrize("weights", [None, [0.3, 0.7, 0.9], [1e-9, 1.0, 3.0], [0.0, 0.1, 0.2]])
def test_weights_of_any_kind_come_back_to_the_bit(weights: Any, shelf: Path, tmp_path: Path) -> None:
    models = [load_model(source) for source in three(shelf)]
    average = averaged(models, "mean", weights)
    save_averaged(tmp_path / "average", models, average)
    again = load_model(tmp_path / "average")
    assert again.learner.weights == average.learner.weights
    assert (again.hash, again.name) == (average.hash, "average")


def test_a_folder_holds_all_that_it_needs(shelf: Path, tmp_path: Path) -> None:
    sources = []
    for k in (1, 2):
        shutil.copytree(shelf / str(k), tmp_path / f"m{k}")
        (tmp_path / f"m{k}" / "LICENSE").write_text("of the member")
        sources.append(str(tmp_path / f"m{k}"))
    found = merge_words(sources, Asked("mean"))
    save_words(tmp_path / "average", found)
    expected = scores(found.model.learner)
    for source in sources:
        shutil.rmtree(source)
    (tmp_path / "average").rename(tmp_path / "moved")
    again = load_model(tmp_path / "moved")
    assert torch.equal(scores(again.learner), expected)
    assert (tmp_path / "moved" / "members" / "2" / "LICENSE").read_text() == "of the member"


def test_the_hash_knows_members_weights_and_form(shelf: Path) -> None:
    models = [load_model(shelf / str(k)) for k in (1, 2, 3)]
    made = [
        averaged(models, "mean"),
        averaged(models, "log-mean"),
        averaged(models, "mean", [1.0, 1.0, 2.0]),
        averaged(models[:2], "mean"),
        averaged(models[::-1], "mean"),
    ]
    assert len({average.hash for average in made}) == len(made)
    assert averaged(models, "mean", [2.0, 2.0, 2.0]).hash == made[0].hash


def swapped(folder: Path, shelf: Path) -> None:
    shutil.rmtree(folder / "members" / "2")
    shutil.copytree(shelf / "3", folder / "members" / "2")


def edited(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "average.json").read_text())
    (folder / "average.json").write_text(json.dumps({**document, **changes}))


DAMAGES: dict[str, tuple[Any, str]] = {
    "another member": (swapped, "is not as it was saved: its members and weights hash to"),
    "other weights": (lambda f, s: edited(f, weights=[0.4, 0.6]), "is not as it was saved"),
    "another form": (lambda f, s: edited(f, form="log-mean"), "is not as it was saved"),
    "an unknown form": (lambda f, s: edited(f, form="best"), "average.json"),
    "a vote of words": (lambda f, s: edited(f, form="rover"), "words are not voted on"),
    "too few names": (lambda f, s: edited(f, names=["1"]), "names 1 members and weighs 2"),
    "no member": (lambda f, s: edited(f, names=[], weights=[]), "average.json"),
    "no number": (lambda f, s: edited(f, weights=[0.5, float("nan")]), "average.json"),
    "of another library": (lambda f, s: edited(f, library="other"), "was not written by Metavox"),
    "of another format": (lambda f, s: edited(f, format=99), "has format 99"),
    "no document": (lambda f, s: (f / "average.json").write_text("{"), "is damaged or truncated"),
    "a list": (lambda f, s: (f / "average.json").write_text("[]"), "was not written by Metavox"),
    "a member gone": (lambda f, s: shutil.rmtree(f / "members" / "2"), "holds no model"),
    "a member cut off": (
        lambda f, s: (f / "members" / "1" / "model.safetensors").write_bytes(b"x"),
        "is damaged or truncated",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_average_is_told_in_one_sentence(damage: str, shelf: Path, tmp_path: Path) -> None:
    save_words(tmp_path / "average", merge_words(three(shelf)[:2], Asked("mean")))
    change, sentence = DAMAGES[damage]
    change(tmp_path / "average", shelf)
    assert sentence in said(lambda: load_model(tmp_path / "average"))


@pytest.mark.parametrize("form", ["mean", "soup"])
def test_nothing_else_is_written_over_and_nothing_is_left_half(form: str, shelf: Path, tmp_path: Path) -> None:
    found = merged(form, shelf)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    assert "exists and is no" in said(lambda: save_words(tmp_path / "notes", found))
    assert sounds.files_below(tmp_path) == {"notes/mine.txt": b"mine"}
    save_words(tmp_path / "average", found)
    save_words(tmp_path / "average", found)  # one of its kind is replaced
    assert sorted(path.name for path in tmp_path.iterdir()) == ["average", "notes"]


def test_a_member_that_cannot_be_copied_leaves_nothing(shelf: Path, tmp_path: Path) -> None:
    shutil.copytree(shelf / "1", tmp_path / "gone")
    found = merge_words([str(tmp_path / "gone"), str(shelf / "2")], Asked("mean"))
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises((InputError, OSError)):
        save_words(tmp_path / "average", found)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("other", "form", "sentence"),
    [
        ("wider", "soup", "wider has another architecture than 1: encoder.channels is 24 and 16"),
        ("pooled", "soup", "pooled has another architecture than 1: learner.match is pooled and soft"),
        ("maml", "soup", "maml has another architecture than 1: learner.name is maml and prototypes"),
        ("finer", "mean", "finer hears other features than 1 (24 frames of 24 bins"),
        ("longer", "soup", "longer hears other features than 1 (32 frames of 20 bins"),
        ("fixed3", "mean", "fixed3 tells 3 words apart and 1 any number of words"),
        ("broken", "mean", "broken has 1 of"),
        ("broken", "log-mean", "weights that are not finite"),
        ("broken", "soup", "weights that are not finite"),
    ],
)
def test_models_that_cannot_be_averaged_are_told_apart(shelf: Path, other: str, form: str, sentence: str) -> None:
    text = said(lambda: merge_words([str(shelf / "1"), str(shelf / other)], Asked(form)))
    assert sentence in text
    if "architecture" in text:
        assert "average their predictions (--form mean) instead of their weights" in text


def test_heads_of_other_sizes_and_a_base_of_another_kind(shelf: Path) -> None:
    text = said(lambda: merge_words([str(shelf / "fixed3"), str(shelf / "fixed4")], Asked("mean")))
    assert text == "fixed4 tells 4 words apart and fixed3 3 words; average models of the same classes."
    asked = Asked("task-vector", base=str(shelf / "wider"))
    assert "wider has another architecture" in said(lambda: merge_words(three(shelf), asked))
    assert "votes on transcripts" in said(lambda: merge_words(three(shelf), Asked("rover")))
    gone = Asked("mean", str(shelf / "empty"))
    assert "neither manifest.jsonl nor word folders" in said(lambda: merge_words(three(shelf), gone))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "No model was given to average; name two or more"),
        (["1"], "1 model was given to average; name two or more"),
        (["1", "empty"], "empty holds no model"),
        (["1", "voices"], "voices is a model of another kind (voices)"),
        (["1", "average"], "average is an average already; name its members, which lie in"),
        (["1", "metavox/nothing"], "is no bundled model"),
    ],
)
def test_what_is_no_model_of_words_is_told_before_any_is_opened(
    names: list[str], sentence: str, shelf: Path, tmp_path: Path
) -> None:
    if "average" in names:
        save_words(tmp_path / "average", merged("mean", shelf))
    places = [name if "/" in name else str((tmp_path if name == "average" else shelf) / name) for name in names]
    assert sentence in said(lambda: kind_of(places))


def test_averages_do_not_nest_in_python_either(shelf: Path) -> None:
    average = averaged([load_model(shelf / "1"), load_model(shelf / "2")], "mean")
    text = said(lambda: averaged([average, load_model(shelf / "3")], "mean"))
    assert text == "average is an average already; average its members instead."
    assert "No model was given" in said(lambda: averaged([], "mean"))


def test_what_is_done_to_one_network_is_refused_for_an_average(shelf: Path, tmp_path: Path) -> None:
    save_words(tmp_path / "average", merged("mean", shelf))
    text = said(lambda: _encoder(str(tmp_path / "average"), []))
    assert "has several encoders; time its members one by one" in text
    average = load_model(tmp_path / "average")
    text = said(lambda: rehead(average, LearnerConfig(match="dtw")))
    assert text == "average is an average of predictions, whose members adapt as each was trained to."
    tuned = load_model(shelf / "1")
    assert np.isfinite(scores(rehead(tuned, LearnerConfig(match="dtw")).learner).numpy()).all()


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"form": "best"}, "--form is 'best'; choose from mean, log-mean"),
        ({"form": "greedy-soup"}, "chooses its members on development data; name a corpus with --dev"),
        ({"form": "task-vector"}, "needs the model that all others began from"),
        ({"form": "soup", "decay": 0.5}, "--decay is for --form ema and the form is soup"),
        ({"form": "ema", "decay": 1.0}, "--decay is 1; give a number between 0 and 1"),
        ({"form": "mean", "base": "x"}, "--base is for --form task-vector"),
        ({"form": "mean", "scales": (1.0,)}, "--scale is for --form task-vector"),
        ({"form": "task-vector", "base": "x", "scales": (float("nan"),)}, "--scale is nan"),
    ],
)
def test_options_that_do_not_fit_the_form_are_refused(asked: dict[str, Any], sentence: str) -> None:
    assert sentence in said(lambda: Asked(**asked))


def test_a_scale_is_for_all_or_for_each() -> None:
    assert Asked("task-vector", base="x").scales_of(4) == (0.25,) * 4
    assert Asked("task-vector", base="x", scales=(2.0,)).scales_of(3) == (2.0,) * 3
    text = said(lambda: Asked("task-vector", base="x", scales=(2.0, 1.0)).scales_of(3))
    assert "--scale is given 2 times and there are 3 models" in text
