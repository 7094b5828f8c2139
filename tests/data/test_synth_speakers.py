"""Synthetic speakers: who is unlike whom, and what another vocal tract does to a sound."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from metavox.data.synth import SynthSpec
from metavox.data.synth_process import Voice
from metavox.data.synth_speakers import HIGH_VARIANTS, LOW_VARIANTS, TRACTS, Speaker, resize_tract, speakers, takes


@pytest.fixture(scope="module")
def voice():
    pytest.importorskip("espeakng_loader")
    with Voice() as voice:
        yield voice


def test_speakers_are_unlike_and_depend_on_their_language_only():
    few, many = SynthSpec(n_voices=4, seed=5), SynthSpec(languages=("tr", "de"), n_voices=90, seed=5)
    german = speakers(few, "de")
    assert german == speakers(many, "de")[:4]
    assert [speaker.voice.split("+")[1] in HIGH_VARIANTS for speaker in german] == [False, True, False, True]
    assert len({speaker.voice for speaker in german}) == 4
    assert german != speakers(few.model_copy(update={"seed": 6}), "de")
    everyone = [speaker for code in many.languages for speaker in speakers(many, code)]
    assert len({speaker.id for speaker in everyone}) == 180
    assert all(120 <= speaker.rate_wpm <= 210 and 35 <= speaker.pitch <= 65 for speaker in everyone)


@pytest.mark.synth
def test_every_variant_exists_and_changes_the_sound(voice):
    heard = set()
    for variant in LOW_VARIANTS + HIGH_VARIANTS:
        take = {"voice": f"es+{variant}", "text": "mañana", "rate_wpm": 160, "pitch": 50, "pitch_range": 50}
        heard.add(voice.ask({"do": "speak", "take": take}, "speaking")["pcm"])
    assert len(heard) == len(LOW_VARIANTS + HIGH_VARIANTS)


def test_no_two_of_a_hundred_speakers_have_voice_and_tract_in_common():
    everyone = speakers(SynthSpec(n_voices=110), "de")
    assert len({(speaker.voice, speaker.tract) for speaker in everyone}) == 110
    assert all(speaker.tract == 1 for speaker in everyone[: 2 * len(HIGH_VARIANTS)])
    assert {speaker.tract for speaker in everyone} == set(TRACTS)


def test_the_rate_makes_up_for_the_tract():
    spec = SynthSpec(n_words=1)
    short, long = (
        takes(spec, Speaker("synth-de-00", "de+m1", 160.0, 50.0, 50.0, tract), ["ja"], Path("x"))[0]
        for tract in (1.0, 1.1)
    )
    assert long["rate_wpm"] == pytest.approx(1.1 * short["rate_wpm"], abs=1)
    assert {key: value for key, value in long.items() if key != "rate_wpm"} == {
        key: value for key, value in short.items() if key != "rate_wpm"
    }


@pytest.mark.parametrize("tract", [0.9, 1.1])
def test_another_tract_divides_every_frequency(tract, tmp_path):
    path = tmp_path / "tone.wav"
    time_s = np.arange(16_000) / 16_000
    tones = [500, 1500, 2500]  # resonances of a tube of 17 cm
    soundfile.write(path, sum(0.2 * np.sin(2 * np.pi * hz * time_s) for hz in tones), 16_000)
    n_samples = resize_tract(path, tract)
    sound, rate_hz = soundfile.read(path)
    assert rate_hz == 16_000
    assert len(sound) == n_samples == pytest.approx(16_000 * tract, abs=2)
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    for hz in tones:
        band = slice(int((hz / tract - 100) * len(sound) / 16_000), int((hz / tract + 100) * len(sound) / 16_000))
        peak_hz = (band.start + power[band].argmax()) * 16_000 / len(sound)
        assert peak_hz == pytest.approx(hz / tract, abs=2)
    assert soundfile.info(path).subtype == "PCM_16"
