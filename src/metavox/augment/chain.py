"""One variant of a clip: changes of samples drawn one after the other, in the order in which nature applies them."""

from collections.abc import Callable

import numpy as np

from ..config import WaveConfig
from .channel import TELEPHONE_HZ, clip_peaks, limit_band, narrow, through_codec
from .rooms import reverberate, stored_response
from .wave import COLOURS, Wave, babble, coloured_noise, gain, is_silent, limit_peak, mix, shift, speech_span, speed

N_ROOMS = 64
"""Rooms that belong to a seed; each is simulated once."""
CLIPPED_SHARES = (0.005, 0.05)
LEAST_CODED_PEAK = 0.01
"""Of a sound softer than some 0.0003 nothing at all comes out of mp3."""
_TRIES = 16
"""Draws of noise until one sounds where the speech is: recordings and people pause."""

Recorded = Callable[[int, np.random.Generator], Wave]
"""(samples needed, generator) -> noise of at least that length."""
Talkers = Callable[[np.random.Generator], list[Wave]]
"""Clips of other speakers, or an empty list where there are none."""


def change_wave(
    wave: Wave,
    rate_hz: int,
    config: WaveConfig,
    rng: np.random.Generator,
    *,
    seed: int = 0,
    recorded: Recorded | None = None,
    talkers: Talkers | None = None,
) -> Wave:
    """Speaker (speed, place), room, noise, microphone (level, clipping), channel (band, codec); peak at most 0.99.

    ``seed`` chooses the rooms; which changes happen and how strong they are is drawn from ``rng``.

    Raises:
        InputError: a change that leaves less than an analysis window of sound, or noise that cannot be used.
    """
    happens = dict(zip(("reverb", "noise", "clipping", "band", "codec"), rng.random(5).tolist(), strict=True))
    out = speed(wave, rate_hz, 1 + config.speed * rng.uniform(-1, 1))
    if config.shift_s:
        out = shift(out, rate_hz, config.shift_s * rng.uniform(-1, 1))
    if happens["reverb"] < config.reverb_share:
        out = reverberate(out, stored_response(seed, int(rng.integers(N_ROOMS)), rate_hz, config.rt60_s))
    if happens["noise"] < config.noise_share:
        span = speech_span(out, rate_hz)
        snr_db = rng.uniform(*config.snr_db)
        for _ in range(_TRIES):
            noise = _noise(len(out), config, rng, recorded, talkers)
            if not is_silent(noise[slice(*span)]):
                break
        out = mix(out, rate_hz, noise, rate_hz, snr_db, rng, span)
    if happens["clipping"] < config.clipping_share:
        out = clip_peaks(out, rng.uniform(*CLIPPED_SHARES))
    if config.gain_db:
        out = gain(out, config.gain_db * rng.uniform(-1, 1))
    if happens["band"] < config.band_share:
        out = _in_a_band(out, rate_hz, rng)
    out = limit_peak(out)  # an encoder would cut what exceeds full scale
    if config.codecs and happens["codec"] < config.codec_share:
        out = _coded(out, rate_hz, config.codecs[rng.integers(len(config.codecs))])
    return limit_peak(out)


def _coded(wave: Wave, rate_hz: int, codec: str) -> Wave:
    """Through a codec; one too soft for its steps is turned up before, as a device does, and down again."""
    peak = float(np.abs(wave).max(initial=0.0))
    up = LEAST_CODED_PEAK / peak if 0 < peak < LEAST_CODED_PEAK else 1.0
    return through_codec(wave * np.float32(up), rate_hz, codec) / np.float32(up)


def _noise(
    n_samples: int, config: WaveConfig, rng: np.random.Generator, recorded: Recorded | None, talkers: Talkers | None
) -> Wave:
    """Voices, a recording, or a colour where there is neither."""
    if rng.random() < config.babble_share and talkers is not None and (clips := talkers(rng)):
        return babble(clips, n_samples, rng, int(rng.integers(2, 7)))
    if rng.random() < config.recorded_share and recorded is not None:
        return recorded(n_samples, rng)
    return coloured_noise(n_samples, list(COLOURS)[rng.integers(len(COLOURS))], rng)


def _in_a_band(wave: Wave, rate_hz: int, rng: np.random.Generator) -> Wave:
    """A telephone, a low pass, a high pass, or 8 kHz and back; limits beyond half the rate are none."""
    kind, place = rng.integers(4), rng.random()
    if kind == 0:
        return limit_band(wave, rate_hz, *(min(hz, rate_hz / 2) for hz in TELEPHONE_HZ))
    if kind == 1:
        return limit_band(wave, rate_hz, None, min(2000 * 3**place, rate_hz / 2))
    if kind == 2:
        return limit_band(wave, rate_hz, 100 * 8**place, None)
    return narrow(wave, rate_hz)
