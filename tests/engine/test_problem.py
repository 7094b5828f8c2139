"""Problems of modules: what runs how often, and a head on a frozen body against a plain loop."""

from typing import Any

import pytest
import torch
from engine_cases import (
    EXECUTIONS,
    Tied,
    batch_of,
    by_hand,
    classes,
    close,
    gradient,
    mlp,
    normal,
    same,
    seeded,
    tasks_of,
    values_of,
)
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from metavox.contracts import InputError
from metavox.engine import Engine, Problem, Reptile, UpdateRule
from metavox.engine.problem import pure_call

LR = 0.3


class Body(nn.Module):
    """Counts how often it runs, on how many items."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return torch.tanh(self.layer(x))


def parts() -> tuple[Body, nn.Module, dict[str, Tensor]]:
    body, head = Body(), seeded(nn.Linear(4, 3), seed=1)
    seeded(body)
    named = {"body": body, "head": head}
    return body, head, {f"{k}.{n}": v for k, part in named.items() for n, v in part.named_parameters()}


class Whole(nn.Module):
    """Body and head as one net, whose body runs again for every step."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("n_query", [5, 4])
def test_a_head_on_a_frozen_body_is_the_whole_net_whose_head_moves(n_query: int, order: int) -> None:
    body, head, values = parts()
    tasks = tasks_of(batch_of, 3, n_query=n_query)
    moving = [name for name in values if name.startswith("head.")]
    expected = by_hand(Whole(body, head), classes, tasks, 2, LR, order, adapts=moving)
    problem = Problem.of_head(body, head, classes)
    for ways in ("loop", "vmap", "captured", "recursion"):
        rule = UpdateRule(2, LR, order=float(order))
        close(gradient(problem, rule, values, tasks, **EXECUTIONS.get(ways, {})).values, expected)


@pytest.mark.parametrize("executor", ["vmap", "captured"])
def test_the_body_runs_once_for_a_chunk(executor: str) -> None:
    body, head, values = parts()
    engine = Engine(Problem.of_head(body, head, classes), UpdateRule(3, LR), executor=executor, chunk=2)
    tasks = tasks_of(batch_of, 3, n_tasks=4, n_query=6)
    engine.gradient(values, tasks)
    body.seen.clear()
    engine.gradient(values, tasks)
    assert body.seen == ([20, 20] if executor == "vmap" else [])  # 2 tasks of 4 + 6 items; a recording runs no module


def test_batches_that_do_not_fit_together_go_through_the_body_apart() -> None:
    """Frames of other lengths in support and query."""
    body, head, values = parts()

    def pooled(model: Any, batch: Any) -> Tensor:
        return functional.cross_entropy(model(batch[0].mean(1)), batch[1])

    tasks = [(batch_of(4, 5, 3, seed=i), batch_of(4, 7, 3, seed=i + 9)) for i in range(3)]
    problem = Problem.of_head(body, head, pooled)
    expected = gradient(problem, UpdateRule(2, LR), values, tasks)
    for ways in ("vmap whole", "captured"):
        body.seen.clear()
        same(gradient(problem, UpdateRule(2, LR), values, tasks, **EXECUTIONS[ways]), expected)
        assert 12 in body.seen


def test_tensors_of_a_batch_may_have_as_many_items_as_they_like() -> None:
    """Targets of all items end to end, for instance: the border between support and query is not the same in each."""
    body, head, values = parts()

    def loss(model: Any, batch: Any) -> Tensor:
        x, flat = batch
        return functional.cross_entropy(model(x), torch.arange(len(x)) % 3) * (1 + flat.sum() ** 2)

    def batch(n: int, n_flat: int, seed: int) -> Any:
        return normal(n, 3, seed=seed), normal(n_flat, seed=seed + 30)

    tasks = [(batch(4, 7, i), batch(5, 2, i + 9)) for i in range(3)]
    problem = Problem.of_head(body, head, loss)
    expected = gradient(problem, UpdateRule(2, LR), values, tasks)
    for ways in ("vmap", "captured", "recursion"):
        same(gradient(problem, UpdateRule(2, LR), values, tasks, **EXECUTIONS[ways]), expected)


def test_bodies_of_several_inputs_and_outputs() -> None:
    """A problem of its own: two inputs, a mask, and features as a dictionary with integers beside them."""
    *_, values = parts()

    def features(values: Any, batch: Any) -> Any:
        x = torch.tanh(batch["x"] @ values["body.layer.weight"].T + values["body.layer.bias"])
        return {"pair": (x, x * batch["gain"][:, None]), "y": batch["y"], "mask": batch["y"] > 0}

    def inner(values: Any, fast: Any, batch: Any) -> Tensor:
        known = {**values, **fast}
        scores = batch["pair"][1] @ known["head.weight"].T + known["head.bias"] + batch["pair"][0].sum(1, keepdim=True)
        losses = functional.cross_entropy(scores, batch["y"], reduction="none")
        return torch.where(batch["mask"], losses, 0.5 * losses).mean()

    def batch(n: int, seed: int) -> Any:
        x, y = batch_of(n, 3, seed=seed)
        return {"x": x, "gain": normal(n, seed=seed + 5), "y": y}

    tasks = [(batch(4, i), batch(5, i + 9)) for i in range(3)]
    for adapts in (("head.*",), ("*",)):
        problem = Problem(inner, lambda *args: (inner(*args), ()), None, features)
        expected = gradient(problem, UpdateRule(2, LR, adapts=adapts), values, tasks)
        for ways in ("vmap whole", "captured"):
            same(gradient(problem, UpdateRule(2, LR, adapts=adapts), values, tasks, **EXECUTIONS[ways]), expected)


