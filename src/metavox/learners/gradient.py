"""Learners that adapt by gradient: MAML and its kin, and fine-tuning, which is the same thing without meta-training."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from ..contracts import Batch, Encoder, Output, State
from ..losses import cross_entropy
from ..nets.heads import prototype_head, segment_means
from .inner import inner_steps

_HEAD = ("head.weight", "head.bias")

N_SEGMENTS = 8
"""Stretches of time whose means make the vector that a linear head sees."""
_COSINE_SCALE = 20.0


class GradientLearner(nn.Module):
    """Adapt encoder and head by ``n_steps`` of gradient descent on the support loss (Finn et al. 2017).

    The head is built from the support set as in Proto-MAML (Triantafillou et al. 2020), so any number of words and of
    takes will do. A state holds the values that the inner loop may change, and no others: with ``adapts="head"``
    (ANIL, Raghu et al. 2020) the encoder stays fixed.
    """

    fixed_ways = False

    def __init__(
        self,
        encoder: Encoder,
        n_steps: int = 5,
        lr: float = 0.05,
        adapts: str = "all",
        second_order: bool = False,
        n_base_classes: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.n_steps, self.lr, self.second_order = n_steps, lr, second_order
        self.adapts_body = adapts == "all"
        self.log_scale = nn.Parameter(torch.tensor(0.0))  # length of a vector: too sure a head leaves nothing to learn
        # What joint training classifies; no part of adapting or predicting.
        self.base_head = nn.Linear(N_SEGMENTS * encoder.dim, n_base_classes) if n_base_classes else None

    def vectors(self, batch: Batch, state: State | None = None) -> Tensor:
        """Vectors of one length (B, N_SEGMENTS D) that keep order in time; the encoder takes values of ``state``."""
        body = {name: value for name, value in (state or {}).items() if name not in _HEAD}
        frames = functional_call(self._body, body, (batch.inputs, batch.lengths))
        means = segment_means(frames, self.encoder.out_lengths(batch.lengths), N_SEGMENTS)
        return self.log_scale.exp() * functional.normalize(means, dim=-1)

    @property
    def _body(self) -> nn.Module:
        assert isinstance(self.encoder, nn.Module)
        return self.encoder

    def initial(self, support: Batch) -> State:
        """The state of zero steps: the encoder as it is and a head built from the support set."""
        weight, bias = prototype_head(self.vectors(support), support.labels, support.n_classes)
        body = dict(self._body.named_parameters()) if self.adapts_body else {}
        return {**body, _HEAD[0]: weight, _HEAD[1]: bias}

    def trajectory(self, support: Batch) -> Iterator[State]:
        """The state before the first inner step and after each."""
        fixed = None if self.adapts_body else self.vectors(support)

        def loss(state: State) -> Tensor:
            vectors = self.vectors(support, state) if fixed is None else fixed
            return cross_entropy(vectors @ state[_HEAD[0]].T + state[_HEAD[1]], support.labels)

        yield from inner_steps(loss, self.initial(support), self.n_steps, self.lr, second_order=self.second_order)

    def adapt(self, support: Batch) -> State:
        state: State = {}
        for state in self.trajectory(support):  # noqa: B007
            pass
        return state

    def predict(self, state: State, query: Batch) -> Output:
        return Output(self.vectors(query, state) @ state[_HEAD[0]].T + state[_HEAD[1]])

    def classify(self, batch: Batch) -> Output:
        """Scores (B, n_base_classes) of the joint classifier over all classes of training, by cosine.

        Lengths of the weights are taken out (Wang et al. 2017, NormFace): a head is later built from class means.
        """
        if self.base_head is None:
            raise ValueError("this learner was built without base classes")
        weight = functional.normalize(self.base_head.weight, dim=-1)
        return Output(_COSINE_SCALE * functional.linear(self.vectors(batch), weight, self.base_head.bias))
