"""Cells of a comparison, each in a process of its own, several at a time; what is finished is not done again."""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ..contracts import InputError
from .recorded import Cell, is_finished

Report = Callable[..., None]
"""(what is being done, done, total, and if anything is to be said beside it: note)."""
Run = Callable[[Path, Cell], None]
"""Does one cell of the comparison in a folder and leaves it there; a function of a module, since a process finds it."""


@dataclass(frozen=True)
class Ran:
    """What became of the cells that were not finished."""

    n_new: int
    """Finished now."""
    stopped: Mapping[Cell, str]
    """Not finished, and why: a sentence each."""


def run_cells(out: Path, cells: Sequence[Cell], run: Run, jobs: int, report: Report | None = None) -> Ran:
    """Do the cells that are not finished, at most ``jobs`` at a time; 0 does them in this process, one by one.

    A cell that shares a training waits for it. One that fails, whatever by, leaves nothing, and the others go on.
    Ctrl-C ends what runs and keeps what is finished.
    """
    waiting = [cell for cell in cells if not is_finished(out, cell)]
    waiting.sort(key=lambda cell: bool(cell.shares))  # others wait for these
    n_asked, stopped, running = len(waiting), dict[Cell, str](), _Running(out, run)
    try:
        while waiting or running.cells:
            told = ", ".join(cell.learner for cell in running.cells)
            if report is not None:
                report("cells", len(cells) - len(waiting) - len(running.cells), len(cells), told)
            for cell in [cell for cell in waiting if Cell(cell.fold, cell.shares) in stopped]:
                stopped[cell] = f"The training of {cell.shares}, which it shares, stopped."
                waiting.remove(cell)
            ready = [cell for cell in waiting if _is_ready(out, cell)]
            for cell in ready[: max(1, jobs) - len(running.cells)]:
                waiting.remove(cell)
                if jobs:
                    running.start(cell)
                else:
                    stopped |= _unless_done(out, {cell: _attempted(run, out, cell)})
            stopped |= _unless_done(out, running.wait())
    finally:
        running.end()
    if report is not None:
        report("cells", len(cells), len(cells))
    return Ran(n_asked - len(stopped), stopped)


def alone(out: Path, cell: Cell, run: Run, jobs: int) -> str:
    """Do one thing with nothing beside it, in a process of its own unless ``jobs`` is 0; why it failed, if it did."""
    if not jobs:
        return _attempted(run, out, cell)
    running = _Running(out, run)
    try:
        running.start(cell)
        return running.wait()[cell]
    finally:
        running.end()


def _is_ready(out: Path, cell: Cell) -> bool:
    return not cell.shares or is_finished(out, Cell(cell.fold, cell.shares))


def _unless_done(out: Path, ended: Mapping[Cell, str]) -> dict[Cell, str]:
    """Of cells that have ended those that are not finished, and why."""
    return {cell: why or "It left nothing." for cell, why in ended.items() if why or not is_finished(out, cell)}


def _attempted(run: Run, out: Path, cell: Cell) -> str:
    """Do a cell here. What it raises is a sentence, that of an error which nobody foresaw with its place."""
    try:
        run(out, cell)
    except InputError as err:
        return str(err)
    except Exception as err:
        place = traceback.extract_tb(err.__traceback__)[-1]
        what = " ".join(f"{type(err).__name__}: {err}".split())[:300].rstrip(".: ")
        return f"{what} ({Path(place.filename).name}, line {place.lineno})."
    return ""


class _Running:
    """Processes that do cells now."""

    def __init__(self, out: Path, run: Run) -> None:
        self.out, self.run = out, run
        self.cells: dict[Cell, tuple[Any, Connection]] = {}

    def start(self, cell: Cell) -> None:
        context: Any = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        ear, mouth = context.Pipe(duplex=False)
        process = context.Process(target=_do, args=(self.run, self.out, cell, mouth))
        process.start()
        mouth.close()
        self.cells[cell] = (process, ear)

    def wait(self) -> dict[Cell, str]:
        """Until one of them has ended, if there are any: those that have, and why they failed, or nothing."""
        found: dict[Cell, str] = {}
        if not self.cells:
            return found
        ended = wait([process.sentinel for process, _ in self.cells.values()])
        for cell, (process, ear) in list(self.cells.items()):
            if process.sentinel in ended:
                process.join()
                del self.cells[cell]
                found[cell] = _heard(ear) or _ended(process.exitcode)
        return found

    def end(self) -> None:
        for process, _ in self.cells.values():
            process.terminate()
        for process, _ in self.cells.values():
            process.join()


def _do(run: Run, out: Path, cell: Cell, mouth: Connection) -> None:
    """What a process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    mouth.send(_attempted(run, out, cell))


def _heard(ear: Connection) -> str:
    try:
        return str(ear.recv()) if ear.poll() else ""
    except EOFError:
        return ""
    finally:
        ear.close()


def _ended(status: int | None) -> str:
    """What the end of a process says."""
    if status is not None and status < 0:
        return f"Its process was ended by signal {-status}; free some memory or ask for fewer --jobs."
    return f"Its process ended with status {status}." if status else ""
