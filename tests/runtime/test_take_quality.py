"""Checks of one recording: a good take gives no finding, each fault its own, in one sentence with value and remedy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds

from metavox.audio import read, trim_padding
from metavox.contracts import FrontEnd
from metavox.data.manifests import load_corpus
from metavox.features import log_mel, speech_bounds
from metavox.runtime.take_quality import Finding, clip_findings, take_findings

RATE = sounds.RATE_HZ


def kinds(wave: np.ndarray, rate_hz: int = RATE) -> set[str]:
    return {finding.kind for finding in take_findings(wave.astype(np.float32), rate_hz, "a.wav", "tula")}


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def spoken(wave: np.ndarray) -> np.ndarray:
    """Without what is before and after the word."""
    start, end = speech_bounds(log_mel(wave, FrontEnd()), FrontEnd())
    return wave[start * 160 : end * 160 + 240]


def two_words(pause_s: float) -> np.ndarray:
    pause, around = noise(pause_s, 1e-3), noise(0.2, 1e-3)
    return np.concatenate([around, spoken(sounds.say("tula")), pause, spoken(sounds.say("rime")), around])


def without_pause(seconds: float) -> np.ndarray:
    """One long sound in its own quiet."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 200 * time) * (1.2 + np.sin(2 * np.pi * 4 * time))
    return np.concatenate([noise(0.3, 1e-3), tone.astype(np.float32), noise(0.3, 1e-3)])


@pytest.mark.parametrize("word", sounds.WORDS)
def test_a_good_take_gives_no_finding(word: str) -> None:
    for speaker in sounds.SPEAKERS:
        wave = sounds.say(word, speaker)
        assert take_findings(wave, RATE, "a.wav", word) == []
        assert take_findings(wave / 20, RATE, "a.wav", word) == []  # a lower gain, and still loud enough


