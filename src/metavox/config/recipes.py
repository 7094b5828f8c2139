"""Which experiment a recipe describes."""

from collections.abc import Sequence
from pathlib import Path

from .commands import Experiment
from .loading import read_recipe, validated


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a recipe and apply ``section.key=value`` overrides, values written as in YAML.

    Raises:
        InputError: an unreadable file, a line that is not YAML, an unknown key or a value out of range.
    """
    return validated(Experiment, read_recipe(path, overrides), str(path))
