"""Changes of samples: speed, level, place, and noise at an SNR. Pure functions of their input and a generator.

Samples are (S,) float32 in [-1, 1] at ``rate_hz``. What leaves nothing to learn from is refused.
"""

import numpy as np
import soxr
from jaxtyping import Float

from ..audio import PADDING_PEAK, trim_padding
from ..contracts import FrontEnd, InputError
from ..features import log_mel, speech_bounds

Wave = Float[np.ndarray, " _S"]
"""Samples of any number: those of a result need not be as many as those of an argument."""

SNR_LIMITS_DB = (-20.0, 80.0)
MAX_SPEED = 2.0
COLOURS = {"white": 0.0, "pink": 1.0, "brown": 2.0}
"""Power falls with the frequency to this power."""
SHORTEST_MS = 25.0
"""One analysis window: what holds less gives no frame."""


def require_sound(wave: Wave, rate_hz: int, cause: str, remedy: str, shortest_ms: float = SHORTEST_MS) -> Wave:
    """``wave`` as it is, or InputError where a change left less than ``shortest_ms`` besides digital zeros."""
    left_ms = 1000 * len(trim_padding(wave)) / rate_hz
    if left_ms < shortest_ms:
        raise InputError(f"{cause} leaves {left_ms:.0f} ms of sound and {shortest_ms:g} ms are needed; {remedy}.")
    return wave


def speed(wave: Wave, rate_hz: int, factor: float) -> Wave:
    """Played ``factor`` times as fast: S / factor samples, all frequencies times ``factor`` (Ko et al. 2015).

    Raises:
        InputError: a factor outside 0.5 to 2, or a clip that becomes shorter than an analysis window.
    """
    if not 1 / MAX_SPEED <= factor <= MAX_SPEED:
        raise InputError(
            f"A speed of {factor:g} is out of range; give a factor from {1 / MAX_SPEED:g} to {MAX_SPEED:g}."
        )
    if factor == 1:
        return wave
    out = soxr.resample(wave, rate_hz * factor, rate_hz, quality="HQ").astype(np.float32, copy=False)
    return require_sound(out, rate_hz, f"A speed of {factor:.3g}", "play the clip slower or leave it out")


def gain(wave: Wave, level_db: float) -> Wave:
    """Louder or softer by ``level_db``; nothing is clipped (see ``limit_peak``).

    Raises:
        InputError: more than 80 dB either way.
    """
    if not -80 <= level_db <= 80:
        raise InputError(f"A gain of {level_db:g} dB is out of range; give -80 to 80 dB.")
    return wave * np.float32(10 ** (level_db / 20))


def limit_peak(wave: Wave, peak: float = 0.99) -> Wave:
    """Scaled down as a whole where a sample exceeds ``peak``, so that no ratio within it changes."""
    largest = float(np.abs(wave).max(initial=0))
    return wave if largest <= peak else wave * np.float32(peak / largest)


def shift(wave: Wave, rate_hz: int, by_s: float, *, wrap: bool = False) -> Wave:
    """Later by ``by_s`` seconds (earlier where negative), of the same length.

    What leaves the clip is lost and zeros come in, or with ``wrap`` it comes in again at the other end.

    Raises:
        InputError: a shift that leaves less than an analysis window of sound.
    """
    if not np.isfinite(by_s):
        raise InputError(f"A shift of {by_s} s is out of range; give a number of seconds.")
    n = round(by_s * rate_hz)
    if wrap:
        return np.roll(wave, n)
    out = np.zeros_like(wave)
    if abs(n) < len(wave):
        out[max(n, 0) : len(wave) + min(n, 0)] = wave[max(-n, 0) : len(wave) - max(n, 0)]
    cause = f"A shift by {by_s:.3g} s of a clip of {len(wave) / rate_hz:.3g} s"
    return require_sound(out, rate_hz, cause, "shift it by less")


# -------------------------------------------------------------------------------------------------------------- noise


