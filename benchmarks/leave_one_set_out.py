"""Transfer to word sets nobody trained on: each set in turn, with all its languages, is left out of training.

    python benchmarks/leave_one_set_out.py --jobs 2
    python benchmarks/leave_one_set_out.py --jobs 2 --without sentences --without augmentation

For every set one model is trained with the recipe on everything else (at most ten CPU-minutes), then scored on the
set beside the untrained baselines and beside itself used in other ways (``VARIANTS``), on the same episodes.
Differences are paired episode by episode; every set counts alike. Nothing is chosen on the
results: recipe and seed are fixed before.
``--without`` trains each fold once more without an ingredient and pairs that with the recipe: what it gave. All
answers are kept beside the JSON, in a table that ``keep_comparison.py`` explains.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from keep_comparison import write_answers

from metavox.checkpoint import load_model
from metavox.config import load_experiment
from metavox.data.corpora import open_corpora, require
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.data.selection import select_tasks
from metavox.evaluation.comparison import paired
from metavox.evaluation.protocols import Protocol, evaluate, fitted, over_corpora, summary
from metavox.learners.metric import as_it_is
from metavox.nets.views import tracts
from metavox.tasks import TASKS
from metavox.training import learn

SETS = (
    "arabic_digits", "bengali_digits", "fsdd_en_digits", "lithuanian_commands", "speech_commands_mini",
    "spoken_words_zh_en", "wake_words_en",
)  # fmt: skip
RECIPE = Path(__file__).parent.parent / "recipes" / "commands.yaml"
SHOTS = (1, 5)
RECIPE_NAME, ONE_LOOK, ALIKE, PLAIN = "recipe", "recipe, one look", "recipe, takes alike", "recipe, frames alike"
BEFORE = "recipe, tracts alone"
VARIANTS = (BEFORE, ONE_LOOK, ALIKE, PLAIN)
"""The same weights used otherwise: a take remembered once, all takes of a word counting alike, no metric of frames; and
with other tracts and nothing else, as the recipe was before these."""
BASELINES = ("nearest_mean", "dtw")
INGREDIENTS = {
    "sentences": ["data.sentences=[]"],
    "augmentation": ["augment.enabled=false"],
    "cepstra": ["model.encoder.cepstra=0"],
    "synthetic words": ["data.synth=null"],
    "two thirds of the steps": ["train.steps=1200"],
}
"""How the recipe is changed to do without each."""


def run_fold(left_out: str, out: Path, episodes: int, seed: int, overrides: list[str], *, alone: bool) -> None:
    """Train without one set and score it; leaves ``result.json`` and ``rows.jsonl`` in ``out``.

    ``alone``: without the baselines, for a recipe that lacks an ingredient.
    """
    torch.set_num_threads(1)
    utterances = open_corpora([require(left_out)], load_experiment(RECIPE).model.front_end).utterances
    languages = sorted({utterance.lang for utterance in utterances if utterance.lang})
    changes = [
        f"data.corpora={json.dumps(list(SETS))}",
        f"data.leave_out_corpora={json.dumps([left_out])}",
        f"data.leave_out_languages={json.dumps(languages)}",
        f"train.seed={seed}",
        *overrides,
    ]
    experiment = load_experiment(RECIPE, changes)
    tasks = select_tasks(experiment)
    before = time.process_time()
    if not (out / "model" / "config.json").is_file():
        learn(experiment, tasks, out / "model")
    cpu_minutes = (time.process_time() - before) / 60
    models = {RECIPE_NAME: load_model(out / "model")}
    cpu_minutes = models[RECIPE_NAME].about.get("cpu_s", 60 * cpu_minutes) / 60
    if not alone:
        models |= {name: load_model(out / "model") for name in VARIANTS} | {
            name: load_model(name) for name in BASELINES
        }
        models[ONE_LOOK].learner.views = as_it_is
        models[BEFORE].learner.views = partial(tracts, factors=models[BEFORE].config.learner.tracts)
        models[BEFORE].learner.nearness, models[BEFORE].learner.metric = 0.0, None
        models[ALIKE].learner.nearness = 0.0
        models[PLAIN].learner.metric = None
    summaries, rows = [], []
    for name, model in models.items():
        bank = open_corpora([require(left_out)], model.config.front_end)
        index = ClassIndex(bank.utterances)
        for k in SHOTS:
            protocol, _ = fitted(Protocol(EpisodeSpec(10, k, 5), episodes, seed), index)
            found = evaluate(model.learner, TASKS["commands"](), bank, index, protocol, model.config.front_end)
            about = {"model": name, "corpus": left_out, "version": version("metavox")}
            summaries.append(summary(found, protocol, **about))
            rows += [{"model": name, **row} for row in found]
    (out / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    training = {"languages_left_out": languages, "cpu_minutes": round(cpu_minutes, 2), "steps": experiment.train.steps}
    (out / "result.json").write_text(json.dumps({"training": training, "summaries": summaries}, indent=1))


def rows_of(folder: Path, sets: Sequence[str] = SETS) -> list[dict[str, Any]]:
    """All answers of these folds."""
    return [json.loads(line) for name in sets for line in (folder / name / "rows.jsonl").open()]


def asked_of(rows: list[dict[str, Any]], model: str, shots: int) -> list[dict[str, Any]]:
    """The answers of one model at one number of takes."""
    return [row for row in rows if row["model"] == model and row["shots"] == shots]


def without(folder: Path, lacking: Path, name: str, sets: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """The recipe paired with the recipe that lacks an ingredient."""
    ours, theirs = rows_of(folder, sets), rows_of(lacking, sets)
    return [
        {
            "model": RECIPE_NAME,
            "versus": f"without {name}",
            "shots": k,
            "corpora": list(sets),
            **paired(asked_of(ours, RECIPE_NAME, k), asked_of(theirs, RECIPE_NAME, k), seed),
        }
        for k in SHOTS
    ]


def collect(folder: Path, seed: int) -> dict[str, Any]:
    """The table over all folds: means, worst sets and paired differences."""
    results = {name: json.loads((folder / name / "result.json").read_text()) for name in SETS}
    rows = rows_of(folder)
    table, differences = [], []
    for k in SHOTS:
        by_model = {model: asked_of(rows, model, k) for model in (RECIPE_NAME, *VARIANTS, *BASELINES)}
        for model in by_model:
            some = [
                s for result in results.values() for s in result["summaries"]
                if s["model"] == model and s["shots"] == k
            ]  # fmt: skip
            table.append({"model": model, **over_corpora(some), "corpora": some})
        differences += [
            {"model": RECIPE_NAME, "versus": name, "shots": k, **paired(by_model[RECIPE_NAME], by_model[name], seed)}
            for name in (*VARIANTS, *BASELINES)
        ]
    return {
        "what": "10-way accuracy on word sets left out of training with all their languages",
        "machine": {
            "platform": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "threads_per_fold": 1,
        },
        "versions": {"metavox": version("metavox"), "torch": torch.__version__, "python": platform.python_version()},
        "seed": seed,
        "training": {name: result["training"] for name, result in results.items()},
        "overall": table,
        "paired": differences,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def show(result: dict[str, Any]) -> None:
    """The table as text."""
    for row in result["overall"]:
        low, high = row["ci95"]
        print(f"{row['shots']}-shot {row['model']:<20} {100 * row['mean']:5.1f} [{100 * low:.1f}, {100 * high:.1f}]"
              f"  worst {row['worst_corpus']} {100 * row['worst_mean']:.1f}  "
              + " ".join(f"{s['corpus'][:6]} {100 * s['mean']:.1f}" for s in row["corpora"]))  # fmt: skip
    for row in result["paired"]:
        print(f"{row['shots']}-shot recipe - {row['versus']:<23} {100 * row['difference']:+5.1f} "
              f"[{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]  p {row['p_value']:.2g}  "
              f"worst {row['worst_corpus']} {100 * row['worst_difference']:+.1f}")  # fmt: skip


def train_folds(
    folder: Path, sets: Sequence[str], asked: argparse.Namespace, overrides: list[str], *, alone: bool
) -> None:
    """Run the folds that ``folder`` has not, ``--jobs`` at a time, each in a process of its own."""
    waiting = [name for name in sets if not (folder / name / "result.json").is_file()]
    running: dict[str, subprocess.Popen] = {}
    while waiting or running:
        while waiting and len(running) < asked.jobs:
            name = waiting.pop(0)
            command = [sys.executable, __file__, "--fold", name, "--folder", str(folder), *(["--alone"] * alone)]
            command += ["--episodes", str(asked.episodes), "--seed", str(asked.seed), *overrides]
            running[name] = subprocess.Popen(command)
        for name in [name for name, process in running.items() if process.poll() is not None]:
            if running.pop(name).returncode:
                sys.exit(f"fold {name} failed")
            print(f"{folder.name}: {name} done, {len(waiting)} waiting", flush=True)
        time.sleep(1)


def main() -> None:
    """Run the folds that are not done yet and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="changes to the recipe, as for metavox train")
    parser.add_argument("--folder", type=Path, default=Path("exp/leave_one_set_out"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--without", action="append", default=[], choices=list(INGREDIENTS))
    parser.add_argument("--on", action="append", default=[], choices=SETS, help="sets that --without is tried on; all")
    parser.add_argument("--fold", help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.fold:
        out = asked.folder / asked.fold
        run_fold(asked.fold, out, asked.episodes, asked.seed, asked.overrides, alone=asked.alone)
        return
    train_folds(asked.folder, SETS, asked, asked.overrides, alone=False)
    result = collect(asked.folder, asked.seed)
    sets = tuple(asked.on) or SETS
    kept = [{**row, "learner": row["model"]} for row in rows_of(asked.folder)]
    for name in asked.without:
        lacking = asked.folder.with_name(f"{asked.folder.name}-{name.replace(' ', '-')}")
        train_folds(lacking, sets, asked, [*asked.overrides, *INGREDIENTS[name]], alone=True)
        result["paired"] += without(asked.folder, lacking, name, sets, asked.seed)
        kept += [{**row, "learner": f"without {name}"} for row in rows_of(lacking, sets) if row["model"] == RECIPE_NAME]
    write_answers(asked.json, kept, "accuracy", list(dict.fromkeys(row["learner"] for row in kept)))
    asked.json.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
