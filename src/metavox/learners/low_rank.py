"""Weights that change by a product of two small factors (Hu et al. 2021, LoRA), for any network.

Nothing is built into the network: a state holds the factors beside or in place of values, ``NAME.lora_b @ NAME.lora_a``
is added to the value ``NAME`` whenever the network is called, and what comes out is a network of the same shape.
"""

from collections.abc import Mapping
from zlib import crc32

import torch
from torch import Tensor

from ..contracts import State

A, B = ".lora_a", ".lora_b"
"""Suffixes of the factors of a value: (rank, columns) and (rows, rank); rows are its first dimension."""


def factors(values: Mapping[str, Tensor], rank: int) -> State:
    """Factors of every value of two or more dimensions, whose product is zero; vectors have none.

    The first is drawn once and for all from the value's name, so that what was learned to be adapted in some
    directions is adapted in the same ones; the second is zero. Each row of the first has a length of about 1.
    """
    found: State = {}
    for name, value in values.items():
        if value.ndim < 2:
            continue
        rows, columns = value.shape[0], value[0].numel()
        size = min(rank, rows, columns)
        generator = torch.Generator().manual_seed(crc32(name.encode()))
        drawn = torch.randn(size, columns, generator=generator, dtype=torch.float64) / columns**0.5
        found[name + A] = drawn.to(value)
        found[name + B] = value.detach().new_zeros(rows, size)
    return found


def owner(name: str) -> str:
    """The value that a name of a state belongs to: its own, or that of a factor."""
    return name.removesuffix(A).removesuffix(B)


def merged(values: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> State:
    """``state`` with the values that its factors change in place of the factors; ``values`` has those it lacks."""
    found = {name: value for name, value in state.items() if owner(name) == name}
    for name, second in state.items():
        if name.endswith(B):
            whole = owner(name)
            value = found.get(whole, values[whole])
            found[whole] = value + (second @ state[whole + A]).reshape(value.shape)
    return found
