"""Segments that are found one by one, and still counted."""

from collections.abc import Generator
from operator import length_hint
from pathlib import Path

from metavox.data.interchange.segments import Counted, Segment


def test_what_is_left_is_known_and_closing_stops_the_source() -> None:
    closed = []

    def found() -> Generator[Segment, None, None]:
        try:
            for number in range(3):
                yield Segment(str(number), Path("a.wav"))
        finally:
            closed.append(True)

    segments = Counted(found(), 3)
    assert length_hint(segments) == 3
    assert next(segments).id == "0"
    assert length_hint(segments) == 2
    segments.close()
    assert closed == [True]
    assert list(segments) == []
