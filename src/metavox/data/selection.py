"""Task selection: which recordings, which classes and which episodes an experiment learns from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from ..config import Experiment, TasksConfig
from ..contracts import InputError, Utterance
from ..text.languages import language_key
from .axes import Facts, along, axis_names
from .bank import Bank
from .class_lists import Chosen, choose
from .corpora import Recordings, Report, asked_variants, gather
from .episodes import ClassIndex, EpisodeSpec
from .holdout import held_out
from .measures import measured
from .samplers import WEIGHTS, Adaptivity, TaskSampler, drawable

KINDS = ("real", "synthetic")
_Group = tuple[ClassIndex, str]
"""Classes, and their kind."""
MAX_NAMED = 3
"""Groups that a note names."""


@dataclass(frozen=True)
class Tasks:
    """Where training and validation episodes come from. They share no class, unless ``validates_on_training``."""

    bank: Bank
    training: TaskSampler
    validation: TaskSampler
    absent: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What a user should know of who is in no task, a sentence each."""
    validates_on_training: bool = False
    """Whether no class could be held out, so that validation tasks are those of training, without augmentation."""

    @property
    def heard(self) -> list[Utterance]:
        """Every recording of a training or validation task."""
        groups = (*self.training.groups, *self.validation.groups)
        positions = np.unique(np.concatenate([group.positions for group in groups]))
        return [self.bank.utterances[position] for position in positions.tolist()]


@dataclass(frozen=True)
class _Grouped:
    """Recordings by kind and by what all items of an episode share."""

    found: Recordings
    config: TasksConfig
    facts: Facts
    groups: Sequence[_Group]
    """Every group of two classes or more, and its kind."""
    notes: Sequence[str]
    chosen: Chosen

    def index(self, positions: Sequence[int] | np.ndarray, name: str, classes: set[str] | None = None) -> ClassIndex:
        utterances, axis = self.found.bank.utterances, self.config.classes
        return ClassIndex(utterances, axis, keep=positions, classes=classes, facts=self.facts, name=name)


def select_tasks(experiment: Experiment, report: Report | None = None, *, exact: bool = False) -> Tasks:
    """Open the recordings, keep out what is left out, and split the classes into training and validation.

    A group is what ``tasks.within`` says, one language of one corpus if nothing is said. Real groups have
    ``data.real_share`` of the episodes, synthetic ones the rest; within a kind ``tasks.sampler`` decides. Validation
    tasks are made along the same axes; real groups that hold back too few words for one are validated together.

    With ``exact`` every task, those of validation too, has ``episodes.ways`` classes, as a head of fixed size wants
    them: groups of fewer are in none.

    Raises:
        InputError: too few classes for the episodes asked for, or speakers that cannot be kept apart.
    """
    variants = asked_variants(experiment.augment, experiment.train.seed)
    found = gather(experiment.data, experiment.model.front_end, report, variants)
    asked, train, tasks = experiment.episodes, experiment.train, experiment.tasks
    grouped = _grouped(found, experiment, report)
    if not grouped.groups:
        raise InputError(_nothing(tasks))
    trained, held_out = _split(grouped, experiment)
    trained = _share_of(trained, experiment)
    training = [(grouped.index(g.positions, g.name, trained), kind) for g, kind in grouped.groups]
    if experiment.data.bootstrap is not None:
        seed = experiment.data.bootstrap
        drawn = [_resampled(group, seed, at) for at, (group, _) in enumerate(training)]
        training = [(grouped.index(d, g.name), kind) for d, (g, kind) in zip(drawn, training, strict=True)]
    validated = asked.ways if exact else train.validation_ways
    held_out_spec = EpisodeSpec(validated, train.validation_shots, 5, tasks.speakers, exact)
    spec = EpisodeSpec(asked.ways, asked.shots, asked.queries, tasks.speakers, exact)
    training, notes = _that_can_be_drawn(training, spec)
    validation = _validation(grouped, held_out, held_out_spec)
    if not validation and grouped.chosen.held_out is not None:
        raise InputError(
            f"data.validation_classes gives no task of two classes with {train.validation_shots + 1} takes each; name "
            "more classes or lower train.validation_shots."
        )
    judging = validation or training
    adaptivity = Adaptivity(tasks.temperature, tasks.floor) if tasks.sampler == "adaptive" else None
    share = experiment.data.real_share
    kinds = [kind for _, kind in training]
    return Tasks(
        found.bank,
        TaskSampler([g for g, _ in training], _weights(training, share, tasks), spec, train.seed, kinds, adaptivity),
        TaskSampler([g for g, _ in judging], _weights(judging, share), held_out_spec, train.seed + 1),
        found.absent,
        (*grouped.notes, *notes),
        validates_on_training=not validation,
    )


