"""Encoders without parameters, against a second implementation."""

import torch

from metavox import features
from metavox.config import EncoderConfig
from metavox.contracts import FrontEnd
from metavox.nets.cepstra import LogMelEncoder, MfccEncoder, halved

FRONT_END = FrontEnd(n_mels=16, n_frames=None)
LENGTHS = [1, 2, 3, 5, 8, 13]


def windows() -> torch.Tensor:
    """Noise (6, 13, 16) with zeros for padding."""
    inputs = 3 * torch.randn(6, 13, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    return inputs * (torch.arange(13) < torch.tensor(LENGTHS)[:, None])[:, :, None]


def test_log_mel_is_the_window_as_it_is() -> None:
    encoder = LogMelEncoder(EncoderConfig(), FRONT_END)
    assert torch.equal(encoder(windows(), torch.tensor(LENGTHS)), windows())


def test_mfcc_is_cepstra_and_their_slopes_normalised_over_the_window() -> None:
    encoder = MfccEncoder(EncoderConfig(), FRONT_END).double()
    padding = torch.arange(13) >= torch.tensor(LENGTHS)[:, None]
    inputs = windows() + 50 * padding[:, :, None]
    got = encoder(inputs, torch.tensor(LENGTHS))
    for i, n in enumerate(LENGTHS):
        cepstra = features.mfcc(inputs[i : i + 1, :n])
        both = torch.cat([cepstra, features.deltas(cepstra, torch.tensor([n]))], -1)[0]
        expected = (both - both.mean(0)) / (both.var(0, correction=0) + 1e-4).sqrt()
        torch.testing.assert_close(got[i, :n], expected, rtol=0, atol=1e-9)
    assert encoder.dim == 26


def test_halving_the_rate_takes_means_of_neighbours_and_leaves_the_last_odd_one() -> None:
    frames, lengths = windows(), torch.tensor(LENGTHS)
    got, halves = halved(frames, lengths)
    assert halves.tolist() == [(n + 1) // 2 for n in LENGTHS]
    for i, n in enumerate(LENGTHS):
        for t in range(got.shape[1]):
            pair = frames[i, 2 * t : min(2 * t + 2, n)]
            expected = pair.mean(0) if len(pair) else torch.zeros(16, dtype=torch.float64)
            torch.testing.assert_close(got[i, t], expected)
