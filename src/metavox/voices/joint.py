"""The second head of a recogniser of words as an encoder of voices (``learners.voiced``): one body hears both."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from ..checkpoint import Model
from ..contracts import Batch, InputError
from ..features import prepare
from ..learners.voiced import VoicedPrototypes


class JointEncoder:
    """A model of ``voiced_prototypes`` as ``contracts.VoiceEncoder``; words are the affair of the same model.

    Raises:
        InputError: a model without a head for voices.
    """

    def __init__(self, model: Model) -> None:
        if not isinstance(model.learner, VoicedPrototypes):
            raise InputError(
                f"{model.name} is a model of {model.config.learner.name}, which knows no voices; give one of "
                "voiced_prototypes, or a model of voices such as metavox/speaker-small."
            )
        self.learner, self.front_end = model.learner, model.config.front_end
        self.name, self.hash, self.folder = model.name, model.hash, model.folder
        self.dim, self.rate_hz = model.config.learner.voice_dim, model.config.front_end.rate_hz

    def embed(self, waves: Sequence[Float[np.ndarray, " _S"]]) -> Float[np.ndarray, "n D"]:
        """See ``contracts.VoiceEncoder``. A clip is heard as a word is: one window, whatever its length."""
        with torch.inference_mode():
            found = [self.learner.embed_voices(self._batch(wave))[0].numpy() for wave in waves]
        return np.stack(found).astype(np.float32) if found else np.zeros((0, self.dim), np.float32)

    def _batch(self, wave: Float[np.ndarray, " S"]) -> Batch:
        shortest = 2 * self.front_end.window_samples
        inputs, lengths = prepare(wave if len(wave) >= shortest else np.resize(wave, shortest), self.front_end)
        return Batch(inputs, lengths, torch.zeros(1, dtype=torch.long), 1)
