"""The comparisons that are kept beside the code: what their pages say follows from their answers."""

import csv
import gzip
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
KEPT = [path.with_suffix("").with_suffix("") for path in sorted(FOLDER.glob("*.tsv.gz"))]


@pytest.mark.parametrize("place", KEPT, ids=lambda place: place.name)
def test_the_means_are_those_of_the_answers(place: Path) -> None:
    document = json.loads(place.with_suffix(".json").read_text(encoding="utf-8"))
    # A comparison has standings; transfer to sets left out in turn has a row a model.
    standings = document.get("standings") or [
        {**row, "learner": row["model"], "by_set": row["corpora"]} for row in document["overall"]
    ]
    words = document.get("metric", "accuracy") == "accuracy"
    axis = "shots" if words else "minutes"
    # Episodes count alike, however many queries they ask; of utterances all errors are over all characters.
    answered: dict[tuple, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    with gzip.open(place.with_suffix(".tsv.gz"), "rt", encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines, delimiter="\t"):
            for learner in {row["learner"] for row in standings}:
                if line[learner]:
                    counted = answered[learner, float(line[axis]), line["corpus"]][line["episode"] if words else ""]
                    counted[0] += int(line[learner])
                    counted[1] += 1 if words else int(line["chars"])
    told = {
        (row["learner"], float(row[axis]), one["corpus"]): one["mean"] for row in standings for one in row["by_set"]
    }
    found = {key: fmean(hits / n for hits, n in some.values()) for key, some in answered.items()}
    assert told == pytest.approx(found)
    for row in standings:
        assert row["mean"] == pytest.approx(sum(one["mean"] for one in row["by_set"]) / len(row["by_set"]))
    if "standings" not in document:
        return
    page = place.with_suffix(".md").read_text(encoding="utf-8")
    for row in standings:
        assert f"{100 * row['mean']:.1f} ± {50 * (row['ci95'][1] - row['ci95'][0]):.1f}" in page
