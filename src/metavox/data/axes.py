"""What a task can be made along: the axes of a corpus, and their products.

An axis gives each utterance a value, or None where it is not known. Two uses: what is told apart in an episode (its
classes), and what all items of an episode share (its group). Facts that no manifest holds (speaking rate, vocal
effort, noise) are measured by ``data.measures`` and given as ``facts``.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..contracts import InputError, Utterance

Facts = Mapping[str, Sequence[str | None]]
"""Axis -> its value for each utterance, by position. What is given here comes before what a manifest says."""

AGE_WORDS = {
    **{"teens": 10, "twenties": 20, "thirties": 30, "forties": 40, "fourties": 40, "fifties": 50, "sixties": 60},
    **{"seventies": 70, "eighties": 80, "nineties": 90},
}
"""Decades as Common Voice writes them, its spelling included."""
GENDERS = {
    **{"m": "male", "male_masculine": "male", "man": "male", "masculine": "male"},
    **{"f": "female", "female_feminine": "female", "woman": "female", "feminine": "female"},
}
"""Other ways to write a gender; any further value stays as it is, in small letters."""


def word_of(utterance: Utterance) -> str | None:
    """A word is a label within its language: English and Arabic `zero` are different classes."""
    return _within(utterance.lang, utterance.label)


def age_band(age: str | None) -> str | None:
    """The decade of an age, ``20-29``, from ``23``, ``20s``, ``twenties`` or ``21-25``; None where it is not one."""
    text = unicodedata.normalize("NFKC", str(age or "")).strip().lower()
    if text in AGE_WORDS:
        decade = AGE_WORDS[text]
    else:
        found = re.fullmatch(r"(\d{1,3})(?:\.\d+)?(?:\s*[-\u2013]\s*(\d{1,3})|s)?", text)
        if found is None:
            return None
        decade = int(found[1]) // 10 * 10
        if int(found[2] or found[1]) // 10 * 10 != decade or decade > 110:
            return None
    return f"{decade}-{decade + 9}"


def _gender(utterance: Utterance) -> str | None:
    text = (utterance.gender or "").strip().lower()
    return GENDERS.get(text, text) or None


def _within(group: str | None, value: str | None) -> str | None:
    if value is None:
        return None
    return f"{group}:{value}" if group else value


AXES: dict[str, Callable[[Utterance], str | None]] = {
    "word": word_of,
    "language": lambda utterance: utterance.lang,
    # `01` of one corpus is not `01` of another.
    "speaker": lambda utterance: _within(utterance.corpus, utterance.speaker),
    "accent": lambda utterance: _within(utterance.lang, utterance.accent),
    "gender": _gender,
    "age": lambda utterance: age_band(utterance.age),
    "corpus": lambda utterance: utterance.corpus or None,
}
"""Axes that are read from what is known of an utterance."""
_BESIDE: dict[str, tuple[str, Callable[[Utterance], str | None]]] = {
    "speaker": ("corpus", lambda utterance: utterance.speaker),
    "accent": ("language", lambda utterance: utterance.accent),
}
"""Axes that need not name the other one where both are in a product."""
MEASURED = ("rate", "effort", "noise")
"""Axes that are measured: ``data.measures``."""


def axis_names(axis: str | Sequence[str]) -> tuple[str, ...]:
    """The single axes of a product, which is a tuple of names or a text such as ``language*speaker``.

    Raises:
        InputError: a name that is no axis, or one that comes twice.
    """
    names = tuple(name.strip() for name in axis.split("*") if axis.strip()) if isinstance(axis, str) else tuple(axis)
    for name in names:
        if name not in AXES and name not in MEASURED:
            raise InputError(f"{name!r} is no axis; known are {', '.join([*AXES, *MEASURED])}.")
    if len(set(names)) < len(names):
        raise InputError(f"Axis {'*'.join(names)} names one axis twice; name each once.")
    return names


def along(
    utterances: Sequence[Utterance],
    axis: str | Sequence[str],
    facts: Facts | None = None,
    positions: Iterable[int] | None = None,
) -> list[str | None]:
    """The value of each utterance (of those at ``positions``, in their order), None where an axis is not known.

    The value of a product is known where all of its axes are: two utterances have the same exactly where they agree on
    each axis. A product of nothing has the value ``all`` everywhere.

    Raises:
        InputError: an unknown axis, or a measured one of which ``facts`` says nothing.
    """
    names = axis_names(axis)
    at = range(len(utterances)) if positions is None else list(positions)
    columns = [_column(utterances, name, names, facts or {}, at) for name in names]
    if len(columns) == 1:
        return columns[0]
    if not columns:
        return ["all"] * len(at)
    return [None if None in row else _joined(row) for row in zip(*columns, strict=True)]


def _column(
    utterances: Sequence[Utterance], name: str, beside: tuple[str, ...], facts: Facts, at: Sequence[int]
) -> list[str | None]:
    if name in facts:
        return [facts[name][position] for position in at]
    if name in MEASURED:
        raise InputError(f"Axis {name} is measured from the recordings; give its values as facts.")
    other, short = _BESIDE.get(name, ("", AXES[name]))
    of = short if other in beside else AXES[name]
    return [of(utterances[position]) for position in at]


def _joined(row: tuple[str | None, ...]) -> str:
    """Values with a single star between them; stars inside a value are doubled, so that no two rows read the same."""
    return " * ".join(str(value).replace("*", "**") for value in row)
