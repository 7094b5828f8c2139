"""That what is tested is nowhere in training: by the folder of a corpus, by clip, and by language."""

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from ..contracts import InputError, Utterance
from ..data.corpora import locate
from ..text.languages import language_key


def folder_of(path: Path) -> Path:
    """The folder of a corpus that is named by itself or by its manifest, links followed."""
    real = Path(os.path.realpath(path))
    return real if real.is_dir() else real.parent


def name_of(path: Path) -> str:
    """What a corpus is called: its folder's name as it is given."""
    return Path(os.path.abspath(path if path.is_dir() else path.parent)).name


def among(names: Iterable[str], paths: Iterable[Path]) -> list[str]:
    """Those corpora of a recipe that are the same as one of the paths, however either is named."""
    folders = {folder_of(path) for path in paths}
    placed = ((name, locate(name)) for name in names)
    return [name for name, place in placed if place is not None and folder_of(place) in folders]


def require_apart(heard: Iterable[Utterance], tested: Iterable[Utterance], languages: Sequence[str]) -> None:
    """Prove that training hears no clip of the test, and none of the languages that are left out for it.

    Raises:
        InputError: it does, with the clip that says so.
    """
    clips, left_out = {_clip(utterance) for utterance in tested}, {language_key(lang) for lang in languages}
    keys: dict[str | None, str] = {}
    for utterance in heard:
        if _clip(utterance) in clips:
            raise InputError(
                f"{utterance.id} of {utterance.corpus} is heard in training and in the test; leave its corpus out in "
                "data.leave_out_corpora, or name another test."
            )
        if utterance.lang and keys.setdefault(utterance.lang, language_key(utterance.lang)) in left_out:
            raise InputError(
                f"{utterance.id} of {utterance.corpus} is in {utterance.lang}, a language of the test, and is heard in "
                "training; name the language in data.leave_out_languages, or leave the corpus out."
            )


def _clip(utterance: Utterance) -> tuple[str, str]:
    return _real(utterance.path.parent), utterance.path.name


@lru_cache(maxsize=4096)
def _real(folder: Path) -> str:
    return os.path.realpath(folder)
