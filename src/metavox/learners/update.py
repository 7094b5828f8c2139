"""What is learned of an inner step: how far each value goes, and along which combination of its gradients."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .adapted import CONTEXT, flat

STEERING = "update."
"""What the names of these values begin with in a learner."""


def optimizer_of(learner: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) of all that is learned; what says how an inner loop goes does not decay."""
    named = dict(learner.named_parameters())
    steering = [value for name, value in named.items() if name.startswith(STEERING)]
    rest = [value for name, value in named.items() if not name.startswith(STEERING)]
    groups: list[dict[str, Any]] = [{"params": rest}]
    if steering:
        groups.append({"params": steering, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)


class LearnedUpdate(nn.Module):
    """Step sizes and curvature, applied to inner gradients; both begin as plain gradient descent.

    A step size is the given one times the exponential of a learned number that begins at 0, so that it stays positive
    and decay pulls it back to the given one. (Meta-SGD as published learns the size itself, whose sign may turn.)
    There is a number for each ``value`` (Li et al. 2017, Meta-SGD), for each ``tensor``, or for each tensor and each
    ``step`` (Antoniou et al. 2019, MAML++; steps beyond those of training take the last). Where a head has any number
    of classes they share theirs.

    Curvature is a matrix for each mode of each weight tensor, the identity and a learned rest that begins at 0, by
    which the gradient is multiplied along that mode (Park and Oliva 2019, Meta-Curvature, eq. 6). Biases and gains have
    none, classes of a head of any number of classes neither.

    Args:
        shapes: of what moves, by name; classes of a head of any number of them are 1.
        sizes: ``given``, ``tensor``, ``step`` or ``value``.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], n_steps: int, sizes: str, curvature: bool) -> None:
        super().__init__()
        self.sizes = sizes
        self.log_factors, self.curvature = nn.ParameterDict(), nn.ParameterDict()
        self._modes: dict[str, list[int]] = {}
        for name, shape in shapes.items():
            if sizes != "given":
                of_one = {"tensor": (), "step": (n_steps,), "value": tuple(shape)}[sizes]
                self.log_factors[flat(name)] = nn.Parameter(torch.zeros(of_one))
            if curvature and (len(shape) >= 2 or name == CONTEXT):
                self._modes[name] = [mode for mode, size in enumerate(shape) if size > 1]
                for mode in self._modes[name]:
                    self.curvature[f"{flat(name)}/{mode}"] = nn.Parameter(torch.zeros(shape[mode], shape[mode]))

    @property
    def learns(self) -> bool:
        """Whether there is anything to learn."""
        return len(self.log_factors) + len(self.curvature) > 0

    def change(self, name: str, grad: Tensor, index: int, values: Mapping[str, Tensor]) -> Tensor:
        """What takes the place of the gradient of ``name`` at step ``index``; see ``UpdateRule.transform``."""
        for mode in self._modes.get(name, ()):
            key = f"{flat(name)}/{mode}"
            rest = values.get(f"{STEERING}curvature.{key}", self.curvature[key])
            grad = grad + torch.tensordot(rest, grad, ([1], [mode])).movedim(0, mode)
        if self.sizes == "given":
            return grad
        key = flat(name)
        factor = values.get(f"{STEERING}log_factors.{key}", self.log_factors[key])
        if self.sizes == "step":
            factor = factor[min(index, len(factor) - 1)]
        return grad * factor.exp()
