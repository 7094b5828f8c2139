"""Rate, effort and noise on signals where the answer is known."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sounds

from metavox.audio import read
from metavox.contracts import FrontEnd, Utterance
from metavox.data.bank import build_bank
from metavox.data.manifests import load_corpus
from metavox.data.measures import (
    NOISES,
    RATES,
    _power,
    alpha_ratio_db,
    measured,
    snr_db,
    speaking_rate,
    thirds,
)
from metavox.features import log_mel, speech_bounds

FRONT_END = FrontEnd()
RATE_HZ = FRONT_END.rate_hz


def white(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise of power 1 in all."""
    return np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ))


def band(wave: np.ndarray, low_hz: float, high_hz: float, gain_db: float) -> np.ndarray:
    """A wave with one band louder."""
    spectrum = np.fft.rfft(wave)
    hz = np.fft.rfftfreq(len(wave), 1 / RATE_HZ)
    spectrum[(hz >= low_hz) & (hz < high_hz)] *= 10 ** (gain_db / 20)
    return np.fft.irfft(spectrum, len(wave))


def mel(wave: np.ndarray) -> np.ndarray:
    return log_mel((0.01 * wave).astype(np.float32), FRONT_END)


# -------------------------------------------------------------------------------------------------------------- power


@pytest.mark.parametrize("hz", [150.0, 1000.0, 4000.0])
def test_a_tone_has_the_same_power_everywhere_and_stands_in_the_bin_of_its_centre(hz: float) -> None:
    """The pre-emphasis is taken off: it would make 4 kHz 20 dB louder than 150 Hz."""
    _, centres = _power(mel(white(0.1)), FRONT_END)
    centre = float(centres[np.abs(centres - hz).argmin()])
    power, _ = _power(mel(np.sin(2 * np.pi * centre * np.arange(8000) / RATE_HZ)), FRONT_END)
    assert centres[power.mean(0).argmax()] == pytest.approx(centre)
    expected, _ = _power(mel(np.sin(2 * np.pi * 1000 * np.arange(8000) / RATE_HZ)), FRONT_END)
    assert 10 * np.log10(power.sum(1).mean() / expected.sum(1).mean()) == pytest.approx(0, abs=1.0)


# ------------------------------------------------------------------------------------------------------------- effort


def test_the_alpha_ratio_of_white_noise_is_that_of_the_band_widths() -> None:
    expected = 10 * np.log10((5000 - 1000) / (1000 - 50))
    assert alpha_ratio_db(mel(white(4)), FRONT_END) == pytest.approx(expected, abs=0.8)


@pytest.mark.parametrize("gain_db", [-12.0, 6.0, 12.0])
def test_the_alpha_ratio_follows_the_upper_band_and_not_the_gain(gain_db: float) -> None:
    flat = alpha_ratio_db(mel(white(2)), FRONT_END)
    assert alpha_ratio_db(mel(band(white(2), 1000, 5000, gain_db)), FRONT_END) - flat == pytest.approx(gain_db, abs=1.5)
    assert alpha_ratio_db(mel(30 * white(2)), FRONT_END) == pytest.approx(flat, abs=0.01)
    assert alpha_ratio_db(mel(band(white(2), 6000, 8000, gain_db)), FRONT_END) == pytest.approx(flat, abs=0.3)


def test_a_voice_with_a_flatter_spectrum_is_the_louder_one() -> None:
    """Harmonics of 120 Hz that fall by 18, 12 and 6 dB an octave: a soft, a usual and a raised voice."""
    t = np.arange(RATE_HZ) / RATE_HZ
    found = []
    for tilt_db in (18, 12, 6):
        voice = sum(n ** (-tilt_db / 6.02) * np.sin(2 * np.pi * 120 * n * t + n * n) for n in range(1, 60))
        found.append(alpha_ratio_db(mel(np.asarray(voice)), FRONT_END))
    assert found == sorted(found)
    assert found[2] - found[0] > 10


def test_no_band_no_ratio() -> None:
    low = FrontEnd(high_hz=900, n_mels=10)
    assert np.isnan(alpha_ratio_db(log_mel(white(0.2).astype(np.float32), low), low))
    assert np.isnan(alpha_ratio_db(np.zeros((0, 40), np.float32), FRONT_END))


