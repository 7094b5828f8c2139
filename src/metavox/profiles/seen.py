"""What this computer last saw of a vault, so that an older copy in its place is noticed.

A key tells who wrote a file and not when: whoever can write into the folder can put back an earlier file, with a voice
that was forgotten since. Outside the folder a note is kept for each place: which vault was there, how often it had been
written, whether it was encrypted. No name and nothing of a voice is in it. It lies in the cache folder; who deletes it
loses this check, and nothing else.
"""

import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..checkpoint import write_text
from ..contracts import InputError
from ..data.cache import cache_folder
from .keys import fingerprint_of

_MAX_BYTES = 10_000


class Seen(BaseModel):
    """What was there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vault: str
    revision: int = Field(ge=1)
    encrypted: bool


def note_of(folder: Path) -> Path:
    """Where the note on a folder lies."""
    return cache_folder() / "vaults" / f"{fingerprint_of(os.fsencode(os.path.realpath(folder)))[:32]}.json"


def remember(folder: Path, seen: Seen) -> None:
    """Note what is there. A computer where nothing can be noted goes without."""
    path = note_of(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_text(path, json.dumps(seen.model_dump()))
    except OSError:
        return


def last_seen(folder: Path) -> Seen | None:
    """What was noted, or None."""
    path = note_of(folder)
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        return Seen.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def require_newest(folder: Path, seen: Seen) -> None:
    """Compare what was read with what was there before.

    Raises:
        InputError: an older copy, another vault, or one that is no longer encrypted.
    """
    before = last_seen(folder)
    if before is None:
        return
    remedy = f"put the newest file back, or remove {note_of(folder)} if you replaced it yourself"
    if before.vault != seen.vault:
        raise InputError(f"{folder} holds other voices than it held before: it is another vault; {remedy}.")
    if before.encrypted and not seen.encrypted:
        raise InputError(f"{folder} was encrypted and is not any more: somebody replaced it; {remedy}.")
    if before.revision > seen.revision:
        raise InputError(
            f"{folder} is an older copy: it was written {seen.revision} times, and had been written "
            f"{before.revision} times before; {remedy}."
        )
