"""What every encoder promises about padding, lengths and gradients, whatever its body."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from metavox.checkpoint import build, load_model, save_model
from metavox.config import EncoderConfig, ModelConfig
from metavox.contracts import Batch, Encoder, FrontEnd
from metavox.learners.gradient import GradientLearner
from metavox.losses import cross_entropy
from metavox.nets.encoders import BODIES, ENCODERS

FRONT_END = FrontEnd(n_mels=16, n_frames=None)
LEARNED: dict[str, dict[str, Any]] = {
    "conv": {},
    "conv-1-block": {"blocks": 1},
    "conv-wide-kernel": {"kernel": 9, "blocks": 3},
    "conv-kernel-1": {"kernel": 1},
    "conv-odd-channels": {"channels": 12},
    "linear": {"name": "linear"},
    "linear-alone": {"name": "linear", "context": 3, "cepstra": 0},
    "linear-long-context": {"name": "linear", "context": 41},
    "fc": {"name": "fc", "context": 5},
    "fc-every-fourth-frame": {"name": "fc", "context": 5, "halvings": 2, "blocks": 1},
    "sparse": {"name": "sparse", "channels": 64, "blocks": 2},
    "sparse-every-frame": {"name": "sparse", "channels": 96, "density": 0.05, "halvings": 0, "blocks": 1},
    "conformer": {"name": "conformer", "blocks": 2},
    "conformer-every-frame": {"name": "conformer", "blocks": 1, "halvings": 0, "heads": 1, "kernel": 1},
    "conformer-every-fourth-frame": {"name": "conformer", "blocks": 1, "halvings": 2, "cepstra": 0},
    "crnn": {"name": "crnn", "blocks": 2, "halvings": 2},
    "crnn-alone": {"name": "crnn", "blocks": 1, "cepstra": 0},
}
CASES = {
    **{name: EncoderConfig(**{"channels": 16, "dim": 8, **values}) for name, values in LEARNED.items()},
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
    lengths = torch.tensor([*range(1, 18), 31, 32, 33, 63, 64, 65])
    counts = encoder.out_lengths(lengths)
    for n, count in zip(lengths.tolist(), counts.tolist(), strict=True):
        assert encoder(windows([n]), torch.tensor([n])).shape[1] == count
    padded = encoder(torch.zeros(len(lengths), 65, 16), lengths)
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


@torch.no_grad()
def test_the_order_of_the_windows_does_not_matter(encoder: Any) -> None:
    inputs, lengths = windows(LENGTHS), torch.tensor(LENGTHS)
    order = torch.randperm(len(LENGTHS), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        encoder(inputs[order], lengths[order]), encoder(inputs, lengths)[order], rtol=1e-5, atol=5e-5
    )


# ---------------------------------------------------------------------------------------------------- learned encoders


@pytest.fixture(params=LEARNED)
def learned(request: pytest.FixtureRequest) -> Any:
    return encoder_of(CASES[request.param])


TINY: dict[str, dict[str, Any]] = {
    name: {"name": name, "channels": 4, "blocks": 1, "kernel": 3, "context": 3, "heads": 1, "dim": 2, "cepstra": 0}
    for name in BODIES
} | {"sparse": {"name": "sparse", "channels": 24, "blocks": 1, "context": 3, "dim": 2, "cepstra": 0}}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", TINY)
def test_first_and_second_derivatives_agree_with_differences(name: str, padded: bool) -> None:
    """In float64, in the weights: what first- and second-order meta-learning differentiate."""
    config = ModelConfig(front_end=FrontEnd(n_mels=8, n_frames=None), encoder=EncoderConfig(**TINY[name]))
    encoder: Any = build(config, seed=1).encoder.double()
    lengths = torch.tensor([5, 3] if padded else [5, 5])
    inputs = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    names, values = zip(*encoder.named_parameters(), strict=True)
    direction = torch.randn(3, sum(v.numel() for v in values), generator=torch.Generator().manual_seed(1)).double()
    steps = [part.split([v.numel() for v in values]) for part in 0.1 * direction]

    def along(at: Tensor) -> Tensor:
        """Frames where the weights are moved by ``at`` in three random directions at once."""
        moved = {
            name: value.detach() + sum(a * step[i].reshape(value.shape) for a, step in zip(at, steps, strict=True))
            for i, (name, value) in enumerate(zip(names, values, strict=True))
        }
        return functional_call(encoder, moved, (inputs, lengths))

    at = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(along, (at,))
    assert torch.autograd.gradgradcheck(along, (at,))


@pytest.mark.parametrize("name", ["conv", "linear", "fc", "sparse", "conformer", "crnn"])
def test_derivatives_in_the_window_agree_with_differences(name: str) -> None:
    config = ModelConfig(front_end=FrontEnd(n_mels=8, n_frames=None), encoder=EncoderConfig(**TINY[name]))
    encoder: Any = build(config, seed=1).encoder.double()
    inputs = torch.randn(1, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: encoder(x, torch.tensor([3])), (inputs,))


def test_with_and_without_gradients_it_gives_the_same(learned: Any) -> None:
    inputs, lengths = windows(LENGTHS), torch.tensor(LENGTHS)
    with_gradients = learned(inputs, lengths)
    with torch.no_grad():
        torch.testing.assert_close(learned(inputs, lengths), with_gradients, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("weight", [0, 0.7])
@pytest.mark.parametrize("name", BODIES)
def test_a_frame_is_the_learned_part_beside_weighted_cepstra(name: str, weight: float) -> None:
    changes = {"cepstra": weight, "cepstra_in_training": 0.3, "halvings": 0}
    encoder = encoder_of(CASES[name].model_copy(update=changes)).eval()
    known = encoder_of(CASES["mfcc"])
    inputs, lengths = windows([9, 6]), torch.tensor([9, 6])
    frames = encoder(inputs, lengths)
    assert encoder.dim == 8 + (26 if weight else 0)
    torch.testing.assert_close(frames[0, :, :8].norm(dim=-1), torch.ones(9))
    torch.testing.assert_close(frames[1, :6, :8].norm(dim=-1), torch.ones(6))
    if weight:
        expected = weight * torch.nn.functional.normalize(known(inputs, lengths), dim=-1)
        torch.testing.assert_close(frames[:, :, 8:], expected, rtol=1e-5, atol=1e-5)
        in_training = encoder.train()(inputs, lengths)
        torch.testing.assert_close(in_training[:, :, 8:], expected * 0.3 / weight, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(in_training[:, :, :8], frames[:, :, :8])


@pytest.mark.parametrize("name", BODIES)
def test_the_seed_decides_all_that_is_stored_and_nothing_global_moves(name: str) -> None:
    config = ModelConfig(front_end=FRONT_END, encoder=CASES[name])
    state = torch.get_rng_state()
    first, again, other = (build(config, seed=seed).encoder.state_dict() for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key in first if bool((first[key] != first[key].flatten()[0]).any())]
    assert drawn
    assert not any(torch.equal(first[key], other[key]) for key in drawn)


@torch.no_grad()
@pytest.mark.parametrize("name", BODIES)
def test_it_survives_save_and_load(name: str, tmp_path: Path) -> None:
    config = ModelConfig(front_end=FRONT_END, encoder=CASES[name])
    learner = build(config, seed=4)
    save_model(tmp_path / "model", learner, config, {})
    loaded = load_model(tmp_path / "model").learner
    inputs, lengths = windows(LENGTHS), torch.tensor(LENGTHS)
    assert torch.equal(loaded.encoder(inputs, lengths), learner.encoder(inputs, lengths))


@pytest.mark.parametrize("order", [0.0, 1.0])
@pytest.mark.parametrize("name", BODIES)
def test_a_loss_after_adapting_it_reaches_every_weight(name: str, order: float) -> None:
    encoder = encoder_of(CASES[name])
    learner = GradientLearner(encoder, n_steps=2, lr=0.05, order=order)
    support = Batch(windows([12, 9, 12, 10]), torch.tensor([12, 9, 12, 10]), torch.tensor([0, 0, 1, 1]), 2)
    query = replace(support, inputs=support.inputs.flip(0))
    loss = cross_entropy(learner.predict(learner.adapt(support), query).scores, query.labels)
    for (key, _), grad in zip(
        encoder.named_parameters(), torch.autograd.grad(loss, list(encoder.parameters())), strict=True
    ):
        assert bool(grad.isfinite().all()), key
        assert float(grad.abs().max()) > 0, key
