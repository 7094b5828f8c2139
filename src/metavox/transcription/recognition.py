"""A recogniser as it is used: a network with its alphabet, how it spells, and what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..augment.speech import lasting, played
from ..contracts import FrontEnd
from ..features import prepare
from ..nets.recogniser import Recogniser
from ..text.decode import greedy_batch
from ..text.symbols import Symbols
from .spelling import Ids, Spelling


@dataclass(frozen=True)
class Recognition:
    """A network with its alphabet and what is known of it. What it is asked to transcribe is 16 kHz mono."""

    net: Recogniser
    symbols: Symbols
    name: str
    hash: str
    """SHA-256 of configuration, alphabet and stored weights."""
    about: Mapping[str, Any]
    phones: tuple[str, ...] = ()
    """What the auxiliary head spells, in the order of its outputs after the blank."""
    folder: Path | None = None
    encoding: Tensor | None = None
    """Of the support set it was adapted to, where the network hears one."""
    base: "Recognition | None" = None
    """What it was adapted from."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """What the adaptation reached, where it was adapted."""
    spelling: Spelling | None = None
    """How it spells, where it was adapted to do so otherwise than by the best symbol of each frame."""

    @property
    def front_end(self) -> FrontEnd:
        return self.net.front_end

    @property
    def frame_s(self) -> float:
        return self.net.frame_s

    def log_probs(self, wave: Float[np.ndarray, " S"]) -> Float[Tensor, "T V"]:
        """Log probabilities of symbols for each frame of one segment.

        Raises:
            InputError: nothing but digital silence, or less sound than one analysis window.
        """
        return self.at_tempo(wave, 1.0)

    def at_tempo(self, wave: Float[np.ndarray, " S"], tempo: float) -> Float[Tensor, "T V"]:
        """The same, of a segment that is made to last ``tempo`` times as long without a change of pitch."""
        scores, lengths = self._heard(*prepare(wave, self.front_end), tempo)
        return scores[0, : int(lengths[0])]

    def spell(self, inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]) -> list[Ids]:
        """Symbols of each utterance of a batch, as this recogniser spells: see ``spelling``."""
        if self.spelling is None:
            return greedy_batch(*self._heard(inputs, lengths, 1.0))
        views = [self._heard(inputs, lengths, tempo) for tempo in self.spelling.search.tempos]
        return [
            self.spelling.consensus([scores[row, : int(ends[row])] for scores, ends in views])
            for row in range(len(lengths))
        ]

    def frames(
        self, inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B T2 V"], Int[Tensor, " B"]]:
        """Log probabilities of symbols for each frame of a batch, and how many frames each utterance has."""
        return self._heard(inputs, lengths, 1.0)

    @torch.no_grad()
    def _heard(
        self, inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"], tempo: float
    ) -> tuple[Float[Tensor, "B T2 V"], Int[Tensor, " B"]]:
        if tempo != 1:
            inputs, lengths = played(lasting(inputs, lengths), lengths, tempo)
            inputs = inputs * (torch.arange(inputs.shape[1])[None, :] < lengths[:, None])[:, :, None]
        return self.net(inputs, lengths, self.encoding), self.net.out_lengths(lengths)
