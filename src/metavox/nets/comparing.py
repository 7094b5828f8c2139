"""Scores of vectors against the remembered takes of each class: what a learner that compares compares with.

A comparison is a module ``(query, takes, member, scale) -> (B, C)``. ``member`` says which takes are of which class,
to each query alike (1, S, C) or for each its own (B, S, C): a take that is left out for a query is of no class there.
What stands at a class without a take is not read. ``scale`` is what similarities are multiplied with.
"""

from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


def class_means(takes: Float[Tensor, "S V"], member: Float[Tensor, "B S C"]) -> Float[Tensor, "B C V"]:
    """Mean vector of each class, 0 where it has no take."""
    counts = member.sum(1).clamp_min(1)
    return member.transpose(1, 2) @ takes / counts[:, :, None]


def level(vectors: Float[Tensor, "*B V"]) -> Float[Tensor, "*B V"]:
    """The same directions with a root mean square of 1, which suits a layer that hears them."""
    return functional.normalize(vectors, dim=-1) * vectors.shape[-1] ** 0.5


def usual_size(takes: Float[Tensor, "S V"], member: Float[Tensor, "B S C"], n_segments: int) -> Float[Tensor, "B 1 V"]:
    """How large each dimension of a frame is among the takes, to be divided by before a layer hears them.

    An encoder may weigh parts of a frame otherwise in use than in training; layers are not to be surprised by it.
    """
    there = member.sum(2)
    squares = takes.unflatten(1, (n_segments, -1)).square().mean(1)
    size = (there @ squares / there.sum(1, keepdim=True).clamp_min(1) + 1e-4).sqrt()
    return size.repeat(1, n_segments)[:, None]


def squared_distance(query: Float[Tensor, "B V"], points: Float[Tensor, "#B C V"], size: int) -> Float[Tensor, "B C"]:
    """Squared Euclidean distances over ``size``; ``points`` may be the same (1, C, V) for every query."""
    return (query[:, None] - points).square().sum(-1) / size


class Euclidean(nn.Module):
    """Minus the squared distance to the class mean (Snell et al. 2017, eq. 1 and 2), a mean over stretches of time."""

    def __init__(self, n_segments: int) -> None:
        super().__init__()
        self.n_segments = n_segments

    def forward(self, query: Tensor, takes: Tensor, member: Tensor, scale: Tensor) -> Tensor:
        return -scale * squared_distance(query, class_means(takes, member), self.n_segments)


class Attention(nn.Module):
    """The attention that a query pays to the takes of each class, by cosine (Vinyals et al. 2016, eq. 1 and 2).

    A score is the logarithm of the summed attention before it is divided by what all takes get: its softmax over the
    classes is the published probability, and it still says how alike the nearest takes are, as a refusal has to know.
    """

    def forward(self, query: Tensor, takes: Tensor, member: Tensor, scale: Tensor) -> Tensor:
        cosine = functional.normalize(query, dim=-1) @ functional.normalize(takes, dim=-1).T
        # A take of another class counts nothing. Far below, not -inf: a class without a take has to have a gradient.
        return (scale * cosine[:, :, None] - 1e4 * (1 - member)).logsumexp(1)


class Relation(nn.Module):
    """A learned comparator of a query and a class mean, stretch of time by stretch (Sung et al. 2018).

    Two convolutions over time read both and their squared difference side by side, and the mean over time becomes one
    number. It is added to the cosine of the two, so that a comparator which has learned nothing compares already. It is
    trained by cross-entropy among the classes, as everything here, not by the squared error to 0 and 1 of the paper.
    """

    def __init__(self, dim: int, n_segments: int, width: int) -> None:
        super().__init__()
        self.n_segments = n_segments
        self.first = nn.Conv1d(3 * dim, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, padding=1)
        self.last = nothing_yet(width, 1)

    def forward(self, query: Tensor, takes: Tensor, member: Tensor, scale: Tensor) -> Tensor:
        query, takes = level(query), level(takes)
        means = class_means(takes, member)
        size = usual_size(takes, member, self.n_segments)
        one, other = torch.broadcast_tensors(query[:, None] / size, means / size)
        heard = torch.cat([self._over_time(part) for part in (one, other, (one - other).square())], 1)
        heard = functional.relu(self.second(functional.relu(self.first(heard)))).mean(-1)
        found = self.last(heard)[:, 0].reshape(one.shape[:2])
        return scale * ((query[:, None] * level(means)).mean(-1) + found)

    def _over_time(self, part: Tensor) -> Tensor:
        """(B, C, V) as sequences (B C, D, N)."""
        return part.flatten(0, 1).unflatten(1, (self.n_segments, -1)).transpose(1, 2)


