"""Loud and quiet frames of a recording, as all aligners see them."""

import numpy as np
from jaxtyping import Float

from ...contracts import FrontEnd
from ...features import DB

FRONT_END = FrontEnd()
HOP_S = FRONT_END.hop_ms / 1000
CENTRE_S = (FRONT_END.window_ms - FRONT_END.hop_ms) / 2000
"""From the start of a frame's window to that of the hop in its middle: frame t stands for ``HOP_S`` from there."""

PAUSE_ABOVE_FLOOR_DB = 6.0
PAUSE_BELOW_TOP_DB = (18.0, 40.0)
"""A pause is at least and at most this far below the loud frames, whatever the noise."""


def frame_levels(log_mel: Float[np.ndarray, "T F"]) -> Float[np.ndarray, " T"]:
    """Power of each frame over all bins, in dB."""
    levels: np.ndarray = np.logaddexp.reduce(log_mel, axis=1) / DB
    return levels


def top_level(levels: Float[np.ndarray, " T"]) -> float:
    """The level that a twentieth of the frames exceed."""
    return float(np.percentile(levels, 95))


def pause_level(levels: Float[np.ndarray, " T"]) -> float:
    """Frames below this may be a pause: 6 dB over the noise floor (the lowest tenth), and 18 to 40 dB below the top."""
    least, most = PAUSE_BELOW_TOP_DB
    top = top_level(levels)
    return float(min(max(np.percentile(levels, 10) + PAUSE_ABOVE_FLOOR_DB, top - most), top - least))
