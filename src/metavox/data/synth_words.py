"""What synthetic speech says: names of places, languages, scripts, currencies, months and days (CLDR), and numbers.

Where CLDR has no words of a language, words are invented from its syllables. A word is kept when espeak-ng reads it
in its own language, as a word and not by the names of its letters, and unlike every other word kept.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from zlib import crc32

import numpy as np

from ..contracts import InputError
from .synth_languages import LANGUAGES, Language, Syllables, find_language

NUMBERS = (*range(21), *range(30, 101, 10), 1000)
"""Numbers that are spoken. Their text and label are the digits; espeak-ng says them in the language."""

MIN_LETTERS, MAX_LETTERS = 2, 14
MIN_SOUNDS, MAX_SOUNDS = 3, 24
"""Letters of the IPA string, so a long vowel counts once."""
N_INVENTED = 600
"""Words invented for a language that CLDR has none of."""

_ALPHABETS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "GEORGIAN", "ARABIC", "HEBREW")
_SYLLABARIES = ("HANGUL", "CJK", "KATAKANA", "HIRAGANA", "ETHIOPIC")
"""Scripts whose signs are named as they are read."""
_ORDINARY, _ENOUGH = 0.7, 5
"""A letter whose name is heard in more than this share of its words, of this many, is read so: я is called ja, and
says ja."""


# ----------------------------------------------------------------------------------------------------- where words are


def candidates(code: str) -> list[str]:
    """Words of a language from CLDR, sorted: one script, 2 to 14 letters, lower case, NFC; then the invented ones.

    An accent has those of its language. Raises InputError when babel is not installed or the code is unknown.
    """
    language = find_language(find_language(code).base)
    found = _from_cldr(language) if language.locale else []
    if language.syllables is not None:
        found += sorted(set(invented(language.syllables, language.code)) - set(found))
    if language.misread:
        found = [word for word in found if not re.search(language.misread, word)]
    return found


def _from_cldr(language: Language) -> list[str]:
    try:
        from babel import Locale
        from babel.dates import get_day_names, get_month_names
    except ImportError:
        raise InputError('Words for synthetic speech need babel; pip install "metavox[demo]".') from None
    locale = Locale.parse(language.locale)
    # The context "format" and not "stand-alone": babel 2.18 gives stand-alone names of the language read before.
    names = [
        *(name for table in (locale.territories, locale.languages, locale.scripts) for name in table.values()),
        *locale.currencies.values(),
        *get_month_names("wide", "format", locale).values(),
        *get_day_names("wide", "format", locale).values(),
    ]
    dotted = {"tr", "az"}  # where I and i are different letters
    words = {_lower(str(name), language.code in dotted) for name in names}
    scripts = Counter(script for word in words for script in _scripts(word))
    own = scripts.most_common(1)[0][0]
    return sorted(word for word in words if _is_word(word, language.max_words) and _scripts(word) == {own})


def invented(syllables: Syllables, code: str, n_words: int = N_INVENTED) -> list[str]:
    """Words of two or three syllables, NFC; the same ones whenever they are asked for. They mean nothing."""
    rng = np.random.default_rng([crc32(code.encode()), 3])
    words: dict[str, None] = {}
    for _ in range(4 * n_words):  # enough, also where there are few syllables
        parts = [
            syllables.onsets[rng.integers(len(syllables.onsets))]
            + syllables.nuclei[rng.integers(len(syllables.nuclei))]
            for _ in range(int(rng.integers(2, 4)))
        ]
        ending = syllables.endings[rng.integers(len(syllables.endings))]
        words[unicodedata.normalize("NFC", syllables.between.join(parts) + ending)] = None
        if len(words) == n_words:
            break
    return list(words)


def _lower(name: str, dotted: bool) -> str:
    if dotted:
        name = name.replace("İ", "i").replace("I", "ı")
    return unicodedata.normalize("NFC", name.lower().strip())


def _scripts(word: str) -> set[str]:
    """First words of the Unicode names of the letters: LATIN, HANGUL. The long mark of kana belongs to both."""
    letters = [char for char in word if unicodedata.category(char).startswith("L") and char != "ー"]
    return {unicodedata.name(char, "?").split()[0] for char in letters}


def _is_word(word: str, max_words: int) -> bool:
    letters = word.replace(" ", "")
    return (
        MIN_LETTERS <= len(letters) <= MAX_LETTERS
        and len(word.split(" ")) <= max_words
        and all(unicodedata.category(char) in {"Ll", "Lo", "Mn", "Mc"} or char == "ー" for char in letters)
    )


# ---------------------------------------------------------------------------------------- what can be told apart by ear


Ask = Callable[[Sequence[str]], Sequence[str]]
"""How espeak-ng reads each of some texts, in IPA."""


def told_apart(texts: Sequence[str], ask: Ask) -> dict[str, str]:
    """The texts that can be told apart by ear, in their order, and how each is read (see ``readable``)."""
    asked = [*texts, *alphabet([text for text in texts if not text.isdecimal()])]
    phonemes = dict(zip(asked, ask(asked), strict=True))
    more = remainders(texts, phonemes)
    if more:
        phonemes |= zip(more, ask(more), strict=True)
    return {word: phonemes[word] for word in readable(texts, phonemes)}


def alphabet(words: Sequence[str]) -> list[str]:
    """Every letter of the words, sorted: what ``readable`` wants to know the names of."""
    return sorted({char for word in words for char in word if char != " "})


def remainders(words: Sequence[str], phonemes: Mapping[str, str]) -> list[str]:
    """What is left of words beside a letter whose name may be heard in them, sorted: ``readable`` wants it too."""
    suspects = _suspects(words, phonemes)
    return sorted(
        {part for word, i in suspects for part in (word[:i], word[i + 1 :]) if part.strip() and part not in phonemes}
    )


def readable(words: Sequence[str], phonemes: Mapping[str, str]) -> list[str]:
    """The words that can be told apart by ear, in their order.

    ``phonemes``: how each word is read, each letter of the words (``alphabet``), and what is left of suspicious words
    (``remainders``). Left out are words that espeak-ng reads in another language, those with a letter that is read by
    its name, those without a vowel, those that are very short or long to the ear, and every word that sounds like one
    before it, stress and tone included.
    """
    spelled = set(_spelled(words, phonemes))
    heard: set[str] = set()
    kept = []
    for word in words:
        sound = phonemes[word]
        wrong_length = not (2 if word.isdecimal() else MIN_SOUNDS) <= _n_sounds(sound) <= MAX_SOUNDS
        voiceless = "ˈ" not in sound and "ˌ" not in sound  # stress marks stand at vowels
        if "(" in sound or wrong_length or voiceless or sound in heard or word in spelled:
            continue
        heard.add(sound)
        kept.append(word)
    return kept


def _suspects(words: Sequence[str], phonemes: Mapping[str, str]) -> list[tuple[str, int]]:
    """Words and the position of a letter whose name, of several sounds, is heard in them."""
    holders = Counter(char for word in words for char in set(word))
    found = []
    for word in words:
        sound = _bare(phonemes[word])
        for i, char in enumerate(word):
            name = _name(char, phonemes)
            if name and name in sound:
                found.append((word, i))
    hits = Counter(char for _, char in {(word, word[i]) for word, i in found})
    ordinary = {
        char
        for char, n_hits in hits.items()
        if n_hits > _ORDINARY * holders[char]
        and holders[char] >= _ENOUGH
        and len(_name(char, phonemes)) <= 3
        and not unicodedata.category(char).startswith("M")
    }
    return [(word, i) for word, i in found if word[i] not in ordinary]


def _name(char: str, phonemes: Mapping[str, str]) -> str:
    """How a letter is called, where that is more than its sound; else nothing."""
    script = unicodedata.name(char, "?").split()[0]
    if char == " " or char.isdecimal() or script in _SYLLABARIES:
        return ""
    name = _bare(phonemes[char])
    if script in _ALPHABETS:
        return name if len(name) >= 2 else ""
    return name if len(name) >= (4 if unicodedata.category(char).startswith("M") else 5) else ""  # kha is a sound


def _spelled(words: Sequence[str], phonemes: Mapping[str, str]) -> Iterator[str]:
    """Words in which a letter is read by its name, as all of `USA` and the first of `rwanda` in German.

    espeak-ng says a word in more parts than its blanks make where it spells it. Else, in an alphabet, the word sounds
    like the name and the rest of the word, read alone, in a row (now and then by chance: that word is lost); in an
    Indic script the name is heard, as no word there says `ikar` for a sign but by mistake.
    """
    for word in words:
        one_sign_one_part = word.isdecimal() or _scripts(word) & set(_SYLLABARIES)
        if not one_sign_one_part and len(phonemes[word].split()) > len(word.split()):
            yield word
    for word, i in _suspects(words, phonemes):
        if not unicodedata.name(word[i], "?").startswith(_ALPHABETS):
            yield word
            continue
        before, after = (_bare(phonemes[part]) if part.strip() else "" for part in (word[:i], word[i + 1 :]))
        if _bare(phonemes[word]) == before + _name(word[i], phonemes) + after:
            yield word


def _bare(sound: str) -> str:
    return "".join(char for char in sound if unicodedata.category(char).startswith("L") and char not in "ˈˌː")


def _n_sounds(sound: str) -> int:
    return sum(unicodedata.category(char) == "Ll" or unicodedata.category(char) == "Lo" for char in sound)


# ----------------------------------------------------------------------------------------------------- which are said


def choose(
    code: str,
    words: Sequence[str],
    n_words: int,
    numbers_share: float,
    seed: int,
    allowed: Collection[str] | None = None,
) -> list[str]:
    """``n_words`` of the readable words of a language, of which a share are numbers where there are as many.

    A language's choice depends on the seed and on nothing of the other languages, and a larger ``n_words`` adds to a
    smaller one's. An accent chooses from the ``words`` of its language those that are ``allowed``, so that both say
    nearly the same. Raises InputError when the language has fewer words.
    """
    language = LANGUAGES[code]
    n_there = len(words) if allowed is None else sum(word in allowed for word in words)
    if n_there < n_words:
        raise InputError(
            f"{language.name} has {n_there} words that can be told apart and n_words is {n_words}; "
            f"ask for at most {n_there}, or leave {code} out."
        )
    rng = np.random.default_rng([seed, crc32(language.base.encode())])
    numbers = [word for word in words if word.isdecimal()]
    names = [word for word in words if not word.isdecimal()]
    numbers, names = ([some[i] for i in rng.permutation(len(some))] for some in (numbers, names))
    if allowed is not None:
        numbers, names = ([word for word in some if word in allowed] for some in (numbers, names))
    n_numbers = min(len(numbers), max(round(numbers_share * n_words), n_words - len(names)))
    return numbers[:n_numbers] + names[: n_words - n_numbers]
