"""The model of voices that ships: small, licensed, trained on what may ship, and right about people it never heard."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from bundles import MAY_SHIP, require_small_and_licensed

from metavox import SpeakerVerifier
from metavox.audio import read
from metavox.calibration.fusion import fusions_from
from metavox.checkpoint import BUNDLED
from metavox.data.manifests import load_corpus
from metavox.metrics import eer
from metavox.voices.encoders import DEFAULT, load_voices

FOLDER = BUNDLED / "speaker-small"
SOURCES = (
    "speechocean762", "Malayalam Speech Corpus", "LibriSpeech", "Free Spoken Digit", "Speech Commands", "DSPSpeech-20",
    "Precise Community Data",
)  # fmt: skip


def test_the_bundle_is_small_and_licensed() -> None:
    require_small_and_licensed(FOLDER, 6_000_000, SOURCES)


def test_it_heard_only_what_may_train_what_ships_and_was_calibrated_on_others() -> None:
    about = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["about"]
    assert set(about["corpora"]) <= MAY_SHIP
    assert set(about["calibration"]["corpora"]) <= MAY_SHIP
    assert len(about["calibration"]["corpora"]) >= 3
    assert not set(about["development"]) & set(about["speakers"])


def test_it_brings_a_cohort_ratios_and_what_weighs_word_and_voice() -> None:
    model = load_voices(DEFAULT)
    assert model.name == DEFAULT
    assert model.ratios is not None
    assert len(model.cohort) >= 100
    fusions = fusions_from(model.about["fusion"], model.name)
    assert {"word", "voice"} <= set(fusions[-1].features)
    assert set(fusions[0].about["corpora"]) <= MAY_SHIP
    assert fusions[0].about["voices_hash"] != model.hash  # this one heard some of the people whom they were fitted on


@pytest.mark.real
def test_it_tells_people_apart_who_say_other_lithuanian_words(data_root: Path) -> None:
    """No Lithuanian recording was in its training; a session stands for a person."""
    by_person: dict[str, list[Path]] = defaultdict(list)
    for utterance in load_corpus(data_root / "lithuanian_commands"):
        by_person[str(utterance.speaker)].append(utterance.path)
    people = [paths for _, paths in sorted(by_person.items()) if len(paths) >= 13][:10]
    model = load_voices(DEFAULT)
    heard = [model.hear([read(path, model.encoder.rate_hz) for path in paths[:13]]) for paths in people]
    voices = [one.at(range(10)) for one in heard]
    llr = np.concatenate([model.llr(voices, one.at(range(10, 13))) for one in heard])
    own = np.repeat(np.eye(len(people), dtype=bool), 3, axis=0)
    assert eer(llr[own], llr[~own]).rate < 0.15
    assert llr[own].mean() > 1 > -1 > llr[~own].mean()


@pytest.mark.real
def test_a_claim_by_its_owner_is_accepted_and_one_by_another_is_not(data_root: Path) -> None:
    """Development speakers of the calibration, whom the network did not hear."""
    about = load_voices(DEFAULT).about
    said: dict[str, list[Path]] = defaultdict(list)
    for utterance in load_corpus(data_root / "speechocean_en_l2"):
        if utterance.speaker in about["development"]:
            said[utterance.speaker].append(utterance.path)
    names = sorted(said)[:4]
    family = SpeakerVerifier()
    for name in names:
        family.enroll(name, said[name][:3])
    found = [[family.verify(name, said[other][4]).accepted for other in names] for name in names]
    assert np.mean(np.asarray(found) == np.eye(len(names), dtype=bool)) >= 0.85
