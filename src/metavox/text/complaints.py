"""How texts that cannot be written are told of: the row, the text, the characters, the remedy."""

from collections.abc import Sequence
from unicodedata import category, name

from ..errors import InputError


def shortened(text: str) -> str:
    """A text as a message can quote it: one line, at most 40 characters."""
    return repr(text if len(text) <= 40 else f"{text[:39]}…").encode("utf-8", "backslashreplace").decode()


def named(chars: Sequence[str]) -> str:
    """Characters with their names, five at most: ``'7' (DIGIT SEVEN)``."""
    each = [f"{char!r} ({name(char, f'U+{ord(char):04X}')})" for char in chars[:5]]
    rest = f" and {len(chars) - 5} more" if len(chars) > 5 else ""
    return (", ".join(each) + rest).encode("utf-8", "backslashreplace").decode()


def remedy(chars: Sequence[str]) -> str:
    """What to do about characters that nothing maps."""
    numbers = [category(char)[0] == "N" for char in chars]
    if all(numbers):
        return "spell numbers out as they were said"
    return (
        "write numbers and signs out as they were said"
        if any(numbers)
        else "write them out in letters, as they were said"
    )


def report_rows(bad: Sequence[tuple[int, str]], n_rows: int, what: str, remedy: str) -> None:
    """Raise one InputError for all bad rows, the first five of them told. Nothing for none."""
    if bad:
        told = "; ".join(f"row {row}: {why}" for row, why in bad[:5])
        rest = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise InputError(f"{len(bad)} of {n_rows} texts {what} ({told}{rest}); {remedy}.")
