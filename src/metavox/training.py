"""The outer loop, to be read from top to bottom.

The five steps of meta-learning, by their names:

1. task selection      ``data.selection.select_tasks``: which recordings, which classes, which episodes
2. initialisation      ``initialise``: a learner with seeded weights
3. learning            ``learn``: outer steps over training tasks, validated on classes held out
4. knowledge transfer  ``Learner.adapt``: the same function here, in evaluation and on a user's device
5. evaluation          ``evaluation.protocols.evaluate``: on tasks that training never saw, with an interval
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from .augment.spectral import change_features, jitter_bounds, mask_blocks
from .averaging.weights import MovingAverage
from .background import furnish, wants_background
from .checkpoint import NEGATIVES, build, load_model, save_model, write_json, write_tensors
from .config import AugmentConfig, Experiment, ModelConfig
from .contracts import Batch, Draw, Episode, FrontEnd, Grads, InputError, Scheduled, Task
from .data.bank import Bank
from .data.selection import Tasks
from .features import window
from .interruption import until_interrupted
from .learners.metric import FURNITURE
from .learners.outer import leave_one_out_and_voices
from .learners.preset import resolved
from .learners.presets import LEARNERS, has_base_classes, has_fixed_head
from .learners.update import optimizer_of
from .learners.voiced import VoicedPrototypes, known_speakers
from .nets.encoders import FusedEncoder
from .nets.precision import training_dtype as training_dtype
from .provenance import as_episode, provenance
from .tasks import TASKS
from .training_log import TrainingLog, claim
from .training_state import Trainer, kept, restore, save

MAX_SKIPPED = 20
"""Outer steps in a row whose gradient is not finite before training stops."""


# ------------------------------------------------------------------------------------------------ 2. initialisation


def initialise(experiment: Experiment, tasks: Tasks) -> tuple[nn.Module, ModelConfig]:
    """A learner with weights drawn from the seed; joint training gets one output for each training class, a head of
    fixed size as many as a task has.

    Raises:
        InputError: a learner that needs no training, or one with a head of fixed size and tasks of other sizes.
    """
    config = resolved(experiment.model, LEARNERS)
    if LEARNERS[config.learner.name].outer is None:
        trainable = ", ".join(name for name, preset in LEARNERS.items() if preset.outer is not None)
        raise InputError(f"model.learner.name is {config.learner.name!r}; learners that can be trained: {trainable}.")
    if has_base_classes(config.learner.name):
        learner = config.learner.model_copy(update={"n_base_classes": tasks.training.n_classes})
        config = config.model_copy(update={"learner": learner})
    if LEARNERS[config.learner.name].outer is leave_one_out_and_voices:
        speakers = known_speakers([utterance.speaker for utterance in tasks.bank.utterances])
        learner = config.learner.model_copy(update={"n_voices": len(speakers)})
        config = config.model_copy(update={"learner": learner})
    if has_fixed_head(config):
        ways = _ways(config, tasks)
        config = config.model_copy(update={"learner": config.learner.model_copy(update={"ways": ways})})
    made = build(config, seed=experiment.train.seed)
    if experiment.train.init:
        _start_from(experiment.train.init, made)
    return made, config


def _start_from(source: str, learner: nn.Module) -> None:
    """Give a learner the weights of a model; what that one learned after its training stays behind."""
    theirs = load_model(source).learner.state_dict()
    ours = learner.state_dict()
    known = {name: value for name, value in theirs.items() if name in ours or name not in FURNITURE}
    odd = sorted(ours.keys() ^ known.keys()) or [n for n, v in known.items() if v.shape != ours[n].shape]
    if odd:
        raise InputError(
            f"train.init is {source}, whose {odd[0]} does not fit the model of this recipe; start from a model of the "
            "same encoder and learner, or leave train.init away."
        )
    learner.load_state_dict(known)


def _ways(config: ModelConfig, tasks: Tasks) -> int:
    """Classes of a head of fixed size; InputError where tasks have others."""
    drawn, learner = tasks.training.spec.n_way, config.learner
    if learner.ways not in (0, drawn):
        raise InputError(
            f"model.learner.ways is {learner.ways} and episodes.ways is {drawn}; {learner.name} is trained on tasks of "
            "as many classes as it has rows, so make them equal or leave model.learner.ways away."
        )
    for sampler in (tasks.training, tasks.validation):
        if sampler.spec.n_way != drawn or not sampler.always_full:
            raise InputError(
                f"{learner.name} has a head for {drawn} classes and some tasks have others; select them with "
                "exact=True, or choose a learner of any number of classes, such as maml."
            )
    return drawn


# ------------------------------------------------------------------------------------------------------ 3. learning


@dataclass(frozen=True)
class Step:
    """What is known after an outer step."""

    step: int
    n_steps: int
    loss: float
    accuracy: float
    validation: float | None
    """Accuracy on held-out classes, where it was measured last."""
    skipped: int


def learn(
    experiment: Experiment,
    tasks: Tasks,
    out: Path,
    *,
    resume: bool = False,
    report: Callable[[Step], None] | None = None,
) -> nn.Module:
    """Meta-train and leave a model folder in ``out``. On Ctrl-C the last step is kept; ``resume`` goes on exactly.

    Raises:
        InputError: ``out`` is taken, or holds another experiment; gradients that stay non-finite.
        KeyboardInterrupt: after the checkpoint was written.
    """
    check_out(experiment, out, resume=resume)
    trainer, config = begin(experiment, tasks)
    learner, train, task = trainer.learner, experiment.train, TASKS["commands"]()
    if resume:
        restore(trainer, tasks.training, out)
    else:
        claim(experiment, out)
    log = TrainingLog(out, trainer.step)
    try:
        for _ in until_interrupted(lambda: trainer.step < train.steps):
            started = time.process_time()
            grads = outer_step(trainer, tasks, experiment, config.learner.name, task)
            last = trainer.step == train.steps
            if trainer.average is not None:
                trainer.average.update(learner.state_dict())
            if trainer.step % train.validate_every == 0 or last:
                trainer.validation = validate(experiment, tasks, kept(trainer), task)
            trainer.cpu_s += time.process_time() - started
            validated = trainer.step % train.validate_every == 0 or last
            log.write(_row(trainer, grads, validated=validated), trainer.cpu_s)
            if trainer.step % train.checkpoint_every == 0 or last:
                save(trainer, tasks.training, out)
            if train.keep_every and trainer.step % train.keep_every == 0:
                save_model(out / "steps" / f"{trainer.step:06d}", kept(trainer), config, {"step": trainer.step})
            if report is not None:
                loss, accuracy = grads.metrics["loss"], grads.metrics["accuracy"]
                report(Step(trainer.step, train.steps, loss, accuracy, trainer.validation, trainer.skipped))
    finally:  # also after Ctrl-C and on an error: what was learned is kept, as a model that can be used
        learner.eval()
        save(trainer, tasks.training, out)
        _keep(experiment, tasks, trainer, config, out)
        log.close()
    write_json(out / "drawn.json", {"sampler": experiment.tasks.sampler, **tasks.training.log()})
    return kept(trainer)


def begin(experiment: Experiment, tasks: Tasks) -> tuple[Trainer, ModelConfig]:
    """A learner about to take its first outer step, and its configuration. Raises InputError as ``initialise``."""
    learner, config = initialise(experiment, tasks)
    train = experiment.train
    tasks.training.restart()
    if isinstance(learner, VoicedPrototypes):
        learner.introduce([utterance.speaker for utterance in tasks.bank.utterances])
    if isinstance(learner.encoder, FusedEncoder):
        learner.encoder.training_dtype = training_dtype(train.precision)
    average = MovingAverage(train.ema) if train.ema else None
    trainer = Trainer(learner.train(), optimizer_of(learner, train.lr, train.weight_decay), average=average)
    return trainer, config


def training_episodes(experiment: Experiment, tasks: Tasks, step: int) -> list[Episode]:
    """The episodes of one outer step, a function of seed and step, and of earlier losses where sampling adapts."""
    front_end, seed = experiment.model.front_end, experiment.train.seed
    episodes = []
    for i in range(experiment.episodes.batch):
        draw = tasks.training.episode(step, i)
        if experiment.augment.enabled:
            episodes.append(_augmented(tasks.bank, draw, front_end, experiment.augment, [seed, step, i, 2]))
        else:
            episodes.append(as_episode(tasks.bank, draw, front_end))
    return episodes


def _augmented(bank: Bank, draw: Draw, front_end: FrontEnd, change: AugmentConfig, seed: list[int]) -> Episode:
    """The windows of a draw, each of some variant of its clip, changed as ``change`` says."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    positions = np.concatenate([draw.support, draw.query])
    variant = None
    if bank.n_variants and change.variant_share:
        varied = rng.random(len(positions)) < change.variant_share
        variant = np.where(varied, rng.integers(1, bank.n_variants + 1, len(positions)), 0)
    bounds = bank.window_bounds(positions, variant, crop=front_end.crop)
    if front_end.crop and change.crop_jitter:
        bounds = jitter_bounds(bounds, bank.n_frames(positions, variant), rng, change.crop_jitter)
    raw, lengths = bank.padded(positions, bounds, variant)
    raw = change_features(raw, lengths, change, front_end, generator)
    inputs, lengths = window(raw, torch.zeros_like(lengths), lengths, front_end)
    inputs = mask_blocks(inputs, lengths, generator, n_masks=change.masks, widest=change.mask_width)
    labels = torch.from_numpy(np.concatenate([draw.support_labels, draw.query_labels]))
    n, k = len(draw.classes), len(draw.support)
    support = Batch(inputs[:k], lengths[:k], labels[:k], n)
    return Episode(support, Batch(inputs[k:], lengths[k:], labels[k:], n), draw)


