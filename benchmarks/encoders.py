"""Encoders beside one another at equal parameter count: transfer to word sets left out, and what each costs.

    python benchmarks/encoders.py --jobs 2
    python benchmarks/encoders.py --steps 3 --episodes 4 --json /tmp/try.json --folder /tmp/try data.synth=null

Every encoder is trained once with the recipe, the same steps and the same seed, on everything but three word sets and
all their languages, and scored on these three, on the same episodes. Widths are solved for about 150,000 stored
parameters, so nothing is chosen on the results. The linear map has no width but that of its output, which is solved
for. Differences from the convolutions are paired episode by episode; every set counts alike. Latencies are measured
at the end, one encoder after the other, when nothing else of this script runs. A folder that is done is not done again.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from metavox.checkpoint import build, load_model
from metavox.config import EncoderConfig, Experiment, load_experiment
from metavox.contracts import Encoder
from metavox.data.corpora import open_corpora, require
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.data.selection import select_tasks
from metavox.evaluation.comparison import compare
from metavox.evaluation.protocols import Protocol, evaluate, fitted, over_corpora, summary
from metavox.nets.cost import cost, n_parameters
from metavox.tasks import TASKS
from metavox.training import learn

LEFT_OUT = ("arabic_digits", "bengali_digits", "lithuanian_commands")
RECIPE = Path(__file__).parent.parent / "recipes" / "commands.yaml"
SHOTS = (1, 5)
VERSUS = "conv"
FLOOR = "dtw"
"""Cepstra compared by dynamic time warping, untrained: what the learned part has to add to."""
TARGET = 150_000
N_ROUNDS = 5
"""Times that all encoders are timed in turn; the quietest round of each counts, since a machine is never quite idle."""
SHAPES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "conv": ("channels", 8, {}),
    "linear": ("dim", 1, {}),
    "fc": ("channels", 2, {}),
    "sparse": ("channels", 2, {}),
    "conformer": ("channels", 4, {"heads": 2, "blocks": 3}),
    "crnn": ("channels", 8, {"blocks": 2}),
}
"""The field that is solved for, its step (groups of eight channels, pairs in each head), and what is set beside it."""


# -------------------------------------------------------------------------------------------------------------- sizes


def encoder_of(experiment: Experiment, config: EncoderConfig, seed: int = 0) -> Encoder:
    """An untrained encoder."""
    learner: Any = build(experiment.model.model_copy(update={"encoder": config}), seed=seed)
    return learner.encoder


def solved(name: str, experiment: Experiment) -> EncoderConfig:
    """The settings of one encoder whose parameters come nearest to ``TARGET``."""
    field, step, beside = SHAPES[name]
    known = {**experiment.model.encoder.model_dump(), "name": name, **beside}

    def count(size: int) -> int:
        encoder: Any = encoder_of(experiment, EncoderConfig(**{**known, field: size}))
        return n_parameters(encoder)

    low, high = 16 // step, 2048 // step
    while high - low > 1:  # the count grows with the size
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle * step) <= TARGET else (low, middle)
    best = min((low * step, high * step), key=lambda size: abs(count(size) - TARGET))
    return EncoderConfig(**{**known, field: best})


# --------------------------------------------------------------------------------------------------- one encoder's run


def experiment_of(name: str, asked: argparse.Namespace) -> tuple[Experiment, list[str]]:
    """The recipe with one encoder, without the sets left out and their languages; and these languages."""
    plain = load_experiment(RECIPE, asked.overrides)
    front_end = plain.model.front_end
    utterances = open_corpora([require(one) for one in LEFT_OUT], front_end).utterances
    languages = sorted({utterance.lang for utterance in utterances if utterance.lang})
    corpora = list(dict.fromkeys([*plain.data.corpora, *LEFT_OUT]))  # only what is named can be left out
    changes = [
        f"model.encoder={json.dumps(solved(name, plain).model_dump())}",
        f"data.corpora={json.dumps(corpora)}",
        f"data.leave_out_corpora={json.dumps(list(LEFT_OUT))}",
        f"data.leave_out_languages={json.dumps(languages)}",
        f"train.seed={asked.seed}",
        *([] if asked.steps is None else [f"train.steps={asked.steps}"]),
    ]
    return load_experiment(RECIPE, [*asked.overrides, *changes]), languages


def run_encoder(name: str, out: Path, asked: argparse.Namespace) -> None:
    """Train one encoder, or go on where it stopped, and score it; leaves ``result.json`` and ``rows.jsonl``."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    training: dict[str, Any] = {}
    if name == FLOOR:
        model = load_model(FLOOR)
    else:
        experiment, languages = experiment_of(name, asked)
        started = (out / "model" / "experiment.yaml").is_file()
        learn(experiment, select_tasks(experiment), out / "model", resume=started)
        model = load_model(out / "model")
        training = {
            "steps": experiment.train.steps,
            "languages_left_out": languages,
            "cpu_minutes": round(model.about["cpu_s"] / 60, 2),
            "validation_accuracy": model.about["validation_accuracy"],
        }
    summaries, rows = [], []
    for left_out in LEFT_OUT:
        bank = open_corpora([require(left_out)], model.config.front_end)
        index = ClassIndex(bank.utterances)
        for k in SHOTS:
            protocol, _ = fitted(Protocol(EpisodeSpec(10, k, 5), asked.episodes, asked.seed), index)
            found = evaluate(model.learner, TASKS["commands"](), bank, index, protocol, model.config.front_end)
            about = {"model": name, "corpus": left_out, "version": version("metavox")}
            summaries.append(summary(found, protocol, **about))
            rows += [{"model": name, **row} for row in found]
    (out / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    result = {"asked": settings(asked), "training": training, "summaries": summaries}
    (out / "result.json").write_text(json.dumps(result, indent=1))


def settings(asked: argparse.Namespace) -> dict[str, Any]:
    """What results must share to be compared."""
    return {key: getattr(asked, key) for key in ("steps", "episodes", "seed", "overrides")}


def is_done(name: str, asked: argparse.Namespace) -> bool:
    """Whether a folder holds the result; stops where it holds one of other settings."""
    path = asked.folder / name / "result.json"
    if not path.is_file():
        return False
    known = json.loads(path.read_text())["asked"]
    if known != settings(asked):
        sys.exit(f"{path.parent} was made with {known}; use the same settings or another --folder.")
    return True


# --------------------------------------------------------------------------------------------------------- the tables


def costs(names: list[str], experiment: Experiment) -> list[dict[str, Any]]:
    """What each encoder costs, and the dense net of the sparse one's shape beside it."""
    shapes = {name: solved(name, experiment) for name in names}
    if "sparse" in shapes:
        shapes["fc, shape of sparse"] = shapes["sparse"].model_copy(update={"name": "fc"})
    encoders = {name: encoder_of(experiment, config) for name, config in shapes.items()}
    rounds = [{name: cost(encoder, n_runs=50) for name, encoder in encoders.items()} for _ in range(N_ROUNDS)]
    found = []
    for name, config in shapes.items():
        quietest = min((costs_of[name] for costs_of in rounds), key=lambda one: one.latency.median_ms)
        known = asdict(quietest)
        latency = known.pop("latency")
        field = SHAPES[config.name][0]
        found.append(
            {
                "encoder": name,
                field: getattr(config, field),
                **known,
                "latency_ms": latency["median_ms"],
                "latency_ms_ci95": [latency["low_ms"], latency["high_ms"]],
                "n": latency["n_runs"],
            }
        )
    reference = next((row["latency_ms"] for row in found if row["encoder"] == VERSUS), None)
    return [{**row, f"latency_versus_{VERSUS}": row["latency_ms"] / reference} if reference else row for row in found]


def collect(names: list[str], asked: argparse.Namespace) -> dict[str, Any]:
    """Means, worst sets, paired differences and costs of all encoders."""
    results = {name: json.loads((asked.folder / name / "result.json").read_text()) for name in [*names, FLOOR]}
    rows = {name: [json.loads(line) for line in (asked.folder / name / "rows.jsonl").open()] for name in results}
    table, differences = [], []
    for k in SHOTS:
        for name, result in results.items():
            some = [s for s in result["summaries"] if s["shots"] == k]
            table.append({"model": name, **over_corpora(some), "corpora": some})
        of_k = {name: [row for row in found if row["shots"] == k] for name, found in rows.items()}
        if VERSUS in of_k:
            differences += [{"shots": k, **row} for row in compare(of_k, VERSUS, asked.seed)]
    return {
        "what": "encoders of equal parameter count: 10-way accuracy on word sets left out with all their languages",
        "machine": {
            "platform": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "threads": 1,
        },
        "versions": {"metavox": version("metavox"), "torch": torch.__version__, "python": platform.python_version()},
        "seed": asked.seed,
        "overrides": asked.overrides,
        "left_out": list(LEFT_OUT),
        "target_parameters": TARGET,
        "training": {name: result["training"] for name, result in results.items() if name != FLOOR},
        "cost": costs(names, load_experiment(RECIPE, asked.overrides)),
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
    """The tables as text."""
    for row in result["cost"]:
        low, high = row["latency_ms_ci95"]
        absent = f"  {100 * row['absent']:.1f} % of connections absent" if row["absent"] else ""
        print(f"{row['encoder']:<20} {row['parameters']:>9,} parameters {row['macs']:>11,} MACs"
              f" {row['latency_ms']:7.3f} ms [{low:.3f}, {high:.3f}]{absent}")  # fmt: skip
    for row in result["overall"]:
        low, high = row["ci95"]
        print(f"{row['shots']}-shot {row['model']:<10} {100 * row['mean']:5.1f} [{100 * low:.1f}, {100 * high:.1f}]"
              f"  worst {row['worst_corpus']} {100 * row['worst_mean']:.1f}  "
              + " ".join(f"{s['corpus'][:6]} {100 * s['mean']:.1f}" for s in row["corpora"]))  # fmt: skip
    for row in result["paired"]:
        print(f"{row['shots']}-shot {row['model']:<10} - {row['versus']} {100 * row['difference']:+5.1f} "
              f"[{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]  p {row['p_value']:.2g}  "
              f"worst {row['worst_corpus']} {100 * row['worst_difference']:+.1f}")  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- main


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="changes to the recipe, as for metavox train")
    parser.add_argument("--encoders", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--folder", type=Path, default=Path("exp/encoders"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--steps", type=int, help="outer steps of each encoder; by default those of the recipe")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_intermixed_args()


def main() -> None:
    """Run what is not done yet, ``--jobs`` at a time, and write the JSON."""
    asked = parsed()
    if asked.one:
        run_encoder(asked.one, asked.folder / asked.one, asked)
        return
    experiment = load_experiment(RECIPE, asked.overrides)
    for name in asked.encoders:
        config, (field, _, beside) = solved(name, experiment), SHAPES[name]
        encoder: Any = encoder_of(experiment, config)
        print(f"{name:<10} {n_parameters(encoder):,} parameters with { ({field: getattr(config, field)} | beside) }")
    waiting = [name for name in [FLOOR, *asked.encoders] if not is_done(name, asked)]
    running: dict[str, subprocess.Popen] = {}
    while waiting or running:
        while waiting and len(running) < asked.jobs:
            name = waiting.pop(0)
            command = [sys.executable, __file__, "--one", name, "--folder", str(asked.folder)]
            command += ["--episodes", str(asked.episodes), "--seed", str(asked.seed)]
            command += [] if asked.steps is None else ["--steps", str(asked.steps)]
            running[name] = subprocess.Popen([*command, *asked.overrides])
        for name in [name for name, process in running.items() if process.poll() is not None]:
            if running.pop(name).returncode:
                sys.exit(f"{name} failed")
            print(f"{name} done, {len(waiting)} waiting", flush=True)
        time.sleep(1)
    result = collect(asked.encoders, asked)
    asked.json.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
