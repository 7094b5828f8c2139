"""The sparse body: nine of ten connections are absent, what is stored computes the same as the dense matrix."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from metavox.checkpoint import build, read_tensors, write_tensors
from metavox.config import EncoderConfig, ModelConfig
from metavox.contracts import InputError
from metavox.nets.cost import absent_share
from metavox.nets.sparse import SparseLinear, fan_ins


def layer_of(n_in: int, n_out: int, fan_in: int, seed: int = 0) -> SparseLinear:
    """A seeded layer; the generator of torch is as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SparseLinear(n_in, n_out, fan_in, bias=True)


@pytest.mark.parametrize(("n_in", "n_out", "fan_in"), [(7, 5, 1), (64, 64, 6), (100, 30, 9), (12, 40, 12)])
def test_every_unit_has_its_inputs_once_and_every_input_is_used(n_in: int, n_out: int, fan_in: int) -> None:
    layer = layer_of(n_in, n_out, fan_in)
    inputs: Any = layer.inputs
    assert inputs.shape == layer.values.shape == (n_out, fan_in)
    assert all(len(set(row)) == fan_in for row in inputs.tolist())
    if n_out * fan_in >= 2 * n_in:
        assert set(inputs.flatten().tolist()) == set(range(n_in))
    assert int(layer.dense().count_nonzero()) == n_out * fan_in


@pytest.mark.parametrize("n_frames", [1, 127, 128, 300])
def test_gathering_is_the_product_with_the_dense_matrix(n_frames: int) -> None:
    layer = layer_of(50, 30, 4).double()
    with torch.no_grad():
        layer.bias.add_(torch.arange(30))  # type: ignore[union-attr]
    x = torch.randn(2, n_frames, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2, n_frames, 30, dtype=torch.float64)
    inputs: Any = layer.inputs
    for unit in range(30):
        for value, at in zip(layer.values[unit].tolist(), inputs[unit].tolist(), strict=True):
            expected[:, :, unit] += value * x[:, :, at]
        expected[:, :, unit] += unit
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


def test_its_values_are_as_wide_as_those_of_a_dense_layer_with_as_many_inputs() -> None:
    layer = layer_of(900, 400, 25)
    values = layer.values.detach()
    assert float(values.abs().max()) <= 1 / 5
    assert float(values.std()) == pytest.approx(1 / 5 / math.sqrt(3), rel=0.03)


sizes = st.lists(st.integers(1, 600), min_size=2, max_size=6)


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, density=st.floats(1e-4, 0.1))
def test_the_layers_share_the_density_as_erdos_renyi_says(sizes: list[int], density: float) -> None:
    fans = fan_ins(sizes, density)
    pairs = list(pairwise(sizes))
    assert all(0 <= fan <= n_in for fan, (n_in, _) in zip(fans, pairs, strict=True))
    budget = density * sum(n_in * n_out for n_in, n_out in pairs)
    stored = sum(fan * n_out for fan, (_, n_out) in zip(fans, pairs, strict=True))
    assert stored <= budget * (1 + 1e-12)
    assert stored > budget - sum(n_out for _, n_out in pairs)  # what rounding down may leave
    # Layers that are not dense keep connections in proportion to n_in + n_out.
    free = [(fan * n_out, n_out, n_in + n_out) for fan, (n_in, n_out) in zip(fans, pairs, strict=True) if fan < n_in]
    for one, _, units in free:
        for other, other_out, other_units in free:
            assert one / units <= (other + other_out) / other_units + 1e-9


@pytest.mark.parametrize("density", [0.1, 0.05, 0.01])
def test_at_least_nine_of_ten_connections_are_absent_and_not_stored(density: float, tmp_path: Path) -> None:
    config = ModelConfig(encoder=EncoderConfig(name="sparse", channels=300, density=density))
    encoder: Any = build(config).encoder
    possible = 440 * 300 + 3 * 300 * 300 + 300 * 32
    assert 0.9 <= 1 - density <= absent_share(encoder) < 1 - density + 0.01
    write_tensors(tmp_path / "weights.safetensors", encoder.state_dict())
    stored = read_tensors(tmp_path / "weights.safetensors")
    values = sum(value.numel() for name, value in stored.items() if name.endswith("values"))
    assert values == pytest.approx((1 - absent_share(encoder)) * possible)
    assert not any(bool((value == 0).any()) for name, value in stored.items() if name.endswith("values"))
    assert (tmp_path / "weights.safetensors").stat().st_size < possible


def test_connections_come_from_the_seed_of_the_model() -> None:
    config = ModelConfig(encoder=EncoderConfig(name="sparse"))
    first, again, other = (build(config, seed=seed).encoder.body.hidden[1].inputs for seed in (1, 1, 2))  # type: ignore[union-attr,index]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("density", [0, -0.1, 0.11, 1])
def test_a_density_outside_its_limits_is_refused(density: float) -> None:
    with pytest.raises(ValidationError, match="density"):
        EncoderConfig(name="sparse", density=density)


def test_units_without_inputs_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"^encoder\.density is 0\.01 with encoder\.channels 16, which .*\.$"):
        build(ModelConfig(encoder=EncoderConfig(name="sparse", channels=16, density=0.01)))
