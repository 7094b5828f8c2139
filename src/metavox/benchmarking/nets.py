"""The two networks of the comparison, as plain modules that every engine gets alike.

The norm is ``GroupNorm``: it needs no statistics of a batch, so an engine may join or split batches without changing
the function, and the gradients of all engines can be compared.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

N_MELS, N_FRAMES = 40, 98
"""One second of speech: 98 frames of 40 mel bins."""
N_GROUPS = 8


class Classifier(nn.Module):
    """A body that makes features and a linear head, so that ANIL can adapt the head alone."""

    def __init__(self, body: nn.Module, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(n_features, n_classes)

    def forward(self, inputs: Tensor) -> Float[Tensor, "B N"]:
        """Scores of the classes. Inputs (B, 40, 98), or (B, 1, 40, 98) for ``Conv4``."""
        return self.head(self.body(inputs))


class _Residual(nn.Module):
    """Two convolutions over nine frames, the first of stride 2, beside a strided convolution over one."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(n_in, n_out, 9, stride=2, padding=4, bias=False)
        self.first_norm = nn.GroupNorm(N_GROUPS, n_out)
        self.second = nn.Conv1d(n_out, n_out, 9, padding=4, bias=False)
        self.second_norm = nn.GroupNorm(N_GROUPS, n_out)
        self.beside = nn.Conv1d(n_in, n_out, 1, stride=2, bias=False)
        self.beside_norm = nn.GroupNorm(N_GROUPS, n_out)

    def forward(self, inputs: Float[Tensor, "B C T"]) -> Float[Tensor, "B D H"]:
        found = functional.relu(self.first_norm(self.first(inputs)))
        found = self.second_norm(self.second(found))
        return functional.relu(found + functional.relu(self.beside_norm(self.beside(inputs))))


class _MeanOverTime(nn.Module):
    def forward(self, inputs: Float[Tensor, "B C T"]) -> Float[Tensor, "B C"]:
        return inputs.mean(2)


def _tc_resnet8(n_classes: int) -> Classifier:
    channels = (16, 24, 32, 48)
    stem = nn.Conv1d(N_MELS, channels[0], 3, padding=1, bias=False)
    blocks = [_Residual(*pair) for pair in pairwise(channels)]
    return Classifier(nn.Sequential(stem, *blocks, _MeanOverTime()), channels[-1], n_classes)


def _conv4(n_classes: int) -> Classifier:
    width, layers = 64, []
    for n_in in (1, width, width, width):
        layers += [nn.Conv2d(n_in, width, 3, padding=1), nn.GroupNorm(N_GROUPS, width), nn.ReLU(), nn.MaxPool2d(2)]
    n_features = width * (N_MELS // 16) * (N_FRAMES // 16)
    return Classifier(nn.Sequential(*layers, nn.Flatten()), n_features, n_classes)


NETS: dict[str, tuple[Callable[[int], Classifier], tuple[int, ...]]] = {
    "tc_resnet8": (_tc_resnet8, (N_MELS, N_FRAMES)),
    "conv4": (_conv4, (1, N_MELS, N_FRAMES)),
}
"""By name: what builds the network, and the shape of one input.

``tc_resnet8``: Choi et al. 2019, *Temporal convolution for real-time keyword spotting*, section 2.2: mel bins are the
channels of convolutions over time. ``conv4``: Vinyals et al. 2016, section 4.1: four times 64 channels, 3 x 3.
"""


def build_net(name: str, n_classes: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Classifier:
    """A network with weights drawn from ``generator``: uniform within 1 / sqrt(fan in), norms 1 and 0.

    The draw is made in float64, so networks of both precisions hold the same values up to rounding.
    """
    with torch.device("meta"):  # the initialisers of torch would draw from the global generator
        net = NETS[name][0](n_classes)
    net.to_empty(device="cpu").to(torch.float64)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.GroupNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                limit = 1 / math.sqrt(module.weight[0].numel())
                for value in (module.weight, module.bias):
                    if value is not None:
                        value.uniform_(-limit, limit, generator=generator)
    return net.to(dtype)
