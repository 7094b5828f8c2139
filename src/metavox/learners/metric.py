"""Learners that adapt by remembering: the support set is embedded and a query is compared with it."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.nn import functional

from ..contracts import Batch, Encoder, Output, State
from ..losses import (
    leave_one_out_nearest,
    leave_one_out_scores,
    nearest_scores,
    nearest_within,
    prototype_scores,
    within_class,
)
from ..nets.alignment import SIMILARITIES, dtw_among, soft_similarity

COHORT_WEIGHT, N_NEAREST = 0.5, 20
"""How much of an item's likeness to the cohort is taken from its scores, and how many of the cohort count: chosen on
three word sets with the unknown speech of two others (docs/decisions/0009). Weights of 0.25 to 0.75 are alike."""
FURNITURE = ("metric", "cohort")
"""What ``Prototypes`` know that was not trained but computed after it (see ``furnish``)."""
_LEVELS = 127
_MAX_CELLS = 2_500_000
"""Cells of a (B, S, T, U) comparison held at once, few enough for the cache; a larger query is compared in parts."""


def as_it_is(batch: Batch) -> Sequence[Batch]:
    """One view."""
    return [batch]


def as_levels(frames: Float[Tensor, "*B D"]) -> Int8[Tensor, "*B D"]:
    """Unit frames in 8 bits; a cosine moves by about 0.003."""
    return (frames * _LEVELS).round().clamp(-_LEVELS, _LEVELS).to(torch.int8)


def from_levels(levels: Int8[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
    """Unit frames again."""
    return functional.normalize(levels.float(), dim=-1)


class Prototypes(nn.Module):
    """Prototypical networks (Snell et al. 2017) on embedding *sequences*.

    ``adapt`` keeps the embedding sequence of every take; ``predict`` scores a query by its mean similarity to the
    takes of a class less half the similarity of these with one another, which is the distance to the class mean
    written with a kernel. The kernel may therefore be an alignment that keeps order in time.

    A take may be remembered in several ``views`` of itself, the first of which is the take as it is; a query is then as
    similar to the take as to the view that suits it best. Training knows the first view only.

    With ``nearness`` the nearer takes of a class count more in use (``losses.nearest``); in training all count alike,
    so that every take is pulled towards every other.

    A learner that was ``furnish``ed after training knows two things more, in use only. Frames are compared by a
    *metric* of their own (``learners.frame_metric``), and from all scores of an item is taken how alike it is to a
    *cohort* of sounds that are no command, so that a sound which resembles everything is accepted by nothing and
    scores of different sounds can be compared with one threshold. It changes no order of the classes (adaptive
    normalisation of the test side, Sturim and Reynolds 2005).
    """

    fixed_ways = False
    adapts_body = False

    def __init__(
        self,
        encoder: Encoder,
        match: str = "soft",
        band: float = 0.25,
        views: Callable[[Batch], Sequence[Batch]] = as_it_is,
        nearness: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.match, self.band, self.views, self.nearness = match, band, views, nearness
        self.log_scale = nn.Parameter(torch.tensor(2.7))  # cosines differ by tenths: exp(2.7) = 15 spreads them
        self.metric: Tensor | None
        self.cohort: Tensor | None
        self.register_buffer("metric", None)
        self.register_buffer("cohort", None)

    def furnish(self, metric: Float[Tensor, "D D"], cohort: Float[Tensor, "N T D"]) -> None:
        """What is known after training: how to compare frames, and unit frames of sounds that are no command.

        The cohort is kept in 8 bits: it is a third of a small model.
        """
        self.metric = metric.float()
        self.cohort = as_levels(cohort)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Unit frames (B, T', D) and their lengths (B,)."""
        frames = self.encoder(batch.inputs, batch.lengths)
        if self.metric is not None and not self.training:
            frames = frames @ self.metric
        return functional.normalize(frames, dim=-1), self.encoder.out_lengths(batch.lengths)

    def commonness(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B,) half the mean similarity of each item with the ``N_NEAREST`` of the cohort that are nearest to it.

        What is taken from all of its scores, before they are scaled. 0 where there is no cohort, and in training.
        """
        if self.cohort is None or self.training or len(self.cohort) == 0:
            return frames.new_zeros(len(frames))
        cohort = from_levels(self.cohort)
        known = torch.full((len(cohort),), cohort.shape[1], dtype=lengths.dtype, device=lengths.device)
        similarity = self.similarity(frames, lengths, cohort[:, None], known)
        return COHORT_WEIGHT * similarity.topk(min(N_NEAREST, len(cohort)), dim=1).values.mean(1)

    def similarity(self, query: Tensor, query_lengths: Tensor, takes: Tensor, lengths: Tensor) -> Tensor:
        """(B, S) similarities of sequences (B, T, D) with the nearest view of each take (S, V, U, D)."""
        n_takes, n_views = takes.shape[:2]
        support, support_lengths = takes.flatten(0, 1), lengths.repeat_interleave(n_views)
        cells = support.shape[0] * support.shape[1] * query.shape[1]
        n_at_once = max(1, _MAX_CELLS // max(cells, 1))
        options = {"band": self.band} if SIMILARITIES[self.match] is soft_similarity else {}
        parts = [
            SIMILARITIES[self.match](part, part_lengths, support, support_lengths, **options)
            for part, part_lengths in zip(query.split(n_at_once), query_lengths.split(n_at_once), strict=True)
        ]
        return torch.cat(parts).reshape(-1, n_takes, n_views).amax(-1)

    def adapt(self, support: Batch, more: Sequence[Batch] = ()) -> State:
        """Remember the takes; ``more`` are further views of the same ones, of the same lengths."""
        return self._remember(*self._takes(support, more), support.labels, support.n_classes)

    def predict(self, state: State, query: Batch) -> Output:
        return self.compare(state, *self.embed(query))

    def compare(
        self, state: State, frames: Tensor, lengths: Tensor, commonness: Float[Tensor, " B"] | None = None
    ) -> Output:
        """Scores (B, C) of queries that ``embed`` gave; their ``commonness`` too where it is known already."""
        similarity = self.similarity(frames, lengths, state["takes"], state["lengths"])
        if self.nearness and not self.training:
            scores = nearest_scores(similarity, state["labels"], state["within"], self.nearness)
        else:
            scores = prototype_scores(similarity, state["labels"], state["within"])
        common = self.commonness(frames, lengths) if commonness is None else commonness
        return Output(self.log_scale.exp() * (scores - common[:, None]))

    def extend(self, state: State, support: Batch) -> State:
        """Add takes of old or new classes; equal to ``adapt`` on all of them."""
        takes, lengths = self._takes(support)
        longest = max(takes.shape[2], state["takes"].shape[2])
        parts = [functional.pad(part, (0, 0, 0, longest - part.shape[2])) for part in (state["takes"], takes)]
        return self._remember(
            torch.cat(parts),
            torch.cat([state["lengths"], lengths]),
            torch.cat([state["labels"], support.labels]),
            support.n_classes,
        )

    def without(self, state: State, label: int) -> State:
        """Forget one class; the classes after it move down by one."""
        stay = state["labels"] != label
        labels = state["labels"][stay]
        labels = labels - (labels > label).to(labels.dtype)
        return self._remember(state["takes"][stay], state["lengths"][stay], labels, len(state["within"]) - 1)

    def leave_one_out(self, state: State) -> Tensor:
        """(B, C) scores of each take against the classes without it."""
        similarity = self._among(state["takes"], state["lengths"])
        scores = self._left_out(similarity, state["labels"], len(state["within"]))
        common = self.commonness(state["takes"][:, 0], state["lengths"])
        return self.log_scale.exp() * (scores - common[:, None])

    def score_each(self, batch: Batch) -> Tensor:
        """(B, C) scores of each item against the others: ``leave_one_out(adapt(batch))``, aligned once, not twice."""
        similarity = self._among(*self._takes(batch))
        return self.log_scale.exp() * self._left_out(similarity, batch.labels, batch.n_classes)

    def _left_out(self, similarity: Tensor, labels: Tensor, n_classes: int) -> Tensor:
        """(B, C) of each take without itself, before they are scaled."""
        if self.nearness and not self.training:
            return leave_one_out_nearest(similarity, labels, n_classes, self.nearness)
        return leave_one_out_scores(similarity, labels, n_classes)

    def _takes(self, support: Batch, more: Sequence[Batch] = ()) -> tuple[Tensor, Tensor]:
        """(S, V, T', D) frames of every view, and their lengths (S,)."""
        views = [support] if self.training else [*self.views(support), *more]
        embedded = [self.embed(view) for view in views]
        return torch.stack([frames for frames, _ in embedded], 1), embedded[0][1]

    def _among(self, takes: Tensor, lengths: Tensor) -> Tensor:
        """(S, S) similarities of the takes with one another, each as if it were the query; with itself whatever."""
        if self.match != "dtw" or takes.shape[1] > 1:
            return self.similarity(takes[:, 0], lengths, takes, lengths)
        return dtw_among(takes[:, 0], lengths, _MAX_CELLS)  # one view: the same both ways

    def _remember(self, takes: Tensor, lengths: Tensor, labels: Tensor, n_classes: int) -> State:
        similarity = self._among(takes, lengths)
        if self.nearness and not self.training:
            within = nearest_within(similarity, labels, n_classes, self.nearness)
        else:
            within = within_class(similarity, labels, n_classes)
        return {"takes": takes, "lengths": lengths, "labels": labels, "within": within}
