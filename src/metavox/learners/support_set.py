"""Learners that remember a vector of each take, and compare a query with all of them each time they are asked."""

from collections.abc import Callable
from math import log

import torch
from torch import Tensor, nn

from ..contracts import Batch, Encoder, InputError, Output, State
from ..losses import membership
from ..nets.heads import segment_means
from .classifier import N_SEGMENTS

Compare = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""A comparison of ``nets.comparing``."""
_MAX_CELLS = 8_000_000
"""Numbers that a comparison may hold at once, about; a larger query is compared in parts."""


class SupportSet(nn.Module):
    """A support set of vectors, and a network or a formula that scores a query beside it.

    ``adapt`` keeps the vector of every take; whatever a class is made of is made of these in ``predict``. A take or a
    class more or less is therefore a row more or less, and one left out is hidden from its query: enrolling by and by
    is exact, whatever the comparison. Scores of a class without a take are -inf.

    Args:
        compare: (query, takes, member, scale) -> scores, see ``nets.comparing``.
        scale: what similarities are multiplied with before anything is learned.
        n_segments: stretches of time whose means make a vector, see ``nets.heads.segment_means``.
    """

    fixed_ways = False
    adapts_body = False

    def __init__(self, encoder: Encoder, compare: Compare, scale: float = 15.0, n_segments: int = N_SEGMENTS) -> None:
        super().__init__()
        self.encoder, self.compare, self.n_segments = encoder, compare, n_segments
        self.log_scale = nn.Parameter(torch.tensor(log(scale)))

    def vectors(self, batch: Batch) -> Tensor:
        """(B, V) means over stretches of time, side by side."""
        frames = self.encoder(batch.inputs, batch.lengths)
        return segment_means(frames, self.encoder.out_lengths(batch.lengths), self.n_segments)

    def adapt(self, support: Batch) -> State:
        """The vectors of the takes.

        Raises:
            InputError: no take, or labels that are not one for each take from 0 to ``n_classes - 1``.
        """
        require_takes(support)
        return remembered(self.vectors(support), support.labels, support.n_classes)

    def predict(self, state: State, query: Batch) -> Output:
        """Scores (B, C); nothing is asked of the labels of the query.

        Raises:
            InputError: a state that no support set was adapted to.
        """
        return Output(self.compared(self.vectors(query), state))

    def extend(self, state: State, support: Batch) -> State:
        """Add takes of old or new classes; equal to ``adapt`` on all of them."""
        require_takes(support)
        takes = torch.cat([state["takes"], self.vectors(support)])
        return remembered(takes, torch.cat([state["labels"], support.labels]), support.n_classes)

    def without(self, state: State, label: int) -> State:
        """Forget one class; the classes after it move down by one."""
        stay = state["labels"] != label
        labels = state["labels"][stay]
        return remembered(state["takes"][stay], labels - (labels > label).to(labels.dtype), len(state["counts"]) - 1)

    def leave_one_out(self, state: State) -> Tensor:
        """(B, C) scores of each take against the classes without it."""
        places = torch.arange(len(state["labels"]), device=state["labels"].device)
        return self.compared(state["takes"], state, hidden=lambda rows: rows[:, None] == places)

    def score_in_turn(self, batch: Batch, n_known: int | None = None) -> Tensor:
        """(B, C) scores of each item beside the others, round by round: in round n the nth item of each class stands
        apart, again from the first where a class has fewer, and those of this round are what is asked.

        Every class then misses one item. Were only the item itself left out, its own class would be one item smaller
        than the others, which a learned comparison soon finds out, and nothing else.

        With ``n_known`` there are no classes but the first so many, and the items of the others are strangers: (B,
        n_known).
        """
        state = self.adapt(batch)
        place, counts = places_in_class(batch.labels, batch.n_classes), state["counts"][batch.labels]
        return self.compared(
            state["takes"], state, hidden=lambda rows: place[rows][:, None] % counts == place, n_known=n_known
        )

    def compared(
        self,
        query: Tensor,
        state: State,
        *,
        hidden: Callable[[Tensor], Tensor] | None = None,
        n_known: int | None = None,
    ) -> Tensor:
        """Scores (B, C) of vectors (B, V).

        Args:
            hidden: which takes (b, S) are left out for some of the queries (b,), none by default.
            n_known: how many of the first classes there are, all by default.
        """
        if "takes" not in state:
            raise InputError("the state holds no takes; adapt to a support set with its labels first.")
        takes = state["takes"]
        known = membership(state["labels"], len(state["counts"]), takes.dtype)[:, :n_known]
        n_takes, n_classes = known.shape
        cells = n_classes * (n_takes + takes.shape[1]) + n_takes * self.n_segments**2
        parts = []
        for rows in torch.arange(len(query), device=takes.device).split(max(1, _MAX_CELLS // cells)):
            member = known[None]
            if hidden is not None:
                member = known * (~hidden(rows))[:, :, None].to(known.dtype)
            scores = self.compare(query[rows], takes, member, self.log_scale.exp())
            parts.append(scores.masked_fill(member.sum(1) == 0, -torch.inf))
        return torch.cat(parts)


def places_in_class(labels: Tensor, n_classes: int) -> Tensor:
    """How many items of the same class stand before each (B,)."""
    known = membership(labels, n_classes)
    return ((known.cumsum(0) - known) * known).sum(1).long()


def remembered(takes: Tensor, labels: Tensor, n_classes: int) -> State:
    """A state: vectors (S, V) and labels (S,) of the takes, and how many each class has (C,)."""
    return {"takes": takes, "labels": labels, "counts": membership(labels, n_classes).sum(0).long()}


def require_takes(support: Batch) -> None:
    """Raise InputError where a support set teaches nothing: no take, or labels that are not those of takes."""
    if len(support) == 0:
        raise InputError("the support set holds no take; give at least one with its label.")
    if len(support.labels) != len(support):
        raise InputError(
            f"the support set holds {len(support)} takes and {len(support.labels)} labels; give one label to each."
        )
    odd = support.labels[(support.labels < 0) | (support.labels >= support.n_classes)]
    if len(odd):
        raise InputError(
            f"a take has label {int(odd[0])} and the task has {support.n_classes} classes; number them from 0 to "
            f"{support.n_classes - 1}."
        )
