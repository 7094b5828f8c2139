"""Averages of weights against sums in float64, closed forms and what they are made of."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import said
from torch import Tensor, nn

from metavox.averaging.weights import (
    MovingAverage,
    combine,
    greedy_soup,
    interpolated,
    moved,
    moving_average,
    reptile,
    require_finite,
    require_same_shapes,
    soup,
    task_vector,
)
from metavox.contracts import State
from metavox.engine import Engine, Problem, Reptile, UpdateRule

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(1, 6)


def drawn(seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> State:
    """Weights as a network has them: a matrix, a vector, a single number and a count."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"body.weight": (3, 4), "body.bias": (3,), "scale": ()}
    values = {name: (scale * torch.randn(shape, generator=generator)).to(dtype) for name, shape in shapes.items()}
    return {**values, "seen": torch.tensor(7)}


def members(n: int, seed: int = 0, **options: Any) -> list[State]:
    return [drawn(seed % 1000 + k, **options) for k in range(n)]


def floats(state: State) -> State:
    return {name: value for name, value in state.items() if value.is_floating_point()}


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def as_sum(states: list[State], factors: list[float]) -> State:
    """The oracle: Python's own floats, one weight at a time, rounded once."""
    found = {}
    for name, first in floats(states[0]).items():
        columns = zip(*(state[name].double().flatten().tolist() for state in states), strict=True)
        sums = [sum(f * value for f, value in zip(factors, column, strict=True)) for column in columns]
        found[name] = torch.tensor(sums, dtype=torch.float64).reshape(first.shape).to(first.dtype)
    return found


# --------------------------------------------------------------------------------------------------------------- means


@settings(deadline=None, max_examples=50)
@given(COUNTS, SEEDS, st.sampled_from([torch.float32, torch.float64, torch.float16]))
def test_a_soup_is_the_mean(n: int, seed: int, dtype: torch.dtype) -> None:
    states = members(n, seed, dtype=dtype)
    found = soup(states)
    assert {value.dtype for value in floats(found).values()} == {dtype}
    assert int(found["seen"]) == 7
    tolerance = {"rtol": 2 * torch.finfo(dtype).eps, "atol": 1e-7 if dtype != torch.float64 else 1e-15}
    for name, value in as_sum(states, [1 / n] * n).items():
        torch.testing.assert_close(found[name], value, **tolerance)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 10), min_size=2, max_size=5).filter(lambda w: sum(w) > 0.1), SEEDS)
def test_weights_of_a_soup_are_made_to_sum_to_1(weights: list[float], seed: int) -> None:
    states, total = members(len(weights), seed), sum(weights)
    found = soup(states, weights)
    for name, value in as_sum(states, [weight / total for weight in weights]).items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_members_does_not_matter_to_the_bit(seed: int) -> None:
    states = members(4, 10 * seed)
    first = soup(states)
    assert all(equal(soup(list(order)), first) for order in itertools.permutations(states))


@settings(deadline=None, max_examples=50)
@given(COUNTS, SEEDS)
def test_a_mean_of_the_same_weights_is_these_weights_to_the_bit(n: int, seed: int) -> None:
    state = drawn(seed % 1000)
    assert equal(soup([state] * n), state)
    assert equal(moving_average([state] * n, 0.9), state)


@settings(deadline=None, max_examples=50)
@given(SEEDS)
def test_a_member_of_all_the_weight_is_the_soup(seed: int) -> None:
    states = members(3, seed)
    assert equal(soup(states, [0.0, 2.5, 0.0]), states[1])


def test_members_and_what_is_made_of_them_share_no_memory() -> None:
    states = members(2)
    before = [{name: value.clone() for name, value in state.items()} for state in states]
    found = soup([states[0], states[0]])
    for value in found.values():
        value.zero_()
    assert all(equal(a, b) for a, b in zip(states, before, strict=True))


