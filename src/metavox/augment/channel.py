"""What lies between a microphone and a recogniser: limited bands, lower rates, codecs, clipping.

Samples are (S,) float32 in [-1, 1] at ``rate_hz``; the length and the place of a sound stay.
"""

import io

import numpy as np
import soundfile
import soxr

from ..contracts import InputError
from .wave import Wave, require_sound

TELEPHONE_HZ = (300.0, 3400.0)
EDGE_OCTAVES = 0.25
"""A band falls to nothing over this width, half a period of a cosine in log frequency."""

CODECS: dict[str, tuple[str, str, float | None]] = {
    "mulaw": ("WAV", "ULAW", None),
    "alaw": ("WAV", "ALAW", None),
    "vorbis": ("OGG", "VORBIS", 0.9),
    "opus": ("OGG", "OPUS", 0.9),
    "mp3": ("MP3", "MPEG_LAYER_III", 0.9),
}
"""Container, encoding and compression (0 best, 1 smallest) of libsndfile. The laws are those of ITU-T G.711."""


def limit_band(wave: Wave, rate_hz: int, low_hz: float | None, high_hz: float | None) -> Wave:
    """Only what lies between ``low_hz`` and ``high_hz`` (None: no limit), without a change of phase.

    Raises:
        InputError: limits that fall or exceed half the rate, or a band that holds next to no energy of the clip.
    """
    low, high = low_hz or 0.0, rate_hz / 2 if high_hz is None else high_hz
    if not 0 <= low < high <= rate_hz / 2:
        raise InputError(
            f"A band from {low:g} to {high:g} Hz does not fit a rate of {rate_hz} Hz; give two limits that rise, at "
            f"most {rate_hz / 2:g} Hz."
        )
    n_fft = 1 << (2 * len(wave) - 1).bit_length()
    hz = np.maximum(np.fft.rfftfreq(n_fft, 1 / rate_hz), 1e-3)
    keep = np.ones(len(hz))
    if low:
        keep *= _edge(np.log2(hz / low))
    if high < rate_hz / 2:
        keep *= _edge(np.log2(high / hz))
    out = np.fft.irfft(np.fft.rfft(wave, n_fft) * keep, n_fft)[: len(wave)].astype(np.float32)
    return require_sound(out, rate_hz, f"A band from {low:.0f} to {high:.0f} Hz", "choose a wider band")


def _edge(octaves: np.ndarray) -> np.ndarray:
    """0 where ``EDGE_OCTAVES`` or more are missing to the edge, 1 from the edge on."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(octaves / EDGE_OCTAVES + 1, 0, 1))


def narrow(wave: Wave, rate_hz: int, through_hz: int = 8000) -> Wave:
    """Resampled to ``through_hz`` and back, as by a telephone network.

    Raises:
        InputError: a rate below 1 kHz, or nothing left below half of it.
    """
    if through_hz < 1000:
        raise InputError(f"A rate of {through_hz} Hz holds no speech; give at least 1000 Hz.")
    if through_hz >= rate_hz:
        return wave
    back = soxr.resample(soxr.resample(wave, rate_hz, through_hz, quality="HQ"), through_hz, rate_hz, quality="HQ")
    out = np.zeros_like(wave)
    n = min(len(wave), len(back))
    out[:n] = back[:n]
    return require_sound(out, rate_hz, f"A rate of {through_hz} Hz", "choose a higher one")


def through_codec(wave: Wave, rate_hz: int, codec: str) -> Wave:
    """Encoded and decoded at low quality, by libsndfile in memory; samples beyond full scale are cut.

    Raises:
        InputError: a codec that is not known or not built into this libsndfile, or that has no such rate.
    """
    if codec not in CODECS:
        raise InputError(f"Codec {codec!r} is not known; give one of {', '.join(CODECS)}.")
    container, encoding, compression = CODECS[codec]
    coded = io.BytesIO()
    options = {} if compression is None else {"compression_level": compression}
    try:
        soundfile.write(coded, np.clip(wave, -1, 1), rate_hz, encoding, format=container, **options)
        coded.seek(0)
        decoded, back_hz = soundfile.read(coded, dtype="float32")
    except (soundfile.LibsndfileError, ValueError, TypeError) as err:
        reason = " ".join(str(err).split()).rstrip(".")
        raise InputError(
            f"Codec {codec} cannot be used at {rate_hz} Hz here ({reason}); leave it out of augment.wave.codecs."
        ) from None
    if back_hz != rate_hz:
        decoded = soxr.resample(decoded, back_hz, rate_hz, quality="HQ")
    out = np.zeros_like(wave)
    n = min(len(wave), len(decoded))
    out[:n] = decoded[:n]
    return require_sound(out, rate_hz, f"Codec {codec}", "leave it out of augment.wave.codecs")


def clip_peaks(wave: Wave, share: float) -> Wave:
    """Cut the loudest ``share`` of the samples to the level of the softest of them, as a microphone too close does.

    Raises:
        InputError: a share outside 0 to 0.5.
    """
    if not 0 <= share <= 0.5:
        raise InputError(f"A share of {share:g} clipped samples is out of range; give 0 to 0.5.")
    limit = np.quantile(np.abs(wave), 1 - share).astype(np.float32)
    return np.clip(wave, -limit, limit)
