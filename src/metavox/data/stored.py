"""Folders that are computed once, under the content they were computed from: opened where they are whole, else written
beside and renamed.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from ..contracts import InputError

T = TypeVar("T")


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
