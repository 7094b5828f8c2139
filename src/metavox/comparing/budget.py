"""One training within a budget of processor time: whoever takes longer for a step takes fewer steps."""

import time
from dataclasses import dataclass
from typing import Any

from ..config import Experiment, ModelConfig
from ..data.selection import Tasks
from ..interruption import until_interrupted
from ..tasks import TASKS
from ..training import begin, outer_step

FEW_STEPS = 50
"""With fewer outer steps than this, a learner has hardly begun."""
LAST_SHARE = 0.1
"""Share of the steps, the last ones, whose mean loss is told."""


@dataclass(frozen=True)
class Trained:
    """A learner at the end of its time."""

    learner: Any
    config: ModelConfig
    steps: int
    skipped: int
    cpu_s: float
    loss: float
    """Mean over the last tenth of the steps."""


def train_for(experiment: Experiment, tasks: Tasks, seconds: float) -> Trained:
    """Take outer steps until ``seconds`` of processor time are spent; the step that is begun is finished.

    The schedule of the step size, and whatever else follows the share of training, follows the share of the time, so
    that everybody anneals. All that belongs to a step is counted: drawing and augmenting its tasks, the gradient, and
    what an executor does before its first one. Initial weights and validation are not.

    Raises:
        InputError: as ``training.learn``, for steps that cannot be taken.
    """
    trainer, config = begin(experiment, tasks)
    trainer.budget_s, task, losses = seconds, TASKS["commands"](), []
    for _ in until_interrupted(lambda: trainer.cpu_s < seconds):
        started = time.process_time()
        grads = outer_step(trainer, tasks, experiment, config.learner.name, task)
        trainer.cpu_s += time.process_time() - started
        losses.append(grads.metrics["loss"])
    last = losses[-max(1, round(LAST_SHARE * len(losses))) :]
    loss = sum(last) / len(last)
    return Trained(trainer.learner.eval(), config, trainer.step, trainer.skipped, trainer.cpu_s, loss)
