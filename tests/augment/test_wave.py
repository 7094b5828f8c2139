"""Speed, level, place and noise: closed forms, the SNR that was asked for, and what is refused."""

import numpy as np
import pytest
import sounds

from metavox.augment.wave import (
    COLOURS,
    babble,
    coloured_noise,
    gain,
    limit_peak,
    mix,
    shift,
    speech_span,
    speed,
)
from metavox.contracts import InputError

HZ = 16_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tone(hz: float, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * HZ)) / HZ)).astype(np.float32)


def loudest_hz(wave: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 18))
    return float(spectrum.argmax() * HZ / (1 << 18))


@pytest.mark.parametrize("factor", [0.5, 0.8, 0.93, 1.1, 2.0])
def test_speed_divides_the_duration_and_multiplies_every_frequency(factor: float) -> None:
    fast = speed(tone(700), HZ, factor)
    assert len(fast) == pytest.approx(8000 / factor, abs=1)
    assert loudest_hz(fast) == pytest.approx(700 * factor, rel=2e-3)
    assert fast.dtype == np.float32


def test_the_same_speed_is_the_same_clip() -> None:
    wave = sounds.say("tula")
    assert speed(wave, HZ, 1.0) is wave


@pytest.mark.parametrize("factor", [0.0, 0.4, 2.1, -1.0, float("nan")])
def test_a_speed_out_of_range_is_refused(factor: float) -> None:
    with pytest.raises(InputError, match=r"give a factor from 0\.5 to 2"):
        speed(tone(500), HZ, factor)


def test_a_speed_that_leaves_less_than_a_window_is_refused() -> None:
    with pytest.raises(InputError, match=r"leaves \d+ ms of sound and 25 ms are needed; play the clip slower"):
        speed(tone(500, 0.03), HZ, 2.0)


def test_gain_is_in_decibels_and_a_peak_is_limited_as_a_whole() -> None:
    wave = sounds.say("tula")
    np.testing.assert_allclose(gain(wave, 20.0), 10 * wave, rtol=1e-6)
    np.testing.assert_allclose(gain(gain(wave, -6.0), 6.0), wave, rtol=1e-5)
    loud = limit_peak(gain(wave, 20.0))
    assert np.abs(loud).max() == pytest.approx(0.99)
    np.testing.assert_allclose(loud / np.abs(loud).max(), wave / np.abs(wave).max(), atol=1e-6)
    assert limit_peak(wave) is wave
    with pytest.raises(InputError, match="give -80 to 80 dB"):
        gain(wave, float("nan"))


def test_a_shift_fills_with_zeros_or_wraps() -> None:
    wave = sounds.say("rime")
    later, earlier = shift(wave, HZ, 0.05), shift(wave, HZ, -0.05)
    np.testing.assert_array_equal(later[800:], wave[:-800])
    np.testing.assert_array_equal(earlier[:-800], wave[800:])
    assert not later[:800].any()
    assert not earlier[-800:].any()
    np.testing.assert_array_equal(shift(wave, HZ, 0.05, wrap=True), np.roll(wave, 800))
    np.testing.assert_array_equal(shift(wave, HZ, 0.0), wave)


@pytest.mark.parametrize("by_s", [0.5, -0.5, 7.0, 0.49])
def test_a_shift_that_empties_the_clip_is_refused(by_s: float) -> None:
    with pytest.raises(InputError, match=r"of a clip of 0\.5 s leaves \d+ ms of sound and 25 ms are needed; shift it"):
        shift(tone(400), HZ, by_s)


@pytest.mark.parametrize("colour", COLOURS)
def test_noise_falls_by_3_db_an_octave_for_each_step_of_colour(colour: str) -> None:
    noise = coloured_noise(1 << 18, colour, rng(1))
    assert np.square(noise, dtype=np.float64).mean() == pytest.approx(1, rel=1e-5)
    power = np.abs(np.fft.rfft(noise.astype(np.float64))) ** 2
    n = len(power)
    octaves = [10 * np.log10(power[n >> (i + 1) : n >> i].mean()) for i in range(5)]
    np.testing.assert_allclose(np.diff(octaves), 10 * np.log10(2) * COLOURS[colour], atol=0.3)


def test_another_colour_is_refused() -> None:
    with pytest.raises(InputError, match="give one of white, pink, brown"):
        coloured_noise(100, "blue", rng())


