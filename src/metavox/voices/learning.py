"""The outer loop of an encoder of voices, to be read from top to bottom: material, episodes, two losses, steps.

An episode is made as the encoder is used: a voice is enrolled by a long stretch of speech and tested by short ones
(Kye et al. 2020), each heard in another room, noise and channel. Beside telling the voices of an episode apart, all
voices of training are told apart with a margin, which few short episodes alone would not.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..augment.chain import Recorded, change_wave
from ..augment.spectral import change_features, mask_blocks
from ..augment.wave import Wave
from ..checkpoint import read_tensors, seeded, write_tensors
from ..config.voices import VoicesExperiment
from ..contracts import InputError
from ..data.cache import cache_folder
from ..data.corpora import require
from ..data.noise import open_noise
from ..features import log_mel
from ..interruption import until_interrupted
from ..losses.margin import angular_margin, prototype_loss
from ..nets.precision import training_dtype
from ..nets.voice import VoiceNet
from ..training_log import TrainingLog, check_out, claim
from .material import RATE_HZ, Material, Person

MAX_SKIPPED = 20
"""Steps in a row whose gradient is not finite before training stops."""
_FIRST_SCALE = 15.0
"""Of the cosines of an episode, where training begins; it is learned."""
_MARGIN_AFTER = 0.25


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows."""

    step: int
    n_steps: int
    loss: float
    accuracy: float
    """Share of the stretches nearest to their voice among all of training."""


class Trainer(nn.Module):
    """Everything that changes while learning; saved and restored as one file."""

    at: Tensor
    """Steps, those skipped among them, and CPU-seconds."""

    def __init__(self, experiment: VoicesExperiment, n_voices: int) -> None:
        super().__init__()
        self.net = VoiceNet(experiment.voice)
        self.directions = nn.Linear(experiment.voice.dim, n_voices, bias=False)
        self.scale = nn.Parameter(torch.tensor(_FIRST_SCALE))
        self.register_buffer("at", torch.zeros(3, dtype=torch.float64))


def learn(
    experiment: VoicesExperiment,
    material: Material,
    out: Path,
    *,
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
) -> VoiceNet:
    """Train an encoder and leave the training in ``out``. On Ctrl-C the last step is kept; ``resume`` goes on exactly.

    Raises:
        InputError: ``out`` is taken or holds another experiment; gradients that stay non-finite.
        KeyboardInterrupt: after the training was written.
    """
    check_out(experiment, out, resume=resume)
    train = experiment.train
    trainer = seeded(lambda: Trainer(experiment, len(material.people)), train.seed)
    optimizer = _optimizer(trainer, experiment)
    if resume:
        _restore(trainer, optimizer, out)
    else:
        claim(experiment, out)
    recorded = _recorded(experiment)
    chances = np.array([person.speech_s for person in material.people]) ** experiment.learning.evenness
    chances /= chances.sum()
    log, skipped_in_a_row = TrainingLog(out, int(trainer.at[0])), 0
    trainer.net.training_dtype = training_dtype(train.precision)
    try:
        for _ in until_interrupted(lambda: _done(trainer, experiment) < 1):
            started, step = time.process_time(), int(trainer.at[0])
            trainer.train()
            rng = np.random.default_rng([train.seed, step, 3])
            drawn = rng.choice(
                len(material.people),
                min(experiment.learning.voices, len(chances)),
                replace=False,
                p=chances,
            )
            loss, accuracy = _loss(trainer, experiment, material, drawn, rng, recorded)
            moved = _apply(trainer, optimizer, loss, experiment)
            skipped_in_a_row = 0 if moved else skipped_in_a_row + 1
            if skipped_in_a_row >= MAX_SKIPPED:
                raise InputError(
                    f"{MAX_SKIPPED} steps in a row had a gradient that is not finite, up to step {step + 1}; train "
                    "anew with a lower train.lr and another --out."
                )
            trainer.at += torch.tensor([1, 0 if moved else 1, time.process_time() - started])
            _note(trainer, experiment, float(loss.detach()), accuracy, log, report)
            if (step + 1) % train.checkpoint_every == 0:
                _save(trainer, optimizer, out)
    finally:
        trainer.eval()
        trainer.net.training_dtype = torch.float32
        _save(trainer, optimizer, out)
        log.close()
    return trainer.net


# -------------------------------------------------------------------------------------------------------- an episode


def _loss(
    trainer: Trainer,
    experiment: VoicesExperiment,
    material: Material,
    drawn: np.ndarray,
    rng: np.random.Generator,
    recorded: Recorded | None,
) -> tuple[Float[Tensor, ""], float]:
    """The loss of one episode, and how many of its stretches are nearest to their own voice of all."""
    learning, people = experiment.learning, [material.people[index] for index in drawn]
    n_long = round(RATE_HZ * rng.uniform(*learning.long_s))
    n_short = round(RATE_HZ * math.exp(rng.uniform(*np.log(learning.short_s))))
    hear = _Hearing(experiment, material, rng, recorded)
    long = trainer.net(hear([(person, n_long) for person in people]))
    short = trainer.net(hear([(person, n_short) for person in people for _ in range(learning.n_short)]))
    labels = torch.from_numpy(drawn).long()
    labels = torch.cat([labels, labels.repeat_interleave(learning.n_short)])
    cosines = torch.cat([long, short]) @ functional.normalize(trainer.directions.weight, dim=1).T
    margin = learning.margin * min(1.0, _done(trainer, experiment) / _MARGIN_AFTER)
    loss = learning.classes * angular_margin(cosines, labels, margin, learning.scale)
    if learning.prototypes:
        by_voice = short.unflatten(0, (len(people), learning.n_short))
        loss = loss + learning.prototypes * prototype_loss(long, by_voice, trainer.scale.clamp_min(1.0))
    return loss, float((cosines.argmax(1) == labels).float().mean())


