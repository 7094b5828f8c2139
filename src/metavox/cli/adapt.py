"""``metavox adapt``: a recogniser learns a language or a voice from a few minutes of transcribed recordings."""

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError

if TYPE_CHECKING:
    from ..transcription.adaptation import Options
    from ..transcription.outcome import Adaptation


class AlphabetName(StrEnum):
    """Alphabets that can be adapted to."""

    roman = "roman"
    native = "native"


Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL] CORPUS",
        help="Folder of a model, or what `metavox adapt` wrote; without one the bundled metavox/asr-small. Then "
        "transcribed recordings: a folder, or a name in METAVOX_DATA.",
        show_default=False,
    ),
]


def adapt(
    model_and_corpus: Names = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the adapted model.", show_default=False)] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes of the recordings to use, drawn at random.", show_default="all")
    ] = None,
    alphabet: Annotated[
        AlphabetName | None,
        typer.Option(help="Write a to z, or the letters of the texts.", show_default="that of the model"),
    ] = None,
    lang: Annotated[
        str | None, typer.Option(metavar="CODE", help="Language of all recordings, whatever their rows say.")
    ] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Recordings without texts to learn from too.")
    ] = None,
    suggest: Annotated[int, typer.Option(min=0, help="Name so many of those as the next to transcribe.")] = 0,
    max_forgetting: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="Character errors in a hundred that the old tasks may lose."),
    ] = None,
    undo: Annotated[
        Path | None, typer.Option(metavar="MODEL2", help="Go back to what was there before the last adaptation.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws recordings, batches and changes.")] = 0,
    threads: Annotated[
        int, typer.Option(min=1, max=256, help="Processor threads; on a busy machine several wait for each other.")
    ] = 1,
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Adapt a recogniser to a language or a voice, and say by how much it errs less.

    A fifth of the recordings is held out to measure that; then all are learned from. Only what changed is written.

    Example: metavox adapt my-recordings --out my-language --lang ml

    Undo: metavox adapt --undo my-language
    """
    if undo is not None:
        if model_and_corpus or out is not None:
            raise InputError("--undo names the only folder that is needed; leave MODEL, CORPUS and --out away.")
        _undo(undo, json_out)
        return
    _adapt(
        model_and_corpus or [],
        out,
        (minutes, None if alphabet is None else alphabet.value, lang, unlabelled, suggest, max_forgetting, seed),
        threads,
        json_out,
    )


def _adapt(names: list[str], out: Path | None, asked: tuple[Any, ...], threads: int, json_out: bool) -> None:
    model, corpus = _split(names)
    if out is None:
        raise InputError("Nothing says where the adapted model goes; add --out FOLDER.")
    import torch

    from ..transcription.adaptation import Options
    from ..transcription.keeping import check_out, save_kept

    torch.set_num_threads(threads)
    options = Options(*asked)
    check_out(out)  # before anything is computed
    found = _adapted(model, corpus, options)
    n_bytes = save_kept(out, found.recognition)
    if json_out:
        _print_json(found, model, corpus, out, n_bytes)
    else:
        _print(found, options, out, n_bytes)


_MARKS = ("config.json", "adapted.json", "average.json")
"""In the folder of a recogniser one of them."""


def _split(arguments: list[str]) -> tuple[str, str]:
    """The model, the bundled one where only the corpus is named, and the corpus."""
    if not arguments:
        raise InputError("No transcribed recordings were given; name their folder, or --undo and a folder.")
    if len(arguments) > 2:
        raise InputError(f"{len(arguments)} names were given and 2 are the most; name a model and one corpus.")
    if len(arguments) == 2:
        return arguments[0], arguments[1]
    if any(os.path.isfile(os.path.join(arguments[0], name)) for name in _MARKS):
        raise InputError(f"{arguments[0]} is a model and no recordings were given; name their folder after it.")
    return "metavox/asr-small", arguments[0]


def _undo(folder: Path, json_out: bool) -> None:
    from ..transcription.keeping import undo
    from .output import print_json

    undo(folder)
    if json_out:
        print_json({"model": str(folder), "undone": True})
    else:
        print(f"{folder} is again what it was before its last adaptation.")


def _adapted(model: str, corpus: str, options: "Options") -> "Adaptation":
    from ..data.corpora import locate, require
    from ..data.manifests import load_corpus
    from ..runtime.segments import file_blocks, stretches
    from ..transcription.adaptation import adapt_recogniser
    from ..transcription.models import load_recogniser
    from ..transcription.plans import DEFAULT_PLAN, way
    from .progress import bars

    if options.unlabelled is not None:
        options = replace(options, unlabelled=locate(str(options.unlabelled)) or options.unlabelled)
    utterances = load_corpus(require(corpus))
    base = load_recogniser(model)
    with bars() as report:
        return adapt_recogniser(
            base,
            utterances,
            way(DEFAULT_PLAN).plan,
            options,
            cut=lambda path: ((stretch.start_s, stretch.wave) for stretch in stretches(file_blocks(path))),
            report=report,
        )


# ------------------------------------------------------------------------------------------------------------ printing


def _print_json(found: "Adaptation", model: str, corpus: str, out: Path, n_bytes: int) -> None:
    from importlib.metadata import version

    from .output import print_json

    recognition = found.recognition
    where = {"model": model, "model_hash": recognition.hash[:16], "corpus": corpus, "out": str(out)}
    print_json({**where, **found.to_json(), "part_bytes": n_bytes, "version": version("metavox")})


def _print(found: "Adaptation", options: "Options", out: Path, n_bytes: int) -> None:
    print(
        f"Adapted to {found.n} recordings, {found.speech_s / 60:.1f} minutes, in {found.steps} steps and "
        f"{found.seconds:.0f} s ({found.real_time_share:.2f} x real time)."
    )
    _print_held_out(found)
    _print_forgetting(found, options)
    if options.unlabelled is not None:
        _print_self_training(found)
    kept = "" if found.helped is not False else ", with the values that it started from"
    print(f"Wrote {out}: {n_bytes / 1000:.0f} kB beside its base{kept}. Use it: metavox transcribe {out} FILES...")
    if options.suggest:
        print(f"To transcribe next ({len(found.suggestions)} of {options.suggest} asked for):")
        for suggestion in found.suggestions:
            print(f"{suggestion.piece}: {suggestion.reason}. Heard: {suggestion.heard}")


def _print_held_out(found: "Adaptation") -> None:
    from ..transcription.scoring import change
    from .output import percent

    held = found.held_out
    if held is None:
        print("Too few recordings or sentences are there to hold any out, so nobody knows whether it helped.")
        return
    n, others = len(held.before), "by other speakers, " if held.by == "speaker" else ""
    before, after, difference = held.before.cer(), held.after.cer(), change(held.before, held.after)
    if not held.helped:
        print(
            f"Adaptation did not help here: of the characters of {n} recordings held out, "
            f"{percent(before.mean, before.ci95)} % were wrong before and {percent(after.mean, after.ci95)} % after."
        )
        return
    print(
        f"Character error {percent(before.mean, before.ci95)} % before and {percent(after.mean, after.ci95)} % after, "
        f"{percent(difference.difference, difference.ci95)} points, on {n} recordings held out ({others}intervals over "
        f"{held.before.clustered_by}s)."
    )
    words = held.before.wer(), held.after.wer()
    if words[0] is not None and words[1] is not None:
        print(
            f"Word error {percent(words[0].mean, words[0].ci95)} % before and "
            f"{percent(words[1].mean, words[1].ci95)} % after."
        )


def _print_forgetting(found: "Adaptation", options: "Options") -> None:
    from ..transcription.scoring import change
    from .output import percent

    known = found.forgetting
    if known is None:
        limit = "" if options.max_forgetting is None else ", and nothing of the adaptation was held back"
        print(f"What it forgot of its old tasks could not be measured: its base model has no guard{limit}.")
        return
    before, after, difference = known.before.cer(), known.after.cer(), change(known.before, known.after)
    print(
        f"Old tasks: character error {percent(before.mean, before.ci95)} % before and "
        f"{percent(after.mean, after.ci95)} % after, {percent(difference.difference, difference.ci95)} points, on "
        f"{len(known.before)} recordings."
    )
    if known.share < 1 and known.limit_points is not None:
        print(
            f"To forget no more than {known.limit_points:g} points, {100 * known.share:.0f} % of the adaptation was "
            "kept."
        )


def _print_self_training(found: "Adaptation") -> None:
    from .output import note, percent

    learned = found.self_training
    if learned is None:
        why = "too few transcribed ones are there to tell" if found.helped is None else "the adaptation did not help"
        print(f"Recordings without texts were not learned from: {why}.")
        return
    for sentence in learned.skipped[:5]:
        note(f"Passed over: {sentence}")
    if len(learned.skipped) > 5:
        note(f"Passed over: {len(learned.skipped) - 5} more recordings.")
    if learned.n_known:
        note(f"Passed over: {learned.n_known} recordings that are among the transcribed ones.")
    kept = f"{learned.n_kept} of {learned.n_pieces} pieces without texts ({learned.kept_s / 60:.1f} minutes)"
    change = learned.change()
    if change is None:
        print(f"Recordings without texts were not learned from: only {kept} were heard surely enough.")
        return
    used = "were learned from too" if learned.accepted else "did not help and were left out"
    print(f"{kept} {used}: {percent(change.difference, change.ci95)} points of character error.")
