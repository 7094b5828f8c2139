"""A corpus folder becomes a list of utterances; every problem in it becomes a sentence; splits that share nobody.

``layouts`` reads the rows. Here is what is done with them: load, check, split, write.
"""

import json
import math
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..audio import check_take, probe, read
from ..contracts import InputError, Utterance
from .layouts import MANIFEST, Defect, Problem, audio_defect, printable, scan_corpus, shown

RATE_HZ = 16_000
"""Recordings are judged as they will be used."""

GroupBy = Literal["speaker", "label", "text"]


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """What a corpus holds, counted over its good rows, and every problem that was found in it."""

    path: Path
    layout: str | None
    """``manifest``, ``speech_commands`` or ``word_folders``; None where no corpus was recognised."""
    n_utterances: int
    hours: float
    n_classes: int
    n_speakers: int
    languages: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


# ------------------------------------------------------------------------------------------------------ load and check


def load_corpus(path: str | Path, *, split: str | None = None, lang: str | None = None) -> list[Utterance]:
    """The utterances of a corpus folder (or of a manifest file) in the order of the manifest or of the file names.

    No audio is opened: durations come from the manifest, or from the headers where there is none. Texts and labels
    are brought to Unicode NFC; an id is the row's own or the relative path without its suffix.

    ``split``: ``train``, ``validation`` or ``test`` of Speech Commands, by its published lists or, without them, by
    the hash of the speaker. ``lang``: keep the utterances in this language; one that does not say its language is
    taken to be in it.

    Raises InputError, one sentence, when anything is wrong with the corpus or nothing is left of it.
    """
    scan = scan_corpus(Path(path), split)
    if scan.problems:
        first, n_problems = scan.problems[0], len(scan.problems)
        place = "" if first.where == scan.name else first.where
        if n_problems == 1:
            raise InputError(f"corpus {scan.name}{place and ', ' + place}: {first.message}; {first.remedy}.")
        raise InputError(
            f"corpus {scan.name} has {n_problems} problems, the first{place and ' in ' + place}: {first.message}; "
            f"run `metavox data check {printable(shlex.quote(str(path)))}` to see them all."
        )
    if not scan.utterances:
        raise InputError(f"corpus {scan.name} has no recordings in its part {shown(split)}; choose another part.")
    if lang is None:
        return scan.utterances
    kept = [u if u.lang else replace(u, lang=lang) for u in scan.utterances if u.lang in {lang, None}]
    if not kept:
        there = ", ".join(sorted({u.lang for u in scan.utterances if u.lang}))
        raise InputError(f"corpus {scan.name} has no recordings in {shown(lang)}; choose one of {printable(there)}.")
    return kept


def check_corpus(
    path: str | Path, *, audio: bool = True, progress: Callable[[int, int], None] | None = None
) -> CorpusReport:
    """Every problem of a corpus at once, those of its rows first; it raises nothing for bad data.

    With ``audio`` every file is decoded, several at a time: unreadable, truncated, shorter than 0.1 s, silent and
    clipped ones are problems, and so is a length that differs from the manifest by more than 0.1 s and 5 %.
    ``progress`` is called with (files done, files in all).
    """
    scan = scan_corpus(Path(path))
    if audio:
        n_clips = len(scan.clips)
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            for n_done, (clip, defects) in enumerate(zip(scan.clips, pool.map(_listen, scan.clips), strict=True), 1):
                for defect in defects:
                    scan.note(clip[0], defect)
                if progress is not None:
                    progress(n_done, n_clips)
    utterances = scan.utterances
    return CorpusReport(
        path=scan.path,
        layout=scan.layout,
        n_utterances=len(utterances),
        hours=sum(u.duration_s for u in utterances) / 3600,
        n_classes=len({u.label for u in utterances} - {None}),
        n_speakers=len({u.speaker for u in utterances} - {None}),
        languages=tuple(sorted({u.lang for u in utterances if u.lang is not None})),
        problems=tuple(scan.problems),
    )


def _listen(clip: tuple[str, Path, float | None]) -> list[Defect]:
    _, path, stated_s = clip
    defects: list[Defect] = []
    try:
        actual_s = probe(path).duration_s
        if stated_s is not None and abs(actual_s - stated_s) > max(0.1, 0.05 * actual_s):
            message = f"duration is {stated_s:g} s and {shown(path.name)} lasts {actual_s:.3f} s"
            defects.append(Defect("audio", message, "correct the duration or restore the file"))
        check_take(read(path, RATE_HZ), RATE_HZ, path.name)
    except InputError as error:
        defects.append(audio_defect(error))
    return defects


# -------------------------------------------------------------------------------------------------------------- splits


def _groups(utterances: Iterable[Utterance], by: GroupBy) -> list[str]:
    """The group of each utterance. Sentences are compared without regard to case and spacing."""
    values = [getattr(u, by) for u in utterances]
    n_unknown = sum(not value or not value.strip() for value in values)
    if n_unknown:
        raise InputError(
            f"{n_unknown} of {len(values)} utterances have no {by}, so they cannot be split by it; "
            f"add the {by} to their rows or split by something else."
        )
    return [" ".join(value.casefold().split()) if by == "text" else value for value in values]


