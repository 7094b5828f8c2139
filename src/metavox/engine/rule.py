"""The one update rule of every learner that adapts by gradient.

``fast = fast - lr[name, step] * transform(grad)`` under a mask over names. Which values the mask lets through, the
shape of ``lr`` and whether the outer gradient flows through ``grad`` make it MAML, first-order MAML, ANIL, BOIL,
Meta-SGD, MAML++ or plain fine-tuning.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor

from ..errors import InputError

Values = dict[str, Tensor]
"""Tensors by name: what is learned, and what a task has adapted of it."""

LEARNED = "inner_lr."
"""Prefix of a learned step size among the values: ``inner_lr.body.weight`` belongs to ``body.weight``."""


@dataclass(frozen=True)
class UpdateRule:
    """How an inner loop changes values.

    Raises:
        InputError: fewer than 0 steps, an ``order`` outside 0 to 1.
    """

    n_steps: int = 1
    lr: float | Mapping[str, float | Tensor] = 0.05
    """Step size of all values or by name. A learned one stands among the values, named ``LEARNED + name``; it is the
    one that counts then. Shapes for a value of shape S: () for all steps, S for each coordinate (Li et al. 2017,
    Meta-SGD), (n_steps, *S') with every S' 1 or as in S for each step (Antoniou et al. 2019, MAML++)."""
    adapts: tuple[str, ...] = ("*",)
    """Patterns of names that change, as ``fnmatch`` reads them."""
    order: float = 1.0
    """Share of the second derivative in the outer gradient: 0 is first-order MAML, 1 is MAML, between them annealed."""
    transform: Callable[[str, Tensor, int, Values], Tensor] | None = None
    """(name, gradient, step from 0, values) -> what becomes of the gradient before it is used: a preconditioner."""
    reads: str = ""
    """What the names of values begin with that ``transform`` reads, if any; none of them adapts. What an update learns
    of them has a gradient in first order too (Park and Oliva 2019, Meta-Curvature)."""

    def __post_init__(self) -> None:
        if self.n_steps < 0:
            raise InputError(f"{self.n_steps} inner steps cannot be taken; ask for 0 or more.")
        if not 0 <= self.order <= 1:
            raise InputError(f"order is {self.order:g}; it goes from 0 (first order) to 1 (second order).")

    def adapted(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names that change, in their order.

        Raises:
            InputError: a pattern that matches none.
        """
        known = [name for name in names if not self.steers(name)]
        for pattern in self.adapts:
            if not any(fnmatchcase(name, pattern) for name in known):
                near = difflib.get_close_matches(pattern, known, n=1, cutoff=0.0)
                hint = f"the nearest name is {near[0]!r}" if near else "there are none"
                raise InputError(f"adapts names {pattern!r}, which matches none of {len(known)} parameters; {hint}.")
        return tuple(name for name in known if any(fnmatchcase(name, pattern) for pattern in self.adapts))

    def steers(self, name: str) -> bool:
        """Whether a value is no part of what adapts, but says how it does."""
        return name.startswith((LEARNED, self.reads) if self.reads else LEARNED)

    def step(self, fast: Values, grads: Mapping[str, Tensor | None], index: int, values: Values) -> Values:
        """The values after step ``index``, counted from 0; those without a gradient stay."""
        stepped = dict(fast)
        for name, grad in grads.items():
            if grad is not None:
                change = grad if self.transform is None else self.transform(name, grad, index, values)
                stepped[name] = fast[name] - self._size(name, index, fast[name], values) * change
        return stepped

    def _size(self, name: str, index: int, value: Tensor, values: Values) -> float | Tensor:
        size = values.get(LEARNED + name)
        if size is None:
            known = self.lr if isinstance(self.lr, float | int) else self.lr.get(name)
            if known is None:
                raise InputError(f"lr has no step size for {name!r}; add one, or leave the name out of adapts.")
            if not isinstance(known, Tensor):
                return known
            size = known
        if size.ndim == value.ndim + 1 and size.shape[0] >= self.n_steps and _spreads(size.shape[1:], value.shape):
            return size[index]
        if size.ndim == 0 or (size.ndim == value.ndim and _spreads(size.shape, value.shape)):
            return size
        raise InputError(
            f"the step size of {name!r} has shape {tuple(size.shape)}; it needs (), {tuple(value.shape)}, or "
            f"{self.n_steps} of the latter (1 where alike)."
        )


def _spreads(shape: Sequence[int], over: Sequence[int]) -> bool:
    """Whether every size is that of ``over``, or 1."""
    return all(one in (1, other) for one, other in zip(shape, over, strict=True))
