"""Augmentation: what may change, what must not, and that the generator decides everything."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from metavox.augment.spectral import (
    add_noise,
    bin_centres_hz,
    change_features,
    equalise,
    jitter_bounds,
    limit_band,
    mask_blocks,
    smear,
    warp_frequency,
    warp_time,
)
from metavox.augment.wave import speed
from metavox.config import AugmentConfig
from metavox.contracts import FrontEnd, InputError
from metavox.features import DB
from metavox.features import log_mel as log_mel_of

FRONT_END = FrontEnd(n_mels=24)
WHOLE = torch.full((6,), 50)
SOME = torch.tensor([50, 40, 30, 20, 10, 5])


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
    masked = mask_blocks(log_mel, WHOLE, generator(4), n_masks=1, widest=0.2)
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
    assert torch.equal(mask_blocks(log_mel, WHOLE, generator(), n_masks=0), log_mel)


def test_masks_stay_within_a_short_item(log_mel: Tensor) -> None:
    """The padding is no part of the mean, of the place or of the width."""
    padded = log_mel.clone()
    for item, n in enumerate(SOME.tolist()):
        padded[item, n:] = 1e6
    masked = mask_blocks(padded, SOME, generator(4), n_masks=2, widest=0.3)
    for item, n in enumerate(SOME.tolist()):
        alone = masked[item, :n][masked[item, :n] != padded[item, :n]]
        assert torch.allclose(alone, padded[item, :n].mean(), atol=1e-4)
        assert torch.equal(masked[item, n:], padded[item, n:])


# ------------------------------------------------------------------------------------------------------ the new four


def test_a_warp_of_time_keeps_the_ends_and_never_turns_back() -> None:
    """On a ramp the values are the frames that are read: the map itself, with its slope within the strength."""
    lengths = torch.randint(2, 200, (500,), generator=generator(1))
    ramp = torch.arange(200.0)[None, :, None].expand(500, 200, 3).contiguous()
    warped = warp_time(ramp, lengths, generator(2), strongest=0.5)
    for item, n in enumerate(lengths.tolist()):
        at = warped[item, :n, 0].double()
        assert at[0] == 0
        assert float(at[-1]) == pytest.approx(n - 1, abs=1e-3)
        slope = at.diff()
        assert (slope > 0.5 - 1e-3).all()
        assert (slope < 1.5 + 1e-3).all()
        assert torch.equal(warped[item, n:], ramp[item, n:])
    assert float((warped - ramp).abs().max()) > 5
    torch.testing.assert_close(warp_time(ramp, lengths, generator(2), strongest=0.0), ramp)


def test_a_smear_is_the_convolution_with_a_decaying_tail() -> None:
    """One loud frame: what follows falls on a line in log power, and sums to the energy between 0 and -12 dB of it."""
    impulse = torch.full((400, 120, 2), -70.0)
    impulse[:, 10] = 12.0
    rung = smear(impulse, torch.full((400,), 120), 0.01, generator(3), longest_s=0.4)
    assert float(rung[:, :10].max()) < -69  # the floor rings, too; nothing comes before its cause
    torch.testing.assert_close(rung[:, 10], impulse[:, 10])
    tail = rung[:, 11:, 0].double()
    loud = tail > -50
    slope = tail[:, 1] - tail[:, 0]
    for item in range(400):
        n = int(loud[item].sum())
        if n > 3:
            torch.testing.assert_close(tail[item, 1:n].diff(), slope[item].expand(n - 2), atol=2e-3, rtol=0)
    decay_s = -60 * DB * 0.01 / slope[loud[:, 2]]
    assert float(decay_s.max()) <= 0.4 * 1.01
    assert float(decay_s.max()) > 0.35
    ratio_db = (tail.exp().sum(1).log() - 12) / DB
    strong = ratio_db[loud[:, 5]]
    assert float(strong.max()) <= 0.05
    assert float(strong.min()) >= -12.05


def test_a_smear_only_adds_and_is_causal(log_mel: Tensor) -> None:
    rung = smear(log_mel, SOME, 0.01, generator(4))
    assert (rung >= log_mel).all()
    later = log_mel.clone()
    later[:, 30:] = 0
    again = smear(torch.cat([later, log_mel.amax((1, 2), keepdim=True).expand(-1, 1, 24)], 1), SOME, 0.01, generator(4))
    torch.testing.assert_close(again[:, :30], rung[:, :30])
    torch.testing.assert_close(smear(log_mel, WHOLE, 0.01, generator(4), longest_s=0.0), log_mel)


def test_a_smear_does_not_mind_the_level(log_mel: Tensor) -> None:
    rung = smear(log_mel, WHOLE, 0.01, generator(5))
    torch.testing.assert_close(smear(log_mel + 500, WHOLE, 0.01, generator(5)), rung + 500, atol=1e-3, rtol=0)


def test_an_equaliser_is_one_smooth_bounded_gain_for_all_frames(log_mel: Tensor) -> None:
    gain = equalise(log_mel, SOME, generator(6), strongest_db=9.0) - log_mel
    for item, n in enumerate(SOME.tolist()):
        torch.testing.assert_close(gain[item, :n], gain[item, :1].expand(n, -1), atol=1e-5, rtol=0)
    assert float(gain.abs().max()) <= 9 * DB + 1e-5
    assert float(gain.abs().max()) > 5 * DB
    assert float(gain[:, 0].diff(dim=1).abs().max()) <= 2 * 9 * DB * 4 / 23 + 1e-5  # two knots apart, at most


def test_a_band_takes_away_outside_and_nothing_inside(log_mel: Tensor) -> None:
    wave = np.random.default_rng(3).standard_normal(16_000).astype(np.float32) * np.float32(0.1)
    flat = torch.from_numpy(log_mel_of(wave, FRONT_END))[None].expand(300, -1, -1).contiguous()
    n = torch.full((300,), flat.shape[1])
    loss = (limit_band(flat, n, FRONT_END, generator(7), share=1.0) - flat)[:, 0] / DB
    hz = bin_centres_hz(FRONT_END)
    speech = (hz > 800) & (hz < 2000)
    assert torch.allclose(loss[:, speech], torch.zeros(()), atol=1e-4)
    assert (loss <= 1e-4).all()
    assert float(loss.min()) >= -60.01
    telephone = (loss[:, 0] < -30) & (loss[:, -1] < -30)
    assert 0.2 < float(telephone.float().mean()) < 0.5
    assert torch.equal(limit_band(flat, n, FRONT_END, generator(7), share=0.0), flat)


def test_the_centres_of_bins_are_where_tones_are_loudest() -> None:
    for at, hz in enumerate(bin_centres_hz(FRONT_END).tolist()):
        wave = (0.3 * np.sin(2 * np.pi * hz * np.arange(8000) / 16_000)).astype(np.float32)
        assert abs(int(log_mel_of(wave, FRONT_END).mean(0).argmax()) - at) <= (at < 4)


def test_a_warp_of_frequency_is_a_resampled_voice_in_the_bins() -> None:
    """Why it stands for a vocal tract: playing a clip faster moves its spectrum up the mel axis, too."""
    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * np.float32(0.1)
    peak = np.fft.irfft(np.fft.rfft(wave) * (np.abs(np.fft.rfftfreq(16_000, 1 / 16_000) - 1000) < 100)).astype(
        np.float32
    )
    before = log_mel_of(peak, FRONT_END).mean(0).argmax()
    assert log_mel_of(speed(peak, 16_000, 1.3), FRONT_END).mean(0).argmax() > before


# --------------------------------------------------------------------------------------------------- all of them

FULL = AugmentConfig(tempo=0.4, smear=0.5, eq_db=9, band_share=0.5, noise_share=1.0)


def test_the_defaults_are_a_warp_and_noise(log_mel: Tensor) -> None:
    g = generator(11)
    expected = add_noise(warp_frequency(log_mel, g, 0.15), SOME, g, share=0.6, snr_db=(3.0, 35.0))
    assert torch.equal(change_features(log_mel, SOME, AugmentConfig(), FRONT_END, generator(11)), expected)


def test_everything_off_draws_nothing(log_mel: Tensor) -> None:
    g = generator(1)
    before = g.get_state()
    off = AugmentConfig(warp=0, noise_share=0)
    assert change_features(log_mel, SOME, off, FRONT_END, g) is log_mel
    assert torch.equal(g.get_state(), before)


@pytest.mark.parametrize("config", [AugmentConfig(), FULL], ids=["defaults", "all"])
def test_padding_is_never_touched_and_more_of_it_changes_nothing(log_mel: Tensor, config: AugmentConfig) -> None:
    valid = (torch.arange(50)[None] < SOME[:, None])[:, :, None]
    padded = log_mel * valid
    found = change_features(padded, SOME, config, FRONT_END, generator(12))
    assert found.isfinite().all()
    assert not found[~valid.expand_as(found)].any()
    assert not torch.equal(found, padded)
    if config.noise_share < 1:
        return
    # The noise itself is drawn frame by frame; all else must not see how long the longest item is.
    quiet = config.model_copy(update={"noise_share": 0.0})
    longer = torch.nn.functional.pad(padded, (0, 0, 0, 17))
    once = change_features(padded, SOME, quiet, FRONT_END, generator(13))
    again = change_features(longer, SOME, quiet, FRONT_END, generator(13))
    torch.testing.assert_close(again[:, :50], once)
    assert not again[:, 50:].any()


def test_strengths_out_of_range_are_refused(log_mel: Tensor) -> None:
    g = generator()
    for call, said in (
        (lambda: warp_frequency(log_mel, g, 1.0), "A warp of the mel axis is 1.0; give 0 to below 1"),
        (lambda: warp_time(log_mel, WHOLE, g, 0.95), r"give 0 to 0\.9"),
        (lambda: warp_time(log_mel, WHOLE, g, float("nan")), "A warp of time is nan"),
        (lambda: smear(log_mel, WHOLE, 0.01, g, -1.0), "A decay in seconds is -1.0; give 0 to 10"),
        (lambda: add_noise(log_mel, WHOLE, g, share=1.5), "give 0 to 1"),
        (lambda: add_noise(log_mel, WHOLE, g, snr_db=(30.0, 3.0)), "give the lower end first"),
        (lambda: equalise(log_mel, WHOLE, g, 61.0), "give 0 to 60"),
        (lambda: limit_band(log_mel, WHOLE, FRONT_END, g, -0.1), "give 0 to 1"),
        (lambda: mask_blocks(log_mel, WHOLE, g, widest=1.1), "give 0 to 1"),
    ):
        with pytest.raises(InputError, match=said):
            call()


@pytest.mark.parametrize(
    "change",
    [
        warp_frequency,
        lambda x, g: add_noise(x, torch.full((len(x),), x.shape[1]), g),
        lambda x, g: mask_blocks(x, WHOLE, g),
        lambda x, g: warp_time(x, SOME, g),
        lambda x, g: smear(x, SOME, 0.01, g),
        lambda x, g: equalise(x, SOME, g),
        lambda x, g: limit_band(x, SOME, FRONT_END, g, 1.0),
        lambda x, g: change_features(x, SOME, FULL, FRONT_END, g),
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
