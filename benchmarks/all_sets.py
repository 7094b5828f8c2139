"""The final recipe trained on every word set, each tested on voices that it never heard.

    python benchmarks/all_sets.py

A quarter of the speakers of each set is kept out of training and of everything that is chosen. They say the queries;
the takes that are learned from are other people's. Sets that name no speaker keep a quarter of their clips out instead,
which says less, and the table says so. Words and languages are known here: how the recipe does on new ones is in
``leave_one_set_out.json``.
"""

import argparse
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from leave_one_set_out import RECIPE, SETS, SHOTS

from metavox.checkpoint import load_model
from metavox.config import load_experiment
from metavox.contracts import Draw
from metavox.data.corpora import open_corpora, require
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.data.holdout import held_out
from metavox.data.selection import select_tasks
from metavox.evaluation.protocols import Protocol, evaluate, over_corpora, summary
from metavox.tasks import TASKS
from metavox.training import learn

SHARE = 0.25
MODELS = ("recipe", "dtw", "nearest_mean")


@dataclass(frozen=True)
class AcrossSpeakers:
    """Episodes whose support is by heard and whose queries are by unheard speakers; drawn as a ``ClassIndex`` is."""

    heard: ClassIndex
    unheard: ClassIndex

    def eligible(self, spec: EpisodeSpec) -> list[str]:
        """Words with enough takes on both sides."""
        enough = (self.heard.classes[i] for i in range(len(self.heard)) if self.heard.n_takes(i) >= spec.k_shot)
        return [name for name in enough if name in self.unheard.classes]

    def draw(self, spec: EpisodeSpec, seed: Sequence[int] | int) -> Draw:
        """One episode. The same seed draws the same one for every model."""
        rng = np.random.default_rng(seed)
        words = self.eligible(spec)
        chosen = [words[i] for i in rng.permutation(len(words))[: spec.n_way]]
        sides = [
            [takes(index, name, n, rng) for name in chosen]
            for index, n in ((self.heard, spec.k_shot), (self.unheard, spec.n_query))
        ]
        labels = [np.repeat(np.arange(len(chosen)), [len(part) for part in side]) for side in sides]
        support, query = (np.concatenate(side) for side in sides)
        return Draw(tuple(chosen), np.arange(len(chosen)), support, labels[0], query, labels[1])


def takes(index: ClassIndex, name: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """At most n positions of a word."""
    at = index.classes.index(name)
    return rng.permutation(index.positions[index.offsets[at] : index.offsets[at + 1]])[:n]


def main() -> None:
    """Train where it has not been, evaluate, write the JSON and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="changes to the recipe, as for metavox train")
    parser.add_argument("--folder", type=Path, default=Path("exp/all_sets"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    changes = [f"data.corpora={json.dumps(list(SETS))}", f"data.leave_out_speakers={SHARE}", f"train.seed={asked.seed}"]
    experiment = load_experiment(RECIPE, [*changes, *asked.overrides])
    if not (asked.folder / "config.json").is_file():
        learn(experiment, select_tasks(experiment), asked.folder)
    overall = []
    for name in MODELS:
        model = load_model(asked.folder if name == "recipe" else name)
        for k in SHOTS:
            summaries = []
            for corpus in SETS:
                bank = open_corpora([require(corpus)], model.config.front_end)
                kept_out = held_out(bank.utterances, SHARE, asked.seed)
                index = AcrossSpeakers(*(ClassIndex(bank.utterances, keep=side) for side in (~kept_out, kept_out)))
                spec = EpisodeSpec(10, k, 5)
                spec = replace(spec, n_way=min(10, len(index.eligible(spec))))
                protocol = Protocol(spec, asked.episodes, asked.seed)
                rows = evaluate(model.learner, TASKS["commands"](), bank, index, protocol, model.config.front_end)
                speakers = {u.speaker for u, out in zip(bank.utterances, kept_out, strict=True) if out} - {None}
                about = {"speakers_left_out": len(speakers) or None, "clips_left_out": int(kept_out.sum())}
                summaries.append(summary(rows, protocol, model=name, corpus=corpus, **about))
            overall.append({"model": name, **over_corpora(summaries), "corpora": summaries})
            show(overall[-1])
    about = load_model(asked.folder).about
    result = {
        "what": "accuracy on speakers left out of training, words and languages known; 10-way where a set has as many",
        "versions": {"metavox": version("metavox"), "torch": torch.__version__, "python": platform.python_version()},
        "seed": asked.seed,
        "training": {
            "cpu_minutes": round(about["cpu_s"] / 60, 2),
            "steps": about["steps"],
            "classes": about["classes"],
        },
        "overall": overall,
    }
    asked.json.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")


def show(row: dict) -> None:
    """One line of the table."""
    print(f"{row['shots']}-shot {row['model']:<13} {100 * row['mean']:5.1f}  worst {row['worst_corpus']} "
          f"{100 * row['worst_mean']:.1f}  "
          + " ".join(f"{s['corpus']} {100 * s['mean']:.1f} ({s['ways']}-way)" for s in row["corpora"]))  # fmt: skip


if __name__ == "__main__":
    main()