def split_disjoint(
    utterances: Sequence[Utterance], *, by: GroupBy, shares: Sequence[float | int], seed: int
) -> list[list[Utterance]]:
    """Cut a corpus into parts that share no speaker, no label or no text; one part for each of ``shares``.

    Groups in random order go, each whole, to the part that lacks most items. So no part exceeds its share by more
    than the largest group, and none is empty. The result depends on the seed and the groups, not on the order given;
    each part keeps that order. Shares are relative: (8, 1, 1) is (0.8, 0.1, 0.1).

    Raises InputError for fewer groups than parts, an utterance whose group is not known, or a share that is not
    a positive number.
    """
    if not shares or not all(math.isfinite(share) and share > 0 for share in shares):
        raise InputError(f"shares are {list(shares)}; give one positive number for each part.")
    groups = _groups(utterances, by)
    sizes = Counter(groups)
    if len(sizes) < len(shares):
        raise InputError(
            f"{len(sizes)} different {by}s cannot make {len(shares)} parts that share none; "
            f"ask for fewer parts or add recordings."
        )
    lacking = np.asarray(shares, dtype=np.float64) / math.fsum(shares) * len(groups)
    empty = np.ones(len(shares), dtype=bool)
    part_of: dict[str, int] = {}
    names = sorted(sizes)
    for n_placed, index in enumerate(np.random.default_rng(seed).permutation(len(names))):
        forced = empty.sum() == len(names) - n_placed  # as many groups left as empty parts: each takes one
        part = int(np.argmax(np.where(empty, lacking, -np.inf) if forced else lacking))
        part_of[names[index]] = part
        lacking[part] -= sizes[names[index]]
        empty[part] = False
    parts: list[list[Utterance]] = [[] for _ in shares]
    for utterance, group in zip(utterances, groups, strict=True):
        parts[part_of[group]].append(utterance)
    assert_disjoint(parts, by)
    return parts


def assert_disjoint(parts: Sequence[Sequence[Utterance]], by: GroupBy) -> None:
    """Prove that no two parts share a speaker, a label or a text; InputError names what they share."""
    home: dict[str, int] = {}
    for number, part in enumerate(parts):
        for group in sorted(set(_groups(part, by))):
            if home.setdefault(group, number) != number:
                raise InputError(
                    f"the {by} {shown(group)} is in parts {home[group] + 1} and {number + 1}, which must share none; "
                    f"split again by {by}."
                )


# --------------------------------------------------------------------------------------------------------------- write


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest beside its audio, whole or not at all; ``path`` is the file, or the folder to write it in.

    ``load_corpus`` gives the same utterances back, with ``corpus`` the name of the folder. Raises InputError for
    audio outside the folder, an id or a file that comes twice, a duration that is not above 0, or broken Unicode.
    """
    path = Path(os.path.abspath(path))
    path = path / MANIFEST if path.is_dir() else path
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; make it and put the audio there first.")
    seen: set[tuple[str, str]] = set()
    lines = [json.dumps(_row(u, path.parent, seen), ensure_ascii=False) + "\n" for u in utterances]
    if not lines:
        raise InputError(f"there is nothing to write to {path}; give at least one utterance.")
    partial_path = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial_path.write_text("".join(lines), encoding="utf-8", newline="\n")
        os.replace(partial_path, path)
    except UnicodeEncodeError as error:
        broken = shown(error.object[error.start : error.end])
        raise InputError(f"a text or name holds {broken}, which is not valid Unicode; correct it.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); free the disk or choose a folder.") from None
    finally:
        partial_path.unlink(missing_ok=True)


def _row(utterance: Utterance, folder: Path, seen: set[tuple[str, str]]) -> dict[str, Any]:
    audio = Path(os.path.realpath(utterance.path.parent)) / utterance.path.name
    try:
        relative = audio.relative_to(os.path.realpath(folder)).as_posix()
    except ValueError:
        raise InputError(f"{utterance.path} lies outside {folder}; move it into the folder of the manifest.") from None
    if not (math.isfinite(utterance.duration_s) and utterance.duration_s > 0):
        raise InputError(f"{utterance.path} lasts {utterance.duration_s:g} s; a duration must be above 0, correct it.")
    for kind, value in (("id", utterance.id), ("file", relative)):
        if (kind, value) in seen:
            raise InputError(f"the {kind} {shown(value)} comes twice; rename or remove one of the two.")
        seen.add((kind, value))
    row = {"id": utterance.id, "audio_filepath": relative, "duration": utterance.duration_s, "text": utterance.text}
    facts = {key: getattr(utterance, key) for key in ("label", "speaker", "lang", "accent", "gender", "age")}
    return row | {key: value for key, value in facts.items() if value is not None}
