"""Factors of low rank: how many, how large, and what they come to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_cases import close, double, equal, net_of, utterances
from torch.func import functional_call

from metavox.learners.low_rank import factors, merged, owner
from metavox.learners.sequence import FineTuned, Tuning, spelled


@settings(max_examples=40, deadline=None)
@given(shape=st.lists(st.integers(1, 6), min_size=1, max_size=3), rank=st.integers(1, 7), seed=st.integers(0, 9))
def test_factors_are_as_small_as_their_rank_and_begin_without_effect(shape: list[int], rank: int, seed: int) -> None:
    value = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = factors({"x.weight": value}, rank)
    if len(shape) < 2:
        assert found == {}
        return
    rows, columns = shape[0], value.numel() // shape[0]
    size = min(rank, rows, columns)
    a, b = found["x.weight.lora_a"], found["x.weight.lora_b"]
    assert (a.shape, b.shape) == ((size, columns), (rows, size))
    assert a.dtype == b.dtype == torch.float64
    assert torch.equal(merged({"x.weight": value}, found)["x.weight"], value)
    moved = {**found, "x.weight.lora_b": torch.ones_like(b)}
    change = merged({"x.weight": value}, moved)["x.weight"] - value
    torch.testing.assert_close(change.reshape(rows, columns), a.sum(0).expand(rows, columns))
    assert {owner(name) for name in found} == {"x.weight"}


def test_a_factor_is_drawn_from_the_name_of_its_value_alone() -> None:
    values = {name: torch.zeros(6, 8) for name in ("one", "two")}
    both, alone = factors(values, 2), factors({"two": torch.ones(6, 8)}, 2)
    assert torch.equal(both["two.lora_a"], alone["two.lora_a"])
    assert not torch.equal(both["one.lora_a"], both["two.lora_a"])
    lengths = factors({"x": torch.zeros(300, 900)}, 200)["x.lora_a"].norm(dim=1)
    assert float(lengths.mean()) == pytest.approx(1.0, abs=0.02)


def test_a_state_with_factors_spells_as_a_network_with_the_sum() -> None:
    net, batch = net_of().double(), double(utterances(3))
    state = FineTuned(net, Tuning(steps=3, lr=0.05, rank=2)).adapt(double(utterances()))
    named = dict(net.named_parameters())
    assert set(state) == {f"{n}.lora_{ab}" for n, v in named.items() if v.ndim > 1 for ab in "ab"}
    whole = {}
    for name, value in named.items():
        if value.ndim > 1:
            product = torch.einsum("or,ri->oi", state[f"{name}.lora_b"], state[f"{name}.lora_a"])
            whole[name] = value.detach() + product.reshape(value.shape)
    with torch.no_grad():
        expected = functional_call(net, whole, (batch.inputs, batch.lengths))
        torch.testing.assert_close(spelled(net, state, batch.inputs, batch.lengths).scores, expected)
    close(merged(dict(net.named_parameters()), state), whole)


def test_values_and_factors_may_stand_side_by_side() -> None:
    value = torch.ones(2, 3)
    state = {"x": 2 * value, "x.lora_a": torch.ones(1, 3), "x.lora_b": torch.ones(2, 1), "y": value}
    found = merged({"x": value}, state)
    assert equal(found, {"x": 3 * value, "y": value})
