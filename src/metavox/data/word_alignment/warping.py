"""Dynamic time warping of a recording onto a row of states, with pauses that may be entered or passed over.

Every frame of the recording stays in its state or goes on by one, two or three (Itakura 1975, without the limit on
staying). Several rows are warped at once, which costs little more than one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

MAX_STEP = 3
REST_COST = 0.02
"""Of staying in a state that is no pause; the scale is that of ``distances``."""
LEAP_COST = 0.1
"""Of each state that is passed over and is no pause."""


@dataclass(frozen=True, slots=True)
class States:
    """What a recording is warped onto: frames of speech, and a pause before, between and after the words."""

    frames: Float[np.ndarray, "J D"]
    """Features; those of a pause are not looked at."""
    word: Int[np.ndarray, " J"]
    """Index of the word that a state belongs to, -1 in a pause."""


@dataclass(frozen=True, slots=True)
class Path:
    """The cheapest way of a recording through the states."""

    states: Int[np.ndarray, " T"]
    costs: Float[np.ndarray, " T"]
    """Distance of each frame to its state, or what its pause costs."""
    chance: Float[np.ndarray, " T"]
    """Mean distance of each frame to all states of speech."""


def distances(frames: Float[np.ndarray, "T D"], others: Float[np.ndarray, "J D"]) -> Float[np.ndarray, "T J"]:
    """Euclidean distance of each frame to each other."""
    squares = (frames**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * frames @ others.T
    return np.sqrt(squares.clip(0))


def warp(
    frames: Float[np.ndarray, "T D"], pause_cost: Float[np.ndarray, " T"], rows: Sequence[States]
) -> list[Path] | None:
    """The cheapest path through each row of states, from its first states to its last; None where a row is so long
    that the recording cannot pass through it."""
    width = max(len(row.word) for row in rows)
    shape = (len(rows), width + MAX_STEP)  # the first columns are a wall before the first state
    local = np.full((len(frames), *shape), np.inf, np.float32)
    leap = np.full(shape, LEAP_COST, np.float32)
    rest = np.full(shape, REST_COST, np.float32)
    chance = []
    for number, row in enumerate(rows):
        cost = distances(frames, row.frames)
        silent = row.word < 0
        chance.append(cost[:, ~silent].mean(axis=1))
        cost[:, silent] = pause_cost[:, None]
        local[:, number, MAX_STEP : MAX_STEP + len(row.word)] = cost
        leap[number, MAX_STEP + np.flatnonzero(silent)] = rest[number, MAX_STEP + np.flatnonzero(silent)] = 0
    best, steps = _forward(local, leap, rest)
    paths = []
    for number, row in enumerate(rows):
        size = len(row.word)
        state = size - MAX_STEP + int(best[number, size : size + MAX_STEP].argmin())
        if not np.isfinite(best[number, state + MAX_STEP]):
            return None
        states = _backward(steps[:, number], state)
        paths.append(Path(states, local[np.arange(len(frames)), number, states + MAX_STEP], chance[number]))
    return paths


def _forward(local: np.ndarray, leap: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cost of the best path to each state at the last frame, and the step by which each was reached."""
    total, n, width = local.shape[0], local.shape[1], local.shape[2] - MAX_STEP
    best = np.full(local.shape[1:], np.inf, np.float32)
    best[:, MAX_STEP : 2 * MAX_STEP] = local[0, :, MAX_STEP : 2 * MAX_STEP]
    steps = np.zeros((total, n, width), np.int8)
    leap_one = leap[:, 2:-1]
    leap_two = leap[:, 1:-2] + leap_one
    choices = np.empty((MAX_STEP + 1, n, width), np.float32)
    for t in range(1, total):
        np.add(best[:, 3:], rest[:, 3:], out=choices[0])
        choices[1] = best[:, 2:-1]
        np.add(best[:, 1:-2], leap_one, out=choices[2])
        np.add(best[:, :-3], leap_two, out=choices[3])
        steps[t] = choices.argmin(axis=0)
        np.add(choices.min(axis=0), local[t, :, MAX_STEP:], out=best[:, MAX_STEP:])
    return best, steps


def _backward(steps: np.ndarray, last: int) -> np.ndarray:
    path = np.empty(len(steps), np.intp)
    for t in range(len(steps) - 1, -1, -1):
        path[t] = last
        last -= int(steps[t, last])
    return path
