"""``metavox recognize`` with voices and a policy."""

import json
from pathlib import Path
from typing import Any

import pytest
import sounds
from calling import Metavox
from uttered import Verifier, clips, utter

from metavox.runtime.commands import CommandRecognizer

ANNA, BEN = 1, 2
WORDS = ("open", "close")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    CommandRecognizer("dtw", target=None).fit(*clips(ANNA, WORDS, (0, 1, 2))).save_pretrained("house")
    family = Verifier(anna=clips(ANNA, WORDS, (0, 1, 2))[0], ben=clips(BEN, WORDS, (0, 1, 2))[0])
    monkeypatch.setattr("metavox.cli.gate.opened", lambda voices, key_file, passphrase_env: family)
    (tmp_path / "p.yaml").write_text("default: nobody\nwords:\n  open: anna\n", encoding="utf-8")
    for person, name in ((ANNA, "anna"), (BEN, "ben")):
        sounds.write(tmp_path / f"{name}.wav", utter(person, "open", 9))
    sounds.write(tmp_path / "close.wav", utter(ANNA, "close", 9))
    return tmp_path


def test_it_says_who_said_what_and_whether_they_may(house: Path, metavox: Metavox) -> None:
    files = ("anna.wav", "ben.wav", "close.wav")
    said = metavox("recognize", "house", *files, "--voices", "family", "--policy", "p.yaml", "--json")
    assert said.status == 0, said.err
    found: list[dict[str, Any]] = json.loads(said.out)
    assert [(one["file"], one["word"], one["speaker"], one["allowed"]) for one in found] == [
        ("anna.wav", "open", "anna", True),
        ("ben.wav", "open", "ben", False),
        ("close.wav", "close", "anna", False),
    ]
    assert found[1]["reason"] == "Only anna may say 'open', and the voice is more like ben's."
    assert {"llr", "word_part", "speaker_part", "threshold"} <= set(found[0])
    plain = metavox("recognize", "house", *files, "--voices", "family", "--policy", "p.yaml")
    assert plain.out.splitlines()[0].split("\t")[:4] == ["anna.wav", "open", "anna", "yes"]
    assert plain.out.splitlines()[2].endswith("Nobody may say 'close'.")
    opened = metavox("recognize", "house", "ben.wav", "--voices", "f", "--policy", "p.yaml", "--mode", "open")
    assert "\tyes\t" in opened.out


def test_what_does_not_fit_is_refused(house: Path, metavox: Metavox) -> None:
    (house / "odd.yaml").write_text("default: nobody\nwords:\n  opne: anna\n", encoding="utf-8")
    for arguments, sentence in (
        (("--voices", "family"), "--voices needs --policy"),
        (("--policy", "p.yaml"), "--policy needs --voices"),
        (("--mode", "open"), "are about voices"),
        (("--voices", "family", "--policy", "odd.yaml"), "did you mean 'open'?"),
        (("--voices", "family", "--policy", "p.yaml", "--mode", "shut"), "--mode is 'shut'"),
    ):
        said = metavox("recognize", "house", "anna.wav", *arguments)
        assert said.status == 2
        assert sentence in said.err