class Gaussian(nn.Module):
    """Posterior predictive density under a Gaussian for each class (Banayeeanzade et al. 2021, GeMCL).

    Mean and variance of each dimension of a class have a normal-gamma prior, which is what training learns: around 0,
    worth ``exp(log_kappa)`` takes for the mean; ``exp(log_alpha)`` and ``exp(log_beta)`` of each dimension for the
    variance. With a class's takes it becomes its posterior, and the density of a query is a Student t (Murphy 2007,
    section 3). A score is the mean of its logarithm over dimensions, scaled: these go together, and their sum, the
    density itself if they did not, would be far too sure.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_kappa = nn.Parameter(torch.tensor(log(0.1)))
        self.log_alpha = nn.Parameter(torch.tensor(log(2.0)))
        self.log_beta = nn.Parameter(torch.full((dim,), log(0.6)))

    def forward(self, query: Tensor, takes: Tensor, member: Tensor, scale: Tensor) -> Tensor:
        query, takes = level(query), level(takes)
        counts = member.sum(1)[:, :, None]
        means = class_means(takes, member)
        # Around the mean of all takes, so that little is lost where two large sums are taken from one another.
        centre = takes.mean(0)
        squares = member.transpose(1, 2) @ (takes - centre).square()
        spread = (squares - counts * (means - centre).square()).clamp_min(0)
        before, alpha, beta = self.log_kappa.exp(), self.log_alpha.exp(), self.log_beta.exp()
        kappa = before + counts
        alpha = alpha + counts / 2
        beta = beta + spread / 2 + before * counts * means.square() / (2 * kappa)
        place = means * counts / kappa
        width = beta * (kappa + 1) / (alpha * kappa)  # squared scale of the Student t of 2 alpha degrees of freedom
        away = (query[:, None] - place).square() / (2 * alpha * width)
        constant = torch.lgamma(alpha + 0.5) - torch.lgamma(alpha) - (2 * pi * alpha * width).log() / 2
        return scale * (constant - (alpha + 0.5) * torch.log1p(away)).mean(-1)


class Dummy(nn.Module):
    """Nearer to a class than to a dummy prototype, in squared distances: 0 is where a query is refused.

    The dummy is generated from the class means, in whatever order (Kim et al. 2022, D-ProtoNets, with one dummy): a
    layer hears each, the largest values of all become a way to go from the mean over classes.
    """

    def __init__(self, dim: int, n_segments: int, width: int) -> None:
        super().__init__()
        self.n_segments = n_segments
        self.hear = nn.Linear(dim, width)
        self.move = nothing_yet(width, dim)

    def forward(self, query: Tensor, takes: Tensor, member: Tensor, scale: Tensor) -> Tensor:
        means, present = class_means(takes, member), member.sum(1) > 0
        among = present[:, :, None].to(means.dtype)
        heard = (functional.relu(self.hear(means)) * among).amax(1)
        dummy = (means * among).sum(1) / among.sum(1).clamp_min(1) + self.move(heard)
        distance = squared_distance(query, torch.cat([means, dummy[:, None]], 1), self.n_segments)
        return scale * (distance[:, -1:] - distance[:, :-1])


def nothing_yet(n_in: int, n_out: int) -> nn.Linear:
    """A layer that gives 0 until it has learned something."""
    layer = nn.Linear(n_in, n_out, bias=False)
    nn.init.zeros_(layer.weight)
    return layer
