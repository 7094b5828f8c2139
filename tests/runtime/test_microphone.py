"""The recorder, with arrays for a microphone: where takes begin and end, what is written, what a system can lack."""

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import sounds

from metavox.contracts import InputError
from metavox.runtime.microphone import (
    BLOCK_S,
    Level,
    Microphone,
    folder_of,
    input_devices,
    levels_dbfs,
    listen,
    listen_for,
    write_take,
)
from metavox.runtime.take_quality import take_findings

RATE = sounds.RATE_HZ


class Played:
    """A source that plays an array and goes on where it was."""

    def __init__(self, wave: np.ndarray, rate_hz: int = RATE) -> None:
        self.wave, self.rate_hz, self.at = wave.astype(np.float32), rate_hz, 0

    def blocks(self) -> Iterator[np.ndarray]:
        size = round(BLOCK_S * self.rate_hz)
        while self.at + size <= len(self.wave):
            self.at += size
            yield self.wave[self.at - size : self.at]


def quiet(seconds: float, level: float = 1e-3, rate_hz: int = RATE, seed: int = 0) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal(round(seconds * rate_hz))


@pytest.mark.parametrize("word", sounds.WORDS[:6])
@pytest.mark.parametrize("level", [1e-4, 1e-3, 5e-3])
def test_a_word_is_found_whole_and_is_a_good_take(word: str, level: float) -> None:
    wave = sounds.say(word)
    source = Played(np.concatenate([quiet(1.5, level), wave + quiet(len(wave) / RATE, level), quiet(1.5, level)]))
    heard = listen(source, 4)
    assert heard.ended == "silence"
    assert len(wave) - 0.3 * RATE < len(heard.wave) < len(wave) + 0.8 * RATE
    assert take_findings(heard.wave, RATE, "it", word) == []
    loud = np.square(heard.wave).sum() / np.square(wave).sum()
    assert loud == pytest.approx(1, abs=0.1)


def test_one_word_after_the_other() -> None:
    words = [sounds.say(word) for word in sounds.WORDS[:3]]
    source = Played(np.concatenate([quiet(1), *(part for word in words for part in (word, quiet(1.2)))]))
    for word in words:
        heard = listen(source, 4)
        peak = np.correlate(heard.wave, word.astype(np.float32), "valid" if len(heard.wave) > len(word) else "same")
        assert np.abs(peak).max() == pytest.approx(np.square(word).sum(), rel=0.1)


def test_the_limit_ends_what_does_not_end() -> None:
    tone = 0.3 * np.sin(np.arange(10 * RATE) / 20)
    heard = listen(Played(np.concatenate([quiet(1), tone])), 2)
    assert heard.ended == "length"
    assert len(heard.wave) == pytest.approx(2 * RATE, abs=0.1 * RATE)


def test_nobody_who_speaks_and_a_source_that_ends() -> None:
    assert listen(Played(quiet(30)), 4).ended == "nothing"
    assert listen(Played(quiet(3)), 4).ended == "source"
    cut = listen(Played(np.concatenate([quiet(1), sounds.say("tula")[:6000]])), 4)
    assert cut.ended == "source"
    assert len(cut.wave) > 4000


@pytest.mark.parametrize("level", [1e-5, 1e-3, 3e-2])
def test_noise_and_clicks_start_nothing(level: float) -> None:
    wave = quiet(12, level)
    wave[RATE * 3 :: RATE] += 0.5  # one sample a second
    assert listen(Played(wave), 4).ended == "nothing"


def test_the_meter_is_shown_every_block() -> None:
    levels: list[Level] = []
    wave = np.clip(20 * sounds.say("tula"), -1, 1)
    listen(Played(np.concatenate([quiet(1), wave, quiet(1)])), 4, levels.append)
    heard = [level.heard_s for level in levels]
    assert heard[:40] == [0.0] * 40
    assert all(b > a for a, b in pairwise(heard) if a)
    assert any(level.clipped for level in levels)
    assert not any(level.clipped for level in levels[:40])
    assert levels[0].rms_dbfs == pytest.approx(-60, abs=1.5)


def test_levels_are_those_of_a_sine() -> None:
    rms, peak = levels_dbfs(0.1 * np.sin(2 * np.pi * np.arange(1600) / 16))
    assert (rms, peak) == pytest.approx((-23.01, -20), abs=0.05)
    assert levels_dbfs(np.zeros(10))[0] == levels_dbfs(np.zeros(0))[1] == -120


def test_noise_of_a_place_lasts_as_long_as_asked() -> None:
    assert len(listen_for(Played(quiet(30)), 10)) == 10 * RATE
    assert len(listen_for(Played(quiet(3)), 10)) == 3 * RATE


# --------------------------------------------------------------------------------------------------------------- files