def step_size(experiment: Experiment, step: float | int) -> float:
    """Linear warm-up, then a cosine down to ``train.last_lr`` of ``train.lr``; ``step`` may lie between two steps."""
    train = experiment.train
    if step < train.warmup:
        return train.lr * min(step + 1, train.warmup) / train.warmup
    done = (step - train.warmup) / max(1, train.steps - train.warmup)
    return train.lr * (train.last_lr + (1 - train.last_lr) * (1 + math.cos(math.pi * min(done, 1.0))) / 2)


def outer_step(trainer: Trainer, tasks: Tasks, experiment: Experiment, name: str, task: Task) -> Grads:
    """One step of the learner called ``name`` on fresh episodes, and what was found.

    Raises:
        InputError: a gradient that is not finite, as were those of ``MAX_SKIPPED - 1`` steps before.
    """
    learner, outer = trainer.learner, LEARNERS[name].outer
    assert outer is not None  # initialise refuses learners without one
    if isinstance(learner, Scheduled):
        learner.progress(trainer.position(experiment.train) / experiment.train.steps)
    episodes = training_episodes(experiment, tasks, trainer.step)
    grads = outer(learner, task, episodes)
    applied = _apply(trainer, grads, experiment)
    losses = grads.losses or [grads.metrics["loss"]] * len(episodes)
    tasks.training.record(trainer.step, [episode.draw for episode in episodes], losses, grads.guessing)
    trainer.step += 1
    trainer.skipped_in_a_row = 0 if applied else trainer.skipped_in_a_row + 1
    if trainer.skipped_in_a_row >= MAX_SKIPPED:
        raise InputError(
            f"{MAX_SKIPPED} outer steps in a row had a gradient that is not finite, up to step {trainer.step - 1}; "
            "train anew with a lower train.lr or model.learner.inner_lr and another --out."
        )
    return grads


