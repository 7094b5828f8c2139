"""What follows training: pieces drawn evenly and once, and a learner that is stored with what it was given."""

from pathlib import Path

import numpy as np
import pytest
import sounds
import torch
import yaml

from metavox.background import Pieces, draw_pieces, furnish
from metavox.checkpoint import NEGATIVES, load_model
from metavox.config import DataConfig, Experiment
from metavox.contracts import FrontEnd, InputError
from metavox.data.selection import select_tasks
from metavox.runtime.negatives import negatives_of
from metavox.training import initialise, learn

FRONT_END = FrontEnd(n_mels=20, n_frames=24, normalize=False)
WORDS = ("lamp", "door", "music", "stop", "north", "seven")


def corpus(folder: Path, n_sentences: int = 8, lang: str = "en") -> Path:
    """Sentences of three words with pauses between them."""
    rest = np.zeros(4_000, np.float32)
    rows = []
    for i in range(n_sentences):
        words = [sounds.say(WORDS[(i + j) % len(WORDS)], f"s{i % 3}", i) for j in range(3)]
        wave = np.concatenate([part for word in words for part in (rest, word, rest)])
        noise = 1e-3 * np.random.default_rng(i).standard_normal(len(wave))
        sounds.write(folder / f"{i}.wav", (wave + noise).astype(np.float32))
        rows.append(f'{{"audio_filepath": "{i}.wav", "duration": {len(wave) / 16000}, "text": "", "lang": "{lang}"}}')
    (folder / "manifest.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    root = tmp_path_factory.mktemp("background")
    for name in ("talk", "more"):
        (root / name).mkdir()
    words = sounds.word_folders(root / "words", WORDS, n_takes=4)
    return words, corpus(root / "talk"), corpus(root / "more", lang="fi")


def drawn(names: list[str], n: int, seed: int = 0, used: set[Path] | None = None, **data: object) -> Pieces:
    taken = set() if used is None else used
    return draw_pieces(names, DataConfig(**data), n, FRONT_END, np.random.default_rng(seed), taken)


def test_pieces_come_evenly_from_corpora_and_recordings_and_hours_count_their_share(places: tuple) -> None:
    _, talk, more = places
    pieces = drawn([str(talk), str(more)], 12)
    assert pieces.batch.inputs.shape == (12, 24, 20)
    assert pieces.corpora == (str(talk), str(more))
    _, counts = np.unique(pieces.groups, return_counts=True)
    assert counts.max() <= 2
    assert 0 < pieces.hours < 1


def test_a_recording_is_drawn_once_and_languages_left_out_are_not_drawn(places: tuple) -> None:
    _, talk, more = places
    used: set[Path] = set()
    first = drawn([str(talk)], 8, used=used)
    n_first = len(used)
    second = drawn([str(talk)], 8, seed=1, used=used)
    assert n_first + len(set(second.groups.tolist())) == len(used)
    assert len(first.groups) == 8
    assert drawn([str(talk), str(more)], 8, leave_out_languages=("fi",)).corpora == (str(talk),)
    with pytest.raises(InputError, match="None of"):
        drawn([str(more)], 8, leave_out_languages=("fi",))


def experiment(places: tuple, **data: object) -> Experiment:
    words, talk, more = places
    return Experiment.model_validate(
        {
            "model": {
                "front_end": FRONT_END.model_dump(),
                "encoder": {"channels": 16, "blocks": 1, "dim": 8},
                "learner": {"tracts": []},
            },
            "data": {
                "corpora": [str(words)],
                "cohort": [str(talk)],
                "negatives": [str(more), str(talk)],
                "n_cohort": 10,
                "n_negatives": 14,
                "validation_share": 0.34,
                **data,
            },
            "episodes": {"ways": 4, "shots": 2, "queries": 2},
            "train": {"steps": 3, "validation_episodes": 2, "validation_ways": 2},
        }
    )


def test_a_trained_model_is_stored_with_metric_cohort_and_negatives(places: tuple, tmp_path: Path) -> None:
    asked = experiment(places)
    learner = learn(asked, select_tasks(asked), tmp_path / "model")
    model = load_model(tmp_path / "model")
    assert model.config.learner.cohort == 10
    assert model.learner.cohort.shape[0] == 10
    assert not torch.allclose(model.learner.metric, torch.eye(len(model.learner.metric)))
    torch.testing.assert_close(model.learner.metric, learner.metric)
    found = negatives_of(model)
    assert found is not None
    assert len(found) == 14
    assert model.about["negatives"]["n"] == 14
    fresh = model.learner.commonness(found.frames.float(), found.lengths)
    torch.testing.assert_close(found.commonness, fresh, atol=0.02, rtol=0)
    stored = yaml.safe_load((tmp_path / "model" / "experiment.yaml").read_text())
    assert stored["model"]["learner"]["cohort"] == 0  # what was asked, so that resuming knows the experiment
    assert (tmp_path / "model" / NEGATIVES).is_file()


def test_a_learner_that_compares_nothing_is_refused(places: tuple) -> None:
    asked = experiment(places)
    asked = asked.model_copy(
        update={
            "model": asked.model.model_copy(
                update={"learner": asked.model.learner.model_copy(update={"name": "joint"})}
            )
        }
    )
    tasks = select_tasks(asked)
    learner, config = initialise(asked, tasks)
    with pytest.raises(InputError, match="leave them away"):
        furnish(learner, config, asked, tasks)
