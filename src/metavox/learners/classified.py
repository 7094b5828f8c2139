"""Prototypes that also learn to tell all classes of training apart: what an episode of few classes leaves unasked."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..contracts import Batch, Encoder
from ..losses import leave_one_out_scores
from ..nets.heads import segment_means
from .classifier import N_SEGMENTS, unit
from .metric import Prototypes, as_it_is


class ClassifiedPrototypes(Prototypes):
    """Prototypes trained with a classifier over all classes of training beside them (Kye et al. 2020, section 3.3).

    An episode asks to tell a dozen classes apart, the classifier all of them, with the same frames. What is enrolled
    and how a query is scored is that of ``Prototypes``; the classifier is no part of it, and a learner that is built
    without base classes has none.

    Args:
        n_base_classes: classes of training.
        base_weight: weight of the classifier's loss beside that of the episode.
    """

    def __init__(
        self,
        encoder: Encoder,
        match: str = "dtw",
        band: float = 0.25,
        views: Callable[[Batch], Sequence[Batch]] = as_it_is,
        n_base_classes: int = 0,
        base_weight: float = 0.5,
    ) -> None:
        super().__init__(encoder, match, band, views)
        self.base_weight = base_weight
        self.base_head = nn.Linear(N_SEGMENTS * encoder.dim, n_base_classes) if n_base_classes else None
        self.base_log_scale = nn.Parameter(torch.tensor(2.7)) if n_base_classes else None

    def score_both(self, batch: Batch) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B N"]]:
        """Scores of each item against the others, and of the classifier, for one pass through the encoder.

        The classifier sees means over stretches of time and compares by cosine, as that of joint training does.
        """
        if self.base_head is None or self.base_log_scale is None:
            raise ValueError("this learner was built without base classes")
        takes, lengths = self._takes(batch)
        similarity = self._among(takes, lengths)
        scores = self.log_scale.exp() * leave_one_out_scores(similarity, batch.labels, batch.n_classes)
        vectors = unit(segment_means(takes[:, 0], lengths, N_SEGMENTS))
        cosines = functional.linear(vectors, unit(self.base_head.weight))
        return scores, self.base_log_scale.exp() * cosines + self.base_head.bias
