"""``metavox average``: several models as one, and what that gains."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError

if TYPE_CHECKING:
    from ..merging.forms import Asked
    from ..merging.recognisers import MergedRecognisers
    from ..merging.words import MergedWords


def average(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL...", help="Two or more models.")] = None,
    form: Annotated[
        str,
        typer.Option(
            help="Of predictions: mean, log-mean, rover (recognisers vote). Of weights, at the cost of one: soup, "
            "greedy-soup, ema (checkpoints in order), task-vector."
        ),
    ] = "mean",
    dev: Annotated[
        str | None,
        typer.Option(metavar="CORPUS", help="Learn weights and choose members on it, and judge the members there."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the model; new or empty. None: only judge.")] = None,
    decay: Annotated[float | None, typer.Option(help="ema: weight of a checkpoint over the next. Default 0.9.")] = None,
    base: Annotated[str | None, typer.Option(help="task-vector: the model that all others began from.")] = None,
    scale: Annotated[
        list[float] | None,
        typer.Option(help="task-vector: factor of what a model learned, negative to take it away; once, or for each."),
    ] = None,
    ways: Annotated[int, typer.Option(min=2, help="Words of a development episode.")] = 10,
    shots: Annotated[int, typer.Option(min=1, help="Takes a word of a development episode.")] = 3,
    episodes: Annotated[int, typer.Option(min=1, help="Development episodes.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of the development episodes.")] = 0,
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Average models: their predictions, their weights, or their transcripts.

    Example: metavox average exp/members/1 exp/members/2 exp/members/3 --form soup --out exp/soup

    Example: metavox average exp/a exp/b --form mean --dev fsdd_en_digits --out exp/both

    Example: metavox average adapted/1 adapted/2 adapted/3 --form rover --out adapted/voted

    Averages of weights are models as any other. Averages of predictions cost what all members cost together.
    """
    import torch

    from ..merging.forms import Asked, kind_of

    if out is None and dev is None:
        raise InputError("Neither --out nor --dev is given, so that nothing would come of it; name one or both.")
    asked = Asked(form, dev, decay, base, tuple(scale or ()))
    kind = kind_of(models or [])
    asked.scales_of(len(models or []))
    if out is not None:
        _require_new(out)
    torch.set_num_threads(1)
    if kind == "words":
        _words(models or [], asked, (ways, shots, episodes, seed), out, json_out=json_out)
    else:
        _recognisers(models or [], asked, out, json_out=json_out)


def _require_new(out: Path) -> None:
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty; choose another --out.")
    if os.path.realpath(out) == os.path.realpath("."):
        raise InputError(f"{out} is the working folder, which cannot be replaced; name a folder in it.")
    above = next(parent for parent in out.absolute().parents if os.path.lexists(parent))
    if not os.path.isdir(above):
        raise InputError(f"{out} cannot be written, since {above} is a file; choose another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{out} cannot be written; check the permissions of {above} or choose another place.")


def _words(
    models: list[str], asked: "Asked", episodes: tuple[int, int, int, int], out: Path | None, *, json_out: bool
) -> None:
    from ..data.episodes import EpisodeSpec
    from ..evaluation.protocols import Protocol
    from ..merging.words import merge_words, save_words
    from .progress import bars

    ways, shots, n_episodes, seed = episodes
    with bars() as report:
        found = merge_words(models, asked, Protocol(EpisodeSpec(ways, shots, 5), n_episodes, seed), report)
    about = {"corpus": asked.dev, "episodes": None if asked.dev is None else n_episodes, "seed": seed}
    alone, reached = found.accuracies, found.accuracy
    _finish(found, "accuracy", alone, reached, out, lambda: save_words(_given(out), found), json_out, **about)


def _recognisers(models: list[str], asked: "Asked", out: Path | None, *, json_out: bool) -> None:
    from ..merging.recognisers import merge_recognisers, save_merged
    from .progress import bars

    with bars() as report:
        found = merge_recognisers(models, asked, report)
    alone, reached = found.errors, found.error
    _finish(found, "cer", alone, reached, out, lambda: save_merged(_given(out), found), json_out, corpus=asked.dev)


def _given(out: Path | None) -> Path:
    assert out is not None
    return out


def _finish(
    found: "MergedWords | MergedRecognisers",
    metric: str,
    alone: tuple[float, ...] | None,
    reached: float | None,
    out: Path | None,
    save: Callable[[], None],
    json_out: bool,
    **about: Any,
) -> None:
    """Write what was made and say what it is, in JSON with what else is known ``about`` it."""
    from importlib.metadata import version

    from .output import note, print_json

    if out is not None:
        if out.is_dir():
            Path(os.path.realpath(out)).rmdir()  # empty, as was seen: an average takes its place in one move
        save()
    diagnosis = found.diagnosis
    for sentence in found.notes:
        note(sentence)
    if json_out:
        summary: dict[str, Any] = {
            "metric": metric,
            "mean": reached,
            "members": [member.name for member in found.members],
            "member_means": alone,
            "form": found.form,
            "weights": list(found.weights),
            "n": None if diagnosis is None else diagnosis.n_items,
            **about,
            "model": None if out is None else str(out),
            "version": version("metavox"),
            **{key: None if diagnosis is None else getattr(diagnosis, key) for key in _TOLD},
        }
        print_json(summary)
        return
    if alone is not None and reached is not None:
        _table(found, metric, alone, reached)
    if diagnosis is not None:
        for sentence in diagnosis.sentences():
            print(sentence)
    if out is not None:
        print(f"Wrote {out}.")


_TOLD = (
    *("disagreement", "error_correlation", "all_wrong", "some_right"),
    *("bias", "variance", "expected_gain", "identical", "warning"),
)
"""Of a diagnosis, in JSON."""


def _table(found: "MergedWords | MergedRecognisers", metric: str, alone: tuple[float, ...], reached: float) -> None:
    what = "right, %" if metric == "accuracy" else "character errors, %"
    print(f"{'on the development data':<32}{'weight':>8}{what:>22}")
    names = [str(member.name) for member in found.members]
    for name, weight, value in zip(names, found.weights, alone, strict=True):
        print(f"{name:<32}{weight:>8.3f}{100 * value:>22.1f}")
    print(f"{found.form:<32}{'':>8}{100 * reached:>22.1f}")
