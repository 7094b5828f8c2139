"""What adapting and predicting cost: every learner on the same tasks, one after another in one process."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch

from ..benchmarking.timing import Rounds, machine, spread, time_in_turn
from ..checkpoint import Model, load_model, write_json
from ..config import WordsComparison
from ..contracts import Episode, InputError, State
from ..data.corpora import open_corpora
from ..data.episodes import ClassIndex
from ..evaluation.protocols import fitted
from ..provenance import as_episode
from .recorded import Cell, cell_folder, is_finished, read_recipe
from .word_plan import Fold, Plan, make_plan, protocol_of

COSTS = "costs.json"
N_TASKS = 5
ROUNDS = Rounds(least=5, most=7, budget_s=20.0, long_s=10.0, least_long=3)
_SEED = 1_000_003
"""Tasks that are timed are none of the test's."""


def measure_costs(out: Path, cell: Cell, cells: Sequence[Cell]) -> None:
    """Time what ``cells``, those of the fold of ``cell``, have learned, and leave ``costs.json`` in ``out``."""
    torch.set_num_threads(1)
    plan = make_plan(read_recipe(out, WordsComparison), check=False)
    fold = next(fold for fold in plan.folds if fold.name == cell.fold)
    models = {one.learner: load_model(cell_folder(out, one) / "model") for one in with_models(out, cells)}
    about = {"fold": fold.name, "machine": machine(), "models": sorted(models)}
    write_json(out / COSTS, {**about, **costs(plan, fold, models)})


def with_models(out: Path, cells: Sequence[Cell]) -> list[Cell]:
    """Those that are finished and have a model."""
    return [cell for cell in cells if is_finished(out, cell) and (cell_folder(out, cell) / "model").is_dir()]


def known_costs(out: Path, cells: Sequence[Cell]) -> dict[str, Any] | None:
    """What was measured, unless that is nothing yet, or some model came later."""
    try:
        found: dict[str, Any] = json.loads((out / COSTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if {cell.learner for cell in with_models(out, cells)} <= set(found["models"]) else None


def costs(plan: Plan, fold: Fold, models: Mapping[str, Model]) -> dict[str, Any]:
    """Processor milliseconds of adapting to a task and of predicting its queries, and bytes of a state, by learner.

    The tasks are of the fold's set of most words, with the most shots that are compared. In every round each learner
    has the same task, and another one begins. Left out are learners of fixed ways where the set has others, and those
    that cannot adapt to these tasks.
    """
    name, n_shots = _largest(plan, fold), max(plan.recipe.compare.shots)
    drawn = {learner: _episodes(plan, fold, name, model, n_shots) for learner, model in models.items()}
    ways = next(iter(drawn.values()))[0].support.n_classes if drawn else 0
    asked = plan.recipe.compare.ways
    timed, states = {}, {}
    with torch.no_grad():
        for n, model in models.items():
            if model.learner.fixed_ways and ways != asked:
                continue
            try:  # what is done first is slow and does not count
                states[n] = [model.learner.adapt(episode.support) for episode in drawn[n]]
                model.learner.predict(states[n][0], drawn[n][0].query)
            except InputError:
                continue
            timed[n] = model.learner
        adapting: dict[str, Callable[[int], Any]] = {n: partial(_adapt, timed[n], drawn[n]) for n in timed}
        predicting: dict[str, Callable[[int], Any]] = {
            n: partial(_predict, timed[n], states[n], drawn[n]) for n in timed
        }
        seconds = {
            "adapt_ms": time_in_turn(adapting, _numbers(), ROUNDS),
            "predict_ms": time_in_turn(predicting, _numbers(), ROUNDS),
        }
    found = {
        n: {
            **{key: 1000 * spread(values[n])[0] for key, values in seconds.items()},
            "rounds": len(seconds["adapt_ms"][n]),
            "state_bytes": max(_bytes(state) for state in states[n]),
        }
        for n in timed
    }
    return {"set": name, "ways": ways, "shots": n_shots, "tasks": N_TASKS, "learners": found}


def _largest(plan: Plan, fold: Fold) -> str:
    axis = plan.recipe.tasks.classes
    banks = {name: open_corpora([path], fold.experiment.model.front_end) for name, path in fold.sets.items()}
    return max(banks, key=lambda name: len(ClassIndex(banks[name].utterances, axis)))


def _episodes(plan: Plan, fold: Fold, name: str, model: Model, shots: int) -> list[Episode]:
    """The same clips for everybody, through each one's own front end."""
    bank = open_corpora([fold.sets[name]], model.config.front_end)
    index = ClassIndex(bank.utterances, plan.recipe.tasks.classes)
    protocol, _ = fitted(protocol_of(plan.recipe, shots), index)
    draws = [index.draw(protocol.spec, [protocol.seed, _SEED, i]) for i in range(N_TASKS)]
    return [as_episode(bank, draw, model.config.front_end) for draw in draws]


def _numbers() -> Callable[[], int]:
    numbers = count()
    return lambda: next(numbers) % N_TASKS


def _adapt(learner: Any, episodes: list[Episode], number: int) -> Any:
    return learner.adapt(episodes[number].support)


def _predict(learner: Any, states: list[State], episodes: list[Episode], number: int) -> Any:
    return learner.predict(states[number], episodes[number].query)


def _bytes(state: State) -> int:
    return sum(value.numel() * value.element_size() for value in state.values())
