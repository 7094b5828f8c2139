"""Which of the enrolled voices is it, or is it nobody known: identification in an open set.

By Bayes' rule from the likelihood ratio of each voice, with the prior shared among them: the more voices there are,
the more one of them must stand out. No further correction for extremes among many is made. It was measured on 125
people (``classical.MfccStatistics``, cohort and ratios of 35 others, 3 clips enrolled, tests of 0.7 s and more):
unknown people were given a name with a probability of one half or more in 2.6, 2.0 and 0.5 % of tests with 5, 20 and
80 voices. A cap on the ratios named fewer of the enrolled; a steeper scale named more of both (both tried on the same
people, with scores divided by the deviation of a cohort).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..contracts import InputError
from .heard import Heard
from .models import MIN_SPEECH_S, UNSURE_S, VoiceModel
from .scoring import COMMON_WEIGHT, common, template
from .search import VoiceIndex

P_KNOWN = 0.5
N_TOP = 5
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Identified:
    """Whose voice a clip may be."""

    names: tuple[str, ...]
    """The likeliest first."""
    probabilities: tuple[float, ...]
    """Of each of ``names``."""
    unknown: float
    """The probability that it is nobody of the gallery."""
    llr: tuple[float, ...]
    """Of each of ``names`` on its own, whatever the gallery."""

    @property
    def name(self) -> str | None:
        """The likeliest answer; None for nobody known."""
        return self.names[0] if self.names and self.probabilities[0] > self.unknown else None


def posteriors(
    llr: Float[np.ndarray, "n V"], p_known: float = P_KNOWN
) -> tuple[Float[np.ndarray, "n V"], Float[np.ndarray, " n"]]:
    """Probability of each voice for each test, and of nobody, each voice being as likely before as any other.

    Raises:
        InputError: a prior outside 0 to 1, or no voices.
    """
    n_voices = llr.shape[1]
    _check_prior(p_known)
    if not n_voices:
        raise InputError("The gallery is empty; enrol a voice first.")
    voices = np.asarray(llr, np.float64) + math.log(p_known / n_voices)
    nobody = math.log(1 - p_known)
    highest = np.maximum(voices.max(axis=1), nobody)
    shares = np.exp(voices - highest[:, None])
    nobodys = np.exp(nobody - highest)
    total = shares.sum(axis=1) + nobodys
    return shares / total[:, None], nobodys / total


class Gallery:
    """Enrolled voices by name."""

    def __init__(self, model: VoiceModel, voices: Mapping[str, Heard]) -> None:
        _check(list(voices))
        self.model, self.names = model, tuple(voices)
        self._voices = list(voices.values())

    def identify(self, tests: Heard, p_known: float = P_KNOWN, top: int = N_TOP) -> list[Identified]:
        """Each test clip with its likeliest names.

        Args:
            tests: as the model of the gallery hears them.
            p_known: the probability, before anything is heard, that the speaker is in the gallery.
            top: names to give, at most.

        Raises:
            InputError: a model without calibration, an impossible prior, or no name asked for.
        """
        llr = self.model.llr(self._voices, tests)
        chances, nobody = posteriors(llr, p_known)
        return [
            _ranked(self.names, chance, unknown, ratio, _least(top))
            for chance, unknown, ratio in zip(chances, nobody, llr, strict=True)
        ]


class StoredGallery:
    """Very many voices: their templates in an index, and what normalisation and ratios need of each.

    The ratio is exact for 2000 candidates or more, the nearest by cosine among them. For all others the cosine is that
    of the index's first look, which only their sum in Bayes' rule rests on.
    """

    def __init__(
        self,
        model: VoiceModel,
        names: Sequence[str],
        templates: Float[np.ndarray, "V D"],
        speech_s: Float[np.ndarray, " V"],
        snr_db: Float[np.ndarray, " V"],
        *,
        folder: Path | None = None,
    ) -> None:
        """Voices that are enrolled elsewhere.

        Args:
            model: what heard them.
            names: one a voice.
            templates: ``scoring.template`` of each.
            speech_s: of all clips of each.
            snr_db: mean of the clips of each.
            folder: keep the vectors there (in the clear) and not in memory, which then holds 100 bytes a voice.

        Raises:
            InputError: no voices, or a name that comes twice.
        """
        _check(names)
        self.model, self._names, self.index = model, _Names(names), VoiceIndex.of(templates)
        if folder is not None:
            self.index.save(folder)
            self.index = VoiceIndex.opened(folder)
        self._log_s = np.log(np.clip(speech_s, MIN_SPEECH_S, UNSURE_S)).astype(np.float32)
        self._snr = (np.asarray(snr_db) / 20).astype(np.float32)
        self._common = np.zeros(len(names), np.float32)
        for start in range(0, len(names), 4096):
            self._common[start : start + 4096] = common(templates[start : start + 4096], model.cohort)

    @classmethod
    def of(cls, model: VoiceModel, voices: Mapping[str, Heard]) -> "StoredGallery":
        """Of voices as they are enrolled."""
        return cls(
            model,
            tuple(voices),
            np.stack([template(voice) for voice in voices.values()]) if voices else np.zeros((0, model.encoder.dim)),
            np.array([voice.speech_s.sum() for voice in voices.values()]),
            np.array([float(np.mean(voice.snr_db)) for voice in voices.values()]),
        )

    def identify(self, tests: Heard, p_known: float = P_KNOWN, top: int = N_TOP) -> list[Identified]:
        """As ``Gallery.identify``; what it gives is of the candidates."""
        _check_prior(p_known)
        return [self._one(tests.at([place]), p_known, _least(top)) for place in range(len(tests))]

    def _one(self, test: Heard, p_known: float, top: int) -> Identified:
        turned = self.index.turned(test.vectors[0])
        cosines = self.index.look(turned)
        places, exact = self.index.candidates(turned, top, cosines)
        cosines[places] = exact
        llr, evidence = self._ratios(cosines, test, places)
        prior = math.log(p_known / len(cosines))
        total = float(np.logaddexp(prior + evidence, math.log(1 - p_known)))
        order = np.argsort(-llr, kind="stable")[:top]
        return Identified(
            tuple(self._names[places[one]] for one in order),
            tuple(math.exp(prior + llr[one] - total) for one in order),
            math.exp(math.log(1 - p_known) - total),
            tuple(float(llr[one]) for one in order),
        )

    def _ratios(
        self, cosines: Float[np.ndarray, " V"], test: Heard, places: Int[np.ndarray, " k"]
    ) -> tuple[Float[np.ndarray, " k"], float]:
        """``VoiceModel.llr`` of one clip and the voices at ``places``; the logarithm of the sum of all ratios.

        Raises:
            InputError: the model has no calibration.
        """
        if self.model.ratios is None:
            self.model.llr([test], test)  # which refuses
        commonness = float(common(test.vectors, self.model.cohort)[0])
        evidence = -math.inf
        for start in range(0, len(cosines), _BLOCK):  # what fits a cache, and leaves memory alone
            block = self._llr(slice(start, start + _BLOCK), cosines, test, commonness)
            highest = float(block.max())
            evidence = float(np.logaddexp(evidence, highest + math.log(np.exp(block - highest).sum())))
        return self._llr(places, cosines, test, commonness), evidence

    def _llr(
        self,
        where: slice | Int[np.ndarray, " k"],
        cosines: Float[np.ndarray, " V"],
        test: Heard,
        commonness: float,
    ) -> Float[np.ndarray, " k"]:
        """Ratios of some voices, from cosines and what is stored."""
        score = cosines[where] - np.float32(COMMON_WEIGHT) * (self._common[where] + np.float32(commonness))
        log_s = math.log(min(max(float(test.speech_s[0]), MIN_SPEECH_S), UNSURE_S))
        known = {
            "score": score,
            "test_log_s": np.full(len(score), log_s),
            "enrolled_log_s": self._log_s[where],
            "test_snr": np.full(len(score), test.snr_db[0] / 20),
            "enrolled_snr": self._snr[where],
            "score_by_test_log_s": score * np.float32(log_s),
            "score_by_enrolled_log_s": score * self._log_s[where],
        }
        assert self.model.ratios is not None
        return self.model.ratios({name: known[name] for name in self.model.ratios.weights if name in known})


class _Names:
    """A million names in a tenth of what as many Python strings hold."""

    def __init__(self, names: Sequence[str]) -> None:
        coded = [name.encode("utf-8", "surrogatepass") for name in names]
        self._end = np.cumsum([len(one) for one in coded])
        self._text = b"".join(coded)

    def __getitem__(self, place: Any) -> str:
        start = int(self._end[place - 1]) if place else 0
        return self._text[start : int(self._end[place])].decode("utf-8", "surrogatepass")


def _ranked(
    names: Sequence[str],
    chances: Float[np.ndarray, " V"],
    nobody: float,
    llr: Float[np.ndarray, " V"],
    top: int,
) -> Identified:
    order = np.argsort(-chances, kind="stable")[:top]
    return Identified(
        tuple(names[place] for place in order),
        tuple(float(chances[place]) for place in order),
        float(nobody),
        tuple(float(llr[place]) for place in order),
    )


def _check_prior(p_known: float) -> None:
    if not 0 < p_known < 1:
        raise InputError(f"The prior p_known is {p_known:g}; give a probability between 0 and 1, such as 0.5.")


def _check(names: Sequence[str]) -> None:
    if not names:
        raise InputError("The gallery is empty; enrol a voice first.")
    if len(set(names)) < len(names):
        double = Counter(names).most_common(1)[0][0]
        raise InputError(f"The name {double!r} comes twice in the gallery; give each voice a name of its own.")


def _least(top: int) -> int:
    if top < 1:
        raise InputError(f"The best {top} names were asked for; ask for 1 or more.")
    return top
