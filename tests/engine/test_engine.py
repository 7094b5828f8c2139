"""Every executor against the loop, and the loop against a meta-gradient written by hand."""

import gc
from typing import Any

import pytest
import torch
from engine_cases import (
    CASES,
    EXECUTIONS,
    Case,
    Recurrent,
    batch_of,
    by_hand,
    classes,
    close,
    gradient,
    mlp,
    normal,
    numerical,
    same,
    seeded,
    shifted,
    tasks_of,
    values_of,
)
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from metavox.contracts import InputError
from metavox.engine import Engine, Implicit, MultiStep, Problem, UpdateRule

LR = 0.3
UNVECTORISED = {"gru", "lstm"}
"""What ``vmap`` cannot do: kernels that change their states in place."""
UNRECORDED = {"ctc"}
"""What decides by numbers of its arguments."""

THOROUGH = {"conv2d, relu in place, max pool", "batch norm of each batch", "nested, a mask and a number"}


def executions(name: str) -> list[str]:
    """The executions that can run a case."""
    if name in UNVECTORISED:
        return ["captured one by one", "recursion"]
    if name in UNRECORDED:
        return ["vmap", "recursion"]
    return ["vmap", "captured", *(["captured one by one", "recursion"] if name in THOROUGH else [])]


@pytest.mark.parametrize("name", CASES)
def test_the_loop_is_what_one_writes_by_hand(name: str) -> None:
    problem, values, tasks = CASES[name].problem()
    for order in (0, 1):
        found = gradient(problem, UpdateRule(2, LR, order=float(order)), values, tasks)
        close(found.values, by_hand(CASES[name].module(), CASES[name].loss, tasks, 2, LR, order))


@pytest.mark.parametrize("name", CASES)
def test_executors_agree_on_nets_and_losses(name: str) -> None:
    problem, values, tasks = CASES[name].problem()
    rule = UpdateRule(2 if name in THOROUGH else 1, LR)
    expected = gradient(problem, rule, values, tasks)
    for ways in executions(name):
        same(gradient(problem, rule, values, tasks, **EXECUTIONS[ways]), expected)


@pytest.mark.parametrize("ways", ["vmap whole", "captured in twos, native", "captured one by one", "recursion"])
@pytest.mark.parametrize(
    ("order", "n_steps", "outer"),
    [
        (0.0, 3, "query"), (0.4, 3, "query"), (1.0, 0, "query"), (1.0, 3, "query"),
        (0.0, 1, "multi_step"), (0.4, 2, "multi_step"), (1.0, 3, MultiStep((0.5, 0.0, 0.0))), (1.0, 2, "reptile"),
    ],
)  # fmt: skip
def test_executors_agree_on_orders_steps_and_outer_rules(order: float, n_steps: int, outer: Any, ways: str) -> None:
    problem, values, tasks = CASES["tanh"].problem()
    rule = UpdateRule(n_steps, LR, order=order)
    expected = gradient(problem, rule, values, tasks, outer=outer)
    same(gradient(problem, rule, values, tasks, outer=outer, **EXECUTIONS[ways]), expected)


@pytest.mark.parametrize("ways", ["vmap", "captured", "captured in twos, native", "recursion"])
def test_executors_agree_on_implicit_gradients(ways: str) -> None:
    problem, values, tasks = CASES["tanh"].problem()
    rule, outer = UpdateRule(2, 0.1), Implicit(prox=2.0, n_iterations=3)
    expected = gradient(problem, rule, values, tasks, outer=outer)
    same(gradient(problem, rule, values, tasks, outer=outer, **EXECUTIONS[ways]), expected, 1e-10)


def test_an_order_given_later_takes_the_place_of_the_rules_and_needs_no_recording_of_its_own() -> None:
    problem, values, tasks = CASES["tanh"].problem()
    engine = Engine(problem, UpdateRule(2, LR, order=0.0), executor="captured", chunk=2, query_chunk=2)
    for order in (0.3, 0.7):
        expected = gradient(problem, UpdateRule(2, LR, order=order), values, tasks)
        same(engine.gradient(values, tasks, order=order), expected)
    assert len(engine._executors.recorder(True)) == 2  # the inner loop there and back, and the outer gradient
    with pytest.raises(InputError, match="order is 2; it goes from 0"):
        engine.gradient(values, tasks, order=2.0)


