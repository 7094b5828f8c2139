"""The comparisons that are kept beside the code: what their pages say follows from their answers."""

import csv
import gzip
import json
from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
KEPT = [path.with_suffix("").with_suffix("") for path in sorted(FOLDER.glob("*.tsv.gz"))]


@pytest.mark.parametrize("place", KEPT, ids=lambda place: place.name)
def test_the_means_are_those_of_the_answers(place: Path) -> None:
    document = json.loads(place.with_suffix(".json").read_text(encoding="utf-8"))
    words = document["metric"] == "accuracy"
    axis = "shots" if words else "minutes"
    answered: dict[tuple, list[int]] = defaultdict(lambda: [0, 0])
    with gzip.open(place.with_suffix(".tsv.gz"), "rt", encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines, delimiter="\t"):
            for learner in document["learners"]:
                if line[learner]:
                    counted = answered[learner, float(line[axis]), line["corpus"]]
                    counted[0] += int(line[learner])
                    counted[1] += 1 if words else int(line["chars"])
    told = {
        (row["learner"], float(row[axis]), one["corpus"]): one["mean"]
        for row in document["standings"]
        for one in row["by_set"]
    }
    assert told == pytest.approx({key: hits / n for key, (hits, n) in answered.items()})
    page = place.with_suffix(".md").read_text(encoding="utf-8")
    for row in document["standings"]:
        assert f"{100 * row['mean']:.1f} ± {50 * (row['ci95'][1] - row['ci95'][0]):.1f}" in page
