"""What every encoder promises about padding, lengths and gradients; each layer against a second implementation."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from metavox import features
from metavox.checkpoint import build
from metavox.config import EncoderConfig, ModelConfig
from metavox.contracts import Encoder, FrontEnd, InputError
from metavox.nets.encoders import ENCODERS, MaskedGroupNorm, halved, normalized

FRONT_END = FrontEnd(n_mels=16, n_frames=None)
CONV = {
    "conv": {},
    "conv-1-block": {"blocks": 1},
    "conv-wide-kernel": {"kernel": 9, "blocks": 3},
    "conv-kernel-1": {"kernel": 1},
    "conv-odd-channels": {"channels": 12},
}
CASES = {
    **{name: EncoderConfig(**{"channels": 16, "dim": 8, **values}) for name, values in CONV.items()},
    "logmel": EncoderConfig(name="logmel"),
    "mfcc": EncoderConfig(name="mfcc"),
}
LENGTHS = [1, 2, 3, 4, 5, 8, 13, 21, 32]


def encoder_of(config: EncoderConfig) -> Any:
    return build(ModelConfig(front_end=FRONT_END, encoder=config), seed=1).encoder


@pytest.fixture(params=CASES)
def encoder(request: pytest.FixtureRequest) -> Any:
    return encoder_of(CASES[request.param])


def windows(lengths: list[int], n_more: int = 0, garbage: float = 0.0) -> Tensor:
    """Noise of these lengths, one item at a time, padded with zeros or with garbage."""
    generator = torch.Generator().manual_seed(0)
    inputs = garbage * torch.randn(len(lengths), max(lengths) + n_more, 16, generator=torch.Generator().manual_seed(9))
    for i, n in enumerate(lengths):
        inputs[i, :n] = 3 * torch.randn(n, 16, generator=generator) + 1
    return inputs


def alone(encoder: Any, inputs: Tensor, lengths: list[int]) -> list[Tensor]:
    """Each item by itself, without a frame of padding."""
    return [encoder(item[None, :n], torch.tensor([n]))[0] for item, n in zip(inputs, lengths, strict=True)]


# ------------------------------------------------------------------------------------------------------ all encoders


def test_every_encoder_is_held_to_these_promises() -> None:
    assert {config.name for config in CASES.values()} == set(ENCODERS)


def test_it_conforms_to_the_protocol_and_gives_frames_of_its_size(encoder: Any) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.front_end == FRONT_END
    assert encoder(windows(LENGTHS), torch.tensor(LENGTHS)).shape[2] == encoder.dim


@torch.no_grad()
def test_its_count_of_valid_frames_is_right_for_every_length(encoder: Any) -> None:
    lengths = torch.arange(1, 66)
    counts = encoder.out_lengths(lengths)
    for n, count in zip(lengths.tolist(), counts.tolist(), strict=True):
        assert encoder(windows([n]), torch.tensor([n])).shape[1] == count
    padded = encoder(torch.zeros(65, 65, 16), lengths)
    assert padded.shape[1] == int(counts.max())


@torch.no_grad()
@pytest.mark.parametrize("garbage", [0.0, 1e3])
@pytest.mark.parametrize("n_more", [0, 1, 2, 7])
def test_padding_and_company_do_not_matter(encoder: Any, n_more: int, garbage: float) -> None:
    inputs = windows(LENGTHS, n_more, garbage)
    together = encoder(inputs, torch.tensor(LENGTHS))
    for i, frames in enumerate(alone(encoder, inputs, LENGTHS)):
        # Two frames that cancel leave rounding, of the size of 1e-5 at most.
        torch.testing.assert_close(together[i, : len(frames)], frames, rtol=1e-5, atol=5e-5)


@torch.no_grad()
def test_what_it_learns_from_leaves_padding_at_zero(encoder: Any) -> None:
    frames = encoder(windows(LENGTHS), torch.tensor(LENGTHS))
    valid = torch.arange(frames.shape[1]) < encoder.out_lengths(torch.tensor(LENGTHS))[:, None]
    assert float(frames[~valid].abs().max()) == 0


def test_gradients_reach_every_parameter_and_every_valid_frame_only(encoder: Any) -> None:
    inputs = windows([9, 4, 6]).requires_grad_()
    lengths = torch.tensor([9, 4, 6])
    frames = encoder(inputs, lengths)
    weights = torch.randn(frames.shape, generator=torch.Generator().manual_seed(2))
    weights[torch.arange(frames.shape[1]) >= encoder.out_lengths(lengths)[:, None]] = 0
    parameters = dict(encoder.named_parameters())
    grads = torch.autograd.grad((frames * weights).sum(), [inputs, *parameters.values()])
    for name, grad in zip(["inputs", *parameters], grads, strict=True):
        assert bool(grad.isfinite().all()), name
        assert float(grad.abs().max()) > 0, name
    valid = torch.arange(9) < lengths[:, None]
    assert float(grads[0][~valid].abs().max()) == 0
    assert float(grads[0][valid].abs().sum(-1).min()) > 0


@torch.no_grad()
def test_silence_and_constant_windows_stay_finite(encoder: Any) -> None:
    for inputs in (torch.zeros(2, 5, 16), torch.full((2, 5, 16), -15.9)):
        assert bool(encoder(inputs, torch.tensor([5, 1])).isfinite().all())


@torch.no_grad()
def test_a_frame_is_where_its_sound_is(encoder: Any) -> None:
    lengths = torch.tensor([64])
    inputs = windows([64])
    for at in (5, 31, 58):
        changed = inputs.clone()
        changed[0, at] += 9
        moved = (encoder(changed, lengths) - encoder(inputs, lengths)).norm(dim=-1)[0]
        share = (int(moved.argmax()) + 0.5) / len(moved)
        assert abs(share - (at + 0.5) / 64) <= 2.5 / len(moved)


# ---------------------------------------------------------------------------------------------------- MaskedGroupNorm


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


# -------------------------------------------------------------------------------------------------------- ConvEncoder


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(InputError, match=r"encoder\.kernel is 4; it must be odd"):
        encoder_of(EncoderConfig(kernel=4))


def test_the_seed_decides_the_weights_and_nothing_global_moves() -> None:
    config = ModelConfig(front_end=FRONT_END, encoder=CASES["conv"])
    state = torch.get_rng_state()
    first, again, other = build(config, seed=1), build(config, seed=1), build(config, seed=2)
    assert torch.equal(state, torch.get_rng_state())
    weights = [dict(learner.named_parameters())["encoder.stem.weight"] for learner in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# -------------------------------------------------------------------------------------------- encoders without weights


def test_log_mel_is_the_window_as_it_is() -> None:
    inputs = windows([6, 6])
    assert torch.equal(encoder_of(CASES["logmel"])(inputs, torch.tensor([6, 6])), inputs)


def test_mfcc_is_cepstra_and_their_slopes_normalised_over_the_window() -> None:
    encoder, inputs = encoder_of(CASES["mfcc"]).double(), windows(LENGTHS, garbage=50).double()
    got = encoder(inputs, torch.tensor(LENGTHS))
    for i, n in enumerate(LENGTHS):
        cepstra = features.mfcc(inputs[i : i + 1, :n])
        both = torch.cat([cepstra, features.deltas(cepstra, torch.tensor([n]))], -1)[0]
        expected = (both - both.mean(0)) / (both.var(0, correction=0) + 1e-4).sqrt()
        torch.testing.assert_close(got[i, :n], expected, rtol=0, atol=1e-9)
    assert encoder.dim == 26


# --------------------------------------------------------------------------------------------------------- its stages


@pytest.mark.parametrize("how", ["bins", "mean", "level"])
def test_windows_are_normalised_over_their_valid_frames(how: str) -> None:
    inputs = windows(LENGTHS, garbage=50).double()
    mask = (torch.arange(inputs.shape[1]) < torch.tensor(LENGTHS)[:, None]).double()
    got = normalized(inputs, mask, how)
    for i, n in enumerate(LENGTHS):
        item = inputs[i, :n]
        centred = item - (item.mean() if how == "level" else item.mean(0))
        variance = centred.square().mean(0) if how == "bins" else centred.square().mean()
        torch.testing.assert_close(got[i, :n], centred / (variance + 1e-2).sqrt(), rtol=0, atol=1e-10)
        assert not bool(got[i, n:].any())


def test_halving_the_rate_takes_means_of_neighbours_and_leaves_the_last_odd_one() -> None:
    frames, lengths = windows(LENGTHS), torch.tensor(LENGTHS)
    got, halves = halved(frames, lengths)
    assert halves.tolist() == [(n + 1) // 2 for n in LENGTHS]
    for i, n in enumerate(LENGTHS):
        for t in range(got.shape[1]):
            pair = frames[i, 2 * t : min(2 * t + 2, n)]
            expected = pair.mean(0) if len(pair) else torch.zeros(16)
            torch.testing.assert_close(got[i, t], expected)
