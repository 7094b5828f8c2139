"""``metavox speaker list``, ``export`` and ``forget``: what is held of voices, and to hold it no longer."""

from pathlib import Path
from typing import Annotated

import typer

from .speaker_options import Json, KeyFile, PassphraseEnv, Voices, opened


def list_voices(
    voices: Voices, key_file: KeyFile = None, passphrase_env: PassphraseEnv = None, json_out: Json = False
) -> None:
    """List the enrolled voices.

    Example: metavox speaker list family --key-file my.key
    """
    from .output import print_json

    held = opened(voices, key_file, passphrase_env, open_model=False).export()
    rows = [
        {
            "name": one["name"],
            "clips": one["n_clips"],
            "speech_s": round(one["speech_s"], 2),
            "enrolled": one["clips"][-1]["enrolled"],
            "audio_kept": any("audio_flac_base64" in clip for clip in one["clips"]),
        }
        for one in held["voices"]
    ]
    if json_out:
        print_json({"voices": str(voices), "model": held["model"], "names": rows})
        return
    for row in rows:
        audio = "\twith recordings" if row["audio_kept"] else ""
        print(f"{row['name']}\t{row['clips']} clips\t{row['speech_s']:.1f} s\t{row['enrolled']}{audio}")


def export(
    voices: Voices,
    name: Annotated[str | None, typer.Argument(help="One voice; all without.", show_default=False)] = None,
    key_file: KeyFile = None,
    passphrase_env: PassphraseEnv = None,
    _json_out: Annotated[bool, typer.Option("--json", help="It is JSON without, too.")] = False,
) -> None:
    """Print all that is held of a voice, or of every one: vectors, dates, seconds, recordings if they were kept.

    Example: metavox speaker export family anna --key-file my.key > anna.json
    """
    from .output import print_json

    print_json(opened(voices, key_file, passphrase_env, open_model=False).export(name))


def forget(
    voices: Voices,
    name: Annotated[str, typer.Argument(help="Whose voice.", show_default=False)],
    key_file: KeyFile = None,
    passphrase_env: PassphraseEnv = None,
    json_out: Json = False,
) -> None:
    """Forget a voice: the file is written anew, and nothing of it stays in the folder.

    Example: metavox speaker forget family anna --key-file my.key

    Copies that you or a backup made elsewhere keep what they hold.
    """
    from .output import note, print_json

    verifier = opened(voices, key_file, passphrase_env, open_model=False)
    verifier.forget(name)
    verifier.save(voices)
    others = _others(voices)
    if json_out:
        print_json({"voices": str(voices), "forgotten": name, "names": list(verifier.names_), "other_files": others})
    else:
        left = ", ".join(verifier.names_) or "nobody"
        print(f"{voices}: {name} is forgotten; still enrolled: {left}")
    if others:
        note(f"{voices} holds {others[0]!r} too, which Metavox did not write; see whether it is a copy of the voices.")


def _others(folder: Path) -> list[str]:
    from ..profiles.vault import FILE

    return sorted(path.name for path in folder.iterdir() if path.name != FILE)
