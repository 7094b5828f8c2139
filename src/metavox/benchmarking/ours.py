"""Our engine as the comparison sees it: built like a peer, with what it chose."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from torch import Tensor
from torch.nn import functional

from ..engine import Engine, Problem, UpdateRule
from .cells import INNER_LR, Batch, Cell, Tasks, Values
from .nets import Classifier


def cross_entropy(model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
    """The loss of support and query."""
    inputs, labels = batch
    return functional.cross_entropy(model(inputs), labels)


class OurStep:
    """Tasks to the mean meta-gradient by name of parameter, by ``metavox.engine``; ``settings`` are those of it."""

    def __init__(self, cell: Cell, net: Classifier, executor: str = "auto", **settings: Any) -> None:
        head_only = cell.algorithm == "anil"
        problem = Problem.of_head(net.body, net.head, cross_entropy) if head_only else Problem.of(net, cross_entropy)
        rule = UpdateRule(cell.n_steps, INNER_LR, order=1.0 if cell.algorithm in ("maml", "anil") else 0.0)
        outer = "reptile" if cell.algorithm == "reptile" else "query"
        self.engine = Engine(problem, rule, outer, executor, **settings)
        self.values: Values = dict(net.named_parameters())

    def twin(self, cell: Cell, net: Classifier) -> "OurStep":
        """The same on another network, with what was chosen here rather than chosen anew."""
        if self.engine.choice is None:
            return OurStep(cell, net)
        return OurStep(cell, net, **asdict(self.engine.choice.option))

    def __call__(self, tasks: Tasks) -> Values:
        """The gradient."""
        return self.engine.gradient(self.values, tasks).values

    @property
    def choice(self) -> dict[str, Any]:
        """Executor and chunks, and the seconds of what else was tried, once a gradient was taken."""
        return {} if self.engine.choice is None else asdict(self.engine.choice)