def test_a_head_that_is_built_from_the_support_carries_the_gradient_into_the_body() -> None:
    """Prototypes, as in Proto-MAML, with and without a body that stays."""
    *_, values = parts()
    values = {name: value for name, value in values.items() if name.startswith("body.")}

    def features(values: Any, batch: Any) -> Any:
        return torch.tanh(batch[0] @ values["body.layer.weight"].T + values["body.layer.bias"]), batch[1]

    def initial(values: Any, support: Any) -> Any:
        member = torch.eye(3, dtype=torch.float64)[support[1]].T
        means = member @ support[0] / member.sum(1, keepdim=True).clamp_min(1)
        return {"weight": 2 * means, "bias": -means.square().sum(1)}

    def inner(values: Any, fast: Any, batch: Any) -> Tensor:
        return functional.cross_entropy(batch[0] @ fast["weight"].T + fast["bias"], batch[1])

    def loss(*args: Any) -> Any:
        return inner(*args), ()

    tasks = tasks_of(batch_of, 3)
    frozen = Problem(inner, loss, initial, features)
    moving = Problem(
        lambda v, f, b: inner(v, f, features({**v, **f}, b)),
        lambda v, f, b: loss(v, f, features({**v, **f}, b)),
        lambda v, b: {**values_only(v), **initial(v, features(v, b))},
    )
    for problem in (frozen, moving):
        for order in (0.0, 1.0):
            rule = UpdateRule(2, LR, order=order)
            expected = gradient(problem, rule, values, tasks)
            for ways in ("vmap whole", "captured"):
                same(gradient(problem, rule, values, tasks, **EXECUTIONS[ways]), expected)


def values_only(values: Any) -> Any:
    return {name: value for name, value in values.items() if name.startswith("body.")}


def test_reptile_asks_neither_query_nor_body() -> None:
    body, head, values = parts()
    tasks = tasks_of(batch_of, 3)
    problem, without = Problem.of_head(body, head, classes), [(support, None) for support, _ in tasks]
    expected = gradient(problem, UpdateRule(2, LR), values, tasks, outer=Reptile())
    assert not expected.values["body.layer.weight"].any()
    for ways in ("loop", "vmap", "captured"):
        found = gradient(problem, UpdateRule(2, LR), values, without, outer=Reptile(), **EXECUTIONS.get(ways, {}))
        same(found, expected)


def test_a_body_that_mixes_items_is_refused_and_one_in_evaluation_is_not() -> None:
    body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(InputError, match=r"layer 'body.1' mixes the items of a batch, .* or call eval\(\) on it"):
        Engine(Problem.of_head(body, nn.Linear(4, 3), classes))
    tracked = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    Engine(Problem.of_head(tracked, nn.Linear(4, 3), classes))


def test_a_number_for_all_items_does_not_go_with_a_frozen_body() -> None:
    body, head, values = parts()
    problem = Problem.of_head(body, head, lambda model, batch: classes(model, batch) * batch[2])
    tasks = [tuple((*part, torch.tensor(2.0)) for part in task) for task in tasks_of(batch_of, 3)]
    with pytest.raises(InputError, match="a tensor without dimensions"):
        Engine(problem, UpdateRule(1, LR), executor="vmap").gradient(values, tasks)


@pytest.mark.parametrize("wrong", ["9.weight", "inner_lr.9.weight", "2.weigth"])
def test_values_that_nothing_reads_are_named(wrong: str) -> None:
    module = seeded(mlp())
    values = {**values_of(module), wrong: torch.ones(3, dtype=torch.float64)}
    with pytest.raises(
        InputError, match=rf"value '{wrong}' belongs to none of 4 parameters; the nearest name is '2.weig"
    ):
        Engine(Problem.of(module, classes)).gradient(values, tasks_of(batch_of, 3))


def test_a_weight_under_two_names_has_one_gradient() -> None:
    module = seeded(Tied())
    assert list(values_of(module)) == ["inward.weight", "inward.bias", "outward.bias"]
    x = normal(2, 3)
    other = {name: 2 * value for name, value in values_of(module).items()}
    torch.testing.assert_close(pure_call(module, other, (x,)), functional_call(module, other, (x,)))


def test_values_without_numbers_to_learn_are_refused() -> None:
    module = seeded(mlp())
    problem, tasks = Problem.of(module, classes), tasks_of(batch_of, 3)
    with pytest.raises(InputError, match="there are no values to learn"):
        Engine(problem).gradient({}, tasks)
    with pytest.raises(InputError, match=r"value 'n' has type torch.int64 and cannot be learned"):
        Engine(problem).gradient({**values_of(module), "n": torch.tensor(3)}, tasks)
