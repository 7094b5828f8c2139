"""Hard tasks: words that differ in a sound or two.

A language's similar words are one dense neighbourhood: a seed word, the real words within two sounds of it, and
pseudo-words with one letter of the seed exchanged: first those that espeak-ng reads with exactly one sound exchanged,
added or lost (minimal pairs), then those two sounds away. Most pairs of them are one or two sounds apart, and none
more than four.

The choice is made when the corpus is made and not when an episode is drawn: nothing that draws episodes needs to know
of similarity, since with ``SynthSpec.similar`` = 1 every episode of a language is hard whatever it draws. Another seed
is another neighbourhood; a training that wants many takes many languages (each has its own) or several corpora.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from zlib import crc32

import numpy as np

from ..contracts import InputError

Sounds = tuple[str, ...]
Read = Callable[[Sequence[str]], Mapping[str, str]]
"""Texts to how each is read: those of them that can be told apart by ear, and no others."""

NEAR = 2
"""Sounds that a word may be away from the seed word."""
_N_SEEDS = 40
"""Words that are tried as the seed; the one with most real neighbours is taken."""
_MOST_READ = 1_000
"""Pseudo-words of a kind that are tried."""
_SEED_SOUNDS = (4, 8)
"""A shorter seed has few minimal pairs, a longer one is easily told by the rest of it."""


def sounds(phonemes: str) -> Sounds:
    """The sounds of an IPA string: a letter with what modifies it (length, aspiration, nasality, tone). No stress."""
    found: list[str] = []
    for char in phonemes:
        if char in "ˈˌ .|_" or char.isspace():
            continue
        kind = unicodedata.category(char)
        if found and (kind in ("Lm", "Mn", "Mc", "Nd") or char == "ː" or found[-1].endswith("͡")):
            found[-1] += char
        else:
            found.append(char)
    return tuple(found)


def distances(one: Sounds, others: Sequence[Sounds], most: int) -> list[int]:
    """Levenshtein distance in sounds from one word to each of the others; ``most + 1`` stands for all beyond."""
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        raise InputError('Similar synthetic words need rapidfuzz; pip install "metavox[demo]".') from None
    return [Levenshtein.distance(one, other, score_cutoff=most) for other in others]


def similar_words(code: str, phonemes: Mapping[str, str], seed: int, read: Read) -> list[str]:
    """Words of a language that are close to one another, the closest first: the seed word, real ones, pseudo-words.

    ``phonemes``: the readable words of the language and how each is read. ``read`` says how pseudo-words are read.
    The list depends on the seed and on nothing of other languages. No two of its words have the same sounds, stress
    left aside. Raises InputError when rapidfuzz is not installed.
    """
    rng = np.random.default_rng([seed, crc32(code.encode()), 4])
    names = [word for word in phonemes if not word.isdecimal()]
    said = {word: sounds(phonemes[word]) for word in names}
    centre = _seed_word(names, said, rng)
    away = dict(zip(names, distances(said[centre], [said[word] for word in names], NEAR), strict=True))
    found: dict[Sounds, str] = {}
    for word in sorted((word for word in names if away[word] <= NEAR), key=lambda word: away[word]):
        found.setdefault(said[word], word)
    invented: list[tuple[int, str, Sounds]] = []
    for group in _exchanged(centre, names):
        asked = [group[i] for i in rng.permutation(len(group))][:_MOST_READ]
        heard = {word: sounds(phonemes) for word, phonemes in read(asked).items() if word not in said}
        far = distances(said[centre], list(heard.values()), NEAR)
        invented += [(n, word, heard[word]) for n, word in zip(far, heard, strict=True) if n <= NEAR]
    for _, word, sound in sorted(invented, key=lambda row: row[0]):
        found.setdefault(sound, word)
    return list(found.values())


def _seed_word(names: Sequence[str], said: Mapping[str, Sounds], rng: np.random.Generator) -> str:
    """The one of some words, drawn at random, that has most real neighbours; of equals the first drawn."""
    least, most = _SEED_SOUNDS
    fit = [word for word in names if least <= len(said[word]) <= most and " " not in word] or list(names)
    tried = [fit[i] for i in rng.permutation(len(fit))[:_N_SEEDS]]
    everyone = [said[word] for word in names]
    return max(tried, key=lambda word: sum(far <= NEAR for far in distances(said[word], everyone, NEAR)))


def _exchanged(word: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The word with one letter (and the marks on it) exchanged, each list sorted: first those whose pairs of letters
    the language has, which look and sound like its words, then the others."""
    split = [_signs(name) for name in names]
    signs = sorted({sign for some in split for sign in some if sign != " "})
    pairs = {pair for some in split for pair in zip(["^", *some], [*some, "$"], strict=True)}
    own = _signs(word)
    usual: set[str] = set()
    unusual: set[str] = set()
    for i, old in enumerate(own):
        left, right = own[i - 1] if i else "^", own[i + 1] if i + 1 < len(own) else "$"
        for sign in signs:
            if old not in (sign, " "):
                text = unicodedata.normalize("NFC", "".join([*own[:i], sign, *own[i + 1 :]]))
                (usual if (left, sign) in pairs and (sign, right) in pairs else unusual).add(text)
    return sorted(usual), sorted(unusual - usual)


def _signs(word: str) -> list[str]:
    """Letters, each with its combining marks: what one keystroke of the script exchanges."""
    found: list[str] = []
    for char in word:
        if found and unicodedata.category(char).startswith("M"):
            found[-1] += char
        else:
            found.append(char)
    return found
