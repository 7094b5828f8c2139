"""Negatives: cut as in evaluation, embedded once, read with a model; and what is no negative is told."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sounds
import torch

from metavox.audio import read
from metavox.checkpoint import NEGATIVES, Model, build, load_model, save_model, write_tensors
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, FrontEnd, InputError
from metavox.data.fragments import fragments
from metavox.features import prepare
from metavox.runtime.negatives import chosen, kept_negatives_in, negatives_in, negatives_of

CONFIG = ModelConfig(
    front_end=FrontEnd(n_mels=20, n_frames=32, normalize=False),
    encoder=EncoderConfig(channels=16, blocks=1, dim=8),
    learner=LearnerConfig(match="soft"),
)
RATE = sounds.RATE_HZ


@pytest.fixture(scope="module")
def dtw() -> Model:
    return load_model("dtw")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three long recordings, of ten words each, and two of one word."""
    folder = tmp_path_factory.mktemp("talk")
    for number, speaker in enumerate(sounds.SPEAKERS[:3]):
        words = [np.pad(sounds.say(word, speaker, number), (0, RATE // 4)) for word in sounds.WORDS[:10]]
        wave = np.concatenate(words)
        wave += 1e-3 * np.random.default_rng(number).standard_normal(len(wave)).astype(np.float32)
        sounds.write(folder / f"{number}" / "long.wav", wave)
    sounds.write(folder / "one.flac", sounds.say("hale"))
    sounds.write(folder / "two.wav", sounds.say("dosk", rate_hz=44_100), 44_100)
    return folder


@pytest.mark.parametrize("name", ["dtw", "window"])
def test_pieces_are_those_of_fragments_each_as_the_learner_embeds_it_alone(name: str, talk: Path, dtw: Model) -> None:
    model = dtw if name == "dtw" else Model(build(CONFIG), CONFIG, "m", "0", {})
    found = negatives_in([talk], model)
    paths = sorted(talk.rglob("*.*"))
    front_end = model.config.front_end
    position, seconds = 0, 0.0
    for group, path in enumerate(paths):
        wave = read(path, RATE)
        seconds += len(wave) / RATE
        for start, end in fragments(wave, front_end):
            inputs, lengths = prepare(wave[start:end], front_end)
            frames, n_frames = model.learner.embed(Batch(inputs, lengths, torch.tensor([0]), 1))
            n = int(n_frames)
            assert (int(found.lengths[position]), int(found.groups[position])) == (n, group)
            assert (found.frames[position, :n].float() - frames[0]).abs().max() < 0.02
            position += 1
    assert position == len(found) > 20
    assert found.hours == pytest.approx(seconds / 3600)
    assert (found.name, found.model_hash, found.places) == (str(talk), model.hash, (str(talk),))


def test_scores_are_those_of_predict(talk: Path, dtw: Model) -> None:
    front_end = dtw.config.front_end
    takes = [prepare(sounds.say(word, take=take), front_end)[0] for word in sounds.WORDS[:2] for take in range(2)]
    longest = max(take.shape[1] for take in takes)
    inputs = torch.cat([torch.nn.functional.pad(take, (0, 0, 0, longest - take.shape[1])) for take in takes])
    lengths = torch.tensor([take.shape[1] for take in takes])
    with torch.no_grad():
        state = dtw.learner.adapt(Batch(inputs, lengths, torch.tensor([0, 0, 1, 1]), 2))
        found = negatives_in([talk / "one.flac", talk / "two.wav"], dtw)
        for scores, path in zip(found.scores(dtw.learner, state), ("one.flac", "two.wav"), strict=True):
            inputs, lengths = prepare(read(talk / path, RATE), front_end)
            alone = dtw.learner.predict(state, Batch(inputs, lengths, torch.tensor([0]), 1)).scores[0]
            torch.testing.assert_close(scores, alone, atol=0.02, rtol=0)


def test_a_place_is_a_file_a_folder_or_a_corpus_and_nothing_counts_twice(
    talk: Path, tmp_path: Path, dtw: Model
) -> None:
    corpus = sounds.manifest_corpus(tmp_path / "corpus", sounds.WORDS[:2], sounds.SPEAKERS[:1], 1)
    sounds.write(corpus / "stray.wav", sounds.say("zetta"))  # in no row of the manifest
    assert len(negatives_in([corpus], dtw)) == 2
    calls: list[tuple[int, int]] = []
    both = negatives_in([talk / "one.flac", corpus, talk / "one.flac"], dtw, progress=lambda *n: calls.append(n))
    assert len(both) == 3
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_what_cannot_be_a_negative_is_told(tmp_path: Path, dtw: Model) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="empty holds no recording"):
        negatives_in([empty], dtw)
    with pytest.raises(InputError, match="do not exist; name where they are"):
        negatives_in([tmp_path / "nowhere"], dtw)
    silent = sounds.write(tmp_path / "silent" / "a.wav", np.zeros(RATE * 3, np.float32)).parent
    with pytest.raises(InputError, match="hold nothing but silence"):
        negatives_in([silent], dtw)
    sounds.write(tmp_path / "bad" / "good.wav", sounds.say("tula"))
    for number in range(5):
        (tmp_path / "bad" / f"{number}.wav").write_bytes(b"these are no samples")
    with pytest.raises(InputError, match=r"5 of 6 negatives cannot be read: .*0\.wav.*2\.wav.*; and 2 more\.") as said:
        negatives_in([tmp_path / "bad"], dtw)
    assert "3.wav" not in str(said.value)
    config = CONFIG.model_copy(update={"learner": LearnerConfig(name="protonet")})
    with pytest.raises(InputError, match=r"learns by protonet, which cannot be asked about negatives"):
        negatives_in([silent], Model(build(config), config, "m", "0", {}))


def test_the_same_files_are_embedded_once(tmp_path: Path, dtw: Model) -> None:
    path = sounds.write(tmp_path / "a" / "a.wav", sounds.say("tula"))
    first = kept_negatives_in([tmp_path / "a"], dtw)
    assert kept_negatives_in([tmp_path / "a"], dtw) is first
    sounds.write(path, sounds.say("hale"))
    second = kept_negatives_in([tmp_path / "a"], dtw)
    assert not torch.equal(first.frames, second.frames)
    other = replace(dtw, hash="another")
    assert kept_negatives_in([tmp_path / "a"], other).model_hash == "another"


def test_given_negatives_are_taken_as_they_are_or_embedded_again(tmp_path: Path, dtw: Model) -> None:
    sounds.write(tmp_path / "a" / "a.wav", sounds.say("tula"))
    found = negatives_in([tmp_path / "a"], dtw)
    assert chosen(found, dtw) is found
    assert deepcopy(found) is found
    other = Model(build(CONFIG), CONFIG, "m", "0", {})
    again = chosen(found, other)
    assert again is not None
    assert again.model_hash == "0"
    with pytest.raises(InputError, match="embedded by another model than m"):
        chosen(replace(found, places=()), other)
    assert chosen(None, dtw) is None


def test_commonness_is_computed_once_and_changes_nothing(talk: Path) -> None:
    learner = build(CONFIG)
    learner.furnish(
        torch.eye(34),
        learner.embed(
            Batch(
                torch.randn(5, 32, 20, generator=torch.Generator().manual_seed(1)),
                torch.full((5,), 32),
                torch.zeros(5, dtype=torch.int64),
                1,
            )
        )[0],
    )
    found = negatives_in([talk], Model(learner, CONFIG, "m", "0", {}))
    assert found.commonness is not None
    assert found.commonness.abs().min() > 0
    state = learner.adapt(Batch(torch.ones(2, 32, 20), torch.full((2,), 32), torch.tensor([0, 1]), 2))
    again = replace(found, commonness=None)
    torch.testing.assert_close(found.scores(learner, state), again.scores(learner, state))


# -------------------------------------------------------------------------------------------------- those of a model


@pytest.fixture
def bundle(tmp_path: Path, talk: Path) -> Path:
    """A model with negatives as 8-bit integers."""
    folder = tmp_path / "model"
    save_model(folder, build(CONFIG, seed=3), CONFIG, {"negatives": {"hours": 0.5}})
    found = negatives_in([talk], load_model(folder))
    frames = (found.frames.float() * 127).round().to(torch.int8)
    write_tensors(folder / NEGATIVES, {"frames": frames, "lengths": found.lengths, "groups": found.groups})
    return folder


def test_negatives_come_with_a_model(bundle: Path, talk: Path) -> None:
    model = load_model(bundle)
    found, fresh = negatives_of(model), negatives_in([talk], model)
    assert found is not None
    assert (found.hours, found.name, found.model_hash) == (0.5, "model", model.hash)
    assert torch.equal(found.lengths, fresh.lengths)
    assert torch.equal(found.groups, fresh.groups)
    assert (found.frames.float() - fresh.frames.float()).abs().max() < 0.01
    assert negatives_of(load_model("dtw")) is None
    (bundle / NEGATIVES).unlink()
    assert negatives_of(load_model(bundle)) is None


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("cut", "damaged or truncated"),
        ("no groups", "it needs frames, lengths and groups"),
        ("narrow", "not int8 or float16"),
        ("doubles", "not int8 or float16"),
        ("fewer lengths", "as many whole lengths and groups"),
        ("length 0", "not from 1 to"),
        ("long", "not from 1 to"),
        ("NaN", "no numbers"),
        ("none", "as many whole lengths"),
        ("less commonness", "need as much commonness"),
    ],
)
def test_damaged_negatives_of_a_model_are_told(bundle: Path, damage: str, expected: str) -> None:
    path = bundle / NEGATIVES
    found = negatives_of(load_model(bundle))
    assert found is not None
    tensors = {"frames": found.frames, "lengths": found.lengths, "groups": found.groups}
    tensors |= {
        "cut": {},
        "no groups": {},
        "narrow": {"frames": found.frames[..., 1:]},
        "doubles": {"frames": found.frames.double()},
        "fewer lengths": {"lengths": found.lengths[1:]},
        "length 0": {"lengths": found.lengths * 0},
        "long": {"lengths": found.lengths * 99},
        "NaN": {"frames": found.frames * torch.nan},
        "none": {"frames": found.frames[:0]},
        "less commonness": {"commonness": torch.zeros(1)},
    }[damage]
    if damage == "no groups":
        del tensors["groups"]
    write_tensors(path, tensors)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=expected):
        negatives_of(load_model(bundle))


@pytest.mark.parametrize("hours", [None, 0, -1.0, "many", float("inf")])
def test_negatives_of_a_model_need_hours(bundle: Path, hours: object) -> None:
    model = load_model(bundle)
    with pytest.raises(InputError, match=r"hours, under about\.negatives"):
        negatives_of(replace(model, about={"negatives": {"hours": hours}}))