def _row(trainer: Trainer, grads: Grads, *, validated: bool) -> dict[str, Any]:
    """What the log says of a step."""
    row = {"step": trainer.step, **grads.metrics, "lr": trainer.optimizer.param_groups[0]["lr"]}
    return {**row, "validation": trainer.validation} if validated else row


def _apply(trainer: Trainer, grads: Grads, experiment: Experiment) -> bool:
    """One optimizer step with a clipped gradient; False where it is not finite, and nothing moved."""
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads.values.values()]))
    if not torch.isfinite(norm):
        trainer.skipped += 1
        return False
    scale = min(1.0, experiment.train.clip / (float(norm) + 1e-12))
    parameters = dict(trainer.learner.named_parameters())
    for name, grad in grads.values.items():
        parameters[name].grad = grad * scale
    for group in trainer.optimizer.param_groups:
        group["lr"] = step_size(experiment, trainer.position(experiment.train))
    trainer.optimizer.step()
    return True


def validate(experiment: Experiment, tasks: Tasks, learner: Any, task: Any) -> float:
    """Mean accuracy over a fixed set of episodes of held-out classes, without augmentation."""
    learner.eval()
    hits = []
    with torch.no_grad():
        for i in range(experiment.train.validation_episodes):
            episode = as_episode(tasks.bank, tasks.validation.episode(0, i), experiment.model.front_end)
            output = learner.predict(learner.adapt(episode.support), episode.query)
            hits.append(float(task.score(output, episode.query).mean()))
    learner.train()
    return float(np.mean(hits))


# ------------------------------------------------------------------------------------------- keeping and going on


def check_out(experiment: Experiment, out: Path, *, resume: bool = False) -> None:
    """Raise InputError where a training cannot be left in ``out``; quick, to be asked before anything is computed."""
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} is not empty; use --resume to go on, or another --out.")
        return
    known = out / "experiment.yaml"
    try:
        theirs = yaml.safe_load(known.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{out} holds no training to resume; leave --resume away to start one.") from None
    except (OSError, ValueError, yaml.YAMLError) as err:
        raise InputError(f"{known} cannot be read ({' '.join(str(err).split())}); train anew.") from None
    if not isinstance(theirs, dict):
        raise InputError(f"{known} is damaged and holds no experiment; train anew.")
    ours = experiment.model_dump(mode="json")
    odd = [key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)]
    if odd:
        raise InputError(f"{out} was trained with another {odd[0]} section; resume with the same recipe.")


def _keep(experiment: Experiment, tasks: Tasks, trainer: Trainer, config: ModelConfig, out: Path) -> None:
    """Write the model; one that learned all that it should gets what its recipe wants beside the weights."""
    about: dict[str, Any] = {}
    learner = kept(trainer)
    known = {
        "steps": trainer.step,
        "skipped": trainer.skipped,
        "cpu_s": round(trainer.cpu_s, 1),
        "validation_accuracy": trainer.validation,
    }
    if trainer.step == experiment.train.steps and wants_background(experiment.data):
        furnished = furnish(learner, config, experiment, tasks)
        config, about = furnished.config, furnished.about
        if furnished.negatives is not None:
            write_tensors(out / NEGATIVES, furnished.negatives)
    save_model(out, learner, config, {**provenance(experiment, tasks, learner, known), **about})
