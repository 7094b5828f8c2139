"""Bands, rates, codecs, clipping: what passes and what does not, measured on tones and against G.711."""

import numpy as np
import pytest
import sounds

from metavox.augment.channel import CODECS, clip_peaks, limit_band, narrow, through_codec
from metavox.contracts import InputError

HZ = 16_000


def tone(hz: float, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * HZ)) / HZ)).astype(np.float32)


def gain_db(before: np.ndarray, after: np.ndarray) -> float:
    inner = slice(2000, -2000)
    return float(10 * np.log10(np.square(after[inner]).mean() / np.square(before[inner]).mean()))


def test_a_band_keeps_what_lies_in_it_in_its_place_and_nothing_else() -> None:
    inside = tone(1000)
    np.testing.assert_allclose(limit_band(inside, HZ, 300.0, 3400.0)[2000:-2000], inside[2000:-2000], atol=1e-3)
    mixed = inside + tone(100) + tone(6000)
    np.testing.assert_allclose(limit_band(mixed, HZ, 300.0, 3400.0)[2000:-2000], inside[2000:-2000], atol=3e-3)
    np.testing.assert_allclose(limit_band(mixed, HZ, None, None), mixed, atol=1e-6)
    assert gain_db(tone(100) + inside, limit_band(tone(100) + inside, HZ, None, 500.0)) == pytest.approx(-3, abs=0.1)


@pytest.mark.parametrize(
    "band", [(300.0, 300.0), (3000.0, 300.0), (-1.0, 300.0), (100.0, 9000.0), (float("nan"), 300.0)]
)
def test_a_band_that_does_not_fit_is_refused(band: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="does not fit a rate of 16000 Hz; give two limits that rise, at most 8000 Hz"):
        limit_band(tone(1000), HZ, *band)


def test_a_band_without_energy_is_refused() -> None:
    quiet = 1e-3 * tone(200) * np.hanning(8000).astype(np.float32)
    with pytest.raises(InputError, match="leaves 0 ms of sound and 25 ms are needed; choose a wider band"):
        limit_band(quiet, HZ, 4000.0, 7000.0)


def test_8_khz_and_back_ends_at_4_khz() -> None:
    wave = tone(1000) + tone(6000)
    np.testing.assert_allclose(narrow(wave, HZ)[2000:-2000], tone(1000)[2000:-2000], atol=2e-3)
    assert narrow(wave, 8000) is wave
    with pytest.raises(InputError, match="A rate of 8000 Hz leaves"):
        narrow(1e-3 * tone(6000) * np.hanning(8000).astype(np.float32), HZ)


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_the_laws_are_those_of_g711(law: str) -> None:
    """Against the continuous law: in its domain every value moves by at most a step of 8 bits."""
    x = np.linspace(-0.97, 0.97, 4001).astype(np.float32)
    y = through_codec(x, HZ, law)

    def compressed(v: np.ndarray) -> np.ndarray:
        v = v.astype(np.float64)
        if law == "mulaw":
            return np.sign(v) * np.log1p(255 * np.abs(v)) / np.log(256)
        low = 87.6 * np.abs(v) / (1 + np.log(87.6))
        high = (1 + np.log(np.maximum(87.6 * np.abs(v), 1))) / (1 + np.log(87.6))
        return np.sign(v) * np.where(np.abs(v) < 1 / 87.6, low, high)

    assert np.abs(compressed(y) - compressed(x)).max() < 2.2 / 256
    assert 200 < len(np.unique(y)) <= 256


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_loses_something_and_keeps_the_word_where_it_is(codec: str) -> None:
    wave = sounds.say("golun")
    coded = through_codec(wave, HZ, codec)
    assert coded.shape == wave.shape
    assert coded.dtype == np.float32
    assert np.abs(coded - wave).max() > 1e-4
    n = 400
    lags = [float(wave[n:-n] @ coded[n + lag : len(coded) - n + lag]) for lag in range(-n, n)]
    assert abs(int(np.argmax(lags)) - n) <= 2
    assert max(lags) > 0.8 * float(wave[n:-n] @ wave[n:-n])
    np.testing.assert_array_equal(through_codec(wave, HZ, codec), coded)


def test_a_codec_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(InputError, match=r"give one of mulaw, alaw, vorbis, opus, mp3"):
        through_codec(tone(500), HZ, "gsm")
    with pytest.raises(InputError, match=r"Codec opus cannot be used at 11025 Hz here \(.*leave it out of augment"):
        through_codec(tone(500), 11_025, "opus")


def test_clipping_cuts_the_share_that_was_asked_for() -> None:
    wave = sounds.say("hale")
    cut = clip_peaks(wave, 0.1)
    at_limit = np.abs(cut) >= np.abs(cut).max() * (1 - 1e-6)
    assert at_limit.mean() == pytest.approx(0.1, abs=0.002)
    np.testing.assert_array_equal(cut[~at_limit], wave[~at_limit])
    np.testing.assert_array_equal(clip_peaks(wave, 0.0), wave)
    with pytest.raises(InputError, match=r"give 0 to 0\.5"):
        clip_peaks(wave, 0.6)
