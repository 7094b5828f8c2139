"""One set of weights of several, in the form that is asked for, whatever the networks are that they belong to."""

from collections.abc import Callable, Sequence

from ..averaging.weights import combine, greedy_soup, moved, moving_average, soup, task_vector
from ..contracts import State
from .forms import DECAY, SCALES, Asked

Score = Callable[[State], float]
"""What weights reach on development data, higher is better."""
Report = Callable[..., None]


def merged_weights(
    states: list[State], base: State | None, asked: Asked, score: Score | None, report: Report | None = None
) -> tuple[State, tuple[float, ...], list[str]]:
    """The weights, what each member counts in them, and what a user should know.

    Args:
        states: the members' weights.
        base: what they began from; task vectors need it.
        score: judges weights; greedy soups need it, task vectors choose their scale by it where nobody says one.
    """
    n = len(states)
    if asked.form == "ema":
        decay = asked.decay or DECAY
        raw = [decay ** (n - 1 - k) for k in range(n)]
        return moving_average(states, decay), tuple(one / sum(raw) for one in raw), []
    if asked.form == "greedy-soup":
        assert score is not None
        told = None if report is None else (lambda done, total: report("choosing", done, total))
        chosen = greedy_soup(states, score, told)
        shares = tuple(1 / len(chosen.members) if k in chosen.members else 0.0 for k in range(n))
        return chosen.state, shares, [f"The soup is of {len(chosen.members)} of {n} models."]
    if asked.form == "task-vector":
        assert base is not None
        return *_by_task_vectors(base, states, asked, score), []
    return soup(states), (1 / n,) * n, []


def _by_task_vectors(
    base: State, states: Sequence[State], asked: Asked, score: Score | None
) -> tuple[State, tuple[float, ...]]:
    n, vectors = len(states), [task_vector(base, state) for state in states]
    if asked.scales or score is None:
        scales = asked.scales_of(n)
        return moved(base, vectors, scales), scales
    mean = combine(vectors, [1 / n] * n)
    best = max(SCALES, key=lambda scale: score(moved(base, [mean], [scale])))
    return moved(base, [mean], [best]), (best / n,) * n
