"""What a task's inner loop is judged by: the outer rules of the engine, by name."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError


@dataclass(frozen=True)
class Query:
    """The query loss after the last step (Finn et al. 2017, algorithm 1)."""


@dataclass(frozen=True)
class MultiStep:
    """A weighted sum of the query losses after each step (Antoniou et al. 2019, section 4, MSL)."""

    weights: tuple[float, ...]
    """One for each step, the first step first."""


@dataclass(frozen=True)
class Reptile:
    """The way that the inner loop went, ``theta - fast`` (Nichol et al. 2018); it needs no query.

    The loss that is reported is that of the support before the last step. Values that are not adapted get zero.
    """


@dataclass(frozen=True)
class Implicit:
    """The gradient at an optimum that stays near its start (Rajeswaran et al. 2019, iMAML, eq. 6).

    The inner loop descends ``support loss + prox / 2 |fast - start|^2``; conjugate gradients then solve
    ``(H + prox I) u = grad``, H the Hessian of the support loss. Exact at the optimum only, however it was reached; no
    inner step is kept.
    """

    prox: float = 1.0
    n_iterations: int = 10

    def __post_init__(self) -> None:
        if self.prox <= 0 or self.n_iterations < 1:
            raise InputError(
                f"implicit gradients need prox above 0 and at least 1 iteration, not {self.prox:g} and "
                f"{self.n_iterations}."
            )


Outer = Query | MultiStep | Reptile | Implicit
OUTERS: dict[str, type] = {"query": Query, "multi_step": MultiStep, "reptile": Reptile, "implicit": Implicit}


def outer_of(outer: str | Outer, n_steps: int) -> Outer:
    """An outer rule by name, or as it is. ``multi_step`` by name weighs all steps alike.

    Raises:
        InputError: an unknown name, or weights that do not fit the number of steps.
    """
    if isinstance(outer, str):
        if outer not in OUTERS:
            raise InputError(f"outer is {outer!r}; outer rules are {', '.join(OUTERS)}.")
        outer = MultiStep((1 / max(n_steps, 1),) * n_steps) if outer == "multi_step" else OUTERS[outer]()
    if isinstance(outer, MultiStep) and (len(outer.weights) != n_steps or n_steps == 0):
        raise InputError(f"{len(outer.weights)} weights for {n_steps} inner steps; a multi-step loss needs one each.")
    if isinstance(outer, MultiStep) and not any(outer.weights):
        raise InputError("every weight of the multi-step loss is 0; give one of them another value.")
    return outer


def step_weights(outer: Outer, n_steps: int) -> Sequence[float]:
    """Weight of the query loss before the first step and after each, ``n_steps + 1`` of them."""
    if isinstance(outer, MultiStep):
        return (0.0, *outer.weights)
    return (*(0.0,) * n_steps, 1.0)
