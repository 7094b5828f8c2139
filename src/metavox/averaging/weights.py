"""Averages of weights: one network made of several, which costs in use what one of them costs.

Everything here takes and gives plain states, ``dict[str, Tensor]``, and knows neither nets nor speech. Sums run in
float64, so that the order of the members does not show. Values that are no floating point numbers (counts, cohorts in
8 bits) cannot be averaged: members must agree on them.

Weights can be averaged where a straight line between the members stays in one basin of the loss, which holds for
networks that began from the same weights (Neyshabur et al. 2020; Wortsman et al. 2022) and hardly for others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..contracts import InputError, State
from .predictions import as_weights

Values = Mapping[str, Tensor]


def require_same_shapes(states: Sequence[Values], names: Sequence[str] | None = None) -> None:
    """Raise InputError for no member, for members of different architectures, and for values that are not finite.

    ``names`` are what the members are called in sentences.
    """
    names = names or [f"member {k}" for k in range(1, len(states) + 1)]
    if not states:
        raise InputError("No model was given to average; give two or more.")
    first = states[0]
    for name, state in zip(names, states, strict=True):
        odd = sorted(first.keys() ^ state.keys())
        if odd:
            raise InputError(
                f"{name} has another architecture than {names[0]}: {odd[0]} is in one of them only; average their "
                "predictions (--form mean) instead of their weights."
            )
        for key, value in state.items():
            if value.shape != first[key].shape:
                raise InputError(
                    f"{name} has another architecture than {names[0]}: {key} is {tuple(value.shape)} and "
                    f"{tuple(first[key].shape)}; average their predictions (--form mean) instead of their weights."
                )
    require_finite(states, names)


def require_finite(states: Sequence[Values], names: Sequence[str]) -> None:
    """Raise InputError for a member with values that are not finite, which would be those of any average with it."""
    for name, state in zip(names, states, strict=True):
        for key, value in state.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                n_bad = int((~torch.isfinite(value)).sum())
                raise InputError(
                    f"{name} has {n_bad} of {value.numel()} weights that are not finite in {key}; leave it out or "
                    "train it again."
                )


def combine(states: Sequence[Values], factors: Sequence[float]) -> State:
    """The sum of the states, each times its factor; in float64, and as the first member's type.

    Raises:
        InputError: no member, other architectures, weights or factors that are not finite, whole numbers that differ.
    """
    require_same_shapes(states)
    if not np.isfinite(np.asarray(factors, np.float64)).all():
        raise InputError(f"The factors of the members are {tuple(factors)}; give finite numbers such as 0.5 or -1.")
    return {key: _combined(key, [state[key] for state in states], factors) for key in states[0]}


def _combined(key: str, values: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    first = values[0]
    if not first.is_floating_point():
        if any(not torch.equal(first, other) for other in values[1:]):
            raise InputError(
                f"The members differ in {key}, whose whole numbers have no mean; average models that are furnished "
                "alike, or average their predictions."
            )
        return first.clone()
    total = torch.zeros(first.shape, dtype=torch.float64)
    for value, factor in zip(values, factors, strict=True):
        total += factor * value.double()
    return total.to(first.dtype)


def soup(states: Sequence[Values], weights: Sequence[float] | None = None) -> State:
    """The mean of the members' weights, or one with given weights, which are made to sum to 1 (Wortsman et al. 2022).

    Raises:
        InputError: as ``combine``; weights of another number than members, not finite, negative, or all 0.
    """
    require_same_shapes(states)
    return combine(states, as_weights(weights, len(states)).tolist())


@dataclass(frozen=True)
class GreedySoup:
    """What a greedy soup took in."""

    state: State
    members: tuple[int, ...]
    """Positions of the members in it, in the order in which they came."""
    score: float
    """Of the soup, on the development data."""
    alone: tuple[float, ...]
    """Score of each member alone, in the order given."""


def greedy_soup(
    states: Sequence[Values],
    score: Callable[[State], float],
    told: Callable[[int, int], None] | None = None,
) -> GreedySoup:
    """Members in the order of their own score, each kept if the mean with it scores no worse (Wortsman et al. 2022,
    recipe 1).

    Args:
        states: the members' weights.
        score: what a set of weights reaches on development data, higher is better.
        told: hears of (scored, to score).

    Raises:
        InputError: as ``combine``.
    """
    require_same_shapes(states)
    n, total = len(states), 2 * len(states) - 1

    def tell(done: int) -> None:
        if told is not None:
            told(done, total)

    alone = []
    for k, state in enumerate(states):
        alone.append(score(dict(state)))
        tell(k + 1)
    order = sorted(range(n), key=lambda k: -alone[k])
    chosen, best, state = [order[0]], alone[order[0]], dict(states[order[0]])
    for k, member in enumerate(order[1:]):
        tried = soup([states[i] for i in (*chosen, member)])
        reached = score(tried)
        tell(n + k + 1)
        if reached >= best:
            chosen, best, state = [*chosen, member], reached, tried
    return GreedySoup(state, tuple(chosen), best, tuple(alone))


# ---------------------------------------------------------------------------------------------- along one training


@dataclass
class MovingAverage:
    """Exponential moving average of the weights of one training (Polyak and Juditsky 1992; Tarvainen and Valpola 2017).

    The first updates count for more, so that the average does not hang on random weights: the decay of the n-th update
    is min(``decay``, (n - 1) / (n + 8)), and the first one is taken as it is.
    """

    decay: float
    n_updates: int = 0
    values: State = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise InputError(
                f"The decay of a moving average is {self.decay:g}; give one between 0 and 1, such as 0.99."
            )

    def update(self, state: Values) -> None:
        """Take in the weights after another step. Whole numbers are as in the last state."""
        self.n_updates += 1
        keep = min(self.decay, (self.n_updates - 1) / (self.n_updates + 8))
        with torch.no_grad():
            for key, value in state.items():
                if key not in self.values or not value.is_floating_point():
                    self.values[key] = value.detach().clone()
                else:
                    self.values[key].lerp_(value.detach(), 1 - keep)


def moving_average(states: Sequence[Values], decay: float) -> State:
    """The exponential moving average over states in the order of training; the first is where it begins.

    The k-th state before the last weighs ``decay ** k``, all weights made to sum to 1.

    Raises:
        InputError: as ``combine``; a decay that is not between 0 and 1.
    """
    if not 0 < decay < 1:
        raise InputError(f"--decay is {decay:g}; give a number between 0 and 1, such as 0.9.")
    n = len(states)
    return soup(states, [decay ** (n - 1 - k) for k in range(n)])


# --------------------------------------------------------------------------------------------------- task vectors


def task_vector(base: Values, tuned: Values) -> State:
    """What a training changed: tuned - base (Ilharco et al. 2023), in float64, so that base + (tuned - base) is tuned.
    Whole numbers are left out."""
    require_same_shapes([base, tuned], ["the base", "the tuned model"])
    return {key: tuned[key].double() - value.double() for key, value in base.items() if value.is_floating_point()}


def moved(base: Values, vectors: Sequence[Values], factors: Sequence[float]) -> State:
    """The base plus task vectors, each times its factor: positive adds what a task taught, negative takes it away.

    Raises:
        InputError: vectors that are not of this base, or another number of factors.
    """
    if len(vectors) != len(factors):
        raise InputError(f"{len(factors)} factors were given for {len(vectors)} task vectors; give one to each.")
    moving = {key: value for key, value in base.items() if value.is_floating_point()}
    whole = {key: value for key, value in base.items() if not value.is_floating_point()}
    return {**whole, **combine([moving, *vectors], [1.0, *factors])}


def interpolated(one: Values, other: Values, share: float) -> State:
    """(1 - share) one + share other: between the two for shares of 0 to 1, beyond ``other`` above."""
    return combine([one, other], [1 - share, share])


def reptile(theta: Values, adapted: Sequence[Values], rate: float) -> State:
    """One outer step of Reptile: towards the mean of what the tasks made of theta (Nichol et al. 2018, algorithm 2).

    Reptile is averaging over tasks: ``interpolated(theta, soup(adapted), rate)``, and at a rate of 1 nothing but the
    soup of the adapted weights.
    """
    return interpolated(theta, soup(adapted), rate)