def test_takes_get_the_next_number_and_overwrite_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "lights on"
    wave = sounds.say("tula")
    assert write_take(folder, wave, RATE).name == "01.flac"
    (folder / "07.wav").write_bytes(b"mine")
    (folder / "notes.txt").write_bytes(b"mine")
    assert write_take(folder, wave, 44_100, ".wav").name == "08.wav"
    assert (folder / "07.wav").read_bytes() == b"mine"
    assert {path.name for path in folder.iterdir()} == {"01.flac", "07.wav", "08.wav", "notes.txt"}
    samples, rate_hz = soundfile.read(folder / "01.flac")
    assert rate_hz == RATE
    assert np.abs(samples - wave).max() < 1 / 32768
    info = soundfile.info(folder / "08.wav")
    assert (info.samplerate, info.subtype) == (44_100, "PCM_16")


def test_a_disk_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr("os.link", link)
    assert [write_take(tmp_path, sounds.say("tula"), RATE).name for _ in range(2)] == ["01.flac", "02.flac"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("word", ["", " ", "a/b", "..", ".hidden", "_noise", "a\0b", "a\nb", "x" * 300])
def test_a_word_that_names_no_folder_is_refused(tmp_path: Path, word: str) -> None:
    with pytest.raises(InputError, match="cannot name a folder"):
        folder_of(tmp_path, word)


@pytest.mark.parametrize("word", ["lights on", "Свет", "开灯", "a.b"])
def test_words_of_all_scripts_name_folders(tmp_path: Path, word: str) -> None:
    assert folder_of(tmp_path, word) == tmp_path / word


# --------------------------------------------------------------------------------------------------------- sounddevice


class FakeStream:
    """Calls back at once with two blocks; refuses the rates in ``refused``."""

    refused: tuple[int, ...] = ()

    def __init__(self, *, samplerate: int, blocksize: int, callback: Any, **options: Any) -> None:
        assert (options["channels"], options["dtype"]) == (1, "float32")
        if samplerate in self.refused:
            raise RuntimeError("Invalid sample rate")
        self.callback, self.size, self.closed = callback, blocksize, False

    def start(self) -> None:
        self.send()

    def send(self) -> None:
        for level in (0.1, 0.2):
            self.callback(np.full((self.size, 1), level, np.float32), self.size, None, None)

    def close(self) -> None:
        self.closed = True


def rows(*names: str) -> list[dict[str, Any]]:
    found = [{"name": "Speakers", "max_input_channels": 0, "default_samplerate": 44100.0}]
    return found + [{"name": name, "max_input_channels": 1, "default_samplerate": 48000.0} for name in names]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    found = SimpleNamespace(
        query_devices=lambda: rows("USB microphone", "Webcam"),
        default=SimpleNamespace(device=(2, 0)),
        InputStream=type("Stream", (FakeStream,), {}),
        PortAudioError=RuntimeError,
    )
    monkeypatch.setitem(sys.modules, "sounddevice", found)
    return found


def test_microphones_are_listed_and_chosen(system: SimpleNamespace) -> None:
    assert [(one.number, one.name, one.is_default) for one in input_devices()] == [
        (1, "USB microphone", False),
        (2, "Webcam", True),
    ]
    assert Microphone().device.name == "Webcam"
    assert Microphone("1").device.name == Microphone("usb").device.name == "USB microphone"
    for wrong in ("7", "tape", "e"):
        with pytest.raises(InputError, match=r"choose one by its number: 1 USB microphone, 2 Webcam\."):
            Microphone(wrong)


def test_what_was_heard_before_is_dropped(system: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    with Microphone() as microphone:
        stream = microphone._stream
        blocks = microphone.blocks()

        plain = microphone._queue.get

        def late(block: bool = True, timeout: float | None = None) -> np.ndarray:
            if block:
                stream.callback(np.full((320, 1), 0.5, np.float32), 320, None, None)
            return plain(block, timeout)

        monkeypatch.setattr(microphone._queue, "get", late)
        assert next(blocks)[0] == 0.5  # and not what came when the stream was opened
    assert stream.closed


def test_a_device_that_does_not_do_16_khz_is_opened_at_its_own_rate(system: SimpleNamespace) -> None:
    assert Microphone().rate_hz == 16_000
    system.InputStream.refused = (16_000,)
    assert Microphone().rate_hz == 48_000
    system.InputStream.refused = (16_000, 48_000)
    with pytest.raises(InputError, match="Webcam does not open"):
        Microphone()


def test_no_microphone_no_package_and_no_library(system: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    system.query_devices = rows
    with pytest.raises(InputError, match="No microphone is there"):
        Microphone()
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(InputError, match=r'pip install "metavox\[mic\]"'):
        input_devices()
