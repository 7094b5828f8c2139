"""Group norm of one task or many, differentiable twice in closed form; groups of many tasks are simply more groups."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .task_groups import CHANNELS_LAST, joined, parted

_NARROW = 8
"""Channels of a group below which the native kernel, which goes group by group, is slower than sums over frames."""


def _narrow_group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, n_groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Group norm by the sums of each channel; variance as E[x^2] - E[x]^2, in double precision by a second pass."""
    _, channels, height, width = x.shape
    frames = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, H W, C), contiguous
    count = height * width * channels // n_groups

    def average(value: Tensor) -> Tensor:
        return value.sum(1).unflatten(1, (n_groups, -1)).sum(2, keepdim=True) / count

    mean = average(frames)
    if x.dtype == torch.float64:
        centred = frames - mean.expand(-1, -1, channels // n_groups).flatten(1)[:, None]
        variance = average(centred.square())
    else:
        variance = (average(frames.square()) - mean.square()).clamp_min(0)
    rstd = (variance + eps).rsqrt()
    scale = weight.view(n_groups, -1) * rstd
    shift = bias.view(n_groups, -1) - mean * scale
    y = torch.addcmul(shift.flatten(1)[:, None], frames, scale.flatten(1)[:, None])
    return y.unflatten(1, (height, width)).permute(0, 3, 1, 2), mean.flatten(1), rstd.flatten(1)


class GroupNorm(Function):
    """(B, C, H, W), weight (C,) and bias (C,) -> normalised (B, C, H, W), mean and 1 / deviation (B, groups)."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, n_groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        x = x.contiguous(memory_format=CHANNELS_LAST)
        n_items, channels, height, width = x.shape
        if x.device.type == "cpu" and channels < _NARROW * n_groups and x.dtype == weight.dtype:
            return _narrow_group_norm(x, weight, bias, n_groups, eps)
        return torch.native_group_norm(
            x, weight.contiguous(), bias.contiguous(), n_items, channels, height * width, n_groups, eps
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, weight, _, ctx.n_groups, ctx.eps = inputs
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.save_for_backward(x, weight, mean, rstd)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        return (*GroupNormGradient.apply(grad, x, weight, mean, rstd, ctx.n_groups), None, None)

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, weight: Tensor, bias: Tensor, n_groups: int, eps: float
    ) -> tuple[Any, Any]:
        n = info.batch_size
        x, weight, bias = (
            joined(value, dim, n, at) for value, dim, at in zip((x, weight, bias), in_dims, (1, 0, 0), strict=False)
        )
        found = GroupNorm.apply(x, weight, bias, n_groups * n, eps)
        return tuple(parted(value, n, 1) for value in found), (1, 1, 1)


class GroupNormGradient(Function):
    """Gradients of ``GroupNorm`` in input, weight and bias; ``mean`` and ``rstd`` (B, groups) are those of ``x``."""

    @staticmethod
    def forward(
        grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, n_groups: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        n_items, channels, height, width = x.shape
        grad, x = grad.contiguous(memory_format=CHANNELS_LAST), x.contiguous(memory_format=CHANNELS_LAST)
        sizes = (n_items, channels, height * width, n_groups)
        return torch.ops.aten.native_group_norm_backward(
            grad, x, mean.contiguous(), rstd.contiguous(), weight.contiguous(), *sizes, (True, True, True)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        grad, x, weight, mean, rstd, ctx.n_groups = inputs
        ctx.save_for_backward(grad, x, weight, mean, rstd)

    @staticmethod
    def backward(ctx: Any, of_x: Tensor, of_weight: Tensor, of_bias: Tensor) -> tuple[Any, ...]:
        taken = GroupNormSecond.apply(of_x, of_weight, of_bias, *ctx.saved_tensors, ctx.n_groups)
        return (*taken, None, None, None)

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, n_groups: int
    ) -> tuple[Any, Any]:
        n = info.batch_size
        places = (1, 1, 0, 1, 1)
        tensors = [
            joined(value, dim, n, at)
            for value, dim, at in zip((grad, x, weight, mean, rstd), in_dims, places, strict=False)
        ]
        of_x, of_weight, of_bias = GroupNormGradient.apply(*tensors, n_groups * n)
        return (parted(of_x, n, 1), parted(of_weight, n, 0), parted(of_bias, n, 0)), (1, 0, 0)


class GroupNormSecond(Function):
    """Gradients of ``GroupNormGradient`` in ``grad``, ``x`` and ``weight``, in closed form.

    With z = (x - mean) r, a = weight grad and M the mean over a group, the input's gradient is
    ``r (a - M[a] - z M[a z])``. Its derivatives are sums of u = ``of_x``, ``grad`` and ``x``, each times a number of
    its channel, and these numbers need five sums over frames only.
    """

    @staticmethod
    def forward(
        of_x: Tensor,
        of_weight: Tensor,
        of_bias: Tensor,
        grad: Tensor,
        x: Tensor,
        weight: Tensor,
        mean: Tensor,
        rstd: Tensor,
        n_groups: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        height, width = x.shape[2:]
        u, g, x = (value.permute(0, 2, 3, 1).flatten(1, 2) for value in (of_x, grad, x))  # (B, H W, C)

        def by_group(value: Tensor) -> Tensor:  # (B, C) or (C,) -> (B or 1, groups, C / groups)
            return value.view(-1, n_groups, weight.shape[0] // n_groups)

        def average(value: Tensor) -> Tensor:
            return value.sum(2, keepdim=True) / (x.shape[1] * value.shape[2])

        r, m, w, ow, ob = rstd[:, :, None], mean[:, :, None], by_group(weight), by_group(of_weight), by_group(of_bias)
        su, sg, sx_u, sx_g, s_ug = (by_group(value.sum(1)) for value in (u, g, u * x, g * x, u * g))
        suz, sgz = r * (sx_u - m * su), r * (sx_g - m * sg)
        u_mean, uz_mean, a_mean, az_mean = average(su), average(suz), average(w * sg), average(w * sgz)
        c_x = -r * r * uz_mean
        c_1 = -r * u_mean - m * c_x  # r (u - M[u] - z M[u z]) = r u + c_x x + c_1
        to_weight = (r * s_ug + c_x * sx_g + c_1 * sg).sum(0).flatten()
        d_g, d_u = ow - r * w * uz_mean, -r * az_mean  # what z is asked for: d_g grad + d_u u
        h_mean, hz_mean = average(d_g * sg + d_u * su), average(d_g * sgz + d_u * suz)
        prefactor = average(w * s_ug) - u_mean * a_mean - uz_mean * az_mean
        e_x = -r * r * (hz_mean + r * prefactor)
        e_1 = -r * h_mean - m * e_x

        def combined(*terms: tuple[Tensor, Tensor | None]) -> Tensor:
            total, shape = None, su.shape
            for factor, value in terms:
                wide = factor.expand(shape).flatten(1)[:, None]
                total = wide if total is None or value is None else torch.addcmul(total, wide, value)
            assert total is not None
            return total.unflatten(1, (height, width)).permute(0, 3, 1, 2)

        to_grad = combined((w * c_1 - ow * r * m + ob, None), (w * c_x + ow * r, x), (w * r, u))
        to_x = combined((e_1, None), (e_x, x), (r * d_g, g), (r * d_u, u))
        return to_grad, to_x, to_weight

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        raise NotImplementedError("a third derivative of group norm is not built; use lowered=False")

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Any, Any]:
        n, places = info.batch_size, (1, 0, 0, 1, 1, 0, 1, 1)
        tensors = [joined(value, dim, n, at) for value, dim, at in zip(inputs[:-1], in_dims, places, strict=False)]
        to_grad, to_x, to_weight = GroupNormSecond.apply(*tensors, inputs[-1] * n)
        return (parted(to_grad, n, 1), parted(to_x, n, 1), parted(to_weight, n, 0)), (1, 1, 0)


def group_norm(
    x: Tensor, n_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """``torch.nn.functional.group_norm``, (B, C, ...) -> (B, C, ...)."""
    shape = x.shape
    x = x.float() if x.dtype == torch.bfloat16 else x  # several times as fast as the native kernel for bfloat16
    folded = x.unsqueeze(2) if x.ndim == 3 else x.flatten(3)
    weight = x.new_ones(shape[1]) if weight is None else weight
    bias = x.new_zeros(shape[1]) if bias is None else bias
    y = GroupNorm.apply(folded, weight, bias, n_groups, eps)[0]
    return y.squeeze(2) if x.ndim == 3 else y.reshape(shape)
