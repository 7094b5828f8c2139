"""``metavox train``: meta-train a recipe."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..config import Experiment, TranscriptionExperiment, VoicesExperiment


GUARD_UTTERANCES = 40
"""Held-out utterances that a model keeps to measure forgetting on, about a megabyte."""


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file, such as recipes/commands.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model; new or empty.")] = Path("exp/model"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on where --out stopped.")] = False,
    members: Annotated[
        int | None, typer.Option(help="Train so many models that differ, to be averaged, into --out/1 and so on.")
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="What sets members apart beside the seed: bootstrap, architecture, augmentation, tasks."),
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Meta-train a model on many small tasks.

    Example: metavox train recipes/commands.yaml train.steps=500 --out exp/commands

    Example: metavox train recipes/transcription.yaml --out exp/asr

    Example: metavox train recipes/voices.yaml --out exp/voices

    Example: metavox train recipes/commands.yaml --members 5 --vary bootstrap --vary augmentation --out exp/members
    """
    from ..config import TranscriptionExperiment, VoicesExperiment, load_recipe
    from .output import print_json

    experiment = load_recipe(recipe, overrides or [])
    if members is not None or vary:
        _train_members(experiment, members, vary or [], out, resume=resume, json_out=json_out)
    elif isinstance(experiment, TranscriptionExperiment):
        _train_recogniser(experiment, out, resume=resume, json_out=json_out)
    elif isinstance(experiment, VoicesExperiment):
        _train_voices(experiment, out, resume=resume, json_out=json_out)
    else:
        found = _train_words(experiment, out, resume=resume)
        if json_out:
            print_json(found)
        else:
            print(f"Wrote {out}. Evaluate it: metavox evaluate {out} --corpus FOLDER --shots 5")


def _train_members(
    experiment: "Experiment | TranscriptionExperiment | VoicesExperiment",
    n_members: int | None,
    sources: list[str],
    out: Path,
    *,
    resume: bool,
    json_out: bool,
) -> None:
    """One after the other; with ``resume`` those that are finished stay, and the one that was stopped goes on."""
    from ..averaging.diversity import varied
    from ..config import Experiment
    from ..errors import InputError
    from ..training import check_out
    from .output import print_json

    if n_members is None:
        raise InputError(f"--vary is {sources[0]} and --members is not given; say how many models to train.")
    if not isinstance(experiment, Experiment):
        raise InputError(
            "--members trains models of words; recognisers to average are adapted from one base with other --seed, or "
            "trained one by one with other train.seed."
        )
    folders = [out / str(k) for k in range(1, n_members + 1)]
    members = varied(experiment, sources, n_members)
    if not resume:
        check_out(experiment, out)
    started, found = time.time(), []
    for member, folder in zip(members, folders, strict=True):
        if resume and (folder / "drawn.json").is_file():
            continue
        found.append(_train_words(member, folder, resume=resume and (folder / "experiment.yaml").is_file()))
    if json_out:
        alike = {key: [one[key] for one in found] for key in ("model", "loss", "validation_accuracy", "skipped")}
        seconds = round(time.time() - started, 1)
        print_json({**alike, "steps": experiment.train.steps, "out": str(out), "seconds": seconds})
    else:
        print(f"Wrote {out}/1 to {out}/{n_members}. Average them: metavox average {out}/* --dev CORPUS --out MODEL")


