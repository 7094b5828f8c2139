"""Speech is kept and pauses are not, at any level and rate; silence comes back as it is."""

import numpy as np
import pytest

from metavox.voices.speech import MAX_SNR_DB, spoken
from tests.voicing import say

RATE_HZ = 16_000


def with_pauses(noise: float = 0.001) -> np.ndarray:
    rng = np.random.default_rng(0)
    quiet = noise * rng.standard_normal(RATE_HZ).astype(np.float32)
    return np.concatenate([quiet, say(1), quiet, say(1, 1), quiet])


@pytest.mark.parametrize("level", [1.0, 0.05])
def test_pauses_are_left_out_at_any_level(level: float) -> None:
    found = spoken(level * with_pauses())
    assert 3.5 < found.speech_s < 4.5
    assert len(found.wave) == round(found.speech_s * RATE_HZ)


def test_digital_padding_is_no_pause_to_measure_noise_in() -> None:
    clip = say(2)
    padded = np.concatenate([np.zeros(9_000, np.float32), clip, np.zeros(20_000, np.float32)])
    assert spoken(padded).speech_s == spoken(clip).speech_s
    assert spoken(padded).snr_db == spoken(clip).snr_db


def test_noise_lowers_the_snr() -> None:
    clean, noisy = spoken(with_pauses(1e-4)), spoken(with_pauses(1e-2))
    assert clean.snr_db > noisy.snr_db + 20


def test_what_is_kept_is_in_order_and_from_the_clip() -> None:
    clip = with_pauses()
    kept = spoken(clip).wave
    places = np.searchsorted(np.sort(clip), kept)
    assert (np.sort(clip)[places] == kept).all()


@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_other_rates_are_heard_alike(rate_hz: int) -> None:
    quiet = np.zeros(rate_hz, np.float32) + 1e-4 * np.random.default_rng(1).standard_normal(rate_hz).astype(np.float32)
    found = spoken(np.concatenate([quiet, say(3, 0, 2.0, rate_hz), quiet]), rate_hz)
    assert 1.6 < found.speech_s < 2.4


@pytest.mark.parametrize("n_samples", [0, 10, 500])
def test_silence_and_next_to_nothing_come_back(n_samples: int) -> None:
    assert len(spoken(np.zeros(n_samples, np.float32)).wave) == 0
    short = say(1)[:n_samples]
    assert len(spoken(short).wave) <= n_samples
    assert spoken(short).snr_db == MAX_SNR_DB
