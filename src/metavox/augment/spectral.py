"""Changes of log-mel features when an item is drawn, each a pure function of its input and a generator.

Before the window is normalised: other crops, another vocal tract, another tempo, a room, noise, a channel. After it:
SpecAugment. Frames at and after ``lengths`` are padding and stay as they are. A strength or share of 0 draws nothing
from the generator.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..config import AugmentConfig
from ..contracts import FrontEnd, InputError
from ..features import DB, LOG_FLOOR

DIRECT_TO_REVERBERANT_DB = (0.0, 12.0)
"""Energy of the direct sound over that of the room: a speaker at arm's length to one at the other end."""
BAND_SLOPE_DB = 36.0
"""Loss an octave beyond the edge of a band."""
BAND_LOSS_DB = 60.0
_N_KNOTS = 5


def change_features(
    log_mel: Float[Tensor, "B T F"],
    lengths: Int[Tensor, " B"],
    config: AugmentConfig,
    front_end: FrontEnd,
    generator: torch.Generator,
) -> Float[Tensor, "B T F"]:
    """Everything that happens before the window, in the order of nature: speaker, room, noise, channel."""
    out = log_mel
    if config.warp:
        out = warp_frequency(out, generator, config.warp)
    if config.tempo:
        out = warp_time(out, lengths, generator, config.tempo)
    if config.smear:
        out = smear(out, lengths, front_end.hop_ms / 1000, generator, config.smear)
    if config.noise_share:
        out = add_noise(out, lengths, generator, share=config.noise_share, snr_db=config.snr_db)
    if config.eq_db:
        out = equalise(out, lengths, generator, config.eq_db)
    if config.band_share:
        out = limit_band(out, lengths, front_end, generator, config.band_share)
    return out


