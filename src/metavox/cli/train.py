"""``metavox train``: meta-train a recipe."""

import math
import time
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file, such as recipes/commands.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model; new or empty.")] = Path("exp/model"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on where --out stopped.")] = False,
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Meta-train a model on many small tasks.

    Example: metavox train recipes/commands.yaml train.steps=500 --out exp/commands
    """
    import torch

    from ..config import load_experiment
    from ..data.selection import select_tasks
    from ..training import Step, check_out, learn
    from .output import note, print_json
    from .progress import bars

    experiment = load_experiment(recipe, overrides or [])
    check_out(experiment, out, resume=resume)  # before anything is computed
    torch.set_num_threads(experiment.train.threads)
    started = time.time()
    last: list[Step] = []
    with bars() as report:
        tasks = select_tasks(experiment, report)
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
    if json_out:
        print_json(
            {
                "model": str(out),
                "steps": experiment.train.steps,
                "loss": done.loss if done and math.isfinite(done.loss) else None,
                "validation_accuracy": done.validation if done else None,
                "skipped": done.skipped if done else 0,
                "seconds": round(time.time() - started, 1),
            }
        )
    else:
        print(f"Wrote {out}. Evaluate it: metavox evaluate {out} --corpus FOLDER --shots 5")
