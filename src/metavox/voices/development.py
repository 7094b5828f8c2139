"""Recordings of development speakers, by speaker: what a calibration is made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..audio import read
from ..contracts import InputError, Utterance
from ..data.corpora import require_once
from ..data.manifests import load_corpus
from .trials import N_CLIPS, Report


@dataclass(frozen=True)
class Development:
    """People and their clips (S,) in [-1, 1]."""

    names: tuple[str, ...]
    corpus_of: tuple[str, ...]
    """Of each of them."""
    clips: tuple[tuple[Float[np.ndarray, " _S"], ...], ...]
    """Of each of them, 12 at most."""


def development(paths: Sequence[Path], rate_hz: int, seed: int, report: Report | None = None) -> Development:
    """The speakers of corpora, a few clips of each drawn from ``seed``.

    A name that two corpora share stands for two people. Clips of nobody known are left out.

    Raises:
        InputError: a corpus that comes twice, cannot be used or names no speaker.
    """
    require_once(paths)
    rng = np.random.default_rng(seed)
    chosen: list[tuple[str, str, list[Utterance]]] = []
    for path in paths:
        by: dict[str, list[Utterance]] = {}
        for one in load_corpus(path):
            if one.speaker is not None:
                by.setdefault(one.speaker, []).append(one)
        if not by:
            raise InputError(f"Corpus {path} names no speaker, so nobody can be told apart in it; name another.")
        for speaker, said in sorted(by.items()):
            drawn = np.sort(rng.permutation(len(said))[:N_CLIPS])
            chosen.append((path.name, speaker, [said[place] for place in drawn]))
    clips = []
    for number, (_, _, said) in enumerate(chosen):
        clips.append(tuple(read(one.path, rate_hz) for one in said))
        if report is not None:
            report("recordings", number + 1, len(chosen))
    return Development(
        tuple(speaker for _, speaker, _ in chosen), tuple(corpus for corpus, _, _ in chosen), tuple(clips)
    )
