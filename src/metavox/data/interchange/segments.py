"""What every reader of an outside format gives: stretches of recordings with what is known about them."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one channel of one recording, and what its source says about it."""

    id: str
    """Unique in the source."""
    audio: Path
    """A regular file, its path resolved. One that had to be unpacked is there until the next segment is asked for."""
    start_s: float = 0.0
    end_s: float | None = None
    """None: to the end of the recording."""
    channel: int = 0
    text: str = ""
    label: str | None = None
    speaker: str | None = None
    lang: str | None = None
    accent: str | None = None
    gender: str | None = None
    age: str | None = None
    split: str | None = None
    origin: str | None = None
    """What sentences call a recording that had to be unpacked; None: its path."""


@dataclass(frozen=True)
class Options:
    """What the user says about the source."""

    trust: bool = False
    """Commands that the source names may be run."""
    split: str | None = None
    """Read this split only."""
    lang: str | None = None
    """Language of what the source gives no language for."""
    tier: str | None = None
    """ELAN, TextGrid: the tier to read."""
    announce: Callable[[str], None] | None = None
    """Told, in one line, what commands are about to be run, or which tier was chosen."""


class Counted(Iterator[Segment]):
    """Segments that are found one by one, and how many they will be (``operator.length_hint``)."""

    def __init__(self, segments: Generator[Segment, None, None], n_segments: int) -> None:
        self._segments, self._n_left = segments, n_segments

    def __next__(self) -> Segment:
        segment = next(self._segments)
        self._n_left -= 1
        return segment

    def __length_hint__(self) -> int:
        return max(0, self._n_left)

    def close(self) -> None:
        """Stop, and remove what was unpacked."""
        self._segments.close()


Reader = Callable[[Path, Options], Iterator[Segment]]
"""Segments of a source; those of one recording follow one another, so that it is opened once.

Raises InputError for a source that cannot be read or must not be."""
