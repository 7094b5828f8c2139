"""The formats by name: who reads each, and the files that each is known by."""

from collections.abc import Callable
from pathlib import Path

from ...contracts import InputError
from ..layouts import shown
from . import common_voice, cuts, elan, fleurs, hub, kaldi, mswc, shar, speech_commands, textgrid, voxceleb
from .segments import Reader

READERS: dict[str, Reader] = {
    "shar": shar.read_shar,
    "lhotse": cuts.read_cuts,
    "kaldi": kaldi.read_kaldi,
    "common-voice": common_voice.read_common_voice,
    "mswc": mswc.read_mswc,
    "speech-commands": speech_commands.read_speech_commands,
    "fleurs": fleurs.read_fleurs,
    "voxceleb": voxceleb.read_voxceleb,
    "elan": elan.read_elan,
    "textgrid": textgrid.read_textgrids,
    "hub": hub.read_hub,
}
"""``--format`` -> its reader."""

LAYOUTS: dict[str, Callable[[Path], bool]] = {
    "shar": shar.is_shar,
    "lhotse": cuts.is_lhotse,
    "kaldi": kaldi.is_kaldi,
    "common-voice": common_voice.is_common_voice,
    "mswc": mswc.is_mswc,
    "speech-commands": speech_commands.is_speech_commands,
    "fleurs": fleurs.is_fleurs,
    "voxceleb": voxceleb.is_voxceleb,
    "elan": elan.is_elan,
    "textgrid": textgrid.is_textgrid,
    "hub": hub.is_hub,
}
"""Format -> whether a path looks like it, from the names of its files; the first that says yes is taken."""


TIERED = ("elan", "textgrid")
"""The formats whose text stands in tiers."""


def require_source(path: Path) -> None:
    """InputError for a path where nothing is and that names no data set of the Hub."""
    if not path.exists() and not hub.is_hub(path):
        raise InputError(f"{shown(str(path))} does not exist; check the path.")


def require_tiers(name: str, tier: str | None) -> None:
    """InputError where a tier is asked of a format that has none."""
    if tier is not None and name not in TIERED:
        raise InputError(f"{shown(name)} has no tiers, so there is no {shown(tier)} to read; leave --tier out.")


def detect(path: Path) -> str:
    """The format of a source, by the files it consists of; InputError for a path that is none of ours."""
    require_source(path)
    for name, recognises in LAYOUTS.items():
        if recognises(path):
            return name
    raise InputError(
        f"{shown(str(path))} is in no format that can be recognised; name it with --format ({', '.join(READERS)})."
    )


def reader(name: str) -> Reader:
    """The reader of a format; InputError for a name that is none."""
    if name not in READERS:
        raise InputError(f"{shown(name)} is no format; choose one of {', '.join(READERS)}.")
    return READERS[name]
