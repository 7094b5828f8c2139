"""A level meter in the terminal, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from ..runtime.microphone import Level

WIDTH = 30
LOWEST_DBFS = -60.0
LOUD_DBFS, HOT_DBFS = -12.0, -3.0
"""Peaks above these are drawn in yellow and red."""
HOLD_BLOCKS = 40
"""How long the mark of the last peak stands."""


def bar(rms_dbfs: float, held_dbfs: float) -> Text:
    """A bar of the effective level, with a mark where the last peak was."""
    text = Text("▕", style="dim")
    n_full, mark = (round(_share(value) * WIDTH) for value in (rms_dbfs, held_dbfs))
    for place in range(WIDTH):
        here_dbfs = LOWEST_DBFS * (1 - (place + 1) / WIDTH)
        style = "red" if here_dbfs > HOT_DBFS else "yellow" if here_dbfs > LOUD_DBFS else "green"
        if place < n_full:
            text.append("█", style)
        elif place == mark - 1:
            text.append("┃", style)
        else:
            text.append("·", "dim")
    return text.append("▏", "dim")


def _share(dbfs: float) -> float:
    return min(1.0, max(0.0, 1 - dbfs / LOWEST_DBFS))


class Meter:
    """Shows one line while something is listened to, and leaves nothing of it."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    @contextmanager
    def listening(self, what: str, waiting: str) -> Iterator[Callable[["Level"], None]]:
        """Yield what draws a level; ``what`` is recorded, and ``waiting`` says what to do meanwhile."""
        held_dbfs, age, clipped = LOWEST_DBFS, 0, False
        with Live(Text(what), console=self.console, transient=True, auto_refresh=False) as live:

            def show(level: "Level") -> None:
                nonlocal held_dbfs, age, clipped
                age += 1
                if level.peak_dbfs >= held_dbfs or age > HOLD_BLOCKS:
                    held_dbfs, age = level.peak_dbfs, 0
                clipped = clipped or level.clipped
                line = Text(no_wrap=True, overflow="crop").append(what, "bold").append("  ")
                if level.heard_s:
                    line.append(f"● {level.heard_s:4.1f} s", "red")
                else:
                    line.append(waiting, "cyan")
                line.append(" ").append_text(bar(level.rms_dbfs, held_dbfs))
                line.append(f" {max(level.rms_dbfs, -99):4.0f} dBFS")
                if clipped:
                    line.append(" CLIPPED", "bold white on red")
                live.update(line, refresh=True)

            yield show

    def say(self, text: str, style: str = "") -> None:
        """One line beside the meter."""
        self.console.print(Text(text, style), soft_wrap=True)

    def ask(self, question: str) -> str:
        """What a person answers, in small letters. Raises EOFError where nobody can."""
        self.console.print(Text(question), end="")
        return input().strip().lower()
