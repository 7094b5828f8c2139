"""What synthetic speech says: names of places, languages, scripts, currencies, months and days (CLDR), and numbers.

A word is kept when espeak-ng reads it in its own language, as a word, and unlike every other word kept.
"""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ..contracts import InputError


@dataclass(frozen=True, slots=True)
class Language:
    """Where a language's voice and words come from."""

    voice: str
    """Name of the voice in espeak-ng 1.52."""
    locale: str
    """Locale of CLDR."""
    name: str
    max_words: int = 2
    """Words between blanks in a text. Vietnamese writes a blank between syllables."""


LANGUAGES: Mapping[str, Language] = {
    "az": Language("az", "az", "Azerbaijani"),
    "cs": Language("cs", "cs", "Czech"),
    "cy": Language("cy", "cy", "Welsh"),
    "de": Language("de", "de", "German"),
    "el": Language("el", "el", "Greek"),
    "es": Language("es", "es", "Spanish"),
    "et": Language("et", "et", "Estonian"),
    "eu": Language("eu", "eu", "Basque"),
    "fi": Language("fi", "fi", "Finnish"),
    "fr": Language("fr", "fr", "French"),
    "hu": Language("hu", "hu", "Hungarian"),
    "hy": Language("hy", "hy", "Armenian"),
    "id": Language("id", "id", "Indonesian"),
    "is": Language("is", "is", "Icelandic"),
    "it": Language("it", "it", "Italian"),
    "ka": Language("ka", "ka", "Georgian"),
    "kk": Language("kk", "kk", "Kazakh"),
    "ko": Language("ko", "ko", "Korean"),
    "pl": Language("pl", "pl", "Polish"),
    "pt": Language("pt", "pt_PT", "Portuguese"),
    "ro": Language("ro", "ro", "Romanian"),
    "sw": Language("sw", "sw", "Swahili"),
    "tr": Language("tr", "tr", "Turkish"),
    "vi": Language("vi", "vi", "Vietnamese", max_words=4),
}
"""Languages that were checked. Those that evaluation meets in real speech (English, Arabic, Bengali, Lithuanian,
Mandarin, Hebrew, Malayalam, Yoruba) and their close relatives are left out on purpose."""

CORE_LANGUAGES = ("de", "es", "fi", "fr", "hu", "id", "pl", "sw", "tr", "vi")
"""Ten that are spread over families and sounds: the default."""

NUMBERS = (*range(21), *range(30, 101, 10), 1000)
"""Numbers that are spoken. Their text and label are the digits; espeak-ng says them in the language."""

MIN_LETTERS, MAX_LETTERS = 2, 14
MIN_SOUNDS, MAX_SOUNDS = 3, 24
"""Letters of the IPA string, so a long vowel counts once."""
_ALPHABETS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "GEORGIAN")


def find_language(code: str) -> Language:
    """The row of a code. Raises InputError that names the nearest codes."""
    if code in LANGUAGES:
        return LANGUAGES[code]
    names = {row.name.lower(): known for known, row in LANGUAGES.items()}
    asked = code.lower()
    near = [names[name] for name in difflib.get_close_matches(asked, names, n=2)]
    near += [known for known in difflib.get_close_matches(asked, LANGUAGES, n=3, cutoff=0.4) if known not in near]
    remedy = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(LANGUAGES)}."
    raise InputError(f"There is no synthetic language {code!r} among {len(LANGUAGES)}; {remedy}")


def candidates(code: str) -> list[str]:
    """Words of a language from CLDR, sorted: one script, 2 to 14 letters, lower case, NFC.

    Raises InputError when babel is not installed or the code is unknown.
    """
    language = find_language(code)
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
    words = {_lower(str(name), code in dotted) for name in names}
    scripts = Counter(script for word in words for script in _scripts(word))
    own = scripts.most_common(1)[0][0]
    return sorted(word for word in words if _is_word(word, language.max_words) and _scripts(word) == {own})


def _lower(name: str, dotted: bool) -> str:
    if dotted:
        name = name.replace("İ", "i").replace("I", "ı")
    return unicodedata.normalize("NFC", name.lower().strip())


def _scripts(word: str) -> set[str]:
    """First words of the Unicode names of the letters: LATIN, HANGUL."""
    return {unicodedata.name(char, "?").split()[0] for char in word if unicodedata.category(char).startswith("L")}


def _is_word(word: str, max_words: int) -> bool:
    letters = word.replace(" ", "")
    return (
        MIN_LETTERS <= len(letters) <= MAX_LETTERS
        and len(word.split(" ")) <= max_words
        and all(unicodedata.category(char) in {"Ll", "Lo", "Mn", "Mc"} for char in letters)
    )


def alphabet(words: Sequence[str]) -> list[str]:
    """Every letter of the words, sorted: what ``readable`` wants to know the names of."""
    return sorted({char for word in words for char in word if char != " "})


def readable(words: Sequence[str], phonemes: Mapping[str, str]) -> list[str]:
    """The words that can be told apart by ear, in their order.

    ``phonemes``: how each word, and each letter of the words, is read. Left out are words that espeak-ng reads in
    another language, that it spells letter by letter, that are very short or long to the ear, and every word that
    sounds like one before it.
    """
    heard: set[str] = set()
    kept = []
    for word in words:
        sound = phonemes[word]
        foreign = "(" in sound
        wrong_length = not (2 if word.isdecimal() else MIN_SOUNDS) <= _n_sounds(sound) <= MAX_SOUNDS
        if foreign or wrong_length or sound in heard or _is_spelled(word, phonemes):
            continue
        heard.add(sound)
        kept.append(word)
    return kept


def _bare(sound: str) -> str:
    return "".join(char for char in sound if unicodedata.category(char).startswith("L") and char not in "ˈˌː")


def _n_sounds(sound: str) -> int:
    return sum(unicodedata.category(char) == "Ll" or unicodedata.category(char) == "Lo" for char in sound)


def _is_spelled(word: str, phonemes: Mapping[str, str]) -> bool:
    """Whether a word is read as the names of its letters, as `USA` is. In a syllabary that is how to read it."""
    if word.isdecimal() or not unicodedata.name(word[0]).startswith(_ALPHABETS):
        return False
    return _bare(phonemes[word]) == "".join(_bare(phonemes[char]) for char in word if char != " ")


def choose(code: str, words: Sequence[str], n_words: int, numbers_share: float, seed: int) -> list[str]:
    """``n_words`` of the readable words of a language, of which a share are numbers where there are as many.

    A language's choice depends on the seed and on nothing of the other languages, and a larger ``n_words`` adds to a
    smaller one's. Raises InputError when the language has fewer words.
    """
    if len(words) < n_words:
        raise InputError(
            f"{LANGUAGES[code].name} has {len(words)} words that can be told apart and n_words is {n_words}; "
            f"ask for at most {len(words)}, or leave {code} out."
        )
    rng = np.random.default_rng([seed, crc32(code.encode())])
    numbers = [word for word in words if word.isdecimal()]
    names = [word for word in words if not word.isdecimal()]
    n_numbers = min(len(numbers), max(round(numbers_share * n_words), n_words - len(names)))
    chosen_numbers = [numbers[i] for i in rng.permutation(len(numbers))[:n_numbers]]
    chosen_names = [names[i] for i in rng.permutation(len(names))[: n_words - n_numbers]]
    return chosen_numbers + chosen_names
