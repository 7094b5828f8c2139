"""Changes that leave a word the same word, applied to log-mel features when an item is drawn.

Before the window is normalised: other crops, another vocal tract, noise. After it: SpecAugment. Every function is a
pure function of its input and a generator.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


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


def warp_frequency(
    log_mel: Float[Tensor, "B T F"], generator: torch.Generator, strongest: float = 0.15
) -> Float[Tensor, "B T F"]:
    """Stretch the mel axis of each item by up to ``strongest``: another vocal tract (Jaitly and Hinton 2013)."""
    n_items, _, n_mels = log_mel.shape
    factors = 1 + strongest * (2 * torch.rand(n_items, 1, generator=generator) - 1)
    at = (torch.arange(n_mels)[None, :] * factors).clamp(0, n_mels - 1)
    low = at.floor().long().clamp_max(n_mels - 2)
    part = (at - low)[:, None, :]
    low = low[:, None, :].expand_as(log_mel)
    return torch.lerp(log_mel.gather(2, low), log_mel.gather(2, low + 1), part.expand_as(log_mel))


def add_noise(
    log_mel: Float[Tensor, "B T F"],
    lengths: Int[Tensor, " B"],
    generator: torch.Generator,
    *,
    share: float = 0.6,
    snr_db: tuple[float, float] = (3.0, 35.0),
) -> Float[Tensor, "B T F"]:
    """Add coloured stationary noise, or another item of the batch (babble), to a share of the items.

    Powers add, so the sum is taken in the linear domain. The level is set against the loudest frame of the item.
    """
    n_items, n_frames, n_mels = log_mel.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n_items, 1, 1, generator=generator)

    tilt = uniform(-3.0, 1.0) * torch.linspace(-1, 1, n_mels)
    bumps = torch.randn(n_items, 1, 5, generator=generator) @ _smooth_basis(5, n_mels)
    # Log-mel bins of noise scatter around their mean by about a third of a neper.
    coloured = tilt + bumps + 0.35 * torch.randn(n_items, n_frames, n_mels, generator=generator)
    shift = torch.randint(1, max(n_items, 2), (1,), generator=generator).item()
    babble = log_mel.roll(int(shift), 0)
    is_babble = torch.rand(n_items, 1, 1, generator=generator) < 0.35
    noise = torch.where(is_babble, babble, coloured)
    level = log_mel.amax((1, 2), keepdim=True) - noise.amax((1, 2), keepdim=True)
    gain = level - uniform(*snr_db) * (math.log(10) / 10)
    noisy = torch.logaddexp(log_mel, noise + gain)
    chosen = torch.rand(n_items, 1, 1, generator=generator) < share
    valid = torch.arange(n_frames)[None, :, None] < lengths[:, None, None]
    return torch.where(chosen & valid, noisy, log_mel)


def _smooth_basis(n_bumps: int, n_mels: int) -> Tensor:
    """(n_bumps, n_mels) hats over the mel axis: random weights make a smooth random spectrum."""
    centres = torch.linspace(0, n_mels - 1, n_bumps)[:, None]
    width = (n_mels - 1) / (n_bumps - 1)
    return (1 - (torch.arange(n_mels)[None, :] - centres).abs() / width).clamp_min(0)


def mask_blocks(
    inputs: Float[Tensor, "B T F"], generator: torch.Generator, *, n_masks: int = 2, widest: float = 0.12
) -> Float[Tensor, "B T F"]:
    """Replace random blocks of time and of frequency by the mean of the window (SpecAugment, Park et al. 2019)."""
    out = inputs
    mean = inputs.mean((1, 2), keepdim=True)
    for axis in (1, 2):
        size = inputs.shape[axis]
        shape = [inputs.shape[0], 1, 1]
        shape[axis] = size
        for _ in range(n_masks):
            width = torch.rand(inputs.shape[0], 1, generator=generator) * widest * size
            start = torch.rand(inputs.shape[0], 1, generator=generator) * (size - width)
            at = torch.arange(size)[None, :]
            inside = (at >= start) & (at < start + width)
            out = torch.where(inside.reshape(shape), mean, out)
    return out
