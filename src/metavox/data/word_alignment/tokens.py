"""The words of a text as they are written, and the labels that they make."""

import unicodedata

_JOINERS = "\u200c\u200d"
_CHILLU = dict(zip("ണനരലളക", "ൺൻർൽൾൿ", strict=True))
"""Malayalam final consonants. Texts older than Unicode 5.1 write consonant, virama and joiner for this one letter."""
_VIRAMA = "\u0d4d"


def spoken_words(text: str) -> list[str]:
    """What stands between the blanks of a text, without the punctuation around it; pure punctuation is no word.

    Apostrophes, hyphens and joiners inside a word stay: ``“Don't”, he said - twice.`` has the words ``Don't``, ``he``,
    ``said``, ``twice``.
    """
    text = unicodedata.normalize("NFC", text)
    for letter, chillu in _CHILLU.items():
        text = text.replace(f"{letter}{_VIRAMA}\u200d", chillu)
    return [word for word in map(_bare, text.split()) if word]


def _bare(written: str) -> str:
    inside = [place for place, char in enumerate(written) if unicodedata.category(char)[0] in "LMN"]
    return written[inside[0] : inside[-1] + 1] if inside else ""


def label_of(word: str) -> str:
    """The class that a word belongs to: casefolded, in Unicode NFC, letters with their marks, digits, apostrophes."""
    folded = unicodedata.normalize("NFC", word.replace("’", "'").casefold())
    kept = (char for char in folded if unicodedata.category(char)[0] in "LMN" or char in f"'{_JOINERS}")
    return "".join(kept).strip(f"'{_JOINERS}")


def n_letters(word: str) -> int:
    """Letters, vowel signs and digits: ``പാലം`` has four, ``ṣùgbọ́n`` six."""
    return sum(map(_is_letter, word))


def _is_letter(char: str) -> bool:
    category = unicodedata.category(char)
    # Vowel signs stand on their own (class 0), accents, tones and viramas change what stands before them.
    return category[0] in "LN" or category == "Mc" or (category == "Mn" and not unicodedata.combining(char))
