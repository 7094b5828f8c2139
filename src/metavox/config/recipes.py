"""Which experiment a recipe describes."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..contracts import InputError
from .commands import Experiment
from .comparison import WordsComparison
from .loading import read_recipe, validated
from .transcription import TranscriptionExperiment


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a recipe for words and apply ``section.key=value`` overrides, values written as in YAML.

    Raises:
        InputError: an unreadable file, a line that is not YAML, an unknown key or a value out of range; a recipe for
            transcription.
    """
    found = load_recipe(path, overrides)
    if not isinstance(found, Experiment):
        raise InputError(f"Recipe {path} trains a recogniser; name one with a model section, such as commands.yaml.")
    return found


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Experiment | TranscriptionExperiment:
    """Read a recipe of either kind.

    One with a section ``recogniser``, however it is spelled, or ``learning`` is for transcription. A section
    ``compare`` is checked and left out: it is no part of a training.

    Raises:
        InputError: an unreadable file, a line that is not YAML, an unknown key or a value out of range.
    """
    tree = read_recipe(path, overrides)
    if _transcribes(tree):
        return validated(TranscriptionExperiment, tree, str(path))
    if "compare" in tree:
        compared = validated(WordsComparison, tree, str(path))
        return Experiment(**{name: getattr(compared, name) for name in compared.model_fields_set - {"compare"}})
    return validated(Experiment, tree, str(path))


def load_comparison(path: Path, overrides: Sequence[str] = ()) -> WordsComparison:
    """Read a recipe for words with its section ``compare``, which may be absent.

    Raises:
        InputError: as ``load_experiment``.
    """
    tree = read_recipe(path, overrides)
    if _transcribes(tree):
        raise InputError(
            f"Recipe {path} trains a recogniser; name one with a model section, such as compare_words.yaml."
        )
    return validated(WordsComparison, tree, str(path))


def _transcribes(tree: dict[Any, Any]) -> bool:
    words, own = set(Experiment.model_fields), set(TranscriptionExperiment.model_fields)
    if "recogniser" in tree:
        return True
    if (words - own) & set(tree):
        return False
    near = difflib.get_close_matches("recogniser", map(str, tree), n=1, cutoff=0.8)
    return bool(near or (own - words) & set(tree))
