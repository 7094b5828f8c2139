"""Losses of vectors on a sphere: global classification with a margin, and prototypes between two lengths of speech."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

_SAFE = 1e-6
"""Distance from cosines of 1 and -1, where the arc cosine has no slope."""


def angular_margin(
    cosines: Float[Tensor, "B C"], labels: Int[Tensor, " B"], margin: float, scale: float
) -> Float[Tensor, ""]:
    """Cross-entropy of ``scale`` cos(angle), the angle to the right class widened by ``margin`` (radians).

    Additive angular margin (Deng et al. 2019, equation 3). Where the widened angle would pass 180 degrees the cosine is
    lowered by margin sin(margin) instead, which keeps it falling.
    """
    own = cosines.gather(1, labels[:, None]).clamp(-1 + _SAFE, 1 - _SAFE)
    widened = torch.cos(torch.acos(own) + margin)
    beyond = own - margin * math.sin(margin)
    widened = torch.where(own > math.cos(math.pi - margin), widened, beyond)
    return functional.cross_entropy(scale * cosines.scatter(1, labels[:, None], widened), labels)


def prototype_loss(
    long: Float[Tensor, "P D"], short: Float[Tensor, "P M D"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Cross-entropy of each short clip among the voices of the batch, of which each has one long clip to be known by.

    Vectors of unit length; the logits are ``scale`` times cosines. Enrolment is long and tests are short, so an episode
    is made of both lengths (Kye et al. 2020, section 3).
    """
    n_voices, n_short, _ = short.shape
    logits = scale * short.flatten(0, 1) @ long.T
    return functional.cross_entropy(logits, torch.arange(n_voices).repeat_interleave(n_short))