def _train_words(experiment: "Experiment", out: Path, *, resume: bool) -> dict[str, Any]:
    """Train, and what a summary says of it."""
    import torch

    from ..data.selection import select_tasks
    from ..learners.presets import has_fixed_head
    from ..training import Step, check_out, learn
    from .output import note
    from .progress import bars

    check_out(experiment, out, resume=resume)  # before anything is computed
    torch.set_num_threads(experiment.train.threads)
    started = time.time()
    last: list[Step] = []
    with bars() as report:
        tasks = select_tasks(experiment, report, exact=has_fixed_head(experiment.model))
        if tasks.absent:
            note(f"Not here and left out: {', '.join(tasks.absent)} (METAVOX_DATA names the folder of recordings).")
        for sentence in tasks.notes:
            note(sentence)

        def show(step: Step) -> None:
            known = "" if step.validation is None else f"  held-out {step.validation:.2f}"
            report("learning", step.step, step.n_steps, f"loss {step.loss:.2f}{known}")
            last[:] = [step]

        learn(experiment, tasks, out, resume=resume, report=show)
    done = last[0] if last else None
    return {
        "model": str(out),
        "steps": experiment.train.steps,
        "loss": done.loss if done and math.isfinite(done.loss) else None,
        "validation_accuracy": done.validation if done else None,
        "skipped": done.skipped if done else 0,
        "seconds": round(time.time() - started, 1),
    }


def _train_recogniser(experiment: "TranscriptionExperiment", out: Path, *, resume: bool, json_out: bool) -> None:
    import torch

    from ..data.spoken import select_spoken
    from ..text.symbols import UNIVERSAL
    from ..transcription.guard import write_guard
    from ..transcription.learning import Progress, check_out, known_phones, learn
    from .output import note, print_json
    from .progress import bars

    check_out(experiment, out, resume=resume)
    torch.set_num_threads(experiment.train.threads)
    started = time.time()
    with bars() as report:
        front_end, phones = experiment.recogniser.front_end, known_phones(experiment)
        spoken = select_spoken(
            experiment.data, experiment.tasks, front_end, UNIVERSAL, experiment.train.seed, report, phones
        )
        if spoken.absent:
            note(f"Not here and left out: {', '.join(spoken.absent)} (METAVOX_DATA names the folder of recordings).")
        for sentence in spoken.notes:
            note(sentence)

        def show(at: Progress) -> None:
            known = "" if at.cer is None else f"  held-out character error {at.cer:.2f}"
            report("learning", at.step, at.n_steps, f"loss {at.loss:.2f}{known}")

        found = learn(experiment, spoken, out, resume=resume, report=show)
        if len(spoken.held_out):
            write_guard(out, spoken.sentences, spoken.held_out[:GUARD_UTTERANCES])
    if json_out:
        keys = ("steps", "validation_cer", "hours", "cpu_s")
        said = {key: found.about.get(key) for key in keys}
        print_json({"model": str(out), **said, "seconds": round(time.time() - started, 1)})
    else:
        print(f"Wrote {out}. Adapt it: metavox adapt {out} CORPUS --out MODEL2")


def _train_voices(experiment: "VoicesExperiment", out: Path, *, resume: bool, json_out: bool) -> None:
    import torch

    from ..training_log import check_out
    from ..voices.keeping import keep
    from ..voices.learning import Progress, learn
    from ..voices.material import gather
    from .output import note, print_json
    from .progress import bars

    check_out(experiment, out, resume=resume)
    torch.set_num_threads(experiment.train.threads)
    started = time.time()
    last: list[Progress] = []
    with bars() as report:
        material = gather(experiment.data, report)
        if material.absent:
            note(f"Not here and left out: {', '.join(material.absent)} (METAVOX_DATA names the folder of recordings).")

        def show(at: Progress) -> None:
            report("learning", at.step, at.n_steps, f"loss {at.loss:.2f}  nearest {at.accuracy:.2f}")
            last[:] = [at]

        net = learn(experiment, material, out, resume=resume, report=show)
        model = keep(out, net, experiment, material, report)
    if json_out:
        told = {"loss": last[0].loss, "accuracy": last[0].accuracy} if last else {}
        print_json({"model": str(out), **told, **dict(model.about), "seconds": round(time.time() - started, 1)})
    else:
        uncalibrated = "" if model.ratios else ", uncalibrated for want of data.development_speakers"
        print(f"Wrote {out}{uncalibrated}. Score it: metavox evaluate {out} --protocol verification --corpus CORPUS")
