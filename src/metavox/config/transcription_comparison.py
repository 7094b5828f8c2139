"""Frozen models of a comparison of recognisers: the section ``compare`` of a recipe for transcription."""

from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from .comparison import ALL, as_list, require_once
from .loading import Strict
from .transcription import TranscriptionExperiment


class TargetConfig(Strict):
    """One fold: what is learned from a few minutes, and what everybody starts from."""

    target: str
    """A corpus of transcribed speech, whose languages leave training."""
    base: str
    """A recogniser that never heard them: a folder of ``metavox train``, or a bundled name."""


class CompareTranscriptionConfig(Strict):
    """What is compared, and the budget that every learner has."""

    learners: Annotated[tuple[str, ...], BeforeValidator(as_list)] = (ALL,)
    """Keys of ``transcription.shelf.SHELF``, or ``all``. Fine-tuning the base as it is and training from random weights
    stand beside them in any case."""
    folds: tuple[TargetConfig, ...] = ()
    support_minutes: tuple[Annotated[float, Field(gt=0)], ...] = Field((5.0,), min_length=1)
    """Minutes of transcribed speech that a target gives."""
    draws: int = Field(2, ge=1)
    """Times that those minutes are drawn, the same for every learner."""
    max_test: int = Field(100, ge=10)
    """Utterances of each target that are heard after each draw, at most."""
    adapt_steps: int = Field(300, ge=1)
    """Steps of an adaptation, at most, the same for every learner that takes any: 40 and one for each second."""
    trials: int = Field(3, ge=1)
    """Settings that every learner may try, the first of which are its own."""
    minutes: float = Field(3.0, gt=0)
    """CPU-minutes in each trial for learning that goes on from the base; adapting is not counted."""
    validation_utterances: int = Field(50, ge=10)
    """Utterances, at most, of each target's pool that choose among the trials, after one draw from the rest of it."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Parts test and pool, and draws supports and the settings that are tried; ``train.seed`` draws the training."""

    @model_validator(mode="after")
    def _fits(self) -> "CompareTranscriptionConfig":
        targets = [fold.target for fold in self.folds]
        require_once({"support_minutes": self.support_minutes, "learners": self.learners, "folds": targets})
        return self


_SETTLED = {
    "recogniser": {"dropout"},
    "train": {"seed", "warmup", "weight_decay", "clip", "batch_s", "precision", "plain_share"},
    "learning": set(),
}
"""Of these sections, the only keys that mean something where learners go on from bases for a time."""


class TranscriptionComparison(TranscriptionExperiment):
    """What learning that goes on from a base hears, and the learners that it is to be made with."""

    compare: CompareTranscriptionConfig = CompareTranscriptionConfig()

    @model_validator(mode="after")
    def _asks_nothing_that_is_settled(self) -> "TranscriptionComparison":
        for section, known in _SETTLED.items():
            asked = getattr(self, section)
            odd = sorted(asked.model_fields_set - known)
            if odd:  # a fault of this key, and not of the whole recipe
                settled = PydanticCustomError(
                    "settled", "it is settled in a comparison by base, learner or budget; leave it away"
                )
                fault = InitErrorDetails(type=settled, loc=(section, odd[0]), input=getattr(asked, odd[0]))
                raise ValidationError.from_exception_data(type(self).__name__, [fault])
        return self
