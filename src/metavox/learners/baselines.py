"""Baselines that need no training, behind the same two verbs. Beating them is the least a trained model must do."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..contracts import Batch, Encoder, Output, State
from ..losses import cross_entropy, membership
from ..nets.alignment import frame_mask
from .classifier import HEAD, N_SEGMENTS, clip_vectors, head_scores


class NearestMean(nn.Module):
    """Cosine to the mean of a class's takes, each a window laid out as one vector.

    With a front end that crops, normalises and resamples to a fixed number of frames this is the *trimmed nearest
    mean*, a strong floor for clean single words.
    """

    fixed_ways = False
    adapts_body = False

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def _vectors(self, batch: Batch) -> Tensor:
        frames = self.encoder(batch.inputs, batch.lengths)
        mask = frame_mask(self.encoder.out_lengths(batch.lengths), frames.shape[1])
        return functional.normalize((frames * mask[:, :, None].to(frames.dtype)).flatten(1), dim=-1)

    def adapt(self, support: Batch) -> State:
        vectors = self._vectors(support)
        means = membership(support.labels, support.n_classes, vectors.dtype).T @ vectors
        return {"means": functional.normalize(means, dim=-1)}

    def predict(self, state: State, query: Batch) -> Output:
        vectors, means = self._vectors(query), state["means"]
        # Windows of different length (a front end without n_frames) are compared over the frames both have.
        size = min(vectors.shape[1], means.shape[1])
        return Output(vectors[:, :size] @ means[:, :size].T)


class Scratch(nn.Module):
    """Train on the support set and nothing else: what the takes themselves can teach.

    ``n_steps`` of Adam (Kingma and Ba 2015) on all takes at once, from the weights that the encoder was built with,
    so the seed it was built from repeats every result, and from a linear head of zeros. The learner's own weights
    never change, and every support set starts from the same ones. Training is in double precision: in single
    precision, rounding alone, such as that of takes in another order, would grow until a tenth of the answers change.
    """

    fixed_ways = False
    adapts_body = True

    def __init__(self, encoder: Encoder, n_steps: int = 100, lr: float = 3e-3) -> None:
        super().__init__()
        self.encoder = encoder
        self.n_steps, self.lr = n_steps, lr

    def adapt(self, support: Batch) -> State:
        encoder: Any = deepcopy(self.encoder)
        encoder, takes = encoder.double(), replace(support, inputs=support.inputs.double())
        state = dict(encoder.named_parameters())
        sizes = (support.n_classes, N_SEGMENTS * encoder.dim), (support.n_classes,)
        state |= {name: takes.inputs.new_zeros(size) for name, size in zip(HEAD, sizes, strict=True)}
        optimizer = torch.optim.Adam([value.requires_grad_() for value in state.values()], lr=self.lr)
        for _ in range(self.n_steps):
            with torch.enable_grad():
                loss = cross_entropy(_unit_scores(encoder, state, takes), takes.labels)
            optimizer.zero_grad()
            loss.backward(inputs=list(state.values()))
            optimizer.step()
        return {name: value.detach().to(support.inputs.dtype) for name, value in state.items()}

    def predict(self, state: State, query: Batch) -> Output:
        return Output(_unit_scores(self.encoder, state, query))


def _unit_scores(encoder: Encoder, state: State, batch: Batch) -> Tensor:
    """Scores (B, C) of the head of ``state`` on unit vectors of the encoder with its values."""
    return head_scores(functional.normalize(clip_vectors(encoder, batch, state), dim=-1), state)
