"""``metavox recognize``: name the word in each recording, or refuse."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .speaker_options import KeyFile, PassphraseEnv

if TYPE_CHECKING:
    from ..runtime.commands import CommandRecognizer


def recognize(
    profile: Annotated[Path, typer.Argument(help="Folder that `metavox enroll` wrote.")],
    files: Annotated[list[Path], typer.Argument(help="Recordings of one word each.")],
    model: Annotated[Path | None, typer.Option(help="Where the profile's model is now, if it moved.")] = None,
    voices: Annotated[
        Path | None, typer.Option(metavar="VOICES", help="Folder of `metavox speaker enroll`: who may say a word.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Who may say which word, in YAML or JSON; with --voices.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="open, owner-biased or owner-only, instead of that of the policy.")
    ] = None,
    key_file: KeyFile = None,
    passphrase_env: PassphraseEnv = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON list, one object a file.")] = False,
) -> None:
    """Name the enrolled word in each recording; null (-) is a refusal.

    Example: metavox recognize my-house kitchen.wav hall.wav --json

    With voices: metavox recognize my-house kitchen.wav --voices family --policy house.yaml --mode owner-only
    """
    from ..runtime.commands import CommandRecognizer
    from .output import print_json

    if (voices is None) != (policy is None):
        given, other = ("--policy", "--voices") if voices is None else ("--voices", "--policy")
        raise InputError(f"{given} needs {other}: a policy says which of the voices may say which word.")
    if voices is None and (mode or key_file or passphrase_env):
        raise InputError("--mode, --key-file and --passphrase-env are about voices; give --voices and --policy too.")
    recognizer = CommandRecognizer.from_pretrained(profile, model=model)
    if voices is not None and policy is not None:
        from .gate import gated

        gated(recognizer, files, voices, policy, mode, key_file, passphrase_env, json_out)
        return
    decisions = recognizer.decide(list(files))
    probabilities = _probabilities(recognizer, files, [decision.best for decision in decisions])
    if json_out:
        print_json(
            [
                {
                    "file": str(path),
                    "label": decision.label,
                    "best": decision.best,
                    "score": decision.score,
                    **({} if probability is None else {"probability": probability}),
                    "threshold": decision.threshold,
                    "scores": dict(decision.scores),
                }
                for path, decision, probability in zip(files, decisions, probabilities, strict=True)
            ]
        )
        return
    for path, decision, probability in zip(files, decisions, probabilities, strict=True):
        sure = "" if probability is None else f"\t{probability:.2f}"
        print(f"{path}\t{decision.label or '-'}\t{decision.score:.2f}{sure}")


def _probabilities(recognizer: "CommandRecognizer", files: list[Path], best: list[str]) -> list[float | None]:
    """Of the best word of each file; None where nothing is known of how sure scores are."""
    column = {str(name): place for place, name in enumerate(recognizer.classes_)}
    try:
        rows = recognizer.predict_proba(list(files))
    except InputError:  # one take a word; the files were heard before
        return [None] * len(best)
    return [float(row[column[name]]) for row, name in zip(rows, best, strict=True)]
