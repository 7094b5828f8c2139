"""``metavox compare``: learners beside one another under one budget."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..comparing.subject import Subject


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
    """Compare learners: the same data, tasks, trials and CPU time for all, on what none of them heard.

    What fails is left out of the report and named at the end, with status 2; the same call tries it again.

    Example: metavox compare recipes/compare_words.yaml --jobs 2 --out exp/words

    Example: metavox compare recipes/compare_transcription.yaml --jobs 2 --out exp/languages

    Example: metavox compare recipes/compare_words.yaml compare.minutes=0.2 --learner fomaml --learner joint
    """
    import torch

    from ..comparing.comparison import run_comparison, subject_of, unfinished
    from ..config import load_comparison
    from ..errors import InputError
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
        print_json(_summary(document, subject_of(asked), out))
    else:
        _show(document, subject_of(asked))
        note(f"Wrote {out / 'report.md'}, {out / 'comparison.json'} and {out / 'rows.jsonl'}.")
    if document["stopped"]:
        raise InputError(unfinished(document["stopped"]))


def _summary(document: Mapping[str, Any], subject: "Subject", out: Path) -> dict[str, Any]:
    """The best where most was given, flat, and a flat row for each learner."""
    names, axis = document["versus"][-1] if document["versus"] else {}, subject.measure.axis
    given = names.get(axis)
    here = [row for row in document["standings"] if row[axis] == given]
    first = next((row for row in here if row["learner"] == names.get("best")), here[0] if here else {})
    found = {key: first.get(key) for key in subject.summary_keys} | {subject.given_key: given}
    found |= {key: document["protocol"][key] for key in ("seed", "draws") if key in document["protocol"]}
    found |= {"model": first.get("learner"), "corpus": [own["corpus"] for own in first.get("by_set", [])]}
    found |= {key: first.get(key) for key in ("worst_corpus", "worst_mean")}
    for question in ("baseline", *subject.measure.rivals):
        row = _paired(document, question, first.get("learner"), axis, given)
        found[question] = names.get(question)
        found |= {f"{question}_difference": row.get("difference"), f"{question}_p_value": row.get("p_value")}
        found[f"{question}_difference_ci95"] = [row.get("low"), row.get("high")]
    about = {"trials": document["protocol"]["trials"], "minutes": document["protocol"]["minutes"]}
    keys = ("mean", "ci95", "n", "worst_corpus", "worst_mean", "sets")
    rows = [
        {"learner": row["learner"], subject.given_key: row[axis], **{key: row[key] for key in keys}}
        for row in document["standings"]
    ]
    said = {"learners": rows, "sentences": document["sentences"], "out": str(out)}
    return {**found, **about, "version": document["versions"]["metavox"], **said}


def _paired(document: Mapping[str, Any], question: str, learner: Any, axis: str, given: Any) -> dict[str, Any]:
    for row in document["paired"]:
        if (row["question"], row["learner"], row[axis]) == (question, learner, given):
            return dict(row)
    return {}


def _show(document: Mapping[str, Any], subject: "Subject") -> None:
    """A table for each amount that was given, what it took, and the verdicts."""
    from rich.console import Console

    from ..comparing.page import cost_rows, standing_rows

    console, measure = Console(), subject.measure
    if not console.is_terminal:  # a file is as wide as it needs to be
        console.width = 120
    for names in document["versus"]:
        at = names[measure.axis]
        console.print(_table(measure.given(at), *standing_rows(document, measure, at)))
    console.print(_table("what it took", *cost_rows(document, measure)))
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
