"""Several learners as one: each adapts to the support by itself, and their scores of a query are averaged."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Batch, Enrollable, InputError, Output, State
from .predictions import Form, as_weights


def averaged_scores(scores: Sequence[Tensor], form: Form, weights: Sequence[float]) -> Tensor:
    """Scores (..., C) whose softmax is the arithmetic (``mean``) or the normalised geometric (``log-mean``) mean.

    A score also says how alike a query is to anything at all, which a softmax forgets and a refusal needs: the
    logarithm of the summed exponentials of the result is the mean of that of the members. -inf, a class that nothing
    is known of, stays -inf where a member has it.
    """
    factors = torch.tensor(weights, dtype=scores[0].dtype).view(-1, *[1] * scores[0].dim())
    stacked = torch.stack(list(scores))
    level = (factors[..., :1] * stacked.logsumexp(-1, keepdim=True)).sum(0)
    log_probabilities = stacked.log_softmax(-1)
    if form == "mean":
        found = (log_probabilities + factors.log()).logsumexp(0)
    else:
        used = factors > 0  # 0 times -inf is no number
        parts = torch.where(used, factors * log_probabilities, torch.zeros_like(log_probabilities))
        found = parts.sum(0).log_softmax(-1)
    nothing = torch.isneginf(stacked).any(0)
    return (found + level).masked_fill(nothing, -torch.inf)


class AveragedLearner(nn.Module):
    """Learners behind the two verbs of one. Encoders may differ, as long as all hear the same features.

    A state holds those of the members, each name with the member's number in front. Where all members can gain and
    lose words so can the average, and products enrol with it; it costs what all of them cost.
    """

    def __init__(self, learners: Sequence[Any], form: Form = "mean", weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not learners:
            raise InputError("No model was given to average; give two or more.")
        self.members = nn.ModuleList(learners)
        self.form: Form = form
        self.weights = tuple(as_weights(weights, len(self.members)).tolist())
        self.fixed_ways = any(learner.fixed_ways for learner in learners)
        self.adapts_body = any(learner.adapts_body for learner in learners)

    def adapt(self, support: Batch) -> State:
        """What every member learns from the support set."""
        return _joined([learner.adapt(support) for learner in self._all])

    def predict(self, state: State, query: Batch) -> Output:
        """Averaged scores (B, C) of a query."""
        return Output(self._mean([m.predict(own, query).scores for m, own in self._with(state)]))

    def extend(self, state: State, support: Batch) -> State:
        """Add takes of old or new classes. Raises InputError where a member cannot."""
        return _joined([_grows(m).extend(own, support) for m, own in self._with(state)])

    def without(self, state: State, label: int) -> State:
        """Forget one class. Raises InputError where a member cannot."""
        return _joined([_grows(m).without(own, label) for m, own in self._with(state)])

    def leave_one_out(self, state: State) -> Tensor:
        """(B, C) averaged scores of each take as if it were not there. Raises InputError where a member cannot."""
        return self._mean([_grows(m).leave_one_out(own) for m, own in self._with(state)])

    @property
    def _all(self) -> list[Any]:
        return list(self.members)

    def _with(self, state: State) -> list[tuple[Any, State]]:
        return [(member, _own(state, k)) for k, member in enumerate(self._all)]

    def _mean(self, scores: Sequence[Tensor]) -> Tensor:
        return averaged_scores(scores, self.form, self.weights)


def _joined(states: Sequence[State]) -> State:
    """The states as one; ``labels``, which say of what each take is, stand beside them under their own name."""
    found = {f"{k}.{name}": value for k, state in enumerate(states) for name, value in state.items()}
    return found | ({"labels": states[0]["labels"]} if "labels" in states[0] else {})


def _own(state: State, k: int) -> State:
    mark = f"{k}."
    return {name.removeprefix(mark): value for name, value in state.items() if name.startswith(mark)}


def _grows(member: Any) -> Enrollable:
    if not isinstance(member, Enrollable):
        raise InputError(
            "A member of this average cannot gain or lose a word; average models whose learner is prototypes."
        )
    return member
