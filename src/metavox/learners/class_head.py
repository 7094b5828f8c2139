"""What the linear head of a learner that adapts by gradient begins with."""

from collections.abc import Callable, Mapping

from jaxtyping import Int
from torch import Tensor, nn

from ..contracts import InputError, State
from ..nets.heads import prototype_head
from .classifier import HEAD

ALIKE = ("zero", "row")
"""Heads that begin alike for all classes: who does not move them cannot tell classes apart."""
ROW = "head.row"


class ClassHead(nn.Module):
    """A linear head (C, size) and its bias (C,), begun anew for each task.

    - ``prototypes``: class means of the support set (Triantafillou et al. 2020, Proto-MAML).
    - ``zero``: zeros.
    - ``row``: one learned row for all classes (Ye and Chao 2022, UNICORN-MAML). Under the softmax a row that all
      classes share cancels out, at the start and after any number of steps, since these move the rows by gradients that
      do not depend on it: scores differ from those of ``zero`` by what is alike for all classes.
    - ``fixed``: a learned row for each of ``ways`` classes (Finn et al. 2017), which knows them by their number.

    Raises:
        InputError: ``fixed`` without a number of ways.
    """

    def __init__(self, kind: str, size: int, ways: int) -> None:
        super().__init__()
        self.kind, self.size = kind, size
        if kind == "row":
            self.row = nn.Parameter(nn.Linear(size, 1).weight.detach()[0].clone())
        if kind == "fixed":
            if ways < 2:
                raise InputError(
                    f"learner.head is fixed and learner.ways is {ways}; set it to the number of classes of a task, 2 "
                    "or more, or train the model with `metavox train`, which sets it."
                )
            linear = nn.Linear(size, ways)
            self.weight, self.bias = linear.weight, linear.bias

    def start(
        self,
        values: Mapping[str, Tensor],
        vectors: Callable[[], Tensor],
        labels: Int[Tensor, " B"],
        n_classes: int,
    ) -> State:
        """Weight and bias by their names in a state; ``vectors`` gives those of the support set (B, size)."""
        if self.kind == "fixed":
            return {name: values[name] for name in HEAD}
        if self.kind == "prototypes":
            weight, bias = prototype_head(vectors(), labels, n_classes)
        else:
            bias = values["log_scale"].new_zeros(n_classes)
            row = values[ROW] if self.kind == "row" else values["log_scale"].new_zeros(self.size)
            weight = row.repeat(n_classes, 1)
        return dict(zip(HEAD, (weight, bias), strict=True))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of weight and bias, 1 where there is any number of classes."""
        n = len(self.bias) if self.kind == "fixed" else 1
        return {HEAD[0]: (n, self.size), HEAD[1]: (n,)}