def _nothing(tasks: TasksConfig) -> str:
    if (tasks.classes, tasks.within) == ("word", "corpus*language"):
        return (
            "No word class is left to learn from; leave out fewer corpora or languages, and name corpora of sentences "
            "in data.sentences."
        )
    return (
        f"No group of one {tasks.within.replace('*', ' and ') or 'kind'} has two classes along {tasks.classes}; choose "
        "other tasks.classes or tasks.within, or leave out fewer corpora or languages."
    )


# -------------------------------------------------------------------------------------------------------------- groups


def _grouped(found: Recordings, experiment: Experiment, report: Report | None) -> _Grouped:
    utterances, tasks = found.bank.utterances, experiment.tasks
    classes, within = axis_names(tasks.classes), axis_names(tasks.within)
    progress = None if report is None else partial(report, "measuring")
    facts: dict[str, Sequence[str | None]] = dict(measured(found.bank, {*classes, *within}, progress))
    # A corpus that names no language is in one language of its own.
    shared: Facts = facts
    if {"corpus", "language"} <= set(within):
        shared = {**facts, "language": [utterance.lang or "unnamed language" for utterance in utterances]}
    is_heard = _heard(found, experiment)
    chosen = choose(experiment.data, utterances, tasks.classes, facts)
    if chosen.allowed is not None:
        is_heard &= np.asarray([value in chosen.allowed for value in along(utterances, classes, facts)], bool)
    heard = np.flatnonzero(is_heard).tolist()
    notes = [] if chosen.allowed is None else [_listed(chosen)]
    for axis, known in [*((axis, facts) for axis in classes), *((axis, shared) for axis in within)]:
        n_unknown = along(utterances, axis, known, heard).count(None)
        if n_unknown:
            notes.append(f"{n_unknown} of {len(heard)} recordings have no known {axis} and are in no task.")
    grouped = _Grouped(found, tasks, facts, (), notes, chosen)
    groups = []
    for kind in KINDS:
        of_kind = np.flatnonzero(is_heard & (found.is_synthetic == (kind == "synthetic"))).tolist()
        members: dict[str, list[int]] = {}
        for position, value in zip(of_kind, along(utterances, within, shared, of_kind), strict=True):
            if value is not None:
                members.setdefault(value, []).append(position)
        indexes = (grouped.index(positions, name) for name, positions in members.items())
        groups += [(index, kind) for index in indexes if len(index) >= 2]
    return _Grouped(found, tasks, facts, groups, notes, chosen)


def _listed(chosen: Chosen) -> str:
    n_trained, n_held_out = chosen.n_listed
    held_out = f"{n_held_out} to validate on" if chosen.held_out is not None else "a share of them to validate on"
    return f"By the lists of the recipe there are {n_trained} classes to learn from and {held_out}."


def _heard(found: Recordings, experiment: Experiment) -> np.ndarray:
    """Positions whose language and speaker are not left out."""
    utterances, data = found.bank.utterances, experiment.data
    codes = {language_key(code) for code in data.leave_out_languages}
    left_out = {lang for lang in {u.lang for u in utterances} if lang and language_key(lang) in codes}
    heard = np.asarray([utterance.lang not in left_out for utterance in utterances], bool)
    return heard & (found.is_synthetic | ~held_out(utterances, data.leave_out_speakers, experiment.train.seed))


def _split(grouped: _Grouped, experiment: Experiment) -> tuple[set[str], set[str]]:
    """Classes to train on and to hold out: as they are listed, or about ``data.validation_share`` of each group."""
    if grouped.chosen.held_out is not None and grouped.chosen.allowed is not None:
        return set(grouped.chosen.allowed - grouped.chosen.held_out), set(grouped.chosen.held_out)
    rng = np.random.default_rng([experiment.train.seed, 1])
    held_out: set[str] = set()
    trained: set[str] = set()  # a class that two groups have is decided once, else one would train what the other tests
    for group, _ in grouped.groups:
        names = group.classes
        free = [names[i] for i in rng.permutation(len(names)) if names[i] not in held_out and names[i] not in trained]
        wanted = min(round(experiment.data.validation_share * len(names)), len(names) - 2)
        n_more = max(0, wanted - len(held_out.intersection(names)))
        held_out.update(free[:n_more])
        trained.update(free[n_more:])
    return trained, held_out


