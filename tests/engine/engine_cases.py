"""Small nets, losses and tasks in double precision, and a meta-gradient written by hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from metavox.engine import Engine, MetaGradient, Problem, UpdateRule
from metavox.losses import ctc_loss

TIGHT = 1e-12
CLASSES = 3
Values = dict[str, Tensor]
Loss = Callable[[Callable[..., Any], Any], Tensor]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    """The same module in double precision with parameters of its own draw."""
    draw = generator(seed)
    module = module.double()
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.randn(value.shape, dtype=torch.float64, generator=draw) * 0.5)
    return module


def values_of(module: nn.Module) -> Values:
    return dict(module.named_parameters())


def distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Norm of the difference relative to the norm of the second."""
    assert set(found) == set(expected), (sorted(found), sorted(expected))
    apart = sum(float((found[name] - value).square().sum()) for name, value in expected.items())
    return (apart / max(sum(float(value.square().sum()) for value in expected.values()), 1e-300)) ** 0.5


def close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = TIGHT) -> None:
    assert distance(found, expected) < tolerance
    assert any(bool((value != 0).any()) for value in expected.values())


def same(found: MetaGradient, expected: MetaGradient, tolerance: float = TIGHT) -> None:
    """Equal gradients, losses and extras."""
    close(found.values, expected.values, tolerance)
    torch.testing.assert_close(found.losses, expected.losses, rtol=tolerance * 10, atol=1e-13)
    torch.testing.assert_close(found.extras, expected.extras, rtol=tolerance * 10, atol=1e-13)


# ---------------------------------------------------------------------------------------------------- second opinions


def by_hand(
    module: nn.Module, loss: Loss, tasks: Sequence[Any], n_steps: int, lr: float, order: int, adapts: Sequence[str] = ()
) -> Values:
    """MAML and first-order MAML in the plainest way: autograd through a list of tensors."""
    names = list(values_of(module))
    leaves = {name: value.detach().clone().requires_grad_() for name, value in values_of(module).items()}
    moving = [name for name in names if not adapts or name in adapts]
    total = torch.zeros((), dtype=torch.float64)
    with sdpa_kernel(SDPBackend.MATH):
        for support, query in tasks:
            fast = dict(leaves)
            for _ in range(n_steps):
                value = loss(lambda *args, at=fast: functional_call(module, at, args), support)
                slopes = torch.autograd.grad(
                    value, [fast[name] for name in moving], create_graph=order == 1, allow_unused=True
                )
                stepped = {n: fast[n] - lr * g for n, g in zip(moving, slopes, strict=True) if g is not None}
                fast = {**fast, **stepped}
            total = total + loss(lambda *args, at=fast: functional_call(module, at, args), query)
        grads = torch.autograd.grad(total / len(tasks), list(leaves.values()), allow_unused=True)
    return {n: torch.zeros_like(leaves[n]) if g is None else g for n, g in zip(names, grads, strict=True)}


def numerical(function: Callable[[Values], Tensor], at: Values, step: float = 1e-5) -> Values:
    """Slope of a scalar function by differences of both sides, coordinate by coordinate."""
    found = {}
    for name, value in at.items():
        slope = torch.zeros_like(value).flatten()
        for i in range(value.numel()):
            sides = []
            for sign in (1, -1):
                moved = value.detach().clone()
                moved.view(-1)[i] += sign * step
                sides.append(function({**at, name: moved}))
            slope[i] = (sides[0] - sides[1]) / (2 * step)
        found[name] = slope.view_as(value)
    return found


# ---------------------------------------------------------------------------------------------------------------- nets


class Residual(nn.Module):
    """Convolution, group norm, residual sum, mean over frames."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(3, 4, 3, padding=1, bias=False), nn.GroupNorm(2, 4)
        self.second, self.head = nn.Conv1d(4, 4, 3, stride=1, padding=1), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.first(x)))
        return self.head((x + functional.relu(self.second(x))).mean(2))


class Attention(nn.Module):
    """Layer norm and attention as a module."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return self.head((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


class Sdpa(nn.Module):
    """Attention as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.head = nn.Linear(4, 12), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.inward(x).unflatten(2, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        return self.head(functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2).mean(1))


class Recurrent(nn.Module):
    """A recurrent layer and the mean of its states."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer, self.head = kind(3, 4, batch_first=True), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0].mean(1))


class Words(nn.Module):
    """Embedded integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embedding(x)).mean(1))


class Tied(nn.Module):
    """One matrix under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(3, 3), nn.Linear(3, 3)
        self.outward.weight = self.inward.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.outward(torch.tanh(self.inward(x)))


class Averaged(nn.Module):
    """Convolution and batch norm, in evaluation mode or with the statistics of each batch."""

    def __init__(self, tracked: bool) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4, track_running_stats=tracked)
        self.head = nn.Linear(4, CLASSES)
        if tracked:
            self.norm.running_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
            self.norm.running_var.copy_(torch.tensor([0.5, 1.5, 2.0, 1.0]))
            self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.conv(x))).mean(2))


def conv2d_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, CLASSES)
    )


def depthwise_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 6, 3, groups=3, dilation=2, padding="same"), nn.Tanh(),
        nn.Conv1d(6, 4, 1, groups=2), nn.Conv1d(4, 4, 3, stride=2, padding=2, dilation=2, groups=4),
        nn.SiLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, CLASSES),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, CLASSES))


# -------------------------------------------------------------------------------------------------------------- losses


def classes(model: Callable[..., Tensor], batch: Any) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


CONSTANT = torch.tensor([0.5, 2.0, 1.25], dtype=torch.float64)


