"""The average of models as an estimator of scikit-learn: of its models, and of ours on lists of clips."""

import warnings
from typing import Any

import numpy as np
import pytest
import sounds

from metavox import ModelAverage
from metavox.averaging.predictions import log_mean
from metavox.checkpoint import Model, build
from metavox.contracts import FrontEnd, InputError
from metavox.estimators import IdenticalMembers
from metavox.learners.presets import BASELINES
from metavox.runtime.commands import CommandRecognizer

pytest.importorskip("sklearn")
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import check_estimator

CLASSIFIERS = [("line", LogisticRegression()), ("tree", DecisionTreeClassifier(max_depth=3, random_state=0))]
REGRESSORS = [("line", Ridge()), ("tree", DecisionTreeRegressor(max_depth=4, random_state=0))]


def clouds(n: int = 150, seed: int = 0, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Items of three overlapping classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    return np.eye(3)[y] * 2 + spread * rng.standard_normal((n, 3)), np.array(["down", "stop", "up"])[y]


def slope(n: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 4))
    return X, X @ [1.0, -2.0, 0.5, 0.0] + np.sin(3 * X[:, 0]) + 0.3 * rng.standard_normal(n)


# ---------------------------------------------------------------------------------------------- what scikit-learn asks


@pytest.mark.parametrize(
    ("members", "options"),
    [
        (CLASSIFIERS, {}),
        (CLASSIFIERS, {"weights": "learned", "form": "log-mean"}),
        (REGRESSORS, {"weights": "learned"}),
        ([LinearRegression(), DecisionTreeRegressor(max_depth=4)], {"bootstrap": True}),
    ],
    ids=["classifier", "classifier-learned-log-mean", "regressor-learned", "regressor-bootstrap"],
)
def test_scikit_learn_finds_no_fault(members: list[Any], options: dict[str, Any]) -> None:
    """Nothing is expected to fail; what is skipped needs pandas, or is about other kinds of arrays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(ModelAverage(members, **options), on_skip=None)
    told = {one["check_name"]: one["status"] for one in results}
    assert set(told.values()) <= {"passed", "skipped"}
    skipped = {name for name, status in told.items() if status == "skipped"}
    assert skipped <= {"check_array_api_input", *(f"check_{kind}_data_not_an_array" for kind in KINDS)}
    assert len(told) > 40


KINDS = ("classifier", "regressor")


def test_it_is_what_its_members_are() -> None:
    assert is_classifier(ModelAverage(CLASSIFIERS))
    assert not hasattr(ModelAverage(REGRESSORS), "predict_proba")
    assert is_regressor(ModelAverage(REGRESSORS))
    assert is_classifier(ModelAverage([ModelAverage(CLASSIFIERS), LogisticRegression()]))
    mixed = ModelAverage([*CLASSIFIERS, ("ridge", Ridge())])
    assert not is_classifier(mixed)
    assert not is_regressor(mixed)


def test_it_can_be_cloned_searched_and_told_of_members_by_name() -> None:
    X, y = clouds()
    average = ModelAverage(CLASSIFIERS)
    search = GridSearchCV(average, {"tree__max_depth": [1, 4], "form": ["mean", "log-mean"]}, cv=2).fit(X, y)
    assert set(search.best_params_) == {"tree__max_depth", "form"}
    changed = clone(average).set_params(line=GaussianNB(), tree__max_depth=1)
    assert isinstance(changed.get_params()["line"], GaussianNB)
    assert average.get_params()["tree__max_depth"] == 3
    assert cross_val_score(average, X, y, cv=2).mean() > 0.5


def test_members_without_names_are_called_by_their_class_pipelines_too() -> None:
    X, y = clouds()
    members = [make_pipeline(StandardScaler(), LogisticRegression()), GaussianNB()]
    average = clone(ModelAverage(members)).fit(X, y)
    assert list(average.named_estimators_) == ["pipeline-1", "gaussiannb-2"]
    assert average.n_features_in_ == 3
    with pytest.raises(NotFittedError):
        ModelAverage(members).predict(X)


# --------------------------------------------------------------------------------------------------- what it computes


def test_probabilities_are_the_means_of_the_members() -> None:
    X, y = clouds()
    members = [member.fit(X, y).predict_proba(X) for _, member in clone(ModelAverage(CLASSIFIERS)).estimators]
    arithmetic = ModelAverage(CLASSIFIERS, weights=[3, 1]).fit(X, y)
    np.testing.assert_allclose(arithmetic.predict_proba(X), 0.75 * members[0] + 0.25 * members[1], atol=1e-12)
    np.testing.assert_array_equal(arithmetic.predict(X), arithmetic.classes_[arithmetic.predict_proba(X).argmax(1)])
    assert arithmetic.score(X, y) == (arithmetic.predict(X) == y).mean()
    geometric = ModelAverage(CLASSIFIERS, form="log-mean", weights=[3, 1]).fit(X, y)
    with np.errstate(divide="ignore"):
        expected = np.exp(log_mean(np.log(members), [3, 1]))
    np.testing.assert_allclose(geometric.predict_proba(X), expected, atol=1e-12)


def test_regressors_are_averaged_and_scored_as_regressors() -> None:
    X, y = slope()
    average = ModelAverage(REGRESSORS).fit(X, y)
    said = [one.predict(X) for one in average.estimators_]
    np.testing.assert_allclose(average.predict(X), np.mean(said, axis=0), atol=1e-12)
    assert average.score(X, y) == pytest.approx(1 - ((average.predict(X) - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())


@pytest.mark.parametrize("form", ["mean", "log-mean"])
def test_learned_weights_come_from_items_that_no_member_was_fitted_on(form: Any) -> None:
    """A member that knows its training items by heart wins there; on held-out items it does not."""
    X, y = clouds(400, spread=2.0)
    members = [("line", LogisticRegression()), ("heart", DecisionTreeClassifier(random_state=0))]
    average = ModelAverage(members, form=form, weights="learned", random_state=0).fit(X, y)
    assert len(average.validation_) == 80
    rest = np.setdiff1d(np.arange(400), average.validation_)
    line = clone(members[0][1]).fit(X[rest], y[rest])
    np.testing.assert_allclose(average.estimators_[0].coef_, line.coef_)
    assert average.weights_[0] > 0.8
    held, truth = X[average.validation_], y[average.validation_]
    best = log_loss(truth, average.predict_proba(held))
    for weights in ([1, 1], [1, 0], [0.6, 0.4]):
        other = clone(average).set_params(weights=weights).fit(X[rest], y[rest])
        assert best <= log_loss(truth, other.predict_proba(held)) + 1e-6


def test_learned_weights_of_regressors_leave_out_a_bad_member() -> None:
    X, y = slope(400)
    members = [("line", Ridge()), ("flat", Ridge(alpha=1e9)), ("tree", DecisionTreeRegressor(max_depth=6))]
    average = ModelAverage(members, weights="learned", random_state=0).fit(X, y)
    assert average.weights_[1] < 0.01
    assert min(average.weights_[0], average.weights_[2]) > 0.1


def test_every_class_keeps_an_item_to_fit_on_and_whole_groups_are_held_out() -> None:
    X, y = clouds(30)
    y[:] = "up"
    y[:3] = ["down", "stop", "stop"]
    average = ModelAverage(CLASSIFIERS, weights="learned", validation_share=0.9, random_state=0).fit(X, y)
    assert 0 not in average.validation_
    assert not {1, 2} <= set(average.validation_)
    assert len(average.validation_) == 27
    X, y = clouds(60)
    speakers = np.repeat(["ann", "ben", "cyd", "dee", "eve"], 12)
    average.fit(X, y, groups=speakers)
    held = set(speakers[average.validation_])
    assert held
    assert not held & set(np.delete(speakers, average.validation_))


def test_bootstrap_makes_alike_members_differ_and_a_seed_repeats_them() -> None:
    X, y = clouds(60)
    average = ModelAverage([LogisticRegression()] * 4, bootstrap=True, random_state=3)
    one, other = clone(average).fit(X, y), clone(average).fit(X, y)
    assert len({member.coef_.tobytes() for member in one.estimators_}) == 4
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))
    rare = y.copy()
    rare[0] = "rare"
    drawn = clone(average).fit(X, rare)
    assert all("rare" in member.classes_ for member in drawn.estimators_)


def test_a_seed_reaches_the_members_that_leave_theirs_open() -> None:
    X, y = clouds()
    trees = ModelAverage([DecisionTreeClassifier(max_features=1), DecisionTreeClassifier(random_state=7)])
    fitted = trees.set_params(random_state=0).fit(X, y)
    assert isinstance(fitted.estimators_[0].random_state, int)
    assert fitted.estimators_[1].random_state == 7


# --------------------------------------------------------------------------------------------------- identical members


def test_identical_members_are_named_for_what_they_are() -> None:
    sentence = "these 5 models make identical predictions: averaging changes nothing; vary data, seed or architecture"
    X, y = clouds()
    with pytest.warns(IdenticalMembers) as told:
        ModelAverage([LogisticRegression()] * 5).fit(X, y)
    assert [str(one.message) for one in told] == [sentence]
    X, y = slope()
    for options in ({}, {"weights": "learned", "random_state": 0}):
        with pytest.warns(IdenticalMembers, match="these 5 models"):
            average = ModelAverage([LinearRegression()] * 5, **options).fit(X, y)
        np.testing.assert_allclose(average.weights_, 0.2)
        np.testing.assert_allclose(average.predict(X), average.estimators_[0].predict(X), rtol=1e-12)


def test_identical_trees_are_found_and_trees_that_agree_on_their_training_items_only_are_not() -> None:
    X, y = slope()
    with pytest.warns(IdenticalMembers):
        ModelAverage([DecisionTreeRegressor(random_state=0)] * 3).fit(X, y)
    differ = [DecisionTreeRegressor(max_features=1, random_state=seed) for seed in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", IdenticalMembers)
        ModelAverage(differ).fit(X, y)
        ModelAverage([LinearRegression()] * 3, bootstrap=True, random_state=0).fit(X, y)
        ModelAverage([LinearRegression()]).fit(X, y)


# ------------------------------------------------------------------------------------------------------- our recogniser


WORDS = sounds.WORDS[:3]


def recogniser(n_frames: int) -> CommandRecognizer:
    config = BASELINES["dtw"].model_copy(update={"front_end": FrontEnd(normalize=False, n_frames=n_frames)})
    model = Model(build(config), config, f"frames-{n_frames}", str(n_frames).zfill(64), {})
    return CommandRecognizer(model, target=None)


@pytest.fixture(scope="module")
def clips() -> list[Any]:
    return [(sounds.say(word, take=take), sounds.RATE_HZ) for word in WORDS for take in range(4)]


@pytest.fixture(scope="module")
def words() -> list[str]:
    return [word for word in WORDS for _ in range(4)]


@pytest.mark.parametrize("options", [{}, {"weights": "learned"}, {"form": "log-mean"}, {"bootstrap": True}], ids=str)
def test_recognisers_are_averaged_on_lists_of_clips(
    clips: list[Any], words: list[str], options: dict[str, Any]
) -> None:
    average = ModelAverage([("coarse", recogniser(12)), ("fine", recogniser(24))], random_state=0, **options)
    average.fit(clips, words)
    new = [(sounds.say(word, take=9), sounds.RATE_HZ) for word in WORDS]
    assert list(average.predict(new)) == list(WORDS)
    assert average.score(new, list(WORDS)) == 1
    probabilities = average.predict_proba(new)
    assert probabilities.shape == (3, 3)
    assert (probabilities.sum(1) <= 1 + 1e-9).all()


def test_an_average_of_recognisers_refuses_as_they_do(clips: list[Any], words: list[str]) -> None:
    average = ModelAverage([recogniser(12), recogniser(24)]).fit(clips, words)
    noise = (0.1 * np.random.default_rng(0).standard_normal(sounds.RATE_HZ).astype(np.float32), sounds.RATE_HZ)
    assert [one.predict([noise]) for one in average.estimators_] == [[None], [None]]
    heard = average.predict([noise, clips[0]])
    assert heard.tolist() == [None, words[0]]
    assert average.predict_proba([noise]).sum() < 0.5
    assert average.score([noise, clips[0]], [words[0], words[0]]) == 0.5


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("average", "sentence"),
    [
        (ModelAverage([]), "There are 0 models to average; give at least 1"),
        (ModelAverage([*CLASSIFIERS, ("r", Ridge())]), "2 classifiers stand beside 1 regressors; average one kind"),
        (ModelAverage([("scaler", StandardScaler())]), "scaler is a StandardScaler; average classifiers or regressors"),
        (ModelAverage([LinearSVC()]), "linearsvc-1 gives no probabilities; wrap it"),
        (ModelAverage(CLASSIFIERS, weights=[1]), r"Weights of shape \(1,\) were given for 2 models"),
        (ModelAverage(CLASSIFIERS, weights=[1, -1]), "Weight 2 of 2 is -1"),
        (ModelAverage(CLASSIFIERS, weights=[1, np.nan]), "Weight 2 of 2 is nan"),
        (ModelAverage(CLASSIFIERS, weights="best"), "The weights 'best' are none; give numbers, None or 'learned'"),
        (ModelAverage(CLASSIFIERS, weights="learned", validation_share=1.0), "The validation share is 1"),
        (ModelAverage([("a", GaussianNB()), ("a", GaussianNB())]), "A member cannot be called 'a'"),
        (ModelAverage([("form", GaussianNB())]), "A member cannot be called 'form'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_averaged_is_refused(average: ModelAverage, sentence: str) -> None:
    X, y = clouds(30)
    with pytest.raises(InputError, match=sentence):
        average.fit(X, y)


def test_forms_that_there_are_not_are_refused() -> None:
    X, y = slope(20)
    with pytest.raises(InputError, match="Regressors have no probabilities for a log-mean"):
        ModelAverage(REGRESSORS, form="log-mean").fit(X, y)
    with pytest.raises(InputError, match="The form 'median' is none; choose mean or log-mean"):
        ModelAverage(REGRESSORS).set_params(form="median").fit(X, y)


class Forgetful(GaussianNB):
    """A member that never learns the last class."""

    def fit(self, X: Any, y: Any) -> "Forgetful":
        return super().fit(X[y != y.max()], y[y != y.max()])


def test_members_that_know_other_classes_are_refused() -> None:
    X, y = clouds(60)
    numbers = np.unique(y, return_inverse=True)[1]
    with pytest.raises(InputError, match="b knows 2 classes and a knows 3, and only one of them knows 2"):
        ModelAverage([("a", GaussianNB()), ("b", Forgetful())]).fit(X, numbers)


def test_what_cannot_be_held_out_is_refused() -> None:
    X, y = clouds(60)
    learned = ModelAverage(CLASSIFIERS, weights="learned", random_state=0)
    with pytest.raises(InputError, match="Nothing can be held out of n_samples=3"):
        learned.fit(X[:3], np.array(["a", "b", "c"]))
    with pytest.raises(InputError, match="There are 1 groups to hold one out of"):
        learned.fit(X, y, groups=["ann"] * 60)
    with pytest.raises(InputError, match="Only groups that are held out hold the class"):
        learned.fit(X[:3], np.array(["a", "b", "c"]), groups=["ann", "ben", "cyd"])
