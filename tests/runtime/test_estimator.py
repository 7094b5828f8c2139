"""The recogniser as a classifier of scikit-learn: on lists of clips, paths and samples alike."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds

from metavox.checkpoint import Model, build
from metavox.contracts import FrontEnd, InputError
from metavox.learners.presets import BASELINES
from metavox.runtime.commands import CommandRecognizer
from metavox.runtime.negatives import Negatives, negatives_in

pytest.importorskip("sklearn")
from sklearn.base import BaseEstimator, TransformerMixin, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, cross_validate, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

RATE = sounds.RATE_HZ
WORDS, OTHERS = sounds.WORDS[:3], sounds.WORDS[6:9]


@pytest.fixture(scope="module")
def dtw() -> Model:
    """The baseline on windows of 24 frames, several times as fast."""
    config = BASELINES["dtw"].model_copy(update={"front_end": FrontEnd(normalize=False, n_frames=24)})
    return Model(build(config), config, "quick", "0" * 64, {})


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [f"word{number}" for number in range(20)]
    return sounds.word_folders(tmp_path_factory.mktemp("talk"), words, ("zoe",), 1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Four takes of each word: a path, text that names a path, and samples at two rates."""
    folder = tmp_path_factory.mktemp("clips")
    found: list[Any] = []
    for word in WORDS:
        found.append(sounds.write(folder / f"{word}-0.wav", sounds.say(word)))
        found.append(str(sounds.write(folder / f"{word}-1.flac", sounds.say(word, take=1))))
        found.append((sounds.say(word, take=2), RATE))
        found.append((sounds.say(word, take=3, rate_hz=44_100), 44_100))
    return found


@pytest.fixture(scope="module")
def words() -> list[str]:
    return [word for word in WORDS for _ in range(4)]


@pytest.fixture(scope="module")
def house(dtw: Model, clips: list[Any], words: list[str]) -> CommandRecognizer:
    return CommandRecognizer(dtw).fit(clips, words)


# --------------------------------------------------------------------------------------------------------- parameters


def test_parameters_are_stored_untouched_and_nothing_is_opened() -> None:
    given = {
        "model": "nowhere at all", "target": 0.1, "per_hour": True, "confidence": 0.9, "negatives": ["x"],
        "keep_audio": True,
    }  # fmt: skip
    house = CommandRecognizer(**given)
    params = house.get_params()
    assert params.keys() == given.keys()
    assert all(params[name] is given[name] for name in given)
    assert CommandRecognizer().get_params()["model"] == "metavox/commands-small"
    assert house.set_params(target=None, keep_audio=False) is house
    assert (house.target, house.keep_audio) == (None, False)
    with pytest.raises(InputError, match="no parameter 'margin'; there are model, target"):
        house.set_params(target=0.5, margin=1)
    assert house.target is None


def test_a_clone_has_the_parameters_and_nothing_else(
    dtw: Model, talk: Path, clips: list[Any], words: list[str]
) -> None:
    negatives = negatives_in([talk], dtw)
    for model, given in (("dtw", None), (dtw, negatives)):
        house = CommandRecognizer(model, target=0.3, negatives=given).fit(clips, words)
        again = clone(house)
        assert (again.target, again.negatives) == (0.3, given)
        with pytest.raises(InputError, match="Nothing is enrolled"):
            again.predict(clips)
        assert again.fit(clips, words).decide(clips) == house.decide(clips)


def test_a_deep_copy_decides_alike_and_goes_its_own_way(house: CommandRecognizer, clips: list[Any]) -> None:
    other = deepcopy(house)
    assert other.decide(clips) == house.decide(clips)
    other.remove(WORDS[0])
    assert WORDS[0] in house.labels_


def test_it_is_a_classifier(house: CommandRecognizer) -> None:
    assert is_classifier(house)
    tags = get_tags(house)
    assert tags.estimator_type == "classifier"
    assert tags.target_tags.required
    assert not tags.input_tags.two_d_array
    check_is_fitted(house)
    with pytest.raises(NotFittedError):
        check_is_fitted(clone(house))


# --------------------------------------------------------------------------------------------------- what it predicts


def test_classes_are_sorted_and_probabilities_follow_them(house: CommandRecognizer, clips: list[Any]) -> None:
    assert house.classes_.tolist() == sorted(WORDS)
    unknown = [(sounds.say(word), RATE) for word in OTHERS]
    found = house.predict_proba([*clips, *unknown])
    whole = house.predict_proba([*clips, *unknown], refusal=True)
    assert found.shape == (len(clips) + 3, 3)
    assert np.array_equal(whole[:, :3], found)
    assert (found > 0).all()
    assert (found.sum(1) < 1).all()
    np.testing.assert_allclose(whole.sum(1), 1)
    names = [*house.classes_.tolist(), None]
    assert [names[i] for i in whole.argmax(1)] == house.predict([*clips, *unknown])
    decision = house.decide(clips[:1])[0]
    assert sorted(decision.scores, key=lambda word: decision.scores[word]) == [
        house.classes_[i] for i in found[0].argsort()
    ]


def test_probabilities_need_two_takes_or_a_model_that_knows(dtw: Model, talk: Path) -> None:
    clips = [(sounds.say(word), RATE) for word in WORDS]
    house = CommandRecognizer(dtw, target=0.3, negatives=talk).fit(clips, list(WORDS))
    with pytest.raises(InputError, match="record two takes of a word, or use a trained model"):
        house.predict_proba(clips)