def test_whole_numbers_stay_and_must_be_alike() -> None:
    one, other = members(2)
    assert torch.equal(soup([one, other])["seen"], torch.tensor(7))
    other["seen"] = torch.tensor(8)
    text = said(lambda: soup([one, other]))
    assert "seen" in text
    assert "whole numbers have no mean" in text


# ------------------------------------------------------------------------------------------------------------ refusals


def spoiled(value: float) -> State:
    state = drawn(1)
    state["body.weight"][1, 2] = value
    return state


@pytest.mark.parametrize(
    ("states", "sentence"),
    [
        ([], "No model was given to average; give two or more."),
        ([drawn(0), floats(drawn(1))], "member 2 has another architecture than member 1: seen is in one of them only"),
        ([drawn(0), drawn(1) | {"scale": torch.zeros(2)}], "scale is (2,) and (); average their predictions"),
        ([drawn(0), spoiled(torch.nan)], "member 2 has 1 of 12 weights that are not finite in body.weight"),
        ([spoiled(torch.inf), drawn(1)], "member 1 has 1 of 12 weights that are not finite in body.weight"),
    ],
)
def test_what_has_no_mean_is_refused_in_one_sentence(states: list[State], sentence: str) -> None:
    for action in (lambda: soup(states), lambda: require_same_shapes(states), lambda: moving_average(states, 0.5)):
        assert sentence in said(action)
    assert sentence in said(lambda: greedy_soup(states, lambda state: 0.0))


def test_refusals_name_the_models() -> None:
    text = said(lambda: require_same_shapes([drawn(0), spoiled(torch.nan)], ["exp/a", "exp/b"]))
    assert text.startswith("exp/b has 1 of 12 weights")
    assert said(lambda: require_finite([spoiled(-torch.inf)], ["exp/c"])).startswith("exp/c has 1 of 12 weights")


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0, 1.0], [0.0, 0.0], [1.0, -0.5], [1.0, float("nan")]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    said(lambda: soup(members(2), weights))


@pytest.mark.parametrize("share", [float("nan"), float("inf")])
def test_factors_that_are_no_numbers_are_refused(share: float) -> None:
    one, other = members(2)
    assert "give finite numbers" in said(lambda: interpolated(one, other, share))
    assert "give finite numbers" in said(lambda: reptile(one, [other], share))
    assert "give finite numbers" in said(lambda: moved(one, [task_vector(one, other)], [share]))


# --------------------------------------------------------------------------------------------------------- greedy soup


def judged_by(target: State) -> Any:
    """Higher is nearer."""
    return lambda state: -sum(float(((state[k] - v) ** 2).sum()) for k, v in floats(target).items())


@settings(deadline=None, max_examples=30)
@given(COUNTS, SEEDS)
def test_a_greedy_soup_is_never_worse_than_its_best_member(n: int, seed: int) -> None:
    states, score = members(n, seed), judged_by(drawn(seed % 991 + 5000))
    told: list[tuple[int, int]] = []
    found = greedy_soup(states, score, lambda done, total: told.append((done, total)))
    assert found.score >= max(found.alone)
    assert found.score == score(found.state)
    assert found.alone == tuple(score(state) for state in states)
    assert told == [(k, 2 * n - 1) for k in range(1, 2 * n)]
    taken = [found.alone[k] for k in found.members]
    assert taken == sorted(taken, reverse=True)
    assert found.members[0] == found.alone.index(max(found.alone))
    assert equal(found.state, soup([states[k] for k in found.members]))


def test_a_greedy_soup_is_the_recipe_written_out() -> None:
    states, score = members(5, 3), judged_by(soup(members(5, 3)[1:4]))
    order = sorted(range(5), key=lambda k: -score(states[k]))
    kept = order[:1]
    for k in order[1:]:
        if score(soup([states[i] for i in [*kept, k]])) >= score(soup([states[i] for i in kept])):
            kept.append(k)
    assert greedy_soup(states, score).members == tuple(kept)
    assert len(kept) > 1


