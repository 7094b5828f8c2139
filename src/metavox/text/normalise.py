"""Plain text becomes what is said: one spelling of every character, lower case, no punctuation.

Nothing is guessed here: numbers stay as they are written, and so does a letter of any script. The result is in
Unicode NFC, and normalising it again changes nothing.
"""

import re
from unicodedata import category, normalize

from .languages import DOTTED_I, UNSPACED, primary

NORMALISATION = (
    "Texts were brought to Unicode NFC and lower case; apostrophes were kept between letters only, other punctuation "
    "and symbols were removed, dashes and signs between words became a space, and white space was collapsed."
)
"""What ``normalise`` does, in one sentence for a report."""

APOSTROPHES = (
    "'`´\u02b9\u02bb\u02bc\u02bd\u02be\u02bf\u02c0\u02c1\u055a\u05f3\u07f4\u07f5\u1fbd\u1fbf\u1ffe"
    "\u2018\u2019\u201b\u2032\u2035\ua78b\ua78c\uff07"
)
"""Typewriter and typographic apostrophes, accents and primes typed for them, geresh, letters of the glottal stop."""
CHILLUS = {"ണ": "ൺ", "ന": "ൻ", "ര": "ർ", "ല": "ൽ", "ള": "ൾ", "ക": "ൿ", "മ": "ൔ", "യ": "ൕ", "ഴ": "ൖ"}
"""Malayalam consonants without a vowel, which older texts spell as consonant, virama and joiner."""

_JOINERS = "\u200c\u200d"
_JOINED_SCRIPTS = (
    *((0x0600, 0x077F), (0x0840, 0x08FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)),  # Arabic, Syriac, Mandaic
    *((0x0900, 0x0DFF), (0x1780, 0x17FF), (0x1800, 0x18AF), (0xA8E0, 0xA8FF)),  # Indic, Khmer, Mongolian
)
_SHOWS_NOTHING = {0x034F, 0x0640, 0x115F, 0x1160, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)}
_SHOWS_NOTHING |= set(range(0xE0100, 0xE01F0))
"""Letters and marks that are no sound and no sight: fillers, stretchers, selectors of variants."""
_WITHIN_WORDS = '·‧״"„“”‟«»‹›'
"""Middle dots, gershayim and quotation marks, which stand inside one word: col·lecció, צה״ל."""

_APOSTROPHE = {ord(sign): "'" for sign in APOSTROPHES}
_CHILLU = re.compile(f"([{''.join(CHILLUS)}])\u0d4d\u200d")
_RUN = re.compile("(['\u200c\u200d])\\1+")
_DOTTED = re.compile("i\u0307+")
_BLANKS = re.compile(r"\s+")
_PLAIN = re.compile(r"[a-z]+(?: [a-z]+)*")


def spaces_matter(lang: str | None) -> bool:
    """False where blanks do not mark words, so that scores leave them out: Chinese, Japanese, Thai, Burmese, ..."""
    return primary(lang) not in UNSPACED


def normalise(text: str, lang: str | None = None) -> str:
    """What a text says: NFC, lower case, apostrophes between letters, no other punctuation or symbols, single spaces.

    - In Turkish and Azerbaijani I is the capital of ı; elsewhere of i, as İ is everywhere.
    - A dash becomes a space, and so does any sign between two words (``and/or``). Brackets, quotation marks and middle
      dots vanish: ``(s)he`` is one word.
    - Combining marks stay with their letter. One without a letter goes, as do control and format characters and halves
      of surrogate pairs. Zero width joiners stay between letters of scripts that are written with them; a Malayalam
      chillu that is spelt with a joiner becomes the one character that it is.
    - Numbers, private characters and those that this Python does not know stay.
    """
    dotted = primary(lang) in DOTTED_I
    if not dotted and _PLAIN.fullmatch(text):
        return text
    text = normalize("NFC", "".join(map(_seen, text)))
    if dotted:
        text = text.replace("I", "ı")
    text = _RUN.sub(r"\1", normalize("NFC", text.translate(_APOSTROPHE).lower()))
    text = _CHILLU.sub(lambda found: CHILLUS[found[1]], text)
    text = normalize("NFC", _spoken(text))
    return _BLANKS.sub(" ", normalize("NFC", _DOTTED.sub("i", text))).strip()


def _seen(char: str) -> str:
    """The character, a space for a blank of any kind, or nothing for what cannot be seen."""
    if char.isspace() or char == "\u200b":
        return " "
    if char in _JOINERS:
        return char
    return "" if category(char) in ("Cc", "Cf", "Cs", "Me") or ord(char) in _SHOWS_NOTHING else char


def _spoken(text: str) -> str:
    """Letters with their marks, numbers, and signs only where they belong to a word."""
    out: list[str] = []
    on_letter = False  # whether a mark would stand on a letter
    for place, char in enumerate(text):
        kind = category(char)
        if kind[0] == "M":
            out.append(char if on_letter else "")
        elif char == "'" or char in _JOINERS:
            out.append(char if on_letter and _joins(text, place) else "")
            on_letter = on_letter and char != "'"
        else:
            on_letter = kind[0] == "L"
            vanishes = kind in ("Ps", "Pe", "Pi", "Pf") or char in _WITHIN_WORDS
            out.append("" if vanishes else " " if kind[0] in "PSZ" else char)
    return "".join(out)


def _joins(text: str, place: int) -> bool:
    """Whether the apostrophe or joiner at a place, which follows a letter, is followed by one that it may join."""
    follower = text[place + 1 : place + 2]
    if not follower or category(follower)[0] != "L":
        return False
    return text[place] == "'" or (_is_joined(text[place - 1]) and _is_joined(follower))


def _is_joined(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in _JOINED_SCRIPTS)