@pytest.mark.parametrize("ways", ["loop", *EXECUTIONS])
def test_weights_given_later_take_the_place_of_those_of_a_multi_step_loss_for_once(ways: str) -> None:
    problem, values, tasks = CASES["tanh"].problem()
    rule, options = UpdateRule(2, LR), EXECUTIONS.get(ways, {"executor": "loop"})
    engine = Engine(problem, rule, "multi_step", **options)
    for weights in ((0.3, 0.7), (0.0, 1.0), (0.5, 0.5)):
        expected = gradient(problem, rule, values, tasks, outer=MultiStep(weights))
        same(engine.gradient(values, tasks, outer=MultiStep(weights)), expected)
    same(engine.gradient(values, tasks), gradient(problem, rule, values, tasks, outer="multi_step"))
    with pytest.raises(InputError, match="3 weights for 2 inner steps"):
        engine.gradient(values, tasks, outer=MultiStep((0.2, 0.3, 0.5)))


@pytest.mark.parametrize("ways", EXECUTIONS)
@pytest.mark.parametrize("order", [0.0, 0.4, 1.0])
def test_what_a_transform_reads_is_learned_in_every_order_and_does_not_adapt(order: float, ways: str) -> None:
    problem, values, tasks = CASES["tanh"].problem()
    learned = {f"gain.{name}": 1 + 0.1 * normal(*value.shape, seed=3) for name, value in values.items()}

    def transform(name: str, grad: Tensor, index: int, values: Any) -> Tensor:
        return grad * values[f"gain.{name}"] * (1 + index)

    rule = UpdateRule(2, LR, order=order, transform=transform, reads="gain.")
    expected = gradient(problem, rule, {**values, **learned}, tasks)
    same(gradient(problem, rule, {**values, **learned}, tasks, **EXECUTIONS[ways]), expected, 1e-10)
    assert all(bool(expected.values[name].any()) for name in learned)


def test_tasks_of_several_shapes_keep_their_places() -> None:
    module = seeded(mlp())
    problem, values = Problem.of(module, classes), values_of(module)
    tasks = [(batch_of(4 + i % 2, 3, seed=i), batch_of(3, 3, seed=i + 50)) for i in range(5)]
    expected = gradient(problem, UpdateRule(2, LR), values, tasks)
    for ways in ("vmap", "captured"):
        same(gradient(problem, UpdateRule(2, LR), values, tasks, **EXECUTIONS[ways]), expected)
    alone = [gradient(problem, UpdateRule(2, LR), values, [task]).losses for task in tasks]
    torch.testing.assert_close(expected.losses, torch.cat(alone), rtol=1e-12, atol=0)


def test_extras_are_handed_on_task_by_task() -> None:
    module = seeded(mlp())
    plain = Problem.of(module, classes)

    def outer(values: Any, fast: Any, query: Any) -> Any:
        scores = functional_call(module, {**values, **fast}, (query[0],))
        return functional.cross_entropy(scores, query[1]), {"scores": scores, "right": (scores.argmax(1) == query[1])}

    problem = Problem(plain.inner_loss, outer, module=module)
    tasks = tasks_of(batch_of, 3, n_tasks=3)
    expected = gradient(problem, UpdateRule(1, LR), values_of(module), tasks)
    assert expected.extras[2]["scores"].shape == (5, 3)
    for ways in ("vmap", "captured", "recursion"):
        same(gradient(problem, UpdateRule(1, LR), values_of(module), tasks, **EXECUTIONS[ways]), expected)


@pytest.mark.parametrize("name", sorted(UNVECTORISED))
def test_what_vmap_cannot_do_is_left_to_others_and_said_where_it_was_asked_for(name: str) -> None:
    problem, values, tasks = CASES[name].problem()
    engine = Engine(problem, UpdateRule(1, LR))
    same(engine.gradient(values, tasks), gradient(problem, UpdateRule(1, LR), values, tasks))
    assert engine.choice is not None
    assert any(t.option.executor == "vmap" and t.note for t in engine.choice.timings)
    for executor in ("vmap", "captured"):
        with pytest.raises(InputError, match=rf"executor '{executor}' cannot run this task .*use executor='loop'"):
            Engine(problem, UpdateRule(1, LR), executor=executor).gradient(values, tasks)


def test_the_loop_runs_what_no_transform_of_torch_can() -> None:
    """Reptile too needs nothing but autograd."""

    def penalised(model: Any, batch: Any) -> Tensor:
        x = batch[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(x).square().sum(), [x], create_graph=True)
        return functional.cross_entropy(model(x), batch[1]) + slope.square().mean()

    module, tasks = seeded(mlp()), tasks_of(batch_of, 3)
    values = values_of(module)
    for outer in ("query", "reptile"):
        engine = Engine(Problem.of(module, penalised), UpdateRule(2, 0.05), outer)
        found = engine.gradient(values, tasks)
        assert engine.choice is not None
        assert engine.choice.option.executor == "loop"
        assert found.finite
    close(
        gradient(Problem.of(module, penalised), UpdateRule(2, 0.05), values, tasks).values,
        by_hand(module, penalised, tasks, 2, 0.05, 1),
    )


