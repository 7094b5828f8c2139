"""What was said in a recording and when: plain values, which ``captions`` writes to files."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """One word; where a language is written without spaces, one character with its marks."""

    text: str
    start_s: float
    """From the start of the recording."""
    end_s: float
    confidence: float
    """0 to 1, see ``Transcriber``."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What was said between two pauses."""

    start_s: float
    """Where the segment was cut, up to 0.2 s before its first word."""
    end_s: float
    words: tuple[Word, ...]
    text: str
    confidence: float
    """Of all its symbols together."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A recording as it was heard: segments in order, none of them empty; silence has none."""

    name: str
    """Path of the recording; ``array`` for samples."""
    duration_s: float
    segments: tuple[Segment, ...]
    model: str

    @property
    def text(self) -> str:
        """Everything that was said, segments separated by a space."""
        return " ".join(segment.text for segment in self.segments)

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments."""
        return tuple(word for segment in self.segments for word in segment.words)
