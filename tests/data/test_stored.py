"""A folder that is computed once is whole or not there, and a new one can be made before work is done for it."""

import os
from pathlib import Path

import pytest

from metavox.contracts import InputError
from metavox.data.stored import MAX_NAME_BYTES, opened_or_written, require_empty


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


def test_a_new_folder_is_one_that_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "nowhere").symlink_to("gone")
    for name in ("new", "not/yet/there", "empty", "empty/new", "ñ" * (MAX_NAME_BYTES // 2)):
        require_empty(Path(name))
    for name, why in {
        "file": "is no folder",
        "file/new": "since .*file is no folder",
        "file/not/yet": "since .*file is no folder",
        "nowhere/new": "since .*nowhere is no folder",
        "full": "is not empty",
        ".": "is not empty",
        "link": "is no folder",
        "ñ" * (MAX_NAME_BYTES // 2 + 1): "more than 230 bytes",
    }.items():
        with pytest.raises(InputError, match=why) as caught:
            require_empty(Path(name))
        assert str(caught.value).isprintable()


def test_a_folder_that_cannot_be_written_in_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    with pytest.raises(InputError, match=r"out cannot be made \(Permission denied\); check the permissions of"):
        require_empty(tmp_path / "out")
