"""One variant: the generator decides, each change can be had alone, and nothing exceeds full scale."""

from typing import Any

import numpy as np
import pytest
import sounds

from metavox.augment import chain
from metavox.augment.chain import change_wave
from metavox.augment.channel import CODECS
from metavox.augment.wave import coloured_noise
from metavox.config import WaveConfig

HZ = 16_000
SHARES = ("reverb_share", "noise_share", "clipping_share", "band_share", "codec_share")
OFF: dict[str, Any] = {"speed": 0, "gain_db": 0, **dict.fromkeys(SHARES, 0)}


def changed(seed: int = 0, wave: np.ndarray | None = None, more: dict[str, Any] | None = None, **config: Any) -> Any:
    wave = sounds.say("tula") if wave is None else wave
    return change_wave(wave, HZ, WaveConfig(**config), np.random.default_rng(seed), **(more or {}))


def test_everything_off_changes_nothing() -> None:
    np.testing.assert_array_equal(changed(**OFF), sounds.say("tula"))


@pytest.mark.parametrize("key", [*SHARES, "speed", "gain_db", "shift_s"])
def test_each_change_can_be_had_alone(key: str) -> None:
    wave = sounds.say("tula")
    config = {**OFF, key: {"speed": 0.3, "gain_db": 12, "shift_s": 0.1}.get(key, 1.0)}
    some = [changed(seed, **config) for seed in range(4)]
    assert any(len(found) != len(wave) or not np.allclose(found, wave, atol=1e-4) for found in some)
    assert all((len(found) == len(wave)) == (key != "speed") for found in some)


def test_the_generator_decides_and_the_input_stays() -> None:
    wave = sounds.say("febe")
    before = wave.copy()
    once = [changed(seed, wave) for seed in range(12)]
    again = [changed(seed, wave) for seed in range(12)]
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({found.tobytes() for found in once}) == 12
    np.testing.assert_array_equal(wave, before)


def test_nothing_exceeds_full_scale_and_all_is_finite() -> None:
    loud = sounds.say("anti") * np.float32(3)
    for seed in range(25):
        found = changed(seed, loud, gain_db=20, noise_share=1, snr_db=(-5, 0), reverb_share=1)
        assert np.isfinite(found).all()
        assert np.abs(found).max() <= 0.99 + 1e-6
        assert found.dtype == np.float32


def test_noise_comes_from_where_the_shares_say() -> None:
    asked: list[str] = []

    def recorded(n: int, rng: np.random.Generator) -> np.ndarray:
        asked.append("recorded")
        return coloured_noise(n, "white", rng)

    def talkers(rng: np.random.Generator) -> list[np.ndarray]:
        asked.append("talkers")
        return [sounds.say("zetta", "dora")]

    for shares, expected in (((1, 0), {"talkers"}), ((0, 1), {"recorded"}), ((0, 0), set())):
        asked.clear()
        for seed in range(5):
            config = {**OFF, "noise_share": 1, "babble_share": shares[0], "recorded_share": shares[1]}
            found = changed(seed, more={"recorded": recorded, "talkers": talkers}, **config)
            assert not np.allclose(found, sounds.say("tula"), atol=1e-3)
        assert set(asked) == expected
    asked.clear()
    config = {**OFF, "noise_share": 1, "babble_share": 1, "recorded_share": 1}
    changed(0, more={"talkers": lambda rng: [], "recorded": recorded}, **config)  # nobody else: the recording
    changed(0, **config)  # neither: a colour
    assert asked == ["recorded"]


def test_noise_that_pauses_under_the_speech_is_drawn_again() -> None:
    calls: list[int] = []

    def recorded(n: int, rng: np.random.Generator) -> np.ndarray:
        calls.append(n)
        return np.zeros(n, np.float32) if len(calls) < 3 else coloured_noise(n, "white", rng)

    config = {**OFF, "noise_share": 1, "babble_share": 0, "recorded_share": 1}
    changed(0, more={"recorded": recorded}, **config)
    assert len(calls) == 3
    assert chain._TRIES > 3


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_codec_keeps_the_softest_sound_at_its_level(codec: str) -> None:
    soft = np.random.default_rng(0).normal(size=4000).astype(np.float32) * np.float32(1e-5)
    out = changed(wave=soft, **{**OFF, "codec_share": 1, "codecs": (codec,)})
    assert 0.3 < float(np.square(out).sum() / np.square(soft).sum()) < 2
