"""CPU seconds of training until a validation accuracy is reached: ours beside learn2learn's loop on the same recipe.

    LEARN2LEARN_SRC=../learn2learn python benchmarks/time_to_accuracy.py --jobs 2
    python benchmarks/time_to_accuracy.py --steps 30 --every 10 --validation-episodes 4 --json /tmp/try.json \\
        --folder /tmp/try

The recipe is ``recipes/commands.yaml`` with first-order Proto-MAML, and a second time with the learner that it names.
Data, episodes, augmentation, initial weights, optimizer, clipping, step sizes and validation episodes are the same for
all sides; only the outer rule and the precision differ. The sides of a seed take their steps in turn in one process, so
that the load of the machine meets all alike. Validation is not counted, setting up is. A part that is done is not done
again.
"""

import argparse
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy_curves import ON_THE_FLY, PEER, summary
from plain_training import drawing, drawn, learn2learn_loop, prototype_loop
from training_limits import gradient_difference, limits

from metavox.benchmarking.peers import peers_here
from metavox.benchmarking.timing import machine
from metavox.config import Experiment, load_experiment
from metavox.contracts import Outer
from metavox.data.selection import Tasks, select_tasks
from metavox.learners.outer import leave_one_out, meta_gradient
from metavox.tasks import TASKS
from metavox.training import Trainer, _apply, as_episode, initialise, training_dtype, training_episodes, validate

RECIPE = Path(__file__).parent.parent / "recipes" / "commands.yaml"
OURS, FLOAT32 = "metavox", "metavox_float32"
KINDS = {"first_order": "fo_proto_maml", "prototypes": "prototypes"}
DRAWN_EVERY = 5
"""Outer steps between those whose episodes are also drawn from the files."""
AIMS = {PEER: 0.8, ON_THE_FLY: 0.5}
"""At most this share of the time of the peer is what we aim at."""
DEFINITION = (
    "Validation accuracy (the mean over the same fixed episodes of held-out words) is measured every so many outer "
    "steps. The curve is smoothed, each point with its neighbours, and made monotone (the best so far); the time to an "
    "accuracy is the CPU time of training at which that curve first has it, linear between points. Drawing episodes, "
    "meta-gradients, optimizer and the engine's choice of an executor are counted, validation is not. A ratio is our "
    "time over the peer's; null where it is not reached, or is there before training. Once chosen: without the CPU "
    "time that the engine spends on choosing an executor for each shape of tasks. on_the_fly is the peer's curve with, "
    "at each step, the measured difference between drawing episodes from the audio files and from the bank added; the "
    "numbers drawn are the same, so it was not trained again."
)

RULES: dict[str, dict[str, tuple[str, Outer]]] = {
    "first_order": {
        OURS: ("auto", meta_gradient),
        FLOAT32: ("float32", meta_gradient),
        PEER: ("float32", learn2learn_loop),
    },
    "prototypes": {
        OURS: ("auto", leave_one_out),
        FLOAT32: ("float32", leave_one_out),
        PEER: ("float32", prototype_loop),
    },
}
"""By recipe and side, the precision and the outer rule."""


# ------------------------------------------------------------------------------------------------------- one seed's run


@dataclass
class Side:
    """One training, and what was measured of it."""

    tasks: Tasks
    trainer: Trainer
    outer: Outer
    seconds: list[float] = field(default_factory=list)
    choosing: list[int] = field(default_factory=list)
    """Steps in which the engine chose how to compute."""
    curve: list[tuple[int, float]] = field(default_factory=list)
    """Outer steps, validation accuracy."""


def experiment_of(kind: str, seed: int, asked: argparse.Namespace) -> Experiment:
    """The recipe with the learner, the steps and the seed of a part."""
    changes = [f"model.learner.name={KINDS[kind]}", f"train.seed={seed}", f"train.steps={asked.steps}"]
    return load_experiment(
        RECIPE, [*asked.overrides, *changes, f"train.validation_episodes={asked.validation_episodes}"]
    )


def learner_of(experiment: Experiment, tasks: Tasks, precision: str) -> Any:
    """A learner with its first weights, in training mode."""
    learner: Any = initialise(experiment, tasks)[0]
    learner.encoder.training_dtype = training_dtype(precision)
    return learner.train()


def side_of(experiment: Experiment, precision: str, outer: Outer) -> Side:
    """A training that begins, as ``metavox.training.learn`` begins it."""
    tasks, train = select_tasks(experiment), experiment.train
    learner = learner_of(experiment, tasks, precision)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=train.lr, weight_decay=train.weight_decay)
    return Side(tasks, Trainer(learner, optimizer), outer)