# -------------------------------------------------------------------------------------------------------- differences


@pytest.mark.parametrize(("name", "outer"), [("tanh", MultiStep((0.2, 0.3, 0.5))), ("gru", MultiStep((1.0,)))])
def test_the_meta_gradient_is_the_slope_that_differences_measure(name: str, outer: Any) -> None:
    problem, values, tasks = CASES[name].problem()
    tasks = tasks[:1]
    engine = Engine(problem, UpdateRule(len(outer.weights), LR), outer, "loop")
    measured = numerical(lambda at: engine.gradient(at, tasks, order=0.0).losses.mean(), values)
    close(engine.gradient(values, tasks).values, measured, 1e-7)


def test_between_the_orders_one_step_blends_and_several_do_not() -> None:
    problem, values, tasks = CASES["tanh"].problem()

    def at(order: float, n_steps: int) -> dict[str, Tensor]:
        return gradient(problem, UpdateRule(n_steps, LR, order=order), values, tasks).values

    for n_steps, linear in ((1, True), (3, False)):
        low, high, between = (at(order, n_steps) for order in (0.0, 1.0, 0.4))
        blend = {name: 0.6 * low[name] + 0.4 * high[name] for name in low}
        gap = max(float((between[name] - blend[name]).abs().max()) for name in blend)
        assert (gap < 1e-13) == linear
    # A chain of 3 Jacobians, each 1 - order lr H: a polynomial of degree 3 in the order, so 4 values say a fifth.
    shares = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    curve = torch.stack([torch.cat([g.flatten() for g in at(float(s), 3).values()]) for s in shares])
    quartic = torch.tensor([1.0, -4.0, 6.0, -4.0, 1.0], dtype=torch.float64) @ curve
    cubic = torch.tensor([-1.0, 3.0, -3.0, 1.0], dtype=torch.float64) @ curve[:4]
    assert quartic.abs().max() < 1e-12 < cubic.abs().max()


# --------------------------------------------------------------------------------------------------------------- care


def test_attention_is_differentiated_twice_and_outside_it_nothing_has_changed() -> None:
    before = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()
    problem, values, tasks = CASES["attention as a function"].problem()
    assert gradient(problem, UpdateRule(1, LR), values, tasks).finite
    assert (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()) == before


@pytest.mark.parametrize("executor", ["auto", "loop", "vmap", "captured", "recursion"])
def test_nothing_that_was_given_is_changed(executor: str) -> None:
    module = seeded(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.0), nn.ReLU(inplace=True), nn.Linear(4, 3)))
    module.register_buffer("scale", torch.ones(3))
    tasks = tasks_of(batch_of, 3)
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    held = {name: id(value) for name, value in module.state_dict(keep_vars=True).items()}
    copies = [[[part.clone() for part in batch] for batch in task] for task in tasks]
    found = Engine(Problem.of(module, classes), UpdateRule(2, LR), executor=executor).gradient(values_of(module), tasks)
    assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())
    assert {name: id(value) for name, value in module.state_dict(keep_vars=True).items()} == held
    assert all(value.grad is None for value in module.parameters())
    pairs = zip([p for t in tasks for b in t for p in b], [p for t in copies for b in t for p in b], strict=True)
    assert all(torch.equal(part, copy) for part, copy in pairs)
    assert not any(value.requires_grad for value in found.values.values())
    assert not found.losses.requires_grad


@pytest.mark.parametrize("ways", ["loop", "vmap", "captured", "recursion"])
def test_a_gradient_is_no_part_of_anyones_graph(ways: str) -> None:
    """Neither parameters that are not learned nor inputs that want gradients hold on to it."""
    module = seeded(mlp())
    tasks = [tuple((x.requires_grad_(), y) for x, y in task) for task in tasks_of(batch_of, 3)]
    options = EXECUTIONS.get(ways, {})
    found = gradient(Problem.of(module, classes), UpdateRule(1, LR), {"2.weight": module[2].weight}, tasks, **options)
    expected = by_hand(module, classes, tasks, 1, LR, 1, adapts=["2.weight"])
    close(found.values, {"2.weight": expected["2.weight"]})
    assert not found.values["2.weight"].requires_grad
    assert not any(loss.requires_grad for loss in found.losses)


