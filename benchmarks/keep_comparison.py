"""What stays of a comparison: its report, its figures, and every answer in one small table they are recomputed from.

    metavox compare recipes/compare_words.yaml --jobs 2 --out exp/words
    python benchmarks/keep_comparison.py exp/words benchmarks/words
    python benchmarks/keep_comparison.py --check benchmarks/words

leaves ``words.md``, ``words.json`` and ``words.tsv.gz``. The table has a row for each question that was asked (a clip
in a task of words, or an utterance after a draw of minutes) and a column for each learner: 1 or 0 for words; for
transcription the characters that are wrong, and in a column of its own the words. It opens in any spreadsheet.
``--check`` computes means, intervals and paired differences from it once more and says where the JSON differs.
"""

import argparse
import csv
import gzip
import io
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metavox.evaluation import comparison, protocols, transcription_comparison
from metavox.statistics import mean_interval

Row = dict[str, Any]
ASKED = {
    "accuracy": ("corpus", "shots", "ways", "episode", "item", "label", "speaker"),
    "cer": ("corpus", "minutes", "seed", "id", "speaker", "said", "chars", "words"),
}
"""What a question is, by the metric of a comparison; the sentence is kept as its number, for it is the corpus's own."""
ANSWERED = {"accuracy": ("correct",), "cer": ("char_errors", "word_errors")}
WHOLE = {"shots", "ways", "episode", "seed", "chars", "words"}
SLACK = 1e-9


def pack(folder: Path, place: Path) -> None:
    """Write the three files; ``folder`` is the ``--out`` of a finished comparison."""
    document = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    place.parent.mkdir(parents=True, exist_ok=True)
    write_answers(place, list(_read(folder / "rows.jsonl")), document["metric"], document["learners"])
    place.with_suffix(".json").write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    place.with_suffix(".md").write_text((folder / "report.md").read_text(encoding="utf-8"), encoding="utf-8")


def write_answers(place: Path, rows: Sequence[Row], metric: str, learners: Sequence[str]) -> None:
    """The table of all answers, beside ``place`` with the ending ``.tsv.gz``."""
    asked, answers = ASKED[metric], ANSWERED[metric]
    names = [(learner, answer) for learner in learners for answer in answers]
    number = _numbers(row["said"] for row in rows if "said" in row)
    table: dict[tuple[Any, ...], dict[tuple[str, str], Any]] = defaultdict(dict)
    for row in rows:
        told = {**row, "said": number[row["said"]]} if "said" in row else row
        question = tuple(told[key] for key in asked)
        for answer in answers:
            if (row["learner"], answer) in table[question]:
                sys.exit(f"{row['learner']} answered {question} twice")
            table[question][row["learner"], answer] = row[answer]
    text = io.StringIO()
    out = csv.writer(text, delimiter="\t", lineterminator="\n")
    out.writerow([*asked, *(learner if answer == answers[0] else f"{learner} words" for learner, answer in names)])
    for question, found in table.items():
        out.writerow(["" if value is None else value for value in (*question, *(found.get(name) for name in names))])
    place.with_suffix(".tsv.gz").write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))


def _numbers(texts: Iterable[str]) -> dict[str, str]:
    """A number for each text, in their order: that of resampling, so that intervals stay the same to the digit."""
    known = sorted(set(texts))
    return {text: f"{i:0{len(str(len(known)))}d}" for i, text in enumerate(known)}


