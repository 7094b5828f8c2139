"""One learner of transcription in a comparison: the same base, time, draws and steps for all, and what they cost."""

import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sequence_cases import FRONT_END, equal, talk, values_of

from metavox.comparing.transcription_cell import (
    COMMON,
    Learned,
    adapting,
    answered,
    continued,
    development,
    learned,
    space_of,
)
from metavox.config.transcription import TranscriptionExperiment
from metavox.contracts import InputError
from metavox.data import spoken as spoken_module
from metavox.data.manifests import load_corpus
from metavox.data.spoken import Spoken, select_spoken
from metavox.evaluation.transcription import Material, TranscriptionProtocol, open_material
from metavox.evaluation.transcription_split import Split, sentence_key, split_corpus
from metavox.text.symbols import UNIVERSAL
from metavox.transcription import learning
from metavox.transcription.models import Recognition, new_net, save_recogniser
from metavox.transcription.plans import WAYS
from metavox.transcription.shelf import ADAPT_LR, INNER_LR, LR, SHELF

QUICK = replace(COMMON, tuning=replace(COMMON.tuning, steps=3), precision="float32")
PROTOCOL = TranscriptionProtocol(("x",), (0.0, 0.05), 2)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path_factory.getbasetemp() / "cell-cache"))


@pytest.fixture(autouse=True)
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the processor's time while learning is an eighth of a second later."""

    class Clock:
        now = 0.0

        def process_time(self) -> float:
            self.now += 0.125
            return self.now

    monkeypatch.setattr(learning, "time", Clock())


def texts(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("abdegiko"), 4)) + string.ascii_lowercase[i % 26] for i in range(n)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cells")
    talk(root / "known", texts(24, 1), ("anna", "bela"), "xx")
    talk(root / "target", texts(60, 2), tuple("cdefgh"), "yy")
    return root


