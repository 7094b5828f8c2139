"""``metavox enroll``: learn a user's words from a few takes each, or change what was learned."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL] TAKES_DIR",
        help="Folder of a model, or the baseline dtw; without one the bundled metavox/commands-small. Then the takes, "
        "in a folder per word.",
        show_default=False,
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder for the profile.", show_default=False)]
Target = Annotated[
    float | None,
    typer.Option(help="Share of unknown sounds that may be taken for a word, at most.", show_default="0.05"),
]
PerHour = Annotated[float | None, typer.Option(help="False alarms an hour at most, instead of a share.")]
Confidence = Annotated[float | None, typer.Option(help="How sure that is to hold, such as 0.95.", show_default="0.95")]
NegativesIn = Annotated[
    list[Path] | None,
    typer.Option(metavar="DIR", help="Recordings without a command, which the threshold is set on (repeatable)."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Enrol nothing where a take is bad; else warn.")]
Say = Annotated[
    list[str] | None, typer.Option(metavar="WORD", help="A word to be spoken by synthetic voices (repeatable).")
]
Lang = Annotated[str | None, typer.Option(metavar="CODE", help="Language that --say is spoken in.")]
Place = Annotated[
    list[Path] | None,
    typer.Option(metavar="DIR_OR_FILE", help="Noise of the place where it is used (repeatable)."),
]
KeepAudio = Annotated[bool, typer.Option("--keep-audio", help="Keep the recordings in the profile.")]
Into = Annotated[Path | None, typer.Option(metavar="PROFILE", help="Change this profile instead of a new one.")]
Remove = Annotated[list[str] | None, typer.Option(metavar="WORD", help="With --into: forget it (repeatable).")]
Rename = Annotated[list[str] | None, typer.Option(metavar="OLD=NEW", help="With --into (repeatable).")]
Undo = Annotated[bool, typer.Option("--undo", help="With --into: go back to before the last change.")]
ListWords = Annotated[bool, typer.Option("--list", help="With --into: print what is enrolled.")]
ModelNow = Annotated[Path | None, typer.Option(help="With --into: where the profile's model is now, if it moved.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON summary.")]


def enroll(
    model_and_takes: Names = None,
    out: Out = None,
    target: Target = None,
    per_hour: PerHour = None,
    confidence: Confidence = None,
    negatives: NegativesIn = None,
    strict: Strict = False,
    say: Say = None,
    lang: Lang = None,
    place: Place = None,
    keep_audio: KeepAudio = False,
    into: Into = None,
    remove: Remove = None,
    rename: Rename = None,
    undo: Undo = False,
    list_words: ListWords = False,
    model: ModelNow = None,
    json_out: Json = False,
) -> None:
    """Learn new words from a few takes each and write a small profile; unknown sounds are refused.

    Example: metavox enroll my-takes --out my-house

    Change it: metavox enroll more-takes --into my-house; metavox enroll --into my-house --remove WORD
    """
    from .enrolment import Changes, Wanted, change, learn, print_words

    changes = Changes(tuple(remove or ()), _renamed(rename or []), undo)
    names = model_and_takes or []
    if say and lang is None:
        raise InputError("--say needs the language that it is spoken in; add --lang CODE, such as en.")
    if target is not None and per_hour is not None:
        raise InputError(f"Both --target {target:g} and --per-hour {per_hour:g} were given; choose one of them.")
    spoken = tuple((word, lang) for word in say or () if lang is not None)
    wanted = Wanted(target, per_hour, confidence, tuple(negatives or ()), tuple(place or ()), keep_audio, strict)
    if into is None:
        if changes.any or list_words or model is not None:
            raise InputError("--remove, --rename, --undo, --list and --model belong to a profile; name it with --into.")
        base, takes_dir = _split(names, bool(say))
        learn(base, takes_dir, out, spoken, wanted, json_out)
        return
    if len(names) > 1:
        raise InputError(f"{into} has its model already and {names[0]} was given too; name the takes alone.")
    takes_dir = Path(names[0]) if names else None
    if list_words:
        if changes.any or takes_dir or spoken or wanted.options or wanted.places:
            raise InputError("--list prints what is enrolled and changes nothing; leave the other options out.")
        print_words(into, model, json_out)
        return
    if undo and (remove or rename or takes_dir or spoken or wanted.options or wanted.places):
        raise InputError("--undo takes back the last change and makes no other; leave the other options out.")
    change(into, out or into, model, takes_dir, spoken, changes, wanted, json_out)


def _split(names: list[str], spoken: bool) -> tuple[str, Path | None]:
    """The model, the bundled one where only the takes are named, and the folder of takes."""
    if len(names) > 2:
        raise InputError(f"{len(names)} names were given and 2 are the most; name a model and one folder of takes.")
    if len(names) == 2:
        return names[0], Path(names[1])
    if names and not _is_model(names[0]):
        return "metavox/commands-small", Path(names[0])
    if not spoken:
        what = f"{names[0]} is a model and no" if names else "No"
        raise InputError(f"{what} takes were given; name their folder, with a folder per word inside, or --say WORD.")
    return names[0] if names else "metavox/commands-small", None


def _is_model(name: str) -> bool:
    if os.path.exists(name):
        return any(os.path.isfile(os.path.join(name, mark)) for mark in ("config.json", "average.json"))
    from ..learners.presets import BASELINES

    return name in BASELINES or name.startswith("metavox/")


def _renamed(pairs: list[str]) -> tuple[tuple[str, str], ...]:
    found = []
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise InputError(f"--rename takes OLD=NEW and {pair!r} is none; write the old name, =, and the new one.")
        found.append((old, new))
    return tuple(found)
