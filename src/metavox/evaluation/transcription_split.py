"""What a recogniser adapts to and what it is tested on: apart by clip, by sentence and, where it can be, by speaker.

A split depends on its seed and on the recordings, never on the order of their rows. That the two sides share nothing
is proved on every split before anything is computed from it.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal
from unicodedata import category, normalize

import numpy as np
from jaxtyping import Int

from ..contracts import InputError, Utterance
from ..data.layouts import printable, shown
from ..text.languages import iso_639_3
from ..transcription.adapting import MIN_UTTERANCES

MIN_TEST = 10
"""Fewer test utterances than this say nothing."""
TEST_SHARE = 1 / 3
"""Share of the recordings of one corpus that the test gets, about."""

Way = Literal["speaker", "sentence", "test corpus"]
Draws = Mapping[tuple[float, int], Int[np.ndarray, " _"]]
"""Positions in a pool by minutes and seed."""

_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Split:
    """A test, and a pool that supports are drawn from. They share no clip and no sentence."""

    test: tuple[Utterance, ...]
    pool: tuple[Utterance, ...]
    way: Way
    """``speaker``: they share no speaker either."""
    n_test_all: int
    """Test utterances there were, of which at most ``max_test`` were taken."""
    n_dropped: int
    """Recordings that were left out of the pool because the test says the same."""
    n_shared_speakers: int | None
    """Speakers on both sides; None where somebody is not named."""

    @property
    def pool_s(self) -> float:
        """Seconds of recordings in the pool."""
        return math.fsum(u.duration_s for u in self.pool)


def sentence_key(text: str) -> str:
    """What two texts share that say the same: letters, marks and numbers, without case, spaces and punctuation."""
    folded = normalize("NFD", text).casefold()
    return normalize("NFC", "".join(char for char in folded if category(char)[0] in "LMN"))


def in_language(utterances: Sequence[Utterance], lang: str) -> list[Utterance]:
    """Those in a language, and those that do not say theirs, which are taken to be in it.

    Raises:
        InputError: no language code, or nobody speaks the language.
    """
    code, asked = iso_639_3(lang), lang.strip().casefold()
    there = sorted({u.lang for u in utterances if u.lang})
    if code is None and asked not in {name.casefold() for name in there}:
        raise InputError(
            f"--lang is {shown(lang)}, which is no language code; give two or three letters, such as ml or mal."
        )
    kept = [
        replace(u, lang=u.lang or lang.strip())
        for u in utterances
        if not u.lang or u.lang.casefold() == asked or (code is not None and iso_639_3(u.lang) == code)
    ]
    if not kept:
        raise InputError(
            f"--lang is {shown(lang)} and none of the {len(utterances)} recordings is in it; choose one of "
            f"{printable(', '.join(there))}."
        )
    return kept


# --------------------------------------------------------------------------------------------------------------- split


def split_corpus(utterances: Sequence[Utterance], seed: int, max_test: int) -> Split:
    """About a third of a corpus to test on, whole speakers where two or more are named in every row, else sentences.

    What the test says is dropped from the rest, which is the pool.

    Raises:
        InputError: fewer than ten test utterances, nothing left for the pool, or one clip on both sides.
    """
    ordered = sorted(utterances, key=lambda u: u.id)
    speakers = {u.speaker for u in ordered}
    by_speaker = len(speakers) >= 2 and all(speakers)
    groups = [str(u.speaker) if by_speaker else sentence_key(u.text) for u in ordered]
    chosen = _about_a_third(Counter(groups), seed)
    test = [u for u, group in zip(ordered, groups, strict=True) if group in chosen]
    rest = [u for u, group in zip(ordered, groups, strict=True) if group not in chosen]
    if len(test) < MIN_TEST:
        n_sentences = len({sentence_key(u.text) for u in ordered})
        who = f"{len(speakers)} speakers" if by_speaker else "one speaker" if all(speakers) else "speakers not named"
        raise InputError(
            f"The corpus has {len(ordered)} recordings of {n_sentences} sentences by {who}, which leave {len(test)} "
            f"utterances to test on, and {MIN_TEST} are the least; add recordings of other sentences or give a "
            "--test-corpus."
        )
    return _split(test, rest, "speaker" if by_speaker else "sentence", seed, max_test)


def split_given(support: Sequence[Utterance], test: Sequence[Utterance], seed: int, max_test: int) -> Split:
    """A corpus to adapt to and another to test on; what the test says is dropped from the first.

    Raises:
        InputError: fewer than ten test utterances, nothing left for the pool, or one clip in both.
    """
    if len(test) < MIN_TEST:
        raise InputError(
            f"The test corpus has {len(test)} utterances and {MIN_TEST} are the least; add recordings to it."
        )
    support, test = (sorted(some, key=lambda u: u.id) for some in (support, test))
    require_no_shared_clip(support, test)
    return _split(test, support, "test corpus", seed, max_test)


def _about_a_third(sizes: Mapping[str, int], seed: int) -> set[str]:
    """Groups in random order, each taken where that brings the sum nearer to a third; at least one is left."""
    names, target, n = sorted(sizes), TEST_SHARE * sum(sizes.values()), 0
    chosen = set()
    for index in np.random.default_rng([seed, 0]).permutation(len(names)):
        size = sizes[names[index]]
        if abs(n + size - target) < abs(n - target):
            chosen.add(names[index])
            n += size
    return chosen


def _split(test: Sequence[Utterance], rest: Sequence[Utterance], way: Way, seed: int, max_test: int) -> Split:
    tested = {sentence_key(u.text) for u in test}
    pool = [u for u in rest if sentence_key(u.text) not in tested]
    if not pool:
        raise InputError(
            f"The test says everything that the other {len(rest)} recordings say, so that none is left to adapt to; "
            "give a --test-corpus of other sentences, or a corpus with more of them."
        )
    order = np.random.default_rng([seed, 1]).permutation(len(test))[:max_test]
    kept = [test[index] for index in sorted(order.tolist())]
    prove_disjoint(pool, kept, by_speaker=way == "speaker")
    sides = [{u.speaker for u in side} for side in (pool, kept)]
    known = all(None not in side for side in sides)
    shared = len(sides[0] & sides[1]) if known else None
    return Split(tuple(kept), tuple(pool), way, len(test), len(rest) - len(pool), shared)


# --------------------------------------------------------------------------------------------------------------- proof


def prove_disjoint(pool: Sequence[Utterance], test: Sequence[Utterance], *, by_speaker: bool) -> None:
    """Raise InputError, and name what it is, where a pool and a test share a clip, a sentence or a speaker.

    ``by_speaker``: they must share no speaker, and everybody must be named.
    """
    require_no_shared_clip(pool, test)
    shared = sorted({sentence_key(u.text) for u in pool} & {sentence_key(u.text) for u in test})
    if shared:
        raise InputError(f"The sentence {shown(shared[0])} is in the support and in the test; split them again.")
    if by_speaker:
        sides = [{u.speaker or "" for u in side} for side in (pool, test)]
        both = sorted((sides[0] & sides[1]) | ({""} & (sides[0] | sides[1])))
        if both:
            raise InputError(f"The speaker {shown(both[0])} may be in the support and in the test; split them again.")


def require_no_shared_clip(pool: Sequence[Utterance], test: Sequence[Utterance]) -> None:
    """Raise InputError where a file, or one with the same bytes under another name, is on both sides."""
    sizes: dict[int, list[Utterance]] = defaultdict(list)
    for u in test:
        sizes[_size(u)].append(u)
    digests: dict[str, str] = {}

    def digest(u: Utterance) -> str:
        name = str(u.path)
        if name not in digests:
            digests[name] = hashlib.sha256(u.path.read_bytes()).hexdigest()
        return digests[name]

    for u in pool:
        same = next((other for other in sizes.get(_size(u), ()) if digest(other) == digest(u)), None)
        if same is not None:
            raise InputError(
                f"The recording {printable(str(u.path))} is also {printable(str(same.path))} of the test, and a test "
                "on what was learned from says nothing; take it out of one of the two."
            )


def _size(u: Utterance) -> int:
    try:
        return u.path.stat().st_size
    except OSError as err:
        raise InputError(
            f"{printable(str(u.path))} cannot be read ({err.strerror}); restore it or drop its row."
        ) from None


# --------------------------------------------------------------------------------------------------------------- draws


def draw_supports(split: Split, minutes: Sequence[float], n_seeds: int, seed: int) -> Draws:
    """Positions in the pool for each of ``minutes`` above 0 and each seed: as many utterances as reach them.

    Those of one seed are nested: one minute is the beginning of five.

    Raises:
        InputError: more minutes than the pool has, or a draw of fewer than three utterances.
    """
    positive = [m for m in minutes if m > 0]
    most = math.floor((split.pool_s + _ROUNDING_S) / 60 * 100) / 100
    if positive and 60 * max(positive) > split.pool_s + _ROUNDING_S:
        left_out = f" ({split.n_dropped} recordings were left out: the test says the same)" if split.n_dropped else ""
        raise InputError(
            f"--minutes is {max(positive):g} and the recordings to adapt to last {most:g} minutes{left_out}; ask for "
            f"at most {most:g} or add recordings."
        )
    found: dict[tuple[float, int], np.ndarray] = {}
    for number in range(n_seeds):
        order = np.random.default_rng([seed, 2, number]).permutation(len(split.pool))
        reached_s = list(accumulate(split.pool[index].duration_s for index in order.tolist()))
        for m in positive:
            n = int(np.searchsorted(reached_s, 60 * m - _ROUNDING_S)) + 1
            if n < MIN_UTTERANCES:
                raise InputError(
                    f"--minutes is {m:g}, which is {n} of the recordings, and {MIN_UTTERANCES} are the least to adapt "
                    "to; ask for more minutes."
                )
            found[m, number] = order[:n]
    return found
