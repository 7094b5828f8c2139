"""Transcripts as values."""

from dataclasses import FrozenInstanceError

import pytest

from metavox.runtime.transcripts import Segment, Transcript, Word


def test_a_transcript_joins_its_segments() -> None:
    one, two, three = (
        Word(text, start, start + 0.5, 0.9) for text, start in (("ni3", 0.2), ("hao3", 0.8), ("ma", 4.0))
    )
    transcript = Transcript(
        "a.wav", 5.0, (Segment(0.0, 1.5, (one, two), "ni3 hao3", 0.9), Segment(3.8, 4.7, (three,), "ma", 0.9)), "m"
    )
    assert transcript.text == "ni3 hao3 ma"
    assert transcript.words == (one, two, three)
    with pytest.raises(FrozenInstanceError):
        transcript.model = "other"  # type: ignore[misc]


def test_silence_is_an_empty_transcript() -> None:
    transcript = Transcript("a.wav", 5.0, (), "m")
    assert transcript.text == ""
    assert transcript.words == ()