@pytest.fixture(scope="module")
def experiment(data: Path) -> TranscriptionExperiment:
    return TranscriptionExperiment.model_validate(
        {
            "recogniser": {
                "front_end": FRONT_END.model_dump(), "channels": 16, "blocks": 2, "reduction": 4, "dim": 12,
            },
            "data": {"corpora": [str(data / "known")], "validation_share": 0.1},
            "tasks": {"support_s": 1.0, "query_s": 1.0},
            "learning": {"inner_steps": 1},
            "train": {"precision": "float32", "batch_s": 2.0},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def spoken(experiment: TranscriptionExperiment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoken]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAVOX_CACHE", str(tmp_path_factory.getbasetemp() / "cell-cache"))
        patch.setattr(spoken_module, "pronounced", lambda found, n: [()] * len(found))
        yield select_spoken(experiment.data, experiment.tasks, FRONT_END, UNIVERSAL, 0, phones=())


@pytest.fixture(scope="module")
def base(experiment: TranscriptionExperiment, tmp_path_factory: pytest.TempPathFactory) -> Recognition:
    config = experiment.recogniser.model_copy(update={"n_symbols": UNIVERSAL.size})
    net = new_net(config, 1)
    return save_recogniser(tmp_path_factory.mktemp("base") / "base", Recognition(net, UNIVERSAL, "base", "", {}))


@pytest.fixture(scope="module")
def split(data: Path) -> Split:
    return split_corpus(load_corpus(data / "target"), 0, 20)


@pytest.fixture(scope="module")
def material(
    split: Split, data: Path, base: Recognition, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Material]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAVOX_CACHE", str(tmp_path_factory.getbasetemp() / "cell-cache"))
        yield open_material(split, PROTOCOL, load_corpus(data / "target"), base)


# ---------------------------------------------------------------------------------------------------------- the whole


@pytest.mark.parametrize("name", ["fine-tune", "lora", "conditioned", "cavia", "maml_adapters", "scratch", "masked"])
def test_a_cell_gives_rows_of_every_utterance_and_what_they_cost(
    name: str, base: Recognition, experiment: Any, spoken: Spoken, material: Material, tmp_path: Path
) -> None:
    before = values_of(base.net)
    found = learned(name, base, experiment, spoken, tmp_path / "out", budget_s=0.625)
    said = answered(name, found, material, PROTOCOL, plan=QUICK)
    assert equal(values_of(base.net), before)
    trains = SHELF[name].learning is not None
    assert (found.steps, found.skipped) == ((5, 0) if trains else (0, 0))
    assert (found.recognition is base) is not trains
    n_rows = len(material.split.test) * (2 if name == "scratch" else 3)
    assert len(said.rows) == n_rows
    assert {row["learner"] for row in said.rows} == {name}
    assert {row["seed"] for row in said.rows} - {None} == {0, 1}
    durations = {u.id: u.duration_s for u in material.split.test}
    assert all(row["seconds"] == durations[row["id"]] for row in said.rows)
    costs = said.costs
    assert costs["adaptations"] == 2
    assert costs["adapt_steps"] == (0 if name == "conditioned" else 3)
    assert costs["training_steps"] == found.steps
    assert costs["moved"] > 0
    if name in ("conditioned", "cavia"):
        assert costs["moved"] == WAYS["context"].condition
    asked = [row for row in said.rows if row["minutes"]]
    assert said.rate == sum(row["char_errors"] for row in asked) / sum(row["chars"] for row in asked)


def test_everybody_answers_the_same_draws(base: Recognition, material: Material) -> None:
    both = [answered(name, Learned(base), material, PROTOCOL, plan=QUICK).rows for name in ("fine-tune", "lora")]
    asked = [[(row["minutes"], row["seed"], row["id"], row["said"]) for row in rows] for rows in both]
    assert asked[0] == asked[1]
    again = answered("fine-tune", Learned(base), material, PROTOCOL, plan=QUICK).rows
    assert list(again) == list(both[0])


# ----------------------------------------------------------------------------------------------------------- learning


def test_a_learner_that_shares_a_training_learns_as_the_other_does(
    base: Recognition, experiment: Any, spoken: Spoken, tmp_path: Path
) -> None:
    one, other = (
        learned(name, base, experiment, spoken, tmp_path / name, budget_s=0.5) for name in ("joint", "adapters")
    )
    assert equal(values_of(one.recognition.net), values_of(other.recognition.net))
    assert one.steps == other.steps == 4


def test_without_a_budget_the_base_stays_as_it_is(
    base: Recognition, experiment: Any, spoken: Spoken, tmp_path: Path
) -> None:
    assert learned("maml", base, experiment, spoken, tmp_path / "out", budget_s=0.0) == Learned(base)
    assert not (tmp_path / "out").exists()


def test_a_base_without_a_folder_is_refused(base: Recognition, experiment: Any, spoken: Spoken, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="base has no folder that learning could start from; save it first"):
        learned("maml", replace(base, folder=None), experiment, spoken, tmp_path / "out", budget_s=1.0)


def test_settings_of_a_trial_reach_what_they_name(base: Recognition, experiment: Any) -> None:
    settings = {LR: 1e-3, INNER_LR: 0.02, "learning.prox": 2.0, ADAPT_LR: 0.5}
    found = continued("imaml", base, experiment, 7.0, settings)
    assert (found.train.lr, found.train.budget_s, found.train.init) == (1e-3, 7.0, str(base.folder))
    assert (found.learning.learner, found.learning.inner_lr, found.learning.prox) == ("imaml", 0.02, 2.0)
    assert found.recogniser.channels == base.net.config.channels
    assert adapting("imaml", settings).plan.tuning.lr == 0.5
    assert found.data == experiment.data


@pytest.mark.parametrize("name", SHELF)
def test_everybody_adapts_alike_but_for_what_adapts_and_how_far(name: str) -> None:
    found, own = adapting(name, {}), WAYS[SHELF[name].way]
    tuning = own.plan.tuning
    assert found.plan.tuning == replace(
        COMMON.tuning, steps=COMMON.tuning.steps if tuning.steps else 0, lr=tuning.lr, adapts=tuning.adapts,
        rank=tuning.rank, condition=tuning.condition, encoding=tuning.encoding,
    )  # fmt: skip
    assert replace(found.plan, tuning=COMMON.tuning) == COMMON
    assert (found.adapter, found.condition, found.from_scratch) == (own.adapter, own.condition, own.from_scratch)


@pytest.mark.parametrize("name", SHELF)
def test_what_may_be_tried_has_a_beginning_within_it(name: str) -> None:
    space, defaults = space_of(name)
    assert set(space) <= set(defaults)
    assert all(choice.low <= defaults[key] <= choice.high for key, choice in space.items())


def test_an_unknown_learner_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean reptile"):
        space_of("reptil")


# -------------------------------------------------------------------------------------------------------- development


def test_settings_are_chosen_where_no_test_utterance_is(split: Split) -> None:
    found = development(split, 10)
    tested = {sentence_key(u.text) for u in split.test}
    inside = [*found.test, *found.pool]
    assert not {u.id for u in inside} & {u.id for u in split.test}
    assert not {sentence_key(u.text) for u in inside} & tested
    assert not {u.speaker for u in inside} & {u.speaker for u in split.test}
    assert {u.id for u in inside} <= {u.id for u in split.pool}
    assert not {u.speaker for u in found.test} & {u.speaker for u in found.pool}


def test_the_scores_of_the_base_are_those_at_no_minutes(base: Recognition, material: Material) -> None:
    rows = answered("fine-tune", Learned(base), material, PROTOCOL, plan=QUICK).rows
    first = next(row for row in rows if row["minutes"] == 0)
    at = material.test[[u.id for u in material.split.test].index(first["id"])]
    inputs, lengths = material.sentences.features(np.array([at]), FRONT_END)
    with torch.no_grad():
        assert UNIVERSAL.decode(base.spell(inputs, lengths)[0]).split() == first["heard"].split()
