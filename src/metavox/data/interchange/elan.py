"""ELAN: annotations of chosen tiers, with the times that ELAN would show, beside their recordings."""

import os
from collections.abc import Generator, Iterator
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

from ...contracts import InputError
from ..layouts import printable, shown
from .clips import AUDIO_SUFFIXES, Clips
from .eaf import Annotation, Document, Tier, read_eaf
from .segments import Options, Segment

MAX_REFERENCES = 100
"""Tiers, and so annotations that refer to one another, nest a handful deep."""
SUBDIVISION, ASSOCIATION = "Symbolic_Subdivision", "Symbolic_Association"


def is_elan(path: Path) -> bool:
    """Whether a path is an .eaf file or a folder with some, at any depth."""
    return bool(_documents(path, first=True))


def _documents(path: Path, first: bool = False) -> list[Path]:
    if not path.is_dir():
        return [path] if path.suffix.lower() == ".eaf" else []
    found = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        found += [Path(folder) / name for name in sorted(names) if name.lower().endswith(".eaf") and name[0] != "."]
        if found and first:
            break
    return found


def read_elan(path: Path, options: Options) -> Iterator[Segment]:
    """Segments of an .eaf file, or of a folder of them: one for each annotation with text of the tiers chosen.

    ``--tier`` names a tier or a linguistic type (all tiers of that type are read: one a speaker). Without it the tier
    with most annotations that hold letters is taken, and announced; tiers of words or glosses that only subdivide an
    utterance have no times of their own and come last. The participant of a tier, or of those above it, is the
    speaker. The language is the tier's own;
    else that of ``--lang``; else its locale, which in many files is just that of the keyboard.

    The recording is sought at its relative address, then by its name and by the name of the .eaf file beside it, and
    never outside the folder that was named.

    Raises:
        InputError: no .eaf file, one that cannot be read, a tier that no file has, an annotation that refers to none or
            to itself, or whose time is reversed or cannot be known.
    """
    files = _documents(path)
    if not files:
        raise InputError(f"{printable(str(path))} holds no .eaf file; name a file of ELAN or a folder with some.")
    return _read(files, path if path.is_dir() else path.parent, options)


def _read(files: list[Path], root: Path, options: Options) -> Generator[Segment, None, None]:
    clips = Clips(root)
    n_without, there = 0, set()
    taken: set[str] = set()
    for file in files:
        document = read_eaf(file)
        tiers = _chosen(document, options, taken)
        if not tiers:
            n_without += 1
            there |= set(document.tiers)
            continue
        audio, origin_s = _recording(document, file, clips)
        times = Times(document)
        prefix = file.relative_to(root).with_suffix("").as_posix()
        for tier in tiers:
            participant = next((t.participant for t in _with_parents(tier, document) if t.participant), None)
            for annotation in tier.annotations:
                if not annotation.text.strip():
                    continue
                begin_s, end_s = times.of(annotation)
                yield Segment(
                    id=f"{prefix}/{annotation.id}",
                    audio=audio,
                    start_s=begin_s + origin_s,
                    end_s=end_s + origin_s,
                    text=" ".join(annotation.text.split()),
                    speaker=participant,
                    lang=annotation.lang or tier.lang or options.lang or tier.locale,
                )
    if n_without == len(files):
        raise _no_tier(files, sorted(there), options.tier)
    if n_without and options.announce is not None:
        options.announce(f"{n_without} of {len(files)} .eaf files have no annotations in such a tier.")


def _no_tier(files: list[Path], there: list[str], tier: str | None) -> InputError:
    name = printable(files[0].name) if len(files) == 1 else f"None of {len(files)} .eaf files"
    if tier is None:
        return InputError(f"{name} has no annotation with text; annotate in ELAN first.")
    verb = "has" if len(files) > 1 else "has no annotations in"
    some = ", ".join(map(shown, there[:12])) + (", ..." if len(there) > 12 else "")
    return InputError(f"{name} {verb} the tier or type {shown(tier)}; choose one of {some or 'none'}.")


