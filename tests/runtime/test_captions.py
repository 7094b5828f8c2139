"""What is written is read back: by our own reader of ELAN, by parsers of our own for captions, by json."""

import json
import os
import re
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox.contracts import InputError
from metavox.data.interchange.eaf import Document, read_eaf
from metavox.data.interchange.elan import Times, read_elan
from metavox.data.interchange.segments import Options
from metavox.runtime.captions import (
    FORMATS,
    MAX_CAPTION_S,
    MAX_LINE_WIDTH,
    as_json,
    captions,
    clock,
    to_eaf,
    to_json,
    to_srt,
    to_text,
    to_vtt,
    write_transcript,
)
from metavox.runtime.transcripts import Segment, Transcript, Word
from tests.sounds import files_below, say, write


def segment(start_s: float, text: str, step_s: float = 0.4, between: str = " ") -> Segment:
    """Words of equal length from ``start_s`` on, 0.1 s of them pause."""
    words = tuple(
        Word(word, start_s + i * step_s, start_s + (i + 1) * step_s - 0.1 * step_s, 0.5)
        for i, word in enumerate(text.split() if between else text)
    )
    return Segment(max(0.0, start_s - 0.2), words[-1].end_s + 0.2, words, text, 0.75)


def transcript(*segments: Segment, name: str = "talk.wav", duration_s: float = 4000.0) -> Transcript:
    return Transcript(name, duration_s, segments, "metavox/asr-small")


WORDS_OF_ANYTHING = st.text(
    st.one_of(st.characters(exclude_categories=("Z", "Cc", "Cs")), st.sampled_from("<>&\"'-]中ാ\u200d")),
    min_size=1,
    max_size=60,
).filter(lambda word: word.split() == [word])


TIMES = st.tuples(st.floats(0, 1.5), st.floats(0, 1.5))
PARTS = st.lists(
    st.tuples(st.lists(st.tuples(WORDS_OF_ANYTHING, TIMES), min_size=1, max_size=14), st.sampled_from([" ", ""])),
    max_size=3,
)
"""Words with the pause before them and their length in seconds, by segment, and what stands between them."""


def built(parts: list[tuple[list[tuple[str, tuple[float, float]]], str]]) -> Transcript:
    segments, at = [], 0.0
    for said, between in parts:
        words, first = [], at
        for text, (pause_s, length_s) in said:
            words.append(Word(text, at + pause_s, at + pause_s + length_s, 0.5))
            at = words[-1].end_s
        segments.append(Segment(first, at, tuple(words), between.join(text for text, _ in said), 0.5))
    return transcript(*segments, duration_s=at + 0.5)


# -------------------------------------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "00:00:00,000"),
        (0.0004, "00:00:00,000"),
        (1.2346, "00:00:01,235"),
        (59.9994, "00:00:59,999"),
        (59.9996, "00:01:00,000"),
        (3599.9996, "01:00:00,000"),
        (3661.5, "01:01:01,500"),
        (360_000.25, "100:00:00,250"),
    ],
)
def test_times_carry_into_minutes_and_hours(seconds: float, shown: str) -> None:
    assert clock(round(1000 * seconds), ",") == shown
    (first,) = to_srt(transcript(segment(seconds, "word"), duration_s=1e6)).splitlines()[1:2]
    assert first.split(" --> ")[0] == shown
    assert f"\n{shown.replace(',', '.')} --> " in to_vtt(transcript(segment(seconds, "word"), duration_s=1e6))


# ------------------------------------------------------------------------------------------------------------ captions


