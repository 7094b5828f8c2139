"""Enrol, verify, name and forget: decisions, what is refused, and what stays on the disk."""

import base64
import io
import json
import math
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds
from refusals import said
from voicing import RATE_HZ, say, voice_model

from metavox import SpeakerVerifier
from metavox.profiles.vault import FILE
from metavox.voices import encoders

KEY = bytes(range(32))
ANNA, BELA, STRANGER = 0, 1, 4
Clip = tuple[np.ndarray, int]


@pytest.fixture(autouse=True)
def own_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "notes"))


@lru_cache(maxsize=100)
def spoken(person: int, take: int, seconds: float = 2.0) -> np.ndarray:
    return say(person, take, seconds)


def clips(person: int, *takes: int, seconds: float = 2.0) -> list[Clip]:
    return [(spoken(person, take, seconds), RATE_HZ) for take in takes or (0, 1, 2)]


@lru_cache(maxsize=2)
def enrolled(keep_audio: bool) -> SpeakerVerifier:
    verifier = SpeakerVerifier(voice_model(), keep_audio=keep_audio)
    return verifier.enroll("anna", clips(ANNA)).enroll("bela", clips(BELA))


def family(*, keep_audio: bool = False, **options: float) -> SpeakerVerifier:
    """Two people, enrolled once for all tests."""
    verifier = SpeakerVerifier(voice_model(), keep_audio=keep_audio, **options)  # type: ignore[arg-type]
    verifier._prints = dict(enrolled(keep_audio)._prints)
    return verifier


# ---------------------------------------------------------------------------------------------------------- decisions


def test_the_right_voice_is_accepted_and_others_are_not() -> None:
    verifier = family()
    assert verifier.names_ == ("anna", "bela")
    for name, person in (("anna", ANNA), ("bela", BELA)):
        own, other = verifier.verify(name, clips(person, 7)[0]), verifier.verify(name, clips(STRANGER, 7)[0])
        assert own.accepted
        assert (own.name, own.best, own.reason, own.threshold) == (name, name, "", 0.0)
        assert own.probability == pytest.approx(1 / (1 + math.exp(-own.llr)))
        assert not other.accepted
        assert other.reason.endswith(".")
        assert "times as likely somebody else" in other.reason
    assert verifier.identify(clips(BELA, 7)[0]).name == "bela"
    unknown = verifier.identify(clips(STRANGER, 7)[0])
    assert unknown.name is None
    assert not unknown.accepted
    assert unknown.best in ("anna", "bela")
    assert set(unknown.probabilities) == {"anna", "bela"}


def test_the_figures_are_those_of_the_model() -> None:
    verifier, model = family(), voice_model()
    heard = model.hear([spoken(ANNA, 7)])
    voice = model.hear([spoken(ANNA, take) for take in (0, 1, 2)])
    assert verifier.verify("anna", clips(ANNA, 7)[0]).llr == pytest.approx(float(model.llr([voice], heard)[0, 0]))
    np.testing.assert_array_equal(verifier.voices_["anna"].vectors, voice.vectors)


def test_the_threshold_is_that_of_bayes_unless_it_is_given() -> None:
    model = voice_model()
    assert SpeakerVerifier(model, p_target=0.01).threshold_ == pytest.approx(math.log(99))
    assert SpeakerVerifier(model, p_target=0.2, cost_ratio=10).threshold_ == pytest.approx(math.log(40))
    assert SpeakerVerifier(model, threshold_llr=-1.5).threshold_ == -1.5
    assert not family(threshold_llr=50.0).verify("anna", clips(ANNA, 7)[0]).accepted
    assert family(threshold_llr=-50.0).verify("anna", clips(STRANGER, 7)[0]).accepted


@pytest.mark.parametrize(
    "options",
    [{"p_target": 0.0}, {"p_target": 1.0}, {"p_target": math.nan}, {"cost_ratio": 0.0}, {"cost_ratio": math.inf},
     {"threshold_llr": math.nan}, {"threshold_llr": math.inf}],
)  # fmt: skip
def test_impossible_settings_are_refused(options: dict[str, float]) -> None:
    said(lambda: SpeakerVerifier(voice_model(), **options))


def test_clips_come_in_at_any_rate_and_from_files(tmp_path: Path) -> None:
    paths = [sounds.write(tmp_path / f"{take}.wav", say(ANNA, take, 2.0)) for take in (0, 1, 2)]
    verifier = SpeakerVerifier(voice_model()).enroll("anna", paths)
    assert verifier.verify("anna", (say(ANNA, 7, 2.0, 32_000), 32_000)).accepted


