"""What is wrong with clips of voices, before anything is learned from them or decided: a sentence each.

Levels, silence and clipping are judged as those of any take (``audio.check_take``). Here is what matters of a voice:
enough speech, one person, and not the same recording twice. Copies are told by their waveforms, which no two sayings
share; persons by the encoder itself and the likelihood ratio that it is calibrated to. The last two are judgements
that err at times, and less with a better encoder.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from jaxtyping import Float

from ..audio import check_take, trim_padding
from ..contracts import FrontEnd, InputError
from ..features import log_mel
from ..voices.heard import Heard, together
from ..voices.models import VoiceModel
from ..voices.speech import Spoken, spoken
from ..voices.turns import log_odds_of_two, sides
from .takes import Clip, Clips, each_of, take_wave

MIN_SPEECH_S = 0.5
"""Less says little of a voice."""
MAX_CLIP_S = 600.0

P_ODD, P_TWO = 0.05, 0.2
"""How likely it is, before it is heard, that a clip is another person's than it should be, and that it holds two. A
clip is refused where what is heard makes that more likely than not."""

COPY_WAVEFORM, COPY_ENVELOPE = 0.88, 0.85
"""Correlations that copies of one recording have at least, at the best shift: of samples, of log mel frames."""
_COPY_RATE_HZ, _COPY_BAND_HZ, _FADE_S = 8_000, (150.0, 3400.0), 0.02
_ENVELOPE = FrontEnd(n_mels=24, low_hz=120, high_hz=3600, n_frames=None)
_ENVELOPE_RANGE = 4 * math.log(10)
"""40 dB: what is below is noise."""
SAME_COSINE, SAME_SPEECH_S, SAME_SNR_DB = 0.9999, 0.01, 0.1
"""A clip that was heard before, as far as its vector tells."""


@dataclass(frozen=True, slots=True)
class VoiceClip:
    """A recording that is fit to be heard."""

    name: str
    wave: Float[np.ndarray, " S"]
    """As it was given, at the rate of the encoder."""
    speech: Spoken


def usable(clips: Clips, rate_hz: int, *, least_s: float = MIN_SPEECH_S, clipping: bool = True) -> list[VoiceClip]:
    """Clips that can be read and hold speech, at the rate of the encoder.

    Raises:
        InputError: all others in one message: unreadable, silent, clipped (where that matters), too long, or with less
            than ``least_s`` of speech.
    """

    def one(place_and_clip: tuple[int, Clip]) -> VoiceClip:
        place, clip = place_and_clip
        name, wave = take_wave(clip, rate_hz)
        if isinstance(clip, tuple):
            name = f"Clip {place + 1}" if len(clips) > 1 else "The clip"
        if len(wave) > MAX_CLIP_S * rate_hz:
            raise InputError(
                f"{name} lasts {len(wave) / rate_hz:.0f} s, at most {MAX_CLIP_S:.0f} s are heard; cut out the speech."
            )
        check_take(wave, rate_hz, name, clipping=clipping)
        speech = spoken(wave, rate_hz)
        if speech.speech_s < least_s:
            raise InputError(
                f"{name} holds {speech.speech_s:.2f} s of speech and {least_s:g} s are needed to tell a voice; "
                "record a longer one."
            )
        return VoiceClip(name, wave, speech)

    return each_of(enumerate(clips), one)


# -------------------------------------------------------------------------------------------------------- two persons


def odds_of_two(model: VoiceModel, speech: Spoken) -> float:
    """Log odds that a clip holds one person first and another after, against one person.

    -inf for a clip too short to say, and for a model that did not learn it. Two who speak at once are not found.
    """
    found = None if model.turns is None else sides(model.encoder, speech)
    if found is None or model.turns is None:
        return -math.inf
    return log_odds_of_two(found, model.turns, model.cohort, P_TWO)


def require_one_person(model: VoiceModel, clips: Sequence[VoiceClip]) -> None:
    """Refuse clips that two persons speak in.

    Raises:
        InputError: all of them, in one message.
    """

    def one(clip: VoiceClip) -> None:
        if odds_of_two(model, clip.speech) > 0:
            raise InputError(
                f"{clip.name} seems to hold two voices, one after the other; record one person alone, or cut it."
            )

    each_of(clips, one)


# --------------------------------------------------------------------------------------------------------- one voice


def require_one_voice(
    model: VoiceModel, clips: Sequence[VoiceClip], heard: Heard, known: Heard | None, name: str
) -> None:
    """Refuse the clip that is least like the others where it is more likely another person's.

    Raises:
        InputError: it is named.
    """
    others = [] if known is None else [known.at([k]) for k in range(len(known))]
    parts = [*(heard.at([k]) for k in range(len(heard))), *others]
    if len(parts) < 2:
        return
    llr = [_llr(model, parts[:k] + parts[k + 1 :], parts[k]) for k in range(len(heard))]
    worst = int(np.argmin(llr))
    if llr[worst] >= math.log(P_ODD / (1 - P_ODD)):
        return
    if known is None and len(parts) == 2:
        raise InputError(
            f"{clips[0].name} and {clips[1].name} seem to be two persons and should both be {name}; record one of them "
            "again."
        )
    than = "the clips enrolled before" if len(heard) == 1 else "the other clips"
    raise InputError(
        f"{clips[worst].name} seems to be another person than {than} of {name}; leave it out or record it again."
    )


def _llr(model: VoiceModel, rest: Sequence[Heard], one: Heard) -> float:
    return float(model.llr([together(rest)], one)[0, 0])


# ------------------------------------------------------------------------------------------------------------ copies


def require_no_copy(clips: Sequence[VoiceClip], rate_hz: int) -> None:
    """Refuse the same recording twice, also louder, cut at its ends, coded or resampled.

    Raises:
        InputError: the first pair.
    """
    for first, second in copies([clip.wave for clip in clips], rate_hz):
        raise InputError(
            f"{clips[first].name} and {clips[second].name} are one recording, and the same clip twice teaches nothing; "
            "record another."
        )


def require_new(clips: Sequence[VoiceClip], heard: Heard, voices: dict[str, Heard]) -> None:
    """Refuse a recording that was enrolled before, under this name or another.

    Raises:
        InputError: the first such clip.
    """
    for name, voice in voices.items():
        same = (
            (heard.vectors @ voice.vectors.T > SAME_COSINE)
            & (np.abs(heard.speech_s[:, None] - voice.speech_s) < SAME_SPEECH_S)
            & (np.abs(heard.snr_db[:, None] - voice.snr_db) < SAME_SNR_DB)
        )
        if same.any():
            clip = clips[int(np.argwhere(same)[0, 0])]
            raise InputError(f"{clip.name} is enrolled already, as a clip of {name}; record another.")


def copies(waves: Sequence[Float[np.ndarray, " _S"]], rate_hz: int) -> list[tuple[int, int]]:
    """Pairs of waves that are one recording: their samples and their frames agree at some shift.

    At least half of the shorter one has to overlap. Frames are compared first, since that is cheap. Of takes of one
    word by one speaker none of 330 in six real sets counts as copies. Of copies that were coded (mu-law, MP3, Vorbis,
    Opus), cut, shifted or made louder 93 to 100 of 100 are found, with noise 20 dB below 89, clipped hard 72.
    """
    frames = [_envelope(trim_padding(wave), rate_hz) for wave in waves]
    samples: dict[int, np.ndarray] = {}
    found = []
    for second in range(len(waves)):
        for first in range(second):
            if _correlation(frames[first], frames[second]) < COPY_ENVELOPE:
                continue
            for place in (first, second):
                if place not in samples:
                    samples[place] = _band(trim_padding(waves[place]), rate_hz)
            if _correlation(samples[first], samples[second], finer=4) >= COPY_WAVEFORM:
                found.append((first, second))
    return found


def _envelope(wave: Float[np.ndarray, " S"], rate_hz: int) -> Float[np.ndarray, "T F"]:
    """Log mel frames of the telephone band without their mean, nothing more than 40 dB below the loudest."""
    front_end = _ENVELOPE.model_copy(update={"rate_hz": rate_hz})
    frames = log_mel(wave, front_end).astype(np.float64)
    if not len(frames):
        return np.zeros((1, front_end.n_mels))
    frames = np.maximum(frames, frames.max() - _ENVELOPE_RANGE)
    return frames - frames.mean(axis=0)


def _band(wave: Float[np.ndarray, " S"], rate_hz: int) -> Float[np.ndarray, "S2 1"]:
    """Samples of the telephone band at 8 kHz; the ends are faded, as a step there would be heard everywhere."""
    at_rate = wave if rate_hz == _COPY_RATE_HZ else soxr.resample(wave, rate_hz, _COPY_RATE_HZ)
    faded = at_rate.astype(np.float64)
    if not len(faded):
        return np.zeros((1, 1))
    n_fade = min(round(_FADE_S * _COPY_RATE_HZ), len(faded) // 2)
    ramp = np.linspace(0, 1, n_fade)
    faded[:n_fade] *= ramp
    faded[len(faded) - n_fade :] *= ramp[::-1]
    spectrum = np.fft.rfft(faded)
    hz = np.fft.rfftfreq(len(faded), 1 / _COPY_RATE_HZ)
    spectrum[(hz < _COPY_BAND_HZ[0]) | (hz > _COPY_BAND_HZ[1])] = 0
    return np.fft.irfft(spectrum, len(faded))[:, None]


def _correlation(a: Float[np.ndarray, "N F"], b: Float[np.ndarray, "M F"], *, finer: int = 1) -> float:
    """The largest normalised cross-correlation in magnitude, over shifts at which half of the shorter overlaps.

    ``finer`` shifts within a step are tried too: a copy need not be sampled at the same instants.
    """
    n = 1 << (len(a) + len(b) - 1).bit_length()
    product = (np.fft.rfft(a, n, axis=0).conj() * np.fft.rfft(b, n, axis=0)).sum(axis=1)
    against = finer * np.abs(np.fft.irfft(product, finer * n)).reshape(n, finer).max(axis=1)
    energy_a, energy_b = (np.concatenate([[0.0], np.cumsum(np.square(x).sum(axis=1))]) for x in (a, b))
    shift = np.arange(1 - len(a), len(b))
    start, end = np.maximum(0, -shift), np.minimum(len(a), len(b) - shift)
    enough = end - start >= max(1, min(len(a), len(b)) // 2)
    shift, start, end = shift[enough], start[enough], end[enough]
    energy = (energy_a[end] - energy_a[start]) * (energy_b[end + shift] - energy_b[start + shift])
    least = 0.05 * math.sqrt(energy_a[-1] * energy_b[-1])  # an overlap of silences tells nothing
    return float((against[shift % n] / np.maximum(np.sqrt(np.maximum(energy, 0)), max(least, 1e-12))).max())
