"""What scikit-learn asks of a classifier that it does not know. The package itself is loaded only when it asks."""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..contracts import Decision, InputError
from ..data.layouts import shown
from .enrolment import word_of
from .takes import Clips

E = TypeVar("E", bound="Estimator")


class Estimator:
    """Parameters by name, and the tags of a classifier whose inputs are lists of anything.

    By the conventions of scikit-learn (https://scikit-learn.org/stable/developers/develop.html) the constructor stores
    its parameters under their names and does nothing else, so that a clone is made of them.
    """

    PARAMETERS: ClassVar[tuple[str, ...]] = ()
    """What the constructor takes."""

    labels_: tuple[str, ...]
    _given_numbers: bool = False

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """What the constructor was given; no parameter is an estimator, so ``deep`` changes nothing."""
        return {name: getattr(self, name) for name in self.PARAMETERS}

    def set_params(self: E, **params: Any) -> E:
        """Change parameters, or none of them.

        Raises:
            InputError: a parameter that there is not.
        """
        for name in params:
            if name not in self.PARAMETERS:
                raise InputError(f"There is no parameter {shown(name)}; there are {', '.join(self.PARAMETERS)}.")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    @property
    def classes_(self) -> np.ndarray:
        """Enrolled words, sorted; numbers where ``fit`` was given numbers."""
        self._require_fitted()
        return np.array(sorted(int(label) for label in self.labels_) if self._in_numbers else sorted(self.labels_))

    @property
    def _in_numbers(self) -> bool:
        return self._given_numbers and all(label.removeprefix("-").isdecimal() for label in self.labels_)

    def _require_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise InputError("Nothing is enrolled yet; call fit with takes and their words first.")

    def decide(self, clips: Clips) -> list[Decision]:
        """One decision a clip."""
        raise NotImplementedError

    def score(self, clips: Clips, words: Sequence[Any] | np.ndarray) -> float:
        """Share of the clips that are named rightly. A refusal is wrong, but right where the word is None."""
        if len(clips) != len(words) or len(clips) == 0:
            raise InputError(f"{len(clips)} clips were given with {len(words)} words; give one word for each clip.")
        truth = [None if word is None else word_of(word) for word in words]
        said = [decision.label for decision in self.decide(clips)]
        return float(np.mean([one == other for one, other in zip(said, truth, strict=True)]))

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(two_d_array=False, string=True),
            no_validation=True,
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "state_")