def jitter_bounds(
    bounds: Int[np.ndarray, "B 2"], n_frames: Int[np.ndarray, " B"], rng: np.random.Generator, widest: int = 6
) -> Int[np.ndarray, "B 2"]:
    """Move each end of a crop by up to ``widest`` frames, more often outwards; at least 8 frames are kept.

    A user's device will not cut a word exactly where a data set did, and some data sets cut its onset away.
    """
    moved = bounds + rng.integers(-widest, widest // 2 + 1, bounds.shape) * np.asarray([1, -1])
    start = np.clip(moved[:, 0], 0, np.maximum(n_frames - 8, 0))
    end = np.clip(moved[:, 1], np.minimum(start + 8, n_frames), n_frames)
    return np.stack([start, end], 1)


# -------------------------------------------------------------------------------------------------- speaker and room


def warp_frequency(
    log_mel: Float[Tensor, "B T F"], generator: torch.Generator, strongest: float = 0.15
) -> Float[Tensor, "B T F"]:
    """Stretch the mel axis of each item by up to ``strongest``: another vocal tract (Jaitly and Hinton 2013).

    Frames of zeros, which is what padding holds, stay zeros.

    Raises:
        InputError: ``strongest`` outside [0, 1).
    """
    _require(0 <= strongest < 1, "A warp of the mel axis", strongest, "0 to below 1")
    n_items, _, n_mels = log_mel.shape
    factors = 1 + strongest * (2 * torch.rand(n_items, 1, generator=generator) - 1)
    at = (torch.arange(n_mels)[None, :] * factors).clamp(0, n_mels - 1)
    low = at.floor().long().clamp_max(n_mels - 2)
    part = (at - low)[:, None, :]
    low = low[:, None, :].expand_as(log_mel)
    return torch.lerp(log_mel.gather(2, low), log_mel.gather(2, low + 1), part.expand_as(log_mel))


def warp_time(
    log_mel: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"], generator: torch.Generator, strongest: float = 0.3
) -> Float[Tensor, "B T F"]:
    """Speak some parts of an item faster and others slower; its length stays, and so do its ends.

    Frame t comes from w(t / (n - 1)) (n - 1), w(u) = u + sum of a_k sin(pi k u) / (pi k) over k = 1, 2, 3, with random
    a_k whose magnitudes sum to at most ``strongest``: the local tempo w' stays within 1 - ``strongest`` and
    1 + ``strongest``, so that w never turns back. Values between frames are interpolated on a line.

    Raises:
        InputError: ``strongest`` outside [0, 0.9], where time would come to stand still.
    """
    _require(0 <= strongest <= 0.9, "A warp of time", strongest, "0 to 0.9")
    n_items, total, n_mels = log_mel.shape
    k = torch.arange(1, 4)
    weights = (2 * torch.rand(n_items, 3, generator=generator) - 1) * (strongest / 3)
    last = (lengths - 1).clamp_min(0)[:, None]
    frame = torch.arange(total)[None, :]
    u = (frame / last.clamp_min(1)).clamp_max(1)
    moved = u + (torch.sin(math.pi * u[:, :, None] * k) * (weights / (math.pi * k))[:, None, :]).sum(2)
    at = torch.where(frame <= last, (moved * last).clamp_min(0).minimum(last), frame)
    low = at.floor().long()
    high = torch.where(frame <= last, torch.minimum(low + 1, last), low)
    rows = torch.arange(n_items)[:, None] * total
    flat = log_mel.reshape(-1, n_mels)
    before, after = (flat.index_select(0, (rows + i).flatten()).view_as(log_mel) for i in (low, high))
    return torch.lerp(before, after, (at - low)[:, :, None].to(log_mel.dtype))


def smear(
    log_mel: Float[Tensor, "B T F"],
    lengths: Int[Tensor, " B"],
    hop_s: float,
    generator: torch.Generator,
    longest_s: float = 0.5,
) -> Float[Tensor, "B T F"]:
    """Let the power of each frame ring on: the diffuse tail of a room, seen in frames of ``hop_s`` seconds.

    out(t) = p(t) + w sum of r^d p(t - d) over d >= 1 in linear power. r falls by 60 dB in a time that is drawn for each
    item from 0 to ``longest_s``; w sets the energy of the tail to ``DIRECT_TO_REVERBERANT_DB`` below the frame's own
    (the exponential model of Polack 1988; Lebart et al. 2001). Powers add as those of signals without relation do.

    Raises:
        InputError: ``longest_s`` outside 0 to 10 s.
    """
    _require(0 <= longest_s <= 10, "A decay in seconds", longest_s, "0 to 10")
    n_items, total, _ = log_mel.shape
    decay_s = longest_s * torch.rand(n_items, 1, 1, generator=generator)
    low, high = DIRECT_TO_REVERBERANT_DB
    ratio_db = low + (high - low) * torch.rand(n_items, 1, 1, generator=generator)
    # Shorter than a hop there is no tail to see; the bound keeps 0 from being divided by.
    r = torch.exp(-60 * DB * hop_s / decay_s.clamp_min(hop_s / 4))
    weight = torch.exp(-ratio_db * DB) * (1 - r) / r
    # Relative to the item's loudest value, so that any level fits float32.
    top = log_mel.amax((1, 2), keepdim=True)
    power = (log_mel - top).exp()
    tail, step = power, 1
    while step < total:  # y(t) = p(t) + r y(t - 1) by doubling: log2(T) steps over all frames at once
        tail = torch.cat([tail[:, :step], tail[:, step:] + r**step * tail[:, :-step]], 1)
        step *= 2
    rung = (power + weight * (tail - power).clamp_min(0)).clamp_min(torch.finfo(power.dtype).tiny).log() + top
    valid = torch.arange(total)[None, :, None] < lengths[:, None, None]
    return torch.where(valid, torch.maximum(rung, log_mel), log_mel)


# ------------------------------------------------------------------------------------------------- noise and channel


def add_noise(
    log_mel: Float[Tensor, "B T F"],
    lengths: Int[Tensor, " B"],
    generator: torch.Generator,
    *,
    share: float = 0.6,
    snr_db: tuple[float, float] = (3.0, 35.0),
) -> Float[Tensor, "B T F"]:
    """Add coloured stationary noise, or another item of the batch (babble), to a share of the items.

    Powers add, so the sum is taken in the linear domain. The level is set against the loudest value of the item.

    Raises:
        InputError: ``share`` outside [0, 1], or a range of ``snr_db`` that falls.
    """
    _require(0 <= share <= 1, "A share of noisy items", share, "0 to 1")
    _require(snr_db[0] <= snr_db[1], "A range of SNR in dB", snr_db, "the lower end first")
    n_items, n_frames, n_mels = log_mel.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n_items, 1, 1, generator=generator)

    tilt = uniform(-3.0, 1.0) * torch.linspace(-1, 1, n_mels)
    bumps = torch.randn(n_items, 1, _N_KNOTS, generator=generator) @ _smooth_basis(_N_KNOTS, n_mels)
    # Log-mel bins of noise scatter around their mean by about a third of a neper.
    coloured = tilt + bumps + 0.35 * torch.randn(n_items, n_frames, n_mels, generator=generator)
    shift = torch.randint(1, max(n_items, 2), (1,), generator=generator).item()
    babble = log_mel.roll(int(shift), 0)
    is_babble = torch.rand(n_items, 1, 1, generator=generator) < 0.35
    noise = torch.where(is_babble, babble, coloured)
    level = log_mel.amax((1, 2), keepdim=True) - noise.amax((1, 2), keepdim=True)
    gain = level - uniform(*snr_db) * DB
    noisy = torch.logaddexp(log_mel, noise + gain)
    chosen = torch.rand(n_items, 1, 1, generator=generator) < share
    valid = torch.arange(n_frames)[None, :, None] < lengths[:, None, None]
    return torch.where(chosen & valid, noisy, log_mel)


