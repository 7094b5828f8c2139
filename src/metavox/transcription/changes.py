"""Augmentation as a function of a batch, for training and for adapting alike."""

from dataclasses import replace
from typing import Any

import torch

from ..augment.speech import change_speech
from ..contracts import FrontEnd, Transcribed
from ..learners.sequence import Change


def change_of(augment: Any, speed: float, front_end: FrontEnd) -> Change:
    """Augmentation as a function of a batch, which keeps its texts."""

    def change(batch: Transcribed, generator: torch.Generator) -> Transcribed:
        inputs, lengths = change_speech(batch.inputs, batch.lengths, augment, speed, front_end, generator)
        return replace(batch, inputs=inputs, lengths=lengths)

    return change
