"""The universal representation g(x, theta): features of a window in, embedding frames out.

One shape, several bodies. Encoders without parameters (log-mel as it is, MFCC) stand behind the same protocol, so that
untrained baselines are compared through the same code. Padding is masked and never changes a result.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..config import EncoderConfig
from ..contracts import FrontEnd, InputError
from .alignment import all_full, frame_mask
from .cepstra import LogMelEncoder, MfccEncoder, halved
from .conformer import ConformerBody
from .convolutional import ConvBody, RecurrentBody
from .dense import LinearBody, PerceptronBody
from .normalization import normalized
from .sparse import SparseBody


class Body(Protocol):
    """What is learned of an encoder: normalised windows (B, T, F) and their mask in, (B, T', D) out.

    Padding of the windows is zero; the mask is None where there is none. T' is T halved, rounded up, ``halvings``
    times. What stands in the padding of the result is not read.
    """

    halvings: int

    def __call__(self, x: Tensor, mask: Tensor | None) -> Tensor: ...  # and a context, where it has a condition


class FusedEncoder(nn.Module):
    """A learned body beside cepstra. (B, T, F) -> (B, T', D)

    An output frame is the learned part and, weighted, the normalised cepstra of the same moment, each of unit length:
    what is learned on few languages corrects a measure that works for all of them, instead of replacing it. In training
    the cepstra may weigh less, so that the body learns what it could otherwise leave to them.

    Expects a front end that does not normalise.

    Raises:
        InputError: a condition or adapters for a body whose blocks have none.
    """

    def __init__(self, body: Callable[[EncoderConfig, int], Body], config: EncoderConfig, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end, self.normalize = front_end, config.normalize
        self.weight, asked = config.cepstra, config.cepstra_in_training
        self.weight_in_training = self.weight if asked is None else asked
        self.training_dtype = torch.float32
        """What the body multiplies in while it is trained; what is stored, and what is used, stays as it is."""
        self.body = body(config, front_end.n_mels)
        for name in ("condition", "adapter"):
            if getattr(config, name) and not isinstance(self.body, ConvBody):
                raise InputError(
                    f"encoder.{name} is {getattr(config, name)} and {config.name} has none; set it to 0, or "
                    "encoder.name to conv or crnn."
                )
        self.cepstra = MfccEncoder(config, front_end) if config.cepstra else None
        self.dim = config.dim + (self.cepstra.dim if self.cepstra else 0)
        self.condition = config.condition
        """Size of the context that ``forward`` may be given, 0 for none."""

    def forward(
        self,
        inputs: Float[Tensor, "B T F"],
        lengths: Int[Tensor, " B"],
        context: Float[Tensor, "*B E"] | None = None,
    ) -> Float[Tensor, "B T2 D"]:
        """Frames; ``context`` is one for all windows (E,) or for each (B, E)."""
        heard, mask = self._heard(inputs, lengths)
        given = () if context is None else (context,)
        with self._in_training_dtype(inputs):
            frames = self.body(heard, mask, *given)
        return self._fused(frames.to(inputs.dtype), inputs, lengths, mask)

    def with_hidden(
        self, inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B T2 D"], Float[Tensor, "B T2 C"], Float[Tensor, "B T2"] | None]:
        """Frames as ``forward`` gives them, what the last block of a ``conv`` body gives, and its mask: for a second
        head on the same body.

        Raises:
            InputError: another body.
        """
        if type(self.body) is not ConvBody:
            raise InputError("A second head needs the blocks of encoder.name conv; set it to conv.")
        heard, mask = self._heard(inputs, lengths)
        with self._in_training_dtype(inputs):
            hidden, hidden_mask = self.body.hidden(heard, mask)
            frames = self.body.project(hidden)
        hidden = hidden.to(inputs.dtype)
        return self._fused(frames.to(inputs.dtype), inputs, lengths, mask), hidden, hidden_mask

    def _heard(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """Normalised windows and their mask."""
        mask = None if all_full(lengths, inputs.shape[1]) else frame_mask(lengths, inputs.shape[1]).to(inputs.dtype)
        return normalized(inputs, mask, self.normalize), mask

    def _in_training_dtype(self, inputs: Tensor) -> AbstractContextManager[Any]:
        low = self.training and self.training_dtype != torch.float32
        return torch.autocast(inputs.device.type, self.training_dtype, enabled=True) if low else nullcontext()

    def _fused(self, frames: Tensor, inputs: Tensor, lengths: Tensor, mask: Tensor | None) -> Tensor:
        """The learned part beside the cepstra, each of unit length; padding is 0."""
        # Not functional.normalize, whose second derivative is NaN where a frame is 0 (silence, padding).
        frames = frames * torch.rsqrt(frames.square().sum(-1, keepdim=True) + 1e-8)
        if self.cepstra is not None:
            known = self.cepstra(inputs, lengths)
            for _ in range(self.body.halvings):
                known, lengths = halved(known, lengths)
            # Usual lengths are about 5; a moment where all cepstra cancel must not become a direction made of rounding.
            known = functional.normalize(known, dim=-1, eps=0.1)
            weight = self.weight_in_training if self.training else self.weight
            frames = torch.cat([frames, weight * known], -1)
        return frames if mask is None else frames * mask[:, :: 2**self.body.halvings, None]

    def out_lengths(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        step = 2**self.body.halvings
        return (lengths + step - 1) // step


ADAPTABLE = ("conv", "crnn")
"""Encoders whose blocks may hear a context or have adapters."""
BODIES: dict[str, Callable[[EncoderConfig, int], Body]] = {
    "conv": ConvBody,
    "linear": LinearBody,
    "fc": PerceptronBody,
    "sparse": SparseBody,
    "conformer": ConformerBody,
    "crnn": RecurrentBody,
}
ENCODERS: dict[str, Callable[[EncoderConfig, FrontEnd], nn.Module]] = {
    **{name: partial(FusedEncoder, body) for name, body in BODIES.items()},
    "logmel": LogMelEncoder,
    "mfcc": MfccEncoder,
}
