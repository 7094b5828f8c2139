"""What a model says of how it came to be: stored beside its weights, for people and for thresholds."""

from collections.abc import Mapping
from typing import Any

from .calibration import reference_scores
from .config import Experiment
from .contracts import Draw, Enrollable, Episode, FrontEnd
from .data.bank import Bank
from .data.episodes import EpisodeSpec
from .data.samplers import TaskSampler
from .data.selection import Tasks

REFERENCE_SHOTS = (1, 3, 5)


def provenance(experiment: Experiment, tasks: Tasks, learner: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    """What it learned from, what is ``known`` of its training, and scores to set thresholds with.

    The scores are those of held-out classes with 1, 3 and 5 takes, where there are as many.
    """
    left_out = set(experiment.data.leave_out_languages)
    utterances = [utterance for utterance in tasks.bank.utterances if utterance.lang not in left_out]
    about: dict[str, Any] = {
        "corpora": sorted({utterance.corpus for utterance in utterances}),
        "absent": list(tasks.absent),
        "left_out": [*experiment.data.leave_out_corpora, *experiment.data.leave_out_languages],
        "languages": sorted({utterance.lang for utterance in utterances if utterance.lang}),
        "classes": tasks.training.n_classes,
        "seed": experiment.train.seed,
        **known,
    }
    if isinstance(learner, Enrollable) and not learner.adapts_body:
        enough = [
            k
            for k in REFERENCE_SHOTS
            if any(len(g.eligible(EpisodeSpec(2, k, 1))) > 1 for g in tasks.validation.groups)
        ]
        about["reference"] = {str(k): _reference(experiment, tasks, learner, k) for k in enough}
    return about


def _reference(experiment: Experiment, tasks: Tasks, learner: Any, k_shot: int) -> dict[str, list[float]]:
    held_out = tasks.validation
    spec = EpisodeSpec(held_out.spec.n_way, k_shot, held_out.spec.n_query)
    sampler = TaskSampler(held_out.groups, held_out.weights, spec, held_out.seed)
    draws = [sampler.episode(1, i) for i in range(experiment.train.validation_episodes)]
    front_end = experiment.model.front_end
    return reference_scores(learner, [as_episode(tasks.bank, draw, front_end) for draw in draws])


def as_episode(bank: Bank, draw: Draw, front_end: FrontEnd) -> Episode:
    """The windows of a draw."""
    n = len(draw.classes)
    support = bank.batch(draw.support, draw.support_labels, n, front_end)
    return Episode(support, bank.batch(draw.query, draw.query_labels, n, front_end), draw)
