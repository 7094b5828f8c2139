"""Recognisers made into one: every form, what is written comes back to the bit, and what cannot be averaged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import tonal
import torch
from readers import fill, noisy, spelling
from refusals import said

from metavox.averaging.hypotheses import Vote, rover
from metavox.averaging.members import averaged_scores
from metavox.averaging.weights import moving_average, soup
from metavox.config import TranscriptionExperiment
from metavox.contracts import State
from metavox.data.spoken import Spoken
from metavox.features import prepare
from metavox.merging.forms import FORMS, Asked, kind_of
from metavox.merging.recognisers import MergedRecognisers, merge_recognisers, save_merged, values_of
from metavox.metrics import cer
from metavox.runtime.transcriber import Transcriber
from metavox.text.decode import greedy_batch
from metavox.text.symbols import UNIVERSAL
from metavox.transcription.adaptation import Options, adapt_recogniser
from metavox.transcription.averages import AveragedRecognition, averaged, in_step, member_hash
from metavox.transcription.learning import start
from metavox.transcription.models import (
    adapted,
    load_recogniser,
    save_adapted,
    save_averaged,
    widened,
)

SAID = tonal.texts(4, 5)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(autouse=True)
def no_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAVOX_DATA", raising=False)


def named(shelf: Path, *names: str) -> list[str]:
    return [str(shelf / name) for name in names]


NEAR, ADAPTED = ("near1", "near2", "near3"), ("adapted1", "adapted2", "adapted3")


def asked_of(form: str, shelf: Path, *, dev: bool = False) -> Asked:
    base = str(shelf / "base") if form == "task-vector" else None
    return Asked(form, str(shelf / "dev") if dev or form == "greedy-soup" else None, None, base)


def merged(form: str, shelf: Path, members: tuple[str, ...] = NEAR, *, dev: bool = False) -> MergedRecognisers:
    return merge_recognisers(named(shelf, *members), asked_of(form, shelf, dev=dev))


def batch() -> Any:
    heard = tonal.batch(SAID)
    return heard.inputs, heard.lengths


def waves() -> list[tuple[np.ndarray, int]]:
    return [(tonal.said(text, seed=40 + i), 16_000) for i, text in enumerate(SAID[:2])]


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---------------------------------------------------------------------------------------------------------- every form


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("members", [NEAR, ADAPTED])
def test_what_is_written_comes_back(form: str, members: tuple[str, ...], shelf: Path, tmp_path: Path) -> None:
    found = merged(form, shelf, members)
    save_merged(tmp_path / "out" / "average", found)
    again = load_recogniser(tmp_path / "out" / "average")
    assert again.spell(*batch()) == found.model.spell(*batch())
    ours, theirs = found.model.frames(*batch()), again.frames(*batch())
    assert torch.equal(ours[1], theirs[1])
    if members == ADAPTED and not isinstance(again, AveragedRecognition):  # changes are packed, and once more here
        torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-4)
        assert again.base is not None
    else:
        assert torch.equal(ours[0], theirs[0])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["average"]
    assert (again.symbols, again.front_end) == (found.model.symbols, found.model.front_end)


@pytest.mark.parametrize("form", ["mean", "log-mean", "rover", "soup", "task-vector"])
def test_members_and_averages_are_judged_on_the_same_utterances(form: str, shelf: Path) -> None:
    found = merged(form, shelf, dev=True)
    assert found.errors is not None
    assert found.error is not None
    assert found.diagnosis is not None
    assert (len(found.errors), found.diagnosis.n_items, found.diagnosis.n_members) == (3, 5, 3)
    assert found.error <= max(found.errors) + 0.05
    assert all(weight >= 0 for weight in found.weights)
    assert found.notes == ()


def test_a_greedy_soup_is_no_worse_than_any_member(shelf: Path) -> None:
    found = merged("greedy-soup", shelf)
    assert found.errors is not None
    assert found.error is not None
    assert found.error <= min(found.errors)
    assert found.notes == (f"The soup is of {sum(weight > 0 for weight in found.weights)} of 3 models.",)


@pytest.mark.parametrize("form", ["mean", "log-mean"])
def test_frames_are_averaged_and_then_searched(form: Any, shelf: Path) -> None:
    found = merged(form, shelf)
    of_members = [member.frames(*batch()) for member in found.members]
    expected = averaged_scores([scores for scores, _ in of_members], form, [1 / 3] * 3)
    scores, ends = found.model.frames(*batch())
    assert torch.equal(scores, expected)
    assert torch.equal(ends, of_members[0][1])
    assert found.model.spell(*batch()) == greedy_batch(expected, ends)
    torch.testing.assert_close(scores.logsumexp(-1), torch.zeros(scores.shape[:2]), rtol=0, atol=1e-4)


def test_votes_are_those_of_the_members(shelf: Path) -> None:
    found = merged("rover", shelf)
    texts = [member.spell(*batch()) for member in found.members]
    expected = [tuple(rover([one[row] for one in texts])[0]) for row in range(len(SAID))]
    assert found.model.spell(*batch()) == expected
    assert isinstance(found.model, AveragedRecognition)
    said_by_each, sure = found.model.heard_by_each(*batch())
    assert [list(column) for column in zip(*said_by_each, strict=True)] == texts
    for row, sures in zip(said_by_each, sure, strict=True):
        assert [len(ids) for ids in row] == [len(one) for one in sures]
        assert all(0 < value <= 1 + 1e-9 for one in sures for value in one)


def test_weights_are_averaged_as_states_are(shelf: Path) -> None:
    states = [values_of(load_recogniser(source)) for source in named(shelf, *NEAR)]
    assert equal(values_of(merged("soup", shelf).model), soup(states))
    assert equal(values_of(merged("ema", shelf).model), moving_average(states, 0.9))
    # Adaptations are averaged whole, the base among them, and stored as changes of 8 bits.
    states = [values_of(load_recogniser(source)) for source in named(shelf, *ADAPTED)]
    base, found = values_of(load_recogniser(shelf / "base")), values_of(merged("soup", shelf, ADAPTED).model)
    for name, value in soup(states).items():
        room = (value - base[name]).abs().amax() / 127 + 1e-6
        assert float((found[name] - value).abs().amax()) <= float(room)


@pytest.mark.parametrize("form", ["mean", "log-mean", "rover"])
def test_networks_whose_bodies_look_less_often_are_in_step(form: str, shelf: Path) -> None:
    """Their frames are as long, and an utterance ends up to two frames later."""
    found = merge_recognisers(named(shelf, "near1", "wider", "slower"), Asked(form))
    inputs, lengths = batch()
    for n in (lengths, lengths - 1, lengths - 3, lengths - 5):
        scores, ends = found.model.frames(inputs, n)
        own = [member.frames(inputs, n) for member in found.members]
        assert torch.equal(ends, torch.stack([end for _, end in own]).amin(0))
        assert scores.shape[1] == min(one.shape[1] for one, _ in own) >= int(ends.max())
        assert len(found.model.spell(inputs, n)) == len(SAID)
    judged = merge_recognisers(named(shelf, "near1", "slower"), asked_of(form, shelf, dev=True))
    assert judged.error is not None
    parts, ends = in_step([(torch.zeros(1, 4, 3), torch.tensor([4])), (torch.zeros(1, 6, 3), torch.tensor([3]))])
    assert ([part.shape[1] for part in parts], ends.tolist()) == ([4, 4], [3])


def test_an_average_spells_as_its_members_search_with_all_their_texts(shelf: Path) -> None:
    found = merge_recognisers(named(shelf, "adapted1", "searching"), Asked("log-mean"))
    assert found.model.spelling == spelling("baf kim", "dab")
    assert merge_recognisers(named(shelf, "adapted1", "searching"), Asked("rover")).model.spelling is None
    soup_of = merge_recognisers(named(shelf, "adapted1", "searching"), Asked("soup"))
    assert soup_of.model.spelling == spelling("baf kim", "dab")


@pytest.mark.parametrize("form", ["mean", "rover", "soup"])
def test_members_that_are_one_are_warned_of(form: str, shelf: Path, tmp_path: Path) -> None:
    shutil.copytree(shelf / "near1", tmp_path / "copy")
    sentence = "these 2 models make identical predictions: averaging changes nothing; vary data, seed or architecture"
    names = [str(shelf / "near1"), str(tmp_path / "copy")]
    assert merge_recognisers(names, Asked(form)).notes == (f"Warning: {sentence}.",)
    judged = merge_recognisers(names, asked_of(form, shelf, dev=True))
    assert judged.diagnosis is not None
    assert (judged.diagnosis.warning, judged.notes) == (sentence, ())
    assert judged.model.spell(*batch()) == load_recogniser(shelf / "near1").spell(*batch())


# -------------------------------------------------------------------------------------------------------------- in use


@pytest.mark.parametrize("form", ["mean", "rover"])
def test_an_average_transcribes_saves_and_opens_as_any_recogniser(form: str, shelf: Path, tmp_path: Path) -> None:
    save_merged(tmp_path / "average", merged(form, shelf))
    whole = Transcriber.from_pretrained(tmp_path / "average")
    found = whole.predict(waves())
    assert float(cer(SAID[:2], found).rate) < 0.3
    whole.save_pretrained(tmp_path / "again")
    again = Transcriber.from_pretrained(tmp_path / "again")
    assert again.predict(waves()) == found
    first, second = whole.transcribe(waves()[0]), again.transcribe(waves()[0])
    assert [(w.text, w.start_s, w.end_s) for s in first.segments for w in s.words] == [
        (w.text, w.start_s, w.end_s) for s in second.segments for w in s.words
    ]
    beam = Transcriber.from_pretrained(tmp_path / "average", decoding="beam").predict(waves())
    assert float(cer(SAID[:2], beam).rate) < 0.3


def test_a_segment_is_spelled_as_a_batch_of_one_is(shelf: Path) -> None:
    found = merged("rover", shelf).model
    assert isinstance(found, AveragedRecognition)
    wave = tonal.said(SAID[0])
    assert found.spell_wave(wave) == found.spell(*prepare(wave, found.front_end))[0]


def test_what_is_done_to_one_network_is_refused(shelf: Path, tmp_path: Path) -> None:
    save_merged(tmp_path / "average", merged("mean", shelf))
    whole = load_recogniser(tmp_path / "average")
    sentence = "average is an average of what 3 models say and has no weights of its own to adapt; adapt one of its"
    assert sentence in said(lambda: Transcriber(whole).adapt(waves(), SAID[:2]))
    assert sentence in said(lambda: adapt_recogniser(whole, [], tonal.PLAN, Options()))
    asked = TranscriptionExperiment.model_validate(
        {"recogniser": tonal.CONFIG.model_dump(), "train": {"init": str(tmp_path / "average")}}
    )
    nothing = Spoken.__new__(Spoken)  # refused before any recording is looked at
    object.__setattr__(nothing, "phones", ())
    assert "has no weights of its own to train" in said(lambda: start(asked, nothing))


# ------------------------------------------------------------------------------------------------------------- on disk


def test_members_move_with_their_folder_and_adapted_ones_find_their_base(shelf: Path, tmp_path: Path) -> None:
    shutil.copytree(shelf / "base", tmp_path / "home" / "base")
    base = load_recogniser(tmp_path / "home" / "base")
    for seed in (1, 2):
        save_adapted(tmp_path / "home" / str(seed), adapted(base, noisy(base, seed), UNIVERSAL))
    names = [str(tmp_path / "home" / name) for name in ("1", "2")]
    found = merge_recognisers(names, Asked("rover"))
    save_merged(tmp_path / "home" / "average", found)
    expected = load_recogniser(tmp_path / "home" / "average").spell(*batch())
    for name in names:
        shutil.rmtree(name)
    (tmp_path / "home").rename(tmp_path / "moved")
    assert load_recogniser(tmp_path / "moved" / "average").spell(*batch()) == expected == found.model.spell(*batch())


def test_votes_and_weights_come_back_to_the_bit(shelf: Path, tmp_path: Path) -> None:
    members = [load_recogniser(source) for source in named(shelf, "near1", "adapted1", "searching")]
    one = averaged(members, "rover", [0.3, 0.7, 0.9], Vote(0.75, 0.3), "mine")
    save_averaged(tmp_path / "one", one)
    again = load_recogniser(tmp_path / "one")
    assert isinstance(again, AveragedRecognition)
    assert (again.weights, again.vote, again.form) == (one.weights, one.vote, "rover")
    assert [member.name for member in again.members] == ["near1", "adapted1", "searching"]
    assert [member_hash(member) for member in again.members] == [member_hash(member) for member in members]
    assert (again.name, again.hash, again.folder) == ("one", one.hash, tmp_path / "one")
    assert again.spell(*batch()) == one.spell(*batch())


def test_what_was_adapted_in_memory_alone_is_kept_too(shelf: Path, tmp_path: Path) -> None:
    base = load_recogniser(shelf / "base")
    members = [adapted(base, noisy(base, seed), UNIVERSAL) for seed in (31, 32)]
    save_averaged(tmp_path / "average", averaged([*members, replace(base, folder=None)], "log-mean"))
    again = load_recogniser(tmp_path / "average")
    assert isinstance(again, AveragedRecognition)
    assert len(again.members) == 3


def test_the_hash_knows_members_weights_form_encoding_and_spelling(shelf: Path) -> None:
    members = [load_recogniser(source) for source in named(shelf, *NEAR)]
    made = [
        averaged(members, "mean"),
        averaged(members, "rover"),
        averaged(members, "mean", [1.0, 1.0, 2.0]),
        averaged(members[::-1], "mean"),
        averaged([members[0], members[0], members[2]], "mean"),
    ]
    assert len({average.hash for average in made}) == len(made)
    one = load_recogniser(shelf / "adapted1")
    two = [replace(one, encoding=torch.full((4,), value)) for value in (0.0, 1.0)]
    others = [one, *two, replace(one, spelling=spelling("dab")), load_recogniser(shelf / "adapted2")]
    assert len({member_hash(other) for other in others}) == 5


def edited(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "average.json").read_text())
    (folder / "average.json").write_text(json.dumps({**document, **changes}))


def swapped(folder: Path, shelf: Path) -> None:
    shutil.rmtree(folder / "members" / "2")
    shutil.copytree(shelf / "near3", folder / "members" / "2")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (swapped, "is not as it was saved: its members and weights hash to"),
        (lambda f, s: edited(f, weights=[0.2, 0.8]), "is not as it was saved"),
        (lambda f, s: edited(f, settings={"agreement": 2.0}), "agreement of a vote is 2"),
        (lambda f, s: edited(f, names=["1", "2", "3"]), "names 3 members and weighs 2"),
        (lambda f, s: edited(f, of="words"), "tells words apart; name a model that transcribes"),
        (lambda f, s: (f / "average.json").write_text("{"), "is damaged or truncated"),
        (lambda f, s: shutil.rmtree(f / "members"), "holds no recogniser"),
        (lambda f, s: (f / "members" / "1" / "model.safetensors").unlink(), "is missing"),
    ],
)
def test_a_damaged_average_is_told_in_one_sentence(change: Any, sentence: str, shelf: Path, tmp_path: Path) -> None:
    save_merged(tmp_path / "average", merged("rover", shelf, NEAR[:2]))
    change(tmp_path / "average", shelf)
    assert sentence in said(lambda: load_recogniser(tmp_path / "average"))


@pytest.mark.parametrize(("form", "members"), [("mean", NEAR), ("soup", NEAR), ("soup", ADAPTED)])
def test_nothing_else_is_written_over(form: str, members: tuple[str, ...], shelf: Path, tmp_path: Path) -> None:
    found = merged(form, shelf, members)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    assert "exists and is no" in said(lambda: save_merged(tmp_path / "notes", found))
    assert sounds.files_below(tmp_path) == {"notes/mine.txt": b"mine"}


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("other", "form", "sentence"),
    [
        ("alphabet", "rover", "alphabet writes another alphabet than near1: "),
        ("finer", "mean", "finer hears other features than near1 (32 bins every 10 ms"),
        ("rarer", "mean", "rarer hears other features than near1"),
        ("wider", "soup", "wider has another architecture than near1: recogniser.channels is 24 and 16"),
        ("slower", "soup", "slower has another architecture than near1: recogniser.reduction is 8 and 4"),
        ("broken", "mean", "broken has 1 of"),
        ("broken", "rover", "weights that are not finite"),
        ("broken", "soup", "weights that are not finite"),
    ],
)
def test_recognisers_that_cannot_be_averaged_are_told_apart(other: str, form: str, sentence: str, shelf: Path) -> None:
    assert sentence in said(lambda: merge_recognisers(named(shelf, "near1", other), Asked(form)))


def test_adaptations_of_several_bases_have_no_soup_that_could_be_opened(shelf: Path, tmp_path: Path) -> None:
    for members in (("adapted1", "elsewhere"), ("adapted1", "near1")):
        found = merged("soup", shelf, members)
        text = said(lambda one=found: save_merged(tmp_path / "soup", one))
        assert "Not all models were adapted from one base" in text
        assert not (tmp_path / "soup").exists()
        save_merged(tmp_path / f"both-{members[1]}", merged("log-mean", shelf, members))


def test_adapters_of_another_width_are_another_architecture(shelf: Path, tmp_path: Path) -> None:
    base = load_recogniser(shelf / "base")
    wide = widened(base, adapter=4)
    save_adapted(tmp_path / "bottlenecks", adapted(wide, noisy(wide, 3), UNIVERSAL))
    names = [str(shelf / "adapted1"), str(tmp_path / "bottlenecks")]
    assert "recogniser.adapter is 4 and 0" in said(lambda: merge_recognisers(names, Asked("soup")))
    assert merge_recognisers(names, Asked("mean")).model.spell(*batch())


def test_averages_and_models_of_words_are_no_members(shelf: Path, tmp_path: Path) -> None:
    save_merged(tmp_path / "average", merged("mean", shelf))
    names = [str(tmp_path / "average"), str(shelf / "near1")]
    assert "average is an average already; name its members" in said(lambda: kind_of(names))
    whole = load_recogniser(tmp_path / "average")
    text = said(lambda: averaged([load_recogniser(shelf / "near1"), whole], "rover"))
    assert text == "average is an average already; average its members instead."
    assert "No model was given" in said(lambda: averaged([], "mean"))
    both = [str(shelf / "near1"), "dtw"]
    assert (
        said(lambda: kind_of(both)) == f"{both[0]} transcribes and dtw tells words apart; average models of one kind."
    )
    assert kind_of(named(shelf, "near1", "adapted1")) == "recognisers"


def test_a_development_corpus_has_to_be_there(shelf: Path) -> None:
    for place in ("empty", "nowhere"):
        asked = Asked("mean", str(shelf / place))
        said(lambda one=asked: merge_recognisers(named(shelf, *NEAR), one))
