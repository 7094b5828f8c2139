"""What a comparison of learners of words does: who stands beside whom, and what is left out for which test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..checkpoint import build
from ..config import Experiment, ModelConfig, WordsComparison
from ..config.comparison import ALL
from ..contracts import InputError
from ..data.axes import AXES, axis_names
from ..data.corpora import require, require_once
from ..data.episodes import ClassIndex, EpisodeSpec
from ..data.manifests import load_corpus
from ..evaluation.protocols import Protocol, fitted
from ..learners.outer import joint
from ..learners.preset import Range, named, resolved
from ..learners.presets import BASELINES, LEARNERS, has_base_classes
from .apart import among, name_of
from .search import Space

BASELINE_NAMES = ("nearest_mean", "dtw")
"""Who stands beside the others in any case."""
JOINT = "joint"
"""Whom meta-learning has to beat: ordinary training with fine-tuning."""
LR = "train.lr"
LR_FACTOR = 4.0
"""The step size of training is tuned within this factor of the recipe's, for everybody."""
_LEARNER = "learner."


@dataclass(frozen=True)
class Fold:
    """One training, and the sets that are tested after it."""

    name: str
    sets: Mapping[str, Path]
    """Folders of the test, by name."""
    experiment: Experiment
    """The recipe without those sets and their languages."""
    languages: tuple[str, ...] = ()
    """Left out because the sets are in them."""


@dataclass(frozen=True)
class Plan:
    """Learners and folds; every learner is trained and tested in every fold."""

    recipe: WordsComparison
    learners: tuple[str, ...]
    folds: tuple[Fold, ...]
    shares: Mapping[str, str]
    """Learners that are another way to use the weights of one training, and whose training that is."""

    @property
    def sets(self) -> list[str]:
        """Names of all sets of the test."""
        return [name for fold in self.folds for name in fold.sets]


def make_plan(recipe: WordsComparison, *, check: bool = True) -> Plan:
    """Who is compared on what. ``check``: that every learner can be built and every set tested is found out first, and
    who shares a training.

    Raises:
        InputError: an unknown learner or set, options that contradict one another, a set that cannot be tested.
    """
    learners = _learners(recipe)
    folds = _folds(recipe)
    if check:
        for fold in folds:
            for name, path in fold.sets.items():
                _require_testable(name, path, recipe)
    return Plan(recipe, learners, folds, _sharing(recipe, learners) if check else {})


# ------------------------------------------------------------------------------------------------------------ learners


def _learners(recipe: WordsComparison) -> tuple[str, ...]:
    asked = recipe.compare.learners
    names = tuple(LEARNERS) if asked == (ALL,) else asked
    for name in names:
        named(LEARNERS, name, "compare.learners")
    return (*names, *(name for name in BASELINE_NAMES if name not in names))


def model_for(recipe: WordsComparison, name: str) -> ModelConfig:
    """The model of a learner: that of the recipe under the learner's name, or a baseline as it is.

    A learner of fixed ways has those of the comparison.

    Raises:
        InputError: an option of the recipe that contradicts the name, or other ways.
    """
    if name in BASELINES:
        return BASELINES[name]
    learner = recipe.model.learner.model_copy(update={"name": name})
    ways = recipe.compare.ways
    asked = learner.ways if "ways" in learner.model_fields_set else 0
    config = recipe.model.model_copy(update={"learner": learner.model_copy(update={"ways": asked or ways})})
    if not built(config).fixed_ways:
        return recipe.model.model_copy(update={"learner": learner})
    if asked not in (0, ways):
        raise InputError(
            f"model.learner.ways is {asked} and compare.ways is {ways}, and {name} knows tasks of its own ways only; "
            "give both the same or leave model.learner.ways away."
        )
    return config


def built(config: ModelConfig) -> Any:
    """The learner with its initial weights, of two base classes where joint training has some."""
    if has_base_classes(config.learner.name) and not config.learner.n_base_classes:
        learner = config.learner.model_copy(update={"n_base_classes": 2})
        config = config.model_copy(update={"learner": learner})
    try:
        return build(config)
    except InputError as err:
        raise InputError(f"{config.learner.name} cannot be compared: {err}") from None


def _sharing(recipe: WordsComparison, learners: Sequence[str]) -> dict[str, str]:
    """Learners of joint training whose weights are those of another one, by name and size."""
    shapes: dict[str, dict[str, Any]] = {}
    for name in learners:
        learner: nn.Module = built(
            model_for(recipe, name)
        )  # each is built once: what cannot be is told before anything
        if LEARNERS[name].outer is joint:
            shapes[name] = {key: tuple(value.shape) for key, value in learner.state_dict().items()}
    trained = JOINT if JOINT in shapes else next(iter(shapes), "")
    return {name: trained for name, own in shapes.items() if name != trained and own == shapes[trained]}


