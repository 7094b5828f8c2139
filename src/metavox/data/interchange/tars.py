"""Members of a tar that a stranger packed: plain files of moderate size whose names stay where they are."""

import io
import tarfile
from pathlib import PurePosixPath

from ...contracts import InputError
from ..layouts import shown

MAX_MEMBER_BYTES = 2 << 30
"""Six hours of 16-bit 48 kHz mono; a larger member is no utterance."""


def next_file(tar: tarfile.TarFile, name: str, remedy: str, *, skip_folders: bool = False) -> tarfile.TarInfo | None:
    """The next member, if it is a plain file with a harmless name; None at the end.

    ``name`` and ``remedy`` stand in the sentence of the InputError for one that is not.
    """
    member = tar.next()
    while skip_folders and member is not None and member.isdir():
        member = tar.next()
    if member is None:
        return None
    parts = PurePosixPath(member.name)
    if not member.isreg() or member.issparse():
        raise InputError(f"{name}: the member {shown(member.name)} is no plain file; {remedy}.")
    if parts.is_absolute() or ".." in parts.parts or "\\" in member.name or "\0" in member.name:
        raise InputError(f"{name}: the member {shown(member.name)} leaves the folder; {remedy}.")
    if member.size > MAX_MEMBER_BYTES:
        raise InputError(
            f"{name}: the member {shown(member.name)} has {member.size:,} bytes, at most {MAX_MEMBER_BYTES:,} are "
            "read; cut the recording into utterances."
        )
    return member


def copy_member(tar: tarfile.TarFile, member: tarfile.TarInfo, out: io.BufferedWriter) -> None:
    """Write the content of a member; EOFError where the tar ends within it."""
    source = tar.extractfile(member)
    assert source is not None
    n_left = member.size
    while n_left:
        block = source.read(min(n_left, 1 << 20))
        if not block:
            raise EOFError("it ends within a member")
        out.write(block)
        n_left -= len(block)
