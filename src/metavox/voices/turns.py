"""Two people in a clip, one after the other: which sides of it are compared, and what their likeness is worth.

Both sides of a clip by one person come from one session and one sentence, so they are nearer to each other than two
clips of that person are: a map that was learned on clips is too timid here. This one is learned on clips of
development speakers, and on pairs of them put together. Two who speak at once are not found.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..calibration.ratios import Ratios, fit_ratios
from ..contracts import VoiceEncoder
from ..metrics import eer
from .heard import Heard
from .scoring import COMMON_WEIGHT, common, unit
from .speech import Spoken, spoken

MIN_SIDE_S, MAX_SIDE_S, MAX_CHANGES = 0.6, 6.0, 8
"""Speech that is compared on either side of a change from one person to another, and how many places are tried."""
N_CLIPS = 8
"""Of each development speaker, each alone and followed by another's."""
MIN_CLIPS = 20
"""Of both kinds; fewer teach nothing."""

Cohort = Float[np.ndarray, "M D"]


@dataclass(frozen=True, slots=True)
class Sides:
    """Of each place where the speaker could change, what is before and what is after it."""

    before: Heard
    after: Heard
    at_s: Float[np.ndarray, " n"]
    """Seconds of speech before each place."""

    def features(self, cohort: Cohort) -> dict[str, Float[np.ndarray, " n"]]:
        """How alike the sides are, as ``scoring.normalised``, and how long the shorter one is."""
        a, b = self.before.vectors, self.after.vectors
        score = np.einsum("nd,nd->n", a, b) - COMMON_WEIGHT * (common(a, cohort) + common(b, cohort))
        shorter = np.minimum(self.before.speech_s, self.after.speech_s)
        return {"score": score.astype(np.float64), "shorter_log_s": np.log(shorter)}


