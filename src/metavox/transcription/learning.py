"""The outer loop of recognisers, to be read from top to bottom: joint steps, then steps that learn to adapt.

Task selection is ``data.spoken``, initialisation ``start``, learning ``learn``; transfer and evaluation are
``adapting`` and ``evaluation.transcription``.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config.transcription import TranscriptionExperiment
from ..contracts import FrontEnd, InputError, Transcribed
from ..data.spoken import Spoken
from ..interruption import until_interrupted
from ..learners.self_supervised import Masking, masked_gradient
from ..learners.sequence import Change
from ..learners.sequence_outer import MetaLearning, SequenceGrads, joint_gradient
from ..metrics import cer
from ..nets.recogniser import Recogniser
from ..text.decode import greedy_batch
from ..text.symbols import UNIVERSAL
from ..training_log import TrainingLog, claim
from ..training_log import check_out as check_folder
from .averages import require_single
from .changes import change_of
from .models import Recognition, load_recogniser, new_net, save_recogniser, widened
from .shelf import resolved
from .trainer import Trainer, apply, meta_of, restore_trainer, save_trainer, trainer_of
from .trainer import step_size as step_size

MAX_SKIPPED = 20
"""Steps in a row whose gradient is not finite before training stops."""


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows."""

    step: int
    n_steps: int
    loss: float
    cer: float | None


# ------------------------------------------------------------------------------------------------- 2. initialisation


def start(experiment: TranscriptionExperiment, spoken: Spoken) -> Recogniser:
    """A network with seeded weights, or those of ``train.init``, with adapters and ears for an encoding that it may
    lack; these begin without effect, and how an encoding is heard is for the initialisation to say.

    Raises:
        InputError: an initialisation that is no recogniser, or of another shape.
    """
    train = experiment.train
    config = experiment.recogniser.model_copy(
        update={"n_symbols": UNIVERSAL.size, "n_phones": len(spoken.phones) + 1 if spoken.phones else 0}
    )
    net = new_net(config, train.seed)
    if train.init:
        found = load_recogniser(train.init)
        require_single(found, "train")
        new = {name: getattr(config, name) for name in ("adapter", "condition") if not getattr(found.net.config, name)}
        found = widened(found, **new)
        if new.get("condition"):
            config = config.model_copy(update={"condition_by": found.net.config.condition_by})
            net = new_net(config, train.seed)
        own, theirs = (one.model_copy(update={"dropout": 0.0}) for one in (config, found.net.config))
        if own != theirs or found.phones != spoken.phones or found.symbols != UNIVERSAL:
            raise InputError(
                f"train.init is {train.init}, a network of another shape, front end or alphabet or with other phones; "
                "leave it away or use its recogniser section."
            )
        net.load_state_dict(found.net.state_dict())
    return net


def known_phones(experiment: TranscriptionExperiment) -> tuple[str, ...] | None:
    """What the auxiliary head must spell: the phones of ``train.init``, or None where the data decide."""
    return load_recogniser(experiment.train.init).phones if experiment.train.init else None


# ------------------------------------------------------------------------------------------------------- 3. learning


