"""Learners that adapt by remembering: the support set is embedded and a query is compared with it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..contracts import Batch, Encoder, Output, State
from ..losses import leave_one_out_scores, prototype_scores, within_class
from ..nets.alignment import SIMILARITIES, soft_similarity

_MAX_CELLS = 2_500_000
"""Cells of a (B, S, T, U) comparison held at once, few enough for the cache; a larger query is compared in parts."""


class Prototypes(nn.Module):
    """Prototypical networks (Snell et al. 2017) on embedding *sequences*.

    ``adapt`` keeps the embedding sequence of every take; ``predict`` scores a query by its mean similarity to the
    takes of a class less half the similarity of these with one another, which is the distance to the class mean
    written with a kernel. The kernel may therefore be an alignment that keeps order in time.
    """

    fixed_ways = False
    adapts_body = False

    def __init__(self, encoder: Encoder, match: str = "soft", band: float = 0.25) -> None:
        super().__init__()
        self.encoder = encoder
        self.match, self.band = match, band
        self.log_scale = nn.Parameter(torch.tensor(2.7))  # cosines differ by tenths: exp(2.7) = 15 spreads them

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Unit frames (B, T', D) and their lengths (B,)."""
        frames = functional.normalize(self.encoder(batch.inputs, batch.lengths), dim=-1)
        return frames, self.encoder.out_lengths(batch.lengths)

    def similarity(self, query: Tensor, query_lengths: Tensor, support: Tensor, support_lengths: Tensor) -> Tensor:
        """(B, S) similarities, in parts that fit in memory."""
        cells = support.shape[0] * support.shape[1] * query.shape[1]
        n_at_once = max(1, _MAX_CELLS // max(cells, 1))
        options = {"band": self.band} if SIMILARITIES[self.match] is soft_similarity else {}
        parts = [
            SIMILARITIES[self.match](frames, lengths, support, support_lengths, **options)
            for frames, lengths in zip(query.split(n_at_once), query_lengths.split(n_at_once), strict=True)
        ]
        return torch.cat(parts)

    def adapt(self, support: Batch) -> State:
        frames, lengths = self.embed(support)
        return self._remember(frames, lengths, support.labels, support.n_classes)

    def predict(self, state: State, query: Batch) -> Output:
        frames, lengths = self.embed(query)
        similarity = self.similarity(frames, lengths, state["takes"], state["lengths"])
        return Output(self.log_scale.exp() * prototype_scores(similarity, state["labels"], state["within"]))

    def extend(self, state: State, support: Batch) -> State:
        """Add takes of old or new classes; equal to ``adapt`` on all of them."""
        frames, lengths = self.embed(support)
        longest = max(frames.shape[1], state["takes"].shape[1])
        takes = [functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in (state["takes"], frames)]
        return self._remember(
            torch.cat(takes),
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
        similarity = self.similarity(state["takes"], state["lengths"], state["takes"], state["lengths"])
        return self.log_scale.exp() * leave_one_out_scores(similarity, state["labels"], len(state["within"]))

    def _remember(self, frames: Tensor, lengths: Tensor, labels: Tensor, n_classes: int) -> State:
        within = within_class(self.similarity(frames, lengths, frames, lengths), labels, n_classes)
        return {"takes": frames, "lengths": lengths, "labels": labels, "within": within}