def sides(encoder: VoiceEncoder, speech: Spoken) -> Sides | None:
    """Both sides of up to ``MAX_CHANGES`` places in the speech of a clip; None where it is too short for any."""
    rate_hz = encoder.rate_hz
    n_side, longest = round(MIN_SIDE_S * rate_hz), round(MAX_SIDE_S * rate_hz)
    room = len(speech.wave) - 2 * n_side
    if room < 0:
        return None
    n_changes = min(MAX_CHANGES, 1 + room // n_side)
    places = n_side + np.linspace(0, room, n_changes + 2)[1:-1].round().astype(int)

    def heard(waves: list[np.ndarray]) -> Heard:
        seconds = np.array([len(wave) / rate_hz for wave in waves])
        return Heard(encoder.embed(waves), seconds, np.full(len(waves), speech.snr_db))

    before = heard([speech.wave[max(0, at - longest) : at] for at in places])
    after = heard([speech.wave[at : at + longest] for at in places])
    return Sides(before, after, places / rate_hz)


# ----------------------------------------------------------------------------------------------------------- learning


@dataclass(frozen=True, slots=True)
class Turns:
    """The map from ``Sides.features`` to the ratio of one person to two, and how well it tells its own clips."""

    ratios: Ratios
    about: dict[str, float | int]


@dataclass(frozen=True, slots=True)
class _Clip:
    features: dict[str, Float[np.ndarray, " n"]]
    change: int | None
    """The place where the speaker changes; None in a clip of one."""


def learn_turns(
    encoder: VoiceEncoder,
    speakers: Sequence[Sequence[Float[np.ndarray, " _S"]]],
    corpus_of: Sequence[str],
    rng: np.random.Generator,
    cohort: Cohort | None = None,
) -> Turns | None:
    """What sides are worth, from clips of one speaker and of two of the same corpus; None where there are too few.

    Short clips of a speaker are put together until both sides can be heard. In place of what comes after some place of
    a clip another speaker says as much, so that clips of one and of two do not differ in their lengths. Without
    ``cohort`` the other speakers are asked. First the ratio of two sides is learned, then what the least one of a clip
    is worth.
    """
    said = [_joined([spoken(wave, encoder.rate_hz) for wave in clips], encoder.rate_hz) for clips in speakers]
    means = None if cohort is not None else _means(encoder, said)
    clips: list[_Clip] = []
    for number, own in enumerate(said):
        others = [k for k, name in enumerate(corpus_of) if name == corpus_of[number] and k != number and said[k]]
        for speech in own[: N_CLIPS if others else 0]:
            other = others[int(rng.integers(len(others)))]
            near = cohort if means is None else np.delete(means, [number, other], axis=0)
            found = sides(encoder, speech)
            assert found is not None
            assert near is not None
            clips.append(_Clip(found.features(near), None))
            change = int(rng.integers(len(found.at_s)))
            second = said[other][int(rng.integers(len(said[other])))]
            changed = sides(encoder, _changed(speech, second, round(found.at_s[change] * encoder.rate_hz)))
            assert changed is not None
            clips.append(_Clip(changed.features(near), change))
    return _fitted(clips)


def _joined(clips: Sequence[Spoken], rate_hz: int) -> list[Spoken]:
    """Clips of one speaker, one after the other until each is long enough to have two sides."""
    found: list[Spoken] = []
    waiting: list[np.ndarray] = []
    for one in clips:
        waiting.append(one.wave)
        if sum(map(len, waiting)) >= 2 * MIN_SIDE_S * rate_hz:
            wave = np.concatenate(waiting)
            found.append(Spoken(wave, len(wave) / rate_hz, one.snr_db))
            waiting = []
    return found


def _changed(first: Spoken, second: Spoken, place: int) -> Spoken:
    """The first until ``place``, then as much of the second as is missing, as loud."""
    after = np.resize(second.wave, len(first.wave) - place)
    loud = [max(float(np.sqrt(np.mean(np.square(wave)))), 1e-6) for wave in (first.wave, after)]
    wave = np.concatenate([first.wave[:place], after * np.float32(loud[0] / loud[1])])
    return Spoken(wave, first.speech_s, min(first.snr_db, second.snr_db))


def _means(encoder: VoiceEncoder, said: Sequence[Sequence[Spoken]]) -> Cohort:
    """A unit vector of each speaker; zeros, which are like nobody, for one who said nothing."""
    rows = [encoder.embed([one.wave for one in own]).mean(axis=0) if own else np.zeros(encoder.dim) for own in said]
    return unit(np.stack(rows))


def _fitted(clips: Sequence[_Clip]) -> Turns | None:
    """Two steps of logistic regression, which make one map: the least of a linear map is that of its multiple."""
    one, two = ([clip for clip in clips if (clip.change is not None) == kind] for kind in (False, True))
    if min(len(one), len(two)) < MIN_CLIPS:
        return None
    names = list(one[0].features)
    whole = {name: np.concatenate([clip.features[name] for clip in one]) for name in names}
    share = np.concatenate([np.full(len(clip.features["score"]), 1 / len(clip.features["score"])) for clip in one])
    changed = {name: np.array([clip.features[name][clip.change] for clip in two]) for name in names}
    first = fit_ratios(whole, changed, weights=(share, np.ones(len(two))))
    least = [np.array([float(first(clip.features).min()) for clip in kind]) for kind in (one, two)]
    second = fit_ratios({"least": least[0]}, {"least": least[1]})
    slope = second.weights["least"]
    if not slope > 0:
        return None
    ratios = Ratios({name: slope * weight for name, weight in first.weights.items()}, slope * first.bias + second.bias)
    told = eer(least[0], least[1])
    return Turns(ratios, {"one": len(one), "two": len(two), "eer": round(told.rate, 4)})


def log_odds_of_two(found: Sides, ratios: Ratios, cohort: Cohort, p_two: float) -> float:
    """Log odds that the speaker changes somewhere, with the probability ``p_two`` beforehand."""
    return math.log(p_two / (1 - p_two)) - float(ratios(found.features(cohort)).min())
