"""``metavox recognize``: name the word in each recording, or refuse."""

from pathlib import Path
from typing import Annotated

import typer


def recognize(
    profile: Annotated[Path, typer.Argument(help="Folder that `metavox enroll` wrote.")],
    files: Annotated[list[Path], typer.Argument(help="Recordings of one word each.")],
    model: Annotated[Path | None, typer.Option(help="Where the profile's model is now, if it moved.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON list, one object a file.")] = False,
) -> None:
    """Name the enrolled word in each recording; null (-) is a refusal.

    Example: metavox recognize my-house kitchen.wav hall.wav --json
    """
    from ..runtime.commands import CommandRecognizer
    from .output import print_json

    recognizer = CommandRecognizer.from_pretrained(profile, model=model)
    decisions = recognizer.decide(list(files))
    if json_out:
        print_json(
            [
                {
                    "file": str(path),
                    "label": decision.label,
                    "best": decision.best,
                    "score": decision.score,
                    "threshold": decision.threshold,
                    "scores": dict(decision.scores),
                }
                for path, decision in zip(files, decisions, strict=True)
            ]
        )
        return
    for path, decision in zip(files, decisions, strict=True):
        print(f"{path}\t{decision.label or '-'}\t{decision.score:.2f}")
