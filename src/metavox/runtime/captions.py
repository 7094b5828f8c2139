"""Transcripts as files that others read: plain text, JSON, SubRip and WebVTT captions, ELAN annotations.

Captions keep to what people can read: at most two lines of 42 characters and seven seconds (BBC and Netflix guidelines
for subtitles); a wide character, as of Chinese, counts as two.
"""

import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from ..contracts import InputError
from .transcripts import Segment, Transcript, Word

MAX_LINE_WIDTH = 42
MAX_LINES = 2
MAX_CAPTION_S = 7.0
MIN_CAPTION_S = 1.0
"""A shorter caption stays until then, or until the next one."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What is shown together."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


def to_text(transcript: Transcript) -> str:
    """A segment a line; nothing for silence."""
    return "".join(f"{_one_line(segment.text)}\n" for segment in transcript.segments)


def to_json(transcript: Transcript) -> str:
    """One object, see ``as_json``."""
    return json.dumps(as_json(transcript), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def as_json(transcript: Transcript) -> dict[str, object]:
    """Plain values: ``file``, ``model``, ``duration_s``, ``text``, and two flat lists.

    ``segments`` has a row for each segment (``start_s``, ``end_s``, ``text``, ``confidence``), ``words`` a row for each
    word (``segment``, the index of its segment from 0, and the same four). Times are seconds from the start of the
    recording, to the millisecond.
    """
    return {
        "file": transcript.name,
        "model": transcript.model,
        "duration_s": round(transcript.duration_s, 3),
        "text": transcript.text,
        "segments": [_row(segment) for segment in transcript.segments],
        "words": [
            {"segment": index, **_row(word)}
            for index, segment in enumerate(transcript.segments)
            for word in segment.words
        ],
    }


def _row(part: Segment | Word) -> dict[str, object]:
    return {
        "start_s": round(part.start_s, 3),
        "end_s": round(part.end_s, 3),
        "text": part.text,
        "confidence": round(part.confidence, 4),
    }


# ----------------------------------------------------------------------------------------------------------- captions


def to_srt(transcript: Transcript) -> str:
    """SubRip captions. Its files know no escapes: an arrow in a text, which would be read as times, is broken up."""
    blocks = []
    for number, caption in enumerate(captions(transcript), 1):
        lines = "\n".join(line.replace("-->", "- ->") for line in caption.lines)
        times = f"{clock(caption.start_ms, ',')} --> {clock(caption.end_ms, ',')}"
        blocks.append(f"{number}\n{times}\n{lines}\n")
    return "\n".join(blocks)


def to_vtt(transcript: Transcript) -> str:
    """WebVTT captions (W3C candidate recommendation of 2019)."""
    blocks = ["WEBVTT\n"]
    for caption in captions(transcript):
        times = f"{clock(caption.start_ms, '.')} --> {clock(caption.end_ms, '.')}"
        blocks.append(f"{times}\n" + "".join(f"{escape(line)}\n" for line in caption.lines))
    return "\n".join(blocks)


def clock(time_ms: int, point: str) -> str:
    """``01:02:03.456``, with ``point`` before the milliseconds."""
    seconds, milliseconds = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"


def captions(transcript: Transcript) -> list[Caption]:
    """Captions in order, without overlap: words of one segment together as long as the limits allow."""
    groups = [group for segment in transcript.segments for group in _grouped(segment)]
    starts = _ascending(max(0, round(1000 * pieces[0].start_s)) for pieces in groups)
    found = []
    for index, (pieces, start) in enumerate(zip(groups, starts, strict=True)):
        following = (
            starts[index + 1] if index + 1 < len(starts) else max(round(1000 * transcript.duration_s), start + 1)
        )
        end = max(round(1000 * pieces[-1].end_s), start + round(1000 * MIN_CAPTION_S))
        end = min(end, start + round(1000 * MAX_CAPTION_S), following)
        found.append(Caption(start, end, tuple(_wrapped(pieces))))
    return found


def _ascending(times_ms: Iterable[int]) -> list[int]:
    """Each at least a millisecond after the one before it."""
    found: list[int] = []
    for time_ms in times_ms:
        found.append(max(time_ms, found[-1] + 1) if found else time_ms)
    return found


def _grouped(segment: Segment) -> Iterator[list[Word]]:
    """The words of a segment by caption. A word that no line can hold is cut into pieces that share its time."""
    group: list[Word] = []
    for piece in _pieces(segment):
        if group and (piece.end_s - group[0].start_s > MAX_CAPTION_S or len(_wrapped([*group, piece])) > MAX_LINES):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _pieces(segment: Segment) -> Iterator[Word]:
    """The words as they are shown, each after a space where the text of the segment has them."""
    spaced = " ".join(word.text for word in segment.words) == segment.text
    for word in segment.words:
        parts = list(_parts(_one_line(word.text)))
        step_s = (word.end_s - word.start_s) / max(1, len(parts))
        for number, part in enumerate(parts):
            space = " " if spaced and not number else ""
            start_s = word.start_s + number * step_s
            yield Word(space + part, start_s, start_s + step_s, word.confidence)


def _parts(text: str) -> Iterator[str]:
    part = ""
    for char in text:
        if _width(part + char) > MAX_LINE_WIDTH:
            yield part
            part = ""
        part += char
    if part:
        yield part


def _wrapped(pieces: Sequence[Word]) -> list[str]:
    lines = [""]
    for piece in pieces:
        if _width(lines[-1] + piece.text) > MAX_LINE_WIDTH and lines[-1]:
            lines.append("")
        lines[-1] += piece.text if lines[-1] else piece.text.lstrip()
    return lines


def _width(text: str) -> int:
    """Columns: marks that combine have none, wide characters two."""
    return sum(
        0 if unicodedata.category(char) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


# --------------------------------------------------------------------------------------------------------------- ELAN

_EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="Metavox" DATE="{date}" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
 <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
  <MEDIA_DESCRIPTOR MEDIA_URL={url} MIME_TYPE={mime} RELATIVE_MEDIA_URL={relative}/>
 </HEADER>
 <TIME_ORDER>
{slots} </TIME_ORDER>
 <TIER LINGUISTIC_TYPE_REF="segment" TIER_ID="segments">
{segments} </TIER>
 <TIER LINGUISTIC_TYPE_REF="word" PARENT_REF="segments" TIER_ID="words">
{words} </TIER>
 <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="segment" TIME_ALIGNABLE="true"/>
 <LINGUISTIC_TYPE CONSTRAINTS="Included_In" GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="word" TIME_ALIGNABLE="true"/>
 <CONSTRAINT DESCRIPTION="Time alignable annotations within the parent annotation's time interval, gaps are allowed" \
STEREOTYPE="Included_In"/>
</ANNOTATION_DOCUMENT>
"""
_MIME = {".wav": "audio/x-wav", ".mp3": "audio/mpeg", ".flac": "audio/flac", ".ogg": "audio/ogg", ".opus": "audio/ogg"}


