"""Spectra against a second implementation, the window stage against a plain loop, speech bounds on known signals."""

import json
import math
import time
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metavox import audio, features
from metavox.contracts import FrontEnd, InputError

FRONT_END = FrontEnd()
FRONT_ENDS = [
    FRONT_END,
    FrontEnd(n_mels=80, high_hz=8000),
    FrontEnd(n_mels=24, window_ms=20, hop_ms=12.5),
    FrontEnd(n_mels=23, rate_hz=8000, high_hz=4000),
    FrontEnd(n_mels=64, rate_hz=48_000, high_hz=20_000, low_hz=60),
]
WORD_SETS = ["arabic_digits", "bengali_digits", "fsdd_en_digits", "speech_commands_mini", "spoken_words_zh_en"]


def noise(duration_s: float, level: float = 0.1, seed: int = 0, rate_hz: int = 16_000) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(round(duration_s * rate_hz))).astype(np.float32)


def real_clips(data_root: Path, corpus: str, n: int) -> list[np.ndarray]:
    lines = (data_root / corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:: max(1, len(lines) // n)]]
    return [audio.read(data_root / corpus / row["audio_filepath"]) for row in rows]


def kaldi(wave: np.ndarray, front_end: FrontEnd, n_ceps: int = 0, lifter: float = 22) -> np.ndarray:
    """kaldi-native-fbank with the same options: log mel, or cepstra where ``n_ceps`` is given."""
    options = knf.MfccOptions() if n_ceps else knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = front_end.rate_hz
    options.frame_opts.frame_length_ms = front_end.window_ms
    options.frame_opts.frame_shift_ms = front_end.hop_ms
    options.mel_opts.num_bins = front_end.n_mels
    options.mel_opts.low_freq = front_end.low_hz
    options.mel_opts.high_freq = front_end.high_hz
    if n_ceps:
        options.use_energy, options.num_ceps, options.cepstral_lifter = False, n_ceps, lifter
    computer = (knf.OnlineMfcc if n_ceps else knf.OnlineFbank)(options)
    computer.accept_waveform(front_end.rate_hz, (wave * 32768).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


# ---------------------------------------------------------------------------------------------------------- spectrum


def within_tolerance(wave: np.ndarray, front_end: FrontEnd) -> bool:
    """The tolerance that ``log_mel`` states: 1e-3 down to 70 dB below the loudest bin of the frame."""
    got, want = features.log_mel(wave, front_end), kaldi(wave, front_end)
    stated = want > want.max(axis=1, keepdims=True) - 70 * features.DB
    return got.shape == want.shape and float(np.abs(got - want)[stated].max()) <= 1e-3


@pytest.mark.parametrize("front_end", FRONT_ENDS, ids=FrontEnd.spectral_key)
@pytest.mark.parametrize("level", [1e-4, 0.1])
def test_log_mel_is_that_of_kaldi_on_noise(front_end: FrontEnd, level: float) -> None:
    wave = noise(0.7, level, rate_hz=front_end.rate_hz)
    got = features.log_mel(wave, front_end)
    assert got.dtype == np.float32
    assert got.shape == (features.n_frames(len(wave), front_end), front_end.n_mels)
    assert np.abs(got - kaldi(wave, front_end)).max() <= 1e-3  # noise fills every bin
    assert within_tolerance(wave, front_end)


@pytest.mark.real
@pytest.mark.parametrize("corpus", WORD_SETS)
def test_log_mel_is_that_of_kaldi_on_speech(data_root: Path, corpus: str) -> None:
    for wave in real_clips(data_root, corpus, 8):
        for front_end in FRONT_ENDS[:3]:
            assert within_tolerance(wave, front_end)


def test_mfcc_is_that_of_kaldi() -> None:
    wave = noise(0.5)
    for n_ceps, lifter in ((13, 22), (20, 0), (13, 10)):
        want = kaldi(wave, FRONT_END, n_ceps, lifter)
        log_mel = features.log_mel(wave, FRONT_END)
        assert np.abs(features.mfcc(log_mel, n_ceps, lifter) - want).max() <= 2e-3
        batch = features.mfcc(torch.from_numpy(log_mel)[None], n_ceps, lifter)
        assert np.abs(batch[0].numpy() - want).max() <= 2e-3


def test_digital_silence_is_the_floor_and_an_offset_is_silence() -> None:
    for wave in (np.zeros(1600, np.float32), np.full(1600, 0.5, np.float32)):
        assert np.allclose(features.log_mel(wave, FRONT_END), math.log(2**-23))


def test_twice_the_amplitude_is_6_db() -> None:
    wave = noise(0.2)
    rise = features.log_mel(2 * wave, FRONT_END) - features.log_mel(wave, FRONT_END)
    assert np.allclose(rise / features.DB, 20 * math.log10(2), atol=1e-3)


@given(st.integers(0, 3000))
@settings(max_examples=30, deadline=None)
def test_frames_are_those_whose_window_fits(n_samples: int) -> None:
    count = sum(1 for start in range(0, n_samples, 160) if start + 400 <= n_samples)
    assert features.n_frames(n_samples, FRONT_END) == count
    assert features.log_mel(np.zeros(n_samples, np.float32), FRONT_END).shape == (count, 40)


def test_frames_become_seconds() -> None:
    assert features.frames_to_s(64, FRONT_END) == pytest.approx(0.64)
    assert features.frames_to_s(8, FrontEnd(hop_ms=12.5)) == pytest.approx(0.1)


def test_streamed_frames_are_those_of_the_whole() -> None:
    wave = noise(1)
    whole = features.log_mel(wave, FRONT_END)
    assert np.allclose(features.log_mel(wave[160 * 30 : 160 * 30 + 400], FRONT_END)[0], whole[30], atol=1e-5)


def test_impossible_bins_are_refused() -> None:
    with pytest.raises(InputError, match="8000 Hz"):
        features.log_mel(np.zeros(8000, np.float32), FrontEnd(rate_hz=8000))
    with pytest.raises(InputError, match="mel bins lie between"):
        features.log_mel(np.zeros(8000, np.float32), FrontEnd(n_mels=256))


# ---------------------------------------------------------------------------------------------------------- cepstrum


def test_the_cosine_transform_is_orthonormal() -> None:
    matrix = features.dct_matrix(40, 40, 0).astype(np.float64)
    assert np.allclose(matrix.T @ matrix, np.eye(40), atol=1e-6)
    lifted = features.dct_matrix(40, 13, 22) / features.dct_matrix(40, 13, 0)
    assert np.allclose(lifted, 1 + 11 * np.sin(np.pi * np.arange(13) / 22), rtol=1e-5)
    with pytest.raises(InputError, match="41 cepstra"):
        features.dct_matrix(40, 41)


def test_deltas_of_a_ramp_are_its_slope() -> None:
    ramp = 3.0 * torch.arange(20.0)[None, :, None].expand(1, 20, 4)
    slope = features.deltas(ramp, torch.tensor([20]))
    assert torch.allclose(slope[:, 2:-2], torch.tensor(3.0))
    assert torch.allclose(slope[:, 0], torch.tensor(3 * (1 + 2 * 2) / 10))  # the frames before it repeat it


def test_deltas_never_see_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    x, lengths = torch.randn(6, 30, 5, generator=generator), torch.tensor([1, 2, 3, 10, 29, 30])
    got = features.deltas(x, lengths)
    for item, n in enumerate(lengths.tolist()):
        padded = torch.nn.functional.pad(x[item : item + 1, :n].transpose(1, 2), (2, 2), mode="replicate")
        kernel = torch.tensor([-2.0, -1, 0, 1, 2]).expand(5, 1, 5) / 10
        want = torch.nn.functional.conv1d(padded, kernel, groups=5).transpose(1, 2)
        assert torch.allclose(got[item, :n], want[0], atol=1e-6)
        assert bool((got[item, n:] == 0).all())


# ------------------------------------------------------------------------------------------------------------ bounds


def bounds_s(wave: np.ndarray) -> tuple[float, float]:
    start, end = features.speech_bounds(features.log_mel(wave, FRONT_END), FRONT_END)
    return features.frames_to_s(start, FRONT_END), features.frames_to_s(end, FRONT_END)


def scene(*bursts: tuple[float, float], duration_s: float = 2.0, level: float = 0.2, floor: float = 1e-3) -> np.ndarray:
    """Bursts (start, length) in seconds of loud noise over faint noise."""
    wave = noise(duration_s, floor)
    for start, length in bursts:
        first, n = round(start * 16_000), round(length * 16_000)
        wave[first : first + n] += noise(length, level, seed=1)
    return wave


@pytest.mark.parametrize(
    ("level", "floor"), [(0.2, 0), (0.2, 1e-4), (0.2, 1e-2), (0.05, 0), (0.05, 1e-4), (0.05, 5e-3)]
)
def test_a_word_in_noise_is_found(level: float, floor: float) -> None:
    start, end = bounds_s(scene((0.8, 0.4), level=level, floor=floor))
    assert 0.7 <= start <= 0.78  # 50 ms of margin
    assert 1.21 <= end <= 1.28


def test_bounds_do_not_depend_on_the_level() -> None:
    wave = scene((0.8, 0.4))
    assert bounds_s(wave) == bounds_s(wave * 0.1)


def test_pauses_within_a_command_are_bridged() -> None:
    for pause in (0.1, 0.2, 0.28):
        start, end = bounds_s(scene((0.5, 0.3), (0.8 + pause, 0.06)))  # even where what follows is short
        assert start == pytest.approx(0.44, abs=0.03)
        assert end == pytest.approx(0.8 + pause + 0.06 + 0.05, abs=0.04)


def test_a_second_word_after_a_long_pause_is_kept_and_a_small_noise_is_not() -> None:
    assert bounds_s(scene((0.3, 0.4), (1.3, 0.4)))[1] == pytest.approx(1.75, abs=0.04)
    assert bounds_s(scene((0.3, 0.4), (1.5, 0.07)))[1] == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize("width_s", [0.001, 0.01, 0.025])
def test_isolated_clicks_are_ignored(width_s: float) -> None:
    quiet = scene((0.8, 0.4))
    clicks = quiet.copy()
    for place in (0.2, 1.8):
        first = round(place * 16_000)
        clicks[first : first + round(width_s * 16_000)] += noise(width_s, 0.3, seed=2)
    assert bounds_s(clicks) == pytest.approx(bounds_s(quiet), abs=0.021)


def test_the_burst_of_a_final_stop_is_kept() -> None:
    assert bounds_s(scene((0.5, 0.3), (0.9, 0.02)))[1] >= 0.92


@pytest.mark.parametrize("n", [1, 3, 6, 7, 12, 30, 100])
def test_bounds_are_never_empty(n: int) -> None:
    generator = np.random.default_rng(n)
    silence = np.full((n, 40), math.log(2**-23), np.float32)
    spike = silence.copy()
    spike[n // 2] = 20
    for log_mel in (silence, spike, generator.normal(5, 3, (n, 40)).astype(np.float32)):
        start, end = features.speech_bounds(log_mel, FRONT_END)
        assert 0 <= start < end <= n
        assert end - start >= min(n, 10)
    assert features.speech_bounds(silence, FRONT_END) == (0, n)


@pytest.mark.real
@pytest.mark.parametrize("corpus", WORD_SETS)
def test_real_words_keep_their_energy_and_lose_their_silence(data_root: Path, corpus: str) -> None:
    kept_s, in_peak = [], []
    for wave in real_clips(data_root, corpus, 60):
        log_mel = features.log_mel(audio.trim_padding(wave), FRONT_END)
        if len(log_mel) == 0:
            continue
        start, end = features.speech_bounds(log_mel, FRONT_END)
        power = np.exp(log_mel).sum(axis=1)
        in_peak.append(power[start:end].sum() / power.sum())
        kept_s.append(features.frames_to_s(end - start, FRONT_END))
    assert np.mean(np.array(in_peak) > 0.95) > 0.9
    assert 0.3 <= np.median(kept_s) <= 1.0  # one word or a short command


# ------------------------------------------------------------------------------------------------------------ window


def random_batch(n_items: int = 8, total: int = 60, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    log_mel = 6 * torch.randn(n_items, total, 40, generator=generator) + 8
    starts = torch.randint(0, total - 1, (n_items,), generator=generator)
    ends = starts + 1 + (torch.rand(n_items, generator=generator) * (total - starts)).long()
    return log_mel, starts, ends.clamp_max(total)


def plain_window(log_mel: np.ndarray, start: int, end: int, front_end: FrontEnd) -> np.ndarray:
    """One clip in float64, step by step: the reference."""
    x = log_mel[start:end].astype(np.float64)
    x = np.maximum(x, x.max() - front_end.range_db * math.log(10) / 10)
    if front_end.normalize:
        x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + features.VARIANCE_FLOOR)
    if front_end.n_frames is None:
        return x
    places = np.linspace(0, len(x) - 1, front_end.n_frames)
    return np.stack([np.interp(places, np.arange(len(x)), column) for column in x.T], axis=1)


@pytest.mark.parametrize("n_frames", [None, 8, 64])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("range_db", [20.0, 60.0])
def test_window_is_the_plain_loop(n_frames: int | None, normalize: bool, range_db: float) -> None:
    front_end = FrontEnd(n_frames=n_frames, normalize=normalize, range_db=range_db)
    log_mel, starts, ends = random_batch()
    got, lengths = features.window(log_mel, starts, ends, front_end)
    assert got.dtype == torch.float32
    for item, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        want = plain_window(log_mel[item].numpy(), start, end, front_end)
        n = int(lengths[item])
        assert n == len(want)
        assert np.abs(got[item, :n].numpy() - want).max() < 1e-4
        assert bool((got[item, n:] == 0).all())


@pytest.mark.parametrize("n_frames", [None, 64])
def test_padding_and_company_do_not_matter(n_frames: int | None) -> None:
    front_end = FrontEnd(n_frames=n_frames)
    log_mel, starts, ends = random_batch(n_items=5, total=37, seed=3)
    together, lengths = features.window(log_mel, starts, ends, front_end)
    for filler in (0.0, 1e9, math.nan):
        longer = torch.nn.functional.pad(log_mel, (0, 0, 0, 50), value=filler)
        longer = torch.cat([longer, torch.full_like(longer[:1], 7.0)])
        mates, _ = features.window(
            longer, torch.cat([starts, torch.tensor([0])]), torch.cat([ends, torch.tensor([37])]), front_end
        )
        for item, n in enumerate(lengths.tolist()):
            assert torch.allclose(mates[item, :n], together[item, :n], rtol=0, atol=1e-6)
    for item, n in enumerate(lengths.tolist()):
        alone, _ = features.window(log_mel[item, None], starts[item, None], ends[item, None], front_end)
        assert torch.allclose(alone[0, :n], together[item, :n], rtol=0, atol=1e-6)


def test_what_lies_outside_the_bounds_is_not_seen() -> None:
    log_mel, starts, ends = random_batch()
    outside = log_mel.clone()
    frame = torch.arange(log_mel.shape[1])
    outside[(frame < starts[:, None]) | (frame >= ends[:, None])] = 100.0
    assert torch.equal(
        features.window(outside, starts, ends, FRONT_END)[0], features.window(log_mel, starts, ends, FRONT_END)[0]
    )


def test_a_window_is_blind_to_gain_and_to_a_fixed_filter() -> None:
    log_mel, starts, ends = random_batch()
    front_end = FrontEnd(range_db=300)
    plain, _ = features.window(log_mel, starts, ends, front_end)
    coloured, _ = features.window(log_mel + torch.linspace(-3, 5, 40), starts, ends, front_end)
    assert torch.allclose(plain, coloured, atol=1e-4)


def test_resampling_keeps_both_ends_and_straight_lines() -> None:
    ramp = torch.arange(30.0)[None, :, None].expand(1, 30, 40)
    front_end = FrontEnd(normalize=False, n_frames=64, range_db=1000)
    got, lengths = features.window(ramp, torch.tensor([3]), torch.tensor([27]), front_end)
    assert torch.allclose(got[0, :, 0], torch.linspace(3, 26, 64), atol=1e-4)
    assert lengths.tolist() == [64]


def test_silence_gives_zeros() -> None:
    silence = torch.full((1, 20, 40), math.log(2**-23))
    got, _ = features.window(silence, torch.tensor([0]), torch.tensor([20]), FRONT_END)
    assert float(got.abs().max()) < 1e-4


@pytest.mark.parametrize(("start", "end"), [(5, 5), (-1, 4), (0, 61)])
def test_bounds_that_leave_the_clip_are_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="0 <= start < end <= 60"):
        features.window(torch.zeros(1, 60, 40), torch.tensor([start]), torch.tensor([end]), FRONT_END)


def test_a_batch_is_much_faster_than_its_clips_one_by_one() -> None:
    """Measured against itself, so that a busy machine slows both sides."""
    log_mel, starts, ends = random_batch(300, 100)
    together, apart = [], []
    for _ in range(5):
        start = time.perf_counter()
        features.window(log_mel, starts, ends, FRONT_END)
        together.append(time.perf_counter() - start)
        start = time.perf_counter()
        for item in range(0, 300, 10):
            features.window(log_mel[item, None], starts[item, None], ends[item, None], FRONT_END)
        apart.append(10 * (time.perf_counter() - start))
    assert min(together) < min(apart) / 4


# ----------------------------------------------------------------------------------------------------------- prepare


@pytest.mark.parametrize(
    "front_end", [FRONT_END, FrontEnd(crop=False), FrontEnd(n_frames=None)], ids=["crop", "whole", "own length"]
)
def test_one_clip_is_prepared_as_a_batch_is(front_end: FrontEnd) -> None:
    waves = [scene((0.3 + 0.1 * i, 0.4), duration_s=1.5 + 0.2 * i) for i in range(4)]
    spectra = [features.log_mel(wave, front_end) for wave in waves]
    bounds = [features.speech_bounds(s, front_end) if front_end.crop else (0, len(s)) for s in spectra]
    batch = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(s) for s in spectra], batch_first=True)
    starts, ends = (torch.tensor(values) for values in zip(*bounds, strict=True))
    together, lengths = features.window(batch, starts, ends, front_end)
    for item, wave in enumerate(waves):
        alone, length = features.prepare(np.pad(wave, (500, 3000)), front_end)
        assert length.tolist() == [int(lengths[item])]
        assert torch.allclose(alone[0], together[item, : int(length)], rtol=0, atol=1e-5)


def test_prepare_refuses_what_holds_no_frame() -> None:
    for wave in (np.zeros(16_000, np.float32), noise(0.02), np.zeros(0, np.float32)):
        with pytest.raises(InputError, match=r"0\.025 s are needed"):
            features.prepare(wave, FRONT_END)


@pytest.mark.real
def test_padding_of_a_data_set_does_not_matter(data_root: Path) -> None:
    for wave in real_clips(data_root, "bengali_digits", 10):
        once, _ = features.prepare(wave, FRONT_END)
        more, _ = features.prepare(np.pad(wave, (1234, 8000)), FRONT_END)
        assert torch.equal(once, more)
