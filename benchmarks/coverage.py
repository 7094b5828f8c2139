"""Whether the promise of a threshold is kept: many draws of enrolment and negatives, judged on thousands of pieces.

    python benchmarks/leave_one_set_out.py && python benchmarks/coverage.py

As ``open_set.py``, but for the rate alone: every enrolment scores all pieces once, and the threshold is set again and
again on some 1,000 pieces, whole recordings drawn at random, and judged on the pieces of all other recordings. With
four to five thousand of these the realised rate is nearly the true one, and a draw above the bound is nearly always a
promise broken.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from leave_one_set_out import SETS
from open_set import NEGATIVES, NOISE

from metavox.calibration import threshold_for
from metavox.checkpoint import Model, load_model
from metavox.contracts import InputError
from metavox.data.corpora import open_corpora, require
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.evaluation.negatives import embedded, open_source
from metavox.statistics import clopper_pearson

TARGETS = (0.05, 0.01)
N_PIECES = 1000
CHOSEN = ("lithuanian_commands", "speech_commands_mini", "bengali_digits")


def run_set(name: str, model: Model, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each target: how often the realised rate is above it, and how much of it is used."""
    front_end = model.config.front_end
    bank = open_corpora([require(name)], front_end)
    index = ClassIndex(bank.utterances)
    sources = [open_source(require(place), place) for place in (*NEGATIVES, *NOISE)]
    sounds = embedded(model.learner, sources, front_end)
    realised: dict[float, list[float]] = {target: [] for target in TARGETS}
    effects: dict[float, list[float]] = {target: [] for target in TARGETS}
    for i in range(asked.enrolments):
        draw = index.draw(EpisodeSpec(min(10, len(index)), 5, 1), [asked.seed, i])
        support = bank.batch(draw.support, draw.support_labels, len(draw.classes), front_end)
        with torch.no_grad():
            state = model.learner.adapt(support)
            parts = [
                model.learner.compare(state, *sounds.chosen(part)).scores.amax(1)
                for part in np.array_split(np.arange(len(sounds)), 8)
            ]
        scores = torch.cat(parts).double().numpy()
        for j in range(asked.draws):
            rng = np.random.default_rng([asked.seed, i, j])
            order = rng.permutation(len(sounds.utterances))
            n_before = np.cumsum(np.bincount(sounds.recording, minlength=len(order))[order])
            chosen = order[: int(np.searchsorted(n_before, N_PIECES)) + 1]
            here = np.isin(sounds.recording, chosen)
            for target in TARGETS:
                try:
                    threshold, promise = threshold_for(scores[here], target=target, groups=sounds.recording[here])
                except InputError:  # too few of them for this target, as recordings differ so much
                    continue
                realised[target].append(float((scores[~here] >= threshold).mean()))
                effects[target].append(promise.design_effect)
    n = asked.enrolments * asked.draws
    return [row(name, target, realised[target], effects[target], n, len(sounds)) for target in TARGETS]


def row(
    name: str, target: float, realised: list[float], effects: list[float], n_draws: int, n_pieces: int
) -> dict[str, Any]:
    """What so many draws came to."""
    shares = np.asarray(realised) / target
    n_above = int((shares > 1).sum())
    found = {
        "corpus": name,
        "target": target,
        "draws": n_draws,
        "refused": n_draws - len(shares),
        "above": n_above,
        "above_share": n_above / n_draws,
        "above_share_ci95": clopper_pearson(n_above, n_draws).ci95,
        "realised_over_promised": float(np.median(shares)),
        "largest_realised_over_promised": float(shares.max()),
        "design_effect": float(np.median(effects)),
        "pieces": n_pieces,
    }
    print(found, flush=True)
    return found


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("exp/leave_one_set_out"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--on", action="append", default=[], choices=SETS, help="sets; three by default")
    parser.add_argument("--enrolments", type=int, default=20)
    parser.add_argument("--draws", type=int, default=10, help="of negatives, for each enrolment")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        row for name in asked.on or CHOSEN for row in run_set(name, load_model(asked.folder / name / "model"), asked)
    ]
    result = {
        "what": __doc__.strip().splitlines()[0],
        "versions": {"metavox": version("metavox"), "torch": torch.__version__},
        "seed": asked.seed,
        "confidence": 0.95,
        "negatives": [*NEGATIVES, *NOISE],
        "rows": rows,
    }
    asked.json.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
