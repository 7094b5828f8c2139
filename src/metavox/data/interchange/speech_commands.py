"""Speech Commands, both versions as they are unpacked (Warden 2018, arXiv:1804.03209), with their published parts."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from ...contracts import InputError
from ..layouts import SPLITS, printable, scan_corpus, shown
from .clips import split_name
from .segments import Options, Segment

_LISTS = ("validation_list.txt", "testing_list.txt")


def is_speech_commands(path: Path) -> bool:
    """Whether a folder has the two lists of Speech Commands."""
    return path.is_dir() and all((path / name).is_file() for name in _LISTS)


def read_speech_commands(path: Path, options: Options) -> Iterator[Segment]:
    """Segments part by part: by the two published lists, or without them by the hash of the speaker.

    The speaker is the part of the file name before ``_nohash_``; ``_background_noise_`` is no word and left out.
    Segments have the language that ``--lang`` says, since translated copies have the same layout.

    Raises:
        InputError: another layout, a part that does not exist, or anything ``metavox data check`` would name.
    """
    parts = SPLITS if options.split is None else (split_name(options.split),)
    if parts[0] not in SPLITS:
        raise InputError(f"There is no part {shown(options.split)}; choose one of {', '.join(SPLITS)}.")
    return _read(path, parts, options)


def _read(path: Path, parts: tuple[str, ...], options: Options) -> Generator[Segment, None, None]:
    n_segments = 0
    for part in parts:
        scan = scan_corpus(path, part)
        if scan.layout != "speech_commands" and scan.layout is not None:
            raise InputError(
                f"{printable(str(path))} has neither validation_list.txt and testing_list.txt nor files named "
                "<speaker>_nohash_<n>.wav; name the unpacked folder of Speech Commands."
            )
        if scan.problems:
            raise InputError(str(scan.problems[0]))
        for u in scan.utterances:
            n_segments += 1
            facts: dict[str, Any] = {"text": u.text, "label": u.label, "speaker": u.speaker, "lang": options.lang}
            yield Segment(u.id, u.path.resolve(), split=options.split or part, **facts)
    if not n_segments:
        raise InputError(f"{printable(str(path))} has no recordings in {', '.join(parts)}; choose another part.")
