"""Within ``Lowered`` convolutions and group norms run in the memory layout that a processor likes best.

Functions of ``torch.nn.functional`` are replaced by those of ``convolution`` and ``group_norm``; values change by
rounding only.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .convolution import conv1d, conv2d
from .group_norm import group_norm


def _fits_conv(x: Tensor, weight: Tensor, *rest: Any, padding: Any = 0, **named: Any) -> bool:
    padding = rest[2] if len(rest) > 2 else padding
    return x.ndim == weight.ndim and not isinstance(padding, str) and x.is_floating_point()


def _fits_norm(x: Tensor, *rest: Any, **named: Any) -> bool:
    return x.ndim >= 3 and x.is_floating_point()


_FORMS: dict[Any, tuple[Callable[..., bool], Callable[..., Tensor]]] = {
    torch.conv1d: (_fits_conv, conv1d),
    torch.conv2d: (_fits_conv, conv2d),
    functional.group_norm: (_fits_norm, group_norm),
}


class Lowered(TorchFunctionMode):
    """Within this context the functions above take the place of torch's."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func in _FORMS:
            fits, form = _FORMS[func]
            if fits(*args, **named):
                return form(*args, **named)
        return func(*args, **named)
