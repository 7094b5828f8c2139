"""Mandarin in Latin letters: numbered pinyin, one syllable a word (``zhong1 guo2``), the neutral tone as 5, ü as v."""

import re
from typing import NamedTuple
from unicodedata import normalize

from ..errors import InputError
from .normalise import normalise

_FINALS = {
    "": "a ai an ang ao e ei en eng er hm hng m n ng o ou r",
    "b": "a ai an ang ao ei en eng i ian iang iao ie in ing o ong u",
    "c": "a ai an ang ao e ei en eng i ong ou u uan ui un uo",
    "ch": "a ai an ang ao e en eng i ong ou u ua uai uan uang ui un uo",
    "d": "a ai an ang ao e ei en eng i ia ian iao ie in ing iu ong ou u uan ui un uo",
    "f": "a an ang ei en eng iao o ou u",
    "g": "a ai an ang ao e ei en eng ong ou u ua uai uan uang ui un uo",
    "h": "a ai an ang ao e ei en eng ong ou u ua uai uan uang ui un uo",
    "j": "i ia ian iang iao ie in ing iong iu u uan ue un",
    "k": "a ai an ang ao e ei en eng ong ou u ua uai uan uang ui un uo",
    "l": "a ai an ang ao e ei en eng i ia ian iang iao ie in ing iu o ong ou u uan un uo v ve",
    "m": "a ai an ang ao e ei en eng i ian iao ie in ing iu o ou u",
    "n": "a ai an ang ao e ei en eng i ia ian iang iao ie in ing iu ong ou u uan un uo v ve",
    "p": "a ai an ang ao ei en eng i ian iao ie in ing o ou u",
    "q": "i ia ian iang iao ie in ing iong iu u uan ue un",
    "r": "an ang ao e en eng i ong ou u ua uan ui un uo",
    "s": "a ai an ang ao e en eng i ong ou u uan ui un uo",
    "sh": "a ai an ang ao e ei en eng i ou u ua uai uan uang ui un uo",
    "t": "a ai an ang ao e ei eng i ian iao ie ing ong ou u uan ui un uo",
    "w": "a ai an ang ei en eng o ong u",
    "x": "i ia ian iang iao ie in ing iong iu u uan ue un",
    "y": "a ai an ang ao e i in ing o ong ou u uan ue un",
    "z": "a ai an ang ao e ei en eng i ong ou u uan ui un uo",
    "zh": "a ai an ang ao e ei en eng i ong ou u ua uai uan uang ui un uo",
}
SYLLABLES = frozenset(initial + final for initial, finals in _FINALS.items() for final in finals.split())
"""Every syllable that a Hanzi can have, and ``r`` for erhua."""
_BARE = frozenset(_FINALS[""].split())
_SPOKEN = SYLLABLES | {syllable + "r" for syllable in SYLLABLES}
_OTHER_SPELLINGS = {"lue": "lve", "nue": "nve"} | {f"{i}v{f}": f"{i}u{f}" for i in "jqxy" for f in ("", "e", "an", "n")}
_LONGEST = 7  # zhuangr