def _read(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def unpack(place: Path, metric: str) -> dict[str, list[Row]]:
    """The answers of each learner, as a comparison's own rows."""
    asked, answers = ASKED[metric], ANSWERED[metric]
    found: dict[str, list[Row]] = defaultdict(list)
    with gzip.open(place.with_suffix(".tsv.gz"), "rt", encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines, delimiter="\t"):
            question: Row = {key: _value(key, line[key]) for key in asked}
            for learner in (name for name in line if name not in asked and not name.endswith(" words")):
                if line[learner] != "":
                    columns = dict(zip(answers, (learner, f"{learner} words"), strict=False))
                    told = {answer: _value("words", line[column]) for answer, column in columns.items()}
                    found[learner].append({"learner": learner, **question, **told})
    return found


def _value(key: str, text: str) -> Any:
    if text == "":
        return None
    if key == "minutes":
        return float(text)
    return int(text) if key in WHOLE else text


def check(place: Path) -> list[str]:
    """What the JSON says otherwise than its table: a sentence each, none where all agrees."""
    document = json.loads(place.with_suffix(".json").read_text(encoding="utf-8"))
    rows = unpack(place, document["metric"])
    axis = "shots" if document["metric"] == "accuracy" else "minutes"
    differs = []
    for row in document["standings"]:
        own = [one for one in rows.get(row["learner"], []) if one[axis] == row[axis]]
        differs += _differences(f"{row['learner']} at {row[axis]}", _standing(own, document), row)
    seed = document["protocol"]["seed"]
    for row in document["paired"]:
        ours, theirs = (
            [one for one in rows.get(name, []) if one[axis] == row[axis]] for name in (row["learner"], row["versus"])
        )
        where = f"{row['learner']} less {row['versus']} at {row[axis]}"
        measure = comparison if axis == "shots" else transcription_comparison
        again = measure.paired(ours, theirs, seed)
        again.pop("p_value")  # it is adjusted for all who are compared
        differs += _differences(where, again, row)
    return differs


def _standing(rows: list[Row], document: Mapping[str, Any]) -> dict[str, Any]:
    """Mean over sets, its interval and each set's, from the answers alone."""
    by_set: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_set[row["corpus"]].append(row)
    some: list[dict[str, Any]] = []
    for corpus, own in by_set.items():
        if document["metric"] == "cer":
            some += transcription_comparison.summaries(own, corpus=corpus)
        else:
            interval = mean_interval(protocols.per_episode(own))
            about = {"metric": "accuracy", "shots": own[0]["shots"], "ways": own[0]["ways"], "corpus": corpus}
            figures = {"mean": interval.mean, "ci95": interval.ci95, "n": len(own)}
            some.append({**document["protocol"], **about, **figures})
    overall = transcription_comparison.over_targets if document["metric"] == "cer" else protocols.over_corpora
    found = {key: overall(some)[key] for key in ("mean", "ci95", "n", "worst_corpus", "worst_mean")}
    return {**found, "by_set": [{key: one[key] for key in ("corpus", "mean", "n")} for one in some]}


def _differences(where: str, again: Any, told: Any) -> list[str]:
    """Where ``told`` lacks or contradicts what ``again`` says."""
    if isinstance(again, dict):
        return [line for key, value in again.items() for line in _differences(f"{where}: {key}", value, told[key])]
    if isinstance(again, list | tuple):
        if len(again) != len(told):
            return [f"{where}: {len(told)} are told, {len(again)} found"]
        pairs = zip(again, told, strict=True)
        return [line for value, said in pairs for line in _differences(where, value, said)]
    same = abs(again - told) <= SLACK if isinstance(again, float) and told is not None else again == told
    return [] if same else [f"{where}: {told} is told, {again} found"]


def main() -> None:
    """Keep a comparison, or check one that is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="--out of metavox compare")
    parser.add_argument("place", type=Path, help="where to keep it, without an ending")
    parser.add_argument("--check", action="store_true", help="compute the figures of PLACE once more")
    asked = parser.parse_args()
    if not asked.check:
        if asked.folder is None:
            parser.error("name the --out of the comparison and where to keep it")
        pack(asked.folder, asked.place)
    differs = check(asked.place)
    if differs:
        sys.exit("\n".join(differs))
    print(f"{asked.place}: every mean, interval and difference follows from the table")


if __name__ == "__main__":
    main()
