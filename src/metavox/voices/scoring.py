"""How near a clip is to an enrolled voice: cosine, and the same less what other people's voices score.

The cosine of two vectors depends on how short a clip is, on its channel and on how common the voice is. Adaptive score
normalisation (Matejka et al. 2017, "AS-norm1") asks a cohort of other people's voices which of them are nearest to
either side. Here a share of their mean is taken off and nothing is divided by their deviation: on word sets unlike the
cohort the deviations are off and cost more than they gain on sentences like it (decision 0013).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from .heard import Heard

N_NEAREST = 30
"""Of the cohort, so many voices are asked, those nearest to either side; at most half of the cohort."""
COMMON_WEIGHT = 0.4
"""How much of the mean cosine with those is taken off, for either side."""


def template(voice: Heard) -> Float[np.ndarray, " D"]:
    """The voice of several clips: their mean vector at unit length."""
    return unit(voice.vectors.mean(axis=0))


def unit(vectors: Float[np.ndarray, "*n D"]) -> Float[np.ndarray, "*n D"]:
    """At length 1, float32; zeros stay zeros."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)).astype(np.float32)


def cosines(voices: Sequence[Heard], tests: Heard) -> Float[np.ndarray, "n V"]:
    """Cosine of each test clip with each enrolled voice."""
    return tests.vectors @ np.stack([template(voice) for voice in voices]).T


def normalised(voices: Sequence[Heard], tests: Heard, cohort: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "n V"]:
    """``cosines`` less a share of how ``common`` either side is.

    ``cohort`` holds unit vectors, one for each of other people's voices. With fewer than two the cosines stand.
    """
    templates = np.stack([template(voice) for voice in voices])
    found = tests.vectors @ templates.T
    return found - COMMON_WEIGHT * (common(tests.vectors, cohort)[:, None] + common(templates, cohort))


def common(vectors: Float[np.ndarray, "n D"], cohort: Float[np.ndarray, "M D"]) -> Float[np.ndarray, " n"]:
    """Mean cosine of each vector with the voices of the cohort that are nearest to it; 0 with fewer than two."""
    if len(cohort) < 2:
        return np.zeros(len(vectors), np.float32)
    against = vectors @ cohort.T
    n_nearest = max(2, min(N_NEAREST, len(cohort) // 2))
    return np.partition(against, len(cohort) - n_nearest, axis=1)[:, -n_nearest:].mean(axis=1)
