"""``metavox record``: takes of words from the microphone, each checked as soon as it is spoken."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError

if TYPE_CHECKING:
    from ..runtime.microphone import Source


def record(
    words: Annotated[list[str] | None, typer.Argument(help="Words to record.", show_default=False)] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the takes, with a folder per word.", show_default=False)
    ] = None,
    takes: Annotated[int, typer.Option(min=1, max=1000, help="Takes of each word.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, max=30, help="The longest that a take may last.")] = 4.0,
    noise: Annotated[
        float | None,
        typer.Option(min=1, max=600, metavar="SECONDS", help="Record the noise of the place, and no word."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Microphone, by number or name.", show_default="the system's own")
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="Name the microphones.")] = False,
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Record takes of words: speak when the meter says so, a pause ends the take.

    Example: metavox record lights-on lights-off --takes 5 --out my-takes

    Noise of a place: metavox record --noise 10 --out place
    """
    if list_devices:
        _print_devices(json_out)
        return
    if out is None:
        raise InputError("Nothing says where the recordings go; add --out FOLDER.")
    if bool(words) == (noise is not None):
        raise InputError("Name the words to record, or ask for the noise of the place with --noise SECONDS.")
    from ..runtime.microphone import folder_of
    from .meter import Meter
    from .output import print_json, require_writable

    folders = {word: folder_of(out, word) for word in words or ()}  # before anything is recorded
    require_writable(out / "take.flac")
    meter = Meter()
    with _microphone(device) as source:
        if noise is not None:
            summary = record_noise(source, noise, out, meter)
        else:
            summary = record_words(source, folders, takes, seconds, meter)
    if json_out:
        print_json({"out": str(out), "rate_hz": source.rate_hz, **summary})
    else:
        _print(out, summary)


def _microphone(device: str | None) -> AbstractContextManager["Source"]:
    from ..runtime.microphone import Microphone

    return Microphone(device)


def _print_devices(json_out: bool) -> None:
    from ..contracts import as_row
    from ..runtime.microphone import input_devices
    from .output import print_json

    devices = input_devices()
    if json_out:
        print_json([as_row(device) for device in devices])
        return
    if not devices:
        raise InputError("No microphone is there; plug one in, or allow this program to use it.")
    for device in devices:
        default = " (default)" if device.is_default else ""
        print(f"{device.number}\t{device.name}\t{device.rate_hz} Hz{default}")


# --------------------------------------------------------------------------------------------------------- recording


def record_words(
    source: "Source", folders: Mapping[str, Path], n_takes: int, longest_s: float, meter: "Meter"
) -> dict[str, Any]:
    """Takes of each word, one file each as soon as it is good or wanted anyway; ``words`` says which."""
    rows: dict[str, dict[str, Any]] = {}
    for word, folder in folders.items():
        rows[word] = {"files": [], "skipped": 0}
        for number in range(1, n_takes + 1):
            path = _record_take(source, word, folder, f"{word}  {number} of {n_takes}", longest_s, meter)
            if path is None:
                rows[word]["skipped"] += 1
            else:
                rows[word]["files"].append(str(path))
    return {"words": rows}


def _record_take(source: "Source", word: str, folder: Path, what: str, longest_s: float, meter: "Meter") -> Path | None:
    """Listen until a take is good, kept or skipped; None where it is skipped."""
    from ..runtime.microphone import listen, write_take
    from ..runtime.take_quality import take_findings

    while True:
        with meter.listening(what, "speak now") as show:
            heard = listen(source, longest_s, show)
        if heard.ended == "source" and not len(heard.wave):
            raise InputError("The microphone has stopped; what was recorded is kept, start again for the rest.")
        if heard.ended == "nothing":
            meter.say(f"{what}: nothing was heard for ten seconds.", "yellow")
            if _choice(meter, usable=False) == "again":
                continue
            return None
        findings = take_findings(heard.wave, source.rate_hz, "The take", word)
        for finding in findings:
            meter.say(f"{what}: {finding.sentence}", "yellow")
        usable = all(finding.kind != "unusable" for finding in findings)
        choice = _choice(meter, usable) if findings else "keep"
        if choice == "keep":
            path = write_take(folder, heard.wave, source.rate_hz)
            meter.say(f"{what}: {path}, {len(heard.wave) / source.rate_hz:.1f} s", "green")
            return path
        if choice == "skip":
            return None


def _choice(meter: "Meter", usable: bool) -> str:
    """Again, keep or skip; where nobody can answer, what is usable is kept."""
    choices = ("again", "keep", "skip") if usable else ("again", "skip")
    while True:
        try:
            answer = meter.ask(f"{', '.join(choices)}? [{choices[0]}] ")
        except EOFError:
            return "keep" if usable else "skip"
        found = [choice for choice in choices if choice.startswith(answer)] if answer else ["again"]
        if len(found) == 1:
            return found[0]


def record_noise(source: "Source", seconds: float, out: Path, meter: "Meter") -> dict[str, Any]:
    """The noise of a place in one file, and how loud it is.

    Raises:
        InputError: the microphone gives nothing.
    """
    from ..audio import check_take
    from ..runtime.microphone import levels_dbfs, listen_for, write_take

    meter.say(f"Be quiet for {seconds:g} seconds, and let the place sound as it does.")
    with meter.listening("noise", "listening") as show:
        wave = listen_for(source, seconds, show)
    check_take(wave, source.rate_hz, "The recording of the place", clipping=False)
    rms_dbfs, peak_dbfs = levels_dbfs(wave)
    path = write_take(out, wave, source.rate_hz)
    row = {"rms_dbfs": round(rms_dbfs, 1), "peak_dbfs": round(peak_dbfs, 1)}
    return {"file": str(path), "seconds": len(wave) / source.rate_hz, **row}


def _print(out: Path, summary: Mapping[str, Any]) -> None:
    if "file" in summary:
        print(
            f"Wrote {summary['file']}: {summary['seconds']:.1f} s of noise at {summary['rms_dbfs']:.0f} dBFS, at most "
            f"{summary['peak_dbfs']:.0f} dBFS."
        )
        return
    for word, row in summary["words"].items():
        skipped = f", {row['skipped']} skipped" if row["skipped"] else ""
        print(f"{out / word}: {len(row['files'])} takes{skipped}.")
    print(f"Learn them: metavox enroll {out} --out my-house")