def test_the_score_counts_refusals(house: CommandRecognizer, clips: list[Any], words: list[str]) -> None:
    unknown = [(sounds.say(word), RATE) for word in OTHERS]
    said = house.predict([*clips, *unknown])
    truth = [*words, None, None, None]
    assert house.score([*clips, *unknown], truth) == np.mean([a == b for a, b in zip(said, truth, strict=True)])
    strict = deepcopy(house)
    strict.calibration_ = type(house.calibration_)(1e9, 0, 0, "enrolment")
    strict._revision = deepcopy(house._revision)
    assert strict.score(clips, words) == 0
    assert strict.score(unknown, [None] * 3) == 1
    assert house.score(clips, np.array(words)) == house.score(clips, words)


def test_numbers_can_be_classes(dtw: Model, clips: list[Any], words: list[str]) -> None:
    numbers = np.array([WORDS.index(word) * 5 for word in words])
    house = CommandRecognizer(dtw).fit(clips, numbers)
    assert house.classes_.tolist() == [0, 5, 10]  # not as text, where 10 stands before 5
    assert house.labels_ == ("0", "5", "10")
    assert house.predict(clips) == [None if word is None else int(word) for word in house.predict(clips)]
    assert house.score(clips, numbers) > 0.9
    assert house.predict_proba(clips).argmax(1).tolist() == [WORDS.index(word) for word in words]


# ------------------------------------------------------------------------------------------------------ model selection


def test_cross_validation(dtw: Model, clips: list[Any], words: list[str]) -> None:
    scores = cross_val_score(CommandRecognizer(dtw), clips, words, cv=2)
    assert scores.shape == (2,)
    assert scores.mean() > 0.7
    results = cross_validate(CommandRecognizer(dtw), clips, words, cv=2, return_estimator=True, error_score="raise")
    assert results["test_score"].tolist() == scores.tolist()
    for house in results["estimator"]:
        assert sorted(house.labels_) == sorted(WORDS)

    def refused(truth: Any, said: Any) -> float:
        return float(np.mean([word is None for word in said]))

    shares = cross_val_score(CommandRecognizer(dtw), clips, words, cv=2, scoring=make_scorer(refused))
    assert (shares <= 1 - scores).all()


def test_predictions_of_what_was_held_out(dtw: Model, clips: list[Any], words: list[str]) -> None:
    said = cross_val_predict(CommandRecognizer(dtw), clips, words, cv=2)
    assert len(said) == len(clips)
    assert set(said) <= {*WORDS, None}
    found = cross_val_predict(CommandRecognizer(dtw), clips, words, cv=2, method="predict_proba")
    assert found.shape == (len(clips), 3)
    assert np.mean([sorted(WORDS)[i] == word for i, word in zip(found.argmax(1), words, strict=True)]) > 0.9


def test_a_grid_search(dtw: Model, talk: Path, clips: list[Any], words: list[str]) -> None:
    embedded = negatives_in([talk], dtw)
    grid = {"target": [0.2, 0.5], "confidence": [0.8], "negatives": [embedded, [talk]]}
    search = GridSearchCV(CommandRecognizer(dtw), grid, cv=2, error_score="raise").fit(clips, words)
    assert len(search.cv_results_["params"]) == 4
    by_target = dict(zip(search.cv_results_["param_target"], search.cv_results_["mean_test_score"], strict=True))
    assert by_target[0.5] >= by_target[0.2]
    assert search.best_estimator_.calibration_.promise is not None
    assert search.score(clips, words) == search.best_estimator_.score(clips, words)
    assert isinstance(search.best_params_["negatives"], Negatives | list)


def test_the_last_step_of_a_pipeline(dtw: Model, clips: list[Any], words: list[str]) -> None:
    class Louder(TransformerMixin, BaseEstimator):
        def fit(self, clips: Any, words: Any = None) -> "Louder":
            return self

        def transform(self, clips: Any) -> Any:
            return [clip if not isinstance(clip, tuple) else (1.1 * clip[0], clip[1]) for clip in clips]

    pipe = Pipeline([("louder", Louder()), ("house", CommandRecognizer(dtw))])
    pipe.set_params(house__target=None, house__keep_audio=False)
    train, test, train_words, test_words = train_test_split(clips, words, test_size=3, stratify=words, random_state=0)
    pipe.fit(train, train_words)
    assert len(pipe.predict(test)) == 3
    assert pipe.score(test, test_words) > 0.6
    assert pipe.predict_proba(test).shape == (3, 3)
    assert pipe.classes_.tolist() == sorted(WORDS)
    assert is_classifier(pipe)
    assert cross_val_score(clone(pipe), clips, words, cv=2, error_score="raise").mean() > 0.7
    search = GridSearchCV(make_pipeline(CommandRecognizer(dtw)), {"commandrecognizer__target": [None, 0.5]}, cv=2)
    assert search.fit(clips, words).best_score_ > 0.7


def test_clips_and_words_may_be_arrays(dtw: Model, clips: list[Any], words: list[str]) -> None:
    paths = [clip for clip in clips if isinstance(clip, str | Path)]
    of_paths = [word for clip, word in zip(clips, words, strict=True) if isinstance(clip, str | Path)]
    house = CommandRecognizer(dtw).fit(np.array([str(path) for path in paths]), np.array(of_paths))
    assert house.labels_ == WORDS
    assert all(type(label) is str for label in house.labels_)
    assert house.predict(np.array([str(path) for path in paths])) == house.predict(paths)