# -------------------------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("snr", [0.0, 5.0, 15.0, 25.0, 40.0])
@pytest.mark.parametrize("gain", [1.0, 0.05])
def test_the_noise_that_was_added_is_found(snr: float, gain: float) -> None:
    background = white(2, seed=1) * 10 ** (-snr / 20)
    speech = np.zeros_like(background)
    speech[RATE_HZ // 2 : 3 * RATE_HZ // 2] = white(1, seed=2)
    found = snr_db(mel(gain * (speech + background)), (50, 148), FRONT_END)
    assert found == pytest.approx(snr, abs=1.5)


def test_hum_is_no_noise_and_pauses_are_no_speech() -> None:
    background = white(2, seed=1) * 10 ** (-20 / 20)
    speech = np.zeros_like(background)
    for start in (0.3, 0.9, 1.5):
        speech[round(start * RATE_HZ) : round((start + 0.2) * RATE_HZ)] = white(0.2, seed=2)
    hum = 0.4 * np.sin(2 * np.pi * 50 * np.arange(len(speech)) / RATE_HZ)
    found = [snr_db(mel(wave), (28, 170), FRONT_END) for wave in (speech + background, speech + background + hum)]
    assert found[0] == pytest.approx(20, abs=2)
    assert found[1] == pytest.approx(found[0], abs=4)  # without the limit at 100 Hz it would be 10


def test_nothing_but_noise_and_nothing_at_all() -> None:
    assert snr_db(mel(white(1)), (0, 98), FRONT_END) < 3
    assert np.isnan(snr_db(np.zeros((4, 40), np.float32), (2, 2), FRONT_END))


@pytest.mark.real
def test_noise_in_real_words_is_found(data_root: Path) -> None:
    """Clean words with stationary noise at 15 dB of their active level: most are told as 10 to 20 dB."""
    found = []
    for i, utterance in enumerate(load_corpus(data_root / "spoken_words_zh_en")[:400:20]):
        wave = read(utterance.path, RATE_HZ)
        start, end = speech_bounds(log_mel(wave, FRONT_END), FRONT_END)
        power = np.square(wave[160 * start : 160 * end].astype(np.float64))
        level = power[power >= 10**-1.59 * power.mean()].mean()
        noisy = np.pad(wave, RATE_HZ // 4) + white(10, i)[: len(wave) + RATE_HZ // 2] * (level / 10**1.5) ** 0.5
        values = log_mel(noisy.astype(np.float32), FRONT_END)
        found.append(snr_db(values, (start + 25, end + 25), FRONT_END))
    assert 10 < float(np.median(found)) < 20
    assert np.percentile(found, 90) - np.percentile(found, 10) < 8


# --------------------------------------------------------------------------------------------------------------- rate


def test_letters_are_counted_in_any_script_and_written_either_way() -> None:
    def rate(text: str, label: str | None = None, speech_s: float = 2.0) -> float:
        return speaking_rate(Utterance("u", Path("x.wav"), 9.0, text=text, label=label), speech_s)

    assert rate("Turn it on, now!") == 5.5
    assert rate("caf\u00e9") == rate("cafe\u0301") == 2.0
    assert rate("\u0939\u093f\u0902\u0926\u0940") == 2.5  # vowel signs are not left out
    assert rate("", "seven") == 2.5
    assert rate("no", "seven") == 1.0  # what was said comes before what it is called
    assert np.isnan(rate("... ?"))
    assert np.isnan(rate("word", speech_s=0.0))


@pytest.mark.parametrize("n", [3, 7, 30, 100])
def test_thirds_are_thirds_of_their_own_group(n: int) -> None:
    rng = np.random.default_rng(n)
    values = np.concatenate([rng.permutation(n) + 0.0, 1000 + rng.permutation(n), [np.nan, 5.0, 6.0]])
    groups = ["a"] * n + ["b"] * n + ["a", "few", "few"]
    found = thirds(values, groups, RATES)
    for i in (0, n):
        counts = Counter(found[i : i + n])
        assert set(counts) == set(RATES)
        assert max(counts.values()) - min(counts.values()) <= 1
        order = [found[k] for k in i + np.argsort(values[i : i + n])]
        assert order == sorted(order, key=lambda name: RATES.index(str(name)))
    assert found[-3:] == [None, None, None]  # not a number, and two values that have no thirds
    assert thirds(np.ones(9), ["a"] * 9, RATES) == [None] * 9


# ----------------------------------------------------------------------------------------------------------- together


def test_a_bank_is_measured_along_the_axes_asked_for(tmp_path: Path) -> None:
    root = sounds.manifest_corpus(tmp_path / "words", sounds.WORDS[:4], sounds.SPEAKERS[:2], 3)
    for path in sorted((root / "clips").glob("*-bela-*")):  # bela speaks against noise
        wave = read(path, RATE_HZ)
        sounds.write(path, np.pad(wave, 4000) + 0.06 * white(9)[: len(wave) + 8000].astype(np.float32))
    bank = build_bank(load_corpus(root), FRONT_END, cache=tmp_path / "cache")
    assert measured(bank, ["word", "language"]) == {}
    steps: list[tuple[int, int]] = []
    found = measured(bank, ["noise", "word", "rate", "effort"], lambda done, total: steps.append((done, total)))
    assert set(found) == {"rate", "effort", "noise"}
    assert steps[-1] == (24, 24)
    assert all(len(values) == 24 for values in found.values())
    noise = {
        who: {found["noise"][i] for i, u in enumerate(bank.utterances) if u.speaker == who} for who in ("anna", "bela")
    }
    assert max(NOISES.index(str(name)) for name in noise["bela"]) < min(NOISES.index(str(n)) for n in noise["anna"])
    assert set(found["rate"]) == set(RATES)
