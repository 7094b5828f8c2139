"""What scikit-learn asks of a classifier that it does not know. The package itself is loaded only when it asks."""

from typing import Any, ClassVar, TypeVar

from ..contracts import InputError
from ..data.layouts import shown

E = TypeVar("E", bound="Estimator")


class Estimator:
    """Parameters by name, and the tags of a classifier whose inputs are lists of anything.

    By the conventions of scikit-learn (https://scikit-learn.org/stable/developers/develop.html) the constructor stores
    its parameters under their names and does nothing else, so that a clone is made of them.
    """

    PARAMETERS: ClassVar[tuple[str, ...]] = ()
    """What the constructor takes."""

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
