"""Connectionist temporal classification (Graves et al. 2006) that can be differentiated twice and vectorised.

PyTorch's own loss has no second derivative (pytorch#70108), and its first is right through ``log_softmax`` only
(pytorch#181534). Here value and first gradient still come from it, the gradient corrected to the true one, and the
second derivative is exact (``forward_backward``).
"""

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..contracts import InputError
from .forward_backward import Posteriors, Problem, gradient, hessian_product, posteriors

REDUCTIONS = ("none", "mean", "sum")
KEPT_AXES = (1, 1, 3)
"""Where the items are in the fields of ``Posteriors``."""
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int] | int,
    target_lengths: Tensor | Sequence[int] | int,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Minus the log-probability of the targets, summed over alignments; arguments as ``torch.nn.functional.ctc_loss``.

    It has exact first and second derivatives in ``log_probs``, whether or not these are normalised, and goes through
    ``torch.func.vmap`` in any argument that is a tensor; a third derivative raises ``NotImplementedError``.

    Args:
        log_probs: (T, B, V), or (T, V) for one item. Half precision is computed in single, as under autocast.
        targets: (B, S), padded with anything, or the targets of all items end to end; (S,) for one item, where it may
            be padded too.
        input_lengths: (B,) valid frames of each item, at most T. Later frames have no influence and zero gradient.
        target_lengths: (B,) symbols of each target, 0 and more.
        blank: index of the blank.
        reduction: ``none`` gives (B,), or a scalar for one item; ``sum`` their sum; ``mean`` the mean over items of
            the loss by symbol (an empty target counts as one symbol).
        zero_infinity: a target that does not fit its frames costs nothing and has zero derivatives. Otherwise it costs
            infinity and its own derivatives are NaN, those of the other items are not.

    Raises:
        InputError: for shapes, lengths or symbols that do not fit.
    """
    if reduction not in REDUCTIONS:
        raise InputError(f"The reduction {reduction!r} is not known; use none, mean or sum.")
    _check_log_probs(log_probs, blank)
    one_item = log_probs.dim() == 2
    if log_probs.dtype in (torch.float16, torch.bfloat16):
        log_probs = log_probs.float()
    if one_item:
        log_probs = log_probs.unsqueeze(1)
    n_items = log_probs.shape[1]
    input_lengths = _lengths(input_lengths, n_items, "input_lengths")
    target_lengths = _lengths(target_lengths, n_items, "target_lengths")
    targets = _padded(targets.to(log_probs.device), target_lengths, n_items, one_item)
    of_items = _native_losses if native_is_twice_differentiable() else _losses
    losses = of_items(log_probs, targets, input_lengths, target_lengths, blank, zero_infinity)
    if reduction == "none":
        return losses.squeeze(0) if one_item else losses
    if reduction == "sum":
        return losses.sum()
    return (losses / target_lengths.to(losses).clamp_min(1)).mean()


@cache
def native_is_twice_differentiable() -> bool:
    """Whether torch's own loss has the second derivative, vectorised and in raw log-probabilities, that ours has.

    Asked once, with two tiny items on the CPU. Where it is True, ``ctc_loss`` is torch's own.
    """
    wave = torch.arange(2 * 2 * 5 * 3, dtype=torch.float64, device="cpu").mul(1.7).sin().reshape(2, 2, 5, 1, 3)
    target, n_frames, n_symbols = (torch.tensor(value, device="cpu") for value in ([[1, 2]], [5], [2]))

    def native(log_probs: Tensor) -> Tensor:
        return functional.ctc_loss(log_probs, target, n_frames, n_symbols, reduction="sum")

    def own(log_probs: Tensor) -> Tensor:
        return _losses(log_probs, target, n_frames, n_symbols, 0, False).sum()

    def curvature(loss: Any) -> Tensor:
        def along(log_probs: Tensor, direction: Tensor) -> Tensor:
            return torch.func.grad(lambda x: (torch.func.grad(loss)(x) * direction).sum())(log_probs)

        return torch.func.vmap(along)(*wave)

    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = curvature(native)
        except RuntimeError:
            return False
        return bool(torch.allclose(found, curvature(own), atol=1e-8))


def _losses(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int, zero_infinity: bool
) -> Tensor:
    """(B,) losses of (T, B, V) and padded targets (B, S)."""
    losses, _ = _Loss.apply(log_probs, targets, input_lengths, target_lengths, blank, zero_infinity)
    return torch.where(losses == torch.inf, torch.zeros_like(losses), losses) if zero_infinity else losses


def _native_losses(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int, zero_infinity: bool
) -> Tensor:
    """The same by torch alone."""
    known = _readable(input_lengths), _readable(target_lengths)
    if known[0] is not None and known[1] is not None:
        _check_values(log_probs, targets, known[0], known[1], blank)
    return functional.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, "none", zero_infinity)


# ---------------------------------------------------------------------------------------------------------- the input


def _check_log_probs(log_probs: Tensor, blank: int) -> None:
    if not log_probs.is_floating_point():
        raise InputError(f"Log-probabilities are {log_probs.dtype}, not real numbers; give the output of log_softmax.")
    shape = tuple(log_probs.shape)
    if len(shape) not in (2, 3):
        raise InputError(f"Log-probabilities of shape {shape} are neither (T, B, V) nor (T, V); put time first.")
    if 0 in shape:
        raise InputError(f"Log-probabilities of shape {shape} are empty; give at least one frame, item and symbol.")
    if not 0 <= blank < shape[-1]:
        raise InputError(f"The blank is {blank}, but symbols go from 0 to {shape[-1] - 1}; name one of them.")


def _lengths(value: Tensor | Sequence[int] | int, n_items: int, name: str) -> Tensor:
    """(B,) int64, on whichever device it came."""
    lengths = value if isinstance(value, Tensor) else torch.tensor(value, device="cpu")
    if lengths.numel() != n_items or lengths.dim() > 1:
        raise InputError(f"{name} has shape {tuple(lengths.shape)}, but there are {n_items} items; give one for each.")
    if lengths.dtype not in INTEGERS:
        raise InputError(f"{name} is {lengths.dtype}, but a length is a whole number; convert it to int64.")
    return lengths.reshape(n_items).long()


def _padded(targets: Tensor, lengths: Tensor, n_items: int, one_item: bool) -> Tensor:
    """(B, S) int64 of targets that are padded already, or come end to end."""
    if targets.dtype not in INTEGERS:
        raise InputError(f"Targets are {targets.dtype}, but a symbol is a whole number; convert them to int64.")
    if targets.dim() == 1 and one_item:
        targets = targets.unsqueeze(0)
    if targets.dim() == 2 and targets.shape[0] == n_items:
        return targets.long()
    if targets.dim() != 1:
        raise InputError(
            f"Targets of shape {tuple(targets.shape)} do not belong to {n_items} items; give (B, S), or end to end."
        )
    known = _readable(lengths)
    if known is not None and (min(known) < 0 or sum(known) != len(targets)):
        raise InputError(
            f"Target lengths add up to {sum(known)}, but {len(targets)} symbols came end to end; give (B, S) if padded."
        )
    width = len(targets) if known is None else max(known)  # under vmap the longest is not known
    if width == 0:
        return targets.new_zeros((n_items, 0), dtype=torch.int64)
    lengths = lengths.to(targets.device)
    starts = lengths.cumsum(0) - lengths
    index = starts.unsqueeze(1) + torch.arange(width, device=targets.device)
    return targets.long().expand(n_items, -1).gather(1, index.clamp(0, len(targets) - 1))


def _readable(lengths: Tensor) -> list[int] | None:
    """The values, or None where ``torch.func.vmap`` hides them."""
    try:
        return lengths.tolist()
    except RuntimeError:
        return None


def _check_values(
    log_probs: Tensor, targets: Tensor, input_lengths: Sequence[int], target_lengths: Sequence[int], blank: int
) -> None:
    """Lengths and symbols: torch's own loss would read beyond its memory for some of these."""
    n_frames, _, n_symbols = log_probs.shape
    for name, lengths, limit in (("input", input_lengths, n_frames), ("target", target_lengths, targets.shape[1])):
        if min(lengths) < 0 or max(lengths) > limit:
            item = next(i for i, length in enumerate(lengths) if not 0 <= length <= limit)
            raise InputError(
                f"The {name} length of item {item} is {lengths[item]}, not 0 to {limit}; correct it or pad more."
            )
    within = torch.arange(targets.shape[1]) < torch.tensor(target_lengths, device="cpu").unsqueeze(1)
    bad = ((targets < 0) | (targets >= n_symbols) | (targets == blank)) & within.to(targets.device)
    if bool(bad.any()):
        item, at = (int(where) for where in bad.nonzero()[0])
        raise InputError(
            f"Symbol {at} of target {item} is {int(targets[item, at])}, but must be 0 to {n_symbols - 1} and not the "
            f"blank {blank}; correct the targets or the blank."
        )


