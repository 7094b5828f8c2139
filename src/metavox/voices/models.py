"""A model of voices: an encoder, other people's voices to compare against, and the map to log-likelihood ratios."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from ..calibration.ratios import Ratios
from ..contracts import InputError, VoiceEncoder
from .heard import Heard
from .scoring import normalised
from .speech import spoken

MIN_SPEECH_S = 0.1
"""Less speech than this is repeated until it is as long; who must be sure asks for more (``runtime.verifier``)."""
UNSURE_S = 30.0
"""More speech than this makes nobody surer, as clips of one day share what is wrong with them."""


class StoredRatios(BaseModel):
    """A calibration as the files of a model hold it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    weights: dict[str, float]
    bias: float

    @property
    def ratios(self) -> Ratios:
        """What it is good for."""
        return Ratios(self.weights, self.bias)


@dataclass(frozen=True)
class VoiceModel:
    """What tells voices apart, and by how much."""

    encoder: VoiceEncoder
    name: str
    hash: str
    """Of everything that a log-likelihood ratio depends on but the clips."""
    cohort: Float[np.ndarray, "M D"]
    """Unit vectors, one a voice, of people who are in nobody's gallery."""
    ratios: Ratios | None
    """None where nothing is calibrated: scores rank, and say no probability."""
    about: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    turns: Ratios | None = None
    """One person against two of two sides of a clip (``turns.Sides``); None where it was not learned."""

    def hear(self, waves: Sequence[Float[np.ndarray, " _S"]]) -> Heard:
        """Clips (S,) in [-1, 1] at the rate of the encoder as vectors, pauses left out."""
        found = [spoken(wave, self.encoder.rate_hz) for wave in waves]
        least = round(MIN_SPEECH_S * self.encoder.rate_hz)
        heard = [one.wave if len(one.wave) >= least else np.resize(one.wave, least) for one in found]
        vectors = self.encoder.embed(heard) if heard else np.zeros((0, self.encoder.dim), np.float32)
        return Heard(vectors, np.array([one.speech_s for one in found]), np.array([one.snr_db for one in found]))

    def scores(self, voices: Sequence[Heard], tests: Heard) -> Float[np.ndarray, "n V"]:
        """Normalised scores of each test clip against each enrolled voice; they rank, and a higher one is nearer."""
        return normalised(voices, tests, self.cohort)

    def features(self, voices: Sequence[Heard], tests: Heard) -> dict[str, Float[np.ndarray, "n V"]]:
        """What the log-likelihood ratio of each trial may rest on: score, and how much it rests on itself."""
        return features(self.scores(voices, tests), voices, tests)

    def llr(self, voices: Sequence[Heard], tests: Heard) -> Float[np.ndarray, "n V"]:
        """Natural logarithm of the likelihood ratio, same voice over another, of each test clip and enrolled voice.

        Raises:
            InputError: the model has no calibration.
        """
        if self.ratios is None:
            raise InputError(
                f"{self.name} has no calibration, so its scores are no likelihood ratios; make one with "
                "`metavox speaker calibrate`, from recordings of other speakers."
            )
        return self.ratios(self.features(voices, tests))

    def with_ratios(self, ratios: Ratios) -> "VoiceModel":
        """The same with another calibration."""
        return replace(self, ratios=ratios)


def features(
    scores: Float[np.ndarray, "n V"], voices: Sequence[Heard], tests: Heard
) -> dict[str, Float[np.ndarray, "n V"]]:
    """Score of each trial with the logarithm of its speech on either side, and how clean either is."""

    def of_tests(values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, np.float64)[:, None], scores.shape)

    def of_voices(values: list[float]) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, np.float64), scores.shape)

    test_s = of_tests(np.log(np.clip(tests.speech_s, MIN_SPEECH_S, UNSURE_S)))
    enrolled_s = of_voices([np.log(np.clip(voice.speech_s.sum(), MIN_SPEECH_S, UNSURE_S)) for voice in voices])
    return {
        "score": np.asarray(scores, np.float64),
        "test_log_s": test_s,
        "enrolled_log_s": enrolled_s,
        "test_snr": of_tests(tests.snr_db / 20),
        "enrolled_snr": of_voices([float(np.mean(voice.snr_db)) / 20 for voice in voices]),
        "score_by_test_log_s": np.asarray(scores, np.float64) * test_s,
        "score_by_enrolled_log_s": np.asarray(scores, np.float64) * enrolled_s,
    }
