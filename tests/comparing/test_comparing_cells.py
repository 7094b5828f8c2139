"""Processes of cells: who waits for whom, what is not done again, and how a fault comes out."""

import os
from pathlib import Path

import pytest

from metavox.comparing.cells import run_cells
from metavox.comparing.recorded import Cell, Finished, cell_folder, is_finished, read_cell, write_cell
from metavox.contracts import InputError

OWN, SHARED = Cell("1", "joint"), Cell("1", "probe", "joint")


def leave(out: Path, cell: Cell) -> None:
    """A cell that says who did it, and whether the training that it shares was there."""
    there = cell.shares and is_finished(out, Cell(cell.fold, cell.shares))
    write_cell(out, cell, Finished({"pid": os.getpid(), "shared": there}, [], [{"item": "a"}]))


def refuse(out: Path, cell: Cell) -> None:
    raise InputError("A recording is broken; drop it.")


def die(out: Path, cell: Cell) -> None:
    os.kill(os.getpid(), 9)


def test_cells_run_in_processes_of_their_own_and_wait_for_what_they_share(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    n_new = run_cells(tmp_path, [SHARED, OWN], leave, 2, lambda what, done, total, note="": told.append((note, done)))
    results = [read_cell(tmp_path, cell).result for cell in (OWN, SHARED)]
    assert n_new == 2
    assert len({os.getpid(), *(result["pid"] for result in results)}) == 3
    assert results[1]["shared"] is True
    assert told[-1] == ("", 2)
    assert sorted(path.name for path in cell_folder(tmp_path, OWN).iterdir()) == [
        "result.json", "rows.jsonl", "trials.json"
    ]  # fmt: skip


def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    cells = [OWN, SHARED, Cell("2", "joint")]
    assert run_cells(tmp_path, cells[:2], leave, 0) == 2
    before = read_cell(tmp_path, OWN)
    assert run_cells(tmp_path, cells, leave, 0) == 1
    assert run_cells(tmp_path, cells, refuse, 0) == 0
    assert read_cell(tmp_path, OWN) == before


@pytest.mark.parametrize(("run", "said"), [(refuse, "A recording is broken; drop it."), (die, "ended by signal 9")])
def test_a_fault_in_a_process_is_the_callers_sentence(tmp_path: Path, run: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        run_cells(tmp_path, [OWN], run, 1)  # type: ignore[arg-type]
    assert not is_finished(tmp_path, OWN)


def test_a_damaged_cell_is_named(tmp_path: Path) -> None:
    leave(tmp_path, OWN)
    (cell_folder(tmp_path, OWN) / "trials.json").write_text("[")
    with pytest.raises(InputError, match="joint is damaged"):
        read_cell(tmp_path, OWN)
