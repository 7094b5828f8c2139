"""Augmentation: what may change, what must not, and that the generator decides everything."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from metavox.augment import add_noise, jitter_bounds, mask_blocks, warp_frequency


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def log_mel() -> Tensor:
    return torch.randn(6, 50, 24, generator=generator(9)) * 2 + 10


def test_crops_stay_in_the_clip_and_keep_eight_frames() -> None:
    rng = np.random.default_rng(0)
    n_frames = rng.integers(1, 60, 4000)
    ends = np.sort(rng.integers(0, n_frames[:, None] + 1, (4000, 2)), 1)
    bounds = np.stack([np.minimum(ends[:, 0], n_frames - 1), np.maximum(ends[:, 1], ends[:, 0] + 1)], 1)
    bounds = np.minimum(bounds, n_frames[:, None])
    moved = jitter_bounds(bounds, n_frames, rng)
    assert (moved[:, 0] >= 0).all()
    assert (moved[:, 1] <= n_frames).all()
    assert (moved[:, 1] - moved[:, 0] >= np.minimum(8, n_frames)).all()
    assert moved.shape == bounds.shape


def test_a_crop_moves_at_most_as_far_as_it_may_and_more_often_outwards() -> None:
    bounds = np.tile([[40, 100]], (2000, 1))
    moved = jitter_bounds(bounds, np.full(2000, 200), np.random.default_rng(1), widest=6)
    outwards = np.stack([bounds[:, 0] - moved[:, 0], moved[:, 1] - bounds[:, 1]], 1)
    assert (outwards.min(), outwards.max()) == (-3, 6)
    assert outwards.mean() > 1
    still = jitter_bounds(bounds, np.full(2000, 200), np.random.default_rng(1), widest=0)
    np.testing.assert_array_equal(still, bounds)


def test_a_warp_of_nothing_changes_nothing(log_mel: Tensor) -> None:
    torch.testing.assert_close(warp_frequency(log_mel, generator(), strongest=0.0), log_mel)


def test_a_warp_reads_the_spectrum_elsewhere_on_a_line() -> None:
    """Closed form: a spectrum that is linear in the bin number stays linear, with the slope as its factor."""
    line = torch.arange(24.0).expand(5, 7, 24).contiguous()
    warped = warp_frequency(line, generator(3), strongest=0.15)
    slopes = warped[:, :, 1] - warped[:, :, 0]
    factors = slopes[:, :1, None]
    expected = (torch.arange(24.0) * factors).clamp(max=23.0).expand_as(warped)
    torch.testing.assert_close(warped, expected)
    assert ((factors >= 0.85) & (factors <= 1.15)).all()
    assert len(factors.unique()) == 5  # each item has its own


def test_noise_only_adds_and_leaves_padding_alone(log_mel: Tensor) -> None:
    lengths = torch.tensor([50, 40, 30, 20, 10, 5])
    noisy = add_noise(log_mel, lengths, generator(), share=1.0)
    valid = torch.arange(50)[None] < lengths[:, None]
    assert (noisy[valid] >= log_mel[valid]).all()
    assert (noisy[valid] > log_mel[valid]).any()
    assert torch.equal(noisy[~valid], log_mel[~valid])


def test_noise_reaches_the_share_of_items_and_the_level_asked_for() -> None:
    silent = torch.full((4000, 4, 24), -10.0)
    silent[:, 0] = 10.0  # one loud frame sets the level
    lengths = torch.full((4000,), 4)
    noisy = add_noise(silent, lengths, generator(1), share=0.6, snr_db=(20.0, 20.0))
    changed = (noisy != silent).flatten(1).any(1)
    assert abs(float(changed.float().mean()) - 0.6) < 0.03
    # The loudest bin of the noise lies 20 dB below the loudest bin of the item; here it is in a quiet frame or not.
    loudest = noisy[:, 1:].amax((1, 2))
    assert float(loudest.max()) == pytest.approx(10 - 2 * math.log(10), abs=1e-3)
    assert torch.equal(add_noise(silent, lengths, generator(1), share=0.0), silent)


def test_one_item_can_be_given_noise(log_mel: Tensor) -> None:
    assert add_noise(log_mel[:1], torch.tensor([50]), generator(), share=1.0).isfinite().all()


def test_masks_are_blocks_of_the_mean_of_bounded_size(log_mel: Tensor) -> None:
    masked = mask_blocks(log_mel, generator(4), n_masks=1, widest=0.2)
    mean = log_mel.mean((1, 2))
    changed = masked != log_mel
    for item in range(len(log_mel)):
        assert torch.allclose(masked[item][changed[item]], mean[item])
        times = changed[item].all(1)  # whole frames
        bins = changed[item].all(0)
        assert torch.equal(changed[item], times[:, None] | bins[None, :])
        assert int(times.sum()) <= math.ceil(0.2 * 50)
        assert int(bins.sum()) <= math.ceil(0.2 * 24)
    assert changed.any()
    assert torch.equal(mask_blocks(log_mel, generator(), n_masks=0), log_mel)


@pytest.mark.parametrize(
    "change",
    [
        warp_frequency,
        lambda x, g: add_noise(x, torch.full((len(x),), x.shape[1]), g),
        mask_blocks,
    ],
)
def test_the_generator_decides_and_the_input_stays(log_mel: Tensor, change) -> None:  # type: ignore[no-untyped-def]
    before = log_mel.clone()
    torch.manual_seed(1)
    once = change(log_mel, generator(7))
    torch.manual_seed(2)
    assert torch.equal(change(log_mel, generator(7)), once)
    assert not torch.equal(change(log_mel, generator(8)), once)
    assert torch.equal(log_mel, before)
    assert once.shape == log_mel.shape
