"""The three layouts of a corpus folder, read row by row: what is whole becomes utterances, what is not, problems.

A folder with ``manifest.jsonl``; the folder of Speech Commands (Warden 2018, arXiv:1804.03209); a folder with one
sub-folder a word. Nothing outside the corpus folder is ever opened, and no row stops the reading of the next.
"""

import codecs
import hashlib
import json
import math
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..audio import probe
from ..contracts import InputError, Utterance

MANIFEST = "manifest.jsonl"
MAX_ROW_BYTES = 1_000_000
_AUDIO = re.compile(r".+\.(wave?|flac|og[ga]|opus|mp3|aif[fc]?|au|snd|caf|w64|rf64|sph|nist|voc|avr)", re.I | re.S)
_UNREAD = re.compile(r".+\.(m4a|mp4|aac|wma|webm|amr|3gp|ac3|ape|wv|spx)", re.I | re.S)
"""Recordings that libsndfile does not read. Passing over them would silently lose takes, so they are problems."""
IGNORED_FOLDERS = frozenset({"_background_noise_", "__MACOSX"})
SPLITS = ("train", "validation", "test")

_NOHASH = re.compile(r"(?P<speaker>[0-9a-z]+)_nohash_[0-9]+\.[A-Za-z0-9]+")
_EXAMPLE = 'write {"audio_filepath": "a.wav", "duration": 1.0, "text": "yes"} on one line'


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a corpus: where, what, and what to do about it."""

    where: str
    """``manifest.jsonl:12``, or a file or folder within the corpus, or the path of the corpus itself."""
    kind: str
    """corpus, layout, encoding, json, row, key, type, duration, id, path, file or audio."""
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}; {self.remedy}."


class Defect(Exception):
    """A problem whose place is not known yet."""

    def __init__(self, kind: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.kind, self.message, self.remedy = kind, message, remedy


def shown(value: Any) -> str:
    """A value as a sentence can hold it: short, and safe to print."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = f"'{printable(value)}'" if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def printable(text: str) -> str:
    """Control characters and broken Unicode escaped; the joiners that Indic and Persian spelling needs are kept."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\u200c\u200d" else ascii(c)[1:-1] for c in text)


class _Folder:
    """Says whether a relative path is a regular file that truly lies in a folder, at one ``lstat`` a file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._real_root = os.path.realpath(root)
        self._real_parents: dict[str, str] = {}

    def _check_inside(self, real: str, relative: str) -> None:
        if real != self._real_root and not real.startswith(self._real_root.rstrip(os.sep) + os.sep):
            raise Defect("path", f"{shown(relative)} leaves the corpus folder", "move the file into the folder")

    def real_file(self, relative: str) -> tuple[str, int]:
        """The resolved path of the file and its size in bytes. Links are followed, and must end inside the folder."""
        if not relative.strip() or "\0" in relative:
            raise Defect("path", f"{shown(relative)} is no file name", "name the recording")
        if os.path.isabs(relative):
            raise Defect("path", f"{shown(relative)} is absolute", "write it relative to the corpus folder")
        parent, name = os.path.split(relative)
        if name in {"", ".", ".."}:
            parent, name = relative, ""
        if parent not in self._real_parents:
            self._real_parents[parent] = os.path.realpath(self._root / parent)
        real = self._real_parents[parent]
        self._check_inside(real, relative)
        try:
            real = os.path.join(real, name) if name else real
            found = os.lstat(real)
            if stat.S_ISLNK(found.st_mode):
                real = os.path.realpath(real)
                self._check_inside(real, relative)
                found = os.stat(real)
        except (FileNotFoundError, NotADirectoryError):
            raise Defect("file", f"{shown(relative)} does not exist", "add the file or remove the row") from None
        except OSError as error:
            raise Defect("file", f"{shown(relative)} cannot be read ({error.strerror})", "correct the path") from None
        if not stat.S_ISREG(found.st_mode):
            noun = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
            raise Defect("file", f"{shown(relative)} is {noun}", "name the file itself")
        return real, found.st_size


