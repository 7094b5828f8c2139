"""Bodies that see a frame with its neighbours and nothing else: one linear map, or a multi-layer perceptron.

What a body is given and gives is said in ``nets.convolutional``.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..config import EncoderConfig
from ..contracts import InputError
from .convolutional import require_odd


class LinearBody(nn.Module):
    """One linear map of ``context`` stacked frames: the least that can be learned.

    Raises:
        InputError: an even context, or one that leaves frames between two outputs unheard.
    """

    def __init__(self, config: EncoderConfig, n_mels: int) -> None:
        super().__init__()
        require_context(config)
        self.context, self.halvings = config.context, config.halvings
        self.project = nn.Linear(config.context * n_mels, config.dim)

    def forward(self, x: Float[Tensor, "B T F"], mask: Float[Tensor, "B T"] | None) -> Float[Tensor, "B T2 D"]:
        return self.project(stacked(x, self.context, 2**self.halvings))


class PerceptronBody(nn.Module):
    """``blocks`` fully connected layers of ``channels`` units over ``context`` stacked frames, and a linear map.

    Each layer is normalised over its units frame by frame (Ba et al. 2016, LayerNorm), so that padding plays no part.
    A subclass may give other linear layers.

    Raises:
        InputError: as ``LinearBody``.
    """

    def __init__(self, config: EncoderConfig, n_mels: int) -> None:
        super().__init__()
        require_context(config)
        self.context, self.halvings = config.context, config.halvings
        sizes = [config.context * n_mels, *[config.channels] * config.blocks, config.dim]
        *hidden, self.project = self.layers(config, sizes)
        self.hidden = nn.ModuleList(hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(config.channels) for _ in hidden)

    def layers(self, config: EncoderConfig, sizes: Sequence[int]) -> list[nn.Module]:
        """A linear layer from each size to the next; all but the last are followed by a norm with an offset."""
        last = len(sizes) - 2
        return [nn.Linear(sizes[i], sizes[i + 1], bias=i == last) for i in range(last + 1)]

    def forward(self, x: Float[Tensor, "B T F"], mask: Float[Tensor, "B T"] | None) -> Float[Tensor, "B T2 D"]:
        x = stacked(x, self.context, 2**self.halvings)
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = functional.relu(norm(layer(x)))
        return self.project(x)


def stacked(x: Float[Tensor, "B T F"], context: int, stride: int) -> Float[Tensor, "B T2 CF"]:
    """Every ``stride``-th frame with its ``context`` - 1 neighbours as one vector, zeros beyond the ends."""
    padded = functional.pad(x, (0, 0, context // 2, context // 2))
    return padded.unfold(1, context, stride).transpose(2, 3).flatten(2)


def require_context(config: EncoderConfig) -> None:
    """Raise InputError for a context without a middle, or with gaps between one and the next."""
    require_odd("context", config.context)
    if config.context < 2**config.halvings:
        raise InputError(
            f"encoder.context is {config.context} and encoder.halvings is {config.halvings}; frames between two "
            f"outputs would go unheard, so raise encoder.context to {2**config.halvings + 1} or lower encoder.halvings."
        )
