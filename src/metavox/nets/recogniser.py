"""From features to symbols: a body at 12.5 or 25 frames a second, a head at 50, and what adapts between them.

The body hears frames of 80 or 40 ms, which is where the multiplications are; the last layer gives frames of 20 ms,
four or two for each, since CTC needs a frame for every symbol and a blank between two that are alike. A second head in
the middle of the body spells phones where a pronunciation is known (intermediate CTC, Lee and Watanabe 2021): letters
differ from language to language, phones less.
"""

from contextlib import nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..config.transcription import RecogniserConfig
from ..contracts import InputError
from .alignment import frame_mask
from .conformer import ConformerBlock
from .normalization import normalized
from .temporal import ChannelNorm, TemporalBlock

STEM = 4
"""Input frames for one frame of the first blocks."""
OUTPUT = 2
"""Input frames for one output frame."""
MIN_FRAMES = 8
"""Fewer input frames than this hold no symbol."""


class Recogniser(nn.Module):
    """Log probabilities of symbols, 0 the blank, for 20 ms each (with a hop of 10 ms).

    Padding is masked and never changes a result. In training the convolutions may multiply in bfloat16.

    Raises:
        InputError: an even kernel; a conformer's channels that its heads cannot share in pairs, or one that is asked
            for an encoding or adapters, which its blocks have not.
    """

    def __init__(self, config: RecogniserConfig) -> None:
        super().__init__()
        _check(config)
        channels = config.channels
        self.config, self.front_end = config, config.front_end
        self.training_dtype = torch.float32
        """What is multiplied in while the network is trained; what is stored, and what is used, stays as it is."""
        widths = [config.front_end.n_mels, channels // 2, channels]
        self.stem = nn.ModuleList(nn.Conv1d(widths[i], widths[i + 1], 5, 2, 2) for i in range(2))
        self.blocks = nn.ModuleList(self._block(config) for _ in range(config.blocks))
        self.halve = nn.Conv1d(channels, channels, 3, 2, 1) if config.reduction > STEM else None
        self.norm = ChannelNorm(channels)
        n_parts = config.reduction // OUTPUT
        self.widen = nn.Linear(channels, n_parts * config.dim)
        self.head = nn.Linear(config.dim, config.n_symbols)
        self.middle = max(1, config.blocks * 2 // 3)
        if config.n_phones:
            self.phone_widen = nn.Linear(channels, config.dim // 2 * n_parts)
            self.phone_head = nn.Linear(config.dim // 2, config.n_phones)
        self.encode = nn.Linear(channels, config.condition) if config.condition else None

    @staticmethod
    def _block(config: RecogniserConfig) -> nn.Module:
        if config.body == "conformer":
            return ConformerBlock(config.channels, config.heads, config.kernel)
        film = config.condition_by == "film"
        squeeze = config.squeeze or (config.condition > 0 and not film)
        return TemporalBlock(config.channels, config.kernel, config.condition, config.adapter, squeeze, film)

    @property
    def frame_s(self) -> float:
        """Seconds from one output frame to the next."""
        return self.front_end.hop_ms / 1000 * OUTPUT

    def out_lengths(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Valid output frames for each count of valid input frames."""
        reduction = self.config.reduction
        return (reduction // OUTPUT) * ((lengths + reduction - 1) // reduction)

    def forward(
        self,
        inputs: Float[Tensor, "B T F"],
        lengths: Int[Tensor, " B"],
        encoding: Float[Tensor, " E"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B T2 V"]:
        """Log probabilities; ``generator`` draws what dropout leaves out, without one nothing is."""
        hidden, _ = self.hidden(inputs, lengths, encoding, generator)
        return self.spell(hidden)

    def with_phones(
        self,
        inputs: Float[Tensor, "B T F"],
        lengths: Int[Tensor, " B"],
        encoding: Float[Tensor, " E"] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "B T2 V"], Float[Tensor, "B T2 P"]]:
        """Log probabilities of symbols and of phones."""
        hidden, middle = self.hidden(inputs, lengths, encoding, generator)
        with self._precision(inputs):
            phones = self._spread(functional.gelu(self.phone_widen(middle.transpose(1, 2))))
        return self.spell(hidden), self.phone_head(phones.to(inputs.dtype)).log_softmax(-1)

    def hidden(
        self,
        inputs: Float[Tensor, "B T F"],
        lengths: Int[Tensor, " B"],
        encoding: Float[Tensor, " E"] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "B D T2"], Float[Tensor, "B D T2"]]:
        """What the last block gives, and the one that phones are read from."""
        mask = frame_mask(lengths, inputs.shape[1]).to(inputs.dtype)
        with self._precision(inputs):
            x = normalized(inputs, mask, "bins").transpose(1, 2)
            for layer in self.stem:
                mask = mask[:, ::2]
                x = functional.gelu(layer(x)) * mask[:, None]
            middle = x
            for index, block in enumerate(self.blocks, 1):
                if self.halve is not None and index == min(self.config.early, self.middle - 1) + 1:
                    mask = mask[:, ::2]
                    x = self.halve(x) * mask[:, None]
                if isinstance(block, TemporalBlock):
                    x = block(x, mask, encoding, self._kept(x, generator))
                else:
                    x = block(x.transpose(1, 2), mask).transpose(1, 2) * mask[:, None]
                if index == self.middle:
                    middle = x
        return x, middle

    def spell(self, hidden: Float[Tensor, "B C T"]) -> Float[Tensor, "B T2 V"]:
        """Log probabilities of symbols for what the body gives."""
        return self.head(self.before_head(hidden)).log_softmax(-1)

    def before_head(self, hidden: Float[Tensor, "B C T"]) -> Float[Tensor, "B T2 D2"]:
        """What the head reads of what the body gives."""
        with self._precision(hidden):
            frames = self._spread(functional.gelu(self.widen(self.norm(hidden).transpose(1, 2))))
        return frames.to(self.head.weight.dtype)

    def encoding(self, inputs: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, " E"]:
        """What a support set sounds like: the mean over its frames of the middle of the body, which hears none itself.

        Raises:
            InputError: a network without conditioning.
        """
        if self.encode is None:
            raise InputError("recogniser.condition is 0; train a recogniser with a size for its encodings.")
        _, middle = self.hidden(inputs, lengths)
        mask = frame_mask(lengths, inputs.shape[1]).to(middle.dtype)[:, :: self.config.reduction]
        mean = (middle * mask[:, None]).sum((0, 2)) / mask.sum()
        return torch.tanh(self.encode(mean.to(self.encode.weight.dtype)))

    def _spread(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T2 D2"]:
        """Frames of 20 ms for each of the body's."""
        n_items, n_frames, size = x.shape
        n_parts = self.config.reduction // OUTPUT
        return x.reshape(n_items, n_parts * n_frames, size // n_parts)

    def _kept(self, x: Tensor, generator: torch.Generator | None) -> Tensor | None:
        if generator is None or not self.training or not self.config.dropout:
            return None
        return torch.rand(x.shape[:2], generator=generator, device=x.device) >= self.config.dropout

    def _precision(self, x: Tensor) -> "torch.autocast | nullcontext[None]":
        low = self.training and self.training_dtype != torch.float32
        return torch.autocast(x.device.type, self.training_dtype) if low else nullcontext()


def _check(config: RecogniserConfig) -> None:
    if config.kernel % 2 == 0:
        raise InputError(f"recogniser.kernel is {config.kernel}; it must be odd, so that frames stay in their place.")
    if config.body != "conformer":
        return
    if config.channels % (2 * config.heads):
        raise InputError(
            f"recogniser.channels is {config.channels} and recogniser.heads is {config.heads}; make channels a "
            f"multiple of {2 * config.heads}."
        )
    for name, size in (("condition", config.condition), ("adapter", config.adapter)):
        if size:
            raise InputError(f"recogniser.{name} is {size} and a conformer has none; set it to 0, or body to temporal.")