def coloured_noise(n_samples: int, colour: str, rng: np.random.Generator) -> Wave:
    """Gaussian noise of mean power 1 whose power falls as f^0 (white), f^-1 (pink) or f^-2 (brown).

    White noise is shaped in the frequency domain; below 1/100 of the highest frequency the slope ends, where brown
    noise would have all its power.

    Raises:
        InputError: another colour.
    """
    if colour not in COLOURS:
        raise InputError(f"Noise of colour {colour!r} is not known; give one of {', '.join(COLOURS)}.")
    lines = np.fft.rfft(rng.standard_normal(n_samples))
    f = np.maximum(np.arange(len(lines)) / max(len(lines), 1), 0.01)
    noise = np.fft.irfft(lines * f ** (-COLOURS[colour] / 2), n_samples)
    return (noise / power(noise) ** 0.5).astype(np.float32)


def babble(clips: list[Wave], n_samples: int, rng: np.random.Generator, n_voices: int = 4) -> Wave:
    """``n_voices`` people talking at once, each as loud as the other; of mean power 1.

    The clips are dealt to the voices in turn. A voice says its clips again and again, from a random place on.

    Raises:
        InputError: no clip that is not silent.
    """
    heard = [clip / power(clip) ** 0.5 for clip in clips if not is_silent(clip)]
    if not heard:
        raise InputError(f"None of {len(clips)} clips for babble holds sound; give recordings of other speakers.")
    n_voices = min(n_voices, len(heard))
    mixed = np.zeros(n_samples)
    for voice in range(n_voices):
        said = np.concatenate(heard[voice::n_voices])
        mixed += said[(rng.integers(len(said)) + np.arange(n_samples)) % len(said)]
    return (mixed / max(power(mixed) ** 0.5, 1e-9)).astype(np.float32)


def speech_span(wave: Wave, rate_hz: int) -> tuple[int, int]:
    """First and one-past-last sample of the stretch that holds speech, by energy (``features.speech_bounds``)."""
    front_end = FrontEnd(rate_hz=rate_hz, high_hz=min(7600.0, 0.475 * rate_hz), n_mels=20)
    frames = log_mel(wave, front_end)
    if len(frames) == 0:
        return 0, len(wave)
    start, end = speech_bounds(frames, front_end)
    last = end == len(frames)  # the samples after the last whole frame belong to it
    return start * front_end.hop_samples, len(wave) if last else end * front_end.hop_samples


def mix(
    wave: Wave,
    rate_hz: int,
    noise: Wave,
    noise_hz: int,
    snr_db: float,
    rng: np.random.Generator,
    span: tuple[int, int] | None = None,
) -> Wave:
    """``wave`` with noise under it, from a random place of ``noise`` on; the sum may exceed full scale.

    The SNR is 10 log10 of the mean square of the clean samples over that of the noise added, both over ``span``, the
    samples that hold speech (by default ``speech_span``): silence around a word does not make it noisier.

    Raises:
        InputError: noise shorter than the clip, of another rate, or silent where it is used; a silent clip; an SNR
            outside -20 to 80 dB.
    """
    low, high = SNR_LIMITS_DB
    if not low <= snr_db <= high:
        raise InputError(f"An SNR of {snr_db:g} dB is out of range; give {low:g} to {high:g} dB.")
    if noise_hz != rate_hz:
        raise InputError(f"The noise has a rate of {noise_hz} Hz and the clip {rate_hz} Hz; resample one of them.")
    if len(noise) < len(wave):
        raise InputError(
            f"The noise lasts {len(noise) / rate_hz:.3g} s and the clip {len(wave) / rate_hz:.3g} s; give a longer "
            "recording of noise."
        )
    first = int(rng.integers(len(noise) - len(wave) + 1))
    under = noise[first : first + len(wave)]
    start, end = span or speech_span(wave, rate_hz)
    for samples, what in ((wave[start:end], "clip"), (under[start:end], "noise")):
        if is_silent(samples):
            raise InputError(f"The {what} is silent over the speech, so no SNR can be set; give another recording.")
    ratio = power(wave[start:end]) / power(under[start:end])
    return wave + np.float32((ratio * 10 ** (-snr_db / 10)) ** 0.5) * under


def power(wave: Wave) -> float:
    """Mean square of the samples, summed in float64; 0 of none."""
    return float(np.square(wave, dtype=np.float64).mean()) if len(wave) else 0.0


def is_silent(wave: Wave) -> bool:
    """Whether the root mean square is below half a step of 16 bits, which is rounding noise at most."""
    return power(wave) <= (PADDING_PEAK / 2) ** 2
