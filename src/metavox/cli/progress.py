"""Progress bars on standard error, so that standard output holds results only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def bars() -> Iterator[Callable[..., None]]:
    """Yield ``report(what, done, total, note="")``: one bar for each ``what``, with the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (  # within 80 columns, the note included
        TextColumn("{task.description:<20}"),
        BarColumn(12),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    known: dict[str, Any] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def report(what: str, done: int, total: int | None, note: str = "") -> None:
            if what not in known:
                known[what] = progress.add_task(what, total=total, note=note)
            progress.update(known[what], completed=done, total=total, note=note)

        try:
            yield report
        except BaseException:  # a file that collects standard error holds the sentence alone, and no half bar
            progress.console.quiet = not progress.console.is_terminal
            raise
