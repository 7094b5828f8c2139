"""``metavox speaker`` as a user types it."""

import json
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import sounds
from calling import Metavox
from voicing import say as said_now
from voicing import voice_model

from metavox.profiles.vault import FILE
from metavox.voices import encoders

VERBS = ("enroll", "verify", "identify", "forget", "export", "list")
ANNA, BELA, STRANGER = 0, 1, 4
say = lru_cache(maxsize=100)(said_now)


@pytest.fixture(autouse=True)
def made_up_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of made-up people, whatever is asked for."""
    monkeypatch.setattr(encoders, "load_voices", lambda source: voice_model())


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder of clips for each of two people, and some tests beside."""
    for name, person in (("anna", ANNA), ("bela", BELA)):
        for take in range(3):
            sounds.write(tmp_path / "people" / name / f"{take}.wav", say(person, take, 2.0))
        sounds.write(tmp_path / f"{name}.wav", say(person, 7, 2.0))
    sounds.write(tmp_path / "stranger.wav", say(STRANGER, 7, 2.0))
    (tmp_path / "my.key").write_bytes(os.urandom(32))
    return tmp_path


def wavs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.wav"))


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(metavox: Metavox, verb: str) -> None:
    said = metavox("speaker", verb, "--help")
    assert (said.status, said.err) == (0, "")
    assert f"Example: metavox speaker {verb} " in " ".join(said.out.split())


def test_the_verbs_are_listed(metavox: Metavox) -> None:
    out = metavox("speaker", "--help").out
    assert all(verb in out for verb in VERBS)
    assert "not a lock" in out


