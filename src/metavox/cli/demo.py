"""``metavox demo``: the main job, from nothing to a report."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer


def demo(
    minutes: Annotated[float, typer.Option(min=0.05, help="Training time, shared by the three learners.")] = 2.0,
    out: Annotated[Path, typer.Option(help="Folder for the report; an earlier demo there is replaced.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Draws weights, tasks and takes.")] = 0,
) -> None:
    """Meta-train on speech, transfer to languages left out, compare fairly, enrol and recognise a few words.

    No network is needed. Real recordings are used where METAVOX_DATA names some; synthetic ones always.

    Example: metavox demo --minutes 2 --out demo
    """
    import torch

    from ..demo import run_demo
    from .output import note, percent
    from .progress import bars

    torch.set_num_threads(1)
    with bars() as report:
        result = run_demo(out, minutes=minutes, seed=seed, report=report)
    if result.absent:
        note(f"Real recordings not here: {', '.join(result.absent)}. Set METAVOX_DATA to include them.")
    _table(result.overall, percent)
    print()
    print(result.enrolment_sentence)
    print(f"Report: {out / 'report.html'}   figures: {out / 'results.jsonl'}   model: {out / 'prototypes'}")


def _table(overall: list[dict[str, Any]], percent: Callable[..., str]) -> None:
    """Learner x takes, with the worst set at most takes; fits 80 columns."""
    from rich.console import Console
    from rich.table import Table

    shots = sorted({row["shots"] for row in overall})
    table = Table(title="Accuracy in % on words of languages that no learner heard,\nmean over sets, 95 % interval")
    table.add_column("learner")
    for k in shots:
        table.add_column(f"{k} take{'s' if k > 1 else ''}", justify="right", no_wrap=True)
    table.add_column(f"worst set at {shots[-1]}")
    for model in dict.fromkeys(row["model"] for row in overall):
        rows = {row["shots"]: row for row in overall if row["model"] == model}
        worst = f"{100 * rows[shots[-1]]['worst_mean']:.0f} {rows[shots[-1]]['worst_corpus']}"
        table.add_row(model, *(percent(rows[k]["mean"], rows[k]["ci95"]) for k in shots), worst)
    Console().print(table)
