"""Convolutions of one task or many in native kernels, differentiable any number of times.

A convolution y = x * w, its gradient in the input and its gradient in the kernel are the three partial derivatives of
one trilinear form <x * w, g>. Each is a native kernel, and each is differentiated by the other two, so that derivatives
of any order stay native. The tasks of a chunk, each with a kernel of its own, are groups of one grouped convolution.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .task_groups import CHANNELS_LAST, joined, parted

_backward = torch.ops.aten.convolution_backward
Settings = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]
"""Stride, padding, dilation and groups of a convolution over (B, C, H, W)."""


def _grouped(settings: Settings, n_tasks: int) -> Settings:
    return (*settings[:3], settings[3] * n_tasks)


class Convolution(Function):
    """(B, C, H, W) and kernel (C2, C / groups, K, L) -> (B, C2, H2, W2)."""

    @staticmethod
    def forward(x: Tensor, kernel: Tensor, settings: Settings) -> Tensor:
        stride, padding, dilation, groups = settings
        x, kernel = x.contiguous(memory_format=CHANNELS_LAST), kernel.contiguous(memory_format=CHANNELS_LAST)
        return torch.convolution(x, kernel, None, stride, padding, dilation, False, (0, 0), groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, kernel, ctx.settings = inputs
        ctx.save_for_backward(x, kernel)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, kernel = ctx.saved_tensors
        of_x = InputGradient.apply(grad, kernel, ctx.settings, x.shape) if ctx.needs_input_grad[0] else None
        of_kernel = KernelGradient.apply(x, grad, ctx.settings, kernel.shape) if ctx.needs_input_grad[1] else None
        return of_x, of_kernel, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, kernel: Tensor, settings: Settings) -> tuple[Tensor, int]:
        n = info.batch_size
        x, kernel = joined(x, in_dims[0], n, 1), joined(kernel, in_dims[1], n, 0)
        return parted(Convolution.apply(x, kernel, _grouped(settings, n)), n, 1), 1


class InputGradient(Function):
    """Gradient (B, C2, H2, W2) of the result and a kernel -> gradient (B, C, H, W) of the input, of ``shape``."""

    @staticmethod
    def forward(grad: Tensor, kernel: Tensor, settings: Settings, shape: Sequence[int]) -> Tensor:
        stride, padding, dilation, groups = settings
        like = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=CHANNELS_LAST)
        grad, kernel = grad.contiguous(memory_format=CHANNELS_LAST), kernel.contiguous(memory_format=CHANNELS_LAST)
        wanted = (True, False, False)
        return _backward(grad, like, kernel, None, stride, padding, dilation, False, (0, 0), groups, wanted)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        grad, kernel, ctx.settings, _ = inputs
        ctx.save_for_backward(grad, kernel)

    @staticmethod
    def backward(ctx: Any, of_x: Tensor) -> tuple[Any, ...]:
        grad, kernel = ctx.saved_tensors
        of_grad = Convolution.apply(of_x, kernel, ctx.settings) if ctx.needs_input_grad[0] else None
        of_kernel = KernelGradient.apply(of_x, grad, ctx.settings, kernel.shape) if ctx.needs_input_grad[1] else None
        return of_grad, of_kernel, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, grad: Tensor, kernel: Tensor, settings: Settings, shape: Sequence[int]
    ) -> tuple[Tensor, int]:
        n = info.batch_size
        grad, kernel = joined(grad, in_dims[0], n, 1), joined(kernel, in_dims[1], n, 0)
        shape = (shape[0], n * shape[1], *shape[2:])
        return parted(InputGradient.apply(grad, kernel, _grouped(settings, n), shape), n, 1), 1


class KernelGradient(Function):
    """Input (B, C, H, W) and gradient (B, C2, H2, W2) of the result -> gradient of the kernel, of ``shape``."""

    @staticmethod
    def forward(x: Tensor, grad: Tensor, settings: Settings, shape: Sequence[int]) -> Tensor:
        stride, padding, dilation, groups = settings
        like = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=CHANNELS_LAST)
        x, grad = x.contiguous(memory_format=CHANNELS_LAST), grad.contiguous(memory_format=CHANNELS_LAST)
        wanted = (False, True, False)
        return _backward(grad, x, like, None, stride, padding, dilation, False, (0, 0), groups, wanted)[1]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, grad, ctx.settings, _ = inputs
        ctx.save_for_backward(x, grad)

    @staticmethod
    def backward(ctx: Any, of_kernel: Tensor) -> tuple[Any, ...]:
        x, grad = ctx.saved_tensors
        of_x = InputGradient.apply(grad, of_kernel, ctx.settings, x.shape) if ctx.needs_input_grad[0] else None
        of_grad = Convolution.apply(x, of_kernel, ctx.settings) if ctx.needs_input_grad[1] else None
        return of_x, of_grad, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, grad: Tensor, settings: Settings, shape: Sequence[int]
    ) -> tuple[Tensor, int]:
        n = info.batch_size
        x, grad = joined(x, in_dims[0], n, 1), joined(grad, in_dims[1], n, 1)
        shape = (n * shape[0], *shape[1:])
        return parted(KernelGradient.apply(x, grad, _grouped(settings, n), shape), n, 0), 0


def autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """In the precision that autocast asks of convolutions, where it is on."""
    if not torch.is_autocast_enabled(x.device.type) or x.dtype == torch.float64:
        return x, weight
    dtype = torch.get_autocast_dtype(x.device.type)
    return x.to(dtype), weight.to(dtype)


def amounts(padding: Any, kernel: Sequence[int], dilation: Any) -> Any:
    """Padding in frames at each side, of ``same`` and ``valid`` too; None for a ``same`` of unlike sides."""
    if not isinstance(padding, str):
        return padding
    steps = _pair(dilation)[-len(kernel) :]
    total = [0 if padding == "valid" else (size - 1) * step for size, step in zip(kernel, steps, strict=True)]
    return None if any(size % 2 for size in total) else tuple(size // 2 for size in total)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.nn.functional.conv1d``, (B, C, T) -> (B, C2, T2)."""
    x, weight = autocast(x, weight)
    padding = amounts(padding, weight.shape[2:], dilation)
    settings = ((1, _pair(stride)[0]), (0, _pair(padding)[0]), (1, _pair(dilation)[0]), groups)
    y = Convolution.apply(x.unsqueeze(2), weight.unsqueeze(2), settings).squeeze(2)
    return y if bias is None else y + bias[:, None]


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.nn.functional.conv2d``, (B, C, H, W) -> (B, C2, H2, W2)."""
    x, weight = autocast(x, weight)
    padding = amounts(padding, weight.shape[2:], dilation)
    y = Convolution.apply(x, weight, (_pair(stride), _pair(padding), _pair(dilation), groups))
    return y if bias is None else y + bias[:, None, None]
