"""What a trained model brings along to refuse with: a metric of frames, a cohort of other sounds, and negatives.

The last step of training, after the weights are what they will be. The metric is computed from takes of training words
(``learners.frame_metric``). Cohort and negatives are word-sized pieces of connected speech and of noise; the cohort
becomes a part of the learner, the negatives lie beside it and are for thresholds alone, so the two share no recording.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from .audio import read
from .config import DataConfig, Experiment, LearnerConfig, ModelConfig
from .contracts import Batch, FrontEnd, InputError, Utterance
from .data.corpora import locate, require
from .data.fragments import fragments, heard_at
from .data.layouts import MANIFEST
from .data.manifests import load_corpus
from .data.noise import recordings
from .data.selection import Tasks
from .learners.frame_metric import frame_metric, gather_moments
from .learners.metric import Prototypes, as_levels
from .runtime.takes import batch_of
from .text.languages import language_key

METRIC_EPISODES = 100
"""Training tasks that the metric of frames is computed from, about 7,000 pairs of takes."""
PER_RECORDING, EVERY_S = 2, 4.0
"""Pieces that are taken of one recording, or one for so many seconds: many recordings tell more than many pieces."""
_COHORT, _NEGATIVES, _METRIC = 3, 4, 5
"""What a seed is for."""


@dataclass(frozen=True)
class Pieces:
    """Word-sized pieces as windows, each with its recording."""

    batch: Batch
    groups: Int[np.ndarray, " N"]
    hours: float
    """Duration of the recordings that were cut, by the share of their pieces that is here."""
    corpora: tuple[str, ...]


@dataclass(frozen=True)
class Furnished:
    """What is stored beside the weights of a furnished learner."""

    config: ModelConfig
    negatives: dict[str, Tensor] | None
    about: dict[str, Any]


def wants_background(data: DataConfig) -> bool:
    """Whether a recipe asks for any of it."""
    return bool(data.cohort or data.negatives)


def furnish(learner: Any, config: ModelConfig, experiment: Experiment, tasks: Tasks) -> Furnished:
    """Give a trained learner its metric and cohort, and embed the negatives of its recipe.

    Recordings in corpora and languages that the recipe leaves out are left out here too.

    Raises:
        InputError: a learner that compares nothing, windows of no fixed length, or no recording to take a cohort from.
    """
    front_end, data, seed = config.front_end, experiment.data, experiment.train.seed
    if not isinstance(learner, Prototypes) or front_end.n_frames is None:
        raise InputError(
            f"data.cohort and data.negatives are for learners that compare windows of one length, and "
            f"{config.learner.name} with front_end.n_frames={front_end.n_frames} is none; leave them away."
        )
    learner.eval()
    used: set[Path] = set()
    about: dict[str, Any] = {}
    if data.cohort:
        pieces = draw_pieces(data.cohort, data, data.n_cohort, front_end, np.random.default_rng([seed, _COHORT]), used)
        with torch.no_grad():
            learner.furnish(_metric(learner, experiment, tasks), torch.zeros(0, 1, learner.encoder.dim))
            learner.furnish(learner.metric, learner.embed(pieces.batch)[0])  # type: ignore[arg-type]
        sized = LearnerConfig.model_copy(config.learner, update={"cohort": len(pieces.groups)})
        config = config.model_copy(update={"learner": sized})
        about["cohort"] = {"n": len(pieces.groups), "hours": round(pieces.hours, 3), "corpora": list(pieces.corpora)}
    negatives = None
    if data.negatives:
        rng = np.random.default_rng([seed, _NEGATIVES])
        pieces = draw_pieces(data.negatives, data, data.n_negatives, front_end, rng, used)
        with torch.no_grad():
            frames, lengths = learner.embed(pieces.batch)
            common = learner.commonness(frames, lengths)
        negatives = {
            "frames": as_levels(frames),
            "lengths": lengths.to(torch.int16),
            "groups": torch.from_numpy(pieces.groups),
            "commonness": common,
        }
        about["negatives"] = {
            "n": len(pieces.groups),
            "hours": round(pieces.hours, 3),
            "corpora": list(pieces.corpora),
            "recordings": len(set(pieces.groups.tolist())),
        }
    return Furnished(config, negatives, about)


def _metric(learner: Prototypes, experiment: Experiment, tasks: Tasks) -> Tensor:
    """From training tasks as they were recorded; pairs of one word by two people, where speakers are known."""
    front_end = experiment.model.front_end

    def takes() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for i in range(METRIC_EPISODES):
            draw = tasks.training.episode(experiment.train.steps, _METRIC * METRIC_EPISODES + i)
            positions = np.concatenate([draw.support, draw.query])
            labels = np.concatenate([draw.support_labels, draw.query_labels])
            speakers = [tasks.bank.utterances[position].speaker for position in positions.tolist()]
            pairs = [
                (one, other)
                for one in range(len(labels))
                for other in range(one + 1, len(labels))
                if labels[one] == labels[other] and (speakers[one] is None or speakers[one] != speakers[other])
            ]
            if pairs:
                batch = tasks.bank.batch(positions, labels, len(draw.classes), front_end)
                frames = learner.encoder(batch.inputs, batch.lengths)
                yield frames, learner.encoder.out_lengths(batch.lengths), torch.tensor(pairs)

    return frame_metric(gather_moments(takes()))


def draw_pieces(
    names: Sequence[str],
    data: DataConfig,
    n_pieces: int,
    front_end: FrontEnd,
    rng: np.random.Generator,
    used: set[Path],
) -> Pieces:
    """At most ``n_pieces`` of the corpora ``names``, as evenly over corpora and recordings as they have them.

    Recordings in ``used`` are passed over, and those that are drawn are put there.

    Raises:
        InputError: nothing to draw from.
    """
    present = [name for name in names if name not in data.leave_out_corpora and locate(name) is not None]
    left_out = {language_key(lang) for lang in data.leave_out_languages}
    waiting: dict[str, list[Utterance]] = {}
    for name in present:
        known = [u for u in _recordings(require(name)) if language_key(u.lang) not in left_out and u.path not in used]
        waiting[name] = [known[i] for i in rng.permutation(len(known))]
    windows: list[Tensor] = []
    groups: list[int] = []
    seconds, names_used = 0.0, []
    turn = 0
    while len(windows) < n_pieces and any(waiting.values()):
        name = present[turn % len(present)]
        turn += 1
        if not waiting[name]:
            continue
        utterance = waiting[name].pop()
        found, duration_s = _pieces_of(utterance, front_end, rng)
        if found:
            used.add(utterance.path)
            names_used.append(name)
            windows += found
            groups += [turn] * len(found)
            seconds += duration_s
    if not windows:
        raise InputError(
            f"None of {', '.join(names)} is here with a recording to cut into other sounds; set METAVOX_DATA, or leave "
            "data.cohort and data.negatives away."
        )
    inputs = torch.cat(windows[:n_pieces])
    n = len(inputs)
    lengths = torch.full((n,), inputs.shape[1])
    batch = Batch(inputs, lengths, torch.zeros(n, dtype=torch.int64), 1)
    return Pieces(batch, np.asarray(groups[:n]), seconds / 3600, tuple(dict.fromkeys(names_used)))


def _recordings(place: Path) -> list[Utterance]:
    """The utterances of a corpus, or the recordings of a folder without a manifest, such as one of noise."""
    if place.is_dir() and not (place / MANIFEST).is_file():
        return [Utterance(str(path.relative_to(place)), path, 0.0) for path in recordings(place)]
    return load_corpus(place)


def _pieces_of(utterance: Utterance, front_end: FrontEnd, rng: np.random.Generator) -> tuple[list[Tensor], float]:
    """Windows of some pieces, and the seconds of the recording that they stand for."""
    wave = read(utterance.path, front_end.rate_hz)
    spans = fragments(wave, front_end)
    drawn = (spans[i] for i in rng.permutation(len(spans)).tolist())
    at_most = math.ceil(max(PER_RECORDING, len(wave) / front_end.rate_hz / EVERY_S))
    found = [
        batch_of([torch.from_numpy(frames)], [0], 1, front_end).inputs
        for _, _, frames in islice(heard_at(wave, drawn, front_end), at_most)
    ]
    share = len(found) / max(len(spans), 1)
    return found, share * len(wave) / front_end.rate_hz
