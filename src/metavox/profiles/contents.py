"""What a profile holds, and how much of it is read."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from ..contracts import Calibration, Place, Profile, State

FORMAT = 2
N_EARLIER = 10
"""Revisions that are kept for undoing."""
MAX_WORDS = 1_000
MAX_WORD_LENGTH = 100
MAX_TAKES = 10_000
MAX_TAKE_S = 30.0
"""A take holds one word; what is longer is no take."""
MAX_TENSOR_BYTES, MAX_AUDIO_BYTES = 500_000_000, 20_000_000

Source = Literal["file", "array", "synthetic"]


@dataclass(frozen=True, eq=False)
class Take:
    """What is kept of one recording of a word."""

    name: str
    """File name, for people."""
    word: str
    source: Source
    duration_s: float
    frames: Float[Tensor, "T F"]
    """Log mel frames of the stretch that holds speech, float16."""
    audio: Int[np.ndarray, " S"] | None = None
    """16-bit samples at the rate of the front end, where they are kept."""

    @cached_property
    def key(self) -> str:
        """What frames and samples are kept under: a hash of them."""
        digest = hashlib.sha256(self.frames.contiguous().numpy().tobytes())
        if self.audio is not None:
            digest.update(self.audio.tobytes())
        return digest.hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class Revision:
    """What was enrolled at one time."""

    number: int
    change: str
    """What made it, for people."""
    labels: tuple[str, ...]
    calibration: Calibration
    takes: tuple[Take, ...]
    expected_refusals: float | None = None
    """Share of the takes whose word would not have been heard, had they not been enrolled."""
    temperature: float | None = None
    """Of the probabilities that scores become."""
    state: State | None = None
    """None where it is to be made of the takes again."""
    place: Place | None = None
    """Where it is adapted to be used."""

    def without_audio(self) -> "Revision":
        """The same without the recordings."""
        return replace(self, takes=tuple(replace(take, audio=None) for take in self.takes))


@dataclass(frozen=True, eq=False)
class Saved:
    """A profile as it was read."""

    profile: Profile
    revision: Revision
    earlier: tuple[Revision, ...]
    document: Mapping[str, Any]
    """Where its model was (``model``, ``model_relative``, ``model_name``, ``model_hash``), and ``options``."""