class Counting(nn.Module):
    """Whose buffer changes whenever it is called, in place or by another taking its place."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.layer, self.in_place = nn.Linear(3, 3), in_place
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        if self.in_place:
            self.calls += 1
        else:
            self.calls = self.calls + 1
        return self.layer(x) * (1 + 0.1 * self.calls)


@pytest.mark.parametrize("in_place", [True, False])
def test_what_a_module_does_to_its_buffers_is_forgotten(in_place: bool) -> None:
    module = seeded(Counting(in_place))
    buffer, tasks = module.calls, tasks_of(batch_of, 3)
    expected = gradient(Problem.of(module, classes), UpdateRule(2, LR), values_of(module), tasks)
    for ways in ("vmap", "captured", "recursion"):
        found = gradient(Problem.of(module, classes), UpdateRule(2, LR), values_of(module), tasks, **EXECUTIONS[ways])
        same(found, expected)
    assert module.calls is buffer
    assert float(module.calls) == 0


@pytest.mark.parametrize("order", [0.0, 1.0])
@pytest.mark.parametrize("executor", ["auto", "loop", "vmap", "recursion"])
def test_dropout_goes_through_and_draws_anew(executor: str, order: float) -> None:
    module = seeded(nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 3)))
    engine = Engine(Problem.of(module, classes), UpdateRule(2, LR, order=order), executor=executor)
    tasks = tasks_of(batch_of, 3)
    first, second = (engine.gradient(values_of(module), tasks).losses for _ in range(2))
    assert not torch.equal(first, second)


def test_recursion_draws_on_the_way_back_what_it_drew_on_the_way_there() -> None:
    """One task and the same state of the generator: then the loop draws the same too."""
    module = seeded(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3)))
    problem, tasks = Problem.of(module, classes), tasks_of(batch_of, 3, n_tasks=1)
    engines = [Engine(problem, UpdateRule(3, LR), executor=name) for name in ("loop", "recursion")]
    found = []
    for engine in engines:
        engine.gradient(values_of(module), tasks)  # what is asked once for each shape has been asked
        with torch.random.fork_rng():
            torch.manual_seed(3)
            found.append(engine.gradient(values_of(module), tasks))
    same(found[1], found[0])


def test_a_loss_that_is_no_number_gives_a_gradient_that_says_so() -> None:
    problem, values, tasks = CASES["tanh"].problem()
    tasks[1][0][0][0, 0] = torch.nan
    for ways in ("loop", "captured", "auto"):
        options = {"executor": "auto"} if ways == "auto" else EXECUTIONS.get(ways, {})
        found = gradient(problem, UpdateRule(1, LR), values, tasks, **options)
        assert not found.finite
        assert found.losses.isnan().tolist() == [False, True]
    assert gradient(problem, UpdateRule(1, LR), values, tasks[:1]).finite


def test_what_adapts_to_nothing_is_left_as_it_is() -> None:
    """Parameters that the loss does not read have zero gradients, by every executor."""
    module = nn.ModuleDict({"read": nn.Linear(3, 3), "other": nn.Linear(3, 3)})

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = module

        def forward(self, x: Tensor) -> Tensor:
            return self.parts["read"](x)

    net, tasks = seeded(One()), tasks_of(batch_of, 3)
    for ways in ("vmap", "captured"):
        found = gradient(Problem.of(net, classes), UpdateRule(2, LR), values_of(net), tasks, **EXECUTIONS[ways])
        close(found.values, by_hand(net, classes, tasks, 2, LR, 1))
        assert not found.values["parts.other.weight"].any()


# ---------------------------------------------------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"executor": "fast"}, "executor is 'fast'; it is one of auto, loop, vmap, captured, recursion"),
        ({"outer": "queries"}, "outer is 'queries'; outer rules are query, multi_step, reptile, implicit"),
        ({"precision": "half"}, "precision is 'half'; it is float32 or bfloat16"),
        ({"chunk": 0}, "chunk is 0; a chunk has 1 task or more"),
        ({"query_chunk": -1}, "query_chunk is -1; a chunk has 1 task or more"),
    ],
)
def test_options_that_cannot_be_are_named(options: Any, words: str) -> None:
    problem, _, _ = CASES["tanh"].problem()
    with pytest.raises(InputError, match=words):
        Engine(problem, **options)


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([], "there are 0 tasks; a meta-gradient needs at least 1"),
        ([((normal(2, 3), None), (normal(2, 3), None))], "task 0 holds a value of type NoneType"),
        (
            [((normal(2, 3), 2), (normal(2, 3), 2))],
            "task 0 holds a value of type int, and batches are trees of tensors",
        ),
    ],
)
def test_tasks_that_cannot_be_are_named(tasks: Any, words: str) -> None:
    problem, values, _ = CASES["tanh"].problem()
    with pytest.raises(InputError, match=words):
        Engine(problem).gradient(values, tasks)


@pytest.mark.parametrize("executor", ["auto", "loop", "vmap", "captured", "recursion"])
def test_a_loss_that_does_not_depend_on_what_adapts_is_named(executor: str) -> None:
    problem, values, tasks = CASES["tanh"].problem()
    module = seeded(mlp())
    blind = Problem.of(module, lambda model, batch: model(batch[0]).detach().sum())
    partly = Problem.of(module, lambda model, batch: functional.cross_entropy(model(batch[0]).detach(), batch[1]))
    for unread in (blind, partly):
        with pytest.raises(InputError, match="does not depend on what adapts; let adapts name"):
            Engine(unread, UpdateRule(1, LR), executor=executor, chunk=1).gradient(values, tasks)
    assert gradient(problem, UpdateRule(1, LR), values, tasks, executor=executor).finite


def test_a_second_derivative_that_torch_does_not_have_is_named_with_the_remedy() -> None:
    def native(model: Any, batch: Any) -> Tensor:
        x, targets, lengths, target_lengths = batch
        scores = functional.log_softmax(model(x), 2).transpose(0, 1)
        return functional.ctc_loss(scores, targets, lengths, target_lengths)

    case = Case(mlp, native, CASES["ctc"].make, CASES["ctc"].shape)
    problem, values, tasks = case.problem()
    for executor in ("auto", "loop", "recursion"):
        with pytest.raises(
            InputError, match=r"cannot be differentiated twice .* such as metavox.losses.ctc_loss"
        ) as err:
            Engine(problem, UpdateRule(1, LR), executor=executor).gradient(values, tasks)
        assert "\n" not in str(err.value)
        assert gradient(problem, UpdateRule(1, LR, order=0.0), values, tasks, executor=executor).finite


def test_a_loss_that_is_not_a_scalar_is_named() -> None:
    module = seeded(mlp())
    each = Problem.of(
        module, lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
    )
    for executor in ("auto", "recursion"):
        with pytest.raises(InputError, match=r"the loss is not a scalar .*; take its mean or its sum"):
            Engine(each, UpdateRule(1, LR), executor=executor).gradient(values_of(module), tasks_of(batch_of, 3))


def test_a_chunk_beyond_memory_is_refused_with_the_one_that_fits() -> None:
    problem, values, _ = CASES["tanh"].problem()
    tasks = tasks_of(batch_of, 3, n_tasks=8)
    engine = Engine(problem, UpdateRule(3, LR), executor="vmap", chunk=8, memory_mb=0.01)
    with pytest.raises(
        InputError, match=r"a chunk of 8 tasks takes about .* MiB and memory_mb allows .*; use chunk=\d"
    ):
        engine.gradient(values, tasks)


# ------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("ways", ["loop", "vmap", "captured", "recursion"])
def test_nothing_piles_up_over_many_steps(ways: str) -> None:
    module, tasks = seeded(nn.Linear(3, 3)), tasks_of(batch_of, 3, n_tasks=2 if ways == "vmap" else 1)
    options = {"executor": "loop", **EXECUTIONS.get(ways, {})}
    engine = Engine(Problem.of(module, classes), UpdateRule(1, 0.1), **options)
    values = {name: value.detach().clone() for name, value in values_of(module).items()}

    def living() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    counts = []
    for step in range(201):
        found = engine.gradient(values, tasks, order=1.0 - step % 2)
        for name, grad in found.values.items():
            values[name] -= 0.01 * grad
        if step in (10, 110, 200):
            counts.append((living(), len(engine._executors.recorder(True)), len(engine.chosen)))
    assert len(set(counts)) == 1


def test_shapes_without_end_do_not_pile_up_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metavox.engine.captured.MAX_RECORDINGS", 4)
    module = seeded(nn.Linear(3, 3))
    engine = Engine(Problem.of(module, classes), UpdateRule(1, LR), executor="captured")
    for n in range(2, 7):
        engine.gradient(values_of(module), [(batch_of(n, 3, seed=n), batch_of(2, 3, seed=n + 9))])
        assert len(engine._executors.recorder(True)) <= 4


def test_a_recurrent_net_keeps_its_learned_weights_under_every_name() -> None:
    """The flat weights of a recurrence follow what is put in their place."""
    module = seeded(Recurrent(nn.LSTM))
    found = gradient(Problem.of(module, shifted), UpdateRule(1, LR), values_of(module), tasks_of(batch_of, 4, 3))
    assert all(bool(grad.any()) for grad in found.values.values())