def equalise(
    log_mel: Float[Tensor, "B T F"], lengths: Int[Tensor, " B"], generator: torch.Generator, strongest_db: float = 6.0
) -> Float[Tensor, "B T F"]:
    """Another microphone: a gain of at most ``strongest_db`` either way that runs smoothly over frequency.

    The gain is drawn at five places of the mel axis and interpolated on a line between them.

    Raises:
        InputError: ``strongest_db`` outside 0 to 60 dB.
    """
    _require(0 <= strongest_db <= 60, "An equaliser of so many dB", strongest_db, "0 to 60")
    n_items, total, n_mels = log_mel.shape
    knots = 2 * torch.rand(n_items, 1, _N_KNOTS, generator=generator) - 1
    gain = strongest_db * DB * (knots @ _smooth_basis(_N_KNOTS, n_mels))
    valid = torch.arange(total)[None, :, None] < lengths[:, None, None]
    return torch.where(valid, (log_mel + gain).clamp_min(math.log(LOG_FLOOR)), log_mel)


def limit_band(
    log_mel: Float[Tensor, "B T F"],
    lengths: Int[Tensor, " B"],
    front_end: FrontEnd,
    generator: torch.Generator,
    share: float = 0.2,
) -> Float[Tensor, "B T F"]:
    """Take a share of the items through a telephone (300 to 3400 Hz), a low pass (2 to 6 kHz) or a high pass (100 to
    800 Hz): 36 dB an octave beyond the edge, at most 60 dB.

    Raises:
        InputError: ``share`` outside [0, 1].
    """
    _require(0 <= share <= 1, "A share of items with a limited band", share, "0 to 1")
    n_items, total = log_mel.shape[:2]
    kind = torch.randint(0, 3, (n_items, 1), generator=generator)
    place = torch.rand(n_items, 1, generator=generator)
    low_hz = torch.where(kind == 0, 300.0, torch.where(kind == 2, 100 * 8**place, torch.zeros_like(place)))
    high_hz = torch.where(kind == 0, 3400.0, torch.where(kind == 1, 2000 * 3**place, torch.full_like(place, math.inf)))
    hz = bin_centres_hz(front_end)[None, :]
    octaves = (low_hz / hz).log2().clamp_min(0) + (hz / high_hz).log2().clamp_min(0)
    loss = (BAND_SLOPE_DB * octaves).clamp_max(BAND_LOSS_DB) * DB
    chosen = torch.rand(n_items, 1, 1, generator=generator) < share
    valid = torch.arange(total)[None, :, None] < lengths[:, None, None]
    # What was below the floor of a logarithm stays where it is, and so do values whose loss is 0.
    limited = torch.minimum(log_mel, (log_mel - loss[:, None, :]).clamp_min(math.log(LOG_FLOOR)))
    return torch.where(chosen & valid, limited, log_mel)


def bin_centres_hz(front_end: FrontEnd) -> Float[Tensor, " F"]:
    """Centre of each mel bin: equal steps on the scale 1127 ln(1 + f / 700)."""
    low, high = (1127 * math.log1p(hz / 700) for hz in (front_end.low_hz, front_end.high_hz))
    centres = torch.linspace(low, high, front_end.n_mels + 2)[1:-1]
    return 700 * torch.expm1(centres / 1127)


def _smooth_basis(n_bumps: int, n_mels: int) -> Tensor:
    """(n_bumps, n_mels) hats over the mel axis: random weights make a smooth random spectrum."""
    centres = torch.linspace(0, n_mels - 1, n_bumps)[:, None]
    width = (n_mels - 1) / (n_bumps - 1)
    return (1 - (torch.arange(n_mels)[None, :] - centres).abs() / width).clamp_min(0)


# ------------------------------------------------------------------------------------------------- after the window


def mask_blocks(
    inputs: Float[Tensor, "B T F"],
    lengths: Int[Tensor, " B"],
    generator: torch.Generator,
    *,
    n_masks: int = 2,
    widest: float = 0.12,
) -> Float[Tensor, "B T F"]:
    """Replace random blocks of time and of frequency by the mean of the window (SpecAugment, Park et al. 2019).

    Raises:
        InputError: blocks wider than the window, ``widest`` outside [0, 1].
    """
    _require(0 <= widest <= 1, "A widest block as a share of the window", widest, "0 to 1")
    n_items, total, n_mels = inputs.shape
    lengths = lengths.to(inputs.device)
    valid = torch.arange(total, device=inputs.device)[None, :, None] < lengths[:, None, None]
    mean = (inputs * valid).sum((1, 2), keepdim=True) / (lengths[:, None, None] * n_mels)
    out = inputs
    for axis, sizes in ((1, lengths[:, None]), (2, torch.full_like(lengths, n_mels)[:, None])):
        shape = [n_items, 1, 1]
        shape[axis] = inputs.shape[axis]
        for _ in range(n_masks):
            width = torch.rand(n_items, 1, generator=generator) * widest * sizes
            start = torch.rand(n_items, 1, generator=generator) * (sizes - width)
            at = torch.arange(inputs.shape[axis], device=inputs.device)[None, :]
            inside = (at >= start) & (at < start + width)
            out = torch.where(inside.reshape(shape) & valid, mean, out)
    return out


def _require(fits: bool, what: str, value: object, limit: str) -> None:
    """NaN fits nowhere."""
    if not fits:
        raise InputError(f"{what} is {value}; give {limit}.")
