"""Changes of whole utterances: what stays zero, how long they become, and where blanked blocks lie."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metavox.augment.speech import MIN_FRAMES, blank_blocks, change_speech, lasting, played
from metavox.config import AugmentConfig
from metavox.config.transcription import LISTENING, SPEECH_AUGMENT

FRONT_END = LISTENING.model_copy(update={"n_mels": 20})
NOTHING = AugmentConfig(warp=0, noise_share=0, masks=0)
"""Enabled, and every strength 0: what is left is the speed."""
LOUD = AugmentConfig(warp=0.2, tempo=0.2, smear=0.4, noise_share=1.0, snr_db=(0, 5), eq_db=9, band_share=0.5, masks=3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def speech(lengths: list[int], seed: int = 0, more: int = 0, level: float = 0.0) -> tuple[Tensor, Tensor]:
    """Random spectra around ``level``, padded with zeros."""
    n = torch.tensor(lengths)
    values = level + 2 * torch.randn(len(n), int(n.max()) + more, 20, generator=seeded(seed))
    return values * inside(values, n), n


def inside(values: Tensor, lengths: Tensor) -> Tensor:
    return (torch.arange(values.shape[1]) < lengths[:, None])[:, :, None]


lengths_of_batches = st.lists(st.integers(1, 120), min_size=1, max_size=5)

# ------------------------------------------------------------------------------------------------------- the whole


@settings(max_examples=60, deadline=None)
@given(
    lengths=lengths_of_batches,
    more=st.integers(0, 9),
    speed=st.sampled_from([0.0, 0.15, 0.5]),
    config=st.sampled_from([NOTHING, SPEECH_AUGMENT, LOUD]),
    seed=st.integers(0, 99),
)
def test_padding_stays_zero_and_lengths_fit(
    lengths: list[int], more: int, speed: float, config: AugmentConfig, seed: int
) -> None:
    values, n = speech(lengths, seed, more, level=-3.0)
    before = values.clone()
    changed, m = change_speech(values, n, config, speed, FRONT_END, seeded(seed))
    assert torch.equal(values, before)
    assert changed.shape[0] == len(lengths)
    assert bool(changed.isfinite().all())
    assert not bool((changed * ~inside(changed, m)).any())
    assert int(m.max()) <= changed.shape[1]
    for long, short in zip(n.tolist(), m.tolist(), strict=True):
        assert short >= min(long, MIN_FRAMES)
        assert (1 - speed) * long - 1 <= short or short == MIN_FRAMES
        assert short <= max((1 + speed) * long, min(long, MIN_FRAMES))
    if not speed:
        assert torch.equal(m, n)
        assert changed.shape == values.shape


def test_what_is_off_changes_nothing_and_draws_nothing() -> None:
    values, n = speech([30, 12])
    generator = seeded()
    off = SPEECH_AUGMENT.model_copy(update={"enabled": False})
    changed, m = change_speech(values, n, off, 0.3, FRONT_END, generator)
    assert torch.equal(changed, values)
    assert torch.equal(m, n)
    changed, m = change_speech(values, n, NOTHING, 0.0, FRONT_END, generator)
    assert torch.equal(changed, values)
    assert torch.equal(m, n)
    assert torch.equal(generator.get_state(), seeded().get_state())


def test_the_same_generator_gives_the_same_utterances_and_another_others() -> None:
    values, n = speech([80, 40])
    torch.manual_seed(1)
    first, m = change_speech(values, n, SPEECH_AUGMENT, 0.15, FRONT_END, seeded(4))
    torch.manual_seed(2)  # nobody listens to the global generator
    again, k = change_speech(values, n, SPEECH_AUGMENT, 0.15, FRONT_END, seeded(4))
    assert torch.equal(first, again)
    assert torch.equal(m, k)
    other, k = change_speech(values, n, SPEECH_AUGMENT, 0.15, FRONT_END, seeded(5))
    assert not torch.equal(m, k) or not torch.equal(first, other)
    generator = seeded(4)
    change_speech(values, n, SPEECH_AUGMENT, 0.15, FRONT_END, generator)
    second, k = change_speech(values, n, SPEECH_AUGMENT, 0.15, FRONT_END, generator)
    assert not torch.equal(m, k) or not torch.equal(first, second)


@pytest.mark.parametrize(
    "only",
    [{"warp": 0.2}, {"tempo": 0.3}, {"smear": 0.5}, {"noise_share": 1.0}, {"eq_db": 9.0}, {"band_share": 1.0},
     {"masks": 2}],
)  # fmt: skip
def test_every_kind_of_change_is_made(only: dict[str, Any]) -> None:
    values, n = speech([60, 60])
    changed, _ = change_speech(values, n, NOTHING.model_copy(update=only), 0.0, FRONT_END, seeded(2))
    assert bool((changed != values).any())


# ------------------------------------------------------------------------------------------------------------ speed


def ramp(lengths: list[int], more: int = 0) -> tuple[Tensor, Tensor]:
    """Each frame holds its time, from 100 on, so that what was interpolated tells where it came from."""
    n = torch.tensor(lengths)
    values = 100 + torch.arange(int(n.max()) + more, dtype=torch.float32)[None, :, None].expand(len(n), -1, 20)
    return values * inside(values, n), n


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(8, 150), min_size=1, max_size=4), more=st.integers(0, 30), seed=st.integers(0, 999))
def test_another_speed_spreads_the_same_sounds_over_other_frames(lengths: list[int], more: int, seed: int) -> None:
    values, n = ramp(lengths, more)
    changed, m = change_speech(values, n, NOTHING, 0.3, FRONT_END, seeded(seed))
    stretch = 1 + 0.3 * (2 * float(torch.rand((), generator=seeded(seed))) - 1)
    for i, (long, short) in enumerate(zip(n.tolist(), m.tolist(), strict=True)):
        at = changed[i, :short, 0] - 100
        # The middle of each frame, in the time of the recording; at its ends the first and last frame last.
        expected = ((torch.arange(short) + 0.5) / stretch - 0.5).clamp(0, long - 1)
        torch.testing.assert_close(at, expected, rtol=0, atol=0.02)
        assert bool((changed[i, :short] == changed[i, :short, :1]).all())


@pytest.mark.parametrize("stretch", [0.7, 1.15, 1.3])
def test_neighbours_do_not_change_what_becomes_of_an_utterance(stretch: float) -> None:
    values, n = speech([90, 41, 57], level=-9.0)
    changed, m = played(lasting(values, n), n, stretch)
    for i, length in enumerate(n.tolist()):
        alone, k = played(values[i : i + 1, :length], n[i : i + 1], stretch)
        assert int(k[0]) == int(m[i])
        torch.testing.assert_close(changed[i, : int(k[0])], alone[0, : int(k[0])], rtol=0, atol=1e-4)


def test_the_drawn_speeds_fill_the_range_and_are_one_for_a_batch() -> None:
    values, n = ramp([400, 200])
    drawn = []
    for seed in range(60):
        _, m = change_speech(values, n, NOTHING, 0.2, FRONT_END, seeded(seed))
        assert abs(int(m[0]) - 2 * int(m[1])) <= 1
        drawn.append(int(m[0]) / 400)
    assert 0.8 <= min(drawn) < 0.84
    assert 1.16 < max(drawn) <= 1.2


@pytest.mark.parametrize("length", [1, 3, 7, 8, 9])
def test_a_very_short_utterance_is_not_made_up(length: int) -> None:
    for seed in range(10):
        values, n = ramp([100, length])
        changed, m = change_speech(values, n, NOTHING, 0.5, FRONT_END, seeded(seed))
        assert min(length, MIN_FRAMES) <= int(m[1]) <= max(length, round(1.5 * length))
        sounds = changed[1, : int(m[1]), 0]
        assert 100 <= float(sounds.min()) <= float(sounds.max()) <= 99 + length


# ------------------------------------------------------------------------------------------ padding is never heard


def test_padding_is_not_taken_for_the_loudest_of_a_quiet_recording() -> None:
    """Zeros are loud beside logarithms of a quiet recording; noise is set against what was said."""
    values, n = speech([60, 25], level=-9.0)
    noisy = NOTHING.model_copy(update={"noise_share": 1.0, "snr_db": (20.0, 20.0)})
    for seed in range(8):
        changed, _ = change_speech(values, n, noisy, 0.0, FRONT_END, seeded(seed))
        for i, length in enumerate(n.tolist()):
            loudest = float(values[i, :length].max())
            assert float(changed[i, :length].max()) < loudest + 0.3


def test_the_last_frame_is_not_mixed_with_the_padding_after_it() -> None:
    values, n = speech([90, 41], level=-9.0)
    for seed in range(20):
        changed, m = change_speech(values, n, NOTHING, 0.3, FRONT_END, seeded(seed))
        assert float(changed[1, : int(m[1])].max()) <= float(values[1, :41].max())
        assert float(changed[1, : int(m[1])].min()) >= float(values[1, :41].min())


# ----------------------------------------------------------------------------------------------------- blanked blocks


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(5, 90), min_size=1, max_size=4),
    more=st.integers(0, 6),
    n_masks=st.integers(1, 4),
    widest=st.floats(0.01, 0.9),
    seed=st.integers(0, 999),
)
def test_blanked_blocks_are_rectangles_of_the_mean_and_nothing_else_changes(
    lengths: list[int], more: int, n_masks: int, widest: float, seed: int
) -> None:
    values, n = speech(lengths, seed, more)
    changed = blank_blocks(values, n, seeded(seed), n_masks, widest)
    for i, length in enumerate(n.tolist()):
        assert torch.equal(changed[i, length:], values[i, length:])
        touched = changed[i, :length] != values[i, :length]
        frames, bins = touched.all(1), touched.all(0)
        # A place is blanked exactly where its frame or its bin is.
        assert torch.equal(touched, frames[:, None] | bins[None, :])
        if not bool(bins.all()):
            assert int(frames.sum()) <= widest * length + n_masks
        if not bool(frames.all()):
            assert int(bins.sum()) <= n_masks * (widest * 20 + 1)
        mean = values[i, :length].double().mean(0).float().expand(length, 20)
        torch.testing.assert_close(changed[i, :length][touched], mean[touched], rtol=1e-4, atol=1e-5)


def test_blocks_lie_anywhere_and_are_as_wide_as_said() -> None:
    """Anywhere but on the first frame and bin, before which no block begins."""
    values, n = speech([50, 50, 30, 30])
    hits_of_frames, hits_of_bins, widths = torch.zeros(50), torch.zeros(20), []
    for seed in range(300):
        touched = blank_blocks(values, n, seeded(seed), 1, 0.3)[0] != values[0]
        frames = touched.all(1)
        hits_of_frames += frames
        hits_of_bins += touched.all(0)
        widths.append(int(frames.sum()))
    assert bool((hits_of_frames[1:] > 0).all())
    assert bool((hits_of_bins[1:] > 0).all())
    assert 13 <= max(widths) <= 16  # 0.3 of 50, and one for a block that begins between two frames
    assert 6 < sum(widths) / 300 < 9


def test_items_of_a_batch_are_blanked_apart() -> None:
    values, n = speech([60, 60])
    touched = blank_blocks(values, n, seeded(3), 2, 0.4) != values
    assert not torch.equal(touched[0], touched[1])
    assert torch.equal(blank_blocks(values, n, seeded(3), 0, 0.4), values)
