"""What corpora hold, and what leaks between their parts: recordings, speakers, sentences and words that two share.

A *part* is a corpus, or one split of it where it has any: the published parts of Speech Commands, or the values of
the key ``split`` in the rows of a manifest. Each pair of parts is compared, those of different corpora as well.
"""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ..audio import probe, read, trim_padding
from ..contracts import InputError, Utterance
from .layouts import MANIFEST, SPLITS, printable, scan_corpus, shown
from .manifests import load_corpus

LeakKind = Literal["recording", "speaker", "sentence", "word"]
LEAK_KINDS: tuple[LeakKind, ...] = get_args(LeakKind)
"""Worst first. ``word`` is a leak where the words of a test must be new, and none where the vocabulary is closed."""

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
MAX_EXAMPLES = 3
_BATCH = 64
"""Recordings that are decoded before the next progress report."""


@dataclass(frozen=True, slots=True)
class Part:
    """A corpus, or one split of it."""

    name: str
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, slots=True)
class Leak:
    """What two parts share; ``first`` and ``second`` are the same for one recording under two ids of a part."""

    kind: LeakKind
    first: str
    second: str
    n_shared: int
    """Different recordings, speakers, sentences or words that are in both."""
    n_first: int
    """Utterances of the first part that are affected."""
    n_second: int
    examples: tuple[str, ...]
    """Some of them by name; a recording as ``id = id``."""


@dataclass(frozen=True, slots=True)
class CorpusInfo:
    """What one corpus holds. Facts that its rows do not say are not counted."""

    path: Path
    splits: dict[str, int]
    """Utterances of each split; empty where there are none."""
    n_utterances: int
    hours: float
    n_speakers: int
    n_without_speaker: int
    languages: dict[str, int]
    accents: dict[str, int]
    genders: dict[str, int]
    n_classes: int
    takes: tuple[int, float, int] | None
    """Fewest, median and most utterances of a class."""
    n_texts: int
    """Different sentences or words, without regard to case and spacing."""
    symbols: dict[str, int]
    """Each character of the texts, the most frequent first."""
    duration_s: tuple[float, ...]
    """At ``QUANTILES``."""
    rates_hz: dict[int, int] | None
    """Sampling rate -> recordings; None where no audio was opened."""
    n_silent: int | None
    """Recordings of digital zeros alone, which are compared with none; None where no audio was opened."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What several corpora hold and share."""

    corpora: tuple[CorpusInfo, ...]
    parts: tuple[str, ...]
    leaks: tuple[Leak, ...]


