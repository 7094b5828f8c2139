"""Heads on frozen vectors: what can be done after joint training without another gradient step of the encoder.

Both share every weight of the preset ``joint`` by name, so one training serves fine-tuning and these alike.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from ..contracts import Batch, Encoder, InputError, Output, State
from ..losses import membership
from ..nets.heads import prototype_head
from .classifier import HEAD, JointClassifier, clip_vectors, head_scores

_MAX_ITERATIONS = 1000
_SMALL_GRADIENT = 1e-9
"""Largest slope at which the solver stops."""


class LinearProbe(JointClassifier):
    """Logistic regression on unit vectors of the frozen encoder (Tian et al. 2020, section 3.2, RFS-simple).

    No gradient flows through ``adapt``: it is the optimum of a convex problem, found by a solver.
    """

    fixed_ways = False
    adapts_body = False

    def __init__(self, encoder: Encoder, l2: float = 1.0, n_base_classes: int = 0) -> None:
        super().__init__(encoder, n_base_classes)
        self.l2 = l2

    def _unit(self, batch: Batch) -> Tensor:
        return functional.normalize(clip_vectors(self.encoder, batch), dim=-1)

    def adapt(self, support: Batch) -> State:
        vectors = self._unit(support).detach()
        head = logistic_regression(vectors, support.labels, support.n_classes, self.l2)
        return dict(zip(HEAD, head, strict=True))

    def predict(self, state: State, query: Batch) -> Output:
        return Output(head_scores(self._unit(query), state))


def logistic_regression(
    vectors: Float[Tensor, "B D"], labels: Int[Tensor, " B"], n_classes: int, l2: float
) -> tuple[Float[Tensor, "C D"], Float[Tensor, " C"]]:
    """Weight and bias of the multinomial logistic regression, in the dtype of ``vectors``; deterministic.

    Minimises the sum of the losses plus ``l2 |W|^2 / 2`` by L-BFGS on all takes at once, from zero, in double
    precision. Every class counts alike, however many takes it has; with equally many this is the plain sum.
    It is ``LogisticRegression(C=1 / l2, class_weight="balanced")`` of scikit-learn, with ``C=2 / l2`` for two classes,
    which have one weight there and two here.
    """
    known = membership(labels, n_classes, torch.float64)
    per_take = len(labels) / (known @ (n_classes * known.sum(0)))
    inputs, targets = vectors.detach().double(), labels.long()
    weight = inputs.new_zeros(n_classes, inputs.shape[1], requires_grad=True)
    bias = inputs.new_zeros(n_classes, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_MAX_ITERATIONS,
        tolerance_grad=_SMALL_GRADIENT,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def objective() -> float:
        losses = functional.cross_entropy(functional.linear(inputs, weight, bias), targets, reduction="none")
        value = (per_take * losses).sum() + l2 / 2 * weight.square().sum()
        weight.grad, bias.grad = torch.autograd.grad(value, [weight, bias])
        return float(value.detach())

    solver.step(objective)
    return weight.detach().to(vectors.dtype), bias.detach().to(vectors.dtype)


class SimpleShot(JointClassifier):
    """Nearest class mean of frozen vectors (Wang et al. 2019, SimpleShot), by squared Euclidean distance.

    ``centring`` is what is done to a vector x first: ``none``; ``l2n``, x / |x|; ``cl2n``, the same after the mean
    vector of the training classes was taken away.

    Raises:
        InputError: ``cl2n`` without base classes, since nothing has a mean then.
    """

    fixed_ways = False
    adapts_body = False

    def __init__(self, encoder: Encoder, centring: str = "cl2n", n_base_classes: int = 0) -> None:
        if centring == "cl2n" and not n_base_classes:
            raise InputError(
                "learner.centring is cl2n, the mean over classes of training, and learner.n_base_classes is 0; "
                "train the model with `metavox train`, or set learner.centring=l2n."
            )
        super().__init__(encoder, n_base_classes)
        self.centring = centring

    def _transformed(self, batch: Batch) -> Tensor:
        vectors = clip_vectors(self.encoder, batch)
        if self.centring == "none":
            return vectors
        return functional.normalize(vectors - self.base_mean if self.centring == "cl2n" else vectors, dim=-1)

    def adapt(self, support: Batch) -> State:
        head = prototype_head(self._transformed(support), support.labels, support.n_classes)
        return dict(zip(HEAD, head, strict=True))

    def predict(self, state: State, query: Batch) -> Output:
        vectors = self._transformed(query)
        return Output(head_scores(vectors, state) - vectors.square().sum(-1, keepdim=True))
