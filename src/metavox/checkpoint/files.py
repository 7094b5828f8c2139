"""Files and folders that are whole or not there: written beside and renamed, read with every check, never pickle."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..contracts import InputError, State

FORMAT = 1


def put_folder(folder: Path, mark: str, write: Callable[[Path], None], what: str) -> None:
    """Fill a folder beside and rename it, replacing an older one of its kind in one move.

    Raises:
        InputError: ``folder`` exists and holds no file ``mark``, so that it is something else than ``what``.
    """
    folder = Path(os.path.realpath(folder))  # ".", and links, which must stay links
    if folder.exists() and not (folder / mark).is_file():
        raise InputError(f"{folder} exists and is no {what}; choose another name or remove it.")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        write(beside)
        _put_in_place(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _put_in_place(beside: Path, folder: Path) -> None:
    """Give a new folder the name of an old one, which is removed last and returns where that fails."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    existed = folder.exists()
    if existed:
        folder.rename(old)
    try:
        beside.rename(folder)
    except BaseException:
        if existed:
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_tensors(path: Path, tensors: State | Mapping[str, Tensor]) -> None:
    """Save tensors so that ``path`` is either the old file or the whole new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, beside)
        os.replace(beside, path)
    except SafetensorError as err:
        raise OSError(f"{path} cannot be written ({err})") from None
    finally:
        beside.unlink(missing_ok=True)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Load a safetensors file; InputError where it is missing, truncated or something else."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; restore it or make it again.") from None
    except (SafetensorError, OSError, ValueError) as err:
        raise InputError(f"{path} is damaged or truncated ({err}); restore it or make it again.") from None


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Save JSON so that ``path`` is either the old file or the whole new one."""
    write_text(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Save text so that ``path`` is either the old file or the whole new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read_document(path: Path, what: str, reads: int | None = FORMAT) -> dict[str, Any]:
    """The JSON that describes a ``what`` of format ``reads`` (None: of any); InputError where it is damaged or
    another's."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise InputError(f"{path} is damaged or truncated ({err}); restore it or make the {what} again.") from None
    if not isinstance(document, dict) or document.get("library") != "metavox":
        raise InputError(f"{path} was not written by Metavox; name a {what} that it wrote.")
    if reads is not None and document.get("format") != reads:
        raise InputError(
            f"{path} has format {document.get('format')} and this version reads format {reads}; "
            f"make the {what} again or install the version that wrote it ({document.get('version')})."
        )
    return document
