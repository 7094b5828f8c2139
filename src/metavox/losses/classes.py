"""Class scores and their loss: cross-entropy, and prototype distances in kernel form."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def cross_entropy(scores: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> Float[Tensor, ""]:
    """Mean negative log-probability of the right class, scores read as logits."""
    return functional.cross_entropy(scores, labels)


def balanced_cross_entropy(scores: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> Float[Tensor, ""]:
    """The same where each class counts alike, however many items it has; a class without any counts nothing.

    With equally many items of each it is the plain mean. Without it gradient descent from a head of zeros hears a class
    of one take less than one of many, and its bias first.
    """
    own = membership(labels, scores.shape[1], scores.dtype)
    weights = 1 / (own @ own.sum(0))
    losses = -(own * functional.log_softmax(scores, 1)).sum(1)
    return (weights * losses).sum() / weights.sum()


def membership(labels: Int[Tensor, " B"], n_classes: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "B C"]:
    """1 where an item is of a class, 0 elsewhere."""
    # Not one_hot, which cannot be vmapped; a label that is no class is refused here too.
    return torch.eye(n_classes, dtype=dtype, device=labels.device).index_select(0, labels.long())


def within_class(similarity: Float[Tensor, "B B"], labels: Int[Tensor, " B"], n_classes: int) -> Float[Tensor, " C"]:
    """Half the mean similarity of the takes of each class with one another, few takes shrunk towards the other classes.

    With a dot product the mean over pairs estimates ``||mean||^2``, which the squared distance to a class mean holds;
    written with a kernel, any similarity will do, dynamic time warping too. Without it a class whose takes agree with
    each other would be favoured over a varied one. K takes count (K-1)/K, the average over classes the rest, so that
    a class of one take (whose own value is unknown) is neither favoured nor punished.
    """
    member = membership(labels, n_classes, similarity.dtype)
    sums = (off_diagonal(similarity) @ member * member).sum(0)
    return shrunk(sums, member.sum(0))


def off_diagonal(similarity: Tensor) -> Tensor:
    """The same with zeros on the diagonal, which nobody reads."""
    return similarity - torch.diag(torch.diagonal(similarity))


def shrunk(pair_sums: Tensor, counts: Tensor) -> Tensor:
    """Half the mean over ordered pairs (..., C), shrunk; 0 everywhere where no class has two takes."""
    known = counts >= 2
    own = pair_sums / (counts * (counts - 1)).clamp_min(1)
    average = (own * known).sum(-1, keepdim=True) / known.sum(-1, keepdim=True).clamp_min(1)
    trust = torch.where(known, (counts - 1) / counts.clamp_min(1), torch.zeros_like(counts))
    return (trust * own + (1 - trust) * average) / 2


def prototype_scores(
    similarity: Float[Tensor, "B S"], labels: Int[Tensor, " S"], within: Float[Tensor, " C"]
) -> Float[Tensor, "B C"]:
    """Mean similarity of each query to the takes of each class, less ``within_class``.

    With a dot product and equally many takes of unit length this is minus half the squared distance to the class mean
    (Snell et al. 2017, eq. 2), up to a term that every class shares. With unequal numbers it is that distance less
    what a mean of few takes gains in length by chance, ``(mean |take|^2 - average) / 2K``.
    """
    member = membership(labels, within.shape[0], similarity.dtype)
    return similarity @ (member / member.sum(0).clamp_min(1)) - within


def leave_one_out_scores(
    similarity: Float[Tensor, "B B"], labels: Int[Tensor, " B"], n_classes: int
) -> Float[Tensor, "B C"]:
    """Score every item against the classes as if it had not been among the takes.

    Equal to ``prototype_scores`` of the item on the support without it, for all items at once. The score of a class
    that would have no take left is -inf.
    """
    member = membership(labels, n_classes, similarity.dtype)
    others = off_diagonal(similarity)
    sums = others @ member  # (B, C) similarity to the takes of each class, itself left out
    counts = member.sum(0) - member  # (B, C) takes left
    both_ways = sums + others.T @ member  # a similarity need not be the same from the other side
    pair_sums = (member * sums).sum(0) - member * both_ways  # (B, C) ordered pairs left in the class
    scores = sums / counts.clamp_min(1) - shrunk(pair_sums, counts)
    return scores.masked_fill(counts == 0, -torch.inf)
