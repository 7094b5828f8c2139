"""``metavox evaluate``: score a model on tasks it never saw."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class ProtocolName(StrEnum):
    """Protocols that can be asked for."""

    commands = "commands"


class Speakers(StrEnum):
    """Whether a query may be spoken by somebody heard in the support."""

    any = "any"
    disjoint = "disjoint"


def evaluate(
    model: Annotated[str, typer.Argument(help="Folder of a model, or a baseline: nearest_mean, dtw.")],
    corpus: Annotated[list[str], typer.Option(help="Folder, or name in METAVOX_DATA; may be repeated.")],
    protocol: Annotated[ProtocolName, typer.Option(help="What is scored.")] = ProtocolName.commands,
    ways: Annotated[int, typer.Option(min=2, help="Words in an episode.")] = 10,
    shots: Annotated[int, typer.Option(min=1, help="Takes of each word to learn from.")] = 5,
    queries: Annotated[int, typer.Option(min=1, help="Takes of each word to recognise, at most.")] = 10,
    episodes: Annotated[int, typer.Option(min=1, help="Tasks to average over.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Draws the episodes; the same for every model.")] = 0,
    speakers: Annotated[Speakers, typer.Option(help="May a query be by a speaker of the support?")] = Speakers.any,
    out: Annotated[Path | None, typer.Option(help="Write one JSON line an item here.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Score a model on word sets, with intervals and the worst set.

    Example: metavox evaluate exp/commands --corpus lithuanian_commands --ways 10 --shots 5 --json
    """
    import torch

    from ..checkpoint import load_model
    from ..data.corpora import require
    from ..data.episodes import EpisodeSpec
    from ..evaluation.protocols import Protocol
    from .output import note, percent, print_json, write_rows
    from .progress import bars

    torch.set_num_threads(1)
    loaded = load_model(model)
    asked = Protocol(EpisodeSpec(ways, shots, queries, speakers.value), episodes, seed)
    summaries: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    paths = [require(name) for name in corpus]
    with bars() as report:
        for path in paths:
            scored, found = _one_corpus(loaded, path, asked, report)
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


def _overall(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    from ..evaluation.protocols import over_corpora

    shared = {key: summaries[0][key] for key in ("model", "model_hash", "version")}
    return {**over_corpora(summaries), **shared, "corpus": [s["corpus"] for s in summaries], "corpora": summaries}


def _one_corpus(loaded: Any, path: Path, asked: Any, report: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and flat summary of one corpus."""
    from importlib.metadata import version

    from ..data.corpora import open_corpora
    from ..data.episodes import ClassIndex
    from ..evaluation.protocols import evaluate as run
    from ..evaluation.protocols import fitted, summary
    from ..tasks import TASKS

    front_end = loaded.config.front_end
    name = path.resolve().name if path.is_dir() else path.resolve().parent.name
    bank = open_corpora([path], front_end, lambda what, done, total: report(f"{what} {name}", done, total))
    index = ClassIndex(bank.utterances)
    fit, said = fitted(asked, index)
    rows = run(
        loaded.learner, TASKS["commands"](), bank, index, fit, front_end,
        lambda done, total: report(f"episodes {name}", done, total),
    )  # fmt: skip
    about = {"model": loaded.name, "model_hash": loaded.hash[:16], "corpus": name, "version": version("metavox")}
    seen = sorted(set(loaded.about.get("corpora", [])) & {name})
    return rows, {
        **summary(rows, fit, **about),
        **({"note": said} if said else {}),
        **({"seen_in_training": True} if seen else {}),
    }