def take_step(side: Side, experiment: Experiment, task: Any) -> None:
    """One outer step as ``metavox.training.outer_step`` takes it, by the side's own outer rule."""
    trainer = side.trainer
    episodes = training_episodes(experiment, side.tasks, trainer.step)
    grads = side.outer(trainer.learner, task, episodes)
    _apply(trainer, grads, experiment)
    side.tasks.training.record(trainer.step, [episode.draw for episode in episodes], grads.losses, grads.guessing)
    trainer.step += 1


def run_seed(kind: str, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """All sides of one recipe and seed, step by step in turn."""
    experiment, task = experiment_of(kind, seed, asked), TASKS["commands"]()
    sides = {name: side_of(experiment, *rule) for name, rule in RULES[kind].items()}
    draws: list[dict[str, float]] = []
    names = list(sides)
    gc.freeze()  # the utterances of several sides need not be looked through during the steps of one
    for step in range(asked.steps + 1):
        if step % asked.every == 0 or step == asked.steps:
            for side in sides.values():
                side.curve.append((step, validate(experiment, side.tasks, side.trainer.learner, task)))
        if step == asked.steps:
            break
        for name in names[step % len(names) :] + names[: step % len(names)]:
            side = sides[name]
            known = len(getattr(side.trainer.learner, "chosen", ()))
            started = time.process_time()
            take_step(side, experiment, task)
            side.seconds.append(time.process_time() - started)
            side.choosing += [step] if len(getattr(side.trainer.learner, "chosen", ())) > known else []
        if step % DRAWN_EVERY == 0:
            draws.append(drawing(experiment, sides[PEER].tasks, step))
    hits = {name: by_episode(experiment, side, task) for name, side in sides.items()}
    return {
        "seed": seed,
        "drawing": drawn(draws, experiment.episodes.batch),
        "sides": {name: _told(side, hits[name], hits[PEER]) for name, side in sides.items()},
    }


def by_episode(experiment: Experiment, side: Side, task: Any) -> np.ndarray:
    """Accuracy of each validation episode at the end."""
    learner: Any = side.trainer.learner.eval()
    found = []
    with torch.no_grad():
        for i in range(experiment.train.validation_episodes):
            episode = as_episode(side.tasks.bank, side.tasks.validation.episode(0, i), experiment.model.front_end)
            output = learner.predict(learner.adapt(episode.support), episode.query)
            found.append(float(task.score(output, episode.query).mean()))
    return np.asarray(found)


def _told(side: Side, hits: np.ndarray, of_peer: np.ndarray) -> dict[str, Any]:
    plain = [seconds for step, seconds in enumerate(side.seconds) if step not in side.choosing]
    usual = statistics.fmean(plain) if plain else math.nan
    once_chosen = [usual if step in side.choosing else seconds for step, seconds in enumerate(side.seconds)]
    steps = [step for step, _ in side.curve]
    apart = hits - of_peer
    return {
        "cpu_s": sum(side.seconds),
        "cpu_s_per_step": statistics.fmean(side.seconds),
        "cpu_s_once_chosen_per_step": usual,
        "choosing_cpu_s": sum(side.seconds) - sum(once_chosen),
        "chosen": _chosen(getattr(side.trainer.learner, "chosen", {})),
        "skipped": side.trainer.skipped,
        "final_accuracy": float(hits.mean()),
        "beyond_learn2learn": float(apart.mean()),
        "standard_error": float(apart.std(ddof=1) / math.sqrt(len(apart))),
        "curve": {
            "step": steps,
            "accuracy": [accuracy for _, accuracy in side.curve],
            "cpu_s": [sum(side.seconds[:step]) for step in steps],
            "cpu_s_once_chosen": [sum(once_chosen[:step]) for step in steps],
        },
    }


def _chosen(options: Mapping[str, Any]) -> dict[str, int]:
    """How many shapes of tasks each executor was chosen for."""
    names = [option.executor for option in options.values()]
    return {name: names.count(name) for name in dict.fromkeys(names)}


# ----------------------------------------------------------------------------------------------------------------- main


def run_limits(asked: argparse.Namespace) -> dict[str, Any]:
    """What one outer step on whole episodes takes, and how far it is from what the machine gives."""
    experiment, task = experiment_of("first_order", 0, asked), TASKS["commands"]()
    tasks = select_tasks(experiment)
    ways = experiment.episodes.ways
    drawn = (training_episodes(experiment, tasks, step) for step in range(1000))
    episodes = next(some for some in drawn if all(one.support.n_classes == ways for one in some))

    def learner(precision: str) -> Any:
        return learner_of(experiment, tasks, precision)

    return {
        "gradient_difference_float64": gradient_difference(learner, task, episodes),
        **limits(learner, task, episodes, asked.rounds),
    }


def parts_of(asked: argparse.Namespace) -> list[str]:
    """Names of what is run, in order."""
    seeds = [f"first_order-{seed}" for seed in asked.seeds]
    return [*seeds, "limits", *(f"prototypes-{seed}" for seed in asked.prototype_seeds)]


def settings(asked: argparse.Namespace) -> dict[str, Any]:
    """What results must share to be collected."""
    return {key: getattr(asked, key) for key in ("steps", "every", "validation_episodes", "rounds", "overrides")}


def run_part(name: str, asked: argparse.Namespace) -> None:
    """Run one part and leave its result in the folder."""
    torch.set_num_threads(1)
    kind, _, seed = name.partition("-")
    found = run_limits(asked) if kind == "limits" else run_seed(kind, int(seed), asked)
    result = {"asked": settings(asked), "cpu_s": time.process_time(), "found": found}
    asked.folder.mkdir(parents=True, exist_ok=True)
    (asked.folder / f"{name}.json").write_text(json.dumps(result))


def done_part(name: str, asked: argparse.Namespace) -> dict[str, Any] | None:
    """The result of a part, or None; stops where it was made with other settings."""
    path = asked.folder / f"{name}.json"
    if not path.is_file():
        return None
    known: dict[str, Any] = json.loads(path.read_text())
    if known["asked"] != settings(asked):
        sys.exit(f"{path} was made with {known['asked']}; use the same settings or another --folder.")
    return known


def collect(asked: argparse.Namespace) -> dict[str, Any]:
    """All that is done so far."""
    done = {name: known for name in parts_of(asked) if (known := done_part(name, asked)) is not None}
    result: dict[str, Any] = {
        "what": "CPU seconds of training to the same validation accuracy as with learn2learn's loop",
        "definition": DEFINITION,
        "at_most": {f"{OURS}/{beside}": share for beside, share in AIMS.items()},
        "machine": machine(),
        "versions": {
            **peers_here(),
            "metavox": version("metavox"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        **settings(asked),
        "cpu_s_of_this_benchmark": sum(known["cpu_s"] for known in done.values()),
    }
    for kind, learner in KINDS.items():
        runs = [known["found"] for name, known in done.items() if name.startswith(f"{kind}-")]
        if runs:
            result[kind] = {"learner": learner, "secondary": kind != "first_order", **summary(runs), "runs": runs}
    return result | ({"limits": done["limits"]["found"]} if "limits" in done else {})


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="changes to the recipe, as for metavox train")
    parser.add_argument("--folder", type=Path, default=Path("exp/time_to_accuracy"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=40, help="outer steps between validations")
    parser.add_argument("--validation-episodes", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--prototype-seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_intermixed_args()


def main() -> None:
    """Run what is not done yet, ``--jobs`` at a time, and write the JSON whenever a part is done."""
    asked = parsed()
    if asked.one:
        run_part(asked.one, asked)
        return
    waiting = [name for name in parts_of(asked) if done_part(name, asked) is None]
    running: dict[str, subprocess.Popen[bytes]] = {}
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    while waiting or running:
        while waiting and len(running) < asked.jobs:
            name = waiting.pop(0)
            running[name] = subprocess.Popen([sys.executable, *sys.argv, "--one", name], env=one_thread)
        for name in [name for name, process in running.items() if process.poll() is not None]:
            if running.pop(name).returncode:
                for process in running.values():
                    process.terminate()
                sys.exit(f"{name} failed")
            print(f"{name} done, {len(waiting)} waiting", flush=True)
            asked.json.write_text(json.dumps(collect(asked), indent=1) + "\n")
        time.sleep(0.5)
    result = collect(asked)
    asked.json.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


def show(result: Mapping[str, Any]) -> None:
    """The ratios as text."""
    for kind in (kind for kind in KINDS if kind in result):
        found = result[kind]
        for what, row in {"seconds per step": found["seconds_per_step"], **found["time_to"]}.items():
            print(f"{kind}: {what}")
            for key, value in row.items():
                print(f"    {key:<60} {'-' if value is None else f'{value:.3f}'}")
        print("    accuracy beyond learn2learn's", found["beyond_learn2learn"])
    for name, row in result.get("limits", {}).get("steps", {}).items():
        shares = " ".join(f"{limit} {share:.2f}" for limit, share in row["share_of"].items())
        print(f"{name:<62} {row['cpu_s']:.3f} s  {row['versus_learn2learn']:.2f} of learn2learn's  {shares}")


if __name__ == "__main__":
    main()
