"""Which settings a learner tries: its own first, then what a sampler proposes from the scores so far."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ..contracts import InputError
from ..learners.preset import Range

T = TypeVar("T")
Space = Mapping[str, Range | tuple[Any, ...]]
"""What may be chosen, by key: a number by its logarithm, or one of several values."""


def require_optuna() -> None:
    """Raise InputError where the sampler is not installed; to be asked before anything is computed."""
    if importlib.util.find_spec("optuna") is None:
        raise InputError(
            "A comparison needs optuna to choose settings, which is not installed; pip install metavox[tune]."
        )


class Search:
    """Trials of one learner: ``ask`` for settings, ``tell`` how good they were, the higher the better.

    The first settings are ``defaults``; the others come from a tree-structured Parzen estimator (Bergstra et al. 2011)
    as optuna has it, which draws at random until it has ten scores. Nothing is stored.
    """

    def __init__(self, space: Space, defaults: Mapping[str, Any], seed: int) -> None:
        require_optuna()
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._space, self._defaults = dict(space), {key: defaults[key] for key in space}
        self._kinds: dict[str, Any] = {}
        for key, choice in self._space.items():
            if not isinstance(choice, Range):  # by number: a choice may be anything
                self._kinds[key] = optuna.distributions.CategoricalDistribution(range(len(choice)))
            elif isinstance(defaults[key], int):
                self._kinds[key] = optuna.distributions.IntDistribution(round(choice.low), round(choice.high), log=True)
            else:
                self._kinds[key] = optuna.distributions.FloatDistribution(choice.low, choice.high, log=True)
        self._trial: Any = None
        self._is_first = True

    def ask(self) -> dict[str, Any]:
        """The next settings."""
        if self._is_first:
            return dict(self._defaults)
        self._trial = self._study.ask(self._kinds)
        return {key: self._meant(key, value) for key, value in self._trial.params.items()}

    def tell(self, score: float | None) -> None:
        """How good the settings were that were asked for last; None where they came to nothing."""
        import optuna

        failed = optuna.trial.TrialState.FAIL
        if not self._is_first:
            self._study.tell(self._trial, score, state=failed if score is None else None)
            return
        self._is_first = False
        params = {key: self._stored(key, value) for key, value in self._defaults.items()}
        if all(params[key] is not None and kind._contains(params[key]) for key, kind in self._kinds.items()):
            state = failed if score is None else optuna.trial.TrialState.COMPLETE
            known = optuna.trial.create_trial(params=params, distributions=self._kinds, value=score, state=state)
            self._study.add_trial(known)  # defaults outside of the space are tried all the same

    def _meant(self, key: str, value: Any) -> Any:
        choice = self._space[key]
        return value if isinstance(choice, Range) else choice[value]

    def _stored(self, key: str, value: Any) -> Any:
        choice = self._space[key]
        if isinstance(choice, Range):
            return value
        return choice.index(value) if value in choice else None


def search_for(space: Space, defaults: Mapping[str, Any], seed: int, folds: Sequence[str], fold: str) -> Search:
    """The search of a learner in one of the folds, each of which has a stream of its own."""
    stream = np.random.SeedSequence([seed, list(folds).index(fold)]).generate_state(1)
    return Search(space, defaults, int(stream[0]))


def tried(
    search: Search,
    n_trials: int,
    attempt: Callable[[dict[str, Any]], T],
    score: Callable[[T], float | None],
    emptied: Callable[[T], T],
) -> list[T]:
    """As many attempts, in their order; all but the best so far are ``emptied`` of what they made, for memory.

    The first of equally good ones is the best, and one without a score never is.
    """
    trials: list[T] = []
    best: float | None = None
    for _ in range(n_trials):
        trial = attempt(search.ask())
        found = score(trial)
        search.tell(found)
        if found is None or (best is not None and found <= best):
            trial = emptied(trial)
        else:
            best = found
            trials = [emptied(earlier) for earlier in trials]
        trials.append(trial)
    return trials
