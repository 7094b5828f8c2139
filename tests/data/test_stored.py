"""A folder that is computed once is whole or not there."""

from pathlib import Path

import pytest

from metavox.contracts import InputError
from metavox.data.stored import opened_or_written


def load(folder: Path) -> str | None:
    path = folder / "value"
    return path.read_text() if path.is_file() and path.read_text() else None


def test_it_is_written_once_and_again_where_it_is_damaged(tmp_path: Path) -> None:
    calls: list[Path] = []

    def write(folder: Path) -> None:
        calls.append(folder)
        (folder / "value").write_text("7")

    for _ in range(2):
        assert opened_or_written(tmp_path / "a" / "b", load, write) == "7"
    assert len(calls) == 1
    assert calls[0] != tmp_path / "a" / "b"
    (tmp_path / "a" / "b" / "value").write_text("")
    assert opened_or_written(tmp_path / "a" / "b", load, write) == "7"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError, InputError])
def test_a_fault_leaves_nothing(tmp_path: Path, fault: type[BaseException]) -> None:
    def write(folder: Path) -> None:
        (folder / "value").write_text("half")
        raise fault

    with pytest.raises(fault):
        opened_or_written(tmp_path / "a", load, write)
    assert not list(tmp_path.iterdir())


def test_the_faster_of_two_is_kept(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "value").write_text("slow")
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "value").write_text("fast")

    assert opened_or_written(tmp_path / "a", load, write) == "fast"


def test_a_disk_that_forgets_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read back; check that disk"):
        opened_or_written(tmp_path / "a", load, lambda folder: None)
