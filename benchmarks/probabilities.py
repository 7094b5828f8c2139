"""How true the probabilities of words and of "none of them" are, before and after a temperature is fitted.

    python benchmarks/leave_one_set_out.py && python benchmarks/probabilities.py

Uses the models of ``leave_one_set_out.py``: each is asked about a set that it never saw. Every query is asked twice: as
it is, and without its own word, when "none of them" is right. Threshold and temperature come from the enrolled takes
and the model's own held-out tasks, as in ``CommandRecognizer``; *plain* is the same softmax at temperature 1.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metavox.calibration import (
    Probabilities,
    brier_score,
    calibrate,
    enrolment_probabilities,
    enrolment_scores,
    expected_calibration_error,
)
from metavox.calibration.probabilities import probabilities
from metavox.checkpoint import Model, load_model
from metavox.data.bank import Bank
from metavox.data.corpora import open_corpora, require
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.runtime.commands import nearest_reference

SETS = ("arabic_digits", "bengali_digits", "speech_commands_mini")
"""What the form of the probabilities was chosen on; the other sets were left alone."""
SHOTS = (1, 3, 5)
Answers = dict[str, list[np.ndarray]]


def episode(model: Model, bank: Bank, index: ClassIndex, k: int, seed: list[int], answers: Answers) -> float:
    """Add the probabilities of both kinds and the right answers of one episode; its temperature."""
    draw = index.draw(EpisodeSpec(10, k, 4), seed)
    support = bank.batch(draw.support, draw.support_labels, 10, model.config.front_end)
    query = bank.batch(draw.query, draw.query_labels, 10, model.config.front_end)
    with torch.no_grad():
        state = model.learner.adapt(support)
        scores = model.learner.predict(state, query).scores
    reference = nearest_reference(model.about, k)
    threshold = calibrate(*enrolment_scores(model.learner, state), reference).threshold
    fitted = enrolment_probabilities(model.learner, state, threshold, reference=reference)
    asked = torch.cat([scores, scores.scatter(1, query.labels[:, None], -torch.inf)])
    answers["plain"].append(probabilities(asked, Probabilities(1.0, threshold)))
    answers["fitted"].append(probabilities(asked, fitted))
    answers["right"].append(np.concatenate([query.labels.numpy(), np.full(len(query), 10)]))
    return fitted.temperature


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("exp/leave_one_set_out"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name in SETS:
        model = load_model(asked.folder / name / "model")
        bank = open_corpora([require(name)], model.config.front_end)
        index = ClassIndex(bank.utterances)
        for k in SHOTS:
            answers: Answers = {"plain": [], "fitted": [], "right": []}
            temperatures = [episode(model, bank, index, k, [asked.seed, i], answers) for i in range(asked.episodes)]
            right = np.concatenate(answers.pop("right"))
            row: dict[str, Any] = {"corpus": name, "shots": k, "temperature": float(np.mean(temperatures))}
            for kind, parts in answers.items():
                found = np.concatenate(parts)
                row[f"{kind}_ece"] = expected_calibration_error(found, right)
                row[f"{kind}_brier"] = brier_score(found, right)
            rows.append(row)
            print(json.dumps(row), flush=True)
    figures = [f"{kind}_{figure}" for kind in ("plain", "fitted") for figure in ("ece", "brier")]
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