def weighted(model: Callable[..., Tensor], batch: Any) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1], weight=CONSTANT, label_smoothing=0.1)


def shifted(model: Callable[..., Tensor], batch: Any) -> Tensor:
    return functional.mse_loss(model(batch[0]) * CONSTANT + 1, torch.eye(CLASSES, dtype=torch.float64)[batch[1]])


def of_dict(model: Callable[..., Tensor], batch: Any) -> Tensor:
    return functional.cross_entropy(model(batch["x"]), batch["y"]["label"])


def of_nested(model: Callable[..., Tensor], batch: Any) -> Tensor:
    (x, (y, scale)), mask = batch
    losses = functional.cross_entropy(model(x) * scale, y, reduction="none")
    return torch.where(mask, losses, 0.0).sum() / mask.sum().clamp_min(1)


def transcribed(model: Callable[..., Tensor], batch: Any) -> Tensor:
    x, targets, lengths, target_lengths = batch
    scores = functional.log_softmax(model(x), 2).transpose(0, 1)
    return ctc_loss(scores, targets, lengths, target_lengths)


# --------------------------------------------------------------------------------------------------------------- tasks


def labels(n: int, seed: int) -> Tensor:
    return torch.randint(0, CLASSES, (n,), generator=generator(seed))


def batch_of(n: int, *shape: int, seed: int) -> tuple[Tensor, Tensor]:
    return normal(n, *shape, seed=seed), labels(n, seed)


def dict_batch(n: int, *shape: int, seed: int) -> Any:
    x, y = batch_of(n, *shape, seed=seed)
    return {"x": x, "y": {"label": y}}


def nested_batch(n: int, *shape: int, seed: int) -> Any:
    x, y = batch_of(n, *shape, seed=seed)
    return (x, [y, torch.tensor(1.0 + seed / 10, dtype=torch.float64)]), labels(n, seed + 7) > 0


def word_batch(n: int, *shape: int, seed: int) -> tuple[Tensor, Tensor]:
    return torch.randint(0, 7, (n, *shape), generator=generator(seed)), labels(n, seed)


def ctc_batch(n: int, *shape: int, seed: int) -> Any:
    targets = torch.randint(1, CLASSES, (n, 2), generator=generator(seed))
    lengths = torch.randint(4, shape[0] + 1, (n,), generator=generator(seed + 1))
    return normal(n, *shape, seed=seed), targets, lengths, torch.randint(1, 3, (n,), generator=generator(seed + 2))


def tasks_of(make: Callable[..., Any], *shape: int, n_tasks: int = 3, n_query: int = 5) -> list[Any]:
    return [(make(4, *shape, seed=10 * i), make(n_query, *shape, seed=10 * i + 5)) for i in range(1, n_tasks + 1)]


@dataclass(frozen=True)
class Case:
    """A net, a loss, and tasks for it."""

    net: Callable[[], nn.Module]
    loss: Loss
    make: Callable[..., Any]
    shape: tuple[int, ...]

    def module(self) -> nn.Module:
        return seeded(self.net())

    def tasks(self, n_tasks: int = 2) -> list[Any]:
        return tasks_of(self.make, *self.shape, n_tasks=n_tasks)

    def problem(self) -> tuple[Problem, Values, list[Any]]:
        module = self.module()
        return Problem.of(module, self.loss), values_of(module), self.tasks()


CASES = {
    "tanh": Case(mlp, classes, batch_of, (3,)),
    "conv1d, group norm, residual": Case(Residual, classes, batch_of, (3, 6)),
    "conv2d, relu in place, max pool": Case(conv2d_net, classes, batch_of, (1, 6, 6)),
    "depthwise, grouped, dilated, same": Case(depthwise_net, classes, batch_of, (3, 7)),
    "multi-head attention": Case(Attention, classes, batch_of, (5, 4)),
    "attention as a function": Case(Sdpa, classes, batch_of, (5, 4)),
    "gru": Case(lambda: Recurrent(nn.GRU), classes, batch_of, (4, 3)),
    "lstm": Case(lambda: Recurrent(nn.LSTM), classes, batch_of, (4, 3)),
    "embedding": Case(Words, classes, word_batch, (4,)),
    "tied": Case(Tied, classes, batch_of, (3,)),
    "batch norm, eval": Case(lambda: Averaged(True), classes, batch_of, (3, 6)),
    "batch norm of each batch": Case(lambda: Averaged(False), classes, batch_of, (3, 6)),
    "ctc": Case(mlp, transcribed, ctc_batch, (6, 3)),
    "class weights": Case(mlp, weighted, batch_of, (3,)),
    "mse with constants": Case(mlp, shifted, batch_of, (3,)),
    "dictionaries": Case(mlp, of_dict, dict_batch, (3,)),
    "nested, a mask and a number": Case(mlp, of_nested, nested_batch, (3,)),
}

EXECUTIONS: dict[str, dict[str, Any]] = {
    "vmap": {"executor": "vmap", "chunk": 2},
    "vmap whole": {"executor": "vmap"},
    "captured": {"executor": "captured", "query_chunk": 2},
    "captured one by one": {"executor": "captured", "chunk": 1, "query_chunk": 1},
    "captured in twos, native": {"executor": "captured", "chunk": 2, "query_chunk": 1, "lowered": False},
    "recursion": {"executor": "recursion"},
}


def gradient(problem: Problem, rule: UpdateRule, values: Values, tasks: Sequence[Any], **options: Any) -> MetaGradient:
    return Engine(problem, rule, **{"executor": "loop", **options}).gradient(values, tasks)
