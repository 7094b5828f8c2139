"""Facts of a recording that no manifest holds, measured from what a bank stores: speaking rate, vocal effort, noise.

All are coarse classes to make tasks along, not measurements to publish.

rate    letters a second of speech, in thirds of the same language of the same corpus: ``slow``, ``middle``, ``fast``.
        For single words it also says which word it is, since some are longer in speech than in writing.
effort  alpha ratio, the level of 1 to 5 kHz over that of 50 Hz to 1 kHz, in thirds of the same corpus, since
        microphones differ: ``soft``, ``normal``, ``loud``.
noise   speech over background in dB: ``<10 dB``, ``10-20 dB``, ``20-30 dB``, ``>30 dB``.
"""

import unicodedata
from collections.abc import Callable, Collection, Hashable, Sequence
from math import log, pi

import numpy as np
from jaxtyping import Float

from ..contracts import FrontEnd, Utterance
from ..features import LOG_FLOOR, PREEMPHASIS, frames_to_s
from .axes import MEASURED
from .bank import Bank

RATES = ("slow", "middle", "fast")
EFFORTS = ("soft", "normal", "loud")
NOISES = ("<10 dB", "10-20 dB", "20-30 dB", ">30 dB")
NOISE_ENDS_DB = (10.0, 20.0, 30.0)
ALPHA_BANDS_HZ = ((50.0, 1000.0), (1000.0, 5000.0))
LOWEST_HZ = 100.0
"""Hum and rumble below this are no noise that hides speech."""
ACTIVE_DB = 15.9
"""Frames further than this below the mean level are pauses (the margin of ITU-T P.56)."""


def measured(
    bank: Bank, axes: Collection[str], progress: Callable[[int, int], None] | None = None
) -> dict[str, list[str | None]]:
    """The values of the measured axes among ``axes`` for each utterance of a bank; None where it cannot be told."""
    wanted = [name for name in MEASURED if name in axes]
    numbers = {name: np.full(len(bank.utterances), np.nan) for name in wanted}
    for position, utterance in enumerate(bank.utterances if wanted else ()):
        start, end = bank.bounds[position].tolist()
        if "rate" in numbers:
            numbers["rate"][position] = speaking_rate(utterance, frames_to_s(end - start, bank.front_end))
        if "effort" in numbers:
            numbers["effort"][position] = alpha_ratio_db(bank.features(position)[start:end], bank.front_end)
        if "noise" in numbers:
            numbers["noise"][position] = snr_db(bank.features(position), (start, end), bank.front_end)
        if progress is not None:
            progress(position + 1, len(bank.utterances))
    found: dict[str, list[str | None]] = {}
    for name, values in numbers.items():
        if name == "rate":
            found[name] = thirds(values, [(u.corpus, u.lang) for u in bank.utterances], RATES)
        elif name == "effort":
            found[name] = thirds(values, [u.corpus for u in bank.utterances], EFFORTS)
        else:
            known = np.isfinite(values)
            place = np.digitize(values, NOISE_ENDS_DB)
            found[name] = [NOISES[i] if ok else None for i, ok in zip(place.tolist(), known.tolist(), strict=True)]
    return found


def speaking_rate(utterance: Utterance, speech_s: float) -> float:
    """Letters, vowel signs and digits a second of speech, of the text or else of the label; NaN where there are none.

    Pauses inside the speech count as speech: this is speech rate and not articulation rate (de Jong and Wempe 2009).
    """
    text = unicodedata.normalize("NFC", utterance.text or utterance.label or "")
    n_letters = sum(unicodedata.category(character)[0] in "LMN" for character in text)
    return n_letters / speech_s if n_letters and speech_s > 0 else float("nan")


def alpha_ratio_db(log_mel: Float[np.ndarray, "T F"], front_end: FrontEnd) -> float:
    """Level of 1 to 5 kHz over that of 50 Hz to 1 kHz in the louder half of the frames, which are mostly vowels.

    The alpha ratio (Frokjaer-Jensen and Prytz 1976; Eyben et al. 2016, GeMAPS) rises with vocal effort, since effort
    flattens the spectrum of the voice (Traunmueller and Eriksson 2000), and does not know the gain of the recording.
    NaN where one of the bands holds no mel bin.
    """
    power, centres = _power(log_mel, front_end)
    low, high = ((centres >= first) & (centres < last) for first, last in ALPHA_BANDS_HZ)
    if not len(power) or not low.any() or not high.any():
        return float("nan")
    level = power[:, low | high].sum(1)
    loud = power[level >= np.median(level)]
    return _db(loud[:, high].sum()) - _db(loud[:, low].sum())


def snr_db(log_mel: Float[np.ndarray, "T F"], bounds: tuple[int, int], front_end: FrontEnd) -> float:
    """Active level of speech over that of the background, in dB, from 100 Hz up.

    The background is the lowest tenth of all frames, so a clip without any pause reads noisier than it is, and one
    whose pauses were blanked reads cleaner. The speech is what lies between ``bounds``, without pauses and with the
    background taken off. NaN for an empty clip.
    """
    power, centres = _power(log_mel, front_end)
    level = power[:, centres >= LOWEST_HZ].sum(1)
    speech = level[slice(*bounds)]
    if not len(speech):
        return float("nan")
    background = float(np.partition(level, len(level) // 10)[len(level) // 10])
    active = float(speech[speech >= speech.mean() * 10 ** (-ACTIVE_DB / 10)].mean())
    # Never below -10 dB: there the difference is that of two estimates of the same noise.
    return _db(max(active - background, 0.1 * background)) - _db(background)


def thirds(values: Float[np.ndarray, " n"], of: Sequence[Hashable], names: tuple[str, str, str]) -> list[str | None]:
    """The lower, middle and upper third of each group of equal ``of``.

    None for NaN, and for all of a group that has fewer than three known values or too many equal ones to be cut.
    """
    members: dict[Hashable, list[int]] = {}
    for position, group in enumerate(of):
        if np.isfinite(values[position]):
            members.setdefault(group, []).append(position)
    found: list[str | None] = [None] * len(values)
    for positions in members.values():
        lower, upper = np.quantile(values[positions], (1 / 3, 2 / 3))
        if len(positions) < 3 or not lower < upper:
            continue
        for position in positions:
            found[position] = names[int(values[position] > lower) + int(values[position] > upper)]
    return found


def _power(log_mel: np.ndarray, front_end: FrontEnd) -> tuple[np.ndarray, np.ndarray]:
    """(T, F) power of each frame and bin without the pre-emphasis, and (F,) centres of the bins in Hz.

    Mel triangles of neighbours add up to one, so a sum over bins is the power of the band that they cover.
    """
    first, last = (float(1127 * np.log1p(hz / 700)) for hz in (front_end.low_hz, front_end.high_hz))
    centres = 700 * np.expm1(np.linspace(first, last, front_end.n_mels + 2)[1:-1] / 1127)
    angle = 2 * pi * centres / front_end.rate_hz
    emphasis = 1 + PREEMPHASIS**2 - 2 * PREEMPHASIS * np.cos(angle)
    return np.exp(log_mel.astype(np.float64)) / emphasis, centres


def _db(power: float) -> float:
    return 10 / log(10) * log(max(float(power), LOG_FLOOR))
