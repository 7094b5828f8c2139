"""Cells of a comparison, each in a process of its own, several at a time; what is finished is not done again."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ..contracts import InputError
from .recorded import Cell, cell_folder, is_finished

Report = Callable[..., None]
"""(what is being done, done, total, and if anything is to be said beside it: note)."""
Run = Callable[[Path, Cell], None]
"""Does one cell of the comparison in a folder and leaves it there; a function of a module, since a process finds it."""


def run_cells(out: Path, cells: Sequence[Cell], run: Run, jobs: int, report: Report | None = None) -> int:
    """Do the cells that are not finished, at most ``jobs`` at a time; 0 does them in this process, one by one.

    A cell that shares a training waits for it. Ctrl-C ends what runs and keeps what is finished.

    Returns:
        how many cells were done now.

    Raises:
        InputError: what a cell raised, or a cell whose process was ended from outside.
    """
    waiting = [cell for cell in cells if not is_finished(out, cell)]
    waiting.sort(key=lambda cell: bool(cell.shares))  # others wait for these
    n_new, running = len(waiting), _Running(out, run)
    try:
        while waiting or running.cells:
            told = ", ".join(cell.learner for cell in running.cells)
            if report is not None:
                report("cells", len(cells) - len(waiting) - len(running.cells), len(cells), told)
            ready = [cell for cell in waiting if _is_ready(out, cell, cells)]
            if ready and jobs == 0:
                run(out, ready[0])
                waiting.remove(ready[0])
                continue
            for cell in ready[: jobs - len(running.cells)]:
                running.start(cell)
                waiting.remove(cell)
            running.wait()
    finally:
        running.end()
    if report is not None:
        report("cells", len(cells), len(cells))
    return n_new


def alone(out: Path, cell: Cell, run: Run) -> None:
    """Do one thing with nothing beside it, in a process of its own. Raises InputError as ``run_cells``."""
    running = _Running(out, run)
    try:
        running.start(cell)
        running.wait()
    finally:
        running.end()


def _is_ready(out: Path, cell: Cell, cells: Sequence[Cell]) -> bool:
    return not cell.shares or is_finished(out, Cell(cell.fold, cell.shares))


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

    def wait(self) -> None:
        """Until one of them has ended."""
        ended = wait([process.sentinel for process, _ in self.cells.values()])
        for cell, (process, ear) in list(self.cells.items()):
            if process.sentinel in ended:
                process.join()
                del self.cells[cell]
                _judge(cell, process.exitcode, _heard(ear), cell_folder(self.out, cell))

    def end(self) -> None:
        for process, _ in self.cells.values():
            process.terminate()
        for process, _ in self.cells.values():
            process.join()


def _do(run: Run, out: Path, cell: Cell, mouth: Connection) -> None:
    """What a process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    try:
        run(out, cell)
    except InputError as err:
        mouth.send(str(err))
        raise SystemExit(2) from None


def _heard(ear: Connection) -> str:
    try:
        return str(ear.recv()) if ear.poll() else ""
    except EOFError:
        return ""
    finally:
        ear.close()


def _judge(cell: Cell, status: int | None, said: str, folder: Path) -> None:
    if said:
        raise InputError(said)
    if status is not None and status < 0:
        raise InputError(
            f"{cell.learner} in fold {cell.fold} was ended by signal {-status}; free some memory or ask for fewer "
            "--jobs, and call again to go on."
        )
    if status:
        raise RuntimeError(f"{cell.learner} in fold {cell.fold} failed with status {status}; {folder} was not written")
