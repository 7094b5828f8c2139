"""What an adaptation changed in 8-bit integers: how near it comes back, and what is not taken for one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metavox.checkpoint import read_tensors, write_tensors
from metavox.contracts import InputError, State
from metavox.transcription.packing import SCALE, packed, unpacked

PATH = Path("part.safetensors")


def base() -> State:
    generator = torch.Generator().manual_seed(0)
    shapes = {"stem.weight": (4, 3, 5), "norm.weight": (6,), "head.weight": (5, 3), "head.bias": (5,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def changed(by: float = 0.1, n_symbols: int = 5, seed: int = 1) -> State:
    """Every row changed by another size, the head with so many rows."""
    generator, values = torch.Generator().manual_seed(seed), {}
    for name, own in base().items():
        value = grown(own, n_symbols) if name.startswith("head.") else own
        sizes = by * 10.0 ** torch.randint(-3, 2, (len(value),), generator=generator)
        noise = torch.randn(value.shape, generator=generator)
        values[name] = value + sizes.reshape(-1, *(1,) * (value.ndim - 1)) * noise
    return values


def grown(value: Tensor, n_rows: int) -> Tensor:
    return torch.cat([value, torch.zeros(max(0, n_rows - len(value)), *value.shape[1:])])[:n_rows]


def refusal(part: State, n_symbols: int = 5) -> str:
    with pytest.raises(InputError) as caught:
        unpacked(part, base(), n_symbols, PATH)
    said = str(caught.value)
    assert said.startswith("part.safetensors does not fit its base: ")
    assert said.endswith("; restore both from the same adaptation, or adapt again.")
    return said


# ---------------------------------------------------------------------------------------------------- there and back


@settings(max_examples=60, deadline=None)
@given(by=st.sampled_from([1e-6, 1e-3, 0.1, 3.0, 1e4]), n_symbols=st.integers(2, 12), seed=st.integers(0, 999))
def test_what_comes_back_is_as_near_as_a_254th_of_the_largest_change_of_its_row(
    by: float, n_symbols: int, seed: int
) -> None:
    values = changed(by, n_symbols, seed)
    found = unpacked(packed(values, base()), base(), n_symbols, PATH)
    assert found.keys() == values.keys()
    for name, value in values.items():
        before = grown(base()[name], len(value))
        for row, other, old in zip(value, found[name], before, strict=True):
            largest = float((row - old).abs().max())
            rounding = 1e-6 * max(float(row.abs().max()), float(old.abs().max()))
            assert float((other - row).abs().max()) <= largest / 254 + rounding, name
            at = (row - old).abs().reshape(-1).argmax()
            torch.testing.assert_close(other.reshape(-1)[at], row.reshape(-1)[at], rtol=1e-5, atol=rounding)


def test_a_part_is_a_quarter_of_its_values_and_a_scale_a_row() -> None:
    part = packed(changed(), base())
    assert set(part) == {name + suffix for name in base() for suffix in ("", SCALE)}
    for name, value in base().items():
        assert part[name].dtype == torch.int8
        assert part[name].shape == value.shape
        assert part[name + SCALE].dtype == torch.float32
        assert part[name + SCALE].shape == value.shape[:1]
        assert int(part[name].abs().max()) == 127  # the whole range is used, and -128 is not


def test_values_that_did_not_change_are_absent_and_come_back_by_not_being_there() -> None:
    values = {**base(), "norm.weight": base()["norm.weight"] + 1}
    part = packed(values, base())
    assert set(part) == {"norm.weight", "norm.weight" + SCALE}
    assert set(unpacked(part, base(), 5, PATH)) == {"norm.weight"}
    assert packed(base(), base()) == {}
    assert unpacked({}, base(), 5, PATH) == {}


def test_a_row_that_did_not_change_comes_back_to_the_bit() -> None:
    values = base()
    values["stem.weight"][1] += 0.3
    found = unpacked(packed(values, base()), base(), 5, PATH)["stem.weight"]
    for row in (0, 2, 3):
        assert torch.equal(found[row], base()["stem.weight"][row])


def test_neither_values_nor_base_are_changed() -> None:
    values, old = changed(), base()
    part = packed(values, old)
    unpacked(part, old, 5, PATH)
    assert all(torch.equal(values[name], other) for name, other in changed().items())
    assert all(torch.equal(old[name], other) for name, other in base().items())


@pytest.mark.parametrize("n_symbols", [3, 5, 8])
def test_a_head_of_another_size_is_there_even_where_it_did_not_change(n_symbols: int) -> None:
    """Rows that were taken away or are all zero are no change in any number, but the head has another size."""
    values = {name: grown(value, n_symbols) if name.startswith("head.") else value for name, value in base().items()}
    part = packed(values, base())
    assert {"head.weight", "head.bias"} <= set(part) if n_symbols != 5 else not part
    found = {**base(), **unpacked(part, base(), n_symbols, PATH)}
    assert all(torch.equal(found[name], value) for name, value in values.items())


def test_half_precision_is_packed_in_single() -> None:
    values = {name: value.half() for name, value in changed().items()}
    found = unpacked(packed(values, base()), {name: value.half() for name, value in base().items()}, 5, PATH)
    assert {value.dtype for value in found.values()} == {torch.float32}


def test_a_part_survives_its_file(tmp_path: Path) -> None:
    part = packed(changed(), base())
    write_tensors(tmp_path / "part.safetensors", part)
    read = read_tensors(tmp_path / "part.safetensors")
    one, other = (unpacked(each, base(), 5, PATH) for each in (part, read))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_not_packed(bad: float) -> None:
    values = changed()
    values["norm.weight"][2] = bad
    with pytest.raises(InputError, match=r"norm\.weight holds values that are not finite; adapt again with a lower"):
        packed(values, base())


# --------------------------------------------------------------------------------------------------------- hostile


def part_with(**changes: Any) -> State:
    """A good part with some tensors exchanged, or taken away where they are None."""
    part = packed(changed(), base()) | {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in part.items() if value is not None}


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (part_with(norm__weight=torch.zeros(7, dtype=torch.int8)), "norm.weight is (7,) and should be (6,)"),
        (part_with(stem__weight=torch.zeros(4, 3, dtype=torch.int8)), "stem.weight is (4, 3) and should be (4, 3, 5)"),
        (part_with(strange=torch.zeros(3, dtype=torch.int8)), "strange is (3,) and should be absent"),
        (part_with(scalar=torch.zeros((), dtype=torch.int8)), "scalar is () and should be absent"),
        (part_with(norm__weight=torch.zeros(6)), "norm.weight is torch.float32 and should be torch.int8"),
        (part_with(norm__weight=torch.zeros(6, dtype=torch.uint8)), "norm.weight is torch.uint8 and should be"),
        (part_with(norm__weight__scale=None), "norm.weight has no scale for each of its 6 rows"),
        (part_with(norm__weight__scale=torch.ones(5)), "norm.weight has no scale for each of its 6 rows"),
        (part_with(norm__weight__scale=torch.ones(6, 1)), "norm.weight has no scale for each of its 6 rows"),
        (part_with(norm__weight__scale=torch.ones(())), "norm.weight has no scale for each of its 6 rows"),
        (part_with(norm__weight__scale=torch.ones(6).double()), "norm.weight has no scale for each of its 6 rows"),
        (part_with(norm__weight__scale=torch.ones(6).long()), "norm.weight has no scale for each of its 6 rows"),
        (part_with(norm__weight__scale=torch.full((6,), torch.nan)), "norm.weight has a scale that is not finite"),
        (part_with(norm__weight__scale=torch.full((6,), torch.inf)), "norm.weight has a scale that is not finite"),
        (part_with(norm__weight=None), "norm.weight.scale belongs to no value"),
    ],
)
def test_a_part_that_is_none_is_refused_in_a_sentence(part: State, said: str) -> None:
    assert said in refusal(part)


def test_a_head_of_other_symbols_than_the_alphabet_says_is_refused() -> None:
    assert "head.weight is (5, 3) and should be (8, 3)" in refusal(packed(changed(), base()), 8)
    assert "head.weight is (8, 3) and should be (5, 3)" in refusal(packed(changed(n_symbols=8), base()), 5)
    assert "head.weight is absent and should be (8, 3)" in refusal({}, 8)
    no_bias = {name: v for name, v in packed(changed(n_symbols=8), base()).items() if not name.startswith("head.b")}
    assert "head.bias is absent and should be (8,)" in refusal(no_bias, 8)
