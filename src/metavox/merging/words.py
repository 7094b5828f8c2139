"""Averages of models that tell words apart: of what they predict, or of their weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jaxtyping import Float, Int

from ..averaging.diagnosis import Diagnosis, diagnose
from ..averaging.members import AveragedLearner
from ..averaging.predictions import identical_sentence, learned_weights
from ..averaging.weights import require_finite, require_same_shapes
from ..background import furnish, wants_background
from ..checkpoint import (
    NEGATIVES,
    Model,
    averaged,
    build,
    fingerprint,
    load_model,
    put_folder,
    save_averaged,
    save_model,
    write_tensors,
)
from ..config import Experiment, ModelConfig, validated
from ..contracts import FrontEnd, InputError, State
from ..data.bank import Bank
from ..data.corpora import open_corpora, require
from ..data.episodes import ClassIndex, EpisodeSpec
from ..data.selection import select_tasks
from ..evaluation.protocols import Protocol, draws, episode_of, fitted
from ..learners.metric import FURNITURE
from .forms import OF_WEIGHTS, Asked
from .weights import merged_weights

Report = Callable[..., None]


@dataclass(frozen=True)
class Judge:
    """Episodes of development data on which members and averages of them are compared, all on the same."""

    bank: Bank
    index: ClassIndex
    asked: Protocol
    front_end: FrontEnd
    note: str | None = None
    """What a user should know of the episodes."""

    @torch.no_grad()
    def log_probabilities(self, learner: Any) -> tuple[Float[np.ndarray, "N C"], Int[np.ndarray, " N"]]:
        """Of every query of every episode among the words of its episode, and which is right."""
        found, labels = [], []
        for _, draw in draws(self.index, self.asked):
            episode = episode_of(self.bank, draw, self.front_end)
            scores = learner.predict(learner.adapt(episode.support), episode.query).scores
            found.append(scores.double().log_softmax(-1).numpy())
            labels.append(np.asarray(draw.query_labels))
        return np.concatenate(found), np.concatenate(labels)

    def accuracy(self, learner: Any) -> float:
        """Share of the queries that are named rightly."""
        values, labels = self.log_probabilities(learner)
        return float((values.argmax(1) == labels).mean())


def judge(corpus: str, front_end: FrontEnd, asked: Protocol, report: Report | None = None) -> Judge:
    """Open a development corpus. Raises InputError where it is not there or cannot give an episode."""
    bank = open_corpora([require(corpus)], front_end, report)
    index = ClassIndex(bank.utterances)
    protocol, note = fitted(asked, index)
    return Judge(bank, index, protocol, front_end, note)


@dataclass(frozen=True)
class MergedWords:
    """An average, and what is known of it and its members."""

    model: Model
    members: tuple[Model, ...]
    form: str
    weights: tuple[float, ...]
    """Of each member; 0 for what a greedy soup left out."""
    accuracies: tuple[float, ...] | None
    """Of each member on the development data, where there are some."""
    accuracy: float | None
    """Of the average."""
    diagnosis: Diagnosis | None
    notes: tuple[str, ...] = ()
    negatives: State | None = None


def merge_words(
    sources: Sequence[str], asked: Asked, protocol: Protocol | None = None, report: Report | None = None
) -> MergedWords:
    """Make one model of several.

    Raises:
        InputError: models that cannot be averaged in this form, and development data that cannot judge them.
    """
    if asked.form == "rover":
        raise InputError("--form rover votes on transcripts, and these models tell words apart; use --form mean.")
    models = [load_model(source) for source in sources]
    averaged(models, "mean")  # hear the same features, know the same classes
    require_finite([model.learner.state_dict() for model in models], [model.name for model in models])
    by_weights = asked.form in OF_WEIGHTS
    base = None
    if by_weights:
        base = None if asked.base is None else load_model(asked.base)
        _require_same_net([*models, *([] if base is None else [base])])
    dev = None
    if asked.dev is not None:
        usual = Protocol(EpisodeSpec(10, 3, 5), 40, 0)
        dev = judge(asked.dev, models[0].config.front_end, protocol or usual, report)
    found = _of_weights(models, base, asked, dev, report) if by_weights else _of_predictions(models, asked, dev, report)
    if dev is None and len({model.hash for model in models}) == 1:
        found = replace(found, notes=(*found.notes, f"Warning: {identical_sentence(len(models))}."))
    elif dev is not None and dev.note is not None:
        found = replace(found, notes=(dev.note, *found.notes))
    return found


def _judged(
    models: Sequence[Model], dev: Judge | None, report: Report | None
) -> tuple[np.ndarray, np.ndarray, Diagnosis] | None:
    """Log probabilities of all members, the labels, and the diagnosis."""
    if dev is None:
        return None
    tables, labels = [], np.zeros(0, np.int64)
    for k, model in enumerate(models):
        values, labels = dev.log_probabilities(model.learner)
        tables.append(values)
        if report is not None:
            report("judging members", k + 1, len(models))
    stacked = np.stack(tables)
    return stacked, labels, diagnose(stacked, labels)


def _of_predictions(models: list[Model], asked: Asked, dev: Judge | None, report: Report | None) -> MergedWords:
    form: Any = asked.form
    judged = _judged(models, dev, report)
    weights = None if judged is None else learned_weights(judged[0], judged[1], form).tolist()
    model = averaged(models, form, weights)
    own = model.learner.weights
    if judged is None or dev is None:
        return MergedWords(model, tuple(models), asked.form, own, None, None, None)
    stacked, labels, diagnosis = judged
    return MergedWords(
        model,
        tuple(models),
        asked.form,
        own,
        tuple((stacked.argmax(2) == labels).mean(1).tolist()),
        dev.accuracy(model.learner),
        diagnosis,
    )


# ------------------------------------------------------------------------------------------------------------ weights


def trained_weights(model: Model) -> State:
    """What was trained of a model, without what was computed from it afterwards."""
    return {name: value for name, value in model.learner.state_dict().items() if name not in FURNITURE}


def plain(config: ModelConfig) -> ModelConfig:
    """The configuration of a model before it was furnished."""
    return config.model_copy(update={"learner": config.learner.model_copy(update={"cohort": 0})})


def with_weights(config: ModelConfig, state: State) -> Any:
    """A learner with other weights, in eval mode, not furnished."""
    learner = build(plain(config))
    learner.load_state_dict(state)
    return learner.eval()


def _require_same_net(models: Sequence[Model]) -> None:
    first = models[0]
    for other in models[1:]:
        ours, theirs = plain(first.config).model_dump(), plain(other.config).model_dump()
        for part in ("encoder", "learner"):
            odd = [key for key in ours[part] if ours[part][key] != theirs[part][key]]
            if odd:
                raise InputError(
                    f"{other.name} has another architecture than {first.name}: {part}.{odd[0]} is "
                    f"{theirs[part][odd[0]]} and {ours[part][odd[0]]}; average their predictions (--form mean) instead "
                    "of their weights."
                )
    require_same_shapes([trained_weights(model) for model in models], [model.name for model in models])


def _of_weights(
    models: list[Model], base: Model | None, asked: Asked, dev: Judge | None, report: Report | None
) -> MergedWords:
    states = [trained_weights(model) for model in models]
    config = models[0].config

    def score(state: State) -> float:
        assert dev is not None
        return dev.accuracy(with_weights(config, state))

    judged = _judged(models, dev, report)
    origin = None if base is None else trained_weights(base)
    state, weights, notes = merged_weights(states, origin, asked, score if dev is not None else None, report)
    learner = with_weights(config, state)
    finished, about, negatives, said = _furnished(models, learner, config)
    notes += said
    about |= {"averaged": [m.name for m in models], "form": asked.form, "weights": list(weights)}
    keys = ("corpora", "languages", "left_out", "seed", "steps")
    about = {key: models[0].about[key] for key in keys if key in models[0].about} | about
    made = Model(learner, finished, "average", fingerprint(learner, finished), about)
    reached = None if dev is None else dev.accuracy(learner)
    accuracies = None if judged is None else tuple((judged[0].argmax(2) == judged[1]).mean(1).tolist())
    diagnosis = None if judged is None else judged[2]
    return MergedWords(
        made, tuple(models), asked.form, weights, accuracies, reached, diagnosis, tuple(notes), negatives
    )


def _furnished(
    models: Sequence[Model], learner: Any, config: ModelConfig
) -> tuple[ModelConfig, dict[str, Any], State | None, list[str]]:
    """Metric, cohort and negatives of the new weights, from the recipe of the first member where it is at hand."""
    if not config.learner.cohort:
        return config, {}, None, []
    for model in models:
        experiment = None if model.folder is None else _experiment_of(model.folder)
        if experiment is not None and wants_background(experiment.data):
            try:
                found = furnish(learner, plain(config), experiment, select_tasks(experiment))
            except InputError as err:
                return plain(config), {}, None, [f"{_UNFURNISHED} ({str(err).removesuffix('.')})."]
            return found.config, found.about, found.negatives, []
    return plain(config), {}, None, [f"{_UNFURNISHED} (no member's folder holds its experiment.yaml)."]


_UNFURNISHED = (
    "The metric of frames, the cohort and the negatives of the members belong to other weights and could not be made "
    "again, so that the average goes without and refuses less well"
)


def _experiment_of(folder: Path) -> Experiment | None:
    try:
        tree = yaml.safe_load((folder / "experiment.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return validated(Experiment, tree, str(folder / "experiment.yaml"))


# --------------------------------------------------------------------------------------------------------------- disk


def save_words(folder: Path, merged: MergedWords) -> None:
    """Write the average: a model as any other where weights were averaged, else an average with its members.

    Raises:
        InputError: ``folder`` exists and is something else.
    """
    if isinstance(merged.model.learner, AveragedLearner):
        save_averaged(folder, merged.members, merged.model)
        return

    def write(beside: Path) -> None:
        save_model(beside, merged.model.learner, merged.model.config, merged.model.about)
        if merged.negatives is not None:
            write_tensors(beside / NEGATIVES, merged.negatives)

    put_folder(folder, "config.json", write, "model")
