"""Chunks of tasks: what is stacked, what is shared, and features as values."""

import torch
from engine_cases import CASES, batch_of, close, normal, tasks_of

from metavox.engine import Query, Reptile, UpdateRule
from metavox.engine.chunks import Form, chunk_gradients, mapped, parted, scaled, shared, stacked, stepwise, unrolled
from metavox.engine.plans import Plan, loop

RULE = UpdateRule(2, 0.3)


def test_tasks_are_stacked_and_parted_as_trees() -> None:
    tasks = [({"x": normal(2, 3, seed=i)}, [torch.tensor(i)]) for i in range(3)]
    support, query = stacked(tasks)
    assert support["x"].shape == (3, 2, 3)
    assert query[0].tolist() == [0, 1, 2]
    assert [tree["a"].tolist() for tree in parted({"a": torch.arange(4).view(2, 2)}, 2)] == [[0, 1], [2, 3]]


def test_one_task_needs_no_vmap_and_looks_the_same() -> None:
    def single(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": x.sum(), "one": torch.ones(2) * (1 if len(x.shape) == 1 else 0)}

    for n in (1, 3):
        found = mapped(single, n)(normal(n, 4))
        assert found["sum"].shape == (n,)
        assert found["one"].tolist() == [[1, 1]] * n
    # Decisions by numbers, which vmap would refuse, are possible for one.
    assert mapped(lambda x: x if x.sum() > -1e9 else -x, 1)(normal(1, 2)).shape == (1, 2)


def test_unrolled_and_stepwise_are_two_ways_to_one_gradient() -> None:
    problem, values, tasks = CASES["conv1d, group norm, residual"].problem()
    values = {name: value.detach() for name, value in values.items()}
    plan = Plan(problem, RULE, Query())
    expected = loop(plan, values, tasks, 1.0)
    for one in (unrolled, stepwise):
        found = chunk_gradients(plan, values, tasks, 1.0, one)
        close(found.grads, expected.grads)
        torch.testing.assert_close(torch.stack(found.losses), torch.stack(expected.losses), rtol=1e-12, atol=0)


def test_gradients_are_summed_over_tasks_and_those_of_features_go_back() -> None:
    grads = {"a": torch.ones(3, 2), "local": torch.ones(3, 4)}
    total = shared(grads, {"local": torch.ones(3, 4)}, lambda back: {"a": back["local"].sum(0)[:2]})
    assert total["a"].tolist() == [6, 6]
    assert shared({"a": torch.ones(3, 2)}, {"local": torch.ones(1)}, lambda back: {})["a"].tolist() == [3, 3]
    assert scaled(grads, 1.0) is grads
    assert scaled(grads, 0.5)["a"].unique().tolist() == [0.5]


def test_features_become_values_and_integers_stay() -> None:
    batch = {"x": normal(2, 3), "pair": (torch.tensor([1, 2]), normal(2))}
    form, features, rest = Form.of(batch, "f ")
    assert sorted(features) == ["f 0", "f 2"]
    assert [part.tolist() for part in rest] == [[1, 2]]
    again = form.batch({name: 2 * value for name, value in features.items()}, rest)
    assert torch.equal(again["x"], 2 * batch["x"])
    assert torch.equal(again["pair"][0], batch["pair"][0])


def test_reptile_reports_the_support_loss_before_the_last_step() -> None:
    problem, values, _ = CASES["tanh"].problem()
    values = {name: value.detach() for name, value in values.items()}
    (task,) = tasks_of(batch_of, 3, n_tasks=1)
    found = chunk_gradients(Plan(problem, UpdateRule(1, 0.3), Reptile()), values, [task], 0.0, stepwise)
    torch.testing.assert_close(found.losses[0], problem.inner_loss(values, values, task[0]))
