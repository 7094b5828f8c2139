"""A clip as one vector, and the classifier over all classes of training: what joint training trains."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from ..contracts import Batch, Encoder, Output, State
from ..nets.heads import segment_means

HEAD = ("head.weight", "head.bias")
"""Names of the linear head in a state; whatever else a state holds belongs to the encoder."""
ENCODER = "encoder."
"""Prefix that values of the encoder may have in a state, as they have it among the parameters of a learner."""
N_SEGMENTS = 8
"""Stretches of time whose means make the vector that a linear head sees."""
N_AVERAGED = 200
"""Batches that the running mean of training looks back on."""
EVERY = 8
"""Of how many clips of a batch one is heard for that mean."""
_COSINE_SCALE = 20.0


def clip_vectors(encoder: Encoder, batch: Batch, state: State | None = None) -> Float[Tensor, "B ND"]:
    """Vectors of one size (B, N_SEGMENTS D) that keep order in time; the encoder takes its own values of ``state``."""
    assert isinstance(encoder, nn.Module)
    body = {name.removeprefix(ENCODER): value for name, value in (state or {}).items() if name not in HEAD}
    frames = functional_call(encoder, body, (batch.inputs, batch.lengths))
    return segment_means(frames, encoder.out_lengths(batch.lengths), N_SEGMENTS)


def head_scores(vectors: Float[Tensor, "B ND"], state: State) -> Float[Tensor, "B C"]:
    """Scores of the linear head of ``state``."""
    weight, bias = (state[name] for name in HEAD)
    return functional.linear(vectors, weight, bias)


def unit(vectors: Float[Tensor, "*B ND"]) -> Float[Tensor, "*B ND"]:
    """The same directions of length 1."""
    return functional.normalize(vectors, dim=-1)


class JointClassifier(nn.Module):
    """The weights that learners of joint training share by name, so that one training serves every way to adapt.

    Without base classes it is the encoder and the length of a vector, and nothing classifies.
    """

    base_mean: Tensor
    """(N_SEGMENTS D) mean vector of training clips as the encoder hears them in use, over about the last ``N_AVERAGED``
    batches: of one clip in ``EVERY``, since they are heard once more for it."""
    n_averaged: Tensor
    """Batches that ``base_mean`` has seen."""

    def __init__(self, encoder: Encoder, n_base_classes: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.log_scale = nn.Parameter(torch.tensor(0.0))  # length of a vector: too sure a head leaves nothing to learn
        size = N_SEGMENTS * encoder.dim
        # What joint training classifies; no part of adapting or predicting.
        self.base_head = nn.Linear(size, n_base_classes) if n_base_classes else None
        if n_base_classes:
            self.register_buffer("base_mean", torch.zeros(size))
            self.register_buffer("n_averaged", torch.tensor(0))

    def scaled(self, vectors: Float[Tensor, "B ND"]) -> Float[Tensor, "B ND"]:
        """The same directions, all of the learned length."""
        return self.log_scale.exp() * unit(vectors)

    def classify(self, batch: Batch) -> Output:
        """Scores (B, n_base_classes) of the joint classifier over all classes of training, by cosine.

        Lengths of the weights are taken out (Wang et al. 2017, NormFace): a head is later built from class means. In
        training mode ``base_mean`` follows; no score depends on it here.
        """
        if self.base_head is None:
            raise ValueError("this learner was built without base classes")
        vectors = clip_vectors(self.encoder, batch)
        if self.training:
            self._average(batch)
        weight = functional.normalize(self.base_head.weight, dim=-1)
        return Output(_COSINE_SCALE * functional.linear(self.scaled(vectors), weight, self.base_head.bias))

    @torch.no_grad()
    def _average(self, batch: Batch) -> None:
        """A plain mean over the first batches, then one that forgets, since the encoder moves on.

        What is subtracted in use has to be a mean of what is heard in use, where the encoder may weigh its cepstra
        otherwise than in training.
        """
        some = Batch(batch.inputs[::EVERY], batch.lengths[::EVERY], batch.labels[::EVERY], batch.n_classes)
        assert isinstance(self.encoder, nn.Module)
        self.encoder.eval()
        mean = clip_vectors(self.encoder, some).mean(0)
        self.encoder.train()  # as it was: this is for training alone
        if bool(mean.isfinite().all()):  # a step whose values are not finite is skipped; the mean has to live on
            self.n_averaged += 1
            self.base_mean += (mean - self.base_mean) / self.n_averaged.clamp_max(N_AVERAGED)
