"""Task selection: which recordings, which classes and which episodes an experiment learns from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..config import Experiment
from ..contracts import InputError
from .bank import Bank
from .corpora import Recordings, Report, gather
from .episodes import ClassIndex, EpisodeSpec, TaskSampler


@dataclass(frozen=True)
class Tasks:
    """Where training and validation episodes come from. They share no class."""

    bank: Bank
    training: TaskSampler
    validation: TaskSampler
    absent: tuple[str, ...]


def select_tasks(experiment: Experiment, report: Report | None = None) -> Tasks:
    """Open the recordings, keep out what is left out, and split the word classes into training and validation.

    A group is one language of one corpus. Real groups share ``data.real_share`` of the episodes equally, synthetic
    ones the rest.

    Raises:
        InputError: too few classes for the episodes asked for.
    """
    found = gather(experiment.data, experiment.model.front_end, report)
    utterances, asked, train = found.bank.utterances, experiment.episodes, experiment.train
    rng = np.random.default_rng([train.seed, 1])
    groups = list(_groups(found, experiment))
    if not groups:
        raise InputError("No word class is left to learn from; leave out fewer corpora or languages.")
    held_out: set[str] = set()
    trained: set[str] = set()  # a word that two groups have is decided once, else one would train what the other tests
    for keep, _ in groups:
        names = ClassIndex(utterances, keep=keep).classes
        decided = held_out | trained
        free = [names[i] for i in rng.permutation(len(names)) if names[i] not in decided]
        wanted = min(round(experiment.data.validation_share * len(names)), len(names) - 2)
        n_more = max(0, wanted - len(held_out.intersection(names)))
        held_out.update(free[:n_more])
        trained.update(free[n_more:])
    training = [ClassIndex(utterances, keep=keep, classes=trained) for keep, _ in groups]
    is_real = [real for _, real in groups]
    held_out_spec = EpisodeSpec(train.validation_ways, train.validation_shots, 5)
    validation, of_real = [], []
    for keep, real in (*_groups(found, experiment, synthetic_only=True), (_heard(found, experiment, True), True)):
        index = ClassIndex(utterances, keep=keep, classes=held_out)
        if len(index.eligible(held_out_spec)) >= 2:
            validation.append(index)
            of_real.append(real)
    if not validation:  # too few words to keep any out: the training words, without augmentation
        validation, of_real = training, is_real
    spec = EpisodeSpec(asked.ways, asked.shots, asked.queries)
    share = experiment.data.real_share
    return Tasks(
        found.bank,
        TaskSampler(training, _weights(is_real, share), spec, train.seed),
        TaskSampler(validation, _weights(of_real, share), held_out_spec, train.seed + 1),
        found.absent,
    )


def _groups(
    found: Recordings, experiment: Experiment, *, synthetic_only: bool = False
) -> Iterator[tuple[np.ndarray, bool]]:
    """Positions of each language of each corpus that has two classes, and whether it is real."""
    utterances = found.bank.utterances
    for real in (False,) if synthetic_only else (True, False):
        heard = _heard(found, experiment, real)
        members: dict[tuple[str, str | None], list[int]] = {}
        for position in np.flatnonzero(heard).tolist():
            utterance = utterances[position]
            members.setdefault((utterance.corpus, utterance.lang), []).append(position)
        for positions in members.values():
            keep = np.zeros(len(utterances), bool)
            keep[positions] = True
            if len(ClassIndex(utterances, keep=keep)) >= 2:
                yield keep, real


def _heard(found: Recordings, experiment: Experiment, real: bool) -> np.ndarray:
    """Real or synthetic positions whose language is not left out."""
    left_out = set(experiment.data.leave_out_languages)
    allowed = np.asarray([utterance.lang not in left_out for utterance in found.bank.utterances])
    return allowed & (found.is_synthetic != real)


def _weights(is_real: list[bool], real_share: float) -> list[float]:
    """Real groups share ``real_share`` equally, synthetic ones the rest; one kind alone has all."""
    n_real = sum(is_real)
    if n_real in (0, len(is_real)):
        return [1.0] * len(is_real)
    n_synthetic = len(is_real) - n_real
    return [real_share / n_real if real else (1 - real_share) / n_synthetic for real in is_real]
