"""Praat TextGrids, long and short text form: intervals with text of chosen tiers, beside their recordings.

Praat reads both forms by one rule, and so does this: what counts is free-standing numbers, "texts" with doubled
quotation marks inside, and <flags>; all other words, and what follows an exclamation mark, are for people to read.
"""

import codecs
import math
import os
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...contracts import InputError
from ..layouts import printable, shown
from .clips import AUDIO_SUFFIXES, Clips, read_text
from .rows import decoded
from .segments import Options, Segment

MAX_TIERS = 1_000
_TOKEN = re.compile(r'"((?:[^"]|"")*+)"(?=\s|\Z)|<(\w+)>(?=\s|\Z)|(![^\n\r]*)|([^\s"!][^\s"]*+)|(["!])')
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf|infinity)|--undefined--", re.I)
_WORDS = {"word", "words"}
_PHONES = {"phone", "phones", "phoneme", "phonemes", "segment", "segments", "phon", "mau"}
"""Tiers that are read only where they are asked for: pieces of words are no words."""
_PAUSES = {"<eps>", "<sil>", "<p:>"}
"""What aligners write where nobody speaks."""


@dataclass(frozen=True, slots=True)
class IntervalTier:
    """A tier of intervals, (begin in seconds, end in seconds, text); silences are left out."""

    name: str
    intervals: tuple[tuple[float, float, str], ...]

    @property
    def kind(self) -> str:
        """``words`` of a tier called ``words``, or ``anna - words`` as aligners name those of several speakers."""
        return self.name.rpartition(" - ")[2].strip().lower()

    @property
    def speaker(self) -> str | None:
        """Who speaks, where the name says it."""
        return self.name.rpartition(" - ")[0].strip() or None


def is_textgrid(path: Path) -> bool:
    """Whether a path is a .TextGrid file or a folder with some, at any depth."""
    return bool(_files(path, first=True))


def _files(path: Path, first: bool = False) -> list[Path]:
    if not path.is_dir():
        return [path] if path.suffix.lower() == ".textgrid" else []
    found = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        found += [Path(folder) / name for name in sorted(names) if name.lower().endswith(".textgrid")]
        if found and first:
            break
    return found


def read_textgrids(path: Path, options: Options) -> Iterator[Segment]:
    """Segments of a TextGrid, or of a folder of them: one for each interval with text of the tiers chosen.

    ``--tier`` names a tier, or the last part of names such as ``anna - words``. Without it the tier with most intervals
    of text is taken, tiers of phones aside, and announced. What stands before `` - `` is the speaker; the text of a
    tier called words is the label as well. The recording has the name of the TextGrid and stands beside it.

    Raises:
        InputError: no TextGrid, one that cannot be read, a tier that no file has or that holds points, a time that
            is negative, not a number or reversed.
    """
    files = _files(path)
    if not files:
        raise InputError(f"{printable(str(path))} holds no .TextGrid file; name one of Praat or a folder with some.")
    return _read(files, path if path.is_dir() else path.parent, options)


def _read(files: list[Path], root: Path, options: Options) -> Generator[Segment, None, None]:
    clips = Clips(root)
    n_without, there = 0, set()
    taken: set[str] = set()
    for file in files:
        tiers, points = parse_textgrid(read_text(file), printable(file.name))
        chosen = _chosen(tiers, points, options, printable(file.name), taken)
        if not chosen:
            n_without += 1
            there |= {tier.name for tier in tiers}
            continue
        audio = _recording(file, clips)
        prefix = file.relative_to(root).with_suffix("").as_posix()
        for tier in chosen:
            owner = f"{tier.speaker}-" if len(chosen) > 1 else ""
            for number, (begin_s, end_s, text) in enumerate(tier.intervals, 1):
                label = text if tier.kind in _WORDS else None
                name = f"{prefix}/{owner}{number}"
                yield Segment(name, audio, begin_s, end_s, 0, text, label, tier.speaker, options.lang)
    if n_without == len(files):
        name = printable(files[0].name) if len(files) == 1 else f"None of {len(files)} TextGrids"
        if options.tier is None:
            raise InputError(f"{name} has no interval with text; annotate it in Praat first.")
        some = ", ".join(map(shown, sorted(there)[:12]))
        raise InputError(f"{name} has {'the' if len(files) > 1 else 'no'} tier {shown(options.tier)}; choose {some}.")
    if n_without and options.announce is not None:
        options.announce(f"{n_without} of {len(files)} TextGrids have no intervals in such a tier.")


def _chosen(
    tiers: list[IntervalTier], points: list[str], options: Options, name: str, taken: set[str]
) -> list[IntervalTier]:
    """The tiers to read; a choice that is not the user's is announced once, and added to ``taken``."""
    if options.tier is not None:
        if options.tier in points:
            raise InputError(
                f"{name}: the tier {shown(options.tier)} holds points, which have no length; choose an interval tier."
            )
        exact = [tier for tier in tiers if tier.name == options.tier]
        return exact or [tier for tier in tiers if tier.kind == options.tier.strip().lower()]
    filled = [tier for tier in tiers if tier.intervals]
    if not filled:
        return []
    kinds: dict[str, int] = {}
    for tier in filled:
        kinds[tier.kind] = kinds.get(tier.kind, 0) + len(tier.intervals)
    best = max(kinds, key=lambda kind: (kind not in _PHONES, kinds[kind]))
    chosen = [tier for tier in filled if tier.kind == best]
    if options.announce is not None and len(kinds) > 1 and best not in taken:
        others = ", ".join(f"{shown(kind)} ({n})" for kind, n in kinds.items() if kind != best)
        options.announce(
            f"{name}: read the tier {shown(best)} with {kinds[best]} intervals; --tier would take another: {others}."
        )
    taken.add(best)
    return chosen


