"""Trials of speaker verification: which clips enrol a voice, and which clips are held against it.

Drawn trials enrol every speaker of a corpus with K clips and hold all other clips of everybody against the voice, in
several draws of the clips that enrol. A list names each trial, as those of VoxCeleb (Nagrani et al. 2017) do. No clip
is ever on both sides of a trial.
"""

import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from ..contracts import InputError, Utterance
from ..data.axes import AXES, age_band
from ..data.layouts import shown

TextMode = Literal["any", "dependent", "independent"]
NEAR_AGE_YEARS = 5
"""Two people are of the same age within so many years, or in the same group of ages where years are not known."""
MAX_OTHERS = 2_000_000
"""Trials of two people in a draw, at most: beyond, some are left out by lot, and those of one person never."""
MAX_CELLS = 1 << 20
"""Voices times clips of a block: its features are held in memory together."""
MAX_LIST_BYTES = 500_000_000

_ENROL, _THIN = 1, 2
"""Streams of randomness beside the seed."""


@dataclass(frozen=True)
class People:
    """Whose voices a corpus holds."""

    names: tuple[str, ...]
    of_clip: Int[np.ndarray, " N"]
    """Speaker of each clip, as a place in ``names``."""
    gender: tuple[str | None, ...]
    age: tuple[str | None, ...]

    def same_gender(self) -> Bool[np.ndarray, "S S"]:
        """Of which two people it is known that they are of one gender."""
        return np.array([[a is not None and a == b for b in self.gender] for a in self.gender], bool)

    def same_age(self) -> Bool[np.ndarray, "S S"]:
        """Of which two people it is known that they are of about one age."""
        return np.array([[near_in_age(a, b) for b in self.age] for a in self.age], bool)


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice as it is enrolled."""

    speaker: int
    clips: Int[np.ndarray, " K"]
    draw: int = 0


@dataclass(frozen=True)
class Block:
    """Voices and the clips that are held against them; ``is_trial`` says which pairs are asked."""

    voices: tuple[Voice, ...]
    tests: Int[np.ndarray, " n"]
    is_trial: Bool[np.ndarray, "n V"]


# -------------------------------------------------------------------------------------------------------------- people


def people_of(utterances: Sequence[Utterance]) -> People:
    """The speakers of a corpus.

    Raises:
        InputError: a recording that names no speaker, or fewer than two speakers.
    """
    unnamed = [utterance.id for utterance in utterances if not utterance.speaker]
    if unnamed:
        raise InputError(
            f"{len(unnamed)} of {len(utterances)} recordings name no speaker, the first being {shown(unnamed[0])}; add "
            "speaker to their rows, or leave them out."
        )
    spoken_by = [utterance.speaker or "" for utterance in utterances]
    names = tuple(sorted(set(spoken_by)))
    if len(names) < 2:
        raise InputError(
            f"The recordings are by {len(names)} speaker, and telling voices apart takes two; add recordings of others."
        )
    place = {name: number for number, name in enumerate(names)}
    gender: list[str | None] = [None] * len(names)
    age: list[str | None] = [None] * len(names)
    for utterance, name in zip(utterances, spoken_by, strict=True):
        gender[place[name]] = gender[place[name]] or AXES["gender"](utterance)
        age[place[name]] = age[place[name]] or utterance.age
    return People(names, np.array([place[name] for name in spoken_by]), tuple(gender), tuple(age))


def near_in_age(a: str | None, b: str | None) -> bool:
    """Whether two ages are known to be within five years, or to be one group such as ``30-40``, or one decade."""
    if a is None or b is None:
        return False
    if a.isdecimal() and b.isdecimal():
        return abs(int(a) - int(b)) <= NEAR_AGE_YEARS
    if a.strip().casefold() == b.strip().casefold():
        return True
    return age_band(a) is not None and age_band(a) == age_band(b)


def words_of(utterances: Sequence[Utterance]) -> list[str]:
    """What is said in each recording, as it is compared: the text without case and spacing, or else the label.

    Raises:
        InputError: one that says neither.
    """
    found = [" ".join((one.text or one.label or "").casefold().split()) for one in utterances]
    if not all(found):
        raise InputError(
            f"{found.count('')} of {len(found)} recordings have neither text nor label, so that nobody knows what they "
            "say; add them to their rows, or ask for --text any."
        )
    return found


# --------------------------------------------------------------------------------------------------------------- drawn


def drawn_blocks(
    people: People, utterances: Sequence[Utterance], enrol: int, draws: int, seed: int, text: TextMode = "any"
) -> list[Block]:
    """Every speaker enrolled with ``enrol`` clips in each draw, and every other clip held against every voice.

    ``text``: with ``dependent`` a voice is enrolled with clips that say one word and tested with that word, for
    every word of the corpus; with ``independent`` no test says what an enrolled clip says. What a speaker is enrolled
    with depends on the seed, the draw and the speaker alone, and not on who else is there.

    Raises:
        InputError: fewer than two speakers can be enrolled and asked again.
    """
    words = words_of(utterances) if text != "any" else [""] * len(utterances)
    code = np.unique(np.asarray(words), return_inverse=True)[1]
    groups = [np.flatnonzero(code == one) for one in range(code.max() + 1)] if text == "dependent" else None
    blocks: list[Block] = []
    for draw in range(draws):
        for where in groups or [np.arange(len(utterances))]:
            voices = list(_enrolled(people, utterances, where, enrol, draw, seed))
            if voices:
                blocks += _held_against(people, voices, where, None if text != "independent" else code, seed)
    n_enrolled = len({voice.speaker for block in blocks for voice in block.voices})
    if n_enrolled < 2:
        largest = max(Counter(people.of_clip.tolist()).values())
        which = " of one word" if text == "dependent" else ""
        raise InputError(
            f"{n_enrolled} of {len(people.names)} speakers have the {enrol + 1} clips{which} that {enrol} to enrol and "
            f"one to test need, and trials take two speakers (the most clips of any speaker are {largest}); ask for a "
            "smaller --enroll or add recordings."
        )
    return blocks


def _enrolled(
    people: People, utterances: Sequence[Utterance], where: Int[np.ndarray, " n"], enrol: int, draw: int, seed: int
) -> Iterator[Voice]:
    """A voice of each speaker who has a clip left to be tested with."""
    speaker = people.of_clip[where]
    for one in np.unique(speaker):
        clips = where[speaker == one]
        if len(clips) <= enrol:
            continue
        ids = sorted(clips.tolist(), key=lambda place: utterances[place].id)
        key = zlib.crc32(f"{people.names[one]} {utterances[ids[0]].id}".encode())
        chosen = np.random.default_rng([seed, _ENROL, draw, key]).permutation(len(ids))[:enrol]
        yield Voice(int(one), np.sort(np.asarray(ids)[chosen]), draw)


def _held_against(
    people: People, voices: Sequence[Voice], tests: Int[np.ndarray, " n"], word: np.ndarray | None, seed: int
) -> Iterator[Block]:
    """The voices with all clips at ``tests`` that did not enrol them; ``word`` of each clip, where it must differ."""
    share = MAX_OTHERS / (len(voices) * len(tests))
    step = max(1, MAX_CELLS // len(tests))
    for start in range(0, len(voices), step):
        some = tuple(voices[start : start + step])
        asked = np.ones((len(tests), len(some)), bool)
        if share < 1:
            rng = np.random.default_rng([seed, _THIN, some[0].draw, start])
            own = people.of_clip[tests][:, None] == np.array([voice.speaker for voice in some])
            asked = own | (rng.random(asked.shape) < share)
        for column, voice in enumerate(some):
            asked[np.isin(tests, voice.clips), column] = False
            if word is not None:
                asked[np.isin(word[tests], word[voice.clips]), column] = False
        yield Block(some, tests, asked)


# -------------------------------------------------------------------------------------------------------------- listed


def listed_blocks(path: Path, people: People, utterances: Sequence[Utterance], root: Path) -> list[Block]:
    """The trials of a list: a line each with 1 (one person) or 0 (two), the clip that enrols and the clip that tests.

    A clip is named by its path below ``root``, the folder of the corpus, with or without its suffix, or by its id.

    Raises:
        InputError: a line that is no trial, names an unknown clip or the same one twice, or contradicts the speakers
            of the corpus; a list without trials of either kind.
    """
    known = _names_of_clips(utterances, root)
    pairs: set[tuple[int, int]] = set()
    for number, line in _lines_of(path):
        place = f"{path}:{number}"
        fields = line.split()
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise InputError(
                f"{place}: {shown(line.strip())} is no trial; write 1 or 0, the clip that enrols and the clip that "
                "tests, with spaces between them and none in them."
            )
        for name in fields[1:]:
            if name not in known:
                raise InputError(
                    f"{place}: {shown(name)} is no recording of the corpus {root.name}; write its path as in the "
                    "manifest, or its id."
                )
        enrolled, test = known[fields[1]], known[fields[2]]
        if enrolled == test:
            raise InputError(f"{place}: {shown(fields[1])} is on both sides of the trial; take the line out.")
        same = people.of_clip[enrolled] == people.of_clip[test]
        if same != (fields[0] == "1"):
            speakers = [people.names[people.of_clip[clip]] for clip in (enrolled, test)]
            said = "one person" if fields[0] == "1" else "two people"
            raise InputError(
                f"{place}: the trial says {said}, and the speakers in the manifest are {shown(speakers[0])} and "
                f"{shown(speakers[1])}; correct one of the two."
            )
        pairs.add((enrolled, test))
    n_target = sum(people.of_clip[enrolled] == people.of_clip[test] for enrolled, test in pairs)
    if not n_target or n_target == len(pairs):
        raise InputError(
            f"{path} has {n_target} trials of one person and {len(pairs) - n_target} of two; give some of each."
        )
    return _blocks_of(sorted(pairs), people)


def _lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank."""
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise InputError(f"{path} has more than {MAX_LIST_BYTES:,} bytes; name a list of trials, one a line.")
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, unicodedata.normalize("NFC", line)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name a list of trials, one a line.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; save it again, one trial a line.") from None