_HANZI = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters, the sign of repetition and the round zero, as a class of a regular expression."""
HANZI_RUN = re.compile(f"([{_HANZI}]+)")
_REPEATED = re.compile("([^\u3005])(\u3005+)")
_TYPED_U = re.compile(r"(?<=[lLnN])[uU]:(?=[eE1-5])")
_TONES = {"\u0304": 1, "\u0301": 2, "\u030c": 3, "\u0300": 4}
_NEUTRAL = 5
_NUMBERED = re.compile(r"[a-z]+[1-5](?: [a-z]+[1-5])*")
_TONE = re.compile(r"(?<=[a-z])[1-5]")


def to_pinyin(text: str) -> str:
    """Hanzi, and pinyin of any spelling, as numbered syllables: ``zhong1 guo2`` of 中国, zhōngguó, Zhong1guo2.

    Readings are chosen by phrase (pypinyin), tones are those of the dictionary, without sandhi. What is neither Hanzi
    nor pinyin with tones stays as ``normalise`` leaves it; syllables without a tone become neutral only inside a word
    or text that marks tones elsewhere. Applying it twice changes nothing.
    """
    text = HANZI_RUN.sub(_reading, normalise(_TYPED_U.sub("ü", text), "cmn"))
    tokens = text.split()
    parsed = [_letters(token) for token in tokens]
    marked = any(letters is not None and letters.n_marks for letters in parsed)
    syllables = [None if letters is None else _syllables(letters) for letters in parsed]
    whole = marked and all(syllables)  # pinyin with tone marks throughout: an unmarked word is neutral
    out = []
    for token, letters, found in zip(tokens, parsed, syllables, strict=True):
        has_tone = letters is not None and any(letters.tones)
        out.append(" ".join(found) if found and (has_tone or whole) else token)
    return normalise(" ".join(out), "cmn")


def without_tones(pinyin: str) -> str:
    """Numbered pinyin without its numbers: ``zhong guo``."""
    return _TONE.sub("", pinyin)


def is_pinyin(text: str) -> bool:
    """Whether a text is numbered pinyin already: syllables that exist, each with its tone, separated by spaces."""
    return bool(_NUMBERED.fullmatch(text)) and all(token[:-1] in _SPOKEN for token in text.split())


def has_hanzi(text: str) -> bool:
    """Whether a text holds a Chinese character."""
    return bool(HANZI_RUN.search(text))


def _reading(run: re.Match[str]) -> str:
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError as error:
        raise InputError("Pinyin needs pypinyin, which is not installed; run pip install 'metavox[text]'.") from error

    hanzi = _REPEATED.sub(lambda found: found[1] * len(found[0]), run[1])
    found = lazy_pinyin(hanzi, style=Style.TONE3, neutral_tone_with_five=True, v_to_u=False)
    return f" {' '.join(one.rstrip('12345') if one[0] in hanzi else one for one in found)} "


class _Letters(NamedTuple):
    """A word taken apart: letters, the tone on each (0 for none), and whether a syllable must begin there."""

    letters: str
    tones: list[int]
    begins: list[bool]
    n_marks: int


def _letters(token: str) -> _Letters | None:
    """None where the word holds anything that pinyin does not."""
    letters: list[str] = []
    tones: list[int] = []
    begins: list[bool] = []
    boundary, n_marks = True, 0
    for char in normalize("NFD", token):
        if char.isascii() and char.isalpha():
            letters.append(char)
            tones.append(0)
            begins.append(boundary)
            boundary = False
        elif char == "'":
            boundary = True
        elif not letters:
            return None
        elif char == "\u0308" and letters[-1] in "uv":
            letters[-1] = "v"
        elif char == "\u0302" and letters[-1] == "e":
            pass
        elif char in _TONES or char in "12345":
            if tones[-1]:
                return None
            tones[-1] = _TONES.get(char) or int(char)
            n_marks += char in _TONES
            boundary = boundary or char not in _TONES
        else:
            return None
    return _Letters("".join(letters), tones, begins, n_marks)


def _syllables(word: _Letters) -> list[str]:
    """The numbered syllables of a word, the longest first wherever the rest can be read too; none where it cannot.

    A syllable without an initial begins a word or follows an apostrophe or number, as the orthography demands.
    """
    letters, tones, begins, _ = word
    n = len(letters)
    length = [0] * n + [1]  # of the syllable that begins at each letter; 0 where nothing does
    for start in range(n - 1, -1, -1):
        for end in range(min(start + _LONGEST, n), start, -1):
            one = length[end] and not any(begins[start + 1 : end]) and sum(map(bool, tones[start:end])) <= 1
            if one and _is_syllable(letters[start:end], begins=begins[start]):
                length[start] = end - start
                break
    out, start = [], 0
    while start < n and length[0]:
        end = start + length[start]
        syllable = letters[start:end]
        out.append(f"{_OTHER_SPELLINGS.get(syllable, syllable)}{max(tones[start:end]) or _NEUTRAL}")
        start = end
    return out


def _is_syllable(letters: str, *, begins: bool) -> bool:
    if letters.endswith("r") and letters[:-1] in SYLLABLES:
        letters = letters[:-1]  # erhua: huar; no syllable begins with the vowel that would follow
    return letters in _OTHER_SPELLINGS or (letters in SYLLABLES and (begins or letters not in _BARE))