class Scan:
    """What one pass over a corpus has found so far."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))
        self.name = printable(str(self.path))
        self.root = self.path if os.path.isdir(self.path) else self.path.parent
        self.folder = _Folder(self.root)
        self.layout: str | None = None
        self.utterances: list[Utterance] = []
        self.clips: list[tuple[str, Path, float | None]] = []
        """Every file that can be listened to, those of bad rows too: place, path, stated duration in seconds."""
        self.problems: list[Problem] = []
        self._seen: dict[tuple[str, str], str] = {}

    def note(self, where: str, defect: Defect) -> None:
        self.problems.append(Problem(where, defect.kind, defect.message, defect.remedy))

    def _claim(self, where: str, kind: str, value: str, name: str) -> None:
        """Take an id or a file, which only one row may do."""
        first = self._seen.setdefault((kind, value), where)
        if first != where:
            noun = "id" if kind == "id" else "file"
            raise Defect(kind, f"the {noun} {shown(name)} is already that of {first}", "rename or remove one")

    def add(self, where: str, relative: str, facts: dict[str, Any]) -> None:
        """Take one row. One that lacks some of ``FACTS`` is not kept, yet its id and file are checked.

        A duration of None is read from the header of the file.
        """
        whole = len(facts) == len(FACTS)
        own_id = facts.get("id")
        name = own_id or os.path.splitext(os.path.normpath(relative))[0].replace(os.sep, "/")
        path = self.root / relative
        try:
            if own_id:
                self._claim(where, "id", name, name)
        except Defect as defect:
            self.note(where, defect)
            whole = False
        try:
            real, n_bytes = self.folder.real_file(relative)
            self._claim(where, "path", real, relative)
            if not own_id:
                self._claim(where, "id", name, name)
            if not n_bytes:
                raise Defect("audio", f"{shown(relative)} is an empty file", "record it again or remove it")
            if "duration_s" in facts and facts["duration_s"] is None:
                facts["duration_s"] = _duration({"duration": probe(path).duration_s})
        except Defect as defect:
            self.note(where, defect)
            return
        except InputError as error:
            self.note(where, audio_defect(error))
            return
        self.clips.append((where, path, facts.get("duration_s")))
        if whole:
            self.utterances.append(Utterance(**{**facts, "id": name}, path=path, corpus=self.root.name))


def audio_defect(error: InputError) -> Defect:
    """The sentence of ``audio``, cut at its last semicolon into what is wrong and the remedy."""
    message, _, remedy = printable(str(error)).rstrip(".").rpartition("; ")
    return Defect("audio", message or remedy, remedy if message else "record it again")


def scan_corpus(path: Path, split: str | None = None) -> Scan:
    """Read the rows of a corpus folder or manifest; ``split`` keeps one part of Speech Commands. Raises nothing."""
    scan = Scan(path)
    try:
        if os.path.isdir(scan.path) and not os.path.lexists(scan.path / MANIFEST):
            _scan_words(scan, split)
        elif os.path.isdir(scan.path):
            scan.folder.real_file(MANIFEST)
            _scan_manifest(scan, scan.path / MANIFEST)
        elif not os.path.lexists(scan.path):
            raise Defect("corpus", "does not exist", "correct the path")
        elif scan.path.suffix.lower() in {".jsonl", ".json"} and scan.path.is_file():
            _scan_manifest(scan, scan.path)
        else:
            raise Defect("corpus", "is neither a folder nor a manifest", f"name a corpus folder or its {MANIFEST}")
        if split is not None and (split not in SPLITS or scan.layout != "speech_commands"):
            remedy = f"leave split out; only Speech Commands has parts, which are {', '.join(SPLITS)}"
            raise Defect("corpus", f"there is no part named {shown(split)}", remedy)
    except Defect as defect:
        scan.note(scan.name, defect)
    except OSError as error:
        scan.note(scan.name, Defect("corpus", f"cannot be read ({error.strerror})", "correct its permissions"))
    return scan


# ------------------------------------------------------------------------------------------------------ manifest rows


def _needed(row: dict[str, Any], key: str) -> Any:
    if key not in row:
        raise Defect("key", f"the key {key} is missing", "add it to the row")
    return row[key]


def _whole_unicode(value: str, name: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Defect("encoding", f"{name} {shown(value)} is not valid Unicode", "write it in UTF-8") from None
    return value


def _string(row: dict[str, Any], key: str, form: Literal["NFC"] | None = "NFC") -> str:
    value = _needed(row, key)
    if not isinstance(value, str):
        raise Defect("type", f"{key} is {shown(value)} and must be text", "write it in quotes")
    _whole_unicode(value, key)
    return unicodedata.normalize(form, value) if form else value


def _fact(row: dict[str, Any], key: str) -> str | None:
    """An optional fact; absent, null and blank all mean that it is not known."""
    if row.get(key) is None:
        return None
    return _string(row, key).strip() or None


def _age(row: dict[str, Any]) -> str | None:
    age = row.get("age")
    if isinstance(age, bool) or not isinstance(age, int | float):
        return _fact(row, "age" if age is not None else "age_group")
    if not math.isfinite(age):
        raise Defect("type", f"age is {age}", "write a number, or leave it out")
    return f"{age:g}" if isinstance(age, float) else str(age)


def _duration(row: dict[str, Any]) -> float:
    value = _needed(row, "duration")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Defect("type", f"duration is {shown(value)} and must be a number", "write the seconds without quotes")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not (math.isfinite(seconds) and seconds > 0):
        raise Defect("duration", f"duration is {seconds:g} s and must be above 0", "write the seconds of the file")
    return seconds


FACTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "id": partial(_fact, key="id"),
    "duration_s": _duration,
    "text": partial(_string, key="text"),
    "age": _age,
    **{key: partial(_fact, key=key) for key in ("label", "speaker", "lang", "accent", "gender")},
}
"""How each field of an utterance is read from a manifest row."""


def _parse(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_ROW_BYTES:
        raise Defect("row", f"the line is longer than {MAX_ROW_BYTES:,} bytes", _EXAMPLE)
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise Defect("encoding", f"byte {error.start + 1} of the line is not UTF-8", "save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise Defect("json", f"not JSON ({error.msg} at column {error.colno})", _EXAMPLE) from None
    except RecursionError:
        raise Defect("json", "the JSON nests too deeply", _EXAMPLE) from None
    except ValueError:  # Python refuses to turn thousands of digits into an integer
        raise Defect("json", "a number has too many digits", _EXAMPLE) from None
    if not isinstance(row, dict):
        raise Defect("row", f"the row is {shown(row)} and must be an object", _EXAMPLE)
    return row


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank, without a byte-order mark; what is too long comes cut."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            rest = line
            while not rest.endswith(b"\n") and (rest := file.readline(MAX_ROW_BYTES)):
                pass
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield number, line


def _scan_manifest(scan: Scan, path: Path) -> None:
    scan.layout = "manifest"
    empty = True
    for number, line in _lines(path):
        if empty and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise Defect("encoding", f"{printable(path.name)} is UTF-16", "save it as UTF-8")
        empty = False
        where = f"{printable(path.name)}:{number}"
        try:
            row = _parse(line)
        except Defect as defect:
            scan.note(where, defect)
            continue
        facts: dict[str, Any] = {}
        for name, reader in FACTS.items():
            try:
                facts[name] = reader(row)
            except Defect as defect:
                scan.note(where, defect)
        try:
            relative = _string(row, "audio_filepath", form=None)
        except Defect as defect:
            scan.note(where, defect)
        else:
            scan.add(where, relative, facts)
    if empty:
        raise Defect("corpus", f"{printable(path.name)} has no rows", "write one JSON object a recording, one a line")


# ------------------------------------------------------------------------------------------------------- word folders


def speech_commands_split(speaker: str) -> str:
    """``train``, ``validation`` or ``test`` by the SHA-1 of the speaker, 80 / 10 / 10, as its README defines it."""
    limit = 2**27 - 1
    percent = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (limit + 1) * (100 / limit)
    return "validation" if percent < 10 else "test" if percent < 20 else "train"


def _published_splits(root: Path) -> dict[str, str] | None:
    """``word/file`` to its part by the two lists that come with Speech Commands; None where they are absent."""
    lists = {"validation": root / "validation_list.txt", "test": root / "testing_list.txt"}
    if not all(path.is_file() for path in lists.values()):
        return None
    return {line.decode("utf-8", "replace").strip(): part for part in lists for _, line in _lines(lists[part])}


def _word_files(scan: Scan) -> list[tuple[str, str]]:
    """(word folder, file name) of every recording in the order of their names; notes what would be passed over."""
    found: list[tuple[str, str]] = []
    bare: list[str] = []
    for word in sorted(os.listdir(scan.root)):
        if word.startswith(".") or word in IGNORED_FOLDERS:
            continue
        if not os.path.isdir(scan.root / word):
            if _AUDIO.fullmatch(word) or _UNREAD.fullmatch(word):
                scan.note(printable(word), Defect("layout", "the recording is in no word folder", "move it into one"))
            continue
        n_before = len(found) + len(scan.problems)
        for name in sorted(os.listdir(scan.root / word)):
            if name.startswith("."):
                continue
            if _AUDIO.fullmatch(name):
                found.append((word, name))
            elif match := _UNREAD.fullmatch(name):
                defect = Defect("audio", f"{match[1].lower()} files cannot be read", "convert it to WAV or FLAC")
                scan.note(printable(f"{word}/{name}"), defect)
        if len(found) + len(scan.problems) == n_before:
            bare.append(word)
    for word in bare if found else []:
        defect = Defect("layout", "the folder holds no recordings", "add takes of the word or remove the folder")
        scan.note(printable(word), defect)
    return found


def _scan_words(scan: Scan, split: str | None) -> None:
    files = _word_files(scan)
    if not files:
        raise Defect("corpus", f"holds neither {MANIFEST} nor word folders with recordings", "name a corpus folder")
    matches = [_NOHASH.fullmatch(name) for _, name in files]
    published = _published_splits(scan.root)
    scan.layout = "speech_commands" if published is not None or any(matches) else "word_folders"
    for (word, name), match in zip(files, matches, strict=True):
        relative = f"{word}/{name}"
        where = printable(relative)
        try:
            label = unicodedata.normalize("NFC", _whole_unicode(word, "the folder name"))
            _whole_unicode(name, "the file name")
        except Defect as defect:
            scan.note(where, defect)
            continue
        speaker = match["speaker"] if match else None
        if split is not None:
            part = published.get(relative, "train") if published else speech_commands_split(speaker or name)
            if part != split:
                continue
        scan.add(where, relative, dict.fromkeys(FACTS) | {"label": label, "text": label, "speaker": speaker})
