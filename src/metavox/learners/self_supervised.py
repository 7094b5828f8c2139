"""Learning without labels: stretches of time are blanked, and what was there is guessed from what is around them.

Liu, Yang et al. 2020 (Mockingjay) and Liu, Li and Lee 2021 (TERA): an encoder of any kind, a linear layer that gives
back normalised features, and the loss on what was blanked alone. The body that it teaches is that of whatever learner
goes on from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..contracts import InputError
from ..nets.alignment import frame_mask
from ..nets.normalization import normalized


@dataclass(frozen=True)
class Masking:
    """What is blanked of an utterance.

    Raises:
        InputError: a share outside 0 to 1, both excluded, or stretches of no frame.
    """

    share: float = 0.3
    """Of its frames, where stretches do not meet."""
    n_frames: int = 20
    """Input frames of a stretch, at most half of the utterance."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or self.n_frames < 1:
            raise InputError(
                f"Masking blanks a share of {self.share:g} in stretches of {self.n_frames} frames; give a share "
                "between 0 and 1 and 1 frame or more."
            )


def masked_gradient(
    parameters: Mapping[str, Tensor],
    body: Callable[[Tensor, Tensor], Tensor],
    guess: nn.Linear,
    inputs: Float[Tensor, "B T F"],
    lengths: Int[Tensor, " B"],
    masking: Masking,
    generator: torch.Generator,
) -> tuple[dict[str, Tensor], float]:
    """Gradients by name of the loss on what was blanked, for the parameters that it reaches, and the loss.

    Args:
        parameters: what the gradient is taken in, the layer's own among them.
        body: (inputs, lengths) -> (B, T', D), a frame for each R of the input, the first for the first R.
        guess: from D to R F: the layer that gives the input frames of a body's frame back.
    """
    hidden, blank = blanked(inputs, lengths, masking, generator)
    loss = masked_loss(body(hidden, lengths), guess, inputs, lengths, blank)
    grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    found = {name: grad for name, grad in zip(parameters, grads, strict=True) if grad is not None}
    return found, float(loss.detach())


def masked_loss(
    frames: Float[Tensor, "B T2 D"],
    guess: nn.Linear,
    inputs: Float[Tensor, "B T F"],
    lengths: Int[Tensor, " B"],
    blank: Bool[Tensor, "B T"],
) -> Float[Tensor, ""]:
    """Smooth L1 between what is guessed and the normalised input, the mean over blanked frames and their bins."""
    n_items, n_frames, n_bins = inputs.shape
    wanted = normalized(inputs, frame_mask(lengths, n_frames).to(inputs.dtype), "bins")
    guessed = guess(frames.to(guess.weight.dtype)).reshape(n_items, -1, n_bins)
    n = min(guessed.shape[1], n_frames)
    kept = blank[:, :n]
    return functional.smooth_l1_loss(guessed[:, :n][kept], wanted[:, :n][kept])


def blanked(
    inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"], masking: Masking, generator: torch.Generator
) -> tuple[Float[Tensor, "B T F"], Bool[Tensor, "B T"]]:
    """The inputs with stretches set to the mean of what is left of each bin, and where; padding changes no draw."""
    n_frames = inputs.shape[1]
    blank = torch.zeros(inputs.shape[:2], dtype=torch.bool)
    for row, length in enumerate(lengths.tolist()):
        width = min(masking.n_frames, length // 2)
        n = max(1, round(masking.share * length / max(width, 1)))
        starts = (torch.rand(n, generator=generator) * (length - width + 1)).long()
        for first in starts.tolist():
            blank[row, first : first + width] = True
    blank = blank.to(inputs.device)
    left = (frame_mask(lengths, n_frames).bool() & ~blank)[:, :, None].to(inputs.dtype)
    mean = (inputs * left).sum(1, keepdim=True) / left.sum(1, keepdim=True).clamp_min(1)
    return torch.where(blank[:, :, None], mean, inputs), blank