def inspect_corpora(
    paths: Sequence[Path], *, audio: bool = True, progress: Callable[[int, int], None] | None = None
) -> Inspection:
    """Describe corpora and compare all pairs of their parts.

    With ``audio`` every recording is decoded, several at a time: two are the same where their samples are, at 16 bits,
    without the digital zeros at their ends, in whatever lossless format. ``progress`` is called with (recordings done,
    recordings in all).

    Raises:
        InputError: a corpus that cannot be used, the same one twice, or a recording that cannot be decoded.
    """
    names = _short_names(paths)
    corpora = [(name, path, load_corpus(path)) for name, path in zip(names, paths, strict=True)]
    heard = _listen([u for _, _, utterances in corpora for u in utterances], progress) if audio else None
    parts: list[Part] = []
    infos = []
    for name, path, utterances in corpora:
        splits = split_corpus(path, utterances)
        parts += [Part(f"{name}:{split}", part) for split, part in splits.items()] or [Part(name, tuple(utterances))]
        infos.append(_describe(path, utterances, splits, heard))
    contents = {path: digest for path, (_, digest) in heard.items()} if heard is not None else {}
    return Inspection(tuple(infos), tuple(part.name for part in parts), tuple(find_leaks(parts, contents)))


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The name of each folder, or its whole path where two have one name."""
    absolute = [Path(os.path.abspath(path)) for path in paths]
    folders = [path.parent if path.name == MANIFEST else path for path in absolute]
    seen: set[str] = set()
    for path in absolute:
        real = os.path.realpath(path)
        if real in seen:
            raise InputError(f"Corpus {printable(str(path))} is named twice; name each corpus once.")
        seen.add(real)
    counts = Counter(folder.name for folder in folders)
    return [
        printable(folder.name if counts[folder.name] == 1 else str(path))
        for folder, path in zip(folders, absolute, strict=True)
    ]


def split_corpus(path: Path, utterances: Sequence[Utterance]) -> dict[str, tuple[Utterance, ...]]:
    """Split -> its utterances, in the order of first appearance; empty where the corpus has no splits.

    Speech Commands is cut by its lists (or the hash of the speaker), a manifest by its key ``split``; utterances
    whose row has no such key are the part ``no split`` where others have one.
    """
    manifest = path / MANIFEST if path.is_dir() else path
    if not manifest.is_file():
        scans = {split: scan_corpus(path, split) for split in SPLITS}
        if any(scan.layout != "speech_commands" for scan in scans.values()):
            return {}
        return {split: tuple(scan.utterances) for split, scan in scans.items() if scan.utterances}
    split_of = _manifest_splits(manifest)
    if not split_of:
        return {}
    found: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        found[split_of.get(utterance.path, "no split")].append(utterance)
    return {split: tuple(part) for split, part in found.items()}


def _manifest_splits(manifest: Path) -> dict[Path, str]:
    """Recording -> the key ``split`` of its row, of a manifest that has been read without a problem."""
    root = Path(os.path.abspath(manifest)).parent
    split_of: dict[Path, str] = {}
    with manifest.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            split = row.get("split")
            if split is None:
                continue
            if not isinstance(split, str) or not split.strip():
                raise InputError(
                    f"{printable(str(manifest))}:{number}: split is {shown(split)} and must be the name of a part; "
                    "correct it or leave it out."
                )
            split_of[root / row["audio_filepath"]] = split.strip()
    return split_of


# -------------------------------------------------------------------------------------------------------------- audio


def _listen(
    utterances: Sequence[Utterance], progress: Callable[[int, int], None] | None
) -> dict[Path, tuple[int, bytes | None]]:
    """Recording -> its rate in Hz, and a digest of its content."""
    heard: dict[Path, tuple[int, bytes | None]] = {}
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(utterances), _BATCH):
            paths = [utterance.path for utterance in utterances[start : start + _BATCH]]
            heard |= zip(paths, pool.map(_hear, paths), strict=True)
            if progress is not None:
                progress(start + len(paths), len(utterances))
    return heard


def _hear(path: Path) -> tuple[int, bytes | None]:
    rate_hz = probe(path).rate_hz
    return rate_hz, content_digest(path, rate_hz)


def content_digest(path: Path, rate_hz: int) -> bytes | None:
    """16 bytes that are equal for equal recordings: rate and samples at 16 bits, without padding; None for silence."""
    sound = trim_padding(read(path, rate_hz))
    if not len(sound):
        return None
    samples = np.clip(np.rint(sound * 32768), -32768, 32767).astype("<i2")
    return hashlib.blake2b(rate_hz.to_bytes(4, "little") + samples.tobytes(), digest_size=16).digest()


# -------------------------------------------------------------------------------------------------------------- counts


def _describe(
    path: Path,
    utterances: Sequence[Utterance],
    splits: dict[str, tuple[Utterance, ...]],
    heard: dict[Path, tuple[int, bytes | None]] | None,
) -> CorpusInfo:
    takes = sorted(Counter(u.label for u in utterances if u.label is not None).values())
    mine = None if heard is None else [heard[u.path] for u in utterances]
    durations_s = np.quantile([u.duration_s for u in utterances], QUANTILES)
    return CorpusInfo(
        path=Path(os.path.abspath(path)),
        splits={split: len(part) for split, part in splits.items()},
        n_utterances=len(utterances),
        hours=sum(u.duration_s for u in utterances) / 3600,
        n_speakers=len({u.speaker for u in utterances} - {None}),
        n_without_speaker=sum(u.speaker is None for u in utterances),
        languages=_counted(u.lang for u in utterances),
        accents=_counted(u.accent for u in utterances),
        genders=_counted(u.gender for u in utterances),
        n_classes=len(takes),
        takes=(takes[0], float(np.median(takes)), takes[-1]) if takes else None,
        n_texts=len({_folded(u.text) for u in utterances if u.text.strip()}),
        symbols=_counted(c for u in utterances for c in u.text if not c.isspace()),
        duration_s=tuple(float(d) for d in durations_s),
        rates_hz=None if mine is None else dict(sorted(Counter(rate_hz for rate_hz, _ in mine).items())),
        n_silent=None if mine is None else sum(digest is None for _, digest in mine),
    )


def _counted(values: Iterable[str | None]) -> dict[str, int]:
    """Value -> how often, the most frequent first."""
    counts = Counter(value for value in values if value is not None)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


# --------------------------------------------------------------------------------------------------------------- leaks


def find_leaks(parts: Sequence[Part], contents: dict[Path, bytes | None]) -> list[Leak]:
    """What each pair of parts shares, and the recordings that a part holds twice; the worst kind first.

    ``contents``: digest of each recording, None for silence; those that are not in it are not compared. Sentences
    and words are compared without regard to case and spacing; a word is a class, and a sentence the text of an
    utterance that has none. Speakers are compared by name, so those of two corpora may be different people.
    """
    keys: dict[LeakKind, Callable[[Utterance], Hashable | None]] = {
        "recording": lambda u: contents.get(u.path),
        "speaker": lambda u: u.speaker,
        "sentence": lambda u: _folded(u.text) or None if u.label is None else None,
        "word": lambda u: _folded(u.label) or None if u.label is not None else None,
    }
    leaks: list[Leak] = []
    for kind in LEAK_KINDS:
        held = [_by_key(part, keys[kind]) for part in parts]
        if kind == "recording":
            leaks += [leak for part, own in zip(parts, held, strict=True) if (leak := _twice(part, own)) is not None]
        for (first, of_first), (second, of_second) in combinations(zip(parts, held, strict=True), 2):
            shared = sorted(of_first.keys() & of_second.keys(), key=str)
            if not shared:
                continue
            pairs = [(of_first[key], of_second[key]) for key in shared]
            n_first, n_second = (sum(len(side[i]) for side in pairs) for i in (0, 1))
            if kind == "recording":
                examples = sorted(f"{a[0].id} = {b[0].id}" for a, b in pairs)
            else:
                examples = [str(key) for key in shared]
            leaks.append(
                Leak(kind, first.name, second.name, len(shared), n_first, n_second, tuple(examples[:MAX_EXAMPLES]))
            )
    return leaks


def _by_key(part: Part, key: Callable[[Utterance], Hashable | None]) -> dict[Hashable, list[Utterance]]:
    found: dict[Hashable, list[Utterance]] = defaultdict(list)
    for utterance in part.utterances:
        if (value := key(utterance)) is not None:
            found[value].append(utterance)
    return found


def _twice(part: Part, by_content: dict[Hashable, list[Utterance]]) -> Leak | None:
    """The recordings that one part holds under several ids."""
    copies = [utterances for utterances in by_content.values() if len(utterances) > 1]
    if not copies:
        return None
    examples = sorted(" = ".join(u.id for u in utterances[:2]) for utterances in copies)[:MAX_EXAMPLES]
    n_affected = sum(map(len, copies))
    return Leak("recording", part.name, part.name, len(copies), n_affected, n_affected, tuple(examples))
