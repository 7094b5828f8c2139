"""What changes while a learner is trained, as one file: a training that was stopped goes on exactly where it was."""

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .averaging.weights import MovingAverage
from .checkpoint import read_tensors, write_json, write_tensors
from .config import TrainConfig
from .contracts import InputError, Scheduled, as_row
from .data.samplers import TaskSampler
from .engine.choice import Option


@dataclass
class Trainer:
    """Everything that changes while learning; saved and restored as one file."""

    learner: nn.Module
    optimizer: torch.optim.AdamW
    step: int = 0
    validation: float | None = None
    skipped: int = 0
    cpu_s: float = 0.0
    skipped_in_a_row: int = 0
    budget_s: float | None = None
    """CPU seconds that the schedule is spread over, whatever steps they buy; None: over ``train.steps``."""
    average: MovingAverage | None = None
    """Of the weights over steps, where ``train.ema`` asks for one."""

    def position(self, train: TrainConfig) -> float | int:
        """How far the schedule of ``train.steps`` outer steps has come."""
        if self.budget_s is None:
            return self.step
        return train.steps * min(1.0, self.cpu_s / self.budget_s)


def kept(trainer: Trainer) -> nn.Module:
    """The learner that is written: as it is, or with the averaged weights where there is an average."""
    if trainer.average is None or not trainer.average.values:
        return trainer.learner
    other = copy.deepcopy(trainer.learner).eval()
    other.load_state_dict(trainer.average.values)
    return other


def save(trainer: Trainer, sampler: TaskSampler, out: Path) -> None:
    """Write the state into ``out``; whole or not at all."""
    tensors = {f"value/{name}": value for name, value in trainer.learner.state_dict().items()}
    for name, value in trainer.learner.named_parameters():
        for key, moment in trainer.optimizer.state.get(value, {}).items():
            tensors[f"{key}/{name}"] = torch.as_tensor(moment)
    if trainer.average is not None:
        tensors |= {f"average/{name}": value for name, value in trainer.average.values.items()}
    tensors |= {f"sampler/{name}": torch.from_numpy(array) for name, array in sampler.arrays.items()}
    known = math.nan if trainer.validation is None else trainer.validation
    tensors["trainer"] = torch.tensor([trainer.step, trainer.skipped, trainer.cpu_s, known], dtype=torch.float64)
    if isinstance(trainer.learner, Scheduled) and trainer.learner.chosen:
        write_json(out / "executors.json", {key: as_row(option) for key, option in trainer.learner.chosen.items()})
    write_tensors(out / "trainer.safetensors", tensors)


def restore(trainer: Trainer, sampler: TaskSampler, out: Path) -> None:
    """Take up the state that ``save`` left in ``out``, if it did.

    Raises:
        InputError: a state of another experiment, or a damaged one.
    """
    if not (out / "trainer.safetensors").exists():
        return  # it was stopped before its first checkpoint
    tensors = read_tensors(out / "trainer.safetensors")
    try:
        step, skipped, cpu_s, validation = tensors.pop("trainer").tolist()
        values = {name: tensors[f"value/{name}"] for name in trainer.learner.state_dict()}
        sampler.restore({name: tensors[f"sampler/{name}"].numpy() for name in sampler.arrays})
        trainer.learner.load_state_dict(values)
        if trainer.average is not None:
            trainer.average.values = {name: tensors[f"average/{name}"] for name in values}
            trainer.average.n_updates = int(step)
        for name, parameter in trainer.learner.named_parameters():
            moments = {
                key: tensors[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}/{name}" in tensors
            }
            if moments:
                trainer.optimizer.state[parameter] = moments
        if isinstance(trainer.learner, Scheduled) and (out / "executors.json").exists():
            known = json.loads((out / "executors.json").read_text(encoding="utf-8"))
            trainer.learner.chosen.update({key: Option(**option) for key, option in known.items()})
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as err:
        raise InputError(f"{out / 'trainer.safetensors'} does not fit this experiment ({err}); train anew.") from None
    trainer.step, trainer.skipped, trainer.cpu_s = int(step), int(skipped), cpu_s
    trainer.validation = None if math.isnan(validation) else validation
