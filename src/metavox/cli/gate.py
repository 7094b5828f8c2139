"""``metavox recognize --voices --policy``: words that only some may say."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .speaker_options import opened

if TYPE_CHECKING:
    from ..runtime.commands import CommandRecognizer


def gated(
    recognizer: "CommandRecognizer",
    files: list[Path],
    voices: Path,
    policy: Path,
    mode: str | None,
    key_file: Path | None,
    passphrase_env: str | None,
    json_out: bool,
) -> None:
    """Print what was said in each file, by whom, and whether they may; with the reason where they may not.

    Raises:
        InputError: voices or a policy that do not fit.
    """
    from ..runtime.gate import VoiceGate
    from ..runtime.policy import mode_from
    from .output import print_json

    chosen = None if mode is None else mode_from(mode)
    gate = VoiceGate(recognizer, opened(voices, key_file, passphrase_env), policy, mode=chosen)
    decisions = [replace(one, llr=round(one.llr, 4)) for one in gate.decide(list(files))]
    if json_out:
        print_json([{"file": str(path), **asdict(one)} for path, one in zip(files, decisions, strict=True)])
        return
    for path, one in zip(files, decisions, strict=True):
        may = "yes" if one.allowed else "no"
        print(f"{path}\t{one.word or '-'}\t{one.speaker or '-'}\t{may}\t{one.llr:.2f}\t{one.reason}".rstrip())
