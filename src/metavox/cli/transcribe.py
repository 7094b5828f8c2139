"""``metavox transcribe``: what is said in recordings of any length, and when."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import InputError

if TYPE_CHECKING:
    from ..runtime.transcriber import Transcriber
    from ..runtime.transcripts import Transcript

_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".w64", ".caf"}


def transcribe(
    model_and_files: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] FILES...",
            help="Folder of a model, or what `metavox adapt` wrote; without one the bundled metavox/asr-small. Then "
            "recordings.",
            show_default=False,
        ),
    ],
    json_out: Annotated[
        bool, typer.Option("--json", help="A JSON list, one object a file; with --out one object in each.")
    ] = False,
    srt: Annotated[bool, typer.Option("--srt", help="SubRip captions.")] = False,
    vtt: Annotated[bool, typer.Option("--vtt", help="WebVTT captions.")] = False,
    eaf: Annotated[
        bool, typer.Option("--eaf", help="Annotations for ELAN, a tier of segments and one of words.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for one file a recording and format.", show_default=False)
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Texts kept by a beam search; without, the best symbols, or as an adapted model searches on its own.",
        ),
    ] = None,
    lm: Annotated[
        Path | None, typer.Option(help="Plain text like what is said, a sentence a line; implies --beam 16.")
    ] = None,
    lm_weight: Annotated[float, typer.Option(min=0, max=10, help="How much that text counts.")] = 0.5,
    lang: Annotated[str | None, typer.Option(help="Language of that text, where its script does not tell.")] = None,
    threads: Annotated[
        int, typer.Option(min=1, max=256, help="Processor threads; on a busy machine several wait for each other.")
    ] = 1,
) -> None:
    """Write down what is said in recordings of any length, with the times of words.

    Text goes to standard output, or files of the chosen formats into --out. A file that cannot be read does not stop
    the others.

    Example: metavox transcribe interview.wav --srt --out captions
    """
    model, files = _split(model_and_files)
    formats = [name for name, asked in (("json", json_out), ("srt", srt), ("vtt", vtt), ("eaf", eaf)) if asked] or [
        "txt"
    ]
    outputs = _outputs(files, formats, out)
    transcriber = _opened(model, beam, lm, lm_weight, lang, threads)
    heard, faults = _transcribed(transcriber, files, outputs)
    if out is None:
        _print(heard, formats[0], len(files))
    if faults:
        raise InputError(_told(faults, len(files)))


def _opened(
    model: str, beam: int | None, lm: Path | None, lm_weight: float, lang: str | None, threads: int
) -> "Transcriber":
    import torch

    from ..runtime.transcriber import Transcriber

    torch.set_num_threads(threads)
    decoding: Literal["own", "beam"] = "own" if beam is None and lm is None else "beam"
    return Transcriber.from_pretrained(model, decoding=decoding, beam=beam or 16, lm=lm, lm_weight=lm_weight, lang=lang)


def _told(faults: list[str], n_files: int) -> str:
    if len(faults) == 1:
        return faults[0]
    listed = "; ".join(fault.removesuffix(".") for fault in faults)
    return f"{len(faults)} of {n_files} recordings cannot be transcribed: {listed}."


def _split(arguments: list[str]) -> tuple[str, list[Path]]:
    """The model, the bundled one where the first argument is a recording, and the recordings."""
    first, *others = arguments
    path = Path(first)
    if path.is_file() or (path.suffix.lower() in _SUFFIXES and not path.is_dir()):
        return "metavox/asr-small", [Path(name) for name in arguments]
    if not others:
        raise InputError(f"No recording was given to transcribe with {first}; name one or more after the model.")
    return first, [Path(name) for name in others]


def _outputs(files: list[Path], formats: list[str], out: Path | None) -> Mapping[Path, list[Path]]:
    """Where each recording is written to; nowhere for standard output. Asked before anything is computed."""
    from .output import require_writable

    if len(set(files)) < len(files):
        double = next(path for path in files if files.count(path) > 1)
        raise InputError(f"{double} is given twice; name each recording once.")
    if out is None:
        if len(formats) > 1:
            raise InputError(f"Standard output takes one format and {len(formats)} are asked for; add --out FOLDER.")
        if len(files) > 1 and formats[0] in ("srt", "vtt", "eaf"):
            raise InputError(f"{len(files)} recordings make {len(files)} files; add --out FOLDER.")
        return {path: [] for path in files}
    stems = [path.stem for path in files]
    names = {path: path.stem if stems.count(path.stem) == 1 else path.name for path in files}
    taken: dict[str, Path] = {}
    for path, name in names.items():
        if name in taken:
            raise InputError(f"{taken[name]} and {path} would both be written as {out / name}; transcribe them apart.")
        taken[name] = path
    found = {path: [out / f"{names[path]}.{suffix}" for suffix in formats] for path in files}
    for place in (place for places in found.values() for place in places):
        require_writable(place)
    return found


def _transcribed(
    transcriber: "Transcriber", files: Iterable[Path], outputs: Mapping[Path, list[Path]]
) -> tuple[list["Transcript"], list[str]]:
    """Transcripts of the recordings that can be read, written as soon as each is finished, and what is wrong with
    the others."""
    from ..audio import probe
    from ..runtime.captions import write_transcript
    from .output import note
    from .progress import bars

    faults: list[str] = []
    lengths_s: dict[Path, float] = {}
    for path in files:
        try:
            lengths_s[path] = probe(path).duration_s
        except InputError as error:
            faults.append(str(error))
    heard: list[Transcript] = []
    silent = []
    done_s, total_s = 0.0, sum(lengths_s.values())
    with bars() as show:
        for number, (path, length_s) in enumerate(lengths_s.items(), 1):

            def report(seconds: float, _: float, before_s: float = done_s, number: int = number) -> None:
                show("seconds", int(before_s + seconds), int(total_s), f"{number} of {len(lengths_s)}")

            try:
                transcript = transcriber.transcribe(path, report)
            except InputError as error:
                faults.append(str(error))
                continue
            finally:
                done_s += length_s
            for place in outputs[path]:
                write_transcript(transcript, place)
            heard.append(transcript)
            if not transcript.segments:
                silent.append(path)
    for path in silent:
        note(f"{path}: no speech was found; its transcript is empty.")
    return heard, faults


def _print(heard: list["Transcript"], kind: str, n_files: int) -> None:
    from ..runtime.captions import FORMATS, as_json
    from .output import print_json

    if kind == "json":
        print_json([as_json(transcript) for transcript in heard])
    elif n_files > 1:
        for transcript in heard:
            print(f"{transcript.name}\t{transcript.text}")
    else:
        for transcript in heard:
            print(FORMATS[kind](transcript), end="")