def in_noise(wave: np.ndarray, level: float) -> np.ndarray:
    """With half a second before and after it."""
    padded = np.pad(wave, RATE // 2)
    return padded + noise(len(padded) / RATE, level)[: len(padded)]


FAULTS: dict[str, tuple[Callable[[], np.ndarray], bool]] = {
    "unusable": (lambda: np.zeros(RATE, np.float32), True),
    "short": (lambda: in_noise(without_pause(0.06)[4800:-4800], 1e-3), True),
    "long": (lambda: without_pause(5.0), True),
    "clipped": (lambda: np.clip(3 * sounds.say("tula"), -0.9, 0.9), True),
    "quiet": (lambda: in_noise(sounds.say("tula") / 150, 6e-5), False),
    "no voice": (lambda: noise(1.5, 0.05), True),
    "noisy": (lambda: in_noise(sounds.say("golun"), 0.04), True),
    "cut": (lambda: sounds.say("tula")[len(sounds.say("tula")) // 2 :], True),
    "pause": (lambda: two_words(0.8), True),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_found_and_told_in_one_sentence(kind: str) -> None:
    make, severe = FAULTS[kind]
    found = {finding.kind: finding for finding in take_findings(make().astype(np.float32), RATE, "a.wav", "tula")}
    assert kind in found
    finding = found[kind]
    assert (finding.take, finding.word, finding.severe) == ("a.wav", "tula", severe)
    assert finding.sentence.startswith("a.wav ")
    assert finding.sentence.endswith(".")
    assert "\n" not in finding.sentence
    assert ";" in finding.sentence  # what to do
    assert ". " not in finding.sentence  # one sentence


def test_a_word_of_five_seconds_names_the_limit() -> None:
    (finding,) = [f for f in take_findings(without_pause(5.0), RATE, "a.wav", "tula") if f.kind == "long"]
    assert "5" in finding.sentence.split(" of speech")[0]
    assert "at most 2.5 s" in finding.sentence


@pytest.mark.parametrize("at", ["its start", "its end"])
def test_it_is_said_where_a_word_is_cut(at: str) -> None:
    wave = sounds.say("tula")
    half = wave[len(wave) // 2 :] if at == "its start" else wave[: len(wave) // 2]
    (finding,) = [f for f in take_findings(half, RATE, "a.wav", "tula") if f.kind == "cut"]
    assert f"cut off at {at}" in finding.sentence


def test_a_short_pause_belongs_to_a_word() -> None:
    assert "pause" not in kinds(two_words(0.25))
    assert "pause" in kinds(two_words(0.8))


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_the_rate_does_not_matter(rate_hz: int) -> None:
    wave = sounds.say("febe", rate_hz=rate_hz)
    assert kinds(wave, rate_hz) == set()
    assert kinds(wave[len(wave) // 2 :], rate_hz) == {"cut"}


def test_digital_silence_around_a_word_is_no_part_of_it() -> None:
    wave = sounds.say("tula")
    assert kinds(np.pad(wave, RATE)) == set()
    assert "cut" in kinds(np.pad(wave[len(wave) // 2 :], RATE))


# ------------------------------------------------------------------------------------------------------- several takes


def test_takes_of_one_kind_do_not_differ(tmp_path: Path) -> None:
    paths = [sounds.write(tmp_path / f"{i}.wav", sounds.say("tula", take=i)) for i in range(3)]
    assert clip_findings(paths, ["tula"] * 3) == []


def found_in(clips: list, n: int) -> dict[str, Finding]:
    return {finding.kind: finding for finding in clip_findings(clips, ["tula"] * n)}


def test_other_rates_channels_and_levels_are_said_and_not_severe(tmp_path: Path) -> None:
    wave = sounds.say("tula")
    plain = sounds.write(tmp_path / "a.wav", wave)
    faster = sounds.write(tmp_path / "b.wav", sounds.say("tula", rate_hz=44_100), 44_100)
    soundfile.write(tmp_path / "c.wav", np.stack([wave, wave], 1), RATE)
    quiet = sounds.write(tmp_path / "d.wav", wave / 15)
    found = found_in([plain, faster, tmp_path / "c.wav", quiet], 4)
    assert set(found) == {"rates", "channels", "levels"}
    assert "3 at 16000 Hz, 1 at 44100 Hz" in found["rates"].sentence
    assert "3 with 1, 1 with 2" in found["channels"].sentence
    assert not any(finding.severe or finding.take for finding in found.values())


def test_arrays_are_judged_too_and_what_cannot_be_read_is_left_to_others(tmp_path: Path) -> None:
    clips = [(sounds.say("tula"), RATE), (noise(1.0, 0.05), RATE), tmp_path / "gone.wav"]
    (finding,) = clip_findings(clips, ["tula"] * 3)
    assert (finding.kind, finding.take) == ("no voice", "Take 2")


# ------------------------------------------------------------------------------------------------------ real recordings


@pytest.mark.real
@pytest.mark.parametrize("corpus", ["lithuanian_commands", "spoken_words_zh_en", "mandarin_syllables"])
def test_clean_recordings_are_hardly_ever_blamed(data_root: Path, corpus: str) -> None:
    """Sets with quiet around the words. Of those that are cut to the word, most are called cut, which they are."""
    utterances = load_corpus(data_root / corpus)
    waves = [read(utterances[i].path) for i in np.random.default_rng(0).permutation(len(utterances))[:60]]
    assert sum(bool(kinds(wave)) for wave in waves) <= 4


@pytest.mark.real
def test_half_words_and_noise_are_found(data_root: Path) -> None:
    rng = np.random.default_rng(0)
    utterances = load_corpus(data_root / "lithuanian_commands")
    halves = []
    for i in rng.permutation(len(utterances))[:60]:
        wave = trim_padding(read(utterances[i].path))
        start, end = speech_bounds(log_mel(wave, FrontEnd()), FrontEnd())
        middle = round((start + rng.uniform(0.35, 0.65) * (end - start)) * 160)
        halves.append(wave[middle:] if rng.random() < 0.5 else wave[:middle])
    assert sum(bool(kinds(wave)) for wave in halves) >= 40
    places = [read(utterance.path)[:24_000] for utterance in load_corpus(data_root / "noise")[:40]]
    assert sum(bool(kinds(wave)) for wave in places) >= 36
