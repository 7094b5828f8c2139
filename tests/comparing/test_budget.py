"""Training for a time: as many steps as it buys, and a schedule that follows it."""

from collections.abc import Iterator
from typing import Any

import comparisons
import pytest

from metavox import training
from metavox.comparing import budget
from metavox.comparing.budget import train_for
from metavox.config import load_experiment
from metavox.data.selection import select_tasks
from metavox.training import step_size


class Clock:
    """Processor time as a test wants it: every look at it takes ``second``."""

    def __init__(self, second: float) -> None:
        self.now, self.second = 0.0, second

    def process_time(self) -> float:
        self.now += self.second
        return self.now


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAVOX_CACHE", str(tmp_path_factory.mktemp("cache")))
        root = tmp_path_factory.mktemp("data")
        path = comparisons.recipe(root, comparisons.corpora(root))
        experiment = load_experiment(path, ["train.steps=100", "train.warmup=10", "train.lr=1.0"])
        yield experiment, select_tasks(experiment)


@pytest.mark.parametrize(("second", "steps"), [(1.0, 20), (5.0, 4), (30.0, 1)])
def test_time_buys_steps_and_everybody_anneals(
    plan: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, second: float, steps: int
) -> None:
    experiment, tasks = plan
    sizes: list[float] = []
    taken = training.outer_step

    def spy(trainer: Any, *rest: Any) -> Any:
        grads = taken(trainer, *rest)
        sizes.append(trainer.optimizer.param_groups[0]["lr"])
        return grads

    monkeypatch.setattr(budget, "time", Clock(second))
    monkeypatch.setattr(budget, "outer_step", spy)
    found = train_for(experiment, tasks, 20.0)
    assert (found.steps, found.cpu_s) == (steps, steps * second)
    assert sizes == pytest.approx([step_size(experiment, 100 * i * second / 20) for i in range(steps)])
    assert not found.learner.training


def test_the_same_tasks_are_drawn_whoever_learns(plan: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, tasks = plan
    drawn: dict[str, list[Any]] = {}
    for name in ("prototypes", "fomaml"):
        learner = experiment.model.learner.model_copy(update={"name": name})
        model = experiment.model.model_copy(update={"learner": learner})
        monkeypatch.setattr(budget, "time", Clock(1.0))
        train_for(experiment.model_copy(update={"model": model}), tasks, 5.0)
        drawn[name] = [sorted(tasks.training.drawn.items()), tasks.training.arrays["heard"].tolist()]
    assert drawn["prototypes"] == drawn["fomaml"]
