"""Enrolled words among speech that is none of them: what a promised rate of false alarms costs, and whether it is kept.

    python benchmarks/leave_one_set_out.py && python benchmarks/open_set.py

Uses the models of ``leave_one_set_out.py``, each on the set that left its training with all its languages. Negatives
are word-sized pieces of speech and noise that no model heard: not in training, not as its cohort, not among the
negatives that it brings. An episode is a draw of enrolment and of negatives: the threshold rests on 1,000 pieces and is
judged on all pieces of the other half of the recordings, so that the realised rate is nearly the true one.

``--bundled N`` asks the same of thresholds that rest on what a model brings, which the test's languages are not among.
"""

import argparse
import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from leave_one_set_out import SETS

from metavox.checkpoint import Model, load_model
from metavox.data.corpora import open_corpora, require
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.evaluation.negatives import TEST, embedded, joined, models_own, open_source
from metavox.evaluation.open_set import OpenSetProtocol, described, evaluate_open_set, over_sets, piece_rows, summary
from metavox.evaluation.protocols import fitted

SHOTS = {"arabic_digits": 10, "bengali_digits": 10, "fsdd_en_digits": 10, "spoken_words_zh_en": 10}
"""Takes of a word; five of the others."""
NEGATIVES = ("mboshi", "yoruba", "hebrew_yesno")
NOISE = ("noise/audio/kitchen", "noise/audio/lt_bg")
N_DEVELOPMENT = 1000


def run_set(name: str, model: Model, asked: argparse.Namespace, shots: int) -> list[dict[str, Any]]:
    """Summaries of one set: thresholds that rest on the negatives themselves, and on what the model brings."""
    front_end = model.config.front_end
    bank = open_corpora([require(name)], front_end)
    index = ClassIndex(bank.utterances)
    sources = [open_source(require(place), place) for place in NEGATIVES]
    sources += [open_source(require(place), place, noise=True) for place in NOISE]
    others = embedded(model.learner, sources, front_end)
    found = []
    for own in (False, True) if asked.bundled else (False,):
        sounds = others
        if own:
            for_test = replace(others, roles=np.full_like(others.roles, TEST))
            sounds = joined(for_test, models_own(model))
        n_episodes = asked.bundled if own else asked.episodes
        wanted = OpenSetProtocol(
            EpisodeSpec(10, shots, 5),
            n_episodes,
            asked.seed,
            max_negatives=2000 if own else N_DEVELOPMENT,
            max_test=asked.max_test,
        )
        protocol, _ = fitted(wanted, index)
        rows = evaluate_open_set(model.learner, bank, index, sounds, protocol, front_end, corpus=name)
        about = {"model": "recipe", "corpus": name, "thresholds_from": "model" if own else "negatives"}
        found.append(summary([*piece_rows(sounds), *rows], protocol, **described(sounds), **about))
        show(found[-1])
    return found


def show(row: dict[str, Any]) -> None:
    """One line."""
    print(
        f"{row['corpus']:<21} {row['ways']}-way {row['shots']}-shot, thresholds from {row['thresholds_from']:<9} "
        f"AUROC {100 * row['auroc']:.1f}  closed {100 * row['closed_accuracy']:.1f}  "
        + "  ".join(
            f"at {key} %: {100 * row[f'accuracy_at_far_{key}']:.1f} (oracle "
            f"{100 * row[f'oracle_accuracy_at_far_{key}']:.1f}), realised {100 * row[f'realised_far_{key}']:.2f}, over "
            f"promised {row[f'realised_over_promised_{key}']:.2f}, exceeded {row[f'exceeded_{key}']:.3f}"
            for key in ("5", "1")
        ),
        flush=True,
    )


def together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over sets with the worst, and all draws counted together."""
    found = over_sets(rows)
    for key in ("5", "1"):
        draws = sum(row["episodes"] for row in rows)
        above = round(sum(row[f"exceeded_{key}"] * row["episodes"] for row in rows))
        ratios = [row[f"realised_over_promised_{key}"] for row in rows]
        found |= {f"draws_above_bound_{key}": above, "draws": draws}
        found[f"realised_over_promised_{key}"] = float(np.median(ratios))
        worst = min(rows, key=lambda row: row[f"accuracy_at_far_{key}"])
        found[f"worst_at_far_{key}"] = [worst["corpus"], worst[f"accuracy_at_far_{key}"]]
    return found


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("exp/leave_one_set_out"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--on", action="append", default=[], choices=SETS, help="only these, without the JSON")
    parser.add_argument("--episodes", type=int, default=30, help="of each set")
    parser.add_argument("--max-test", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundled", type=int, default=0, metavar="N", help="episodes with what the models bring")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in asked.on or SETS:
        kept = asked.folder / name / "open_set.json"
        if not kept.is_file():
            found = run_set(name, load_model(asked.folder / name / "model"), asked, SHOTS.get(name, 5))
            kept.write_text(json.dumps(found, ensure_ascii=False, indent=1))
        rows += json.loads(kept.read_text())
    if asked.on:
        return
    overall = [
        {"thresholds_from": source, **together([row for row in rows if row["thresholds_from"] == source])}
        for source in dict.fromkeys(row["thresholds_from"] for row in rows)
    ]
    result = {
        "what": __doc__.strip().splitlines()[0],
        "versions": {"metavox": version("metavox"), "torch": torch.__version__},
        "seed": asked.seed,
        "overall": overall,
        "corpora": rows,
    }
    asked.json.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    for row in overall:
        print(json.dumps({key: value for key, value in row.items() if not key.endswith("ci95")}, indent=1))


if __name__ == "__main__":
    main()
