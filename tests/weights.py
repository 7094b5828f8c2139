"""Learners as they are some steps into training."""

from typing import Any

import torch


@torch.no_grad()
def started(learner: Any) -> Any:
    """The learner, its weights that begin with zeros moved: until then nothing reaches what stands behind them."""
    generator = torch.Generator().manual_seed(4)
    for value in learner.parameters():
        if value.ndim and not bool(value.any()):
            value.normal_(std=0.1, generator=generator)
    return learner
