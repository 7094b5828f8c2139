"""What an aligner is: a recording and the words that are said in it go in, the time of each word comes out."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

RATE_HZ = 16_000


@dataclass(frozen=True, slots=True)
class Span:
    """Where a word is said, in seconds from the start of the recording."""

    start_s: float
    end_s: float
    confidence: float
    """0 to 1: how far its limits may be trusted. It orders the words of one aligner; it is no probability."""


Aligner = Callable[[Float[np.ndarray, " S"], Sequence[str], str], list[Span] | None]
"""(samples at 16 kHz, words in the order in which they are said, language) -> a span for each word, in order and
without overlap; None where the recording is too short for its words."""

OpenAligner = Callable[[], AbstractContextManager[Aligner]]
"""An aligner may hold a process or a model, so it is opened in a ``with`` block."""