def test_members_that_score_alike_are_taken_as_they_came_and_one_that_harms_is_left_out() -> None:
    states = members(3)
    assert greedy_soup(states, lambda state: 1.0).members == (0, 1, 2)
    scores = iter([0.5, 0.7, 0.6, 0.65, 0.71])  # of each alone, then with the third best, then with the worst
    assert greedy_soup(states, lambda state: next(scores)).members == (1, 0)


# ----------------------------------------------------------------------------------------------- along one training


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.floats(0.05, 0.99), SEEDS)
def test_an_average_over_checkpoints_is_its_closed_form(n: int, decay: float, seed: int) -> None:
    states = members(n, seed)
    raw = [decay ** (n - 1 - k) for k in range(n)]
    for name, value in as_sum(states, [one / sum(raw) for one in raw]).items():
        torch.testing.assert_close(moving_average(states, decay)[name], value, rtol=1e-6, atol=1e-7)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60), st.sampled_from([0.2, 0.5, 0.9, 0.999]), SEEDS)
def test_a_moving_average_is_its_closed_form_with_its_beginning(n: int, decay: float, seed: int) -> None:
    states = [drawn(seed % 1000 + k, dtype=torch.float64) for k in range(n)]
    average = MovingAverage(decay)
    for state in states:
        average.update(state)
    keep = [min(decay, k / (k + 9)) for k in range(n)]
    assert keep[0] == 0
    factors = [(1 - keep[k]) * torch.tensor(keep[k + 1 :], dtype=torch.float64).prod().item() for k in range(n)]
    assert sum(factors) == pytest.approx(1)
    assert average.n_updates == n
    for name, value in as_sum(states, factors).items():
        torch.testing.assert_close(average.values[name], value, rtol=1e-9, atol=1e-12)


def test_a_moving_average_keeps_the_last_whole_numbers_and_no_memory_of_the_network() -> None:
    average, state = MovingAverage(0.9), drawn(0)
    average.update(state)
    first = average.values["scale"].clone()
    state["scale"].fill_(99.0)
    assert torch.equal(average.values["scale"], first)
    average.update({**drawn(1), "seen": torch.tensor(8)})
    assert int(average.values["seen"]) == 8


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_decay_is_between_0_and_1(decay: float) -> None:
    assert f"{decay:g}; give" in said(lambda: MovingAverage(decay))
    assert f"--decay is {decay:g}; give" in said(lambda: moving_average(members(2), decay))


# --------------------------------------------------------------------------------------------------------- task vectors


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.sampled_from([1e-2, 1.0, 1e6]))
def test_the_base_and_what_was_learned_is_the_tuned_model_to_the_bit(seed: int, scale: float) -> None:
    base, tuned = drawn(seed % 1000), drawn(seed % 1000 + 1, scale)
    vector = task_vector(base, tuned)
    assert vector.keys() == floats(base).keys()
    assert equal(moved(base, [vector], [1.0]), tuned)
    assert equal(moved(base, [vector], [0.0]), base)
    assert equal(moved(base, [vector, vector], [0.25, 0.75]), tuned)


@settings(deadline=None, max_examples=50)
@given(SEEDS)
def test_what_was_added_is_taken_away_again(seed: int) -> None:
    base, tuned = members(2, seed)
    vector = task_vector(base, tuned)
    back = moved(moved(base, [vector], [1.0]), [vector], [-1.0])
    for name, value in base.items():
        torch.testing.assert_close(back[name], value, rtol=0, atol=1e-6)


def test_vectors_of_several_tasks_add_up() -> None:
    base, one, other = (drawn(k, dtype=torch.float64) for k in range(3))
    found = moved(base, [task_vector(base, one), task_vector(base, other)], [0.3, -1.5])
    for name, value in floats(base).items():
        expected = value + 0.3 * (one[name] - value) - 1.5 * (other[name] - value)
        torch.testing.assert_close(found[name], expected)
    assert torch.equal(found["seen"], base["seen"])


