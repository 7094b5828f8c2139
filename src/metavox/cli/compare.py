"""``metavox compare``: learners beside one another under one budget."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer


def compare(
    recipe: Annotated[
        Path, typer.Argument(help="YAML file with a section compare, such as recipes/compare_words.yaml.")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the comparison; one that was stopped goes on.")] = Path(
        "exp/comparison"
    ),
    learner: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this one beside the baselines; may be repeated.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=0, max=1024, help="Learners at a time, each in a process; 0: all in this one.")
    ] = 1,
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Compare learners: the same data, tasks, trials and CPU time for all, on word sets none of them heard.

    Example: metavox compare recipes/compare_words.yaml --jobs 2 --out exp/words

    Example: metavox compare recipes/compare_words.yaml compare.minutes=0.2 --learner fomaml --learner joint
    """
    import torch

    from ..comparing.comparison import run_comparison
    from ..config import load_comparison
    from .output import note, print_json
    from .progress import bars

    changes = list(overrides or [])
    if learner:
        changes.append(f"compare.learners=[{', '.join(learner)}]")
    asked = load_comparison(recipe, changes)
    torch.set_num_threads(1)
    with bars() as report:
        document = run_comparison(asked, out, jobs, report)
    if json_out:
        print_json(_summary(document, out))
        return
    _show(document)
    note(f"Wrote {out / 'report.md'}, {out / 'comparison.json'} and {out / 'rows.jsonl'}.")


def _summary(document: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The best with most shots, flat, and a flat row for each learner."""
    names = document["versus"][-1] if document["versus"] else {}
    shots = names.get("shots")
    here = [row for row in document["standings"] if row["shots"] == shots]
    first = next((row for row in here if row["learner"] == names.get("best")), here[0] if here else {})
    keys = ("metric", "mean", "ci95", "n", "episodes", "seed", "ways", "shots", "queries", "speakers")
    found = {key: first.get(key) for key in keys}
    found |= {"model": first.get("learner"), "corpus": [own["corpus"] for own in first.get("by_set", [])]}
    found |= {key: first.get(key) for key in ("worst_corpus", "worst_mean")}
    for question in ("baseline", "joint"):
        row = _paired(document, question, first.get("learner"), shots)
        found[question] = names.get(question)
        found |= {f"{question}_difference": row.get("difference"), f"{question}_p_value": row.get("p_value")}
        found[f"{question}_difference_ci95"] = [row.get("low"), row.get("high")]
    about = {"trials": document["protocol"]["trials"], "minutes": document["protocol"]["minutes"]}
    rows = [
        {key: row[key] for key in ("learner", "shots", "mean", "ci95", "n", "worst_corpus", "worst_mean", "sets")}
        for row in document["standings"]
    ]
    said = {"learners": rows, "sentences": document["sentences"], "out": str(out)}
    return {**found, **about, "version": document["versions"]["metavox"], **said}


def _paired(document: Mapping[str, Any], question: str, learner: Any, shots: Any) -> dict[str, Any]:
    for row in document["paired"]:
        if (row["question"], row["learner"], row["shots"]) == (question, learner, shots):
            return dict(row)
    return {}


def _show(document: Mapping[str, Any]) -> None:
    """A table for each number of shots, what it took, and the verdicts."""
    from rich.console import Console

    from ..comparing.comparison import WORDS
    from ..comparing.page import cost_rows, standing_rows

    console = Console()
    if not console.is_terminal:  # a file is as wide as it needs to be
        console.width = 120
    for names in document["versus"]:
        shots = names["shots"]
        console.print(_table(WORDS.given(shots), *standing_rows(document, WORDS, shots)))
    console.print(_table("what it took", *cost_rows(document)))
    for sentence in document["sentences"]:
        print(sentence)


def _table(title: str, heads: list[str], rows: list[list[str]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, box=None)
    for head in heads:
        table.add_column(escape(head), justify="left" if head in ("learner", "worst set") else "right")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
