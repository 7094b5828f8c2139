"""Outer steps for a loop of one's own: gradients that are not finite move nothing, and too many in a row end it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..errors import InputError
from .engine import Engine, MetaGradient
from .plans import Task


class OuterLoop:
    """An optimizer that is fed with meta-gradients.

    Args:
        engine: computes them.
        parameters: what is learned, by the names of the engine's problem: ``dict(net.named_parameters())``.
        optimizer: of the same tensors.
        max_skipped: steps in a row without a finite gradient before the loop gives up.
    """

    def __init__(
        self,
        engine: Engine,
        parameters: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        max_skipped: int = 20,
    ) -> None:
        self.engine, self.parameters, self.optimizer = engine, dict(parameters), optimizer
        self.max_skipped = max_skipped
        self.n_steps, self.n_skipped, self._in_a_row = 0, 0, 0

    def step(self, tasks: Sequence[Task], order: float | None = None) -> MetaGradient:
        """One outer step on ``tasks``; where the gradient is not finite nothing moves and ``n_skipped`` counts it.

        Raises:
            InputError: ``max_skipped`` steps in a row were skipped.
        """
        found = self.engine.gradient(self.parameters, tasks, order)
        self.n_steps += 1
        if not found.finite:
            self.n_skipped += 1
            self._in_a_row += 1
            if self._in_a_row >= self.max_skipped:
                raise InputError(
                    f"{self._in_a_row} outer steps in a row had a gradient that is not finite, up to step "
                    f"{self.n_steps}; lower the inner step size or the optimizer's, or raise max_skipped."
                )
            return found
        self._in_a_row = 0
        for name, grad in found.values.items():
            self.parameters[name].grad = grad.to(self.parameters[name].dtype)
        self.optimizer.step()
        return found
