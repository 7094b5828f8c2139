"""Refusing words that nobody enrolled, with the threshold that enrolment sets by itself.

    python benchmarks/leave_one_set_out.py && python benchmarks/refusal.py

Uses the models of ``leave_one_set_out.py``: each is asked about the set that it never saw. Half the words of an episode
are enrolled with K takes, the others are unknown; any speakers. Nothing is tuned here: the threshold comes from the
enrolled takes and the model's own held-out tasks, as in ``CommandRecognizer``.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from leave_one_set_out import SETS

from metavox.calibration import calibrate, enrolment_scores
from metavox.checkpoint import Model, load_model
from metavox.data.bank import Bank
from metavox.data.corpora import open_corpora, require
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.runtime.commands import nearest_reference
from metavox.statistics import mean_interval

SHOTS = (1, 3, 5)


def episode(model: Model, bank: Bank, index: ClassIndex, k: int, seed: list[int]) -> tuple[float, float, float]:
    """Shares of known takes recognised and refused, and of unknown takes accepted."""
    spec = EpisodeSpec(min(10, len(index.eligible(EpisodeSpec(2, k, 4)))), k, 4)
    draw = index.draw(spec, seed)
    n_known = spec.n_way // 2
    known = draw.support_labels < n_known
    support = bank.batch(draw.support[known], draw.support_labels[known], n_known, model.config.front_end)
    query = bank.batch(draw.query, draw.query_labels, spec.n_way, model.config.front_end)
    with torch.no_grad():
        state = model.learner.adapt(support)
        scores = model.learner.predict(state, query).scores
    reference = nearest_reference(model.about, k)
    threshold = calibrate(*enrolment_scores(model.learner, state), reference).threshold
    accepted = scores.amax(1) >= threshold
    enrolled = query.labels < n_known
    right = accepted & (scores.argmax(1) == query.labels)
    return (
        float(right[enrolled].float().mean()),
        float((~accepted)[enrolled].float().mean()),
        float(accepted[~enrolled].float().mean()),
    )


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("exp/leave_one_set_out"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name in SETS:
        model = load_model(asked.folder / name / "model")
        bank = open_corpora([require(name)], model.config.front_end)
        index = ClassIndex(bank.utterances)
        for k in SHOTS:
            shares = np.asarray([episode(model, bank, index, k, [asked.seed, i]) for i in range(asked.episodes)])
            row: dict[str, Any] = {"corpus": name, "shots": k}
            for column, figure in enumerate(("known_recognised", "known_refused", "unknown_accepted")):
                interval = mean_interval(shares[:, column])
                row |= {figure: interval.mean, f"{figure}_ci95": interval.ci95}
            rows.append(row)
            print(f"{k}-shot {name:<22} recognised {row['known_recognised']:.2f}  refused {row['known_refused']:.2f}  "
                  f"unknown accepted {row['unknown_accepted']:.2f}", flush=True)  # fmt: skip
    figures = ("known_recognised", "known_refused", "unknown_accepted")
    overall = [
        {"shots": k}
        | {figure: float(np.mean([row[figure] for row in rows if row["shots"] == k])) for figure in figures}
        for k in SHOTS
    ]
    result = {
        "what": __doc__.strip().splitlines()[0],
        "versions": {"metavox": version("metavox"), "torch": torch.__version__},
        "seed": asked.seed,
        "episodes": asked.episodes,
        "overall": overall,
        "corpora": rows,
    }
    asked.json.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    print(json.dumps(overall, indent=1))


if __name__ == "__main__":
    main()
