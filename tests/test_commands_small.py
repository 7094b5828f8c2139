"""The model of words that ships: small, licensed, trained on what may ship, and right about words it never heard."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import sounds
from bundles import MAY_SHIP, SOURCES, require_small_and_licensed

from metavox import CommandRecognizer
from metavox.checkpoint import BUNDLED, NEGATIVES, load_model
from metavox.data.manifests import load_corpus
from metavox.runtime.negatives import negatives_of

NAME = "metavox/commands-small"
FOLDER = BUNDLED / "commands-small"


def test_the_bundle_is_small_and_licensed() -> None:
    more = ("speech-to-intent-benchmark", "Precise Community Data")
    require_small_and_licensed(FOLDER, 4_000_000, (*SOURCES, *more))


def test_it_heard_only_what_may_train_what_ships() -> None:
    about = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["about"]
    heard = {name.removesuffix("-words") for name in about["corpora"]}
    named = heard | set(about["cohort"]["corpora"]) | set(about["negatives"]["corpora"])
    odd = named - MAY_SHIP
    assert len(odd) <= 1  # the synthetic words, named by their specification
    assert about["left_out"] == []


def test_it_brings_a_cohort_and_negatives() -> None:
    model = load_model(NAME)
    assert model.name == NAME
    assert (FOLDER / NEGATIVES).is_file()
    found = negatives_of(model)
    assert found is not None
    assert len(found) == 1200
    assert found.hours == pytest.approx(model.about["negatives"]["hours"])
    assert len(model.learner.cohort) == model.config.learner.cohort == 200


def test_it_is_what_a_recogniser_opens_by_default_and_refuses_what_it_was_not_taught() -> None:
    words = sounds.WORDS[:3]
    clips = [(sounds.say(word, "anna", take), 16_000) for word in words for take in range(3)]
    house = CommandRecognizer().fit(clips, [word for word in words for _ in range(3)])
    assert house.predict([(sounds.say(word, "anna", 7), 16_000) for word in words]) == list(words)
    noise = 0.05 * np.random.default_rng(0).standard_normal(16_000)
    assert house.predict([(noise.astype(np.float32), 16_000)]) == [None]
    promise = house.calibration_.promise
    assert promise is not None
    assert promise.bound <= promise.target == 0.05


@pytest.mark.real
def test_it_learns_lithuanian_commands_from_three_takes(data_root: Path) -> None:
    """No Lithuanian recording or synthetic word was in its training."""
    by_word: dict[str, list[Path]] = defaultdict(list)
    for utterance in load_corpus(data_root / "lithuanian_commands"):
        by_word[str(utterance.label)].append(utterance.path)
    words = [word for word, paths in sorted(by_word.items()) if len(paths) >= 6][:8]
    clips = [path for word in words for path in by_word[word][:3]]
    house = CommandRecognizer(NAME, target=None).fit(clips, [word for word in words for _ in range(3)])
    asked = [(word, path) for word in words for path in by_word[word][3:6]]
    best = [decision.best for decision in house.decide([path for _, path in asked])]
    assert np.mean([word == found for (word, _), found in zip(asked, best, strict=True)]) > 0.8
