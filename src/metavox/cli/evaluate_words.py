"""What the protocols of words share: corpora opened, named and found fit before anything is computed."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..checkpoint import Model
    from ..data.bank import Bank
    from ..data.episodes import ClassIndex
    from ..evaluation.protocols import Protocol


@dataclass(frozen=True)
class WordSets:
    """A model and the word sets that it is scored on."""

    model: "Model"
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    indexes: tuple["ClassIndex", ...]
    """Before the audio is opened: what can be refused is refused first."""

    def shown(self, place: int) -> str:
        """The name of a corpus as a progress bar can hold it."""
        from rich.markup import escape

        from ..data.layouts import printable

        return escape(printable(self.names[place]))

    def bank(self, place: int, report: Any) -> tuple["Bank", "ClassIndex"]:
        """The recordings of one corpus, and its classes in the order of the bank."""
        from ..data.corpora import open_corpora
        from ..data.episodes import ClassIndex

        shown, index = self.shown(place), self.indexes[place]
        front_end = self.model.config.front_end
        bank = open_corpora(
            [self.paths[place]], front_end, lambda what, done, total: report(f"{what} {shown}", done, total)
        )
        return bank, ClassIndex(bank.utterances, index.axis, classes=index.classes)

    def about(self, place: int, bank: "Bank", said: str | None) -> dict[str, Any]:
        """What a summary says of the model and the corpus, with a note where fewer words were used than asked."""
        from importlib.metadata import version

        model = self.model
        seen = {utterance.corpus for utterance in bank.utterances} & set(model.about.get("corpora", []))
        return {
            **{"model": model.name, "model_hash": model.hash[:16], "corpus": self.names[place]},
            "version": version("metavox"),
            **({"note": said} if said else {}),
            **({"seen_in_training": True} if seen else {}),
        }


def word_sets(
    model: "Model", corpus: list[str], asked: "Protocol", axis: str = "word", classes: str | None = None
) -> WordSets:
    """The corpora of a protocol, each found to have enough takes.

    Raises:
        InputError: a corpus that is not there, comes twice, or has too few words for an episode.
    """
    from ..data.class_lists import indexes
    from ..data.corpora import require, require_once
    from ..data.manifests import load_corpus
    from ..evaluation.protocols import fitted

    paths = [require(name) for name in corpus]
    require_once(paths)
    found = indexes([load_corpus(path) for path in paths], axis, classes, "--classes")
    for index in found:
        fitted(asked, index)
    return WordSets(model, tuple(paths), tuple(names(paths)), tuple(found))


def opened(model: str, learner: str | None) -> "Model":
    """The model, behind the learner that ``name,key=value,...`` asks for; other settings stay the model's own."""
    from ..checkpoint import load_model, rehead
    from ..config import ModelConfig, override, validated
    from ..errors import InputError

    loaded = load_model(model)
    if learner is None:
        return loaded
    name, *settings = re.split(r",(?![^\[]*\])", learner)  # a list in brackets has commas of its own
    tree = loaded.config.model_dump()
    tree["learner"]["name"] = name
    for setting in settings:
        if "=" not in setting:
            raise InputError(
                f"--learner has {setting!r}, which is not of the form key=value; write for example "
                "--learner simpleshot,centring=l2n."
            )
        override(tree, f"learner.{setting}")
    found = rehead(loaded, validated(ModelConfig, tree, "--learner").learner)
    return replace(found, name=f"{loaded.name} as {learner}")


def names(paths: list[Path]) -> list[str]:
    """The folder of each corpus, with the one above it where two have the same name."""
    folders = [Path(os.path.abspath(path if path.is_dir() else path.parent)) for path in paths]
    found = [folder.name for folder in folders]
    return [
        f"{folder.parent.name}/{name}" if found.count(name) > 1 else name
        for folder, name in zip(folders, found, strict=True)
    ]


def overall(summaries: list[dict[str, Any]], found: dict[str, Any]) -> dict[str, Any]:
    """Figures over several sets, with what they share and the sets themselves."""
    shared = {key: summaries[0][key] for key in ("model", "model_hash", "version")}
    return {**found, **shared, "corpus": [one["corpus"] for one in summaries], "corpora": summaries}


def write_and_note(out: Path | None, rows: list[dict[str, Any]], summaries: list[dict[str, Any]]) -> None:
    """The rows where they were asked for, and the notes of the summaries beside the results."""
    from .output import note, write_rows

    for found in summaries:
        if found.get("note"):
            note(f"{found['corpus']}: {found['note']}")
    if out is not None:
        write_rows(out, rows)