def learn(
    experiment: TranscriptionExperiment,
    spoken: Spoken,
    out: Path,
    *,
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
) -> Recognition:
    """Train a recogniser and leave its folder in ``out``. On Ctrl-C the last step is kept; ``resume`` goes on exactly.

    Raises:
        InputError: ``out`` is taken or holds another experiment; a recipe that contradicts the learner that it names;
            tasks are asked for and there are none; gradients that
            stay non-finite.
        KeyboardInterrupt: after the checkpoint was written.
    """
    check_out(experiment, out, resume=resume)
    asked, experiment = experiment, resolved(experiment)
    if experiment.learning.learner:  # all of the shelf hear the same, and tasks can hold no more than this
        spoken = spoken.of_tasks()
    trainer = trainer_of(experiment, start(experiment, spoken))
    train, meta = experiment.train, meta_of(experiment, trainer.net)
    if meta is not None or experiment.recogniser.condition:
        spoken.require_tasks()
    if resume:
        restore_trainer(trainer, out)
    else:
        claim(asked, out)
    log, skipped_in_a_row = TrainingLog(out, trainer.step), 0
    steps = _steps(experiment, spoken, trainer, meta)
    trainer.net.train()
    try:
        for _ in until_interrupted(lambda: trainer.at(train) < train.steps):
            started = time.process_time()
            grads = next(steps)
            applied = apply(trainer, grads, experiment)
            trainer.step += 1
            skipped_in_a_row = 0 if applied else skipped_in_a_row + 1
            if skipped_in_a_row >= MAX_SKIPPED:
                raise InputError(
                    f"{MAX_SKIPPED} steps in a row had a gradient that is not finite, up to step {trainer.step}; train "
                    "anew with a lower train.lr or learning.inner_lr and another --out."
                )
            trainer.cpu_s += time.process_time() - started
            last = trainer.at(train) >= train.steps
            if trainer.step % train.validate_every == 0 or last:
                started = time.process_time()
                trainer.cer = validate(trainer.net, spoken)
                trainer.cpu_s += time.process_time() - started
            _note(trainer, grads, log, train.report_every, report, train.steps)
            if trainer.step % train.checkpoint_every == 0 or last:
                save_trainer(trainer, out)
    finally:
        trainer.net.eval().training_dtype = torch.float32
        save_trainer(trainer, out)
        about = _about(experiment, spoken, trainer)
        found = Recognition(trainer.net, UNIVERSAL, out.name, "", about, spoken.phones)
        found = save_recogniser(out, found)
        log.close()
    return found


