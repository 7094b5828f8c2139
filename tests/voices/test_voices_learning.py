"""A small training on made-up people: it learns, resumes exactly, keeps a model that opens as it was saved."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from metavox.config import VoicesExperiment, validated
from metavox.contracts import InputError
from metavox.training_log import check_out
from metavox.voices.encoders import NetEncoder, load_voices
from metavox.voices.keeping import keep
from metavox.voices.learning import learn
from metavox.voices.material import Material, gather
from tests.voicing import RATE_HZ, say

N_PEOPLE, N_CLIPS = 14, 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    rows = []
    for person in range(N_PEOPLE):
        for take in range(N_CLIPS):
            name = f"{person}_{take}.flac"
            soundfile.write(folder / name, say(person, take, 1.0), RATE_HZ)
            rows.append({"audio_filepath": name, "duration": 1.0, "text": "", "speaker": f"p{person:02}"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def experiment(corpus: Path, **train: object) -> VoicesExperiment:
    tree = {
        "voice": {
            "front_end": {"n_mels": 16, "crop": False, "normalize": False, "n_frames": None},
            "channels": 4,
            "dim": 16,
        },
        "data": {"corpora": [str(corpus)], "min_speech_s": 1, "speeds": [1.0], "leave_out_speakers": ["p00"]},
        "waves": {"reverb_share": 0, "codec_share": 0, "speed": 0},
        "learning": {"voices": 8, "long_s": [0.6, 0.8], "short_s": [0.3, 0.5]},
        "train": {"steps": 4, "lr": 0.01, "warmup": 1, "checkpoint_every": 2, "precision": "float32", **train},
    }
    return validated(VoicesExperiment, tree, "test")


@pytest.fixture(scope="module")
def material(corpus: Path) -> Material:
    return gather(experiment(corpus).data)


def test_left_out_speakers_are_not_heard(material: Material) -> None:
    assert material.speakers == tuple(f"p{person:02}" for person in range(1, N_PEOPLE))
    assert all(1.5 < person.speech_s < 3.2 for person in material.people)


@pytest.mark.parametrize("n_samples", [1, 5_000, 70_000])
def test_a_stretch_has_the_length_that_was_asked(material: Material, n_samples: int) -> None:
    wave = material.people[0].stretch(n_samples, np.random.default_rng(0))
    assert wave.shape == (n_samples,)
    assert float(np.abs(wave).max()) <= 1


def test_a_voice_at_each_speed_is_one_of_its_own(corpus: Path) -> None:
    config = experiment(corpus).data.model_copy(update={"speeds": (1.0, 1.25)})
    people = gather(config).people
    assert len(people) == 2 * (N_PEOPLE - 1)
    slow, fast = people[0], people[N_PEOPLE - 1]
    assert slow.name == fast.name
    assert fast.speech_s == pytest.approx(slow.speech_s / 1.25, rel=1e-3)


def test_training_in_two_parts_is_training_at_once(corpus: Path, material: Material, tmp_path: Path) -> None:
    whole = experiment(corpus)
    at_once = learn(whole, material, tmp_path / "one")

    class Stop(Exception):
        pass

    def stop(progress: object) -> None:
        if progress.step == 2:  # type: ignore[attr-defined]
            raise Stop

    parts = experiment(corpus, report_every=1)
    with pytest.raises(Stop):
        learn(parts, material, tmp_path / "two", report=stop)
    resumed = learn(parts, material, tmp_path / "two", resume=True)
    for name, value in at_once.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)
    with pytest.raises(InputError, match="another recipe"):
        check_out(experiment(corpus, lr=0.5), tmp_path / "two", resume=True)
    with pytest.raises(InputError, match="not empty"):
        check_out(parts, tmp_path / "two")


def test_what_was_learned_is_kept_and_opens_again(corpus: Path, tmp_path: Path) -> None:
    others = [f"p{person:02}" for person in range(1, 10)]
    asked = experiment(corpus, steps=25)
    asked = asked.model_copy(update={"data": asked.data.model_copy(update={"development_speakers": tuple(others)})})
    material = gather(asked.data)
    assert not set(material.speakers) & {*others, "p00"}
    net = learn(asked, material, tmp_path / "model")
    model = keep(tmp_path / "model", net, asked, material)
    assert model.ratios is not None
    assert len(model.cohort) == len(material.people)
    assert model.about["left_out"] == ["p00"]
    again = load_voices(tmp_path / "model")
    assert again.hash == model.hash
    clips = [say(50, take, 1.0) for take in range(2)]
    np.testing.assert_array_equal(again.hear(clips).vectors, model.hear(clips).vectors)
    assert isinstance(again.encoder, NetEncoder)


def test_it_learns(corpus: Path, material: Material, tmp_path: Path) -> None:
    losses: list[float] = []
    asked = experiment(corpus, steps=30, report_every=1)
    asked = asked.model_copy(update={"learning": asked.learning.model_copy(update={"margin": 0.0, "scale": 10.0})})
    asked = asked.model_copy(update={"augment": asked.augment.model_copy(update={"enabled": False})})
    learn(asked, material, tmp_path / "m", report=lambda at: losses.append(at.loss))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "config.json",
            lambda data: data.replace(b'"kind": "voices"', b'"kind": "words"'),
            "another kind|no voices|cannot",
        ),
        ("config.json", lambda data: data.replace(b'"bias": ', b'"bias": 1'), "not as it was saved"),
        ("cohort.safetensors", lambda data: data[:-40] + bytes(40), "not as it was saved"),
        ("model.safetensors", lambda data: data[: len(data) // 2], "damaged|cannot be read|incomplete"),
    ],
)
def test_a_model_that_was_changed_is_refused(corpus, material, tmp_path, name, change, said) -> None:  # type: ignore[no-untyped-def]
    from metavox.calibration.ratios import Ratios
    from metavox.nets.voice import VoiceNet
    from metavox.voices.encoders import save_voices

    config = experiment(corpus).voice
    save_voices(tmp_path / "m", VoiceNet(config), np.eye(16, dtype=np.float32), Ratios({"score": 1.0}, 2.0), {})
    place = tmp_path / "m" / name
    place.write_bytes(change(place.read_bytes()))
    with pytest.raises(InputError, match=said):
        load_voices(tmp_path / "m")


def test_what_is_no_model_of_voices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model of voices"):
        load_voices(tmp_path / "nothing")
    with pytest.raises(InputError, match="no bundled model"):
        load_voices("metavox/nobody")
    with pytest.raises(InputError, match="knows no voices"):
        load_voices("metavox/commands-small")


def test_too_few_speakers_and_unknown_names_are_refused(corpus: Path) -> None:
    config = experiment(corpus).data
    with pytest.raises(InputError, match="speakers with 50 s of speech"):
        gather(config.model_copy(update={"min_speech_s": 50.0}))
    with pytest.raises(InputError, match="'nobody'"):
        gather(config.model_copy(update={"leave_out_speakers": ("nobody",)}))


def test_a_calibration_keeps_what_stands_beside_the_network(corpus: Path, tmp_path: Path) -> None:
    from metavox.calibration.ratios import Ratios
    from metavox.nets.voice import VoiceNet
    from metavox.voices.classical import MfccStatistics
    from metavox.voices.discriminants import DiscriminantStatistics
    from metavox.voices.encoders import save_calibrated, save_voices
    from metavox.voices.furnishing import Furnished

    statistics, rng = MfccStatistics(), np.random.default_rng(0)
    second = DiscriminantStatistics(statistics, rng.normal(size=40), rng.normal(size=(40, 5)))
    net = VoiceNet(experiment(corpus).voice)
    made = save_voices(tmp_path / "one", net, np.eye(21, dtype=np.float32), None, {}, second)
    assert made.encoder.dim == 21
    save_calibrated(tmp_path / "two", made, "one", Furnished(made.cohort, Ratios({"score": 1.0}, 0.0), {}))
    clips = [say(1, 0, 1.0)]
    np.testing.assert_array_equal(load_voices(tmp_path / "two").hear(clips).vectors, made.hear(clips).vectors)


def test_the_second_head_of_a_recogniser_is_calibrated_like_any_encoder(tmp_path: Path) -> None:
    from metavox.calibration.ratios import Ratios
    from metavox.checkpoint import build, save_model
    from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
    from metavox.voices.encoders import save_calibrated
    from metavox.voices.furnishing import Furnished

    learner = LearnerConfig(name="voiced_prototypes", voice_dim=8)
    config = ModelConfig(encoder=EncoderConfig(channels=8, blocks=1, dim=4), learner=learner)
    save_model(tmp_path / "words", build(config), config, {})
    bare = load_voices(tmp_path / "words")
    found = Furnished(np.eye(8, dtype=np.float32), Ratios({"score": 1.0}, 0.0), {})
    save_calibrated(tmp_path / "one", bare, str(tmp_path / "words"), found)
    save_calibrated(tmp_path / "two", load_voices(tmp_path / "one"), str(tmp_path / "one"), found)
    for name in ("one", "two"):
        made = load_voices(tmp_path / name)
        assert made.ratios == found.ratios
        np.testing.assert_array_equal(made.hear([say(1)]).vectors, bare.hear([say(1)]).vectors)
