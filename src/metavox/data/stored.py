"""Folders that are written whole or not at all: new ones for the user, and those that are computed once, under the
content they were computed from.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from ..contracts import InputError
from .layouts import printable

T = TypeVar("T")


MAX_NAME_BYTES = 230
"""Of a folder: file systems take 255, and while it is written a longer name stands beside it."""


def require_empty(out: Path) -> None:
    """InputError where a new folder cannot be made at ``out``: to be asked before any work is done for it."""
    name = printable(str(out))
    if len(os.fsencode(out.name)) > MAX_NAME_BYTES:
        raise InputError(f"{name} has a name of more than {MAX_NAME_BYTES} bytes; choose a shorter one.")
    if os.path.lexists(out) and not (out.is_dir() and not out.is_symlink()):
        raise InputError(f"{name} is no folder; choose a new one.")
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{name} is not empty; choose a new folder.")
    above = next(parent for parent in Path(os.path.abspath(out)).parents if os.path.lexists(parent))
    if not above.is_dir():
        raise InputError(f"{name} cannot be made, since {printable(str(above))} is no folder; choose another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(
            f"{name} cannot be made ({os.strerror(errno.EACCES)}); check the permissions of {printable(str(above))} or "
            "choose another place."
        )


def opened_or_written(folder: Path, load: Callable[[Path], T | None], write: Callable[[Path], None]) -> T:
    """What ``load`` finds in ``folder``; where that is None, ``write`` fills a folder that takes its place.

    Nothing half written is ever there under the name of ``folder``, whatever ``write`` raises.

    Raises:
        InputError: what was just written cannot be read back.
    """
    found = load(folder)
    if found is not None:
        return found
    beside = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        write(beside)
        if load(folder) is None:  # else another process was faster
            shutil.rmtree(folder, ignore_errors=True)
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    found = load(folder)
    if found is None:
        raise InputError(f"What was just written to {folder} cannot be read back; check that disk.")
    return found


def content_key(paths: Iterable[Path], settings: str) -> str:
    """Hash of the settings and of the bytes of every file, in order.

    Raises:
        InputError: a file that cannot be read.
    """
    digest = hashlib.sha256(settings.encode())
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as err:
            raise InputError(f"{path} cannot be read ({err.strerror}); restore it or drop its row.") from None
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()[:20]