# -------------------------------------------------------------------------------------------------------------- tiers


def _chosen(document: Document, options: Options, taken: set[str]) -> list[Tier]:
    """The tiers to read; a choice that is not the user's is announced once, and added to ``taken``."""
    tiers = list(document.tiers.values())
    if options.tier is not None:
        named = [tier for tier in tiers if tier.id == options.tier]
        return named or [tier for tier in tiers if tier.kind == options.tier]
    counts = [(_is_timed(tier, document), sum(_has_letters(a.text) for a in tier.annotations)) for tier in tiers]
    filled = [index for index, (_, n_texts) in enumerate(counts) if n_texts]
    if not filled:
        return []
    best = max(filled, key=lambda index: (counts[index], -index))
    if options.announce is not None and len(filled) > 1 and tiers[best].id not in taken:
        others = ", ".join(f"{shown(tiers[i].id)} ({counts[i][1]})" for i in filled if i != best)
        options.announce(
            f"{document.name}: read the tier {shown(tiers[best].id)} with {counts[best][1]} annotations; --tier would "
            f"take another: {others}."
        )
    taken.add(tiers[best].id)
    return [tiers[best]]


def _has_letters(text: str) -> bool:
    return any(character.isalpha() for character in text)


def _is_timed(tier: Tier, document: Document) -> bool:
    """Whether the times of a tier are somebody's, and not an utterance cut in equal parts."""
    return all(document.constraints.get(t.kind) != SUBDIVISION for t in _with_parents(tier, document))


def _with_parents(tier: Tier, document: Document) -> list[Tier]:
    """The tier, its parent, and so on; not endlessly where they form a circle."""
    found = [tier]
    while len(found) < MAX_REFERENCES and (parent := document.tiers.get(found[-1].parent or "")) is not None:
        found.append(parent)
    return found


# -------------------------------------------------------------------------------------------------------------- times


