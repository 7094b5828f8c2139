"""What a source may make this machine do: open regular files; run a command only where the user said so.

A manifest names its recordings, and each name is an instruction. A path may lie anywhere, because the manifests of
lhotse and Kaldi are made of absolute paths, but it must end at a regular file, and only libsndfile opens it. A command
is run with ``--trust`` alone. What an address or a pickle would bring is never fetched.
"""

import os
import re
import stat
import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ...contracts import InputError
from ..layouts import shown
from .segments import Counted, Options, Segment

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def audio_file(name: str, folder: Path, place: str) -> Path:
    """The regular file that a manifest in ``folder`` names; ``place`` stands before the sentence.

    A relative path is sought beside the manifest and then, as lhotse and Kaldi do, in the working directory.

    Raises:
        InputError: an address, a missing file, or one that is a folder, a device, a pipe or a socket.
    """
    if not name.strip() or "\0" in name:
        raise InputError(f"{place}: {shown(name)} is no file name; name the recording.")
    if _ADDRESS.match(name):
        raise InputError(f"{place}: {shown(name)} is an address; download the recording and name the file.")
    candidates = [Path(os.path.abspath(folder / name)), Path(os.path.abspath(name))]
    for path in candidates:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode):
            noun = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise InputError(f"{place}: {shown(name)} is {noun}; name a file of audio.")
        return path
    where = "" if os.path.isabs(name) else ", neither beside the manifest nor in the working directory"
    raise InputError(f"{place}: {shown(name)} does not exist{where}; correct the path or add the file.")


def require_trust(command: str, options: Options, place: str) -> None:
    """InputError for a command in a source that the user has not said to trust."""
    if not options.trust:
        raise InputError(
            f"{place}: the recording comes from the command {shown(command)}; read what it does, then run again with "
            "--trust, or write its output to a file and name that."
        )


@dataclass(frozen=True, slots=True)
class Made:
    """Audio that has to be made before it can be read."""

    key: tuple[object, ...]
    """Segments with one key, one after the other, share the file."""
    make: Callable[[Path], None]
    """Writes the audio to a path. Raises InputError."""
    command: str | None = None
    """What is run for it, to be told before."""


def run_command(command: str, path: Path, place: str) -> None:
    """Write the standard output of a trusted command to ``path``; InputError where it fails or says nothing."""
    with path.open("wb") as file:
        done = subprocess.run(
            command, shell=True, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE, check=False
        )
    if done.returncode or not path.stat().st_size:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = f"ended with status {done.returncode}" if done.returncode else "wrote nothing"
        raise InputError(
            f"{place}: the command {shown(command)} {reason}{': ' + shown(said[-1]) if said else ''}; run it yourself "
            "to see why."
        )


def in_turn(plan: Sequence[tuple[Segment, Made | None]], options: Options) -> Iterator[Segment]:
    """The segments of a plan in its order; what has to be made is made when its turn comes, and removed after it."""
    commands = {made.key: made.command for _, made in plan if made and made.command is not None}
    if commands and options.announce is not None:
        n_commands = len(commands)
        options.announce(
            f"--trust: running {n_commands} command{'s' * (n_commands > 1)} that the source names"
            f"{', the first' * (n_commands > 1)}: {next(iter(commands.values()))}"
        )
    if all(made is None for _, made in plan):
        return iter([segment for segment, _ in plan])
    return Counted(_make_in_turn(plan), len(plan))


def _make_in_turn(plan: Sequence[tuple[Segment, Made | None]]) -> Generator[Segment, None, None]:
    with TemporaryDirectory(prefix="metavox-import-") as folder:
        path: Path | None = None
        key: tuple[object, ...] | None = None
        for number, (segment, made) in enumerate(plan):
            if made is None:
                yield segment
                continue
            if made.key != key:
                if path is not None:
                    path.unlink(missing_ok=True)
                path, key = Path(folder) / str(number), made.key
                made.make(path)
            assert path is not None
            yield replace(segment, audio=path, origin=segment.origin or f"the recording of {shown(segment.id)}")
