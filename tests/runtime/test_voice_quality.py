"""Clips that nothing should be learned from, by the sentence that they are refused with."""

import io
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from refusals import said
from voicing import RATE_HZ, say, voice_model

from metavox.audio import read
from metavox.data.manifests import load_corpus
from metavox.runtime.voice_quality import (
    copies,
    odds_of_two,
    require_new,
    require_no_copy,
    require_one_voice,
    usable,
)
from metavox.voices.speech import spoken

ROOM = 1e-4 * np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)


def coded(wave: np.ndarray, container: str, subtype: str | None = None, rate_hz: int = RATE_HZ) -> np.ndarray:
    """There and back through a codec, at another rate."""
    file = io.BytesIO()
    soundfile.write(file, wave if rate_hz == RATE_HZ else soxr.resample(wave, RATE_HZ, rate_hz), rate_hz,
                    format=container, subtype=subtype)  # fmt: skip
    file.seek(0)
    found, at_hz = soundfile.read(file, dtype="float32")
    return found if at_hz == RATE_HZ else soxr.resample(found, at_hz, RATE_HZ)


def copied(wave: np.ndarray) -> dict[str, np.ndarray]:
    """What one recording becomes."""
    n = len(wave)
    return {
        "the same": wave,
        "softer": 0.1 * wave,
        "inverted": -wave,
        "later by 5 ms": np.concatenate([ROOM[:80], wave]),
        "later by 0.3 s": np.concatenate([ROOM[:4800], wave]),
        "cut at both ends": wave[n // 10 + 35 : -n // 10],
        "telephone": coded(wave, "WAV", "ULAW", 8_000),
        "MP3": coded(wave, "MP3"),
        "Vorbis": coded(wave, "OGG", "VORBIS"),
        "Opus": coded(wave, "OGG", "OPUS"),
        "in noise": wave + wave.std() / 31 * np.random.default_rng(1).standard_normal(n).astype(np.float32),
    }


# ------------------------------------------------------------------------------------------------------------- speech


def test_too_little_speech_is_refused_with_what_was_found_and_is_needed() -> None:
    for wave in (say(0, 0, 0.3), np.concatenate([ROOM, say(0, 0, 0.3), ROOM])):
        sentence = said(lambda wave=wave: usable([(wave, RATE_HZ)], RATE_HZ))
        assert "0.5 s are needed" in sentence
        assert 0.25 < float(sentence.split("holds ")[1].split(" s")[0]) < 0.5
    assert len(usable([(np.concatenate([ROOM, say(0, 0, 0.8), ROOM]), RATE_HZ)], RATE_HZ)) == 1
    assert len(usable([(say(0, 0, 0.3), RATE_HZ)], RATE_HZ, least_s=0.2)) == 1


def test_silence_and_what_is_no_clip_are_refused() -> None:
    assert "is silent" in said(lambda: usable([(np.zeros(RATE_HZ, np.float32), RATE_HZ)], RATE_HZ))
    assert "is silent" in said(lambda: usable([(ROOM, RATE_HZ)], RATE_HZ))
    assert "does not exist" in said(lambda: usable(["gone.wav"], RATE_HZ))
    assert "at most 600 s" in said(lambda: usable([(np.ones(601 * 8_000, np.float32), 8_000)], 8_000))
    both = said(lambda: usable([(say(0), RATE_HZ), (ROOM, RATE_HZ), "gone.wav"], RATE_HZ))
    assert "2 of 3 takes" in both
    assert "Clip 2" in both


def test_a_clipped_clip_is_refused_where_it_is_enrolled_only() -> None:
    wave = np.clip(30 * say(0), -1, 1)
    assert "clipped" in said(lambda: usable([(wave, RATE_HZ)], RATE_HZ))
    assert len(usable([(wave, RATE_HZ)], RATE_HZ, clipping=False)) == 1


# ------------------------------------------------------------------------------------------------------------- copies


def test_copies_of_one_recording_are_found_and_two_sayings_are_not() -> None:
    takes = [say(person, take, 1.5) for person in (0, 1) for take in (0, 1)]
    assert copies(takes, RATE_HZ) == []
    for name, copy in copied(takes[0]).items():
        assert copies([*takes, copy], RATE_HZ) == [(0, 4)], name


def test_a_copy_is_found_at_the_rate_of_the_encoder() -> None:
    waves = [soxr.resample(wave, RATE_HZ, 8_000) for wave in (say(0), say(0, 1), say(0))]
    assert copies(waves, 8_000) == [(0, 2)]


def test_silence_is_no_copy_of_anything() -> None:
    assert copies([np.zeros(0, np.float32), np.zeros(9_000, np.float32), say(0)], RATE_HZ) == []


@pytest.mark.real
def test_real_copies_are_found_and_real_takes_of_a_word_are_not(data_root: Path) -> None:
    found: dict[str, list[bool]] = defaultdict(list)
    mistaken = 0
    for corpus in ("malayalam_msc", "bengali_digits", "speech_commands_mini"):
        by_speaker = defaultdict(list)
        for utterance in load_corpus(data_root / corpus):
            by_speaker[utterance.speaker].append(utterance)
        for speaker in sorted(by_speaker)[:6]:
            waves = [read(utterance.path) for utterance in by_speaker[speaker][:12]]
            waves = [wave for wave in waves if spoken(wave).speech_s > 0.5][:5]
            mistaken += len(copies(waves, RATE_HZ))
            for name, copy in copied(waves[0]).items() if waves else ():
                found[name].append(bool(copies([waves[0], copy], RATE_HZ)))
    assert mistaken == 0
    shares = {name: np.mean(hits) for name, hits in found.items()}
    assert min(shares.values()) > 0.7, shares
    assert np.mean(list(shares.values())) > 0.93, shares


def test_a_copy_and_what_was_enrolled_before_are_refused_by_name() -> None:
    model = voice_model()
    clips = usable([(say(0), RATE_HZ), (say(0, 1), RATE_HZ), (0.5 * say(0), RATE_HZ)], RATE_HZ)
    assert "Clip 1 and Clip 3 are one recording" in said(lambda: require_no_copy(clips, RATE_HZ))
    heard = model.hear([clip.wave for clip in clips])
    known = {"bela": model.hear([say(1)]), "anna": model.hear([say(0, 2), say(0)])}
    assert "Clip 1 is enrolled already, as a clip of anna" in said(lambda: require_new(clips, heard, known))
    require_new(clips[:2], heard.at([0, 1]), {"anna": model.hear([say(0, k) for k in (2, 3, 4)])})


# ------------------------------------------------------------------------------------------------------------ persons


def test_two_people_in_a_clip_are_heard_and_one_is_not() -> None:
    model = voice_model()

    def odds(*parts: np.ndarray) -> float:
        return odds_of_two(model, spoken(np.concatenate(parts), RATE_HZ))

    for first, second in ((0, 1), (1, 0)):
        assert odds(say(first, 0, 2.0), say(second, 0, 2.0)) > 0, (first, second)
        assert odds(say(first, 0, 2.0), ROOM, say(second, 0, 2.0)) > 0, (first, second)
    alone = []
    for person in range(8):
        before, after = np.split(say(person, 0, 4.0), 2)
        alone += [odds(before, ROOM[:6000], after) > 0, odds(before, after) > 0]
    assert sum(alone) <= 2  # of 16
    assert odds(say(0, 0, 1.0)) == -math.inf  # too short to say


def test_a_long_clip_is_heard_in_little_time() -> None:
    model = voice_model()
    speech = spoken(np.concatenate([say(0, take, 10.0) for take in range(6)]), RATE_HZ)
    heard_s = []
    embed = model.encoder.embed

    class Counting:
        dim, rate_hz, hash, name = model.encoder.dim, RATE_HZ, model.encoder.hash, "counting"

        def embed(self, waves: list[np.ndarray]) -> np.ndarray:
            heard_s.extend(len(wave) / RATE_HZ for wave in waves)
            return embed(waves)

    from dataclasses import replace

    odds_of_two(replace(model, encoder=Counting()), speech)
    assert sum(heard_s) < 100


def test_the_clip_of_somebody_else_is_named() -> None:
    model = voice_model()
    waves = [say(0, 0), say(1, 0), say(0, 1), say(0, 2)]
    clips = usable([(wave, RATE_HZ) for wave in waves], RATE_HZ)
    heard = model.hear(waves)
    assert said(lambda: require_one_voice(model, clips, heard, None, "anna")).startswith("Clip 2 seems")
    pair = said(lambda: require_one_voice(model, clips[:2], heard.at([0, 1]), None, "anna"))
    assert "Clip 1 and Clip 2 seem to be two persons" in pair
    later = said(lambda: require_one_voice(model, clips[1:2], heard.at([1]), heard.at([0, 2]), "anna"))
    assert "than the clips enrolled before of anna" in later
    require_one_voice(model, [clips[0], *clips[2:]], heard.at([0, 2, 3]), None, "anna")
    require_one_voice(model, clips[:1], heard.at([0]), None, "anna")