def columns(line: str) -> int:
    """A second implementation, for text without marks."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line)


def test_captions_are_two_lines_that_people_can_read() -> None:
    text = "the quick brown fox jumps over the lazy dog and runs away from the very old bear that sleeps in the wood"
    found = captions(transcript(segment(2.0, text, step_s=0.2), duration_s=9.0))
    assert [line for caption in found for line in caption.lines] == [
        "the quick brown fox jumps over the lazy",
        "dog and runs away from the very old bear",
        "that sleeps in the wood",
    ]
    assert [caption.start_ms for caption in found] == [2000, 2000 + 200 * 17]
    assert found[-1].end_ms == found[-1].start_ms + 1000


def test_long_pauses_between_words_part_captions() -> None:
    found = captions(transcript(segment(0.0, "one two three four five six", step_s=3.0)))
    assert [caption.lines for caption in found] == [("one two",), ("three four",), ("five six",)]
    assert all(caption.end_ms - caption.start_ms <= 7000 for caption in found)


def test_a_short_caption_stays_a_second_if_nothing_follows() -> None:
    lonely, followed, last = captions(
        transcript(segment(1.0, "a", 0.1), segment(5.0, "b", 0.1), segment(5.4, "c", 0.1), duration_s=6.0)
    )
    assert (lonely.start_ms, lonely.end_ms) == (1000, 2000)
    assert (followed.start_ms, followed.end_ms) == (5000, 5400)
    assert (last.start_ms, last.end_ms) == (5400, 6000)


def test_wide_characters_count_twice_and_stand_without_spaces() -> None:
    text = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜"
    found = captions(transcript(segment(0.0, text, 0.1, between="")))
    assert "".join(line for caption in found for line in caption.lines) == text
    assert [len(line) for caption in found for line in caption.lines] == [21, 19]


def test_a_word_that_no_line_holds_is_cut() -> None:
    found = captions(transcript(segment(0.0, f"a {'b' * 100} c", 2.0)))
    assert [line for caption in found for line in caption.lines] == ["a", "b" * 42, "b" * 42, "b" * 16 + " c"]
    assert found[1].start_ms == pytest.approx(2000 + 600, abs=2)  # the pieces share the time of the word


@settings(max_examples=80, deadline=None)
@given(PARTS)
def test_captions_keep_their_limits_and_every_word(parts: Any) -> None:
    one = built(parts)
    found = captions(one)
    for caption in found:
        assert 1 <= len(caption.lines) <= 2
        assert 0 < caption.end_ms - caption.start_ms <= 1000 * MAX_CAPTION_S
        for line in caption.lines:
            assert line
            assert line == line.strip()
            if not any(unicodedata.category(char)[0] in "MC" for char in line):
                assert columns(line) <= MAX_LINE_WIDTH
    assert all(a.end_ms <= b.start_ms for a, b in pairwise(found))
    said = "".join(word.text for word in one.words)
    assert "".join(line for caption in found for line in caption.lines).replace(" ", "") == said


SRT_BLOCK = re.compile(r"(\d+)\n(\d\d+:\d\d:\d\d,\d{3}) --> (\d\d+:\d\d:\d\d,\d{3})\n((?:[^\n]+\n)+)(?:\n|\Z)")
VTT_BLOCK = re.compile(r"\n(\d\d+:\d\d:\d\d\.\d{3}) --> (\d\d+:\d\d:\d\d\.\d{3})\n((?:[^\n]+\n)+)")


@settings(max_examples=60, deadline=None)
@given(PARTS)
def test_caption_files_hold_the_captions_and_nothing_else(parts: Any) -> None:
    one = built(parts)
    wanted = captions(one)
    srt = to_srt(one)
    blocks = list(SRT_BLOCK.finditer(srt))
    assert "".join(block[0] for block in blocks) == srt
    assert [int(block[1]) for block in blocks] == list(range(1, len(wanted) + 1))
    assert [block[2] for block in blocks] == [clock(caption.start_ms, ",") for caption in wanted]
    assert srt.count("-->") == len(wanted)
    vtt = to_vtt(one)
    cues = list(VTT_BLOCK.finditer(vtt))
    assert "WEBVTT\n" + "".join(cue[0] for cue in cues) == vtt
    assert vtt.count("-->") == len(wanted)
    for cue, caption in zip(cues, wanted, strict=True):
        assert cue[2] == clock(caption.end_ms, ".")
        assert not set(cue[3]) & set("<>")
        bare = cue[3].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        assert tuple(bare.split("\n")[:-1]) == caption.lines


def test_an_arrow_in_a_text_is_no_time() -> None:
    one = transcript(segment(1.0, "a-->b --> <c>"))
    assert to_srt(one) == "1\n00:00:01,000 --> 00:00:02,160\na- ->b - -> <c>\n"
    assert to_vtt(one) == "WEBVTT\n\n00:00:01.000 --> 00:00:02.160\na--&gt;b --&gt; &lt;c&gt;\n"


def test_silence_is_no_caption() -> None:
    assert to_srt(transcript()) == to_text(transcript()) == ""
    assert to_vtt(transcript()) == "WEBVTT\n"


# ------------------------------------------------------------------------------------------------------- text and JSON


def test_text_is_a_line_a_segment() -> None:
    assert to_text(transcript(segment(1.0, "pala tula"), segment(5.0, "varu"))) == "pala tula\nvaru\n"


def test_json_is_flat_and_complete() -> None:
    one = transcript(segment(1.0, "pala tula"), segment(5.00049, "ninna"), name="\u0915 “a”.wav")
    found = json.loads(to_json(one))
    assert found == as_json(one)
    assert found["file"] == one.name
    assert (found["model"], found["duration_s"], found["text"]) == ("metavox/asr-small", 4000.0, "pala tula ninna")
    assert found["segments"][1] == {"start_s": 4.8, "end_s": 5.56, "text": "ninna", "confidence": 0.75}
    assert [row["segment"] for row in found["words"]] == [0, 0, 1]
    assert found["words"][2] == {"segment": 1, "start_s": 5.0, "end_s": 5.36, "text": "ninna", "confidence": 0.5}
    assert not any(isinstance(value, dict) for value in found.values())


# ---------------------------------------------------------------------------------------------------------------- ELAN


def read_back(one: Transcript, tmp_path: Path) -> tuple[Document, dict[str, list[tuple[float, float, str]]]]:
    path = tmp_path / "talk.eaf"
    path.write_text(to_eaf(one, tmp_path), encoding="utf-8")
    document = read_eaf(path)
    times = Times(document)
    tiers = {
        tier.id: [(*times.of(annotation), annotation.text) for annotation in tier.annotations]
        for tier in document.tiers.values()
    }
    return document, tiers


def test_elan_reads_segments_and_words_with_their_times(tmp_path: Path) -> None:
    one = transcript(segment(1.0, "pala <tula> & “varu”"), segment(59.9996, "a"), name=str(tmp_path / "x y%.wav"))
    document, tiers = read_back(one, tmp_path)
    assert list(tiers) == ["segments", "words"]
    for tier, parts in (("segments", one.segments), ("words", one.words)):
        for (start_s, end_s, text), part in zip(tiers[tier], parts, strict=True):
            assert (start_s, end_s) == (round(part.start_s, 3), round(part.end_s, 3))
            assert text == part.text
    assert document.tiers["words"].parent == "segments"
    assert document.constraints["word"] == "Included_In"
    assert list(document.slots.values()) == sorted(time for time in document.slots.values() if time is not None)
    (media,) = document.media
    assert media.relative == "./x%20y%25.wav"
    assert media.url == "file://" + str(tmp_path).replace(" ", "%20") + "/x%20y%25.wav"
    assert media.mime == "audio/x-wav"


def test_our_own_import_finds_the_recording_and_the_segments(tmp_path: Path) -> None:
    path = write(tmp_path / "sound" / "fünf 5%.wav", say("tula"))
    one = transcript(segment(0.3, "pala tula", 0.1), name=str(path))
    write_transcript(one, tmp_path / "elan" / "a.eaf")
    (found,) = read_elan(tmp_path, Options(tier="segments"))
    assert (found.text, found.audio) == ("pala tula", path)
    assert found.start_s == pytest.approx(0.1)
    words = list(read_elan(tmp_path, Options(tier="words")))
    assert [word.text for word in words] == ["pala", "tula"]


def test_words_in_the_same_millisecond_are_moved_apart_within_their_segment(tmp_path: Path) -> None:
    words = tuple(Word(text, 1.0, 1.0, 1.0) for text in "abc")
    _, tiers = read_back(transcript(Segment(1.0, 1.0, words, "a b c", 1.0), segment(1.001, "d")), tmp_path)
    assert [(start, end) for start, end, _ in tiers["words"]][:3] == [(1.0, 1.001), (1.001, 1.002), (1.002, 1.003)]
    assert tiers["segments"][0][:2] == (1.0, 1.003)
    assert tiers["segments"][1][0] == 1.003


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("eaf")


@settings(max_examples=60, deadline=None)
@given(PARTS)
def test_elan_gets_every_annotation_in_order_and_inside_its_parent(folder: Path, parts: Any) -> None:
    one = built(parts)
    _, tiers = read_back(one, folder)
    for name, wanted in (("segments", one.segments), ("words", one.words)):
        assert [text for _, _, text in tiers[name]] == [
            "".join(char for char in part.text if char not in "\ufffe\uffff") for part in wanted
        ]
        assert all(a[1] <= b[0] for a, b in pairwise(tiers[name]))
    at = 0
    for (start_s, end_s, _), part in zip(tiers["segments"], one.segments, strict=True):
        for word in tiers["words"][at : at + len(part.words)]:
            assert start_s <= word[0] < word[1] <= end_s
        at += len(part.words)


def test_what_xml_cannot_hold_is_left_out() -> None:
    words = (Word("a\x00\x08b\ud800c\ufffe", 1.0, 2.0, 1.0),)
    found = ElementTree.fromstring(to_eaf(transcript(Segment(1.0, 2.0, words, words[0].text, 1.0))).encode())
    assert [value.text for value in found.iter("ANNOTATION_VALUE")] == ["abc", "abc"]


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_written_whole(tmp_path: Path, kind: str) -> None:
    one = transcript(segment(1.0, "pala \udcff തുല"), name="surrogate\udcff.wav")
    path = tmp_path / "new" / f"a.{kind.upper()}"
    write_transcript(one, path)
    assert os.listdir(path.parent) == [path.name]
    text = path.read_text(encoding="utf-8")
    assert "തുല" in text
    write_transcript(transcript(segment(1.0, "other")), path)
    assert "other" in path.read_text(encoding="utf-8")


def test_a_write_that_fails_leaves_the_file_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.srt"
    write_transcript(transcript(segment(1.0, "before")), path)
    before = files_below(tmp_path)

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write_transcript(transcript(segment(1.0, "after")), path)
    assert files_below(tmp_path) == before


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"end it in \.txt, \.json, \.srt, \.vtt, \.eaf"):
        write_transcript(transcript(), tmp_path / "a.doc")
    assert not list(tmp_path.iterdir())
