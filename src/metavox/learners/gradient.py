"""Learners that adapt by gradient: MAML and its kin, and fine-tuning, which is the same thing without meta-training."""

from collections import deque
from collections.abc import Iterator

from torch import Tensor, nn

from ..contracts import Batch, Encoder, Output, State
from ..losses import cross_entropy
from ..nets.heads import prototype_head
from .classifier import HEAD, JointClassifier, clip_vectors, head_scores
from .inner import inner_steps


class GradientLearner(JointClassifier):
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
        super().__init__(encoder, n_base_classes)
        self.n_steps, self.lr, self.second_order = n_steps, lr, second_order
        self.adapts_body = adapts == "all"

    def vectors(self, batch: Batch, state: State | None = None) -> Tensor:
        """Vectors (B, N_SEGMENTS D) of the learned length; the encoder takes values of ``state``."""
        return self.scaled(clip_vectors(self.encoder, batch, state))

    def initial(self, support: Batch) -> State:
        """The state of zero steps: the encoder as it is and a head built from the support set."""
        head = prototype_head(self.vectors(support), support.labels, support.n_classes)
        assert isinstance(self.encoder, nn.Module)
        body = dict(self.encoder.named_parameters()) if self.adapts_body else {}
        return {**body, **dict(zip(HEAD, head, strict=True))}

    def trajectory(self, support: Batch) -> Iterator[State]:
        """The state before the first inner step and after each."""
        fixed = None if self.adapts_body else self.vectors(support)

        def loss(state: State) -> Tensor:
            vectors = self.vectors(support, state) if fixed is None else fixed
            return cross_entropy(head_scores(vectors, state), support.labels)

        yield from inner_steps(loss, self.initial(support), self.n_steps, self.lr, second_order=self.second_order)

    def adapt(self, support: Batch) -> State:
        return deque(self.trajectory(support), maxlen=1).pop()

    def predict(self, state: State, query: Batch) -> Output:
        return Output(head_scores(self.vectors(query, state), state))