def _share_of(trained: set[str], experiment: Experiment) -> set[str]:
    """``data.class_share`` of the training classes, two at least."""
    if experiment.data.class_share == 1:
        return trained
    names = sorted(trained)
    n = max(2, round(experiment.data.class_share * len(names)))
    chosen = np.random.default_rng([experiment.train.seed, 2]).permutation(len(names))[:n]
    return {names[i] for i in chosen}


def _resampled(group: ClassIndex, seed: int, at: int) -> np.ndarray:
    """Positions of a group that drawing as many with replacement, class by class, hits at least once.

    Breiman 1996; what is drawn twice counts once, since an episode must not hear a recording on both sides.
    """
    rng = np.random.default_rng([seed, at, 6])
    parts = []
    for first, end in pairwise(group.offsets.tolist()):
        members = group.positions[first:end]
        parts.append(members[np.unique(rng.integers(0, len(members), len(members)))])
    return np.sort(np.concatenate(parts)) if parts else group.positions


def _validation(grouped: _Grouped, held_out: set[str], spec: EpisodeSpec) -> list[_Group]:
    """Groups of held-out classes that give a task.

    Real groups that hold back fewer words than an episode has are taken together, whatever their corpus and language;
    what else ``tasks.within`` names is still shared.
    """
    by_word = "word" in axis_names(grouped.config.classes)
    found, rest = [], []
    for group, kind in grouped.groups:
        index = grouped.index(group.positions, group.name, held_out)
        way = drawable(index, spec)
        n = len(way.eligible) if way is not None else 0
        if by_word and kind == "real" and n < spec.n_way:
            rest += index.positions.tolist()
        elif n >= 2:
            found.append((index, kind))
    rest.sort()
    shared = [name for name in axis_names(grouped.config.within) if name not in ("corpus", "language")]
    members: dict[str, list[int]] = {}
    for position, value in zip(rest, along(grouped.found.bank.utterances, shared, grouped.facts, rest), strict=True):
        members.setdefault(str(value), []).append(position)
    pools = [grouped.index(positions, name, held_out) for name, positions in members.items()]
    return [*found, *((pool, "real") for pool in pools if drawable(pool, spec) is not None)]


def _that_can_be_drawn(groups: list[_Group], spec: EpisodeSpec) -> tuple[list[_Group], list[str]]:
    """Groups that give a task, all where none does, and a sentence on the others."""
    ways = [drawable(group, spec) for group, _ in groups]
    kept = [pair for pair, way in zip(groups, ways, strict=True) if way is not None]
    notes = []
    if kept and len(kept) < len(groups):
        lost = [group.name for (group, _), way in zip(groups, ways, strict=True) if way is None]
        named = ", ".join(lost[:MAX_NAMED]) + (", ..." if len(lost) > MAX_NAMED else "")
        few = f"fewer than {spec.n_way} classes" if spec.exact else "no two classes"
        whose = " with queries by other speakers" if spec.speakers == "disjoint" else ""
        notes.append(
            f"{len(lost)} of {len(groups)} groups ({named}) have {few} of {spec.k_shot + 1} takes{whose} and are in no "
            "task."
        )
    if spec.speakers == "where_known":
        n_apart = sum(way is not None and way.spec.speakers == "disjoint" for way in ways)
        notes.append(f"Speakers are kept apart in {n_apart} of {len(kept)} groups.")
    return kept or groups, notes


def _weights(groups: Sequence[_Group], real_share: float, tasks: TasksConfig | None = None) -> list[float]:
    """Real groups have ``real_share`` of the episodes, synthetic ones the rest, one kind alone has all.

    Within a kind it is as ``tasks.sampler`` says, and equal without ``tasks``.
    """
    sampler, alpha = (tasks.sampler, tasks.alpha) if tasks is not None else ("uniform", 0.0)
    weights = np.zeros(len(groups))
    for kind, share in zip(KINDS, (real_share, 1 - real_share), strict=True):
        own = [at for at, (_, k) in enumerate(groups) if k == kind]
        if own:
            within = WEIGHTS[sampler](np.asarray([len(groups[at][0].positions) for at in own], np.float64), alpha)
            weights[own] = (1.0 if len(own) == len(groups) else share) * within / within.sum()
    return weights.tolist()
