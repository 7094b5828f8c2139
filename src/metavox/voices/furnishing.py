"""What an encoder lacks to be a model of voices: a cohort, and the map from scores to likelihood ratios.

Both come from development speakers, whom the encoder was not trained on and who are in nobody's gallery. Which
features of a trial the map rests on is chosen by cross-validation over speakers: one that does not help people who
were not heard in the fit is left out, and is named among those that were tried.

Give speakers of several corpora where there are: with three or more a feature must help a corpus that was left out.
What is fitted on one corpus is too sure of itself on another, and a slope that durations may change holds better there
than one that they cannot: with two encoders and corpora left out in turn, the mean Cllr over conditions fell from 0.37
to 0.33 and from 0.54 to 0.51 (bins of seconds on either side; 21 and 31 speakers of two and three corpora), while an
offset by durations alone had cost more on two of three sets of words than none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..calibration.ratios import Ratios, fit_ratios
from ..contracts import InputError, VoiceEncoder
from ..metrics import cllr, eer, min_cllr
from .trials import CLIPS_OF_VOICE, SHORTEST_S, Report, Trials, draw_trials, hear_speakers
from .turns import learn_turns

N_FOLDS = 5
MIN_CORPORA = 3
"""From so many corpora on, each of them is a fold."""
PENALTY = 1e-3
LEAST_GAIN = 0.005
"""A feature must lower the cross-validated Cllr by this share of it."""
TEST = ("test_log_s", "score_by_test_log_s")
ENROLLED = ("enrolled_log_s", "score_by_enrolled_log_s")
DURATIONS = (TEST, ENROLLED, (*TEST, *ENROLLED))
"""More speech moves the ratio and makes it steeper: what is known of half a second never makes anybody sure. Taken in
where speakers left out cost less with it."""
LEVELS = (("test_snr",), ("enrolled_snr",))
"""Taken in where speakers left out surely cost less with it."""


@dataclass(frozen=True, slots=True)
class Furnished:
    """What was made of development speakers."""

    cohort: Float[np.ndarray, "M D"]
    """The mean vector of each speaker, at unit length."""
    ratios: Ratios
    about: dict[str, Any]
    """Of whom, how well it holds on speakers left out of the fit, and what was tried; fit for JSON."""
    turns: Ratios | None = None
    """``VoiceModel.turns``; None where the clips were too few or too short."""


def furnish(
    encoder: VoiceEncoder,
    speakers: Sequence[Sequence[Float[np.ndarray, " _S"]]],
    seed: int,
    *,
    corpus_of: Sequence[str] | None = None,
    cohort: Float[np.ndarray, "M D"] | None = None,
    report: Report | None = None,
) -> Furnished:
    """Cohort and calibration of an encoder from the clips of development speakers.

    Args:
        encoder: whose vectors are calibrated; trained on none of these speakers.
        speakers: the clips (S,) of each speaker at the encoder's rate, from one recording session or more.
        seed: draws clips, pieces, halves, folds and trials.
        corpus_of: the corpus of each speaker. Trials stay within a corpus, and each corpus counts alike.
        cohort: vectors of other people, such as the encoder's own training speakers, to normalise by instead.
        report: called with (what, done, total).

    Raises:
        InputError: fewer than 8 speakers with two clips, a speaker without speech, one clip by two speakers.
    """
    names = ["development"] * len(speakers) if corpus_of is None else list(corpus_of)
    if len(names) != len(speakers):
        raise InputError(f"{len(speakers)} speakers and the corpora of {len(names)}; name one for each speaker.")
    rng = np.random.default_rng(seed)
    recorded = hear_speakers(encoder, speakers, rng, report)
    trials = draw_trials(recorded, names, rng, cohort)
    fold = folds(names, rng)
    chosen, tried = choose_features(trials, fold)
    about = {
        "encoder": encoder.name,
        "encoder_hash": encoder.hash,
        "seed": seed,
        "speakers": len(speakers),
        "corpora": sorted(set(names)),
        "clips": sum(len(one.whole) for one in recorded),
        "clips_of_voice": list(CLIPS_OF_VOICE),
        "shortest_s": SHORTEST_S,
        "features": list(chosen),
        "tried": tried,
        **judged(trials, held_out(trials, fold, chosen)),
    }
    own = np.stack([one.mean() for one in recorded])
    turns = learn_turns(encoder, speakers, names, rng, cohort)
    about["turns"] = None if turns is None else turns.about
    ratios = fit(trials, chosen)
    return Furnished(own if cohort is None else cohort, ratios, about, None if turns is None else turns.ratios)


def folds(corpus_of: Sequence[str], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """The fold of each speaker: the corpus, where there are three or more of them, and else drawn.

    What is fitted on one corpus is too sure of itself on another, and speakers of the same corpus cannot show it.
    """
    names, number = np.unique(np.asarray(corpus_of), return_inverse=True)
    return number if len(names) >= MIN_CORPORA else rng.permutation(len(corpus_of)) % N_FOLDS


def fit(trials: Trials, names: Sequence[str]) -> Ratios:
    """The map on these features that costs least, each speaker counting alike."""
    sides = [{name: trials.features[name][kind] for name in names} for kind in (trials.same, ~trials.same)]
    weights = (trials.weight[trials.same], trials.weight[~trials.same])
    return fit_ratios(sides[0], sides[1], penalty=PENALTY, weights=weights)


def choose_features(trials: Trials, fold: Int[np.ndarray, " n"]) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Features that help on speakers who were left out, and every set that was tried with its Cllr.

    Of candidates that help alike the first is taken, which is the smaller one.
    """
    chosen: tuple[str, ...] = ("score",)
    best = costs(trials, held_out(trials, fold, chosen))
    tried = [_row(chosen, best, None, True)]
    for candidates, sureness in ((DURATIONS, 0.0), (LEVELS, 2.0), (LEVELS, 2.0)):
        left = [chosen + one for one in candidates if not set(one) <= set(chosen)]
        if not left:
            break
        found = {names: costs(trials, held_out(trials, fold, names)) for names in left}
        least = min(float(one.mean()) for one in found.values())
        names = next(names for names, one in found.items() if one.mean() <= (1 + LEAST_GAIN) * least)
        gain = best - found[names]
        error = float(gain.std(ddof=1)) / math.sqrt(len(gain))
        helps = bool(gain.mean() > max(LEAST_GAIN * best.mean(), sureness * error))
        tried += [_row(one, found[one], best, helps and one == names) for one in found]
        if helps:
            chosen, best = names, found[names]
        elif candidates is LEVELS:
            break
    return chosen, tried


