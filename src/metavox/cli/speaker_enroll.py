"""``metavox speaker enroll``: learn voices from a few clips each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .speaker_options import Json, KeyFile, PassphraseEnv, Voices, key_given

if TYPE_CHECKING:
    from ..data.manifests import Utterance
    from ..runtime.verifier import SpeakerVerifier


def enroll(
    voices: Voices,
    name: Annotated[str | None, typer.Argument(help="Whose voice it is.", show_default=False)] = None,
    clips: Annotated[
        list[Path] | None, typer.Argument(help="Recordings of this person alone; three of a few seconds are good.")
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="Enrol every speaker of a corpus, or of a folder with a folder of clips per speaker, instead."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model that tells voices apart: a bundled name, a folder, an .onnx file or hf:NAME.",
            show_default="metavox/speaker-small",
        ),
    ] = None,
    key_file: KeyFile = None,
    passphrase_env: PassphraseEnv = None,
    keep_audio: Annotated[bool, typer.Option("--keep-audio", help="Keep the recordings with the voices.")] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Enrol although the clips seem to be of two persons.")
    ] = False,
    json_out: Json = False,
) -> None:
    """Enrol a voice from clips, or add clips to it. Nothing is written where a clip cannot be used.

    Example: metavox speaker enroll family anna a1.wav a2.wav a3.wav --key-file my.key

    Vectors are kept, and no sound unless --keep-audio asks for it. Without a key they lie in the clear. It is not a
    lock: a recording of a voice passes as that voice.
    """
    from ..runtime.verifier import DEFAULT, SpeakerVerifier

    wanted = _wanted(name, clips or [], corpus)
    key = key_given(key_file, passphrase_env)
    from ..profiles.vault import holds_voices

    if holds_voices(voices):
        verifier = SpeakerVerifier.load(voices, key=key, model=model, keep_audio=keep_audio)
    else:
        verifier = SpeakerVerifier(DEFAULT if model is None else model, keep_audio=keep_audio)
    for one, its_clips in wanted.items():
        verifier.enroll(one, its_clips, anyway=anyway)
    verifier.save(voices, key=key)
    _tell(verifier, voices, list(wanted), key is not None, json_out)


def _wanted(name: str | None, clips: list[Path], corpus: Path | None) -> dict[str, list[Path]]:
    """Clips by name."""
    from ..profiles.voiceprints import voice_name

    if corpus is None:
        if name is None or not clips:
            what = "No name" if name is None else f"No clip of {name!r}"
            raise InputError(f"{what} was given; name the voice and one recording of it or more, or --corpus FOLDER.")
        return {voice_name(name): clips}
    if name is not None:
        raise InputError(f"Both --corpus {corpus} and the name {name!r} were given; choose one of them.")
    from ..data.manifests import load_corpus

    found: dict[str, list[Path]] = {}
    for utterance in load_corpus(corpus):
        found.setdefault(_speaker_of(utterance, corpus), []).append(utterance.path)
    return found


def _speaker_of(utterance: "Utterance", corpus: Path) -> str:
    """Of a manifest the speaker, of folders the name of the folder."""
    speaker = utterance.speaker
    if speaker is None and corpus.is_dir() and not (corpus / "manifest.jsonl").exists():
        speaker = utterance.label
    if speaker is None:
        raise InputError(
            f"{utterance.path} has no speaker; make a folder of clips per speaker, or add it to the manifest."
        )
    return speaker


def _tell(verifier: "SpeakerVerifier", folder: Path, names: list[str], encrypted: bool, json_out: bool) -> None:
    from .output import note, print_json

    heard = verifier.voices_
    model = verifier.model_
    if json_out:
        print_json(
            {
                "voices": str(folder),
                "model": model.name,
                "model_hash": model.hash[:16],
                "enrolled": names,
                "clips": {name: len(heard[name]) for name in heard},
                "speech_s": {name: round(float(heard[name].speech_s.sum()), 2) for name in heard},
                "encrypted": encrypted,
                "audio_kept": verifier.keep_audio,
            }
        )
    else:
        for name in names:
            n_clips, seconds = len(heard[name]), float(heard[name].speech_s.sum())
            print(f"{folder}: {name} with {n_clips} clip{'s' * (n_clips > 1)}, {seconds:.1f} s of speech")
    if not encrypted:
        note(f"{folder} is not encrypted: whoever reads the folder has the voices; a key (--key-file) prevents that.")