def _steps(
    experiment: TranscriptionExperiment, spoken: Spoken, trainer: Trainer, meta: MetaLearning | None
) -> Iterator[SequenceGrads]:
    """The gradient of each step from where the trainer stands; every step has a generator of its own."""
    train, learning = experiment.train, experiment.learning
    n_masked = round(learning.share * train.steps) if trainer.guess is not None else 0
    first_meta = train.steps if meta is None else round((1 - learning.share) * train.steps)
    rounds: Iterator[np.ndarray] | None = None
    while True:
        at = trainer.at(train)
        rng = np.random.default_rng([train.seed, trainer.step, 7])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        heard_as_is = at < train.plain_share * train.steps
        change = _unchanged if heard_as_is else changing(experiment, spoken.sentences.bank.front_end)
        if meta is not None and at >= first_meta:
            meta.step_sizes = {name: value.detach().exp() for name, value in trainer.sizes.items()}
            meta.progress((at - first_meta) / max(1, train.steps - first_meta))
            episodes = [_episode(spoken, experiment, change, rng, generator) for _ in range(experiment.tasks.batch)]
            yield meta.gradient(episodes, generator)
            continue
        if rounds is None or trainer.step % _ROUND == 0:  # resuming draws the same rounds
            rounds = spoken.batches(train.batch_s, np.random.default_rng([train.seed, trainer.step // _ROUND, 8]))
            for _ in range(trainer.step % _ROUND):
                next(rounds)
        positions = next(rounds)
        if at < n_masked:
            batch = change(spoken.sentences.batch(positions, experiment.recogniser.front_end), generator)
            yield _masked(trainer, batch, Masking(learning.masked_share), generator)
        elif experiment.recogniser.condition and rng.random() < learning.condition_share:
            yield _conditioned(spoken, experiment, trainer.net, change, rng, generator)
        else:
            batch = change(spoken.sentences.batch(positions, experiment.recogniser.front_end), generator)
            phones = spoken.sentences.phone_targets(positions) if spoken.phones else None
            yield joint_gradient(trainer.net, batch, phones, train.phone_weight, generator)


_ROUND = 64
"""Joint steps that draw from one stream of batches."""


def changing(experiment: TranscriptionExperiment, front_end: FrontEnd) -> Change:
    """The recipe's augmentation as a function of a batch."""
    return change_of(experiment.augment, experiment.speed, front_end)


def _unchanged(batch: Transcribed, _: torch.Generator) -> Transcribed:
    return batch


def _episode(
    spoken: Spoken,
    experiment: TranscriptionExperiment,
    change: Change,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> tuple[Transcribed, Transcribed]:
    tasks, front_end = experiment.tasks, experiment.recogniser.front_end
    for _ in range(100):
        support, query = spoken.task(tasks.support_s, tasks.query_s, rng)
        if len(query):
            break
    else:
        raise InputError(f"No two texts differ along {tasks.axis}; choose another tasks.axis.")
    return (
        change(spoken.sentences.batch(support, front_end), generator),
        change(spoken.sentences.batch(query, front_end), generator),
    )


def _conditioned(
    spoken: Spoken,
    experiment: TranscriptionExperiment,
    net: Recogniser,
    change: Change,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> SequenceGrads:
    """A joint step on one task that hears an encoding of its support."""
    support, query = _episode(spoken, experiment, change, rng, generator)
    encoding = net.encoding(support.inputs, support.lengths)
    return joint_gradient(net, query, None, 0.0, generator, encoding)


def _masked(trainer: Trainer, batch: Transcribed, masking: Masking, generator: torch.Generator) -> SequenceGrads:
    """A step that guesses what was blanked from the body's frames around it; no text is looked at."""
    net, guess = trainer.net, trainer.guess
    assert guess is not None

    def body(inputs: Tensor, lengths: Tensor) -> Tensor:
        return net.hidden(inputs, lengths, None, generator)[0].transpose(1, 2)

    grads, loss = masked_gradient(trainer.parameters, body, guess, batch.inputs, batch.lengths, masking, generator)
    return SequenceGrads(grads, loss)


def validate(net: Recogniser, spoken: Spoken, batch: int = 16) -> float | None:
    """Character error over the utterances that no step sees; None where there are none."""
    positions = spoken.held_out
    if not len(positions):
        return None
    positions = positions[np.argsort(spoken.sentences.durations_s(positions), kind="stable")]
    training = net.training
    net.eval()
    said, heard = [], []
    with torch.no_grad():
        for first in range(0, len(positions), batch):
            part = spoken.sentences.batch(positions[first : first + batch], net.front_end)
            found = greedy_batch(net(part.inputs, part.lengths), net.out_lengths(part.lengths))
            heard += [UNIVERSAL.decode(ids) for ids in found]
            said += [UNIVERSAL.decode(spoken.sentences.targets[i]) for i in positions[first : first + batch]]
    net.train(training)
    return float(cer(said, heard).rate)


# --------------------------------------------------------------------------------------------- keeping and going on


def check_out(experiment: TranscriptionExperiment, out: Path, *, resume: bool = False) -> None:
    """Raise InputError where a training cannot be left in ``out``, or the recipe contradicts the learner that it names;
    quick, to be asked before anything is computed."""
    resolved(experiment)
    check_folder(experiment, out, resume=resume)


def _note(
    trainer: Trainer,
    grads: SequenceGrads,
    log: TrainingLog,
    every: int,
    report: Callable[[Progress], None] | None,
    n_steps: int,
) -> None:
    row: dict[str, Any] = {"step": trainer.step, "loss": grads.loss}
    if grads.phone_loss is not None:
        row["phone_loss"] = grads.phone_loss
    if trainer.cer is not None:
        row["validation_cer"] = trainer.cer
    log.write(row, trainer.cpu_s)
    if report is not None and (trainer.step % every == 0 or trainer.step == n_steps):
        report(Progress(trainer.step, n_steps, grads.loss, trainer.cer))


def _about(experiment: TranscriptionExperiment, spoken: Spoken, trainer: Trainer) -> dict[str, Any]:
    data, used = experiment.data, [spoken.sentences.utterances[i] for positions in spoken.kinds for i in positions]
    return {
        "corpora": sorted({u.corpus for u in used}),
        "languages": sorted({u.lang for u in used if u.lang}),
        "left_out": [*data.leave_out_corpora, *data.leave_out_languages, *data.leave_out_speakers],
        "learning": experiment.learning.model_dump(mode="json"),
        "step_sizes": {name: _told(value.detach(), experiment) for name, value in trainer.sizes.items()},
        "hours": round(float(sum(u.duration_s for u in used)) / 3600, 2),
        "seed": experiment.train.seed,
        "steps": trainer.step,
        "skipped": trainer.skipped,
        "cpu_s": round(trainer.cpu_s, 1),
        "validation_cer": trainer.cer,
        "init": experiment.train.init,
    }


def _told(size: Tensor, experiment: TranscriptionExperiment) -> list[float]:
    """Step sizes of a tensor from their logarithms: by step, or the geometric mean of one for each number."""
    by_step = experiment.learning.outer == "maml_plus_plus"
    told: list[float] = (size.flatten() if by_step else size.mean()[None]).exp().tolist()
    return told
