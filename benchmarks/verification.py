"""Speaker verification: errors and costs of trained models on people they never heard, beside cepstra and PLDA.

    python benchmarks/verification.py --run model=exp/voices,corpus=speechocean_en_l2,speakers=left_out.txt \\
        --run model=exp/voices,corpus=bengali_digits,seconds=full --baseline-corpus malayalam_msc

Each run is `metavox evaluate MODEL --protocol verification` as a user types it, with the baseline learned from
``--baseline-corpus`` (less everybody in the test) on the same trials. ``speakers`` is a file with one a line; without
it everybody in the corpus is tested, and a model that learned from any of them is said to be ``seen_in_training``.
The baseline should learn from what the model learned from: give the same corpora.
"""

import argparse
import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

CLIPS = (1, 3, 5)
SECONDS = ("full", "1", "2", "3")
KEYS = ("model", "corpus", "speakers", "seconds", "clips", "text", "baseline")


def parsed(text: str) -> dict[str, str]:
    """``key=value,...`` of a run; ``seconds``, ``clips`` and ``baseline`` join several values by ``+``."""
    found = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    unknown = sorted(set(found) - set(KEYS))
    if unknown or not {"model", "corpus"} <= set(found):
        raise SystemExit(f"--run {text}: give model=...,corpus=... and of {', '.join(KEYS[2:])}, each once.")
    return found


def command(run: dict[str, str], asked: argparse.Namespace) -> list[str]:
    """What a user would type."""
    words = ["evaluate", run["model"], "--protocol", "verification", "--corpus", run["corpus"], "--json"]
    for name, values in (
        ("--enroll", run["clips"].split("+") if "clips" in run else map(str, CLIPS)),
        ("--seconds", run["seconds"].split("+") if "seconds" in run else SECONDS),
        ("--baseline-corpus", run["baseline"].split("+") if "baseline" in run else asked.baseline_corpus),
    ):
        words += [word for value in values for word in (name, value)]
    if "--baseline-corpus" in words:
        words.append("--baseline")
    for key, name in (("speakers", "--only-speakers"), ("text", "--text")):
        if key in run:
            words += [name, run[key]]
    return [*words, "--draws", str(asked.draws), "--seed", str(asked.seed)]


def run_one(run: dict[str, str], asked: argparse.Namespace) -> dict[str, Any]:
    """The summary of one run, and what it cost."""
    words, start = command(run, asked), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", "from metavox.cli import main; main()", *words], stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    show(found)
    return {"command": " ".join(["metavox", *words]), "wall_s": time.perf_counter() - start, **found}


def show(found: dict[str, Any]) -> None:
    """A line a condition."""
    print(f"{found['model']} on {found['corpus']}, {found['n_speakers']} speakers", flush=True)
    for row in found["by_condition"]:
        length = "full" if row["seconds"] is None else f"{row['seconds']:g} s"
        beside = f"  baseline {100 * row['baseline_eer']:.1f}" if "baseline_eer" in row else ""
        if "gain_eer" in row:
            beside += (
                f", gain {100 * row['gain_eer']:.1f} {[end and round(100 * end, 1) for end in row['gain_eer_ci95']]}"
            )
        costs = "" if row["cllr"] is None else f"  Cllr {row['cllr']:.3f} / {row['min_cllr']:.3f}"
        print(f"  {row['enroll']} clips, {length:>5}: EER {100 * row['eer']:.1f}{costs}{beside}", flush=True)


def slim(value: Any) -> Any:
    """Rounded."""
    if isinstance(value, dict):
        return {key: slim(part) for key, part in value.items()}
    if isinstance(value, list):
        return [slim(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def kept(found: dict[str, Any]) -> dict[str, Any]:
    """Without the figures that ``by_condition`` has too."""
    return {key: value for key, value in found.items() if key not in found["by_condition"][0]}


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=parsed, action="append", required=True, metavar="KEY=VALUE,...")
    parser.add_argument("--baseline-corpus", action="append", default=[], help="for runs that name no baseline=A+B")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    result = {
        "what": __doc__.strip().splitlines()[0],
        "versions": {"metavox": version("metavox"), "torch": version("torch")},
        "draws": asked.draws,
        "seed": asked.seed,
        "runs": [slim(kept(run_one(run, asked))) for run in asked.run],
    }
    asked.json.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