def _recording(file: Path, clips: Clips) -> Path:
    for name in sorted(os.listdir(file.parent)):
        stem, suffix = os.path.splitext(name)
        if stem == file.stem and suffix.lower() in AUDIO_SUFFIXES:
            return clips.find(os.path.normpath(os.path.relpath(file.parent / name, clips.root)), printable(file.name))
    return file.absolute().with_suffix(".wav")  # which is not there: it costs but its own segments


# ------------------------------------------------------------------------------------------------------------ parsing


def parse_textgrid(data: bytes, name: str) -> tuple[list[IntervalTier], list[str]]:
    """The interval tiers of a TextGrid, and the names of its point tiers; ``name`` stands before a sentence.

    Raises:
        InputError: a binary or chronological TextGrid, another file, one that is cut short, impossible times.
    """
    tokens = _Tokens(_text(data, name), name)
    kind, content = tokens.text(), tokens.text()
    if not kind.startswith("ooTextFile") or content != "TextGrid":
        raise InputError(f"{name} is no TextGrid but {shown(content)}; save a TextGrid as text file in Praat.")
    tokens.span()
    if tokens.flag() != "exists":
        return [], []
    tiers: list[IntervalTier] = []
    points: list[str] = []
    for _ in range(tokens.count(MAX_TIERS)):
        kind, tier = tokens.text(), tokens.text()
        tokens.span()
        n_items = tokens.count(len(data))
        if kind == "IntervalTier":
            intervals = [(*tokens.span(), " ".join(tokens.text().split())) for _ in range(n_items)]
            spoken = tuple(item for item in intervals if item[2] and item[2] not in _PAUSES)
            tiers.append(IntervalTier(tier, tuple(tokens.require_length(item) for item in spoken)))
        elif kind == "TextTier":
            points.append(tier)
            for _ in range(n_items):
                tokens.time()
                tokens.text()
        else:
            raise InputError(f"{name}: the tier {shown(tier)} is of class {shown(kind)}; save the file in Praat again.")
    return tiers, points


def _text(data: bytes, name: str) -> str:
    if data.startswith(b"ooBinaryFile"):
        raise InputError(f"{name} is a binary TextGrid; save it as text file in Praat.")
    if data.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            raise InputError(f"{name} is damaged UTF-16; save it again in Praat.") from None
    else:
        text = decoded(data.removeprefix(codecs.BOM_UTF8), name)
    if text.startswith('"Praat chronological'):
        raise InputError(f"{name} is a chronological TextGrid; save it as text file in Praat.")
    if "\0" in text:
        raise InputError(f"{name} holds NUL characters; save it as UTF-8 or UTF-16 text in Praat.")
    return text


class _Tokens:
    """The numbers, texts and flags of a text file of Praat, one after the other."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._text = text
        self._matches = _TOKEN.finditer(text)

    def _wrong(self, what: str, at: int) -> InputError:
        line = self._text.count("\n", 0, at) + 1 if "\n" in self._text else self._text.count("\r", 0, at) + 1
        return InputError(f"{self._name}:{line}: {what}; save it as text file in Praat.")

    def _next(self, wanted: str) -> tuple[str, int]:
        for match in self._matches:
            text, flag, comment, word, stray = match.groups()
            if stray is not None:
                raise self._wrong("a quotation mark is not closed or not doubled", match.start())
            if text is not None:
                found, value = "text", text.replace('""', '"')
            elif flag is not None:
                found, value = "flag", flag
            elif comment is None and _NUMBER.fullmatch(word):
                found, value = "number", word
            else:
                continue
            if found != wanted:
                raise self._wrong(f"a {wanted} was expected, and {shown(value)} stands there", match.start())
            return value, match.start()
        raise self._wrong(f"the file ends where a {wanted} was expected", len(self._text))

    def text(self) -> str:
        return self._next("text")[0]

    def flag(self) -> str:
        return self._next("flag")[0]

    def count(self, limit: int) -> int:
        value, at = self._next("number")
        if not value.isdecimal() or len(value) > 9 or int(value) > limit:
            raise self._wrong(f"{shown(value)} is no number of tiers or intervals", at)
        return int(value)

    def time(self) -> float:
        value, at = self._next("number")
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not math.isfinite(seconds):
            raise self._wrong(f"the time {shown(value)} is no number of seconds", at)
        return seconds

    def span(self) -> tuple[float, float]:
        return self.time(), self.time()

    def require_length(self, interval: tuple[float, float, str]) -> tuple[float, float, str]:
        begin_s, end_s, text = interval
        if not 0 <= begin_s < end_s:
            raise InputError(
                f"{self._name}: the interval {shown(text)} lasts from {begin_s:g} s to {end_s:g} s and must start at 0 "
                "or later and end after that; correct it in Praat."
            )
        return interval
