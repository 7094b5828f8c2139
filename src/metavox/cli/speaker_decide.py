"""``metavox speaker verify`` and ``identify``: whose voice is in each recording."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .speaker_options import Json, KeyFile, ModelNow, PassphraseEnv, Voices, opened

Clips = Annotated[list[Path], typer.Argument(help="Recordings of one person each.", show_default=False)]

REFUSED = 1
"""Exit status where somebody is refused, as grep has where nothing is found."""


def verify(
    voices: Voices,
    name: Annotated[str, typer.Argument(help="Who is said to speak.", show_default=False)],
    clips: Clips,
    threshold: Annotated[
        float | None, typer.Option(metavar="LLR", help="Accept from this log-likelihood ratio on.", show_default="0")
    ] = None,
    p_target: Annotated[
        float | None,
        typer.Option(help="How likely the claim is before anything is heard.", show_default="0.5"),
    ] = None,
    key_file: KeyFile = None,
    passphrase_env: PassphraseEnv = None,
    model: ModelNow = None,
    json_out: Json = False,
) -> None:
    """Decide whether each recording is of the voice that it is said to be.

    Example: metavox speaker verify family anna door.wav --key-file my.key

    Exit status: 0 where every recording is accepted, 1 where one is refused, 2 for what cannot be used. With the
    probability P of --p-target a claim is accepted from the log-likelihood ratio log((1 - P) / P) on. It is not a lock.
    """
    from .output import print_json

    if threshold is not None and p_target is not None:
        raise InputError(f"Both --threshold {threshold:g} and --p-target {p_target:g} were given; choose one of them.")
    prior = 0.5 if p_target is None else p_target
    verifier = opened(voices, key_file, passphrase_env, model, threshold_llr=threshold, p_target=prior)
    from ..runtime.voice_decisions import odds_in_words

    decisions = [verifier.verify(name, clip) for clip in clips]
    if json_out:
        print_json(
            [
                {
                    "file": str(clip),
                    "name": one.name,
                    "accepted": one.accepted,
                    "llr": one.llr,
                    "threshold": one.threshold,
                    "probability": one.probability,
                    "reason": one.reason,
                }
                for clip, one in zip(clips, decisions, strict=True)
            ]
        )
    else:
        for clip, one in zip(clips, decisions, strict=True):
            said = "accepted" if one.accepted else "refused"
            print(
                f"{clip}\t{said}\tLLR {one.llr:.2f} (from {one.threshold:.2f} on)\t{odds_in_words(one.llr, one.best)}"
            )
    if not all(one.accepted for one in decisions):
        raise typer.Exit(REFUSED)


def identify(
    voices: Voices,
    clips: Clips,
    p_known: Annotated[float, typer.Option(help="How likely the speaker is enrolled, before anything is heard.")] = 0.5,
    key_file: KeyFile = None,
    passphrase_env: PassphraseEnv = None,
    model: ModelNow = None,
    json_out: Json = False,
) -> None:
    """Name the enrolled voice in each recording, or nobody (-).

    Example: metavox speaker identify family door.wav --json

    Exit status: 0 where every voice is known, 1 where one is not, 2 for what cannot be used. The more voices are
    enrolled, the more has to speak for one of them.
    """
    from .output import print_json

    verifier = opened(voices, key_file, passphrase_env, model, p_target=p_known)
    decisions = [verifier.identify(clip) for clip in clips]
    if json_out:
        print_json(
            [
                {
                    "file": str(clip),
                    "name": one.name,
                    "best": one.best,
                    "probability": one.probability,
                    "probability_unknown": max(0.0, 1 - sum(one.probabilities.values())),
                    "llr": one.llr,
                    "threshold": one.threshold,
                    "probabilities": dict(one.probabilities),
                    "reason": one.reason,
                }
                for clip, one in zip(clips, decisions, strict=True)
            ]
        )
    else:
        for clip, one in zip(clips, decisions, strict=True):
            print(f"{clip}\t{one.name or '-'}\t{one.best} {one.probability:.2f}")
    if not all(one.accepted for one in decisions):
        raise typer.Exit(REFUSED)
