"""What a transcription head can write: an alphabet whose symbol 0 is the blank of CTC."""

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from ..errors import InputError
from .complaints import named, remedy, report_rows, shortened
from .normalise import normalise
from .romanise import attempt, first_letter

BLANK = 0

Alphabet = Literal["roman", "native"]
_ROMAN = (" ", "'", *string.ascii_lowercase, *"12345")


class _Encoded(NamedTuple):
    ids: tuple[int, ...]
    wrong: str
    """What is wrong with the text; empty where nothing is."""
    remedy: str


@dataclass(frozen=True)
class Symbols:
    """An alphabet. ``characters[i - 1]`` is symbol i, the space among them; symbol 0 is the blank.

    ``roman`` writes texts as ``romanise`` does; ``native`` as ``normalise`` does, one symbol a code point. Raises
    InputError for characters that are not single or not distinct, and for others than the universal ones in ``roman``.
    """

    characters: tuple[str, ...]
    alphabet: Alphabet
    lang: str | None = None
    """The language of texts that do not state theirs."""

    def __post_init__(self) -> None:
        odd = [char for char in self.characters if len(char) != 1]
        if odd or not self.characters:
            raise InputError(f"The alphabet has the characters {odd[:5]}; give one or more, each a single code point.")
        double = sorted({c for c in self.characters if self.characters.count(c) > 1})
        if double:
            raise InputError(f"The alphabet has {named(double)} twice; give each character once.")
        foreign = [c for c in self.characters if c not in _ROMAN] if self.alphabet == "roman" else []
        if foreign:
            raise InputError(f"The roman alphabet has {named(foreign)}; make the alphabet native or leave them out.")

    @property
    def size(self) -> int:
        """V, the blank among them."""
        return len(self.characters) + 1

    @cached_property
    def _index(self) -> dict[str, int]:
        return {char: place for place, char in enumerate(self.characters, 1)}

    def encode(self, text: str, lang: str | None = None) -> tuple[int, ...]:
        """The symbols of a text. Raises InputError where nothing is left of it or a character is not in here."""
        found = self._encoded(text, lang)
        if found.wrong:
            raise InputError(f"The text {shortened(text)} {found.wrong}; {found.remedy}.")
        return found.ids

    def encode_all(self, texts: Sequence[str], langs: Sequence[str | None]) -> list[tuple[int, ...]]:
        """Each text by ``encode``, with its own language. Raises one InputError for all rows that cannot be written."""
        found = [self._encoded(text, lang) for text, lang in zip(texts, langs, strict=True)]
        bad = [(row, f"{shortened(texts[row - 1])} {one.wrong}") for row, one in enumerate(found, 1) if one.wrong]
        remedies = list(dict.fromkeys(one.remedy for one in found if one.wrong))
        report_rows(bad, len(texts), "cannot be written", ", or ".join(remedies))
        return [one.ids for one in found]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of symbols, as they stand; blanks are left out. Raises InputError for an id outside the alphabet."""
        out = []
        for each in ids:
            if not 0 <= each < self.size:
                raise InputError(f"Symbol {each} is not in an alphabet of {self.size}; decode with the model's own.")
            out.append(self.characters[each - 1] if each != BLANK else "")
        return "".join(out)

    def extended(self, texts: Iterable[str]) -> "Symbols":
        """The alphabet with every character of the texts: new ones follow in sorted order, old ones keep their index.

        A roman alphabet is complete and returns itself.
        """
        if self.alphabet == "roman":
            return self
        new = {char for text in texts for char in normalise(text, self.lang)} - set(self.characters)
        return Symbols((*self.characters, *sorted(new)), "native", self.lang)

    @classmethod
    def native(cls, texts: Iterable[str], lang: str | None = None) -> "Symbols":
        """The alphabet of some texts in their own script: the space, then their characters in sorted order.

        Raises InputError for texts without any character.
        """
        found = cls((" ",), "native", lang).extended(texts)
        if len(found.characters) == 1:
            raise InputError("The texts hold no letters to make an alphabet of; give transcripts of what was said.")
        return found

    def nearest_roman(self, char: str) -> int | None:
        """The symbol of ``UNIVERSAL`` that a character's romanisation begins with: what its row of a head starts from.

        None where the character has no sound of its own (a virama) or none that is known.
        """
        letter = char if char in (" ", "'") else first_letter(char, self.lang)
        return UNIVERSAL._index[letter] if letter else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, which ``from_json`` reads back."""
        return {"alphabet": self.alphabet, "characters": list(self.characters), "lang": self.lang}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Symbols":
        """The alphabet that ``to_json`` wrote. Raises InputError where the values are damaged."""
        alphabet, characters, lang = (value.get(key) for key in ("alphabet", "characters", "lang"))
        if set(value) - {"alphabet", "characters", "lang"}:
            raise InputError(f"The alphabet has the keys {sorted(map(str, value))}; give alphabet, characters, lang.")
        if alphabet not in ("roman", "native"):
            raise InputError(f"The alphabet is {alphabet!r}; choose roman or native.")
        if not isinstance(characters, list | tuple) or not all(isinstance(each, str) for each in characters):
            raise InputError("The characters of the alphabet are damaged; give a list of strings.")
        if not (lang is None or isinstance(lang, str)):
            raise InputError(f"The alphabet has the language {lang!r}; give a code such as ml, or null.")
        return cls(tuple(characters), alphabet, lang)

    def _encoded(self, text: str, lang: str | None) -> _Encoded:
        lang = lang or self.lang
        if self.alphabet == "roman":
            written, unmapped = attempt(text, lang)
            if unmapped:
                return _Encoded((), f"has {named(unmapped)}", remedy(unmapped))
        else:
            written = normalise(text, lang)
        missing = [char for char in dict.fromkeys(written) if char not in self._index]
        if missing:
            return _Encoded((), f"has {named(missing)}, not in the alphabet", "extend the alphabet or correct the text")
        if not written:
            return _Encoded((), "holds nothing that is said", "give what was said in letters or leave the row out")
        return _Encoded(tuple(self._index[char] for char in written), "", "")


UNIVERSAL = Symbols(_ROMAN, "roman")
"""The space, the apostrophe, a to z and the tones 1 to 5: with the blank, 34 symbols."""


def min_frames(ids: Sequence[int]) -> int:
    """The fewest frames in which CTC can say some symbols: one each, and a blank between equal neighbours."""
    return len(ids) + sum(one == other for one, other in pairwise(ids))
