"""One learner of words in one fold: trials, the best of them by validation, and its answers to the test."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..benchmarking.timing import peak_growth
from ..checkpoint import Model, fingerprint, load_model, rehead, save_model
from ..config import Experiment, ModelConfig, WordsComparison
from ..contracts import Episode, InputError
from ..data.bank import Bank
from ..data.corpora import open_corpora
from ..data.episodes import ClassIndex, EpisodeSpec
from ..data.manifests import load_corpus
from ..data.samplers import TaskSampler, drawable
from ..data.selection import Tasks, select_tasks
from ..evaluation.protocols import Row, evaluate, fitted, summary
from ..learners.presets import LEARNERS
from ..nets.cost import n_parameters
from ..provenance import as_episode
from ..tasks import TASKS
from .apart import require_apart
from .budget import FEW_STEPS, train_for
from .recorded import Cell, Finished, cell_folder, read_recipe, write_cell
from .search import search_for, tried
from .word_plan import Fold, Plan, built, make_plan, model_for, protocol_of, space_of, with_settings

_MIB = 2**20
NOTHING_HELD_OUT = (
    "No words are held out of training to choose settings by; raise data.validation_share or give more words."
)


@dataclass(frozen=True)
class Trial:
    """Settings that were tried, and how good they were on words held out of training."""

    settings: Mapping[str, Any]
    model: Model | None
    validation: Mapping[int, float]
    """Accuracy by number of shots; empty where nothing came of it."""
    training: Mapping[str, Any]
    """Steps, processor seconds and loss; empty where nothing was trained."""
    note: str = ""

    @property
    def score(self) -> float | None:
        """Mean over the numbers of shots; what the best is chosen by."""
        return float(np.mean(list(self.validation.values()))) if self.validation else None


def run_cell(out: Path, cell: Cell) -> None:
    """Train, choose and test one learner in one fold, and leave the folder of the cell in ``out``.

    Raises:
        InputError: recordings that cannot be used. What a learner cannot do is a result with a note.
    """
    torch.set_num_threads(1)
    plan = make_plan(read_recipe(out, WordsComparison), check=False)
    fold = next(fold for fold in plan.folds if fold.name == cell.fold)
    done: list[Finished] = []
    shared = cell_folder(out, Cell(cell.fold, cell.shares)) / "model" if cell.shares else None
    work = WordCell(plan, fold, cell.learner, load_model(shared) if shared is not None and shared.is_dir() else None)
    if shared is not None and work.shared is None:
        work.failure = f"The training of {cell.shares}, which it shares, came to nothing."
    grown = peak_growth(lambda: done.append(work.run()))
    result = {**done[0].result, "peak_memory_mb": None if grown is None else grown / _MIB}
    write_cell(out, cell, replace(done[0], result=result))


class WordCell:
    """Everything that the trials of one learner in one fold have in common, and what becomes of them.

    ``shared`` is the model whose weights it uses, and None for a learner that trains or needs no training.
    """

    def __init__(self, plan: Plan, fold: Fold, name: str, shared: Model | None) -> None:
        self.plan, self.fold, self.name, self.shared = plan, fold, name, shared
        self.asked = plan.recipe.compare
        self.preset = LEARNERS[self.name]
        config = model_for(plan.recipe, self.name)
        self.experiment = fold.experiment.model_copy(update={"model": config})
        self.fixed_ways = bool(built(config).fixed_ways)
        self.trains = self.preset.outer is not None and shared is None
        self.space, self.defaults = space_of(plan.recipe, self.name, trains=self.trains)
        self.notes: list[str] = []
        self.task = TASKS["commands"]()
        self.tests = {
            name: open_corpora([path], config.front_end) for name, path in fold.sets.items()
        }  # opened, and not asked before the choice is made
        self.tasks: Tasks | None = None
        self.validation: dict[int, list[Episode]] = {}
        self.failure = ""
        """Why it cannot take part, if it cannot."""
        if self.space:  # who has nothing to choose needs no tasks
            self.tasks = tasks_for(fold, self.experiment)
            if self.fixed_ways:
                self._keep_ways(self.tasks)
            if not self.failure:
                self.validation = self._validation(self.tasks)

    # ----------------------------------------------------------------------------------------------------------- tasks

    def _keep_ways(self, tasks: Tasks) -> None:
        ways = self.asked.ways
        exact = replace(tasks.training.spec, n_way=ways, exact=True)
        groups = tasks.training.groups
        self.notes.append(
            f"It is trained and chosen on tasks of exactly {ways} words, which "
            f"{sum(drawable(group, exact) is not None for group in groups)} of {len(groups)} training groups have; "
            f"others are trained on all of them, with at most {self.experiment.episodes.ways} words."
        )
        try:
            training = of_exactly(tasks.training, ways)
            self.tasks = replace(tasks, training=training, validation=of_exactly(tasks.validation, ways))
        except InputError as err:
            self.failure = f"It knows tasks of {ways} ways only. {err}"

    def _validation(self, tasks: Tasks) -> dict[int, list[Episode]]:
        """The validation tasks, by number of shots: the same for every trial and, with the same ways, every learner."""
        held_out, found = tasks.validation, {}
        for shots in self.asked.shots:
            spec = EpisodeSpec(self.asked.ways, shots, self.asked.queries, held_out.spec.speakers)
            try:
                sampler = TaskSampler(held_out.groups, held_out.weights, spec, held_out.seed)
                sampler = of_exactly(sampler, self.asked.ways) if self.fixed_ways else sampler
            except InputError:
                self.notes.append(f"No words held out of training have the takes for {shots} shots to be chosen by.")
                continue
            draws = [sampler.episode(0, i) for i in range(self.asked.validation_episodes)]
            found[shots] = [as_episode(tasks.bank, draw, self.experiment.model.front_end) for draw in draws]
        if not found:
            raise InputError(NOTHING_HELD_OUT)
        return found

    # ---------------------------------------------------------------------------------------------------------- trials

    def run(self) -> Finished:
        """The whole cell."""
        if self.failure:
            trials = [Trial({}, None, {}, {}, self.failure)]
        else:
            trials = self._trials() if self.space else [self._untuned()]
        known = [trial for trial in trials if trial.model is not None]
        best = max(known, key=lambda trial: -1.0 if trial.score is None else trial.score) if known else None
        self.notes += [f"{trial.note}" for trial in trials if trial.note and trial is best]
        rows: list[Row] = []
        summaries: list[dict[str, Any]] = []
        if best is None:
            self.notes.append(f"It gave no result: {trials[0].note}")
        else:
            assert best.model is not None
            rows, summaries = self._test(best.model)
        n_trials = len(trials) if self.space and not self.failure else 0
        result = {
            "fold": self.fold.name,
            "sets": list(self.fold.sets),
            "learner": self.name,
            "family": self.preset.family,
            "source": self.preset.source,
            "trials": n_trials,
            "chosen": dict(best.settings) if best is not None else None,
            "chosen_trial": trials.index(best) if best is not None and n_trials else None,
            "validation": best.score if best is not None else None,
            "training": self._training(best),
            "training_cpu_s_all_trials": sum(trial.training.get("cpu_s", 0.0) for trial in trials),
            **_sizes(best.model if best is not None else None),
            "notes": self.notes,
            "absent": list(self.tasks.absent) if self.tasks is not None else [],
            "summaries": summaries,
            "seed": self.asked.seed,
            "version": version("metavox"),
        }
        return Finished(result, [_told(i, trial) for i, trial in enumerate(trials)], rows, self._keeper(best))

    def _trials(self) -> list[Trial]:
        """The same number for everybody, each from fresh weights; only the model of the best so far is kept."""
        folds = [fold.name for fold in self.plan.folds]
        search = search_for(self.space, self.defaults, self.asked.seed, folds, self.fold.name)
        return tried(
            search, self.asked.trials, self._trial, lambda trial: trial.score, lambda trial: replace(trial, model=None)
        )

    def _trial(self, settings: Mapping[str, Any]) -> Trial:
        experiment = with_settings(self.experiment, settings)
        training: dict[str, Any] = {}
        note = ""
        try:
            if self.trains:
                assert self.tasks is not None
                trained = train_for(experiment, self.tasks, 60 * self.asked.minutes)
                training = {key: getattr(trained, key) for key in ("steps", "skipped", "cpu_s", "loss")}
                if trained.steps < FEW_STEPS:
                    note = (
                        f"It reached {trained.steps} outer steps in {60 * self.asked.minutes:g} CPU-seconds, too few "
                        "to judge it by."
                    )
                model = self._model(trained.learner, trained.config)
            else:
                model = self._reused(experiment)
            return Trial(settings, model, self._validated(model), training, note)
        except InputError as err:
            return Trial(settings, None, {}, training, str(err))

    def _reused(self, experiment: Experiment) -> Model:
        """The weights of a training that is shared, or a learner that needs none, with the options of a trial."""
        if self.shared is None:
            return self._model(built(experiment.model), experiment.model)
        size = self.shared.config.learner.n_base_classes
        return rehead(self.shared, experiment.model.learner.model_copy(update={"n_base_classes": size}))

    def _untuned(self) -> Trial:
        config = self.experiment.model
        return Trial({}, self._model(built(config), config), {}, {})

    def _model(self, learner: Any, config: ModelConfig) -> Model:
        return Model(learner, config, self.name, fingerprint(learner, config), {})

    def _validated(self, model: Model) -> dict[int, float]:
        found = {}
        with torch.no_grad():
            for shots, episodes in self.validation.items():
                hits = []
                for episode in episodes:
                    output = model.learner.predict(model.learner.adapt(episode.support), episode.query)
                    hits.append(float(self.task.score(output, episode.query).mean()))
                found[shots] = float(np.mean(hits))
        return found

    # ------------------------------------------------------------------------------------------------------------ test

    def _test(self, model: Model) -> tuple[list[Row], list[dict[str, Any]]]:
        rows: list[Row] = []
        summaries = []
        axis = self.fold.experiment.tasks.classes
        for corpus, bank in self.tests.items():
            index = ClassIndex(bank.utterances, axis)
            for shots in self.asked.shots:
                protocol, _ = fitted(protocol_of(self.plan.recipe, shots), index)
                ways = protocol.spec.n_way
                if self.fixed_ways and ways != self.asked.ways:
                    self.notes.append(
                        f"{corpus} has {ways} words and not the {self.asked.ways} that it knows: skipped."
                    )
                    break
                try:
                    found = self._asked_of(model, bank, index, protocol, corpus)
                except InputError as err:
                    self.notes.append(f"{corpus} with {shots} shots could not be tested: {err}")
                    continue
                rows += [{"learner": self.name, "fold": self.fold.name, **row} for row in found]
                summaries.append(summary(found, protocol, axis, learner=self.name, corpus=corpus))
        return rows, summaries

    def _asked_of(self, model: Model, bank: Bank, index: ClassIndex, protocol: Any, corpus: str) -> list[Row]:
        return evaluate(model.learner, self.task, bank, index, protocol, model.config.front_end, corpus=corpus)

    # --------------------------------------------------------------------------------------------------------- telling

    def _training(self, best: Trial | None) -> dict[str, Any] | None:
        """What the training behind the result took; that of another learner where it is shared."""
        if self.shared is not None:
            return dict(self.shared.about.get("training") or {})
        return dict(best.training) if best is not None and best.training else None

    def _keeper(self, best: Trial | None) -> Any:
        if best is None or best.model is None:
            return None
        model, data = best.model, self.experiment.data
        about = {
            "left_out": [*data.leave_out_corpora, *data.leave_out_languages],
            "seed": self.experiment.train.seed,
            "training": self._training(best),
            "validation_accuracy": best.score,
            "settings": dict(best.settings),
        }
        return lambda folder: save_model(folder, model.learner, model.config, about)


def tasks_for(fold: Fold, experiment: Experiment) -> Tasks:
    """What is learned from in a fold and what settings are chosen by, proved to be none of its test.

    Raises:
        InputError: as ``select_tasks`` and ``require_apart``, and where no words can be held out of training.
    """
    tasks = select_tasks(experiment)
    if tasks.validates_on_training:
        raise InputError(NOTHING_HELD_OUT)
    tested = (utterance for path in fold.sets.values() for utterance in load_corpus(path))
    require_apart(tasks.heard, tested, fold.languages)
    return tasks


def of_exactly(sampler: TaskSampler, ways: int) -> TaskSampler:
    """Tasks of the groups that have so many classes, and of no fewer.

    Raises:
        InputError: no group has them.
    """
    spec = replace(sampler.spec, n_way=ways, exact=True)
    try:
        return TaskSampler(sampler.groups, sampler.weights, spec, sampler.seed, sampler.kinds, sampler.adaptivity)
    except InputError:
        raise InputError(f"No group has {ways} classes with the takes of an episode; lower compare.ways.") from None


def _sizes(model: Model | None) -> dict[str, int | None]:
    if model is None:
        return {"parameters": None, "parameters_encoder": None}
    return {"parameters": n_parameters(model.learner), "parameters_encoder": n_parameters(model.learner.encoder)}


def _told(number: int, trial: Trial) -> dict[str, Any]:
    return {
        "trial": number,
        "settings": dict(trial.settings),
        "validation": trial.score,
        "validation_by_shots": {str(shots): value for shots, value in trial.validation.items()},
        **trial.training,
        **({"note": trial.note} if trial.note else {}),
    }