def test_vectors_of_another_base_or_without_their_factors_are_refused() -> None:
    base, tuned = members(2)
    vector = task_vector(base, tuned)
    assert "2 factors were given for 1 task vectors" in said(lambda: moved(base, [vector], [1.0, 1.0]))
    odd = {**vector, "scale": torch.zeros(4)}
    assert "another architecture" in said(lambda: moved(base, [odd], [1.0]))
    assert "the tuned model has another architecture than the base" in said(lambda: task_vector(base, odd))


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.floats(-1, 2))
def test_an_interpolation_ends_in_its_ends(seed: int, share: float) -> None:
    one, other = members(2, seed, dtype=torch.float64)
    assert equal(interpolated(one, other, 0.0), one)
    assert equal(interpolated(one, other, 1.0), other)
    for name, value in floats(interpolated(one, other, share)).items():
        torch.testing.assert_close(value, (1 - share) * one[name] + share * other[name])


# -------------------------------------------------------------------------------------------------------------- Reptile


class Line(nn.Module):
    """A straight line through points."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.3, -0.7], dtype=torch.float64))
        self.level = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.slope + self.level


def squared(model: Any, batch: Any) -> Tensor:
    return ((model(batch[0]) - batch[1]) ** 2).mean()


def test_reptile_is_averaging_over_tasks_as_the_engine_has_it() -> None:
    """The engine's gradient is theta less the mean of what the tasks make of it by plain gradient descent."""
    generator = torch.Generator().manual_seed(0)

    def points() -> tuple[Tensor, Tensor]:
        x = torch.randn(5, 2, generator=generator, dtype=torch.float64)
        return x, torch.randn(5, generator=generator, dtype=torch.float64)

    tasks, lr, n_steps, rate = [(points(), points()) for _ in range(3)], 0.1, 4, 0.3
    module = Line()
    theta = {name: value.detach().clone() for name, value in module.named_parameters()}
    adapted = []
    for support, _ in tasks:
        learner = Line()
        optimizer = torch.optim.SGD(learner.parameters(), lr)
        for _ in range(n_steps):
            optimizer.zero_grad()
            squared(learner, support).backward()
            optimizer.step()
        adapted.append({name: value.detach() for name, value in learner.named_parameters()})
    outer_step = reptile(theta, adapted, rate)
    engine = Engine(Problem.of(module, squared), UpdateRule(n_steps, lr), Reptile(), "loop")
    found = engine.gradient(theta, tasks).values
    for name, value in theta.items():
        torch.testing.assert_close(value - rate * found[name], outer_step[name], rtol=1e-12, atol=1e-12)
    assert equal(reptile(theta, adapted, 1.0), soup(adapted))
    assert equal(reptile(theta, adapted, 0.0), theta)


def test_low_rank_changes_are_averaged_as_products_and_not_by_their_factors() -> None:
    """Members of one base whose changes are B A: the mean of the weights is the mean of the products."""
    generator = torch.Generator().manual_seed(1)
    base = {"w": torch.randn(6, 5, generator=generator, dtype=torch.float64)}
    factors = [
        (torch.randn(6, 2, generator=generator, dtype=torch.float64), torch.randn(2, 5, generator=generator).double())
        for _ in range(3)
    ]
    whole = [{"w": base["w"] + b @ a} for b, a in factors]
    of_products = base["w"] + torch.stack([b @ a for b, a in factors]).mean(0)
    of_factors = base["w"] + torch.stack([b for b, _ in factors]).mean(0) @ torch.stack([a for _, a in factors]).mean(0)
    torch.testing.assert_close(soup(whole)["w"], of_products)
    assert not torch.allclose(of_products, of_factors)


def test_factors_may_be_given_one_by_one() -> None:
    one, other = members(2, dtype=torch.float64)
    for name, value in floats(combine([one, other], [2.0, -3.0])).items():
        torch.testing.assert_close(value, 2 * one[name] - 3 * other[name])