class Times:
    """Begin and end of every annotation in seconds, as ELAN computes them.

    A time slot without a value lies between its neighbours of known time in the chain of annotations of its tier, at
    equal steps; parents are placed before their children. Annotations that refer have the time of their parent, cut
    in equal parts where several subdivide it.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._slots = {slot: time for slot, time in document.slots.items() if time is not None}
        self._order = {slot: number for number, slot in enumerate(document.slots)}
        for tier in self._parents_first():
            self._interpolate(tier)
        self._parts: dict[str, tuple[int, int]] = {}
        self._divided: set[str] = set()

    def of(self, annotation: Annotation) -> tuple[float, float]:
        """(begin, end) of an annotation in seconds, begin before end."""
        chain = [annotation]
        seen = {annotation.id}
        while (parent := chain[-1].parent) is not None:
            if parent in seen:
                raise self._document.wrong(f"the annotation {shown(annotation.id)} refers to itself")
            if len(chain) > MAX_REFERENCES:
                raise self._document.wrong(f"references nest more than {MAX_REFERENCES} deep at {shown(annotation.id)}")
            if parent not in self._document.annotations:
                raise self._document.wrong(f"the annotation {shown(chain[-1].id)} refers to {shown(parent)}, not there")
            seen.add(parent)
            chain.append(self._document.annotations[parent])
        begin, end = (self._slot(slot, chain[-1]) for slot in (chain[-1].begin, chain[-1].end))
        for step in reversed(chain[:-1]):
            self._subdivide(self._document.tiers[step.tier])
            index, n_parts = self._parts.get(step.id, (0, 1))
            begin, end = begin + (end - begin) * index / n_parts, begin + (end - begin) * (index + 1) / n_parts
        if not begin < end:
            raise self._document.wrong(f"the annotation {shown(annotation.id)} lasts from {begin:g} s to {end:g} s")
        return begin, end

    def _slot(self, slot: str | None, annotation: Annotation) -> float:
        if slot is None or slot not in self._order:
            raise self._document.wrong(f"the annotation {shown(annotation.id)} names the time slot {shown(slot)}")
        if slot not in self._slots:
            raise self._document.wrong(
                f"the time slot {shown(slot)} has no time, nor has any before or after it", "align it in ELAN"
            )
        return self._slots[slot]

    def _parents_first(self) -> list[Tier]:
        tiers = self._document.tiers
        depth: dict[str, int] = {}
        for tier in tiers.values():
            above: dict[str, None] = {}  # ordered, and quick to ask
            step: str | None = tier.id
            while step is not None and step in tiers and step not in depth and step not in above:
                above[step] = None
                step = tiers[step].parent
            if step in above:
                raise self._document.wrong(f"the tier {shown(tier.id)} is its own parent")
            start = depth.get(step or "", -1)
            depth |= {name: start + number for number, name in enumerate(reversed(above.keys()), 1)}
        return sorted(tiers.values(), key=lambda tier: depth[tier.id])

    def _interpolate(self, tier: Tier) -> None:
        spans = [(a.begin, a.end) for a in tier.annotations if a.begin in self._order and a.end in self._order]
        spans.sort(key=lambda span: (self._order[str(span[0])], self._order[str(span[1])]))
        chain = list(dict.fromkeys(str(slot) for span in spans for slot in span))
        known = [number for number, slot in enumerate(chain) if slot in self._slots]
        for left, right in pairwise(known):
            begin, end = self._slots[chain[left]], self._slots[chain[right]]
            for number in range(left + 1, right):
                self._slots[chain[number]] = begin + (end - begin) * (number - left) / (right - left)

    def _subdivide(self, tier: Tier) -> None:
        """Which part of how many each annotation of a subdividing tier is."""
        if tier.id in self._divided or self._document.constraints.get(tier.kind) == ASSOCIATION:
            return
        self._divided.add(tier.id)
        families: dict[str, list[Annotation]] = {}
        for annotation in tier.annotations:
            if annotation.parent is not None:
                families.setdefault(annotation.parent, []).append(annotation)
        for children in families.values():
            follower = {child.previous: child for child in children}
            ordered: list[Annotation] = []
            step = follower.pop(None, None)
            while step is not None:
                ordered.append(step)
                step = follower.pop(step.id, None)
            if len(ordered) != len(children):
                raise self._document.wrong(
                    f"the parts of the annotation {shown(children[0].parent)} in the tier {shown(tier.id)} do not "
                    "follow one another"
                )
            self._parts |= {child.id: (index, len(ordered)) for index, child in enumerate(ordered)}


# ---------------------------------------------------------------------------------------------------------- recordings


def _recording(document: Document, file: Path, clips: Clips) -> tuple[Path, float]:
    """The recording of a document within the source, and where in it the document's time starts, in seconds.

    Where it is not to be found, the path beside the document at which it was sought last.
    """
    here = os.path.relpath(file.parent, clips.root)
    media = sorted(document.media, key=lambda m: not _is_audio(m.mime, m.url or m.relative))
    for each in media:
        names = [unquote(each.relative.removeprefix("file:"))] if each.relative else []
        names += [PureWindowsPath(unquote(url)).name for url in (each.relative, each.url) if url]
        names += [os.path.splitext(name)[0] + suffix for name in names[-1:] for suffix in AUDIO_SUFFIXES]
        for name in names:
            if name.lower().endswith(AUDIO_SUFFIXES) and not os.path.isabs(name):
                relative = os.path.normpath(os.path.join(here, name))
                if clips.holds(relative):
                    return clips.find(relative, document.name), each.origin_s
    for suffix in AUDIO_SUFFIXES:
        relative = os.path.normpath(os.path.join(here, file.stem + suffix))
        if clips.holds(relative):
            return clips.find(relative, document.name), media[0].origin_s if len(media) == 1 else 0.0
    wanted = [PureWindowsPath(unquote(m.url or m.relative)).name for m in media] or [""]
    return file.parent.absolute() / ((wanted[0] or f"{file.stem}.wav").replace("\0", "?")), 0.0


def _is_audio(mime: str, url: str) -> bool:
    return mime.startswith("audio") or url.lower().endswith(AUDIO_SUFFIXES)
