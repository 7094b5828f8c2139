"""A task as the engine sees it: pure functions of named tensors. The engine knows neither speech nor learners."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from .rule import Values

Loss = Callable[[Callable[..., Any], Any], Tensor]
"""(model, batch) -> scalar; the model is called as the module would be."""


@dataclass(frozen=True)
class Problem:
    """What is adapted and what is asked, for any batch that is a tree of tensors.

    ``values`` are all that is learned, ``fast`` is what a task has made of some of them; where a name stands in both,
    the functions read ``fast``.
    """

    inner_loss: Callable[[Values, Values, Any], Tensor]
    """(values, fast, support) -> scalar."""
    outer_loss: Callable[[Values, Values, Any], tuple[Tensor, Any]]
    """(values, fast, query) -> scalar, and a tree of tensors to be handed on."""
    initial: Callable[[Values, Any], Values] | None = None
    """(values, support) -> the first ``fast``, such as a head built from the support; None: values that the rule
    adapts."""
    body: Callable[[Values, Any], Any] | None = None
    """(values, batch) -> the batch that losses and ``initial`` are given, for what the inner loop leaves alone: it runs
    once for all tasks of a chunk. It must treat the items of a batch (dimension 0 of every tensor) each by itself."""
    module: nn.Module | None = None
    """What is looked at for layers that cannot be meta-learned."""
    names: tuple[str, ...] | None = None
    """Names of all values that the functions read, where these are known: others are refused."""

    @classmethod
    def of(cls, module: nn.Module, loss: Loss) -> "Problem":
        """Adapt the parameters of a module; ``loss(module, batch)`` is asked of support and query alike."""
        outer, inner = _losses(module, loss, "")
        return cls(inner, outer, module=module, names=tuple(name for name, _ in module.named_parameters()))

    @classmethod
    def of_head(cls, body: nn.Module, head: nn.Module, loss: Loss) -> "Problem":
        """Adapt a head on a body that stays as it is within a task (Raghu et al. 2020, ANIL).

        Values are named ``body.*`` and ``head.*``. A batch is a tuple whose first tensor goes through the body; the
        loss sees the features (as a tuple, all that the body returns) in its place: ``loss(head, (features, *rest))``.
        """
        outer, inner = _losses(head, loss, "head.")
        names = {f"body.{name}": name for name, _ in body.named_parameters()}

        def features(values: Values, batch: Any) -> Any:
            inside = {own: values[name] for name, own in names.items() if name in values}
            return (pure_call(body, inside, (batch[0],)), *batch[1:])

        def initial(values: Values, support: Any) -> Values:
            return {name: value for name, value in values.items() if name.startswith("head.")}

        whole = nn.ModuleDict({"body": body, "head": head})
        return cls(
            inner, outer, initial, features, whole, (*names, *(f"head.{name}" for name, _ in head.named_parameters()))
        )


def pure_call(
    module: nn.Module, values: Mapping[str, Tensor], args: Sequence[Any] = (), named: Mapping[str, Any] | None = None
) -> Any:
    """Call a module with other parameters; what it does to its buffers is done to copies, and forgotten.

    Otherwise a counter or a running estimate would carry one task into the next, and differ between executors.
    """
    copies = {name: buffer.clone() for name, buffer in module.named_buffers()}
    return functional_call(module, {**copies, **values}, tuple(args), dict(named or {}))


def _losses(module: nn.Module, loss: Loss, prefix: str) -> tuple[Any, Any]:
    """Outer and inner loss of a module whose values carry ``prefix``."""
    names = {prefix + name: name for name, _ in module.named_parameters()}

    def model(values: Mapping[str, Tensor], fast: Mapping[str, Tensor]) -> Callable[..., Any]:
        inside = {own: fast.get(name, values.get(name)) for name, own in names.items()}
        known = {own: value for own, value in inside.items() if value is not None}
        return lambda *args, **named: pure_call(module, known, args, named)

    def inner(values: Values, fast: Values, support: Any) -> Tensor:
        return loss(model(values, fast), support)

    def outer(values: Values, fast: Values, query: Any) -> tuple[Tensor, Any]:
        return loss(model(values, fast), query), ()

    return outer, inner
