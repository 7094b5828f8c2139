"""What the protocols of words share: corpora opened, named and found fit before anything is computed."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluate_options import Request

if TYPE_CHECKING:
    from ..checkpoint import Model
    from ..data.bank import Bank
    from ..data.episodes import ClassIndex
    from ..evaluation.protocols import Protocol


Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class WordSet:
    """One word set with its audio, ready to be scored."""

    name: str
    bank: "Bank"
    index: "ClassIndex"
    """Its classes in the order of the bank."""
    asked: Any
    """The protocol, with as many ways as there are."""
    about: dict[str, Any]
    """What a summary says of the model and the corpus, with a note where fewer words were used than asked."""
    progress: Callable[[int, int], None]


@dataclass(frozen=True)
class WordSets:
    """A model and the word sets that it is scored on."""

    model: "Model"
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    indexes: tuple["ClassIndex", ...]
    """Before the audio is opened: what can be refused is refused first."""

    def opened(self, asked: "Protocol", report: Any) -> Iterator[WordSet]:
        """One after the other, each with its recordings."""
        from rich.markup import escape

        from ..data.corpora import open_corpora
        from ..data.episodes import ClassIndex
        from ..data.layouts import printable
        from ..evaluation.protocols import fitted

        for path, name, before in zip(self.paths, self.names, self.indexes, strict=True):
            shown = escape(printable(name))  # as a progress bar can hold it

            def advance(what: str, done: int, total: int, shown: str = shown) -> None:
                report(f"{what} {shown}", done, total)

            bank = open_corpora([path], self.model.config.front_end, advance)
            index = ClassIndex(bank.utterances, before.axis, classes=before.classes)
            fit, said = fitted(asked, index)
            yield WordSet(name, bank, index, fit, self._about(name, bank, said), partial(advance, "episodes"))

    def _about(self, name: str, bank: "Bank", said: str | None) -> dict[str, Any]:
        from importlib.metadata import version

        model = self.model
        seen = {utterance.corpus for utterance in bank.utterances} & set(model.about.get("corpora", []))
        return {
            **{"model": model.name, "model_hash": model.hash[:16], "corpus": name},
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
    import torch

    from ..checkpoint import load_model, rehead
    from ..config import ModelConfig, override, validated
    from ..errors import InputError

    torch.set_num_threads(1)
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


def deliver(
    request: Request,
    rows: Rows,
    summaries: Rows,
    over: Callable[[Rows], dict[str, Any]],
    show: Callable[[Rows, dict[str, Any]], None],
) -> None:
    """Write the rows where they were asked for, note what the summaries say, and print them, as JSON or by ``show``.

    ``over`` gives the figures over several sets; ``show`` is called with the summaries and with what is over them.
    """
    from .output import note, print_json, write_rows

    for found in summaries:
        if found.get("note"):
            note(f"{found['corpus']}: {found['note']}")
    if request.out is not None:
        write_rows(request.out, rows)
    together = summaries[0] if len(summaries) == 1 else _overall(summaries, over(summaries))
    if request.json_out:
        print_json(together)
    else:
        show(summaries, together)


def _overall(summaries: Rows, found: dict[str, Any]) -> dict[str, Any]:
    """Figures over several sets, with what they share and the sets themselves."""
    shared = {key: summaries[0][key] for key in ("model", "model_hash", "version")}
    return {**found, **shared, "corpus": [one["corpus"] for one in summaries], "corpora": summaries}
