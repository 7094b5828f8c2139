"""``metavox enroll``: a profile is written, changed and told about; what is doubtful is warned of or refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
from calling import Metavox

from metavox.checkpoint import build, load_model, save_model
from metavox.runtime.commands import CommandRecognizer

RATE = sounds.RATE_HZ
WORDS = sounds.WORDS[:3]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def takes(tmp_path: Path) -> Path:
    return sounds.word_folders(tmp_path / "takes", WORDS, sounds.SPEAKERS, 1)


@pytest.fixture
def house(metavox: Metavox, takes: Path) -> Path:
    assert metavox("enroll", "dtw", takes, "--out", "house").status == 0
    return Path("house")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in which nobody says a word that is enrolled."""
    folder = tmp_path_factory.mktemp("talk")
    for i, word in enumerate(sounds.WORDS[6:]):
        for take in range(16):
            wave = sounds.say(word, sounds.SPEAKERS[take % 4], take)
            sounds.write(folder / f"{i}-{take}.wav", wave)
    return folder


def kinds(said: Any) -> set[str]:
    return {finding["kind"] for finding in json.loads(said.out)["findings"]}


def refused(said: Any, folder: Path = Path("house")) -> str:
    """The one sentence of a call that wrote nothing."""
    assert said.status == 2, said.out
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("metavox: ")
    assert said.err.endswith(".\n")
    assert not folder.exists()
    assert not list(Path().glob(".house*"))
    return str(said.err)


# --------------------------------------------------------------------------------------------------------- new profiles


def test_what_was_enrolled_is_told(metavox: Metavox, takes: Path) -> None:
    said = metavox("enroll", "dtw", takes, "--out", "house")
    assert said.status == 0, said.err
    first, second, third = said.out.splitlines()
    assert first.startswith(f"Wrote house: {', '.join(f'{word} (4)' for word in sorted(WORDS))}; ")
    assert first.endswith("kB beside dtw.")
    assert "Refuses below" in second
    assert "promises no rate" in second
    assert third.startswith("That costs ")
    found = json.loads(metavox("enroll", "dtw", takes, "--out", "house", "--json").out)
    size = sum(path.stat().st_size for path in Path("house").rglob("*") if path.is_file())
    assert (found["bytes"], found["takes"], found["promise"], found["synthetic"]) == (
        size,
        dict.fromkeys(sorted(WORDS), 4),
        None,
        {},
    )
    assert 0 <= found["expected_refusals"] <= 1


def test_a_threshold_is_set_on_the_negatives_that_are_given(metavox: Metavox, takes: Path, talk: Path) -> None:
    call = ("enroll", "dtw", takes, "--out", "house", "--negatives", talk, "--target", 0.1)
    said = metavox(*call)
    assert said.status == 0, said.err
    assert "% of sounds that are no enrolled word are accepted (95 % confidence" in said.out
    found = json.loads(metavox(*call, "--confidence", 0.8, "--json").out)
    assert found["source"] == "negatives"
    assert found["promise"]["bound"] <= found["promise"]["target"] == 0.1
    assert found["promise"]["confidence"] == 0.8
    assert found["promise"]["n_negatives"] == 96
    assert found["promise"]["sentence"] in metavox(*call, "--confidence", 0.8).out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--target", 0.001), "needs at least"),
        (("--per-hour", 0.01), "you gave 0.0"),
        (("--target", 2), "target is 2"),
        (("--per-hour", -1), "target is -1"),
        (("--confidence", 1), "confidence is 1"),
        (("--target", 0.1, "--per-hour", 1), "choose one of them"),
    ],
)
def test_a_target_that_cannot_be_kept(
    metavox: Metavox, takes: Path, talk: Path, options: tuple[Any, ...], said: str
) -> None:
    answer = metavox("enroll", "dtw", takes, "--out", "house", "--negatives", talk, *options)
    # A bar may have been drawn before it was known.
    sentence = answer.err.splitlines()[-1]
    assert (answer.status, answer.out, Path("house").exists()) == (2, "", False)
    assert said in sentence
    assert sentence.endswith(".")


def test_a_target_without_negatives_and_an_empty_folder_of_them(metavox: Metavox, takes: Path) -> None:
    assert "add --negatives" in refused(metavox("enroll", "dtw", takes, "--out", "house", "--target", 0.1))
    Path("empty").mkdir()
    said = refused(metavox("enroll", "dtw", takes, "--out", "house", "--negatives", "empty"))
    assert "empty holds no recording" in said


