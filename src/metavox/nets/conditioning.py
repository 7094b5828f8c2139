"""Scores h(x, y; theta) that a network gives a query beside a whole support set: one pass, and no gradient.

Comparisons as in ``nets.comparing``. What is learned is added to the cosine or distance to the class mean, and is
nothing at first: a network that has to find out by itself what it is to be alike hardly gets beyond guessing while
these get where class means are.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .comparing import class_means, level, nothing_yet, squared_distance


class Added(nn.Module):
    """Representations of query and support are added, and a layer says how well the sum goes together.

    What g(x, y; theta) of a support set, its labels and a query can mean at its simplest. Both go through the same
    encoder and the same projection; takes are averaged by class, so their number is free; the last layer gives one
    number for every class, of which the loss takes one softmax. No label of a query is asked for.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, width)
        self.hidden = nn.Linear(width, width)
        self.last = nothing_yet(width, 1)

    def forward(self, query: Tensor, takes: Tensor, member: Tensor, scale: Tensor) -> Tensor:
        query, means = level(query), level(class_means(level(takes), member))
        both = self.project(query)[:, None] + self.project(means)
        found = self.last(functional.relu(self.hidden(functional.relu(both))))[:, :, 0]
        return scale * (cosine(query, means) + found)


class NeuralProcess(nn.Module):
    """Conditional neural process for classification (Garnelo et al. 2018, sections 2.2 and 4.3).

    An encoder h hears each take; r_c is its mean over the takes of a class, r the mean of these over the classes. A
    decoder hears the query, r_c and r, and gives the score of class c.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.hear = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width))
        self.of_query, self.of_class, self.of_set = (
            nn.Linear(size, width, bias=i == 0) for i, size in enumerate((dim, width, width))
        )
        self.hidden = nn.Linear(width, width)
        self.last = nothing_yet(width, 1)

    def forward(self, query: Tensor, takes: Tensor, member: Tensor, scale: Tensor) -> Tensor:
        query, takes = level(query), level(takes)
        by_class = class_means(self.hear(takes), member)
        whole = mean_over_classes(by_class, member)
        heard = self.of_query(query)[:, None] + self.of_class(by_class) + self.of_set(whole)[:, None]
        found = self.last(functional.relu(self.hidden(functional.relu(heard))))[:, :, 0]
        return scale * (cosine(query, level(class_means(takes, member))) + found)


class SetAttention(nn.Module):
    """Class means that have seen one another (Ye et al. 2020, FEAT): a transformer layer from set to set, residual.

    Each class mean attends to all of them and moves by what it finds, so that classes which are alike can step apart.
    Scores are minus the squared distances to where they came. Without the contrastive term and the layer norm of the
    paper: it starts as the class means, and they are left where nothing is gained.
    """

    def __init__(self, dim: int, n_segments: int, width: int) -> None:
        super().__init__()
        self.n_segments, self.width = n_segments, width
        self.ask, self.key, self.value = (nn.Linear(dim, width, bias=False) for _ in range(3))
        self.move = nothing_yet(width, dim)

    def forward(self, query: Tensor, takes: Tensor, member: Tensor, scale: Tensor) -> Tensor:
        means, present = class_means(takes, member), member.sum(1) > 0
        alike = self.ask(means) @ self.key(means).transpose(1, 2) / self.width**0.5
        share = alike.masked_fill(~present[:, None], -1e4).softmax(-1)
        moved = means + self.move(share @ self.value(means))
        return -scale * squared_distance(query, moved, self.n_segments)


class SetEncoder(nn.Module):
    """A support set as one vector, whatever the order of its takes and classes: what an encoder is told of a task.

    As in TADAM (Oreshkin et al. 2018), the mean of the class means, of what a layer heard of each take; a last layer,
    which gives 0 until it has learned something, makes it the context.
    """

    def __init__(self, dim: int, width: int, n_context: int) -> None:
        super().__init__()
        self.hear = nn.Sequential(nn.Linear(dim, width), nn.ReLU())
        self.think = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.tell = nothing_yet(width, n_context)

    def forward(self, takes: Float[Tensor, "S V"], member: Float[Tensor, "S C"]) -> Float[Tensor, " E"]:
        by_class = class_means(self.hear(level(takes)), member[None])
        return self.tell(self.think(mean_over_classes(by_class, member[None])))[0]


def cosine(query: Float[Tensor, "B V"], means: Float[Tensor, "#B C V"]) -> Float[Tensor, "B C"]:
    """Cosines of vectors whose root mean square is 1."""
    return (query[:, None] * means).mean(-1)


def mean_over_classes(values: Float[Tensor, "B C V"], member: Float[Tensor, "B S C"]) -> Float[Tensor, "B V"]:
    """The mean over the classes that have a take, however many each has."""
    present = (member.sum(1) > 0).to(values.dtype)
    return (values * present[:, :, None]).sum(1) / present.sum(1, keepdim=True).clamp_min(1)
