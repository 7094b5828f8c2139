"""Care taken for the user: what cannot be differentiated twice is switched off or named, before it misleads."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError
from .problem import Problem

_UNDIFFERENTIABLE = (
    "derivative for",
    "not implemented",
    "double backward",
    "differentiable twice",
    "batching rule",
    "trying to differentiate twice",
)


def refuse_running_statistics(module: nn.Module | None) -> None:
    """A batch norm that learns its statistics while training would carry one task's into the next.

    Raises:
        InputError: naming the first such layer.
    """
    for name, layer in module.named_modules() if module is not None else ():
        if isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats:
            raise InputError(
                f"layer {name!r} is a {type(layer).__name__} in training mode with running statistics, which tasks "
                "would change for one another; use GroupNorm, set track_running_stats=False, or call eval() on it."
            )


def mixes_items(module: nn.Module | None) -> str | None:
    """Name of a layer whose result for one item depends on the others of its batch, or None."""
    for name, layer in module.named_modules() if module is not None else ():
        if isinstance(layer, _BatchNorm) and (layer.training or not layer.track_running_stats):
            return name
    return None


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Attention in plain matrix products, and no recurrence of cuDNN: neither has a second derivative otherwise."""
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if torch.cuda.is_available():
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


@contextmanager
def explained(problem: Problem, order_above_0: bool) -> Iterator[None]:
    """Errors of torch in a sentence.

    Raises:
        InputError: an operation without second derivative, no gradient at all, or not enough memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as err:
        raise InputError(f"the chunk does not fit in memory ({_line(err)}); set a smaller chunk or memory_mb.") from err
    except (RuntimeError, NotImplementedError) as err:
        text = _line(err)
        if "allocate memory" in text:
            raise InputError(f"the chunk does not fit in memory ({text}); set a smaller chunk or memory_mb.") from err
        if "does not require grad" in text or "appears to not have been used" in text:
            raise InputError(
                f"the support loss does not depend on what adapts ({text}); let adapts name parameters that it reads, "
                "and do not detach them."
            ) from err
        if order_above_0 and any(part in text.lower() for part in _UNDIFFERENTIABLE):
            raise InputError(
                f"the support loss holds an operation that cannot be differentiated twice ({text}); use order=0 (first "
                "order), or a form of it that can, such as metavox.losses.ctc_loss."
            ) from err
        raise


def _line(err: Exception) -> str:
    return " ".join(str(err).split())[:200]


def fingerprint(module: nn.Module | None) -> tuple[object, ...]:
    """Plain attributes of all layers (sizes, modes, probabilities) and which buffers they hold."""
    if module is None:
        return ()
    found: list[object] = []
    for layer in module.modules():
        found += [(name, value) for name, value in vars(layer).items() if type(value) in (bool, int, float, str, tuple)]
        found += [(name, id(value)) for name, value in layer._buffers.items()]
    return tuple(found)
