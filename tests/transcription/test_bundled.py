"""The recogniser that ships: small, licensed, trained on what may ship, able to read its own held-out recordings."""

import json

import numpy as np
import pytest
from bundles import MAY_SHIP, SOURCES, require_small_and_licensed

from metavox import Transcriber
from metavox.transcription import load_recogniser
from metavox.transcription.guard import old_task_error, read_guard
from metavox.transcription.models import BUNDLED, DEFAULT, Recognition

FOLDER = BUNDLED / "asr-small"


@pytest.fixture(scope="module")
def bundled() -> Recognition:
    return load_recogniser(DEFAULT)


def test_the_bundle_is_small_and_licensed() -> None:
    require_small_and_licensed(FOLDER, 12_000_000, SOURCES)


def test_it_heard_only_what_may_train_what_ships() -> None:
    about = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["about"]
    real = {name for name in about["corpora"] if not name.startswith("synth-")}
    assert real <= MAY_SHIP - {"barista_intents_en", "noise/audio/household"}


def test_it_reads_the_held_out_recordings_of_its_guard(bundled: Recognition) -> None:
    """Real recordings, as features: a damaged model is at 0.9 and above."""
    guard = read_guard(bundled.folder)
    assert guard is not None
    assert len(guard) == 40
    found = old_task_error(bundled, guard)
    assert 0.1 < found.rate < 0.6


def test_it_is_what_a_transcriber_opens_by_default() -> None:
    transcriber = Transcriber.from_pretrained()
    assert transcriber.model == DEFAULT
    assert transcriber.transcribe((np.zeros(32_000, np.float32), 16_000)).segments == ()
