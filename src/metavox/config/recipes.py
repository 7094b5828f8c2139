"""Which experiment a recipe describes."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..contracts import InputError
from .commands import Experiment
from .comparison import CompareConfig, WordsComparison
from .loading import read_recipe, validated
from .transcription import TranscriptionExperiment
from .transcription_comparison import CompareTranscriptionConfig, TranscriptionComparison
from .voices import VoicesExperiment


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a recipe for words and apply ``section.key=value`` overrides, values written as in YAML.

    Raises:
        InputError: an unreadable file, a line that is not YAML, an unknown key or a value out of range; a recipe for
            transcription or for voices.
    """
    found = load_recipe(path, overrides)
    if isinstance(found, VoicesExperiment):
        raise InputError(f"Recipe {path} trains an encoder of voices; name one with a model section, as commands.yaml.")
    if not isinstance(found, Experiment):
        raise InputError(f"Recipe {path} trains a recogniser; name one with a model section, such as commands.yaml.")
    return found


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Experiment | TranscriptionExperiment | VoicesExperiment:
    """Read a recipe of any kind.

    One with a section ``voice`` or ``waves`` is for voices. One with a section ``recogniser``, however it is spelled,
    or ``learning`` is for transcription, and so is one that compares on targets with bases. A section ``compare`` is
    checked and left out: it is no part of a training.

    Raises:
        InputError: an unreadable file, a line that is not YAML, an unknown key or a value out of range.
    """
    tree = read_recipe(path, overrides)
    if "compare" in tree:
        compared = comparison_of(tree, str(path))
        given = {name: getattr(compared, name) for name in compared.model_fields_set - {"compare"}}
        return (
            TranscriptionExperiment(**given) if isinstance(compared, TranscriptionComparison) else Experiment(**given)
        )
    if {"voice", "waves"} & set(tree):
        return validated(VoicesExperiment, tree, str(path))
    if _transcribes(tree):
        return validated(TranscriptionExperiment, tree, str(path))
    return validated(Experiment, tree, str(path))


def load_comparison(path: Path, overrides: Sequence[str] = ()) -> WordsComparison | TranscriptionComparison:
    """Read a recipe of either kind with its section ``compare``, which may be absent.

    Raises:
        InputError: as ``load_recipe``.
    """
    return comparison_of(read_recipe(path, overrides), str(path))


def comparison_of(tree: dict[Any, Any], source: str) -> WordsComparison | TranscriptionComparison:
    """A comparison from plain sections, of the kind that they are of.

    Raises:
        InputError: an unknown key or a value out of range.
    """
    if _transcribes(tree):
        return validated(TranscriptionComparison, tree, source)
    return validated(WordsComparison, tree, source)


def _transcribes(tree: dict[Any, Any]) -> bool:
    words, own = set(Experiment.model_fields), set(TranscriptionExperiment.model_fields)
    if "recogniser" in tree or _has_bases(tree):
        return True
    if (words - own) & set(tree):
        return False
    near = difflib.get_close_matches("recogniser", map(str, tree), n=1, cutoff=0.8)
    return bool(near or (own - words) & set(tree))


def _has_bases(tree: dict[Any, Any]) -> bool:
    """Whether what is compared is said as for recognisers."""
    compare = tree.get("compare")
    if not isinstance(compare, dict):
        return False
    own = set(CompareTranscriptionConfig.model_fields) - set(CompareConfig.model_fields)
    folds = compare.get("folds")
    return bool(own & set(compare)) or (isinstance(folds, list) and any(isinstance(fold, dict) for fold in folds))
