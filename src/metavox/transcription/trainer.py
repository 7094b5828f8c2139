"""What changes while a recogniser is learned: the network, its optimizer, and what is learned beside it."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoint import read_tensors, seeded, write_tensors
from ..config.transcription import TranscriptionExperiment, TranscriptionTrainConfig
from ..contracts import InputError
from ..learners.sequence_outer import META, Inner, MetaLearning, SequenceGrads
from ..nets.precision import training_dtype
from ..nets.recogniser import Recogniser

STEP_SIZE_LR = 0.02
"""Step size of what is learned as a logarithm: the step sizes of the inner loop."""
GUESS = "guess."
"""Prefix of the layer that guesses what was blanked, which is no part of the recogniser."""


@dataclass
class Trainer:
    """Everything that changes while learning; saved and restored as one file."""

    net: Recogniser
    optimizer: torch.optim.AdamW
    sizes: dict[str, Tensor] = field(default_factory=dict)
    """Learned step sizes, as logarithms."""
    guess: nn.Linear | None = None
    """What guesses blanked frames from those of the body, where that is learned from."""
    step: int = 0
    cer: float | None = None
    cpu_s: float = 0.0
    skipped: int = 0

    def at(self, train: TranscriptionTrainConfig) -> float:
        """How far learning is, in steps: those that were taken, or where there is a budget their share of it."""
        return train.steps * min(1.0, self.cpu_s / train.budget_s) if train.budget_s else float(self.step)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All that the gradient is clipped over, by name."""
        own = dict(self.net.named_parameters())
        if self.guess is not None:
            own |= {GUESS + name: value for name, value in self.guess.named_parameters()}
        return own


def trainer_of(experiment: TranscriptionExperiment, net: Recogniser) -> Trainer:
    """A trainer that has taken no step."""
    train, learning = experiment.train, experiment.learning
    net.training_dtype = training_dtype(train.precision)
    guess: nn.Linear | None = None
    if learning.outer == "masked":
        sizes = (net.config.channels, net.config.reduction * net.front_end.n_mels)
        guess = seeded(lambda: nn.Linear(*sizes), train.seed)
    values = list(net.parameters()) + ([] if guess is None else list(guess.parameters()))
    optimizer = torch.optim.AdamW(values, lr=train.lr, betas=(0.9, 0.98), weight_decay=train.weight_decay)
    trainer = Trainer(net, optimizer, guess=guess)
    meta = meta_of(experiment, net)
    if meta is not None and meta.step_sizes:
        trainer.sizes = {name: value.log().requires_grad_() for name, value in meta.step_sizes.items()}
        trainer.optimizer.add_param_group({"params": list(trainer.sizes.values()), "weight_decay": 0.0})
    return trainer


def meta_of(experiment: TranscriptionExperiment, net: Recogniser) -> MetaLearning | None:
    """The meta-gradient that the recipe asks for; None where it asks for none.

    Raises:
        InputError: an inner loop that has nothing to change, or that the outer rule cannot judge.
    """
    learning = experiment.learning
    if learning.outer not in META:
        return None
    inner = Inner(
        learning.adapts, learning.rank, learning.encoding, learning.multi_step, learning.unit_steps, learning.anneal,
        learning.prox, learning.cg_iterations,
    )  # fmt: skip
    return MetaLearning(net, learning.outer, learning.inner_steps, learning.inner_lr, inner)


def step_size(experiment: TranscriptionExperiment, step: float) -> float:
    """Linear warm-up, then a cosine down to a fiftieth of ``train.lr``."""
    train = experiment.train
    done = max(0.0, (step - train.warmup) / max(1, train.steps - train.warmup))
    return train.lr * min(1.0, (step + 1) / max(1, train.warmup)) * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)


def apply(trainer: Trainer, grads: SequenceGrads, experiment: TranscriptionExperiment) -> bool:
    """One optimizer step with a clipped gradient; False where it is not finite, and nothing moved."""
    parameters = trainer.parameters
    own = {name: grads.values[name] for name in grads.values if name in parameters}
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad.float()) for grad in own.values()]))
    sound = all(bool(grads.values[name].isfinite().all()) for name in trainer.sizes if name in grads.values)
    if not sound or not bool(torch.isfinite(norm)):
        trainer.skipped += 1
        return False
    scale = min(1.0, experiment.train.clip / (float(norm) + 1e-12))
    for name, value in parameters.items():
        value.grad = own[name] * scale if name in own else None
    for name, size in trainer.sizes.items():  # the gradient of a logarithm
        size.grad = grads.values[name] * size.detach().exp() if name in grads.values else None
    lr = step_size(experiment, trainer.at(experiment.train))
    for index, group in enumerate(trainer.optimizer.param_groups):
        group["lr"] = lr if index == 0 else STEP_SIZE_LR
    trainer.optimizer.step()
    return True


def save_trainer(trainer: Trainer, out: Path) -> None:
    """Write all of it into ``out``."""
    tensors = {f"value/{name}": value for name, value in trainer.net.state_dict().items()}
    named: dict[str, Tensor] = {**trainer.parameters, **trainer.sizes}
    for name, value in named.items():
        for key, moment in trainer.optimizer.state.get(value, {}).items():
            tensors[f"{key}/{name}"] = torch.as_tensor(moment)
    if trainer.guess is not None:
        tensors |= {f"value/{GUESS}{name}": value for name, value in trainer.guess.state_dict().items()}
    tensors |= {f"size/{name}": value for name, value in trainer.sizes.items()}
    known = math.nan if trainer.cer is None else trainer.cer
    tensors["trainer"] = torch.tensor([trainer.step, trainer.skipped, trainer.cpu_s, known], dtype=torch.float64)
    write_tensors(out / "trainer.safetensors", tensors)


def restore_trainer(trainer: Trainer, out: Path) -> None:
    """Go on from what was written into ``out``.

    Raises:
        InputError: a file that is damaged or of another experiment.
    """
    if not (out / "trainer.safetensors").exists():
        return  # it was stopped before its first checkpoint
    tensors = read_tensors(out / "trainer.safetensors")
    try:
        step, skipped, cpu_s, known = tensors.pop("trainer").tolist()
        trainer.net.load_state_dict({name: tensors[f"value/{name}"] for name in trainer.net.state_dict()})
        if trainer.guess is not None:
            own = {name: tensors[f"value/{GUESS}{name}"] for name in trainer.guess.state_dict()}
            trainer.guess.load_state_dict(own)
        with torch.no_grad():
            for name, value in trainer.sizes.items():
                value.copy_(tensors[f"size/{name}"])
        named: dict[str, Tensor] = {**trainer.parameters, **trainer.sizes}
        for name, value in named.items():
            keys = ("step", "exp_avg", "exp_avg_sq")
            moments = {key: tensors[f"{key}/{name}"] for key in keys if f"{key}/{name}" in tensors}
            if moments:
                trainer.optimizer.state[value] = moments
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as err:
        raise InputError(f"{out / 'trainer.safetensors'} does not fit this experiment ({err}); train anew.") from None
    trainer.step, trainer.skipped, trainer.cpu_s = int(step), int(skipped), cpu_s
    trainer.cer = None if math.isnan(known) else known
