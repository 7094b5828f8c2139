"""Averages of models as one estimator of scikit-learn, for its models and for ours."""

import warnings
from typing import Any

import numpy as np

from .averaging.predictions import (
    FORMS,
    all_identical,
    as_weights,
    identical_sentence,
    learned_regression_weights,
    learned_weights,
    log_mean,
    mean,
    require_alike,
)
from .averaging.predictions import IdenticalMembers as IdenticalMembers
from .contracts import InputError

try:
    from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier, is_regressor
    from sklearn.metrics import r2_score
    from sklearn.utils import ClassifierTags, RegressorTags, check_random_state, get_tags
    from sklearn.utils import _safe_indexing as items_at
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _num_samples as n_items
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d
except ImportError:
    raise InputError("ModelAverage needs scikit-learn, which is not installed; pip install 'metavox[eval]'.") from None

N_COMPARED = 200
"""Items at most that members are compared on to see whether they differ."""
ROUNDING = 1e-6
"""What the probabilities of the classes lack to 1 by rounding; more is the probability that it is none of them."""


class ModelAverage(MetaEstimatorMixin, BaseEstimator):
    """The average of several classifiers, or of several regressors.

    >>> ModelAverage([LogisticRegression()] * 10, bootstrap=True, random_state=0).fit(X, y)   # doctest: +SKIP
    >>> ModelAverage([("own", CommandRecognizer()), ("dtw", CommandRecognizer("dtw"))],
    ...              weights="learned").fit(clips, words)                                     # doctest: +SKIP

    It is what its members are: a classifier with ``predict_proba`` and ``classes_``, or a regressor. Inputs are
    handed on as they are, so that lists of clips will do where the members take them. Where members may refuse
    (``CommandRecognizer``) so may the average: ``predict`` gives None where "none of the words" is more probable on
    average than each of them.

    Averaging lowers what members disagree in. Members that are fitted alike on the same items predict the same, and
    then ``fit`` warns (``IdenticalMembers``): let them differ by data (``bootstrap``), seed or architecture.

    Attributes:
        estimators_: the fitted members.
        names_: what they are called.
        weights_: their weights, which sum to 1.
        validation_: positions of the items that were held out of fitting to learn the weights on; else none.
        classes_: of classifiers, the classes in the order of the columns of ``predict_proba``.
    """

    def __init__(
        self,
        estimators: Any,
        *,
        form: Any = "mean",
        weights: Any = None,
        validation_share: Any = 0.2,
        random_state: Any = None,
        bootstrap: Any = False,
    ) -> None:
        """Nothing is checked before ``fit``.

        Args:
            estimators: a list of classifiers or of regressors, or of pairs of a name and one of them.
            form: ``mean``, or for classifiers ``log-mean``, the normalised geometric mean of probabilities.
            weights: one for each member; None for equal ones; ``learned`` for those of the least log loss (classifiers)
                or squared error (regressors) on items that are held out of fitting.
            validation_share: how many items ``learned`` holds out.
            random_state: decides what is drawn, and seeds members whose own ``random_state`` is None.
            bootstrap: fit each member on its own draw of as many items, with replacement; classifiers draw within
                each class, so that every member knows all classes.
        """
        self.estimators = estimators
        self.form = form
        self.weights = weights
        self.validation_share = validation_share
        self.random_state = random_state
        self.bootstrap = bootstrap

    def fit(self, X: Any, y: Any, *, groups: Any = None) -> "ModelAverage":
        """Fit a clone of every member, and learn the weights where that is asked for.

        With ``groups`` (the speaker of each item) whole groups are held out for the weights.

        Raises:
            InputError: no member; classifiers beside regressors; members that know other classes; weights that are
                none; too few items to hold any out.
        """
        pairs, kind = self._checked()
        y = self._targets(y, kind)
        check_consistent_length(X, y, groups)
        classifies = kind == "classifier"
        random = check_random_state(self.random_state)
        fitted_on = np.arange(n_items(X))
        self.validation_ = fitted_on[:0]
        if self._learns:
            held = _held_out(y if classifies else None, groups, len(fitted_on), self.validation_share, random)
            self.validation_, fitted_on = np.flatnonzero(held), np.flatnonzero(~held)
        self.names_ = [name for name, _ in pairs]
        self.estimators_ = []
        for _, member in pairs:
            drawn = _drawn_again(y[fitted_on], classifies, random) if self.bootstrap else None
            chosen = fitted_on if drawn is None else fitted_on[drawn]
            everything = drawn is None and len(chosen) == len(y)
            one = _seeded(clone(member), random) if self.random_state is not None else clone(member)
            self.estimators_.append(one.fit(X, y) if everything else one.fit(_at(X, chosen), items_at(y, chosen)))
        if classifies:
            require_alike([one.classes_ for one in self.estimators_], self.names_)
            self.classes_ = np.asarray(self.estimators_[0].classes_)
        self.weights_ = self._weighed(X, y)
        self._warn_of_identical_members(X, y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The class of the greatest average probability, or None for a refusal; of regressors the average."""
        check_is_fitted(self, "weights_")
        if not self._classifies:
            return mean(self._predictions(X), self.weights_)
        probabilities = self._averaged(X)
        best = probabilities.argmax(1)
        refused = best == len(self.classes_)
        labels = self.classes_[np.where(refused, 0, best)]
        if refused.any():
            labels = labels.astype(object)
            labels[refused] = None
        return labels

    @available_if(lambda self: self._classifies)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Average probabilities of ``classes_``; what a row lacks to 1 is the probability that it is none of them."""
        check_is_fitted(self, "weights_")
        return self._averaged(X)[:, :-1]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the items that are named rightly, a refusal being wrong; of regressors R squared."""
        said = self.predict(X)
        if not self._classifies:
            return float(r2_score(y, said, sample_weight=sample_weight))
        right = [one == other for one, other in zip(said, column_or_1d(y), strict=True)]
        return float(np.average(right, weights=sample_weight))

    # ------------------------------------------------------------------------------------------------------- members

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Own parameters and, where ``deep``, members by name and their parameters as ``name__parameter``."""
        found = super().get_params(deep=False)
        if deep and _are_pairs(self.estimators):
            for name, member in self.estimators:
                found[name] = member
                found |= {f"{name}__{key}": value for key, value in member.get_params(deep=True).items()}
        return found

    def set_params(self, **params: Any) -> "ModelAverage":
        """Change own parameters, members (by name) or theirs (``name__parameter``)."""
        if "estimators" in params:
            self.estimators = params.pop("estimators")
        if _are_pairs(self.estimators):
            replaced = {name: params.pop(name) for name, _ in self.estimators if name in params}
            if replaced:
                self.estimators = [(name, replaced.get(name, member)) for name, member in self.estimators]
        super().set_params(**params)
        return self

    @property
    def named_estimators_(self) -> dict[str, Any]:
        """Fitted members by name."""
        check_is_fitted(self, "weights_")
        return dict(zip(self.names_, self.estimators_, strict=True))

    @property
    def n_features_in_(self) -> int:
        """As many as the members saw; only where they count them."""
        try:
            check_is_fitted(self, "weights_")
            return self.estimators_[0].n_features_in_
        except (ValueError, AttributeError) as error:
            raise AttributeError(f"{type(self).__name__} has no n_features_in_: {error}") from error

    @property
    def feature_names_in_(self) -> np.ndarray:
        """What the members saw; only where they saw names."""
        try:
            check_is_fitted(self, "weights_")
            return self.estimators_[0].feature_names_in_
        except (ValueError, AttributeError) as error:
            raise AttributeError(f"{type(self).__name__} has no feature_names_in_: {error}") from error

    @property
    def _learns(self) -> bool:
        return isinstance(self.weights, str)

    @property
    def _classifies(self) -> bool:
        members = [member for _, member in _pairs(self.estimators)]
        return bool(members) and all(is_classifier(member) for member in members)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        members = [get_tags(member) for _, member in _pairs(self.estimators)]
        kinds = {one.estimator_type for one in members}
        tags.estimator_type = kinds.pop() if len(kinds) == 1 else None
        tags.target_tags.required = True
        if tags.estimator_type == "classifier":
            tags.classifier_tags = ClassifierTags(multi_class=all(one.classifier_tags.multi_class for one in members))
        elif tags.estimator_type == "regressor":
            tags.regressor_tags = RegressorTags()
        for what in ("two_d_array", "sparse", "string", "allow_nan", "categorical"):
            setattr(tags.input_tags, what, bool(members) and all(getattr(one.input_tags, what) for one in members))
        tags.no_validation = any(one.no_validation for one in members)
        tags.non_deterministic = any(one.non_deterministic for one in members)
        return tags

    # --------------------------------------------------------------------------------------------------------- fitting

    def _checked(self) -> tuple[list[tuple[str, Any]], str]:
        """The members and what they are, where all parameters fit each other."""
        pairs = _pairs(self.estimators)
        as_weights(None, len(pairs))
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1 or "__" in name or name in super().get_params(deep=False):
                raise InputError(f"A member cannot be called {name!r}; give each its own name, none of a parameter.")
        n_classifiers = sum(is_classifier(member) for _, member in pairs)
        for name, member in pairs:
            if not is_classifier(member) and not is_regressor(member):
                raise InputError(f"{name} is a {type(member).__name__}; average classifiers or regressors.")
        if n_classifiers not in (0, len(pairs)):
            others = len(pairs) - n_classifiers
            raise InputError(f"{n_classifiers} classifiers stand beside {others} regressors; average one kind alone.")
        if self.form not in FORMS:
            raise InputError(f"The form {self.form!r} is none; choose {' or '.join(FORMS)}.")
        if self.form == "log-mean" and not n_classifiers:
            raise InputError("Regressors have no probabilities for a log-mean; average them with form='mean'.")
        for name, member in pairs:
            if n_classifiers and not hasattr(member, "predict_proba"):
                raise InputError(f"{name} gives no probabilities; wrap it, for example in CalibratedClassifierCV.")
        if self._learns and self.weights != "learned":
            raise InputError(f"The weights {self.weights!r} are none; give numbers, None or 'learned'.")
        if self._learns and not 0 < self.validation_share < 1:
            raise InputError(f"The validation share is {self.validation_share:g}; give one between 0 and 1.")
        if not isinstance(self.weights, str):
            as_weights(self.weights, len(pairs))
        return pairs, "classifier" if n_classifiers else "regressor"

    def _targets(self, y: Any, kind: str) -> np.ndarray:
        if y is None:
            raise InputError(
                f"{type(self).__name__} requires y to be passed, but the target y is None; give one target an item."
            )
        if kind == "classifier":
            check_classification_targets(y)
        return column_or_1d(y, warn=True)

    def _weighed(self, X: Any, y: np.ndarray) -> np.ndarray:
        if not isinstance(self.weights, str):
            return as_weights(self.weights, len(self.estimators_))
        held, truth = _at(X, self.validation_), y[self.validation_]
        if not self._classifies:
            return learned_regression_weights(self._predictions(held), np.asarray(truth, np.float64))
        positions = {label: at for at, label in enumerate(self.classes_.tolist())}
        labels = np.array([positions[label] for label in truth.tolist()])
        return learned_weights(_logarithms(self._probabilities(held)), labels, self.form)

    def _warn_of_identical_members(self, X: Any, y: np.ndarray) -> None:
        """Compare on held-out items where there are some, else on the first, and on others made of their columns.

        Members that know their training items by heart agree on these and perhaps nowhere else; that says nothing.
        """
        if len(self.estimators_) < 2:
            return
        held = len(self.validation_) > 0
        positions = self.validation_[:N_COMPARED] if held else np.arange(len(y))[:N_COMPARED]
        items = _at(X, positions)
        ask = self._probabilities if self._classifies else self._predictions
        said = ask(items)
        if not all_identical(said):
            return
        if not held and isinstance(items, np.ndarray) and items.ndim == 2:
            elsewhere = np.random.default_rng(0).permuted(items, axis=0)
            if not all_identical(ask(elsewhere)):
                return
        elif not held and np.array_equal(self.estimators_[0].predict(items), y[positions]):
            return
        warnings.warn(identical_sentence(len(self.estimators_)), IdenticalMembers, stacklevel=3)

    # ------------------------------------------------------------------------------------------------------ predicting

    def _predictions(self, X: Any) -> np.ndarray:
        """(K, N) what regressors say."""
        return np.stack([np.asarray(one.predict(X), np.float64) for one in self.estimators_])

    def _probabilities(self, X: Any) -> np.ndarray:
        """(K, N, C + 1) what classifiers say; the last column is the probability that it is none of the classes."""
        found = np.stack([np.asarray(one.predict_proba(X), np.float64) for one in self.estimators_])
        rest = 1 - found.sum(-1, keepdims=True)
        return np.concatenate([found, np.where(rest > ROUNDING, rest, 0.0)], axis=-1)

    def _averaged(self, X: Any) -> np.ndarray:
        """(N, C + 1) the average of probabilities."""
        probabilities = self._probabilities(X)
        if self.form == "mean":
            return mean(probabilities, self.weights_)
        return np.exp(log_mean(_logarithms(probabilities), self.weights_))


# ------------------------------------------------------------------------------------------------------------- details


def _are_pairs(estimators: Any) -> bool:
    return isinstance(estimators, tuple | list) and all(
        isinstance(one, tuple | list) and len(one) == 2 and isinstance(one[0], str) for one in estimators
    )


def _pairs(estimators: Any) -> list[tuple[str, Any]]:
    """Members with their names; those without are called by their class and place."""
    if not isinstance(estimators, tuple | list):
        return []
    if _are_pairs(estimators):
        return [(name, member) for name, member in estimators]
    return [(f"{type(member).__name__.lower()}-{at}", member) for at, member in enumerate(estimators, 1)]


def _at(X: Any, positions: np.ndarray) -> Any:
    if hasattr(X, "tocsr"):
        X = X.tocsr()
    return items_at(X if hasattr(X, "__getitem__") else np.asarray(X), positions)


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(probabilities)


def _seeded(member: Any, random: np.random.RandomState) -> Any:
    """The member with a seed of its own for each ``random_state`` that it leaves open."""
    open_to = [
        name
        for name, value in sorted(member.get_params(deep=True).items())
        if value is None and name.rpartition("__")[2] == "random_state"
    ]
    return member.set_params(**{name: int(random.randint(2**31 - 1)) for name in open_to}) if open_to else member


def _drawn_again(y: np.ndarray, by_class: bool, random: np.random.RandomState) -> np.ndarray:
    """Positions drawn with replacement; of each class as many as there are."""
    if not by_class:
        return random.randint(len(y), size=len(y)) if len(y) else np.arange(0)
    drawn = [random.choice(np.flatnonzero(y == label), size=int((y == label).sum())) for label in np.unique(y)]
    return np.concatenate(drawn) if drawn else np.arange(0)


def _held_out(
    labels: np.ndarray | None, groups: Any, n: int, share: float, random: np.random.RandomState
) -> np.ndarray:
    """Which of ``n`` items are held out: of each class alike, at least one of it staying behind; or whole groups."""
    wanted = max(1, round(share * n))
    held = np.zeros(n, bool)
    if groups is not None:
        names, which = np.unique(np.asarray(groups), return_inverse=True)
        if len(names) < 2:
            raise InputError(f"There are {len(names)} groups to hold one out of; give at least 2, or no groups.")
        for group in random.permutation(len(names))[:-1]:
            if held.sum() < wanted:
                held |= which == group
        lost = [] if labels is None else sorted(set(labels[held].tolist()) - set(labels[~held].tolist()))
        if lost:
            raise InputError(
                f"Only groups that are held out hold the class {lost[0]}; give another random_state, or no groups."
            )
        return held
    kinds = np.zeros(n, int) if labels is None else np.unique(labels, return_inverse=True)[1]
    ranks = np.full(n, np.inf)
    for kind in np.unique(kinds):
        own = random.permutation(np.flatnonzero(kinds == kind))
        ranks[own[:-1]] = (np.arange(len(own) - 1) + random.random_sample()) / len(own)
    held[np.argsort(ranks, kind="stable")[:wanted]] = True
    held &= np.isfinite(ranks)
    if not held.any():
        raise InputError(
            f"Nothing can be held out of n_samples={n} to learn weights on; give 2 of a class, or weights."
        )
    return held
