"""An encoder that hears which task it is in: the support set becomes a context, and the context moves the encoder."""

from math import log
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Batch, Encoder, InputError, Output, State
from ..losses import membership
from ..nets.comparing import Euclidean
from ..nets.conditioning import SetEncoder
from ..nets.heads import segment_means
from .classifier import N_SEGMENTS
from .support_set import remembered, require_takes


class Film(nn.Module):
    """Prototypes of an encoder that the support set scales and shifts (CNAPs, Requeima et al. 2019; TADAM, Oreshkin
    et al. 2018; the layers are those of FiLM, Perez et al. 2018).

    ``adapt`` hears the takes twice: as they are, to find the context, and under the context, to remember them. A query
    is heard under the context. The context is 0 before training, which therefore starts from plain class means. It
    depends on every take, so nothing can be enrolled later without the recordings.

    Args:
        encoder: with a ``condition``, a context as third argument.
        width: hidden units of what makes the context.
        scale: what distances are multiplied with before anything is learned.

    Raises:
        InputError: an encoder that hears no context.
    """

    fixed_ways = False
    adapts_body = False

    def __init__(self, encoder: Encoder, width: int, scale: float = 15.0) -> None:
        super().__init__()
        n_context = getattr(encoder, "condition", 0)
        if not n_context:
            raise InputError(
                "encoder.condition is 0 or the encoder hears none, and learner.name is film, which needs one; set "
                "encoder.name to conv or crnn."
            )
        self.encoder: Any = encoder
        self.set_encoder = SetEncoder(N_SEGMENTS * encoder.dim, width, n_context)
        self.compare = Euclidean(N_SEGMENTS)
        self.log_scale = nn.Parameter(torch.tensor(log(scale)))

    def vectors(self, batch: Batch, context: Tensor | None = None) -> Tensor:
        """(B, V) means over stretches of time, heard under a context (E,)."""
        frames = self.encoder(batch.inputs, batch.lengths, context)
        return segment_means(frames, self.encoder.out_lengths(batch.lengths), N_SEGMENTS)

    def adapt(self, support: Batch) -> State:
        """The context (E,), and vectors of the takes under it.

        Raises:
            InputError: no take, or labels that are not one for each take from 0 to ``n_classes - 1``.
        """
        require_takes(support)
        plain = self.vectors(support)
        context = self.set_encoder(plain, membership(support.labels, support.n_classes, plain.dtype))
        return {"context": context, **remembered(self.vectors(support, context), support.labels, support.n_classes)}

    def predict(self, state: State, query: Batch) -> Output:
        """Scores (B, C); nothing is asked of the labels of the query.

        Raises:
            InputError: a state that no support set was adapted to.
        """
        if "context" not in state:
            raise InputError("the state holds no context; adapt to a support set with its labels first.")
        member = membership(state["labels"], len(state["counts"]), state["takes"].dtype)[None]
        vectors = self.vectors(query, state["context"])
        scores = self.compare(vectors, state["takes"], member, self.log_scale.exp())
        return Output(scores.masked_fill(member.sum(1) == 0, -torch.inf))
