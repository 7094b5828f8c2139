"""One learner of transcription for one target: trials, the best of them within the pool, and answers to the test."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import TranscriptionComparison
from ..contracts import InputError, Utterance
from ..data.manifests import load_corpus
from ..data.spoken import Spoken, select_spoken
from ..evaluation.protocols import Row
from ..evaluation.transcription import Material, open_material
from ..evaluation.transcription_comparison import summaries
from ..text.symbols import UNIVERSAL
from ..transcription.models import Recognition, load_recogniser, save_recogniser
from ..transcription.shelf import SHELF
from .apart import require_apart
from .budget import FEW_STEPS
from .cells import Report
from .recorded import Cell, Finished, cell_folder, read_cell, read_recipe, write_cell
from .search import search_for, tried
from .transcription_cell import Answered, Learned, answered, learned
from .transcription_plan import (
    Fold,
    Plan,
    adapting_plan,
    choosing_protocol,
    make_plan,
    open_base,
    protocol_of,
    space_for,
    splits_of,
)


@dataclass(frozen=True)
class Trial:
    """Settings that were tried, and what came of them within the pool."""

    settings: Mapping[str, float]
    learned: Learned | None
    """None where nothing came of it, or where another trial was better."""
    rate: float | None
    """Character error that trials are chosen by; None where nothing came of it."""
    by_minutes: Mapping[str, float]
    training: Mapping[str, Any]
    """Steps and processor seconds; empty where nothing was trained."""
    note: str = ""


def run_trials(out: Path, cell: Cell) -> None:
    """Learn, choose and test one learner for one target, and leave the folder of the cell in ``out``.

    Raises:
        InputError: recordings that cannot be used. What a learner cannot do is a result with a note.
    """
    torch.set_num_threads(1)
    plan = make_plan(read_recipe(out, TranscriptionComparison), check=False)
    shared, failure = None, ""
    if cell.shares:
        folder = cell_folder(out, Cell(cell.fold, cell.shares))
        training = read_cell(out, Cell(cell.fold, cell.shares)).result["training"]
        if (folder / "model").is_dir():
            shared = _Shared(Learned(load_recogniser(folder / "model")), training)
        else:
            failure = f"The training of {cell.shares}, which it shares, came to nothing."
    write_cell(out, cell, TargetCell(plan, plan.fold(cell.fold), cell.learner, shared, failure).run())


def spoken_for(
    fold: Fold,
    base: Recognition,
    tested: Sequence[Utterance],
    phones: tuple[str, ...] | None,
    report: Report | None = None,
) -> Spoken:
    """What learning that goes on from the base of a fold hears: proved to be none of ``tested``, nor in its languages.

    Raises:
        InputError: as ``select_spoken`` and ``require_apart``.
    """
    asked = fold.experiment
    found = select_spoken(asked.data, asked.tasks, base.front_end, UNIVERSAL, asked.train.seed, report, phones=phones)
    heard = np.unique(np.concatenate([*found.kinds, found.held_out])).tolist()
    require_apart((found.sentences.utterances[position] for position in heard), tested, fold.languages)
    return found


@dataclass(frozen=True)
class _Shared:
    """What another learner made of the base."""

    learned: Learned
    training: Mapping[str, Any] | None


class TargetCell:
    """Everything that the trials of one learner for one target have in common, and what becomes of them."""

    def __init__(self, plan: Plan, fold: Fold, name: str, shared: _Shared | None = None, failure: str = "") -> None:
        self.plan, self.fold, self.name, self.shared, self.failure = plan, fold, name, shared, failure
        self.asked = plan.recipe.compare
        self.row = SHELF[name]
        self.base = open_base(fold.base)
        self.trains = self.row.learning is not None and shared is None and not failure
        self.space, self.defaults = space_for(name, shared=not self.trains)
        self.notes: list[str] = []
        self.absent: list[str] = []
        self.utterances = load_corpus(fold.path)
        self.split, self.within = splits_of(plan.recipe, self.utterances)
        self.choosing = choosing_protocol(plan.recipe, name, self.within)

    def run(self) -> Finished:
        """The whole cell."""
        trials = [Trial({}, None, None, {}, {}, self.failure)] if self.failure else self._trials()
        best = next((trial for trial in trials if trial.learned is not None), None)
        found: Answered | None = None
        if best is None or best.learned is None:
            self.notes.append(f"It gave no result: {trials[0].note}")
        else:
            self.notes += [best.note] if best.note else []
            try:
                found = self._answered(best.learned, best.settings)
            except InputError as err:
                self.notes.append(f"It could not be tested: {err}")
        rows: list[Row] = []
        if found is not None:
            rows = [{"fold": self.fold.name, "corpus": self.fold.target, **row} for row in found.rows]
        n_trials = len(trials) if self.space and not self.failure else 0
        result = {
            "fold": self.fold.name,
            "sets": [self.fold.target],
            "learner": self.name,
            "family": self.row.family,
            "source": self.row.source,
            "trials": n_trials,
            "chosen": dict(best.settings) if best is not None else None,
            "chosen_trial": trials.index(best) if best is not None and n_trials else None,
            "validation": best.rate if best is not None else None,
            "training": self._training(best),
            "training_cpu_s_all_trials": sum(trial.training.get("cpu_s", 0.0) for trial in trials),
            **_sizes(found),
            "costs": dict(found.costs) if found is not None else None,
            "notes": self.notes,
            "absent": self.absent,
            "summaries": summaries(rows, learner=self.name, corpus=self.fold.target),
            "split": self._told_split(),
            "base": self.fold.base,
            "base_hash": self.base.hash,
            "seed": self.asked.seed,
            "version": version("metavox"),
        }
        return Finished(result, [_told(i, trial) for i, trial in enumerate(trials)], rows, self._keeper(best))

    # ---------------------------------------------------------------------------------------------------------- trials

    def _trials(self) -> list[Trial]:
        """The same number for everybody; only what the best so far has learned is kept."""
        folds = [fold.name for fold in self.plan.folds]
        search = search_for(self.space, self.defaults, self.asked.seed, folds, self.fold.name)
        spoken = spoken_for(self.fold, self.base, self.utterances, self.base.phones) if self.trains else None
        self.absent = list(spoken.absent) if spoken is not None else []
        material = open_material(self.within, self.choosing, self.utterances, self.base)
        return tried(
            search,
            self.asked.trials if self.space else 1,
            lambda settings: self._trial(settings, spoken, material),
            lambda trial: None if trial.rate is None else -trial.rate,  # it looks for the highest
            lambda trial: replace(trial, learned=None),
        )

    def _trial(self, settings: Mapping[str, float], spoken: Spoken | None, material: Material) -> Trial:
        training: dict[str, Any] = {}
        try:
            made = self._learned(settings, spoken)
            note = ""
            if self.trains:
                training = {key: getattr(made, key) for key in ("steps", "skipped", "cpu_s", "peak_mb")}
                if made.steps < FEW_STEPS:
                    note = (
                        f"It reached {made.steps} steps in {60 * self.asked.minutes:g} CPU-seconds, too few to judge "
                        "it by."
                    )
            found = answered(
                self.name, made, material, self.choosing, settings=settings, plan=adapting_plan(self.plan.recipe)
            )
        except InputError as err:
            return Trial(settings, None, None, {}, training, str(err))
        by_minutes = {f"{one['minutes']:g}": one["mean"] for one in summaries(found.rows)}
        return Trial(settings, made, found.rate, by_minutes, training, note)

    def _learned(self, settings: Mapping[str, float], spoken: Spoken | None) -> Learned:
        """What a training makes of the base; the base itself, or what another learner made of it, without one."""
        if self.shared is not None:
            return self.shared.learned
        if spoken is None:
            return Learned(self.base)
        with tempfile.TemporaryDirectory() as folder:
            budget_s, place = 60 * self.asked.minutes, Path(folder) / self.name
            found = learned(
                self.name, self.base, self.fold.experiment, spoken, place, budget_s=budget_s, settings=settings
            )
        return replace(found, recognition=replace(found.recognition, folder=None))  # it is gone

    def _answered(self, made: Learned, settings: Mapping[str, float]) -> Answered:
        """The test, which is asked once, after the choice."""
        protocol = protocol_of(self.plan.recipe, self.name)
        material = open_material(self.split, protocol, self.utterances, self.base)
        return answered(self.name, made, material, protocol, settings=settings, plan=adapting_plan(self.plan.recipe))

    # --------------------------------------------------------------------------------------------------------- telling

    def _training(self, best: Trial | None) -> dict[str, Any] | None:
        """What the training behind the result took; that of another learner where it is shared."""
        if self.shared is not None:
            return dict(self.shared.training or {})
        return dict(best.training) if best is not None and best.training else None

    def _told_split(self) -> dict[str, Any]:
        return {
            "way": self.split.way,
            "n_test": len(self.split.test),
            "n_pool": len(self.split.pool),
            "pool_minutes": round(self.split.pool_s / 60, 2),
            "n_validation": len(self.within.test),
            "validation_minutes": list(self.choosing.minutes),
        }

    def _keeper(self, best: Trial | None) -> Any:
        """Keeps what was learned; who learns nothing has the base."""
        if best is None or best.learned is None or not self.trains:
            return None
        recognition = best.learned.recognition
        return lambda folder: save_recogniser(folder, recognition)


def _sizes(found: Answered | None) -> dict[str, Any]:
    if found is None:
        return {"parameters": None, "parameters_encoder": None, "peak_memory_mb": None}
    peaks = [found.costs[key] for key in ("training_peak_mb", "adapt_peak_mb") if found.costs[key] is not None]
    return {
        "parameters": found.costs["parameters"],
        "parameters_encoder": None,
        "peak_memory_mb": max(peaks, default=None),
    }


def _told(number: int, trial: Trial) -> dict[str, Any]:
    return {
        "trial": number,
        "settings": dict(trial.settings),
        "validation": trial.rate,
        "validation_by_minutes": dict(trial.by_minutes),
        **trial.training,
        **({"note": trial.note} if trial.note else {}),
    }