def test_more_clips_are_added_to_a_voice_in_order() -> None:
    at_once = SpeakerVerifier(voice_model()).enroll("anna", clips(ANNA))
    one_by_one = SpeakerVerifier(voice_model())
    for take in (0, 1, 2):
        one_by_one.enroll("anna", clips(ANNA, take))
    np.testing.assert_array_equal(at_once.voices_["anna"].vectors, one_by_one.voices_["anna"].vectors)
    assert at_once.verify("anna", clips(ANNA, 7)[0]) == one_by_one.verify("anna", clips(ANNA, 7)[0])


# ------------------------------------------------------------------------------------------------------------ refusals


def both(first: int, second: int) -> Clip:
    return np.concatenate([spoken(first, 0), spoken(second, 0)]), RATE_HZ


BAD = {
    "a path": ("../anna", clips(2), "is a path"),
    "no name": ("", clips(2), "is empty"),
    "no clip": ("carl", [], "No clip of 'carl'"),
    "little speech": ("carl", [*clips(2), *clips(2, 5, seconds=0.3)], "0.5 s are needed"),
    "silence": ("carl", [*clips(2), (np.zeros(RATE_HZ, np.float32), RATE_HZ)], "is silent"),
    "a missing file": ("carl", [*clips(2), "gone.wav"], "does not exist"),
    "a copy": ("carl", [*clips(2), (0.3 * spoken(2, 1)[500:], RATE_HZ)], "one recording"),
    "an enrolled clip": ("anna", clips(ANNA, 5, 1), "enrolled already, as a clip of anna"),
    "another's clip": ("carl", clips(BELA, 1), "enrolled already, as a clip of bela"),
    "two people": ("carl", [both(ANNA, BELA)], "two voices"),
    "somebody else": ("anna", clips(BELA, 5), "another person"),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_cannot_be_enrolled_changes_nothing(tmp_path: Path, fault: str) -> None:
    name, given, why = BAD[fault]
    verifier = family()
    verifier.save(tmp_path / "voices", key=KEY)
    before, held = sounds.files_below(tmp_path / "voices"), json.dumps(verifier.export())
    assert why in said(lambda: verifier.enroll(name, given))  # type: ignore[arg-type]
    assert json.dumps(verifier.export()) == held
    assert sounds.files_below(tmp_path / "voices") == before


def test_judgements_of_persons_can_be_overruled() -> None:
    verifier = family().enroll("carl", [both(ANNA, BELA)], anyway=True)
    assert "carl" in verifier.names_
    assert "one recording" in said(lambda: verifier.enroll("dora", clips(5, 1, 1), anyway=True))


@pytest.mark.parametrize(
    ("clip", "why"),
    [
        (clips(ANNA, 5, seconds=0.3)[0], "0.5 s are needed"),
        ((np.zeros(RATE_HZ, np.float32), RATE_HZ), "is silent"),
        (both(ANNA, BELA), "two voices"),
        ("gone.wav", "does not exist"),
    ],
)
def test_nothing_is_said_of_a_clip_that_nothing_can_be_said_of(clip: Clip | str, why: str) -> None:
    verifier = family()
    assert why in said(lambda: verifier.verify("anna", clip))
    assert why in said(lambda: verifier.identify(clip))


def test_who_is_not_enrolled_is_said() -> None:
    verifier = family()
    for ask in (lambda: verifier.verify("carl", clips(2)[0]), lambda: verifier.forget("carl"),
                lambda: verifier.export("carl")):  # fmt: skip
        assert "'carl' is not enrolled; enrolled are anna, bela" in said(ask)
    assert "Nobody is enrolled" in said(lambda: SpeakerVerifier(voice_model()).identify(clips(2)[0]))
    assert "no calibration" in said(lambda: SpeakerVerifier("mfcc").enroll("anna", clips(ANNA)))


# ------------------------------------------------------------------------------------------------------------ on disk


@pytest.mark.parametrize("key", [None, KEY, "six words"])
def test_saved_voices_decide_as_before(tmp_path: Path, key: bytes | str | None) -> None:
    verifier = family()
    verifier.save(tmp_path / "voices", key=key)
    again = SpeakerVerifier.load(tmp_path / "voices", key=key, model=voice_model(), p_target=0.1)
    assert again.export() == verifier.export()
    assert again.verify("anna", clips(ANNA, 7)[0]).llr == verifier.verify("anna", clips(ANNA, 7)[0]).llr
    assert again.threshold_ == pytest.approx(math.log(9))


def traces(name: str, verifier: SpeakerVerifier) -> list[bytes]:
    """Whatever a voice might leave in a file."""
    voice = verifier.voices_[name]
    found = [name.encode(), name.encode("utf-16-le"), ascii(name)[1:-1].encode()]
    for vector in (*voice.vectors, voice.vectors.mean(axis=0)):
        for kind in (np.float16, np.float32, np.float64):
            values = vector.astype(kind)
            found += [values.tobytes(), values[:4].tobytes(), values[-4:].tobytes()]
    for seconds in voice.speech_s + 0.0:
        found.append(np.float64(seconds).tobytes())
    for clip in verifier.export(name)["voices"][0]["clips"]:
        if "audio_flac_base64" in clip:
            recording = base64.b64decode(clip["audio_flac_base64"])
            found += [recording, recording[-200:-100], clip["audio_flac_base64"][:200].encode()]
    return found


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("keep_audio", [False, True])
def test_nothing_of_a_forgotten_voice_is_in_any_file(tmp_path: Path, key: bytes | None, keep_audio: bool) -> None:
    folder, name = tmp_path / "voices", "Zoë"
    verifier = family(keep_audio=keep_audio).enroll(name, clips(6, 0, 1, seconds=1.7))
    verifier.save(folder, key=key)
    verifier.enroll(name, clips(6, 2, seconds=1.3))
    verifier.save(folder)
    left = folder / f".{FILE}.1.tmp"  # of a writing that was cut off
    left.write_bytes((folder / FILE).read_bytes())
    marks = traces(name, verifier)
    content = b"".join(sounds.files_below(folder).values())
    there = sum(mark in content for mark in marks)
    assert there == 0 if key else there > 3  # the test would see them
    loaded = SpeakerVerifier.load(folder, key=key, model=voice_model())
    loaded.forget(name).save(folder)
    after = sounds.files_below(folder)
    assert list(after) == [FILE]
    again = SpeakerVerifier.load(folder, key=key, model=voice_model())
    assert again.names_ == ("anna", "bela")
    if key is None:
        clear = after[FILE]
    else:  # what whoever has the key can read
        from metavox.profiles.voiceprints import to_bytes

        assert again._vault is not None
        clear = to_bytes(again._vault[1].prints) + after[FILE]
    assert not [mark for mark in marks if mark in clear]
    assert b"anna" in clear


def test_the_last_voice_can_be_forgotten_too(tmp_path: Path) -> None:
    verifier = SpeakerVerifier(voice_model()).enroll("anna", clips(ANNA))
    verifier.save(tmp_path / "voices")
    verifier.forget("anna").save(tmp_path / "voices")
    again = SpeakerVerifier.load(tmp_path / "voices", model=voice_model())
    assert again.names_ == ()
    again.enroll("anna", clips(ANNA)).save(tmp_path / "voices")


def test_voices_stay_encrypted_unless_another_key_is_given(tmp_path: Path) -> None:
    family().save(tmp_path / "voices", key=KEY)
    loaded = SpeakerVerifier.load(tmp_path / "voices", key=KEY, model=voice_model())
    for place in ("voices", "copy"):
        loaded.save(tmp_path / place)
        assert b"anna" not in (tmp_path / place / FILE).read_bytes()
    loaded.save(tmp_path / "copy", key="six words")
    assert "passphrase" in said(lambda: SpeakerVerifier.load(tmp_path / "copy", key=KEY, model=voice_model()))
    SpeakerVerifier.load(tmp_path / "copy", key="six words", model=voice_model())


def test_another_verifier_does_not_write_over_voices(tmp_path: Path) -> None:
    family().save(tmp_path / "voices")
    before = sounds.files_below(tmp_path / "voices")
    other = SpeakerVerifier(voice_model()).enroll("carl", clips(2))
    assert "holds voices already" in said(lambda: other.save(tmp_path / "voices"))
    assert sounds.files_below(tmp_path / "voices") == before


def test_voices_of_another_model_are_refused(tmp_path: Path) -> None:
    family().save(tmp_path / "voices")
    model = voice_model()

    class Other:
        name, hash, dim, rate_hz, embed = "other", "f" * 64, 40, RATE_HZ, model.encoder.embed

    other = replace(model, encoder=Other(), name="other")
    assert "another model" in said(lambda: SpeakerVerifier.load(tmp_path / "voices", model=other))
    later = replace(model, hash="1" * 64)  # the same encoder, calibrated anew
    SpeakerVerifier.load(tmp_path / "voices", model=later).verify("anna", clips(ANNA, 7)[0])


def test_the_model_is_found_again_by_what_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_voices(source: str | Path) -> object:
        asked.append(str(source))
        return voice_model()

    monkeypatch.setattr(encoders, "load_voices", load_voices)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for source in ("metavox/speaker-small", "model"):
        SpeakerVerifier(source).enroll("anna", clips(ANNA)).save(source.replace("/", "-") + "-voices")
    SpeakerVerifier.load("metavox-speaker-small-voices")
    SpeakerVerifier.load("model-voices")
    assert asked[2:] == ["metavox/speaker-small", str(tmp_path / "model")]
    calibrated_anew = replace(voice_model(), hash="1" * 64)
    monkeypatch.setattr(encoders, "load_voices", lambda source: calibrated_anew)
    assert "calibrated otherwise" in said(lambda: SpeakerVerifier.load("model-voices"))


def test_a_file_in_the_clear_cannot_fetch_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "load_voices", lambda source: voice_model())
    for key in (None, KEY):
        SpeakerVerifier("hf:somebody/model").enroll("anna", clips(ANNA)).save(tmp_path / str(key is None), key=key)
    assert "name the model yourself" in said(lambda: SpeakerVerifier.load(tmp_path / "True"))
    SpeakerVerifier.load(tmp_path / "True", model="hf:somebody/model")
    SpeakerVerifier.load(tmp_path / "False", key=KEY)


