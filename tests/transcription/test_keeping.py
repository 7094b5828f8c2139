"""Adapted folders: whole or as they were, the one before kept inside, and undone."""

import os
from pathlib import Path

import pytest
import sounds
import tonal
import torch

from metavox.contracts import InputError
from metavox.transcription.keeping import check_out, save_kept, undo
from metavox.transcription.models import Recognition, adapted, load_recogniser


@pytest.fixture
def base(tmp_path: Path) -> Recognition:
    return tonal.base_folder(tmp_path / "base", guard=False)


def other(base: Recognition, shift: float) -> Recognition:
    return adapted(base, {"head.bias": base.net.head.bias.detach() + shift})


def bias(folder: Path) -> torch.Tensor:
    return load_recogniser(folder).net.head.bias.detach()


def test_the_one_before_is_kept_and_comes_back_byte_for_byte(base: Recognition, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    n_bytes = save_kept(out, other(base, 1.0))
    assert n_bytes == (out / "part.safetensors").stat().st_size
    first = sounds.files_below(out)
    assert set(first) == {"adapted.json", "part.safetensors"}
    save_kept(out, other(base, 2.0))
    assert {name: content for name, content in sounds.files_below(out / "previous").items()} == first
    assert torch.allclose(bias(out), base.net.head.bias + 2, atol=0.02)
    save_kept(out, other(base, 3.0))
    assert set(sounds.files_below(out)) == {*first, "previous/adapted.json", "previous/part.safetensors"}
    undo(out)
    assert torch.allclose(bias(out), base.net.head.bias + 2, atol=0.02)
    with pytest.raises(InputError, match="no earlier adaptation"):
        undo(out)
    assert os.listdir(out.parent) == ["out"]


def test_an_undone_folder_finds_its_base_after_both_have_moved(base: Recognition, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "base").rename(home / "base")
    moved = load_recogniser(home / "base")
    for shift in (1.0, 2.0):
        save_kept(home / "out", other(moved, shift))
    home.rename(tmp_path / "away")
    undo(tmp_path / "away" / "out")
    assert torch.allclose(bias(tmp_path / "away" / "out"), base.net.head.bias + 1, atol=0.02)


def test_what_changed_nothing_can_be_stored_too(base: Recognition, tmp_path: Path) -> None:
    save_kept(tmp_path / "out", adapted(base, {}))
    assert torch.equal(bias(tmp_path / "out"), base.net.head.bias)


@pytest.mark.parametrize("moment", ["save", "copy", "rename"])
def test_an_interruption_leaves_the_folder_as_it_was(
    base: Recognition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    out = tmp_path / "models" / "out"
    save_kept(out, other(base, 1.0))
    before = sounds.files_below(out.parent)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if moment == "save":
        monkeypatch.setattr("metavox.transcription.models.write_json", stop)
    elif moment == "copy":
        monkeypatch.setattr("shutil.copyfile", stop)
    else:
        rename = Path.rename

        def second(self: Path, target: Path) -> Path:
            if target.name == "out" and self.name.endswith(".tmp"):
                raise KeyboardInterrupt
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", second)
    with pytest.raises(KeyboardInterrupt):
        save_kept(out, other(base, 2.0))
    assert sounds.files_below(out.parent) == before


def test_what_is_taken_is_refused_and_left_alone(base: Recognition, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    for place in ("file", "full", "base"):
        with pytest.raises(InputError, match="no adapted recogniser; choose another name"):
            check_out(tmp_path / place)
        with pytest.raises(InputError, match="no adapted recogniser"):
            save_kept(tmp_path / place, other(base, 1.0))
    with pytest.raises(InputError, match="is a file; choose another place"):
        check_out(tmp_path / "file" / "out")
    assert (tmp_path / "full" / "letter.txt").read_text() == "mine"


def test_nothing_to_undo_is_said(base: Recognition, tmp_path: Path) -> None:
    for place in ("base", "nowhere"):
        with pytest.raises(InputError, match="no adapted recogniser"):
            undo(tmp_path / place)
    save_kept(tmp_path / "out", other(base, 1.0))
    with pytest.raises(InputError, match="no earlier adaptation"):
        undo(tmp_path / "out")
    save_kept(tmp_path / "out", other(base, 2.0))
    before = sounds.files_below(tmp_path / "out")
    (tmp_path / "out" / "previous" / "part.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match="damaged"):
        undo(tmp_path / "out")
    assert (tmp_path / "out" / "adapted.json").read_bytes() == before["adapted.json"]
