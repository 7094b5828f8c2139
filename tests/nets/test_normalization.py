"""Normalisation over valid frames, against torch item by item without padding."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from metavox.nets.normalization import MaskedGroupNorm, n_groups, normalized

LENGTHS = [1, 2, 5, 13, 32]


def noise(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Windows (5, 32, 16) whose padding is garbage, and their mask."""
    inputs = 3 * torch.randn(5, 32, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 1
    mask = (torch.arange(32) < torch.tensor(LENGTHS)[:, None]).double()
    return torch.where(mask[:, :, None] > 0, inputs, 50 * inputs), mask


@pytest.mark.parametrize("n_groups", [1, 2, 4])
def test_masked_group_norm_is_that_of_torch_item_by_item(n_groups: int) -> None:
    norm = MaskedGroupNorm(n_groups, 8).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(8, dtype=torch.float64, generator=generator))
    x = 4 * torch.randn(4, 8, 7, dtype=torch.float64, generator=generator) + 3  # garbage in the padding
    lengths = [7, 1, 4, 6]
    mask = (torch.arange(7) < torch.tensor(lengths)[:, None]).double()
    got = norm(x, mask)
    for i, n in enumerate(lengths):
        expected = functional.group_norm(x[i : i + 1, :, :n], n_groups, norm.weight, norm.bias)[0]
        torch.testing.assert_close(got[i, :, :n], expected, rtol=0, atol=1e-10)
        assert not bool(got[i, :, n:].any())
    torch.testing.assert_close(norm(x, torch.ones(4, 7)), norm(x, None), rtol=0, atol=1e-10)


def test_groups_divide_the_channels() -> None:
    assert all(channels % n_groups(channels) == 0 for channels in range(1, 100))
    assert n_groups(96) == 8


@pytest.mark.parametrize("how", ["bins", "mean", "level"])
def test_windows_are_normalised_over_their_valid_frames(how: str) -> None:
    inputs, mask = noise()
    got = normalized(inputs, mask, how)
    for i, n in enumerate(LENGTHS):
        item = inputs[i, :n]
        centred = item - (item.mean() if how == "level" else item.mean(0))
        variance = centred.square().mean(0) if how == "bins" else centred.square().mean()
        torch.testing.assert_close(got[i, :n], centred / (variance + 1e-2).sqrt(), rtol=0, atol=1e-10)
        assert not bool(got[i, n:].any())
