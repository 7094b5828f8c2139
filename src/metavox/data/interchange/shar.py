"""lhotse Shar folders: ``cuts.000000.jsonl.gz`` with the audio beside it in ``recording.000000.tar``.

Only these two are read. A member of a tar is copied to a file of our own name, one at a time, and only if it is a
plain file of moderate size whose name stays where it is.
"""

import json
import tarfile
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from ...contracts import InputError
from ..layouts import printable, shown
from .cuts import Stretch, local_source, plan_recording, read_recording, stretches
from .rows import Row, decoded, read_rows
from .segments import Counted, Options, Segment
from .tars import copy_member, next_file
from .trust import in_turn

MAX_METADATA_BYTES = 1_000_000
_AGAIN = "export the cuts again"


def _shards(path: Path) -> list[Path]:
    found = [file for file in sorted(path.iterdir()) if file.name.startswith("cuts.") and ".jsonl" in file.name]
    return [file for file in found if file.is_file()]


def _audio_beside(cuts: Path) -> Path:
    shard = cuts.name.removeprefix("cuts.").partition(".jsonl")[0]
    return cuts.with_name(f"recording.{shard}.tar")


def is_shar(path: Path) -> bool:
    """Whether a folder holds Shar shards with audio."""
    return path.is_dir() and any(_audio_beside(cuts).is_file() for cuts in _shards(path))


def read_shar(path: Path, options: Options) -> Iterator[Segment]:
    """Segments of a Shar folder, shard after shard; the rules of ``cuts`` hold for what the cuts say.

    Raises:
        InputError: no shards, a shard without its tar, a cut that cannot be read (before any tar is opened), a member
            that is a link, leaves the folder, is too large or is not that of its cut, a tar that is cut short.
    """
    shards = _shards(path) if path.is_dir() else []
    if not shards:
        raise InputError(f"{printable(str(path))} has no cuts.000000.jsonl.gz; name the folder that to_shar wrote.")
    plan: list[tuple[Path, list[tuple[Row, list[Stretch]]]]] = []
    for shard in shards:
        audio = _audio_beside(shard)
        if not audio.is_file():
            raise InputError(
                f"{printable(shard.name)} has no {printable(audio.name)} beside it; copy it, unpacked, into the folder."
            )
        plan.append((audio, [(row, stretches(row, options.split)) for row in read_rows(shard)]))
    n_segments = sum(len(found) for _, cuts in plan for _, found in cuts)
    return Counted(_read(plan, options), n_segments)


def _read(plan: list[tuple[Path, list[tuple[Row, list[Stretch]]]]], options: Options) -> Generator[Segment, None, None]:
    with TemporaryDirectory(prefix="metavox-import-") as folder:
        numbers = count()
        for audio, cuts in plan:
            members = _members(audio, Path(folder), numbers)
            for row, found in cuts:
                name = row.text("id")
                metadata, file = next(members, (None, None))
                if metadata is None or file is None:
                    raise InputError(f"{printable(audio.name)} ends before cut {shown(name)}; copy the shard again.")
                recording = read_recording(
                    _metadata_of(metadata, name, audio), partial(_shar_source, file=file, options=options), row.place
                )
                pairs = []
                origin = f"{printable(audio.name)}, {printable(name)}"
                for part in found:
                    segment = replace(part.segment, origin=origin)
                    channel = recording.channel(part.channels, row.place)
                    pairs.append(plan_recording(segment, recording, channel, part.start_s, part.duration_s))
                yield from in_turn(pairs, options)
                file.unlink(missing_ok=True)


def _shar_source(source: Row, file: Path, options: Options) -> Path | str:
    if source.values.get("type") == "shar":
        return file
    return local_source(source, file.parent, replace(options, trust=False))  # audio that is here needs no command


def _metadata_of(member: tuple[str, bytes], cut: str, audio: Path) -> Row:
    """The recording that the tar describes, once its name is that of the cut."""
    name, data = member
    place = f"{printable(audio.name)}, {printable(name)}"
    if name != cut:
        raise InputError(f"{place}: the cut at this place is {shown(cut)}; copy cuts and tar of one export.")
    text = decoded(data, place)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InputError(f"{place}: its description is not a JSON object; export the cuts again.")
    return Row(place, values)


def _members(path: Path, folder: Path, numbers: Iterator[int]) -> Generator[tuple[tuple[str, bytes], Path], None, None]:
    """(name, metadata) and the unpacked audio of each pair in a tar; the file has a name of ours."""
    name = printable(path.name)
    try:
        with tarfile.open(path, "r:") as tar:
            while (data := next_file(tar, name, _AGAIN)) is not None:
                metadata = next_file(tar, name, _AGAIN)
                if metadata is None:
                    raise InputError(f"{name} ends after the audio {shown(data.name)}; copy the shard again.")
                key, suffix = data.name.rpartition(".")[::2]
                if suffix == "nodata":
                    raise InputError(f"{name}: cut {shown(key)} has no audio; export the cuts with their recordings.")
                if metadata.name != f"{key}.json" or metadata.size > MAX_METADATA_BYTES:
                    raise InputError(
                        f"{name}: {shown(data.name)} is followed by {shown(metadata.name)} and not by {shown(key)} in "
                        f"JSON of at most {MAX_METADATA_BYTES:,} bytes; export the cuts again."
                    )
                file = folder / str(next(numbers))
                with file.open("wb") as out:
                    copy_member(tar, data, out)
                content = tar.extractfile(metadata)
                assert content is not None
                yield (key, content.read(MAX_METADATA_BYTES)), file
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} is no whole, unpacked tar file ({error}); copy it again.") from None
