"""What the verbs of ``metavox speaker`` share: the folder of voices, its key, its model."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError

if TYPE_CHECKING:
    from ..profiles.keys import Key
    from ..runtime.verifier import SpeakerVerifier

Voices = Annotated[Path, typer.Argument(metavar="VOICES", help="Folder of enrolled voices.", show_default=False)]
KeyFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File of 32 bytes, which the voices are encrypted with.")
]
PassphraseEnv = Annotated[
    str | None,
    typer.Option(metavar="VAR", help="Environment variable with the passphrase that the voices are encrypted with."),
]
ModelNow = Annotated[
    str | None, typer.Option(help="Where the model of the voices is now, if it moved.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def key_given(key_file: Path | None, passphrase_env: str | None) -> "Key | None":
    """The user's key, or None where none was named.

    Raises:
        InputError: two of them, a variable that is not set, a key that is none.
    """
    from ..profiles.keys import key_of

    if key_file is not None and passphrase_env is not None:
        raise InputError("Both --key-file and --passphrase-env were given; choose one of them.")
    if key_file is not None:
        return key_of(key_file)
    if passphrase_env is None:
        return None
    passphrase = os.environ.get(passphrase_env)
    if passphrase is None:
        raise InputError(f"The environment variable {passphrase_env} is not set; set it to the passphrase.")
    return key_of(passphrase)


def opened(
    voices: Path, key_file: Path | None, passphrase_env: str | None, model: str | None = None, **options: Any
) -> "SpeakerVerifier":
    """Enrolled voices."""
    from ..runtime.verifier import SpeakerVerifier

    return SpeakerVerifier.load(voices, key=key_given(key_file, passphrase_env), model=model, **options)
