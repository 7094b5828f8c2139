"""The inner loop: one pure function for every learner that adapts by gradient.

Finn, Abbeel and Levine 2017 (MAML), eq. 1: ``fast = fast - lr * grad(loss(fast))``, repeated.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ..contracts import State


def inner_steps(
    loss: Callable[[State], Float[Tensor, ""]],
    start: State,
    n_steps: int,
    lr: float,
    *,
    second_order: bool = False,
) -> Iterator[State]:
    """Yield the values before the first step and after each one; ``start`` is not changed.

    Where gradients are on, every state stays connected to ``start``, so an outer loss reaches the initialisation: with
    ``second_order`` through the inner gradients too, else as if they were constants (first-order MAML, section 5.2).
    Where gradients are off (enrolment, evaluation) the states are detached copies, which stay as they are when the
    model is trained on.
    """
    connected = torch.is_grad_enabled()
    second_order = second_order and connected
    fast = dict(start) if connected else {name: value.detach().clone() for name, value in start.items()}
    yield fast
    for _ in range(n_steps):
        with torch.enable_grad():
            # Aliases, so that the derivative is taken in each value alone: a head that was built from the encoder
            # would otherwise carry a second derivative in the encoder's weights.
            at = {
                name: (value.view_as(value) if second_order else value.detach()).requires_grad_()
                for name, value in fast.items()
            }
            grads = torch.autograd.grad(loss(at), list(at.values()), create_graph=second_order, allow_unused=True)
        fast = {
            name: value if grad is None else value - lr * grad
            for (name, value), grad in zip(fast.items(), grads, strict=True)
        }
        if not connected:
            fast = {name: value.detach() for name, value in fast.items()}
        yield fast
