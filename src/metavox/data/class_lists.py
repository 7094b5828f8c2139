"""Classes by name: a recipe or an evaluation may name the words, or speakers, that it draws, in a list or in a file.

That is how published splits are given: 15 words to learn from, 10 to validate on and 10 that nothing is learned from.
"""

import difflib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..config import DataConfig
from ..contracts import InputError, Utterance
from .axes import Facts, along, axis_names
from .corpora import locate
from .episodes import ClassIndex

Names = str | Sequence[str]
"""A file with one name a line, or the names themselves."""
ClassTable = dict[str, set[str]]
"""Name -> the classes that it means."""
MAX_FILE_BYTES = 50_000_000

_BARE: dict[str, Callable[[Utterance], str | None]] = {
    "word": lambda utterance: utterance.label,
    "speaker": lambda utterance: utterance.speaker,
    "accent": lambda utterance: utterance.accent,
}
"""Axes whose classes may be named without the language or corpus that stands before them."""


@dataclass(frozen=True)
class Chosen:
    """Classes that a training may draw."""

    allowed: frozenset[str] | None
    """All that may be heard; None for every class."""
    held_out: frozenset[str] | None
    """Those of them that validation tasks are made of; None where a share of all is held out by chance."""
    n_listed: tuple[int, int] = (0, 0)
    """Names listed to learn from and to validate on."""


def read_names(given: Names, key: str) -> tuple[str, ...]:
    """The names of a list, or of a file: one a line, blank lines and lines that begin with ``#`` left out.

    A file is looked for as it is named, then in METAVOX_DATA. ``key`` is what sentences call the list.

    Raises:
        InputError: a file that is not there or no UTF-8 text, an empty list, a name that comes twice.
    """
    lines = enumerate(given if not isinstance(given, str) else _lines(given, key), 1)
    seen: dict[str, int] = {}
    for number, line in lines:
        name = unicodedata.normalize("NFC", line.strip())
        if not name or (name.startswith("#") and isinstance(given, str)):
            continue
        if name in seen:
            raise InputError(f"{key} names {name!r} twice, in places {seen[name]} and {number}; remove one.")
        seen[name] = number
    if not seen:
        raise InputError(f"{key} names no class; write one name a line, or leave the list out.")
    return tuple(seen)


def _lines(file: str, key: str) -> list[str]:
    path = locate(file)
    if path is None or not path.is_file():
        raise InputError(
            f"{key} is {file}, which is no file here nor in METAVOX_DATA; write the names there, one a line."
        )
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"{path} has more than {MAX_FILE_BYTES:,} bytes; name a text file with one class a line.")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text ({error}); save it again.") from None


def class_table(utterances: Sequence[Utterance], axis: str | Sequence[str], facts: Facts | None = None) -> ClassTable:
    """Every name a class along ``axis`` may be called by: ``en:yes``, and ``yes`` for that word in all languages."""
    names = axis_names(axis)
    bare = _BARE.get(names[0]) if len(names) == 1 else None
    table: dict[str, set[str]] = {}
    for utterance, value in zip(utterances, along(utterances, names, facts), strict=True):
        if value is not None:
            table.setdefault(value, set()).add(value)
            short = bare(utterance) if bare is not None else None
            if short is not None:
                table.setdefault(short, set()).add(value)
    return table


def resolve(names: Sequence[str], table: ClassTable, key: str) -> frozenset[str]:
    """The classes that ``names`` mean.

    Raises:
        InputError: a name of no class, with the nearest one.
    """
    unknown = [name for name in names if name not in table]
    if unknown:
        near = difflib.get_close_matches(unknown[0], table, n=1, cutoff=0.5)
        guess = f"did you mean {near[0]}?" if near else "correct the list or add recordings of it."
        count = f" ({len(unknown)} of {len(names)} names are of none)" if len(unknown) > 1 else ""
        raise InputError(f"{key} names {unknown[0]!r}, and no recording is of that class{count}; {guess}")
    return frozenset().union(*(table[name] for name in names))


def choose(config: DataConfig, utterances: Sequence[Utterance], axis: str, facts: Facts | None = None) -> Chosen:
    """What ``data.classes``, ``data.validation_classes`` and ``data.leave_out_classes`` leave of the classes.

    Raises:
        InputError: a list that cannot be read, a name of no class, a class in two of the lists, or none left.
    """
    keys = {"classes": config.classes, "validation_classes": config.validation_classes}
    keys["leave_out_classes"] = config.leave_out_classes
    given = {key: read_names(names, f"data.{key}") for key, names in keys.items() if names}
    if not given:
        return Chosen(None, None)
    table = class_table(utterances, axis, facts)
    found = {key: resolve(names, table, f"data.{key}") for key, names in given.items()}
    for one, other in (
        ("classes", "validation_classes"),
        ("classes", "leave_out_classes"),
        ("validation_classes", "leave_out_classes"),
    ):
        both = found.get(one, frozenset()) & found.get(other, frozenset())
        if both:
            raise InputError(f"{min(both)} is both in data.{one} and in data.{other}; leave it in one.")
    held_out = found.get("validation_classes")
    everything = frozenset().union(*table.values())
    trained = found.get("classes", everything - (held_out or frozenset())) - found.get("leave_out_classes", frozenset())
    return Chosen(trained | (held_out or frozenset()), held_out, (len(trained), len(held_out or ())))


def indexes(
    corpora: Sequence[Sequence[Utterance]], axis: str, classes: Names | None = None, key: str = "classes"
) -> list[ClassIndex]:
    """The classes of each corpus along an axis: all, or those that a list names. A corpus need not have all of them.

    Raises:
        InputError: a list that cannot be read, a name that is of no class in any of the corpora, a corpus without one.
    """
    if classes is None:
        return [ClassIndex(utterances, axis) for utterances in corpora]
    names = read_names(classes, key)
    tables = [class_table(utterances, axis) for utterances in corpora]
    together: ClassTable = {}
    for table in tables:
        for name, meant in table.items():
            together.setdefault(name, set()).update(meant)
    wanted = resolve(names, together, key)
    found = [ClassIndex(utterances, axis, classes=wanted) for utterances in corpora]
    for utterances, index in zip(corpora, found, strict=True):
        if not len(index):
            raise InputError(
                f"Corpus {utterances[0].corpus} has none of the classes of {key}; leave the corpus out or add classes."
            )
    return found
