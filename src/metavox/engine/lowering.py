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

from .convolution import amounts, conv1d, conv2d
from .group_norm import group_norm


def _fits_conv(*args: Any, padding: Any = 0, dilation: Any = 1, **named: Any) -> bool:
    if len(args) < 2:  # called by names of torch's own
        return False
    x, weight, *rest = args
    padding = rest[2] if len(rest) > 2 else padding
    dilation = rest[3] if len(rest) > 3 else dilation
    fits = amounts(padding, weight.shape[2:], dilation) is not None
    return fits and x.ndim == weight.ndim and x.is_floating_point()


def _fits_norm(*args: Any, **named: Any) -> bool:
    return len(args) >= 2 and args[0].ndim >= 3 and args[0].is_floating_point()


def _fits_pool(*args: Any, **named: Any) -> bool:
    sizes = args[1] if len(args) == 2 else 0
    return set(sizes if isinstance(sizes, tuple | list) else [sizes]) == {1}


def mean1d(x: Tensor, sizes: Any) -> Tensor:
    """Adaptive average pooling to one frame, (..., T) -> (..., 1); torch's own strides cannot be vectorised."""
    return x.mean(-1, keepdim=True)


def mean2d(x: Tensor, sizes: Any) -> Tensor:
    """The same, (..., H, W) -> (..., 1, 1)."""
    return x.mean((-2, -1), keepdim=True)


_FORMS: dict[Any, tuple[Callable[..., bool], Callable[..., Tensor]]] = {
    torch.conv1d: (_fits_conv, conv1d),
    torch.conv2d: (_fits_conv, conv2d),
    functional.group_norm: (_fits_norm, group_norm),
    torch.adaptive_avg_pool1d: (_fits_pool, mean1d),
    functional.adaptive_avg_pool2d: (_fits_pool, mean2d),
}


def laid_out(value: Tensor) -> Tensor:
    """The same numbers with the second dimension last in memory, as kernels of convolutions have it then."""
    if value.ndim == 4:
        return value.detach().contiguous(memory_format=torch.channels_last)
    if value.ndim == 3:
        return value.detach().unsqueeze(2).contiguous(memory_format=torch.channels_last).squeeze(2)
    return value.detach()


class Lowered(TorchFunctionMode):
    """Within this context the functions above take the place of torch's."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func in _FORMS:
            fits, form = _FORMS[func]
            if fits(*args, **named):
                return form(*args, **named)
        return func(*args, **named)
