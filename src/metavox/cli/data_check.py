"""``metavox data check``: every problem of a corpus, each with its remedy."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..data.manifests import CorpusReport


def check(
    corpora: Annotated[list[Path], typer.Argument(help="Corpus folders or manifest files.", show_default=False)],
    json_out: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Check corpora before they are used: all rows, all files, all problems at once.

    The exit status is 0 when all is well, and 2 when there is any problem.

    Example: metavox data check my-words data/lithuanian_commands
    """
    from rich.markup import escape

    from ..data.layouts import printable
    from ..data.manifests import check_corpus
    from .output import print_json
    from .progress import bars

    reports = []
    with bars() as report:
        for path in corpora:
            name = escape(printable(path.absolute().name))
            reports.append(check_corpus(path, progress=partial(report, name)))
    if json_out:
        print_json({"ok": all(r.ok for r in reports), "corpora": [_as_json(r) for r in reports]})
    else:
        _print(reports)
    if not all(r.ok for r in reports):
        raise typer.Exit(2)


def _as_json(report: "CorpusReport") -> dict[str, Any]:
    from ..contracts import as_row
    from ..data.layouts import printable

    return {
        "path": printable(str(report.path)),
        "layout": report.layout,
        "utterances": report.n_utterances,
        "hours": round(report.hours, 4),
        "classes": report.n_classes,
        "speakers": report.n_speakers,
        "languages": list(report.languages),
        "problems": [as_row(problem) for problem in report.problems],
    }


def _print(reports: "list[CorpusReport]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..data.layouts import printable

    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("corpus", overflow="fold")
    table.add_column("layout", no_wrap=True)
    for name in ("utterances", "hours", "classes", "speakers"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("languages")
    table.add_column("problems", justify="right", no_wrap=True)
    for r in reports:
        counts = (f"{r.n_utterances:,}", f"{r.hours:.2f}", f"{r.n_classes:,}", f"{r.n_speakers:,}")
        cells = (r.path.name, r.layout or "-", *counts, ", ".join(r.languages) or "-", f"{len(r.problems):,}")
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console = Console()
    if not console.is_terminal:
        console.width = 120  # a file or a pipe has no width of its own; 80 would fold the names
    console.print(table)
    for report in reports:
        name = printable(str(report.path))
        for p in report.problems:
            place = name if p.where == name else f"{name} {p.where}"
            console.print(Text(f"{place}: {p.message}; {p.remedy}."), soft_wrap=True)
