"""``metavox record`` with arrays for a microphone and a list for a person."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
from calling import Metavox
from rich.console import Console

from metavox.cli import record as verb
from metavox.cli.meter import Meter, bar
from metavox.runtime.microphone import BLOCK_S, Level

RATE = sounds.RATE_HZ
Prepare = Callable[..., "Played"]


class Played:
    """Plays parts with a second of quiet after each; raises where a part is an exception."""

    rate_hz = RATE

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.stream = self._blocks([self._quiet(), *parts])
        self.closed = False

    def _quiet(self) -> np.ndarray:
        return 1e-3 * np.random.default_rng(0).standard_normal(RATE + RATE // 2)

    def _blocks(self, parts: list[Any]) -> Iterator[np.ndarray]:
        size = round(BLOCK_S * RATE)
        for part in parts:
            if isinstance(part, BaseException):
                raise part
            wave = np.concatenate([part, self._quiet()]).astype(np.float32)
            yield from (wave[at : at + size] for at in range(0, len(wave) - size + 1, size))

    def blocks(self) -> Iterator[np.ndarray]:
        return self.stream


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """What the microphone will hear, and what the person will answer."""

    def prepare(*parts: Any, answers: tuple[str, ...] = ()) -> Played:
        source, replies = Played(parts), iter(answers)

        @contextmanager
        def microphone(_: str | None) -> Iterator[Played]:
            yield source
            source.closed = True

        def answer() -> str:
            try:
                return next(replies)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr(verb, "_microphone", microphone)
        monkeypatch.setattr("builtins.input", answer)
        return source

    return prepare


LOUD = np.clip(3 * sounds.say("tula"), -0.9, 0.9)
BROKEN = np.clip(100 * sounds.say("tula"), -1, 1)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_takes_of_two_words_are_recorded_and_can_be_enrolled(metavox: Metavox, heard: Prepare, tmp_path: Path) -> None:
    heard(*(sounds.say(word, take=take) for word in ("tula", "rime") for take in range(3)))
    said = metavox("record", "tula", "rime", "--takes", 3, "--out", "takes")
    assert said.status == 0, said.err
    assert files(tmp_path / "takes") == [f"{word}/0{n}.flac" for word in ("rime", "tula") for n in (1, 2, 3)]
    assert said.out.splitlines()[0] == "takes/tula: 3 takes."
    assert "metavox enroll takes" in said.out
    assert metavox("enroll", "dtw", "takes", "--out", "house").status == 0


def test_recording_again_adds_takes(metavox: Metavox, heard: Prepare, tmp_path: Path) -> None:
    for _ in range(2):
        heard(sounds.say("tula"))
        said = metavox("record", "tula", "--takes", 1, "--out", "takes", "--json")
    assert files(tmp_path / "takes") == ["tula/01.flac", "tula/02.flac"]
    assert json.loads(said.out) == {
        "out": "takes",
        "rate_hz": RATE,
        "words": {"tula": {"files": ["takes/tula/02.flac"], "skipped": 0}},
    }


@pytest.mark.parametrize(
    ("answers", "kept", "skipped"), [(("a", "k"), 2, 0), (("", "keep"), 2, 0), (("skip",), 1, 1), (("x", "s"), 1, 1)]
)
def test_a_doubtful_take_is_offered_again(
    metavox: Metavox, heard: Prepare, tmp_path: Path, answers: tuple[str, ...], kept: int, skipped: int
) -> None:
    n_loud = sum(answer in ("", "a", "k", "keep") for answer in answers) or 1
    heard(*[LOUD] * n_loud, sounds.say("tula"), answers=answers)
    said = metavox("record", "tula", "--takes", 2, "--out", "takes", "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)["words"]["tula"]
    assert (len(found["files"]), found["skipped"]) == (kept, skipped)
    assert "The take is clipped" in said.err
    assert "again, keep, skip? [again]" in said.err


def test_what_nothing_can_be_learned_from_cannot_be_kept(metavox: Metavox, heard: Prepare, tmp_path: Path) -> None:
    heard(BROKEN, sounds.say("tula"), answers=("k", "a"))
    said = metavox("record", "tula", "--takes", 1, "--out", "takes")
    assert said.status == 0, said.err
    assert "again, skip?" in said.err
    assert files(tmp_path / "takes") == ["tula/01.flac"]


def test_nobody_speaks(metavox: Metavox, heard: Prepare, tmp_path: Path) -> None:
    heard(np.zeros(12 * RATE))
    said = metavox("record", "tula", "--takes", 1, "--out", "takes", "--json")
    assert json.loads(said.out)["words"]["tula"] == {"files": [], "skipped": 1}
    assert "nothing was heard for ten seconds" in said.err
    assert not (tmp_path / "takes").exists()


def test_ctrl_c_keeps_what_was_recorded(metavox: Metavox, heard: Prepare, tmp_path: Path) -> None:
    heard(sounds.say("tula"), sounds.say("tula", take=1), KeyboardInterrupt())
    said = metavox("record", "tula", "--takes", 5, "--out", "takes")
    assert said.status == 130
    assert "what was finished is kept" in said.err
    assert files(tmp_path / "takes") == ["tula/01.flac", "tula/02.flac"]


def test_the_noise_of_a_place_is_recorded_with_its_level(metavox: Metavox, heard: Prepare, tmp_path: Path) -> None:
    heard(1e-3 * np.random.default_rng(1).standard_normal(5 * RATE))
    said = metavox("record", "--noise", 3, "--out", "place", "--json")
    found = json.loads(said.out)
    assert (found["file"], found["seconds"]) == ("place/01.flac", 3)
    assert found["rms_dbfs"] == pytest.approx(-60, abs=0.5)
    heard(1e-3 * np.random.default_rng(1).standard_normal(5 * RATE))
    assert "3.0 s of noise at -60 dBFS" in metavox("record", "--noise", 3, "--out", "place").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "add --out FOLDER"),
        (("--out", "takes"), "Name the words to record"),
        (("tula", "--noise", "3", "--out", "takes"), "Name the words to record"),
        (("a/b", "--out", "takes"), "cannot name a folder"),
        (("tula", "--out", "file"), "file"),
        (("tula", "--takes", "0", "--out", "takes"), "--takes"),
    ],
)
def test_a_call_that_cannot_be_done_opens_no_microphone(
    metavox: Metavox, heard: Prepare, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "file").write_text("mine")
    source = heard()
    answer = metavox("record", *arguments)
    assert answer.status == 2
    assert answer.err.count("\n") == 1
    assert said in answer.err
    assert not source.closed
    assert files(tmp_path) == ["file"]


def test_a_muted_microphone_records_no_noise(metavox: Metavox, heard: Prepare, tmp_path: Path) -> None:
    source = heard()
    source.stream = iter([np.zeros(320, np.float32)] * 200)
    said = metavox("record", "--noise", 2, "--out", "place")
    assert said.status == 2
    assert "silent" in said.err
    assert not (tmp_path / "place").exists()


def test_a_source_that_stops_is_told(metavox: Metavox, heard: Prepare, tmp_path: Path) -> None:
    heard(sounds.say("tula"))
    said = metavox("record", "tula", "--takes", 3, "--out", "takes")
    assert said.status == 2
    assert "has stopped" in said.err
    assert files(tmp_path / "takes") == ["tula/01.flac"]


# --------------------------------------------------------------------------------------------------------------- meter


def test_the_bar_grows_with_the_level_and_is_as_wide_as_ever() -> None:
    bars = [bar(level, level).plain for level in (-90.0, -60.0, -40.0, -20.0, -3.0, 0.0)]
    full = [text.count("█") for text in bars]
    assert full == sorted(full)
    assert full[0] == full[1] == 0
    assert full[-1] == 30
    assert {len(text) for text in bars} == {32}


def test_the_meter_shows_what_it_is_told_within_80_columns() -> None:
    console = Console(record=True, width=80, force_terminal=True, file=io.StringIO())
    with Meter(console).listening("lights-on  2 of 5", "speak now") as show:
        show(Level(-50.0, -40.0, False, 0.0))
        show(Level(-10.0, -1.0, True, 0.4))
    text = console.export_text()
    assert "speak now" in text
    assert "-50 dBFS" in text
    assert "● " in text
    assert "CLIPPED" in text
    assert all(len("lights-on" + shown.strip()) <= 80 for shown in text.split("lights-on")[1:])