def test_the_bundled_model_is_usual(metavox: Metavox, takes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from metavox import checkpoint

    asked = []

    def load(name: str) -> Any:
        asked.append(name)
        return real("dtw")

    real = checkpoint.load_model
    monkeypatch.setattr(checkpoint, "load_model", load)
    assert metavox("enroll", takes, "--out", "house").status == 0
    assert asked == ["metavox/commands-small"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("dtw", "takes"), "add --out FOLDER"),
        (("--out", "house"), "No takes were given"),
        (("dtw", "--out", "house"), "dtw is a model and no takes were given"),
        (("a", "b", "c", "--out", "house"), "2 are the most"),
        (("dtw", "takes", "--out", "house", "--remove", "tula"), "name it with --into"),
        (("--list",), "name it with --into"),
        (("dtw", "--say", "tula", "--out", "house"), "add --lang"),
        (("dtw", "takes", "--into", "house"), "has its model already"),
        (("--into", "nowhere", "--undo"), "holds no profile"),
        (("--into", "house", "--undo", "--remove", "x"), "leave the other options out"),
        (("--into", "house", "--list", "--undo"), "leave the other options out"),
        (("--into", "house", "--rename", "tula"), "OLD=NEW"),
    ],
)
def test_calls_that_contradict_themselves(metavox: Metavox, takes: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(metavox("enroll", *arguments))


# ------------------------------------------------------------------------------------------------------------- findings


def bad_takes(folder: Path, kind: str, words: Sequence[str] = WORDS) -> set[str]:
    """Spoil good takes; what has to be found."""
    word = folder / words[0]
    if kind == "one take":
        for path in sorted(word.iterdir())[1:]:
            path.unlink()
        return {"single"}
    if kind == "30 copies":
        wave = sounds.say(words[0])
        rng = np.random.default_rng(0)
        for i in range(30):
            sounds.write(word / f"copy-{i}.wav", wave * (1 - i / 100) + 1e-5 * rng.standard_normal(len(wave)))
        return {"copies"}
    if kind == "alike":
        for i, speaker in enumerate(sounds.SPEAKERS):
            sounds.write(folder / "other" / f"{i}.wav", sounds.say(words[0], speaker, 7))
        return {"alike"}
    if kind == "five seconds":
        time = np.arange(5 * RATE) / RATE
        tone = 0.3 * np.sin(2 * np.pi * 200 * time) * (1.2 + np.sin(2 * np.pi * 4 * time))
        quiet = 1e-3 * np.random.default_rng(0).standard_normal(RATE // 2)
        sounds.write(word / "long.wav", np.concatenate([quiet, tone, quiet]).astype(np.float32))
        return {"long"}
    if kind == "rates":
        sounds.write(word / "fast.wav", sounds.say(words[0], "anna", 5, 44_100), 44_100)
        return {"rates"}
    if kind == "swapped":
        sounds.write(word / "swapped.wav", sounds.say(words[1], "anna", 5))
        return {"outlier"}
    raise AssertionError(kind)


KINDS = ["one take", "30 copies", "alike", "five seconds", "rates", "swapped"]


@pytest.mark.parametrize("kind", KINDS)
def test_doubtful_takes_are_warned_of_and_enrolled(metavox: Metavox, takes: Path, kind: str) -> None:
    expected = bad_takes(takes, kind)
    said = metavox("enroll", "dtw", takes, "--out", "house", "--json")
    assert said.status == 0, said.err
    assert expected <= kinds(said)
    sentences = {finding["sentence"] for finding in json.loads(said.out)["findings"]}
    lines = said.err.splitlines()
    assert all(line.startswith("! ") for line in lines)
    assert {line[2:] for line in lines if "--json lists" not in line} <= sentences
    assert lines


@pytest.mark.parametrize("kind", KINDS)
def test_doubtful_takes_are_refused_when_all_must_be_good(metavox: Metavox, tmp_path: Path, kind: str) -> None:
    """Tones of a few words and voices; those of others are copies to an untrained learner."""
    words = ("sakko", "wexo")
    takes = sounds.word_folders(tmp_path / "takes", words, sounds.SPEAKERS[:3], 1)
    assert metavox("enroll", "dtw", takes, "--out", "good", "--strict").status == 0
    severe = bad_takes(takes, kind, words) - {"single", "rates"}
    said = metavox("enroll", "dtw", takes, "--out", "house", "--strict")
    if severe:
        assert "leave --strict out" in refused(said)


def test_many_findings_of_a_kind_are_counted(metavox: Metavox, takes: Path) -> None:
    for word in WORDS:
        for i, speaker in enumerate(sounds.SPEAKERS):
            wave = sounds.say(word, speaker, 9)
            sounds.write(takes / word / f"half-{i}.wav", wave[: len(wave) // 2])
    said = metavox("enroll", "dtw", takes, "--out", "house")
    cut = [line for line in said.err.splitlines() if "may be cut off" in line]
    assert len(cut) == 3
    assert "! 9 more of that kind (cut); --json lists them all." in said.err


# ------------------------------------------------------------------------------------------------------------- changing


def labels(folder: Path) -> tuple[str, ...]:
    return CommandRecognizer.from_pretrained(folder).labels_


def test_words_are_added_removed_renamed_and_taken_back(metavox: Metavox, house: Path, tmp_path: Path) -> None:
    more = sounds.word_folders(tmp_path / "more", ("zetta",), sounds.SPEAKERS, 1)
    said = metavox("enroll", more, "--into", house, "--json")
    assert said.status == 0, said.err
    assert json.loads(said.out)["takes"] == {**dict.fromkeys(sorted(WORDS), 4), "zetta": 4}
    assert labels(house) == (*sorted(WORDS), "zetta")
    assert metavox("enroll", "--into", house, "--rename", "zetta=omega", "--remove", WORDS[0]).status == 0
    assert labels(house) == (*sorted(WORDS[1:]), "omega")
    for expected in ((*sorted(WORDS[1:]), "zetta"), (*sorted(WORDS), "zetta"), tuple(sorted(WORDS))):
        assert metavox("enroll", "--into", house, "--undo").status == 0
        assert labels(house) == expected
    said = metavox("enroll", "--into", house, "--undo")
    assert said.status == 2
    assert "nothing to undo" in said.err
    assert labels(house) == tuple(sorted(WORDS))


def test_a_change_that_fails_leaves_the_profile_as_it_was(metavox: Metavox, house: Path, tmp_path: Path) -> None:
    before = sounds.files_below(house)
    silent = sounds.write(tmp_path / "bad" / "zetta" / "a.wav", np.zeros(RATE, np.float32))
    for call, said in (
        (("--remove", "nobody"), "'nobody' is not enrolled"),
        (("--rename", f"{WORDS[0]}={WORDS[1]}"), "already enrolled"),
        (("--remove", WORDS[0], "--remove", WORDS[1]), "record two takes of two words"),
        ((silent.parents[1],), "silent"),
        ((), "Nothing says what to change"),
        (("--target", "0.1"), "add --negatives"),
    ):
        answer = metavox("enroll", *call, "--into", house)
        assert (answer.status, answer.out) == (2, "")
        assert said in answer.err
        assert sounds.files_below(house) == before


def test_a_changed_profile_can_go_elsewhere(metavox: Metavox, house: Path) -> None:
    before = sounds.files_below(house)
    assert metavox("enroll", "--into", house, "--remove", WORDS[0], "--out", "other").status == 0
    assert sounds.files_below(house) == before
    assert labels(Path("other")) == tuple(sorted(WORDS[1:]))


def test_negatives_can_be_given_later(metavox: Metavox, house: Path, talk: Path) -> None:
    said = metavox("enroll", "--into", house, "--negatives", talk, "--target", 0.1, "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert (found["promise"]["target"], found["revision"]) == (0.1, 2)
    assert found["findings"] == []


def test_a_profile_is_adapted_to_the_noise_of_a_place(metavox: Metavox, takes: Path, tmp_path: Path) -> None:
    templates = load_model("dtw").config
    config = templates.model_copy(update={"front_end": templates.front_end.model_copy(update={"n_frames": 32})})
    save_model(tmp_path / "model", build(config), config, {})
    house = tmp_path / "house"
    assert metavox("enroll", tmp_path / "model", takes, "--out", house).status == 0
    noise = 0.02 * np.random.default_rng(0).standard_normal(3 * RATE)
    place = sounds.write(tmp_path / "place" / "01.wav", noise.astype(np.float32)).parent
    said = metavox("enroll", "--into", house, "--place", place, "--json")
    assert said.status == 0, said.err
    assert CommandRecognizer.from_pretrained(house).place_ is not None
    Path("empty").mkdir()
    assert "metavox record --noise" in metavox("enroll", "--into", house, "--place", "empty").err


def test_recordings_are_named_with_a_probability(metavox: Metavox, house: Path, tmp_path: Path) -> None:
    clip = sounds.write(tmp_path / "new.wav", sounds.say(WORDS[1], take=9))
    (found,) = json.loads(metavox("recognize", house, clip, "--json").out)
    assert found["label"] == WORDS[1]
    assert 0.5 < found["probability"] <= 1
    assert metavox("recognize", house, clip).out.endswith(f"\t{found['probability']:.2f}\n")


def test_what_is_enrolled_is_listed(metavox: Metavox, house: Path) -> None:
    said = metavox("enroll", "--into", house, "--list")
    assert said.out.splitlines() == [f"{word}\t4 takes" for word in sorted(WORDS)]
    assert json.loads(metavox("enroll", "--into", house, "--list", "--json").out)["takes"] == dict.fromkeys(
        sorted(WORDS), 4
    )


# ------------------------------------------------------------------------------------------------------ synthetic takes


@pytest.mark.synth
def test_a_word_that_nobody_spoke_is_marked(metavox: Metavox, house: Path) -> None:
    said = metavox("enroll", "--into", house, "--say", "lights-on", "--lang", "en")
    assert said.status == 0, said.err
    assert "lights-on (8, 8 synthetic)" in said.out
    assert "synthetic" in metavox("enroll", "--into", house, "--list").out
    saved = CommandRecognizer.from_pretrained(house)
    assert [take.source for take in saved.takes_ if take.word == "lights-on"] == ["synthetic"] * 8
    assert metavox("enroll", "dtw", "--say", "yes", "--say", "no", "--lang", "en", "--out", "new").status == 0


@pytest.mark.synth
def test_a_language_that_nobody_speaks(metavox: Metavox, house: Path) -> None:
    said = metavox("enroll", "--into", house, "--say", "yes", "--lang", "qqq")
    assert said.status == 2
    assert "There is no synthetic language 'qqq'" in said.err