def _names_of_clips(utterances: Sequence[Utterance], root: Path) -> dict[str, int]:
    """Every name that a clip may be called by; a name that two clips might have is nobody's."""
    found: dict[str, int] = {}
    twice: set[str] = set()
    for number, utterance in enumerate(utterances):
        relative = utterance.path.relative_to(root) if utterance.path.is_relative_to(root) else utterance.path
        for name in {utterance.id, relative.as_posix(), relative.with_suffix("").as_posix()}:
            key = unicodedata.normalize("NFC", name)
            if found.setdefault(key, number) != number:
                twice.add(key)
    return {name: number for name, number in found.items() if name not in twice}


def _blocks_of(pairs: Sequence[tuple[int, int]], people: People) -> list[Block]:
    """Sorted pairs of clips as blocks: some voices with all that is held against any of them."""
    by_voice = [(clip, [test for _, test in group]) for clip, group in groupby(pairs, key=lambda pair: pair[0])]
    blocks = []
    start = 0
    while start < len(by_voice):
        end, tests = start, set[int]()
        while end < len(by_voice) and (end - start + 1) * len(tests | set(by_voice[end][1])) <= MAX_CELLS // 16:
            tests |= set(by_voice[end][1])
            end += 1
        if end == start:
            tests, end = set(by_voice[start][1]), start + 1
        clips = np.array(sorted(tests))
        asked = np.stack([np.isin(clips, mine) for _, mine in by_voice[start:end]], axis=1)
        voices = tuple(Voice(int(people.of_clip[clip]), np.array([clip])) for clip, _ in by_voice[start:end])
        blocks.append(Block(voices, clips, asked))
        start = end
    return blocks
