"""Any script in one alphabet: a to z, the apostrophe and the space; beside them the tones 1 to 5 of Mandarin.

uroman (Hermjakob, May and Knight 2018, "Out-of-the-box universal romanization tool") reads everything but Hanzi,
which go through pinyin in every language. So kanji get Mandarin readings too: write Japanese in kana.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from unicodedata import category, normalize

from ..errors import InputError
from .complaints import named, remedy, report_rows, shortened
from .languages import MANDARIN, iso_639_3, primary
from .mandarin import HANZI_RUN, has_hanzi, is_pinyin, to_pinyin, without_tones
from .normalise import CHILLUS, normalise

_ROMAN = re.compile(r"[a-z' ]*")
_LEFT_OVER = re.compile(r"[^a-z' ]")
_OTHER_EAST_ASIAN = re.compile("[\u3040-\u30ff\u1100-\u11ff\uac00-\ud7a3]")
"""Kana and hangul: Hanzi beside them are not Mandarin."""
_READ_AS = {
    **{chillu: f"{letter}\u0d4d" for letter, chillu in CHILLUS.items()},  # to these uroman would add a vowel
    "ৎ": "ত্",
    **dict.fromkeys("ঽઽଽఽಽഽៜ", "ऽ"),
    **{"ǀ": "c", "ǁ": "x", "ǃ": "q", "ǂ": "c", "ʘ": "p", "ɤ": "o"},  # clicks as Zulu writes them
}
"""Letters of living languages that uroman does not know or misreads."""
_LONGEST = 256
"""Characters that uroman is given at a time: its time grows faster than the length."""


class Romanised(NamedTuple):
    """What a text became, and which of its characters nothing maps."""

    text: str
    unmapped: tuple[str, ...]


def romanise(text: str, lang: str | None = None) -> str:
    """A text in the universal alphabet: a to z, apostrophes between letters, single spaces; normalised first.

    Mandarin (``lang``, or Hanzi in a text of no stated language) becomes numbered pinyin; other texts have no tones.
    A text that is romanised already stays as it is. Raises InputError that names the characters that nothing maps;
    numbers are among them, since only a speaker knows how they were read.
    """
    found = attempt(text, lang)
    if found.unmapped:
        raise InputError(f"The text {shortened(text)} has {named(found.unmapped)}; {remedy(found.unmapped)}.")
    return found.text


def romanise_all(texts: Sequence[str], langs: Sequence[str | None]) -> list[str]:
    """Each text by ``romanise``, with its own language.

    Raises one InputError that names the rows (counted from 1) and characters that cannot be romanised, five at most.
    """
    found = [attempt(text, lang) for text, lang in zip(texts, langs, strict=True)]
    report_rows(
        [
            (row, f"{shortened(text)} has {named(one.unmapped)}")
            for row, (text, one) in enumerate(zip(texts, found, strict=True), 1)
            if one.unmapped
        ],
        len(texts),
        "cannot be romanised",
        remedy(tuple(char for one in found for char in one.unmapped)),
    )
    return [one.text for one in found]


@lru_cache(1 << 16)
def attempt(text: str, lang: str | None = None) -> Romanised:
    """``romanise`` without the error. Remembered by text and language."""
    text = normalise(text, lang)
    if _ROMAN.fullmatch(text):
        return Romanised(text, ())
    mandarin = primary(lang) in MANDARIN
    toned = mandarin or not lang
    if mandarin or (toned and has_hanzi(text) and not _OTHER_EAST_ASIAN.search(text)):
        text = to_pinyin(text)
    words: list[str] = []
    unmapped: list[str] = []
    for word in text.split(" "):
        if toned and is_pinyin(word):
            words.append(word)
        else:
            romanised = _word(word, iso_639_3(lang))
            words.append(romanised.text)
            unmapped += romanised.unmapped
    return Romanised(" ".join(filter(None, words)), tuple(dict.fromkeys(unmapped)))


def first_letter(char: str, lang: str | None = None) -> str | None:
    """The letter of a to z that a character's romanisation begins with; None for a number or where there is none."""
    if _unread(char):
        return None
    return next((letter for letter in _raw(char, iso_639_3(lang)) if "a" <= letter <= "z"), None)


@lru_cache(1 << 16)
def _word(word: str, code: str | None) -> Romanised:
    if _ROMAN.fullmatch(word):
        return Romanised(word, ())
    unread = tuple(dict.fromkeys(filter(_unread, word)))
    if unread:
        return Romanised("", unread)
    for spelling in (word, normalize("NFKC", word)):  # uroman knows few of the characters for compatibility
        text = _raw(spelling, code)
        if not _LEFT_OVER.search(text):
            return Romanised(text, ())
    odd = [char for char in dict.fromkeys(word) if _LEFT_OVER.search(_raw(char, code))]
    return Romanised("", tuple(odd or dict.fromkeys(_LEFT_OVER.findall(text))))


def _unread(char: str) -> bool:
    """Numbers, which may be read in many ways, and characters that mean something to their writer only."""
    return category(char) in ("Nd", "Nl", "No", "Co", "Cn") and not has_hanzi(char)


def _raw(word: str, code: str | None) -> str:
    """A word as uroman has it, without its diacritics; whatever it cannot read is still there."""
    word = "".join(_READ_AS.get(char, char) for char in word)
    word = HANZI_RUN.sub(lambda run: without_tones(to_pinyin(run[0])).replace(" ", ""), word)
    parts = [word[start : start + _LONGEST] for start in range(0, len(word), _LONGEST)]
    text = "".join(_uroman().romanize_string(part, lcode=code) for part in parts)
    text = "".join(char for char in normalize("NFKD", text) if category(char)[0] != "M" and not _is_tone(char))
    return normalise(text)


def _is_tone(char: str) -> bool:
    """Modifier letters for tone, stress and length, which are diacritics that stand beside their letter."""
    return "\u02b0" <= char <= "\u02ff" or "\ua700" <= char <= "\ua721" or char == "\ua788"


@lru_cache(1)
def _uroman() -> Any:
    """Built once: reading its tables takes a second or two."""
    try:
        from uroman import Uroman  # type: ignore[import-untyped]
    except ImportError as error:
        raise InputError(
            "Romanisation needs uroman, which is not installed; run pip install 'metavox[text]'."
        ) from error
    return Uroman()
