"""``metavox enroll``: learn a user's words from a few takes each."""

from pathlib import Path
from typing import Annotated

import typer


def enroll(
    model: Annotated[str, typer.Argument(help="Folder of a model, or the baseline dtw.")],
    takes_dir: Annotated[Path, typer.Argument(help="A folder per word with its takes inside.")],
    out: Annotated[Path, typer.Option(help="Folder for the profile.")],
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Learn new words from a few takes each and write a profile of kilobytes.

    Example: metavox enroll exp/commands my-takes --out my-house
    """
    from ..checkpoint import load_model
    from ..contracts import as_row
    from ..runtime.commands import CommandRecognizer
    from ..runtime.takes import takes_in
    from .output import print_json

    recognizer = CommandRecognizer(load_model(model))
    clips, words = takes_in(takes_dir)
    recognizer.fit(clips, words).save_pretrained(out)
    calibration = recognizer.calibration_
    if json_out:
        print_json(
            {
                "profile": str(out),
                "model": recognizer.model.name,
                "model_hash": recognizer.model.hash[:16],
                "takes": recognizer.n_takes_,
                **as_row(calibration),
            }
        )
        return
    counts = ", ".join(f"{word} ({n})" for word, n in recognizer.n_takes_.items())
    print(f"Wrote {out}: {counts}.")
    print(
        f"Refuses below {calibration.threshold:.2f}; set on {calibration.n_target} scores of takes with their own word "
        f"and {calibration.n_nontarget} with other words ({calibration.source})."
    )
