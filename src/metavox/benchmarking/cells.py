"""The cells of the comparison, and the tasks that are drawn for one: the same for every engine."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from .nets import NETS, Classifier

N_WAY, N_QUERY = 5, 15
INNER_LR = 0.05

Algorithm = Literal["maml", "fomaml", "reptile", "anil"]
Batch = tuple[Tensor, Tensor]
"""Inputs (n, ...) and labels (n,)."""
Tasks = list[tuple[Batch, Batch]]
"""Support and query of each task."""


@dataclass(frozen=True)
class Cell:
    """One setting in which every engine is timed; classes, queries and inner learning rate are the same in all."""

    net: str
    algorithm: Algorithm
    n_shots: int
    n_steps: int
    n_tasks: int

    @property
    def name(self) -> str:
        """As it is written in tables and matched by ``--only``."""
        return f"{self.net} {self.algorithm} {self.n_shots}-shot {self.n_steps}-step {self.n_tasks}-task"


Values = dict[str, Tensor]
Step = Callable[[Tasks], Values]
"""Tasks to the mean meta-gradient: of the query loss, or, for Reptile, first values less adapted ones."""
Build = Callable[[Cell, Classifier], Step | None]
"""An engine; None where it has no path for the cell."""

ALGORITHMS: tuple[Algorithm, ...] = ("maml", "fomaml", "reptile", "anil")
CELLS = tuple(
    [Cell("tc_resnet8", *setting) for setting in product(ALGORITHMS, (1, 5), (1, 5), (4, 16, 32))]
    + [Cell("conv4", algorithm, 1, 1, 4) for algorithm in ("maml", "fomaml")]
)
QUICK = (
    Cell("tc_resnet8", "maml", 1, 5, 4),
    Cell("tc_resnet8", "fomaml", 1, 5, 4),
    Cell("tc_resnet8", "reptile", 1, 5, 32),
    Cell("tc_resnet8", "anil", 1, 5, 4),
    Cell("conv4", "fomaml", 1, 1, 2),
)
ABLATED = (
    Cell("tc_resnet8", "maml", 1, 5, 16),
    Cell("tc_resnet8", "fomaml", 5, 1, 16),
    Cell("tc_resnet8", "reptile", 1, 5, 32),
    Cell("conv4", "maml", 1, 1, 2),
)
"""Where the parts of our engine are timed one by one."""


def draw_tasks(cell: Cell, n_tasks: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tasks:
    """New tasks: a pattern of noise for each class, and as much noise on top for each example."""
    shape = NETS[cell.net][1]

    def batch(patterns: Tensor, n_each: int) -> Batch:
        noise = torch.randn(N_WAY, n_each, *shape, generator=generator, dtype=dtype)
        labels = torch.arange(N_WAY).repeat_interleave(n_each)
        return (patterns[:, None] + noise).flatten(0, 1), labels

    tasks = []
    for _ in range(n_tasks):
        patterns = torch.randn(N_WAY, *shape, generator=generator, dtype=dtype)
        tasks.append((batch(patterns, cell.n_shots), batch(patterns, N_QUERY)))
    return tasks
