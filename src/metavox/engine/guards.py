"""Care taken for the user: what cannot be differentiated twice is switched off or named, before it misleads."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.utils._pytree import tree_leaves

from ..errors import InputError
from .inner import NOTHING_MOVES
from .problem import Problem
from .rule import LEARNED, UpdateRule, Values

_UNDIFFERENTIABLE = (
    "derivative for",
    "double backward",
    "differentiable twice",
    "trying to differentiate twice",
)
_UNTRANSFORMED = (
    *("vmap", "functorch", "torch.func", "transform", "Batching rule", "data pointer", "got a batched tensor"),
    *("broadcast shape", "in place", "to decide by", "draws random numbers", "lowered=False"),
)
"""What errors of torch's transforms and of recording have in common."""


def refuse_running_statistics(module: nn.Module | None) -> None:
    """A norm that learns its statistics while training would carry one task's into the next, and so would an embedding
    that shortens its weights in place.

    Raises:
        InputError: naming the first such layer.
    """
    for name, layer in module.named_modules() if module is not None else ():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.max_norm is not None:
            raise InputError(
                f"layer {name!r} has max_norm={layer.max_norm:g}, which changes the learned weights whenever they are "
                "read; set max_norm=None."
            )
        if isinstance(layer, _NormBase) and layer.training and layer.track_running_stats:
            raise InputError(
                f"layer {name!r} is a {type(layer).__name__} in training mode with running statistics, which tasks "
                "would change for one another; use GroupNorm, set track_running_stats=False, or call eval() on it."
            )


def check_values(problem: Problem, rule: UpdateRule, values: Values) -> None:
    """What is learned, before anything is computed.

    Raises:
        InputError: no values, one that is not of floating point, a name that nothing reads, a mask without match.
    """
    if torch.is_inference_mode_enabled():
        raise InputError("gradients cannot be taken within torch.inference_mode(); leave it, or use torch.no_grad().")
    if not values:
        raise InputError("there are no values to learn; pass dict(module.named_parameters()).")
    for name, value in values.items():
        if not value.is_floating_point() and not value.is_complex():
            raise InputError(
                f"value {name!r} has type {value.dtype} and cannot be learned; leave it out of the values."
            )
        own = name.removeprefix(LEARNED)
        if own == name and rule.steers(name):
            continue
        known = problem.names or tuple(values)
        if own not in known and (own == name or problem.initial is None or problem.names is not None):
            near = difflib.get_close_matches(own, known, n=1, cutoff=0.0)
            raise InputError(
                f"value {name!r} belongs to none of {len(known)} parameters; the nearest name is {near[0]!r}."
            )
    if problem.initial is None:
        rule.adapted(values)


def checked_tasks(tasks: Sequence[Any], without_query: bool) -> list[Any]:
    """The tasks; ``without_query`` with nothing in the place of each query.

    Raises:
        InputError: no tasks, one that is not a pair, a batch that holds something else than tensors.
    """
    if not tasks:
        raise InputError("there are 0 tasks; a meta-gradient needs at least 1.")
    found = []
    for position, task in enumerate(tasks):
        if not isinstance(task, tuple | list) or len(task) != 2:
            raise InputError(f"task {position} is not a pair; give (support, query).")
        kept = (task[0], ()) if without_query else (task[0], task[1])
        for leaf in tree_leaves(kept):
            if not isinstance(leaf, Tensor):
                raise InputError(
                    f"task {position} holds a value of type {type(leaf).__name__}, and batches are trees of tensors; "
                    "make it a tensor, or let the loss know it."
                )
        found.append(kept)
    return found


def mixes_items(module: nn.Module | None) -> str | None:
    """Name of a layer whose result for one item depends on the others of its batch, or None."""
    for name, layer in module.named_modules() if module is not None else ():
        if isinstance(layer, _BatchNorm) and (layer.training or not layer.track_running_stats):
            return name
    return None


@contextmanager
def twice_differentiable(module: nn.Module | None) -> Iterator[None]:
    """Attention in plain matrix products, and no recurrence of cuDNN: neither has a second derivative otherwise."""
    recurrent = module is None or any(isinstance(layer, nn.RNNBase) for layer in module.modules())
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if recurrent and torch.cuda.is_available():  # convolutions keep cuDNN: theirs have one
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


@contextmanager
def explained(order_above_0: bool, executor: str) -> Iterator[None]:
    """Errors of torch in a sentence.

    Raises:
        InputError: an operation without second derivative, no gradient at all, a loss that is no scalar, an executor
            that cannot run the loss, or not enough memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as err:
        raise InputError(f"the chunk does not fit in memory ({_line(err)}); set a smaller chunk or memory_mb.") from err
    except (RuntimeError, NotImplementedError) as err:
        text = _line(err)
        if "allocate memory" in text:
            raise InputError(f"the chunk does not fit in memory ({text}); set a smaller chunk or memory_mb.") from err
        if "does not require grad" in text:
            raise InputError(NOTHING_MOVES) from err
        if "scalar output" in text or "return a scalar" in text:
            raise InputError(f"the loss is not a scalar ({text}); take its mean or its sum.") from err
        if order_above_0 and any(part in text.lower() for part in _UNDIFFERENTIABLE):
            raise InputError(
                f"the support loss holds an operation that cannot be differentiated twice ({text}); use order=0 (first "
                "order), or a form of it that can, such as metavox.losses.ctc_loss."
            ) from err
        if executor not in ("auto", "loop") and any(part in text for part in _UNTRANSFORMED):
            raise InputError(
                f"executor {executor!r} cannot run this task ({text}); use executor='loop', or 'auto', which finds one "
                "that can."
            ) from err
        raise


def _line(err: Exception) -> str:
    return " ".join(str(err).split())[:200]


def _plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def fingerprint(module: nn.Module | None) -> tuple[object, ...]:
    """Plain attributes of all layers (sizes, modes, probabilities) and which buffers they hold."""
    if module is None:
        return ()
    found: list[object] = []
    for layer in module.modules():
        seen = vars(layer).items()
        found += [item for item in seen if isinstance(item[1], bool | int | float | str | torch.dtype)]
        found += [item for item in seen if isinstance(item[1], tuple) and all(map(_plain, item[1]))]
        found += [(name, id(value)) for name, value in layer._buffers.items()]
    return tuple(found)


@dataclass(frozen=True)
class Sources:
    """Where a module holds tensors that a recording reads: it must be made anew once others stand there."""

    places: tuple[tuple[Mapping[str, Any], str, Tensor], ...] = ()

    @classmethod
    def of(cls, module: nn.Module | None, constants: Sequence[Tensor]) -> "Sources":
        """The places of ``constants`` in the module's layers."""
        known = {id(value) for value in constants}
        found: list[tuple[Mapping[str, Any], str, Tensor]] = []
        for layer in module.modules() if module is not None else ():
            holders: tuple[Mapping[str, Any], ...] = (layer._parameters, layer._buffers, vars(layer))
            for holder in holders:
                found += [(holder, name, value) for name, value in holder.items() if id(value) in known]
        return cls(tuple(found))

    def stand(self) -> bool:
        """Whether the same tensors are there still."""
        return all(holder.get(name) is value for holder, name, value in self.places)