def test_to_forget_and_to_export_no_model_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(source: str | Path) -> object:
        raise AssertionError("opened")

    family().save(tmp_path / "voices", key=KEY)
    monkeypatch.setattr(encoders, "load_voices", gone)
    verifier = SpeakerVerifier.load(tmp_path / "voices", key=KEY, open_model=False)
    assert [one["name"] for one in verifier.export()["voices"]] == ["anna", "bela"]
    verifier.forget("anna").save(tmp_path / "voices")
    assert SpeakerVerifier.load(tmp_path / "voices", key=KEY, model=voice_model()).names_ == ("bela",)


# ------------------------------------------------------------------------------------------------------------- export


def test_everything_that_is_held_is_exported() -> None:
    when = datetime(2025, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    verifier = SpeakerVerifier(voice_model()).enroll("anna", clips(ANNA), enrolled_at=when)
    verifier.keep_audio = True
    verifier.enroll("anna", clips(ANNA, 5)).enroll("bela", clips(BELA))
    found = json.loads(json.dumps(verifier.export("anna"), allow_nan=False))
    (anna,) = found["voices"]
    assert (anna["name"], anna["n_clips"], found["model_hash"]) == ("anna", 4, voice_model().hash)
    held = verifier.voices_["anna"]
    np.testing.assert_array_equal(np.array([clip["vector"] for clip in anna["clips"]], np.float32), held.vectors)
    assert anna["speech_s"] == pytest.approx(held.speech_s.sum())
    assert [clip["enrolled"] for clip in anna["clips"][:3]] == ["2025-02-28T23:30:00+00:00"] * 3
    latest = datetime.fromisoformat(anna["clips"][3]["enrolled"])
    assert abs((datetime.now(UTC) - latest).total_seconds()) < 60
    assert ["audio_flac_base64" in clip for clip in anna["clips"]] == [False, False, False, True]
    sound, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(anna["clips"][3]["audio_flac_base64"])))
    assert rate_hz == RATE_HZ
    np.testing.assert_allclose(sound, say(ANNA, 5, 2.0), atol=1e-4)


def test_no_sound_is_kept_unless_it_was_asked_for(tmp_path: Path) -> None:
    family().save(tmp_path / "plain")
    family(keep_audio=True).save(tmp_path / "audio")
    assert os.path.getsize(tmp_path / "plain" / FILE) < 5_000
    assert os.path.getsize(tmp_path / "audio" / FILE) > 50_000
    assert b"fLaC" not in (tmp_path / "plain" / FILE).read_bytes()
    kept = SpeakerVerifier.load(tmp_path / "audio", model=voice_model()).export("bela")["voices"][0]["clips"]
    assert all("audio_flac_base64" in clip for clip in kept)
