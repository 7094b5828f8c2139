"""Frozen models of a comparison: the section ``compare`` of a recipe."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from .commands import Experiment
from .loading import Strict

ALL = "all"


def as_list(value: Any) -> Any:
    """One name as a list of one."""
    return (value,) if isinstance(value, str) else value


def require_once(asked: Mapping[str, Sequence[Any]]) -> None:
    """Refuse a list, by its key, that names something twice, and ``learners`` that name all and others."""
    for key, values in asked.items():
        double = next((value for value in values if values.count(value) > 1), None)
        if double is not None:
            raise PydanticCustomError("twice", "{key} names {value} twice", {"key": key, "value": double})
        if key == "learners" and ALL in values and len(values) > 1:
            raise PydanticCustomError("learners", "learners names all and others; write one or the other")


class CompareConfig(Strict):
    """What is compared, and the budget that every learner has."""

    learners: Annotated[tuple[str, ...], BeforeValidator(as_list)] = (ALL,)
    """Keys of ``learners.presets.LEARNERS``, or ``all``. The baselines stand beside them in any case."""
    folds: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = ()
    """Sets to test on, by fold: those of one fold are left out together, with all their languages."""
    corpora: tuple[str, ...] = ()
    """Without folds: sets to test on after one training, with what the recipe itself leaves out."""
    shots: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 5), min_length=1)
    ways: int = Field(10, ge=2)
    """Words of an episode, at most; a set of fewer gives all it has."""
    queries: int = Field(5, ge=1)
    speakers: Literal["any", "disjoint"] = "any"
    """Whether a query may be spoken by somebody heard in the support."""
    episodes: int = Field(100, ge=2)
    """Of each set and number of shots, the same for every learner."""
    trials: int = Field(3, ge=1)
    """Settings that every learner may try, the first of which are its own."""
    minutes: float = Field(0.75, gt=0)
    """CPU-minutes of training in each trial, everything counted but validation."""
    validation_episodes: int = Field(20, ge=1)
    """Tasks of words held out of training that choose among the trials, for each number of shots."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Draws the settings that are tried and the episodes of the test; ``train.seed`` draws the training."""

    @model_validator(mode="after")
    def _fits(self) -> "CompareConfig":
        require_once({"shots": self.shots, "learners": self.learners})
        sets = [name for fold in self.folds for name in fold]
        double = next((name for name in (*sets, *self.corpora) if (*sets, *self.corpora).count(name) > 1), None)
        if double is not None:
            raise PydanticCustomError("twice", "{name} is tested on twice; name each set once", {"name": double})
        if self.folds and self.corpora:
            raise PydanticCustomError("sets", "there are both folds and corpora; keep one of the two")
        return self


class WordsComparison(Experiment):
    """An experiment with words, and the learners that it is to be made with."""

    compare: CompareConfig = CompareConfig()