def held_out(trials: Trials, fold: Int[np.ndarray, " n"], names: Sequence[str]) -> Float[np.ndarray, " m"]:
    """The ratio of each trial by a map that was fitted on trials with neither of its speakers' folds."""
    found = np.zeros(len(trials))
    voice, test = fold[trials.voice], fold[trials.test]
    for one in np.unique(voice):
        apart = (voice != one) & (test != one)
        if trials.same[apart].all() or not trials.same[apart].any():
            raise InputError("The speakers are so few that none is left to fit on; add recordings of other people.")
        where = voice == one
        found[where] = fit(trials.at(apart), names)({name: trials.features[name][where] for name in names})
    return found


def costs(trials: Trials, llr: Float[np.ndarray, " m"]) -> Float[np.ndarray, " V"]:
    """Cllr in bits of each speaker's voice, weighted as the fit is; their mean is the Cllr over speakers."""
    bits = np.logaddexp(0.0, np.where(trials.same, -llr, llr)) / math.log(2)
    n_speakers = int(trials.voice.max()) + 1
    sums = [
        np.bincount(trials.voice[kind], (bits * trials.weight)[kind], n_speakers)
        for kind in (trials.same, ~trials.same)
    ]
    there = np.unique(trials.voice)
    return (sums[0] + sums[1])[there] / 2 * len(there)


def judged(trials: Trials, llr: Float[np.ndarray, " m"]) -> dict[str, Any]:
    """How good ratios of trials are, each trial counting once."""
    target, nontarget = llr[trials.same], llr[~trials.same]
    return {
        "n_target": len(target),
        "n_nontarget": len(nontarget),
        "eer": round(eer(target, nontarget).rate, 4),
        "cllr": round(cllr(target, nontarget), 4),
        "min_cllr": round(min_cllr(target, nontarget), 4),
    }


def _row(
    names: Sequence[str], found: Float[np.ndarray, " V"], before: Float[np.ndarray, " V"] | None, kept: bool
) -> dict[str, Any]:
    row: dict[str, Any] = {"features": list(names), "cllr": round(float(found.mean()), 4), "kept": kept}
    if before is not None:
        gain = before - found
        row["gain"] = round(float(gain.mean()), 4)
        row["gain_standard_error"] = round(float(gain.std(ddof=1)) / math.sqrt(len(gain)), 4)
    return row
