"""What is kept of clips of a voice: a vector each, and how much it rests on. No sound can be made of it again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, slots=True)
class Heard:
    """Clips as an encoder heard them, in order. An enrolled voice is the ``Heard`` of its clips."""

    vectors: Float[np.ndarray, "n D"]
    """Of unit length, float32."""
    speech_s: Float[np.ndarray, " n"]
    """Seconds of speech in each clip, pauses left out."""
    snr_db: Float[np.ndarray, " n"]
    """Level of speech above the pauses (``speech.spoken``)."""

    def __len__(self) -> int:
        return len(self.vectors)

    def at(self, places: Int[np.ndarray, " m"] | Sequence[int] | slice) -> "Heard":
        """The clips at these places."""
        where = places if isinstance(places, slice) else np.asarray(places, np.int64)
        return Heard(self.vectors[where], self.speech_s[where], self.snr_db[where])


def together(parts: Sequence[Heard]) -> Heard:
    """All clips of several, in order."""
    return Heard(
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.speech_s for part in parts]),
        np.concatenate([part.snr_db for part in parts]),
    )