class _Hearing:
    """Stretches of speech as features, each through a room, noise and channel of its own."""

    def __init__(
        self, experiment: VoicesExperiment, material: Material, rng: np.random.Generator, recorded: Recorded | None
    ) -> None:
        self.experiment, self.people, self.rng, self.recorded = experiment, material.people, rng, recorded

    def __call__(self, asked: list[tuple[Person, int]]) -> Float[Tensor, "B T F"]:
        """All of one length."""
        front_end, config = self.experiment.voice.front_end, self.experiment.augment
        waves = [self._changed(person.stretch(n_samples, self.rng)) for person, n_samples in asked]
        frames = torch.from_numpy(np.stack([log_mel(wave, front_end) for wave in waves]))
        if not config.enabled:
            return frames
        generator = torch.Generator().manual_seed(int(self.rng.integers(2**62)))
        lengths = torch.full((len(frames),), frames.shape[1])
        frames = change_features(frames, lengths, config, front_end, generator)
        return mask_blocks(frames, lengths, generator, n_masks=config.masks, widest=config.mask_width)

    def _changed(self, wave: Wave) -> Wave:
        if not self.experiment.augment.enabled:
            return wave
        seed = self.experiment.train.seed
        changed = change_wave(
            wave, RATE_HZ, self.experiment.waves, self.rng, seed=seed, recorded=self.recorded, talkers=self._talkers
        )
        return changed

    def _talkers(self, rng: np.random.Generator) -> list[Wave]:
        """Half a dozen people of training, a few seconds each."""
        return [self.people[index].stretch(3 * RATE_HZ, rng) for index in rng.integers(len(self.people), size=6)]


def _recorded(experiment: VoicesExperiment) -> Recorded | None:
    """Recorded noise where the recipe names some."""
    if not experiment.data.noise:
        return None
    noise = open_noise([require(name) for name in experiment.data.noise], RATE_HZ, cache_folder())
    return noise.stretch


# ------------------------------------------------------------------------------------------------------------ a step


def _done(trainer: Trainer, experiment: VoicesExperiment) -> float:
    """Share of training that is over: of its steps, or of its seconds where there is a budget."""
    train = experiment.train
    return float(trainer.at[2]) / train.budget_s if train.budget_s else float(trainer.at[0]) / train.steps


def _optimizer(trainer: Trainer, experiment: VoicesExperiment) -> torch.optim.AdamW:
    decay = experiment.train.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": list(trainer.net.parameters()), "weight_decay": decay},
        {"params": list(trainer.directions.parameters()), "weight_decay": decay / 10},
        {"params": [trainer.scale], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=experiment.train.lr)


def _apply(trainer: Trainer, optimizer: torch.optim.AdamW, loss: Tensor, experiment: VoicesExperiment) -> bool:
    """One step with a clipped gradient; False where it is not finite, and nothing moved."""
    train, step, done = experiment.train, float(trainer.at[0]), _done(trainer, experiment)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(trainer.net.parameters(), train.clip)
    if not bool(torch.isfinite(norm)):
        return False
    falling = 0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, done))) / 2
    for group in optimizer.param_groups:
        group["lr"] = train.lr * min(1.0, (step + 1) / max(1, train.warmup)) * falling
    optimizer.step()
    return True


def _note(
    trainer: Trainer,
    experiment: VoicesExperiment,
    loss: float,
    accuracy: float,
    log: TrainingLog,
    report: Callable[[Progress], None] | None,
) -> None:
    step, done = int(trainer.at[0]), _done(trainer, experiment)
    log.write({"step": step, "loss": loss, "accuracy": accuracy}, float(trainer.at[2]))
    if report is not None and (step % experiment.train.report_every == 0 or done >= 1):
        n_steps = max(step, round(step / done)) if experiment.train.budget_s else experiment.train.steps
        report(Progress(step, n_steps, loss, accuracy))


# --------------------------------------------------------------------------------------------- keeping and going on


def _save(trainer: Trainer, optimizer: torch.optim.AdamW, out: Path) -> None:
    tensors = {f"value/{name}": value for name, value in trainer.state_dict().items()}
    for name, value in trainer.named_parameters():
        for key, moment in optimizer.state.get(value, {}).items():
            tensors[f"{key}/{name}"] = torch.as_tensor(moment)
    write_tensors(out / "trainer.safetensors", {name: value.contiguous() for name, value in tensors.items()})


def _restore(trainer: Trainer, optimizer: torch.optim.AdamW, out: Path) -> None:
    """Go on from what was written into ``out``; from the start where it was stopped before its first checkpoint."""
    if not (out / "trainer.safetensors").exists():
        return
    tensors = read_tensors(out / "trainer.safetensors")
    try:
        trainer.load_state_dict({name: tensors[f"value/{name}"] for name in trainer.state_dict()})
    except (KeyError, RuntimeError) as err:
        raise InputError(f"{out / 'trainer.safetensors'} does not fit this experiment ({err}); train anew.") from None
    for name, value in trainer.named_parameters():
        moments = {
            key: tensors[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}/{name}" in tensors
        }
        if moments:
            optimizer.state[value] = moments
