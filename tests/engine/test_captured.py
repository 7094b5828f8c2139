"""The recorder: when it records anew, and in which parts it replays."""

from typing import Any

import pytest
import torch
from engine_cases import CASES, batch_of, classes, gradient, mlp, normal, same, seeded, tasks_of, values_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from metavox.contracts import InputError
from metavox.engine import Engine, Problem, UpdateRule
from metavox.engine.captured import Recorder, even_parts, signature

RULE = UpdateRule(2, 0.2)


@given(st.integers(1, 200), st.integers(1, 64))
def test_parts_are_few_alike_and_none_too_large(n: int, largest: int) -> None:
    parts = even_parts(n, largest)
    sizes = [size for size, _ in parts]
    assert sum(sizes) == n
    assert [start for _, start in parts] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert len(parts) == -(-n // largest)
    assert max(sizes) <= min(largest, min(sizes) + 1)


def test_signatures_tell_structure_shape_and_type_but_not_numbers() -> None:
    tree = {"x": normal(2, 3), "y": [torch.zeros(2, dtype=torch.int64)]}
    assert signature(tree) == signature({"x": normal(2, 3, seed=5), "y": [torch.ones(2, dtype=torch.int64)]})
    for other in (
        {"x": normal(3, 2), "y": tree["y"]}, {"x": normal(2, 3).float(), "y": tree["y"]},
        {"z": normal(2, 3), "y": tree["y"]}, {"x": normal(2, 3), "y": tuple(tree["y"])},
    ):  # fmt: skip
        assert signature(other) != signature(tree)


def engine_of(module: nn.Module, loss: Any = classes, **options: Any) -> tuple[Engine, Recorder]:
    options = {"executor": "captured", "chunk": 2, "query_chunk": 1, **options}
    engine = Engine(Problem.of(module, loss), RULE, **options)
    return engine, engine._executors.recorder(options.get("lowered", True))


def expected(module: nn.Module, tasks: Any, loss: Any = classes) -> Any:
    return gradient(Problem.of(module, loss), RULE, values_of(module), tasks)


def test_the_same_shapes_are_recorded_once() -> None:
    module = seeded(mlp())
    engine, recorder = engine_of(module)
    for seed in range(3):
        tasks = [(batch_of(4, 3, seed=seed + i), batch_of(5, 3, seed=seed + i + 20)) for i in range(2)]
        same(engine.gradient(values_of(module), tasks), expected(module, tasks))
        assert len(recorder) == 2  # inner loop, query
        with torch.no_grad():
            module[0].weight.mul_(0.9)
    engine.gradient(values_of(module), tasks_of(batch_of, 3, n_tasks=3))  # parts of 2 and 1
    assert len(recorder) == 3  # an inner loop of a single task more


class Changing(nn.Module):
    """Everything that may be otherwise at the next call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.factor, self.plain, self.sizes = 1.5, torch.tensor(2.0, dtype=torch.float64), (1, 2)
        self.register_buffer("shift", torch.ones(3))
        self.frozen = nn.Parameter(torch.ones(3))
        self.norm.running_mean.copy_(torch.tensor([0.1, 0.2, 0.3]))
        self.norm.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x) * self.factor + self.shift * self.frozen * (2 if self.training else 1)
        return self.norm(x) * self.plain * self.sizes[1]


def change_buffer(module: Changing) -> None:
    module.shift = 3 * module.shift


def change_frozen(module: Changing) -> None:
    module.frozen = nn.Parameter(2 * module.frozen.detach())


def change_plain(module: Changing) -> None:
    module.plain = module.plain + 1


def change_mode(module: Changing) -> None:
    module.norm = nn.BatchNorm1d(3, track_running_stats=False).double()


CHANGES = {
    "a float": lambda module: setattr(module, "factor", 0.7),
    "a tuple": lambda module: setattr(module, "sizes", (1, 3)),
    "evaluation": lambda module: module.eval(),
    "a setting of a layer": lambda module: setattr(module.norm, "eps", 0.5),
    "a buffer in place": lambda module: module.shift.mul_(3),
    "a buffer": change_buffer,
    "a parameter that is not learned": change_frozen,
    "the data of a parameter": lambda module: setattr(module.frozen, "data", 2 * module.frozen.data),
    "a plain tensor": change_plain,
    "another layer": change_mode,
}


def test_what_changes_in_a_module_counts_at_the_next_gradient() -> None:
    module, tasks = seeded(Changing()), tasks_of(batch_of, 3, n_tasks=2)
    engine, recorder = engine_of(module, query_chunk=2)

    def values() -> dict[str, Tensor]:
        return {name: value for name, value in values_of(module).items() if name.startswith("layer")}

    before = engine.gradient(values(), tasks)
    for kind, change in CHANGES.items():
        change(module)
        truth = gradient(Problem.of(module, classes), RULE, values(), tasks)
        same(engine.gradient(values(), tasks), truth)
        assert not torch.allclose(before.losses, truth.losses), kind
        before = truth
    n_recordings = len(recorder)
    same(engine.gradient(values(), tasks), before)
    assert len(recorder) == n_recordings


class Flat(nn.Module):
    """Whose reshape is a view or a copy, as its weight lies in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.reshape(-1).view(3, 3)


def test_values_may_lie_in_memory_as_they_like() -> None:
    module, tasks = seeded(Flat()), tasks_of(batch_of, 3, n_tasks=2)
    engine, _ = engine_of(module)
    values = values_of(module)
    turned = {name: value.detach().t().contiguous().t() if value.ndim == 2 else value for name, value in values.items()}
    for given_values in (values, turned, values):
        same(engine.gradient(given_values, tasks), expected(module, tasks))
    strided = [tuple((normal(2 * len(x), 6, seed=i)[::2, ::2], y) for x, y in task) for i, task in enumerate(tasks)]
    same(engine.gradient(values, strided), expected(module, strided))


def test_draws_of_the_inner_loop_are_recorded_for_the_first_order_only() -> None:
    module = seeded(nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 3)))
    engine, _ = engine_of(module)
    tasks = tasks_of(batch_of, 3, n_tasks=2)
    one, other = (engine.gradient(values_of(module), tasks, order=0.0) for _ in range(2))
    assert not torch.equal(one.losses, other.losses)  # no mask is frozen
    with pytest.raises(InputError, match="draws random numbers, which the way back would draw anew"):
        engine.gradient(values_of(module), tasks, order=1.0)


def test_a_decision_by_numbers_is_refused_even_for_a_single_task() -> None:
    def by_lengths(model: Any, batch: Any) -> Tensor:
        x, y, lengths = batch
        scores = torch.stack([model(item[:n]).mean(0) for item, n in zip(x, lengths.tolist(), strict=True)])
        return functional.cross_entropy(scores, y)

    module = seeded(mlp())
    tasks = [tuple((normal(4, 5, 3, seed=s), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 5, 2, 3])) for s in (1, 2))]
    with pytest.raises(InputError, match=r"executor 'captured' cannot run this task .*tolist takes numbers"):
        engine_of(module, by_lengths, chunk=1)[0].gradient(values_of(module), tasks)
    assert Engine(Problem.of(module, by_lengths), RULE).gradient(values_of(module), tasks).finite


def test_recordings_serve_chunks_of_queries_of_every_size() -> None:
    problem, values, _ = CASES["tanh"].problem()
    tasks = tasks_of(batch_of, 3, n_tasks=5)
    truth = gradient(problem, RULE, values, tasks)
    for chunk, query_chunk in ((5, 2), (3, 1)):
        found = gradient(problem, RULE, values, tasks, executor="captured", chunk=chunk, query_chunk=query_chunk)
        same(found, truth)
