"""``metavox evaluate``: score a model on tasks it never saw."""

import os
import re
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class ProtocolName(StrEnum):
    """Protocols that can be asked for."""

    commands = "commands"
    transcription = "transcription"


class Speakers(StrEnum):
    """Whether a query may be spoken by somebody heard in the support."""

    any = "any"
    disjoint = "disjoint"


def evaluate(
    model: Annotated[
        str, typer.Argument(help="Folder of a model, or a baseline: nearest_mean, dtw, scratch; or metavox/asr-small.")
    ],
    corpus: Annotated[list[str], typer.Option(help="Folder, or name in METAVOX_DATA; may be repeated.")],
    protocol: Annotated[ProtocolName, typer.Option(help="What is scored.")] = ProtocolName.commands,
    ways: Annotated[int | None, typer.Option(min=2, show_default="10", help="Words in an episode.")] = None,
    shots: Annotated[
        int | None, typer.Option(min=1, show_default="5", help="Takes of each word to learn from.")
    ] = None,
    queries: Annotated[
        int | None, typer.Option(min=1, show_default="10", help="Takes of each word to recognise, at most.")
    ] = None,
    episodes: Annotated[int | None, typer.Option(min=1, show_default="600", help="Tasks to average over.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws episodes, or splits; the same for every model.")] = 0,
    speakers: Annotated[
        Speakers | None, typer.Option(show_default="any", help="May a query be by a speaker of the support?")
    ] = None,
    along: Annotated[str | None, typer.Option(show_default="word", help="What is told apart: speaker, ...")] = None,
    classes: Annotated[str | None, typer.Option(metavar="FILE", help="Draw only these, one a line.")] = None,
    learner: Annotated[str | None, typer.Option(metavar="NAME[,KEY=VALUE]", help="Adapt in another way.")] = None,
    test_corpus: Annotated[str | None, typer.Option(help="Test on this, not on a part of --corpus.")] = None,
    minutes: Annotated[
        list[float] | None, typer.Option(show_default="0, 1, 5, 10", help="To adapt to; may be repeated.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=1000, show_default="3", help="Draws of the minutes.")] = None,
    compare: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Learner beside it; may be repeated.")
    ] = None,
    max_test: Annotated[
        int | None, typer.Option(min=10, show_default="200", help="Utterances to test on, at most.")
    ] = None,
    lang: Annotated[str | None, typer.Option(help="Only recordings in this language.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "--rows", help="Write one JSON line an item here.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Score a model on word sets or on a language, with intervals and the worst set.

    Example: metavox evaluate exp/commands --corpus lithuanian_commands --ways 10 --shots 5 --json

    A model of joint training is also --learner linear_probe, simpleshot,centring=l2n or joint,inner_steps=20.

    A recogniser: metavox evaluate metavox/asr-small --protocol transcription --corpus mboshi --compare fine-tune
    """
    of_commands = {
        "ways": ways, "shots": shots, "queries": queries, "episodes": episodes, "speakers": speakers, "along": along,
        "classes": classes,
    }  # fmt: skip
    of_transcription = {
        "test_corpus": test_corpus, "minutes": minutes, "seeds": seeds, "compare": compare, "max_test": max_test,
        "lang": lang,
    }  # fmt: skip
    if protocol is ProtocolName.transcription:
        from .evaluate_transcription import evaluate_transcription

        _refuse(of_commands, "commands", protocol)
        evaluate_transcription(model, corpus, learner, seed, out, json_out, **_given(of_transcription))
    else:
        _refuse(of_transcription, "transcription", protocol)
        _commands(model, corpus, learner, seed, out, json_out, **_given(of_commands))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _refuse(options: dict[str, Any], owner: str, protocol: ProtocolName) -> None:
    """An option that the protocol has no use for was meant for another one."""
    from ..errors import InputError

    for name in _given(options):
        raise InputError(
            f"--{name.replace('_', '-')} belongs to --protocol {owner} and not to {protocol}; leave it out or ask for "
            "the other protocol."
        )


def _commands(
    model: str,
    corpus: list[str],
    learner: str | None,
    seed: int,
    out: Path | None,
    json_out: bool,
    *,
    ways: int = 10,
    shots: int = 5,
    queries: int = 10,
    episodes: int = 600,
    speakers: Speakers = Speakers.any,
    along: str = "word",
    classes: str | None = None,
) -> None:
    import torch

    from ..checkpoint import load_model
    from ..data.class_lists import indexes
    from ..data.corpora import require, require_once
    from ..data.episodes import EpisodeSpec
    from ..data.manifests import load_corpus
    from ..evaluation.protocols import Protocol, fitted
    from .output import note, percent, print_json, require_writable, write_rows
    from .progress import bars

    torch.set_num_threads(1)
    loaded = load_model(model) if learner is None else _adapting(load_model(model), learner)
    asked = Protocol(EpisodeSpec(ways, shots, queries, speakers.value), episodes, seed)
    paths = [require(name) for name in corpus]
    require_once(paths)  # this and what follows: whatever can be refused is refused before anything is computed
    if out is not None:
        require_writable(out)
    drawn = indexes([load_corpus(path) for path in paths], _axis(along, speakers), classes, "--classes")
    for index in drawn:
        fitted(asked, index)
    summaries: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    with bars() as report:
        for path, name, index in zip(paths, _names(paths), drawn, strict=True):
            scored, found = _one_corpus(loaded, path, name, index, asked, report)
            if found.get("note"):
                note(f"{found['corpus']}: {found['note']}")
            rows += scored
            summaries.append(found)
    if out is not None:
        write_rows(out, rows)
    overall = summaries[0] if len(summaries) == 1 else _overall(summaries)
    if json_out:
        print_json(overall)
        return
    for found in summaries:
        print(f"{found['corpus']:<24} {found['ways']:>3}-way {shots}-shot  {percent(found['mean'], found['ci95'])} %")
    if len(summaries) > 1:
        text = percent(overall["mean"], overall["ci95"])
        print(f"{'mean over sets':<24} {'':>12}  {text} %   worst: {overall['worst_corpus']}")


def _axis(text: str, speakers: Speakers) -> str:
    """An axis that a manifest says, or a product of such."""
    from ..data.axes import AXES, axis_names
    from ..errors import InputError

    names = axis_names(text)
    if not names or not set(names) <= set(AXES):
        raise InputError(f"--along is {text!r}, which no manifest says; choose among {', '.join(AXES)}.")
    if speakers is Speakers.disjoint and "speaker" in names:
        raise InputError("--speakers disjoint cannot be where speakers are told apart; use --speakers any.")
    return "*".join(names)


def _adapting(loaded: Any, text: str) -> Any:
    """The model with the learner that ``name,key=value,...`` asks for; other settings stay the model's own."""
    from ..checkpoint import rehead
    from ..config import ModelConfig, override, validated
    from ..errors import InputError

    name, *settings = re.split(r",(?![^\[]*\])", text)  # a list in brackets has commas of its own
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
    return replace(found, name=f"{loaded.name} as {text}")


def _overall(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    from ..evaluation.protocols import over_corpora

    shared = {key: summaries[0][key] for key in ("model", "model_hash", "version")}
    return {**over_corpora(summaries), **shared, "corpus": [s["corpus"] for s in summaries], "corpora": summaries}


def _names(paths: list[Path]) -> list[str]:
    """The folder of each corpus, with the one above it where two have the same name."""
    folders = [Path(os.path.abspath(path if path.is_dir() else path.parent)) for path in paths]
    names = [folder.name for folder in folders]
    return [
        f"{folder.parent.name}/{name}" if names.count(name) > 1 else name
        for folder, name in zip(folders, names, strict=True)
    ]


def _one_corpus(
    loaded: Any, path: Path, name: str, index: Any, asked: Any, report: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and flat summary of one corpus."""
    from importlib.metadata import version

    from rich.markup import escape

    from ..data.corpora import open_corpora
    from ..data.episodes import ClassIndex
    from ..data.layouts import printable
    from ..evaluation.protocols import evaluate as run
    from ..evaluation.protocols import fitted, summary
    from ..tasks import TASKS

    front_end = loaded.config.front_end
    shown = escape(printable(name))
    bank = open_corpora([path], front_end, lambda what, done, total: report(f"{what} {shown}", done, total))
    index = ClassIndex(bank.utterances, index.axis, classes=index.classes)  # a bank has an order of its own
    fit, said = fitted(asked, index)
    rows = run(
        loaded.learner, TASKS["commands"](), bank, index, fit, front_end,
        lambda done, total: report(f"episodes {shown}", done, total), corpus=name,
    )  # fmt: skip
    about = {"model": loaded.name, "model_hash": loaded.hash[:16], "corpus": name, "version": version("metavox")}
    seen = {utterance.corpus for utterance in bank.utterances} & set(loaded.about.get("corpora", []))
    return rows, {
        **summary(rows, fit, index.axis, **about),
        **({"note": said} if said else {}),
        **({"seen_in_training": True} if seen else {}),
    }
