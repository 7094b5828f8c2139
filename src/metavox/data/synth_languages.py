"""The languages that synthetic speech has: every voice of espeak-ng 1.52, counted or left out with its reason.

The table lies beside this module, ``synth_languages.json``; ``benchmarks/synth_languages.py`` checks every row against
the espeak-ng that is installed and counts the words again. A language counts when its voice speaks, its words sound
unlike each other, and none of them is read in another language or letter by letter.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contracts import InputError

TABLE = Path(__file__).with_name("synth_languages.json")
MADE_FOR = "1.52.0"
"""The version of espeak-ng whose voices the table names."""


@dataclass(frozen=True, slots=True)
class Syllables:
    """How words are invented where CLDR has none: two or three times onset and nucleus, then an ending."""

    onsets: tuple[str, ...]
    nuclei: tuple[str, ...]
    endings: tuple[str, ...] = ("",)
    between: str = ""
    """Written between syllables."""


@dataclass(frozen=True, slots=True)
class Language:
    """Where a language's voice and words come from."""

    code: str
    name: str
    file: str
    """The voice's file below ``lang`` in the data of espeak-ng: ``roa/es-419``."""
    kind: str = "natural"
    """``natural``, ``ancient``, ``constructed``, or ``test`` for a voice that speaks no language."""
    accent_of: str | None = None
    """The code of the language that this is an accent of. An accent says the words of its language."""
    locale: str | None = None
    """Locale of CLDR, where it has words."""
    syllables: Syllables | None = None
    misread: str = ""
    """Regular expression of the letters that espeak-ng reads wrongly or stops at; words with one are not used."""
    max_words: int = 2
    """Words between blanks in a text. Vietnamese writes a blank between syllables."""
    words: int = 0
    """Words and numbers that can be told apart by ear."""
    left_out: str = ""
    """Why the voice is not used; empty where it is."""
    near: tuple[str, ...] = field(default=())
    """Codes to take instead of one that is left out."""

    @property
    def voice(self) -> str:
        """The name that espeak-ng knows the voice by."""
        return self.file.rpartition("/")[2].lower()

    @property
    def invented(self) -> bool:
        """Whether most of its words are made up from syllables, as CLDR has none or few."""
        return (VOICES[self.accent_of] if self.accent_of else self).syllables is not None

    @property
    def base(self) -> str:
        """The code of the language itself: what an utterance's ``lang`` says, also of an accent."""
        return self.accent_of or self.code


def _row(code: str, values: dict[str, Any]) -> Language:
    syllables = values.pop("syllables", None)
    if syllables is not None:
        parts = {key: tuple(syllables[key].split(" ")) for key in ("onsets", "nuclei", "endings") if key in syllables}
        syllables = Syllables(**parts, between=syllables.get("between", ""))
    return Language(code=code, syllables=syllables, near=tuple(values.pop("near", ())), **values)


VOICES: Mapping[str, Language] = {
    code: _row(code, values) for code, values in json.loads(TABLE.read_text(encoding="utf-8")).items()
}
"""Every voice of espeak-ng by code, those that are left out included."""

LANGUAGES: Mapping[str, Language] = {code: row for code, row in VOICES.items() if not row.left_out}
"""The languages and accents that can be spoken."""

_OTHER_CODES = {"zh": "cmn", "no": "nb", "sh": "hr", "hbs": "hr", "piqd": "tlh"}
"""Codes in use elsewhere."""

CORE_LANGUAGES = ("de", "es", "fi", "fr", "hu", "id", "pl", "sw", "tr", "vi")
"""Ten that are spread over families and sounds, and none of them a language that evaluation meets in real speech
(English, Arabic, Bengali, Lithuanian, Mandarin, Hebrew, Malayalam, Yoruba): the default."""


def find_language(code: str) -> Language:
    """The row of a code. Raises InputError that names the nearest codes, and why one that exists is left out."""
    if code in LANGUAGES:
        return LANGUAGES[code]
    if code in VOICES:
        row = VOICES[code]
        instead = f"take {' or '.join(row.near)}" if row.near else "choose another of `metavox data synth --list`"
        raise InputError(f"{row.name} ({code}) is left out of synthetic speech, as {row.left_out}; {instead}.")
    near = " or ".join(_nearest(code.lower()))
    remedy = f"did you mean {near}?" if near else "choose one of `metavox data synth --list`."
    raise InputError(f"There is no synthetic language {code!r} among {len(LANGUAGES)}; {remedy}")


def _nearest(asked: str) -> list[str]:
    """Up to four codes: of the same language, of a name like it, of a code like it."""
    names: dict[str, str] = {}
    for code, row in reversed(list(LANGUAGES.items())):
        for part in (row.name, *row.name.replace("(", " ").replace(")", " ").split()):
            names[part.lower()] = code if row.accent_of is None else names.get(part.lower(), code)
    first = asked.replace("_", "-").split("-")[0]
    near = [code for code in (_OTHER_CODES.get(first, first),) if code in LANGUAGES]
    near += [names[name] for name in difflib.get_close_matches(asked, names, n=2, cutoff=0.75)]
    if not near:
        near += difflib.get_close_matches(asked, LANGUAGES, n=3, cutoff=0.4)
    return list(dict.fromkeys(near))[:4]