def test_babble_is_as_many_voices_of_equal_power() -> None:
    low, high = tone(300, 0.3), 0.01 * tone(2000, 0.7)
    both = babble([low, high], 2 * HZ, rng(2), n_voices=2)
    assert both.shape == (2 * HZ,)
    assert np.square(both).mean() == pytest.approx(1, rel=1e-3)
    power = np.abs(np.fft.rfft(both)) ** 2
    hz = np.fft.rfftfreq(2 * HZ, 1 / HZ)
    assert power[hz < 1000].sum() == pytest.approx(power[hz > 1000].sum(), rel=0.05)
    one = babble([tone(300), tone(2000)], 40_000, rng(3), n_voices=1)  # one voice says one clip after the other
    assert len(one) == 40_000
    with pytest.raises(InputError, match="None of 1 clips"):
        babble([np.zeros(100, np.float32)], 100, rng())


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.3, 30.0])
@pytest.mark.parametrize("kind", ["white", "brown", "recorded"])
def test_the_snr_over_the_speech_is_the_one_asked_for(snr_db: float, kind: str) -> None:
    """Long silence around the word must not count: over the whole clip the ratio would be some 7 dB lower."""
    wave = np.pad(sounds.say("tula"), 12_000)
    noise = np.tile(sounds.say("zetta", "dora"), 6) if kind == "recorded" else coloured_noise(60_000, kind, rng(4))
    noisy = mix(wave, HZ, noise, HZ, snr_db, rng(5))
    added = noisy.astype(np.float64) - wave
    start, end = speech_span(wave, HZ)
    ratio = np.square(wave[start:end], dtype=np.float64).sum() / np.square(added[start:end]).sum()
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.1)
    assert 8_000 < start < end < len(wave) - 8_000
    whole = 10 * np.log10(np.square(wave, dtype=np.float64).mean() / np.square(added).mean())
    assert whole < snr_db - 2


@pytest.mark.real
def test_the_snr_holds_on_recordings(data_root) -> None:  # type: ignore[no-untyped-def]
    from metavox.audio import read
    from metavox.data.manifests import load_corpus

    noise = read(data_root / "noise" / "audio" / "household" / "bg_noise2.flac")
    for utterance in load_corpus(data_root / "speech_commands_mini")[::40]:
        wave = read(utterance.path)
        start, end = span = speech_span(wave, HZ)
        added = mix(wave, HZ, noise, HZ, 5.0, rng(6), span).astype(np.float64) - wave
        ratio = np.square(wave[start:end], dtype=np.float64).mean() / np.square(added[start:end]).mean()
        assert 10 * np.log10(ratio) == pytest.approx(5.0, abs=0.1)


def test_noise_begins_at_a_random_place_and_the_generator_decides_which() -> None:
    wave, noise = sounds.say("tula"), coloured_noise(60_000, "pink", rng(1))
    once = mix(wave, HZ, noise, HZ, 5.0, rng(7))
    np.testing.assert_array_equal(mix(wave, HZ, noise, HZ, 5.0, rng(7)), once)
    assert not np.array_equal(mix(wave, HZ, noise, HZ, 5.0, rng(8)), once)


def test_noise_that_cannot_be_used_is_refused_with_the_remedy() -> None:
    wave = sounds.say("tula")
    n = len(wave)
    good = coloured_noise(2 * n, "white", rng())
    for noise, noise_hz, snr_db, said in (
        (good[: n - 1], HZ, 5.0, "and the clip .* s; give a longer recording of noise"),
        (good, 8000, 5.0, "The noise has a rate of 8000 Hz and the clip 16000 Hz; resample one"),
        (np.zeros(2 * n, np.float32), HZ, 5.0, "The noise is silent over the speech"),
        (good, HZ, 90.0, r"An SNR of 90 dB is out of range; give -20 to 80 dB"),
        (good, HZ, float("nan"), "An SNR of nan dB is out of range"),
    ):
        with pytest.raises(InputError, match=said):
            mix(wave, HZ, noise, noise_hz, snr_db, rng())
    with pytest.raises(InputError, match="The clip is silent"):
        mix(np.zeros(n, np.float32), HZ, good, HZ, 5.0, rng())
    assert mix(wave, HZ, good[:n], HZ, 5.0, rng()).shape == wave.shape  # as long as the clip is long enough