def to_eaf(transcript: Transcript, beside: Path | None = None) -> str:
    """ELAN annotations, EAF 3.0: a tier ``segments`` and below it a tier ``words``, both aligned to the millisecond.

    ``beside`` is the folder that the file will lie in, from which the recording is named; the working folder otherwise.
    Words that start in the same millisecond are moved apart by one, within their segment.
    """
    slots: list[int] = []
    rows: dict[str, list[str]] = {"segments": [], "words": []}

    def annotate(tier: str, start_ms: int, end_ms: int, text: str) -> None:
        slots.extend((start_ms, end_ms))
        rows[tier].append(
            f'  <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{len(slots) // 2}" '
            f'TIME_SLOT_REF1="ts{len(slots) - 1}" TIME_SLOT_REF2="ts{len(slots)}">'
            f"<ANNOTATION_VALUE>{_xml(text)}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>\n"
        )

    free = 0
    for segment in transcript.segments:
        start = max(free, round(1000 * segment.start_s))
        free = max(round(1000 * segment.end_s), start + max(1, len(segment.words)))
        annotate("segments", start, free, segment.text)
        for word, (first, last) in zip(segment.words, _apart(segment.words, start, free), strict=True):
            annotate("words", first, last, word.text)
    order = sorted(range(len(slots)), key=lambda index: slots[index])
    path = Path(os.path.abspath(transcript.name))
    relative = os.path.relpath(path, beside or Path.cwd()).replace(os.sep, "/")
    return _EAF.format(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        url=quoteattr(f"file://{quote(os.fsencode(path))}"),
        mime=quoteattr(_MIME.get(path.suffix.lower(), "unknown")),
        relative=quoteattr("./" + quote(os.fsencode(relative))),
        slots="".join(f'  <TIME_SLOT TIME_SLOT_ID="ts{index + 1}" TIME_VALUE="{slots[index]}"/>\n' for index in order),
        segments="".join(rows["segments"]),
        words="".join(rows["words"]),
    )


def _apart(words: Sequence[Word], start: int, end: int) -> list[tuple[int, int]]:
    """Milliseconds of words within a segment: in order, without overlap, each at least one long."""
    limits = []
    for index, word in enumerate(words):
        first = min(max(round(1000 * word.start_s), start), end - (len(words) - index))
        last = min(max(round(1000 * word.end_s), first + 1), end - (len(words) - index - 1))
        limits.append((first, last))
        start = last
    return limits


def _xml(text: str) -> str:
    """A text as XML 1.0 can hold it: control characters and lone surrogates are left out."""
    kept = (
        char
        for char in _one_line(text)
        if char >= " " and not "\ud800" <= char <= "\udfff" and char not in "\ufffe\uffff"
    )
    return escape("".join(kept))


def _one_line(text: str) -> str:
    return " ".join(text.split())


# -------------------------------------------------------------------------------------------------------------- files

FORMATS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_text,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
    "eaf": to_eaf,
}
"""What a transcript can be written as, by the suffix of the file."""


def write_transcript(transcript: Transcript, path: str | Path) -> None:
    """Write the format that the suffix names, beside and renamed: the file is whole or not there.

    Raises:
        InputError: another suffix.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(
            f"{path} has no suffix of a transcript; end it in {', '.join(f'.{name}' for name in FORMATS)}."
        )
    text = to_eaf(transcript, path.parent) if kind == "eaf" else FORMATS[kind](transcript)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
