"""Rows of the shelf that other installed packages bring, found as plugins are: by entry points."""

import warnings
from importlib.metadata import entry_points

from .preset import Preset

GROUP = "metavox.learners"


def plugged(taken: frozenset[str] = frozenset()) -> dict[str, Preset]:
    """Presets by name from the entry points of ``GROUP``: names in, presets out; none for packages that bring none.

    Another process (``metavox compare --jobs``) finds the same. A row that cannot be loaded, is no ``Preset`` or has a
    name that is ``taken`` is left out with a warning that says why.
    """
    found: dict[str, Preset] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        why = "the name is taken" if entry.name in taken or entry.name in found else ""
        if not why:
            try:
                row = entry.load()
                why = "" if isinstance(row, Preset) else f"it is {type(row).__name__} and no Preset"
            except Exception as err:  # whatever somebody else's module does, ours has to start
                why = f"{type(err).__name__}: {err}"
        if why:
            warnings.warn(f"Learner {entry.name} of {entry.value} is left out: {why}.", RuntimeWarning, stacklevel=2)
        else:
            found[entry.name] = row
    return found
