"""Processes of cells: who waits for whom, what is not done again, and how a fault comes out."""

import os
import shutil
from pathlib import Path
from typing import Any

import comparisons
import pytest
import yaml

from metavox.comparing.cells import Ran, run_cells
from metavox.comparing.recorded import Cell, Finished, cell_folder, claimed, is_finished, read_cell, write_cell
from metavox.config import load_comparison
from metavox.contracts import InputError

OWN, SHARED = Cell("1", "joint"), Cell("1", "probe", "joint")


def leave(out: Path, cell: Cell) -> None:
    """A cell that says who did it, and whether the training that it shares was there."""
    there = cell.shares and is_finished(out, Cell(cell.fold, cell.shares))
    write_cell(out, cell, Finished({"pid": os.getpid(), "shared": there}, [], [{"item": "a"}]))


def fail(out: Path, cell: Cell) -> None:
    """Fails as the learner is called, or leaves a cell."""
    if cell.learner == "refused":
        raise InputError("A recording is broken; drop it.")
    if cell.learner == "broken":
        raise RuntimeError("shapes do not\n  fit")
    if cell.learner == "stopped":
        raise KeyboardInterrupt
    if cell.learner == "killed":
        os.kill(os.getpid(), 9)
    if cell.learner != "lazy":
        leave(out, cell)


def test_cells_run_in_processes_of_their_own_and_wait_for_what_they_share(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    ran = run_cells(tmp_path, [SHARED, OWN], leave, 2, lambda what, done, total, note="": told.append((note, done)))
    results = [read_cell(tmp_path, cell).result for cell in (OWN, SHARED)]
    assert (ran.n_new, ran.stopped) == (2, {})
    assert len({os.getpid(), *(result["pid"] for result in results)}) == 3
    assert results[1]["shared"] is True
    assert told[-1] == ("", 2)
    assert sorted(path.name for path in cell_folder(tmp_path, OWN).iterdir()) == [
        "result.json", "rows.jsonl", "trials.json"
    ]  # fmt: skip


def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    cells = [OWN, SHARED, Cell("2", "joint")]
    assert run_cells(tmp_path, cells[:2], leave, 0) == Ran(2, {})
    before = read_cell(tmp_path, OWN)
    assert run_cells(tmp_path, cells, leave, 0) == Ran(1, {})
    assert run_cells(tmp_path, cells, lambda *_: pytest.fail("anew"), 0) == Ran(0, {})
    assert read_cell(tmp_path, OWN) == before


FAILING = [Cell("1", "refused"), Cell("1", "probe", "refused"), Cell("1", "broken"), Cell("1", "lazy"), OWN]
SAID = {
    "refused": "A recording is broken; drop it.",
    "probe": "The training of refused, which it shares, stopped.",
    "broken": "RuntimeError: shapes do not fit (test_comparing_cells.py, line ",
    "lazy": "It left nothing.",
    "killed": "Its process was ended by signal 9; free some memory or ask for fewer --jobs.",
}


@pytest.mark.parametrize(("jobs", "cells"), [(0, FAILING), (3, [Cell("1", "killed"), *FAILING])])
def test_a_cell_that_fails_is_a_sentence_and_its_neighbours_go_on(tmp_path: Path, jobs: int, cells: list[Cell]) -> None:
    ran = run_cells(tmp_path, cells, fail, jobs)
    assert ran.n_new == 1
    assert is_finished(tmp_path, OWN)
    assert set(ran.stopped) == set(cells) - {OWN}
    for cell, why in ran.stopped.items():
        assert why.startswith(SAID[cell.learner])
        assert not cell_folder(tmp_path, cell).exists()
    assert run_cells(tmp_path, cells[:2], leave, 0) == Ran(2, {})


def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_cells(tmp_path, [Cell("1", "stopped"), OWN], fail, 0)
    assert not is_finished(tmp_path, OWN)


def test_who_shares_another_training_now_is_done_again(tmp_path: Path) -> None:
    """A probe that was alone trained for itself; beside joint it must not pass as the same training."""
    alone = Cell("1", "probe")
    run_cells(tmp_path, [alone], leave, 0)
    assert run_cells(tmp_path, [OWN, SHARED], leave, 0) == Ran(2, {})
    assert read_cell(tmp_path, SHARED).result["shares"] == "joint"
    assert not is_finished(tmp_path, alone)
    shutil.rmtree(cell_folder(tmp_path, OWN))
    assert not is_finished(tmp_path, SHARED)


def recipe(folder: Path) -> Any:
    return load_comparison(comparisons.recipe(folder, [folder / "aa", folder / "bb"]))


def test_two_calls_are_not_at_work_in_one_folder(tmp_path: Path) -> None:
    """A file that is left by another call locks nothing: its process has ended."""
    out, asked = tmp_path / "out", recipe(tmp_path)
    busy = pytest.raises(InputError, match=f"Another call of metavox compare is at work in {out}")
    with claimed(out, asked), busy, claimed(out, asked):
        pytest.fail("two at once")
    with claimed(out, asked):
        pass


def test_what_was_left_half_written_is_removed_when_a_call_begins(tmp_path: Path) -> None:
    out, asked = tmp_path / "out", recipe(tmp_path)
    leave(out, OWN)
    (out / "recipe.yaml").write_text(yaml.safe_dump(asked.model_dump(mode="json", exclude_unset=True)))
    for name in (".joint.7.tmp", ".joint.7.old"):
        (out / "cells" / "1" / name / "model").mkdir(parents=True)
    with claimed(out, asked):
        assert [path.name for path in (out / "cells" / "1").iterdir()] == ["joint"]


def test_a_damaged_cell_is_named(tmp_path: Path) -> None:
    leave(tmp_path, OWN)
    (cell_folder(tmp_path, OWN) / "trials.json").write_text("[")
    with pytest.raises(InputError, match="joint is damaged"):
        read_cell(tmp_path, OWN)