def space_of(recipe: WordsComparison, name: str, *, trains: bool) -> tuple[Space, dict[str, Any]]:
    """What a learner may try, and what it has by itself; the step size of training only where it ``trains``."""
    space: dict[str, Range | tuple[Any, ...]] = {}
    defaults: dict[str, Any] = {}
    if trains:
        lr = recipe.train.lr
        space[LR], defaults[LR] = Range(lr / LR_FACTOR, lr * LR_FACTOR), lr
    own = as_resolved(model_for(recipe, name)).learner
    for key, choice in LEARNERS[name].search.items():
        space[_LEARNER + key], defaults[_LEARNER + key] = choice, getattr(own, key)
    return space, defaults


def as_resolved(config: ModelConfig) -> ModelConfig:
    """The configuration with everything that the learner's name says."""
    return resolved(config, LEARNERS)


def with_settings(experiment: Experiment, settings: Mapping[str, Any]) -> Experiment:
    """The experiment with settings of a trial."""
    learner = {key.removeprefix(_LEARNER): value for key, value in settings.items() if key.startswith(_LEARNER)}
    model = experiment.model
    model = model.model_copy(update={"learner": model.learner.model_copy(update=learner)})
    train = {"lr": settings[LR]} if LR in settings else {}
    return experiment.model_copy(update={"model": model, "train": experiment.train.model_copy(update=train)})


# --------------------------------------------------------------------------------------------------------------- folds


def _folds(recipe: WordsComparison) -> tuple[Fold, ...]:
    asked = recipe.compare
    if not asked.folds and not asked.corpora:
        raise InputError("compare names no set to test on; name sets in compare.folds or compare.corpora.")
    axis = axis_names(recipe.tasks.classes)
    if not set(axis) <= set(AXES):
        raise InputError(
            f"tasks.classes is {recipe.tasks.classes}, which no manifest says, and the sets of a comparison are asked "
            f"what was learned; choose among {', '.join(AXES)}."
        )
    groups = asked.folds or (asked.corpora,)
    paths = [[require(name) for name in group] for group in groups]
    require_once([path for group in paths for path in group])
    names = [[name_of(path) for path in group] for group in paths]
    flat = [name for group in names for name in group]
    for name in flat:
        if flat.count(name) > 1:
            raise InputError(f"Two sets are called {name}; rename the folder of one.")
    folds = []
    for number, (own, places) in enumerate(zip(names, paths, strict=True), 1):
        sets = dict(zip(own, places, strict=True))
        if asked.folds:
            folds.append(_left_out(recipe, f"{number}-{own[0]}", sets))
        else:
            _require_unheard(recipe, sets)
            folds.append(Fold(f"{number}-{own[0]}", sets, _plain(recipe)))
    return tuple(folds)


def _plain(recipe: WordsComparison) -> Experiment:
    """The recipe as an experiment whose validation tasks are those of the comparison."""
    asked = recipe.compare
    train = recipe.train.model_copy(
        update={
            "validation_ways": asked.ways,
            "validation_shots": min(asked.shots),
            "validation_episodes": asked.validation_episodes,
        }
    )
    given = {name: getattr(recipe, name) for name in recipe.model_fields_set - {"compare"}}
    return Experiment(**{**given, "train": train})


def _left_out(recipe: WordsComparison, name: str, sets: Mapping[str, Path]) -> Fold:
    experiment, data = _plain(recipe), recipe.data
    languages = sorted({u.lang for path in sets.values() for u in load_corpus(path) if u.lang})
    corpora = among(_trained_on(recipe), sets.values())
    update = {
        "leave_out_corpora": tuple(dict.fromkeys([*data.leave_out_corpora, *corpora])),
        "leave_out_languages": tuple(dict.fromkeys([*data.leave_out_languages, *languages])),
    }
    experiment = experiment.model_copy(update={"data": data.model_copy(update=update)})
    return Fold(name, sets, experiment, tuple(languages))


def _require_unheard(recipe: WordsComparison, sets: Mapping[str, Path]) -> None:
    heard = among(_trained_on(recipe), sets.values())
    if heard:
        raise InputError(
            f"compare.corpora names {heard[0]}, which training hears; leave it out in data.leave_out_corpora, or make "
            "it a fold in compare.folds."
        )


def _trained_on(recipe: WordsComparison) -> list[str]:
    data = recipe.data
    return [name for name in (*data.corpora, *data.sentences) if name not in data.leave_out_corpora]


# ---------------------------------------------------------------------------------------------------------------- test


def protocol_of(recipe: WordsComparison, shots: int) -> Protocol:
    """What is asked of everybody on every set."""
    asked = recipe.compare
    return Protocol(EpisodeSpec(asked.ways, shots, asked.queries, asked.speakers), asked.episodes, asked.seed)


def _require_testable(name: str, path: Path, recipe: WordsComparison) -> None:
    index = ClassIndex(load_corpus(path), recipe.tasks.classes)
    for shots in recipe.compare.shots:
        try:
            fitted(protocol_of(recipe, shots), index)
        except InputError as err:
            raise InputError(f"{name} cannot be a test: {err}") from None
