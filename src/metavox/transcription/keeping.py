"""Adapted recognisers on disk with the one before them: written beside and renamed, and undone in one move."""

import os
import shutil
from pathlib import Path

from ..checkpoint import put_folder, read_document, read_tensors
from ..contracts import InputError
from .models import Recognition, save_adapted

MARK, PART = "adapted.json", "part.safetensors"
PREVIOUS = "previous"
"""Folder of the recogniser that an adaptation took the place of, inside that adaptation."""


def check_out(folder: Path) -> None:
    """Raise InputError where no adapted recogniser can be left in ``folder``; to be asked before anything is computed.

    An adapted recogniser that is there may be replaced.
    """
    real = Path(os.path.realpath(folder))
    if os.path.lexists(real) and not os.path.isfile(real / MARK):
        raise InputError(f"{folder} exists and is no adapted recogniser; choose another name or remove it.")
    above = next(parent for parent in real.parents if os.path.lexists(parent))
    if not os.path.isdir(above):
        raise InputError(f"{folder} cannot be written, since {above} is a file; choose another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written; check the permissions of {above} or choose another place.")


def save_kept(folder: Path, recognition: Recognition) -> int:
    """Write an adapted recogniser and return the bytes of its part; one that is there is kept inside, for ``undo``.

    Raises:
        InputError: ``folder`` exists and is something else.
    """
    check_out(folder)
    real = Path(os.path.realpath(folder))
    real.parent.mkdir(parents=True, exist_ok=True)
    new = real.with_name(f".{real.name}.{os.getpid()}.new")  # a neighbour: paths relative to it stay right
    shutil.rmtree(new, ignore_errors=True)
    try:
        save_adapted(new, recognition)
        n_bytes = os.path.getsize(new / PART)

        def write(beside: Path) -> None:
            _copy(new, beside)
            if os.path.isfile(real / MARK):
                (beside / PREVIOUS).mkdir()
                _copy(real, beside / PREVIOUS)

        put_folder(real, MARK, write, "adapted recogniser")
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return n_bytes


def undo(folder: Path) -> None:
    """Put the recogniser back that the last adaptation took the place of.

    Raises:
        InputError: no adapted recogniser there, none before it, or a damaged one.
    """
    if not os.path.isfile(folder / MARK):
        raise InputError(f"{folder} is no adapted recogniser (no {MARK}); name a folder that `metavox adapt` wrote.")
    older = folder / PREVIOUS
    if not os.path.isfile(older / MARK):
        raise InputError(
            f"{folder} holds no earlier adaptation to go back to: only the last one is kept, and only once; use the "
            "model it was made from, or adapt again."
        )
    read_document(older / MARK, "adapted recogniser")
    read_tensors(older / PART)
    put_folder(folder, MARK, lambda beside: _copy(older, beside), "adapted recogniser")


def _copy(source: Path, target: Path) -> None:
    for name in (MARK, PART):
        shutil.copyfile(source / name, target / name)