# ------------------------------------------------------------------------------------- value, gradient and curvature
# Their ``forward`` takes ``*inputs`` because torch reads its signature at every call, and a long one takes long.


def _fold(size: int, dims: Sequence[int | None], axes: Sequence[int | None], values: Sequence[Any]) -> list[Any]:
    """Arguments of a vmapped call with the vmapped dimension laid into the dimension of the items."""
    folded = []
    for dim, axis, value in zip(dims, axes, values, strict=True):
        if axis is None:
            folded.append(value)
            continue
        if dim is None:
            shape = (*value.shape[:axis], size, *value.shape[axis:])
            folded.append(value.unsqueeze(axis).expand(shape).flatten(axis, axis + 1))
        else:
            folded.append(value.movedim(dim, axis).flatten(axis, axis + 1))
    return folded


class _Loss(torch.autograd.Function):
    """(B,) losses, infinite where impossible, and torch's forward variables, which its gradient asks for."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        log_probs, targets, input_lengths, target_lengths, blank, zero_infinity = inputs
        lengths = input_lengths.tolist(), target_lengths.tolist()
        _check_values(log_probs, targets, *lengths, blank)
        return torch.ops.aten._ctc_loss(log_probs, targets, *lengths, blank, zero_infinity)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs[:4], *output)
        ctx.blank, ctx.zero_infinity = inputs[4:]
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 6
        # A product that autograd sees: the derivative in the incoming gradient is then its own business.
        slope, *_ = _Gradient.apply(*ctx.saved_tensors, ctx.blank, ctx.zero_infinity, torch.is_grad_enabled())
        return grad.unsqueeze(-1) * slope, *(None,) * 5

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *values: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        losses, log_alpha = _Loss.apply(*_fold(info.batch_size, dims, (1, 0, 0, 0, None, None), values))
        rows = info.batch_size, -1
        return (losses.unflatten(0, rows), log_alpha.unflatten(0, rows)), (0, 0)


class _Gradient(torch.autograd.Function):
    """(T, B, V) gradient of each loss in its log-probabilities, and where ``keep`` what the second derivative needs.

    Without ``keep`` it comes from torch, in the precision of the input; with it from our own forward-backward.
    """

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        log_probs, targets, input_lengths, target_lengths, losses, log_alpha, blank, zero_infinity, keep = inputs
        if keep:
            problem = Problem.cut(targets, input_lengths, target_lengths, blank)
            found = posteriors(log_probs, problem)
            out = gradient(log_probs, problem, found)
            kept: tuple[Tensor, ...] = (found.labels, found.blanks, found.stays)
        else:
            out = _native_gradient(log_probs, targets, input_lengths, target_lengths, losses, log_alpha, blank)
            kept = tuple(log_probs.new_empty((*(1,) * axis, len(losses), 1)) for axis in KEPT_AXES)
        return _fill_impossible(out, input_lengths, losses != torch.inf, zero_infinity), *kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        log_probs, targets, input_lengths, target_lengths, losses, _, ctx.blank, ctx.zero_infinity, _ = inputs
        ctx.save_for_backward(log_probs, targets, input_lengths, target_lengths, losses, *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 9
        return _Curvature.apply(grad, *ctx.saved_tensors, ctx.blank, ctx.zero_infinity), *(None,) * 8

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *values: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        found = _Gradient.apply(*_fold(info.batch_size, dims, (1, 0, 0, 0, 0, 0, None, None, None), values))
        axes = (1, *KEPT_AXES)
        return tuple(part.unflatten(axis, (info.batch_size, -1)) for part, axis in zip(found, axes, strict=True)), axes


class _Curvature(torch.autograd.Function):
    """(T, B, V) product of the Hessian of each loss in its log-probabilities with a direction.

    The log-probabilities are an argument only so that a third derivative arrives here, to be refused.
    """

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        direction, _, targets, input_lengths, target_lengths, losses, *kept, blank, zero_infinity = inputs
        problem = Problem.cut(targets, input_lengths, target_lengths, blank)
        product = hessian_product(direction, problem, Posteriors(*kept))
        return _fill_impossible(product, input_lengths, losses != torch.inf, zero_infinity)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        raise NotImplementedError(
            "ctc_loss cannot be differentiated three times; take finite differences of its second derivative."
        )

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *values: Any) -> tuple[Tensor, int]:
        axes = (1, 1, 0, 0, 0, 0, *KEPT_AXES, None, None)
        return _Curvature.apply(*_fold(info.batch_size, dims, axes, values)).unflatten(1, (info.batch_size, -1)), 1


def _native_gradient(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    losses: Tensor,
    log_alpha: Tensor,
    blank: int,
) -> Tensor:
    """Gradient by torch, which gives ``exp(log_probs) - posterior``, and NaN for a symbol that is ruled out (-inf)."""
    lengths = input_lengths.tolist(), target_lengths.tolist()
    found = torch.ops.aten._ctc_loss_backward(
        torch.ones_like(losses), log_probs, targets, *lengths, losses, log_alpha, blank, True
    )
    outside = ~_valid(input_lengths, log_probs).unsqueeze(-1) | (log_probs == -torch.inf)
    return found.sub_(log_probs.exp()).masked_fill_(outside, 0)


def _valid(input_lengths: Tensor, log_probs: Tensor) -> Tensor:
    """(T, B) True on the frames of each item."""
    return torch.arange(log_probs.shape[0], device=log_probs.device).unsqueeze(1) < input_lengths.to(log_probs.device)


def _fill_impossible(values: Tensor, input_lengths: Tensor, possible: Tensor, zero_infinity: bool) -> Tensor:
    """Zero or NaN on the frames of items whose target does not fit."""
    if not bool(possible.all()):
        values.masked_fill_(
            (_valid(input_lengths, values) & ~possible).unsqueeze(-1), 0.0 if zero_infinity else torch.nan
        )
    return values
