"""From the names in a recipe or on a command line to one bank of recordings."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from ..config import AugmentConfig, DataConfig, validated
from ..contracts import FrontEnd, InputError
from .bank import Bank, build_bank, with_variants
from .manifests import load_corpus
from .variants import Variants

Report = Callable[..., None]
"""(what is being done, done, total, and if anything is to be said beside it: note)."""


@dataclass(frozen=True)
class Recordings:
    """All recordings an experiment may use."""

    bank: Bank
    is_synthetic: Bool[np.ndarray, " n"]
    absent: tuple[str, ...]
    """Corpora that a recipe names and this machine has not."""


def data_root() -> Path | None:
    """The folder of real recordings, where METAVOX_DATA names one."""
    named = os.environ.get("METAVOX_DATA")
    return Path(named) if named else None


def locate(name: str) -> Path | None:
    """A folder or manifest as given, else the folder of that name in METAVOX_DATA, else None."""
    root = data_root()
    for place in (Path(name), *(() if root is None else (root / name,))):
        if os.path.exists(place):  # and not Path.exists, which raises for a name that is too long
            return place
    return None


def require(name: str) -> Path:
    """As ``locate``, or an InputError."""
    path = locate(name)
    if path is None:
        raise InputError(
            f"Corpus {name} is no folder here and METAVOX_DATA ({os.environ.get('METAVOX_DATA') or 'not set'}) has "
            "none of that name; give the path of a folder with a manifest.jsonl or a folder per word."
        )
    return path


def open_corpora(paths: Sequence[Path], front_end: FrontEnd, report: Report | None = None) -> Bank:
    """The bank of several corpora, in the order given.

    Raises:
        InputError: a corpus that comes twice (its clips would be support and query at once), or cannot be used.
    """
    require_once(paths)
    utterances = [utterance for path in paths for utterance in load_corpus(path)]
    return build_bank(utterances, front_end, n_workers=n_cores(), progress=_named(report, "features"))


def require_once(paths: Sequence[Path]) -> None:
    """Raise InputError where two of the paths are one corpus."""
    seen: set[str] = set()
    for path in paths:
        real = os.path.realpath(path)
        if real in seen:
            raise InputError(f"Corpus {path} is named twice; name each corpus once.")
        seen.add(real)


def gather(
    config: DataConfig, front_end: FrontEnd, report: Report | None = None, variants: Variants | None = None
) -> Recordings:
    """Everything a recipe names, synthetic words included, less the corpora it leaves out; ``variants`` of each clip.

    Raises:
        InputError: a path that does not exist, or nothing left to learn from.
    """
    named = (*config.corpora, *config.sentences)
    wanted = [name for name in named if name not in config.leave_out_corpora]
    unknown = sorted(set(config.leave_out_corpora) - set(named))
    if unknown:
        raise InputError(
            f"data.leave_out_corpora names {unknown[0]}, which is in neither data.corpora nor data.sentences "
            f"({', '.join(named)})."
        )
    absent = tuple(name for name in wanted if _is_name(name) and locate(name) is None)
    present = [name for name in wanted if name not in absent]
    real = [require(name) for name in present]
    require_once(real)
    real = [_words(path, name, config, report) for path, name in zip(real, present, strict=True)]
    paths = list(real)
    if config.synth is not None:
        from .synth import SynthSpec, cached_corpus

        spec = validated(SynthSpec, config.synth, "data.synth")
        paths.append(cached_corpus(spec, n_workers=n_cores(), progress=_named(report, "synthetic speech")))
    if not paths:
        raise InputError(
            f"None of the corpora {', '.join(wanted) or '(none named)'} is here and data.synth is off; set "
            "METAVOX_DATA to the folder that holds them, or give data.synth."
        )
    banks = [open_corpora([path], front_end, report) for path in paths]
    is_synthetic = np.concatenate([np.full(len(bank), i >= len(real)) for i, bank in enumerate(banks)])
    bank = Bank.join(banks)
    if variants is not None:
        bank = with_variants(bank, variants, n_workers=n_cores(), progress=_named(report, "variants"))
    return Recordings(bank, is_synthetic, absent)


def _words(path: Path, name: str, config: DataConfig, report: Report | None) -> Path:
    """A corpus of words as it is, one of sentences cut into words."""
    if name not in config.sentences:
        return path
    from .word_alignment.cached import cached_words

    return cached_words(path, progress=_named(report, f"words of {name}"))


def asked_variants(augment: AugmentConfig, seed: int) -> Variants | None:
    """What a recipe wants to have of each clip beside itself; None where it wants nothing.

    Raises:
        InputError: recorded noise that is nowhere.
    """
    if not (augment.enabled and augment.variants and augment.variant_share):
        return None
    places = tuple(place for name in augment.noise if (place := locate(name)))
    if len(places) < len(augment.noise):
        nowhere = next(name for name in augment.noise if locate(name) is None)
        raise InputError(
            f"augment.noise names {nowhere}, which is no folder or file here nor in METAVOX_DATA "
            f"({os.environ.get('METAVOX_DATA') or 'not set'}); correct the name or take it out."
        )
    return Variants(augment.variants, augment.wave, seed, places)


def _is_name(name: str) -> bool:
    return os.sep not in name and not name.startswith(".")


def _named(report: Report | None, what: str) -> Callable[[int, int], None] | None:
    return None if report is None else lambda done, total: report(what, done, total)


def n_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