@pytest.mark.parametrize("how", ["clear", "key", "passphrase"])
def test_the_whole_way(metavox: Metavox, people: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setenv("FAMILY_WORDS", "six words that nobody guesses")
    key = {"clear": [], "key": ["--key-file", people / "my.key"], "passphrase": ["--passphrase-env", "FAMILY_WORDS"]}
    voices, with_key = people / "family", key[how]
    for name in ("anna", "bela"):
        said = metavox("speaker", "enroll", voices, name, *wavs(people / "people" / name), *with_key, "--json")
        assert said.status == 0, said.err
        found = json.loads(said.out)
        assert (found["enrolled"], found["clips"][name], found["encrypted"]) == ([name], 3, how != "clear")
        assert ("not encrypted" in said.err) == (how == "clear")
    assert os.listdir(voices) == [FILE]

    said = metavox("speaker", "verify", voices, "anna", people / "anna.wav", people / "stranger.wav", *with_key,
                   "--json")  # fmt: skip
    own, other = json.loads(said.out)
    assert said.status == 1
    assert (own["accepted"], other["accepted"], own["name"]) == (True, False, "anna")
    assert own["reason"] == "" != other["reason"]
    said = metavox("speaker", "verify", voices, "anna", people / "stranger.wav", *with_key)
    assert "\trefused\tLLR -" in said.out
    assert "times as likely somebody else as anna" in said.out
    assert metavox("speaker", "verify", voices, "anna", people / "anna.wav", *with_key).status == 0

    ask = ("speaker", "identify", voices, people / "bela.wav", people / "stranger.wav", *with_key)
    said = metavox(*ask, "--json")
    rows = json.loads(said.out)
    assert said.status == 1
    assert [row["name"] for row in rows] == ["bela", None]
    for row in rows:
        assert sum(row["probabilities"].values()) + row["probability_unknown"] == pytest.approx(1)
    assert [line.split("\t")[1] for line in metavox(*ask).out.splitlines()] == ["bela", "-"]

    listed = json.loads(metavox("speaker", "list", voices, *with_key, "--json").out)
    assert [(row["name"], row["clips"]) for row in listed["names"]] == [("anna", 3), ("bela", 3)]
    held = json.loads(metavox("speaker", "export", voices, "anna", *with_key).out)
    assert [one["name"] for one in held["voices"]] == ["anna"]
    vector = np.array(held["voices"][0]["clips"][0]["vector"], np.float32).tobytes()
    assert (vector in (voices / FILE).read_bytes()) == (how == "clear")

    said = metavox("speaker", "forget", voices, "anna", *with_key, "--json")
    assert said.status == 0
    assert json.loads(said.out)["names"] == ["bela"]
    assert vector not in (voices / FILE).read_bytes()
    assert b"anna" not in (voices / FILE).read_bytes()
    said = metavox("speaker", "verify", voices, "anna", people / "anna.wav", *with_key)
    assert said.status == 2
    assert "'anna' is not enrolled" in said.err


def test_a_folder_per_speaker_enrols_everybody_or_nobody(metavox: Metavox, people: Path) -> None:
    said = metavox("speaker", "enroll", people / "family", "--corpus", people / "people", "--json")
    assert said.status == 0, said.err
    assert json.loads(said.out)["clips"] == {"anna": 3, "bela": 3}
    sounds.write(people / "people" / "carl" / "short.wav", say(2, 0, 0.3))
    said = metavox("speaker", "enroll", people / "other", "--corpus", people / "people")
    assert said.status == 2
    assert "short.wav" in said.err
    assert not (people / "other").exists()


def test_a_manifest_names_its_speakers(metavox: Metavox, people: Path) -> None:
    rows = [
        {"audio_filepath": f"{name}/{take}.wav", "duration": 2.0, "text": "la", "speaker": f"{name}-1"}
        for name in ("anna", "bela")
        for take in range(3)
    ]
    manifest = people / "people" / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = metavox("speaker", "enroll", people / "family", "--corpus", people / "people", "--json")
    assert json.loads(said.out)["enrolled"] == ["anna-1", "bela-1"]
    manifest.write_text("".join(json.dumps({**row, "speaker": None}) + "\n" for row in rows))
    said = metavox("speaker", "enroll", people / "others", "--corpus", people / "people")
    assert said.status == 2
    assert "has no speaker" in said.err


def test_thresholds_and_priors_decide(metavox: Metavox, people: Path) -> None:
    metavox("speaker", "enroll", people / "family", "anna", *wavs(people / "people" / "anna"))
    ask = ("speaker", "verify", people / "family", "anna", people / "anna.wav")
    assert metavox(*ask, "--threshold", 40).status == 1
    assert metavox(*ask, "--p-target", 1e-9).status == 1
    assert metavox(*ask, "--threshold", -40).status == 0
    for odd in (
        ("--p-target", 0),
        ("--p-target", "nan"),
        ("--threshold", "inf"),
        ("--p-target", 0.5, "--threshold", 1),
    ):
        said = metavox(*ask, *odd)
        assert said.status == 2, odd
        assert said.err.count("\n") == 1
    assert metavox("speaker", "identify", people / "family", people / "anna.wav", "--p-known", 1e-9).status == 1


def test_bad_input_is_refused_in_a_sentence_and_nothing_is_lost(
    metavox: Metavox, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices, key = people / "family", ("--key-file", people / "my.key")
    anna, bela = wavs(people / "people" / "anna"), wavs(people / "people" / "bela")
    assert metavox("speaker", "enroll", voices, "anna", *anna, *key).status == 0
    before = sounds.files_below(voices)
    short = sounds.write(people / "short.wav", say(BELA, 5, 0.3))
    silence = sounds.write(people / "silence.wav", np.zeros(16_000, np.float32))
    two = sounds.write(people / "two.wav", np.concatenate([say(ANNA, 0, 2.0), say(BELA, 0, 2.0)]))
    again = sounds.write(people / "again.flac", 0.4 * say(BELA, 0, 2.0)[300:])
    other = people / "other.key"
    other.write_bytes(os.urandom(32))
    thesis = people / "work" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("text")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET_WORDS", raising=False)
    enroll, verify = ("speaker", "enroll", voices, "bela"), ("speaker", "verify", voices, "anna")
    calls = [
        (*enroll, short, *key),
        (*enroll, silence, *key),
        (*enroll, two, *key),
        (*enroll, *bela, again, *key),
        (*enroll, bela[0], bela[0], *key),
        (*enroll, people / "gone.wav", *key),
        (*enroll, *key),
        ("speaker", "enroll", voices, *key),
        ("speaker", "enroll", voices, "bela", *bela, "--corpus", people / "people", *key),
        ("speaker", "enroll", voices, "--corpus", people / "gone", *key),
        ("speaker", "enroll", voices, "../bela", *bela, *key),
        ("speaker", "enroll", voices, "anna", bela[0], *key),
        ("speaker", "enroll", voices, "carl", anna[0], *key),
        (*enroll, *bela, "--key-file", other),
        (*enroll, *bela, "--key-file", people / "gone.key"),
        (*enroll, *bela, "--key-file", bela[0]),
        (*enroll, *bela),
        (*enroll, *bela, "--passphrase-env", "UNSET_WORDS"),
        (*enroll, *bela, "--passphrase-env", "EMPTY"),
        (*enroll, *bela, *key, "--passphrase-env", "UNSET_WORDS"),
        ("speaker", "enroll", thesis.parent, "bela", *bela),
        ("speaker", "enroll", thesis, "bela", *bela),
        (*verify, short, *key),
        (*verify, silence, *key),
        (*verify, two, *key),
        (*verify, anna[0]),
        ("speaker", "verify", voices, "carl", anna[0], *key),
        ("speaker", "verify", people / "nothing", "anna", anna[0]),
        ("speaker", "identify", people / "nothing", anna[0]),
        ("speaker", "forget", voices, "carl", *key),
        ("speaker", "forget", voices, "anna", "--key-file", other),
        ("speaker", "export", voices),
        ("speaker", "export", voices, "carl", *key),
        ("speaker", "list", people / "nothing"),
    ]
    for call in calls:
        said = metavox(*call)
        assert said.status == 2, call
        assert said.out == "", call
        assert said.err.startswith("metavox: "), call
        assert said.err.count("\n") == 1, call
        assert said.err.endswith(".\n"), call
        assert sounds.files_below(voices) == before, call
    assert sorted(os.listdir(people / "work")) == ["thesis.txt"]
    assert not (people / "nothing").exists()


def test_a_tampered_and_a_rolled_back_folder_are_refused(metavox: Metavox, people: Path) -> None:
    voices, key = people / "family", ("--key-file", people / "my.key")
    metavox("speaker", "enroll", voices, "--corpus", people / "people", *key)
    old = (voices / FILE).read_bytes()
    assert metavox("speaker", "forget", voices, "anna", *key).status == 0
    new = (voices / FILE).read_bytes()
    ask = ("speaker", "verify", voices, "anna", people / "anna.wav", *key)
    for data, why in ((old, "older copy"), (new[:-1], "truncated"), (new[:400] + b"x" + new[401:], "changed")):
        (voices / FILE).write_bytes(data)
        said = metavox(*ask)
        assert said.status == 2
        assert why in said.err
    (voices / FILE).write_bytes(new)
    assert json.loads(metavox("speaker", "list", voices, *key, "--json").out)["names"][0]["name"] == "bela"


def test_other_files_in_the_folder_are_pointed_out(metavox: Metavox, people: Path) -> None:
    voices = people / "family"
    metavox("speaker", "enroll", voices, "--corpus", people / "people")
    (voices / "backup.metavox").write_bytes((voices / FILE).read_bytes())
    said = metavox("speaker", "forget", voices, "anna")
    assert said.status == 0
    assert "'backup.metavox'" in said.err
