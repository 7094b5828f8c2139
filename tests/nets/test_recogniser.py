"""Recognisers: what is heard of an utterance depends on nothing else, and training may be coarse where use is not."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_cases import CONFIG, net_of, rows, utterances, wider
from torch import Tensor

from metavox.contracts import InputError, Transcribed
from metavox.nets.recogniser import Recogniser

BODIES: dict[str, dict[str, Any]] = {
    "temporal": {},
    "gain": {"squeeze": False, "adapter": 3},
    "halved": {"reduction": 8, "squeeze": False, "n_phones": 4},
    "halved-late": {"reduction": 8, "blocks": 5, "early": 2, "condition": 5},
    "halved-conformer": {"reduction": 8, "body": "conformer"},
    "condition": {"condition": 5},
    "adapter": {"adapter": 3},
    "both": {"condition": 5, "adapter": 3, "n_phones": 4},
    "conformer": {"body": "conformer", "n_phones": 4},
}


def spoken_to(net: Recogniser, seed: int = 3) -> Recogniser:
    """In double precision, with values everywhere that a fresh network has zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in net.double().parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=generator, dtype=torch.float64))
    return net


@pytest.fixture(params=BODIES)
def net(request: pytest.FixtureRequest) -> Recogniser:
    return spoken_to(net_of(**BODIES[request.param]))


def speech(n_items: int = 4, longest: int = 40, seed: int = 0) -> Transcribed:
    """Noise of random lengths, the longest among them; shapes do not matter here."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (n_items,), generator=generator)
    lengths[0] = longest
    inputs = 3 * torch.randn(n_items, longest, 12, generator=generator, dtype=torch.float64) - 2
    inputs = inputs * (torch.arange(longest) < lengths[:, None])[:, :, None]
    return Transcribed(inputs, lengths, torch.ones(n_items, 1, dtype=torch.long), torch.ones(n_items, dtype=torch.long))


def encoding_for(net: Recogniser) -> Tensor | None:
    return torch.linspace(-1, 1, net.config.condition, dtype=torch.float64) if net.config.condition else None


def exactly(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


# --------------------------------------------------------------------------------------------- what does not matter


@pytest.mark.parametrize("garbage", [False, True])
def test_padding_and_companions_never_change_a_result(net: Recogniser, garbage: bool) -> None:
    batch, encoding = speech(), encoding_for(net)
    with torch.no_grad():
        together = net(batch.inputs, batch.lengths, encoding)
        more = wider(batch, frames=7, garbage=garbage)
        padded = net(more.inputs, more.lengths, encoding)
        for i, length in enumerate(batch.lengths.tolist()):
            alone = net(batch.inputs[i : i + 1, :length], batch.lengths[i : i + 1], encoding)
            n_frames = int(net.out_lengths(batch.lengths)[i])
            assert alone.shape == (1, n_frames, 6)
            exactly(together[i, :n_frames], alone[0])
            exactly(padded[i, :n_frames], alone[0])


def test_phones_hear_neither_padding_nor_companions() -> None:
    for name in ("both", "conformer", "halved"):
        net, batch = spoken_to(net_of(**BODIES[name])), wider(speech(), 5, garbage=True)
        with torch.no_grad():
            scores, phones = net.with_phones(batch.inputs, batch.lengths)
            exactly(scores, net(batch.inputs, batch.lengths))
            for i, length in enumerate(batch.lengths.tolist()):
                _, alone = net.with_phones(batch.inputs[i : i + 1, :length], batch.lengths[i : i + 1])
                exactly(phones[i, : alone.shape[1]], alone[0])
                exactly(alone.exp().sum(-1), torch.ones_like(alone[:, :, 0]))


def test_a_gain_and_a_channel_are_taken_off(net: Recogniser) -> None:
    """Added to the logarithms of the spectrum, each is a constant of its bin."""
    batch = speech()
    channel = torch.linspace(-3, 3, 12, dtype=torch.float64)
    with torch.no_grad():
        exactly(net(batch.inputs + channel, batch.lengths), net(batch.inputs, batch.lengths))


@pytest.mark.parametrize("reduction", [4, 8])
@pytest.mark.parametrize("length", range(1, 51))
def test_every_length_has_as_many_frames_as_it_says(length: int, reduction: int) -> None:
    net, batch = net_of(n_phones=3, reduction=reduction), speech(1, length)
    inputs = batch.inputs.float()
    with torch.no_grad():
        scores, phones = net.with_phones(inputs, batch.lengths)
        hidden, middle = net.hidden(inputs, batch.lengths)
    n_frames = int(net.out_lengths(batch.lengths))
    assert n_frames == reduction // 2 * -(-length // reduction) == scores.shape[1] == phones.shape[1]
    assert hidden.shape[2] == middle.shape[2] == n_frames // (reduction // 2)
    assert net.frame_s == pytest.approx(0.02)
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(1, n_frames))


def test_the_last_frame_is_heard_and_the_one_after_it_is_not(net: Recogniser) -> None:
    batch = speech(1, 21)
    for at, heard in ((20, True), (21, False)):
        changed = wider(batch, 1)
        changed.inputs[0, at] += torch.linspace(-5, 5, 12)
        with torch.no_grad():
            same = torch.equal(net(changed.inputs, changed.lengths), net(wider(batch, 1).inputs, batch.lengths))
        assert same is not heard


# --------------------------------------------------------------------------------------------- encodings and adapters


def test_adapters_change_nothing_at_the_start() -> None:
    plain, adapted = net_of(), net_of(seed=8, adapter=3)
    missing, strange = adapted.load_state_dict(plain.state_dict(), strict=False)
    assert not strange
    assert {name.split(".")[2] for name in missing} == {"adapter"}
    batch = utterances()
    assert torch.equal(adapted(batch.inputs, batch.lengths), plain(batch.inputs, batch.lengths))
    with torch.no_grad():
        adapted.blocks[0].adapter.up.bias.add_(torch.linspace(-1, 1, 16))
    assert not torch.allclose(adapted(batch.inputs, batch.lengths), plain(batch.inputs, batch.lengths), atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(5)), n_more=st.integers(0, 9), garbage=st.booleans())
def test_an_encoding_depends_on_neither_order_nor_padding(order: list[int], n_more: int, garbage: bool) -> None:
    net, batch = spoken_to(net_of(condition=5, reduction=8 if garbage else 4)), speech(5)
    other = wider(rows(batch, order), n_more, garbage=garbage)
    with torch.no_grad():
        found = net.encoding(batch.inputs, batch.lengths)
        exactly(net.encoding(other.inputs, other.lengths), found)
    assert found.shape == (5,)
    assert float(found.abs().max()) < 1


@pytest.mark.parametrize("reduction", [4, 8])
def test_an_encoding_is_the_mean_of_all_frames_and_not_of_utterances(reduction: int) -> None:
    """So it is the same whether a support set comes as few long or many short takes of like sounds."""
    net = spoken_to(net_of(condition=5, reduction=reduction))
    batch = speech(3)
    with torch.no_grad():
        total, n_frames = torch.zeros(16, dtype=torch.float64), 0
        for i, length in enumerate(batch.lengths.tolist()):
            _, middle = net.hidden(batch.inputs[i : i + 1, :length], batch.lengths[i : i + 1])
            total, n_frames = total + middle[0].sum(1), n_frames + middle.shape[2]
        exactly(net.encoding(batch.inputs, batch.lengths), torch.tanh(net.encode(total / n_frames)))


def test_a_network_that_hears_an_encoding_has_the_gate_for_it() -> None:
    net = net_of(condition=5, squeeze=False)
    assert all(block.squeeze is not None for block in net.blocks)
    assert all(block.squeeze is None for block in net_of(squeeze=False).blocks)


def test_what_an_encoding_says_is_heard_and_learned() -> None:
    net, batch = spoken_to(net_of(condition=5)), speech()
    support = speech(seed=1)
    encoding = net.encoding(support.inputs, support.lengths)
    scores = net(batch.inputs, batch.lengths, encoding)
    assert not torch.allclose(scores, net(batch.inputs, batch.lengths), atol=1e-3)
    scores[..., 1].sum().backward()
    assert all(bool(value.grad.any()) for value in net.encode.parameters())


def test_a_network_without_conditioning_has_no_encoding() -> None:
    batch = utterances()
    with pytest.raises(InputError, match=r"recogniser\.condition is 0"):
        net_of().encoding(batch.inputs, batch.lengths)


# ------------------------------------------------------------------------------------------------------- in training


@pytest.mark.parametrize("body", ["temporal", "conformer"])
def test_bfloat16_is_for_training_only(body: str) -> None:
    net, batch = net_of(body=body, n_phones=3, condition=0), utterances()
    with torch.no_grad():
        exact = net.with_phones(batch.inputs, batch.lengths)
        net.training_dtype = torch.bfloat16
        assert all(torch.equal(a, b) for a, b in zip(net.with_phones(batch.inputs, batch.lengths), exact, strict=True))
        coarse = net.train().with_phones(batch.inputs, batch.lengths)
        for a, b in zip(coarse, exact, strict=True):
            assert a.dtype == torch.float32
            assert not torch.equal(a, b)
            torch.testing.assert_close(a, b, rtol=0.05, atol=0.1)
        net.training_dtype = torch.float32
        again = net.with_phones(batch.inputs, batch.lengths)
        assert all(torch.equal(a, b) for a, b in zip(again, exact, strict=True))
    assert {value.dtype for value in net.state_dict().values()} == {torch.float32}


def test_gradients_of_coarse_training_are_single_and_near_the_exact_ones() -> None:
    net, batch = net_of().train(), utterances()
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        net.training_dtype = dtype
        loss = net(batch.inputs, batch.lengths)[..., 1].mean()
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))]))
    assert found[1].dtype == torch.float32
    assert 0 < float((found[0] - found[1]).norm() / found[0].norm()) < 0.05


def test_channels_are_left_out_only_in_training_and_only_with_a_generator() -> None:
    net, batch = net_of(dropout=0.5), utterances()

    def scores(seed: int | None, training: bool) -> Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        with torch.no_grad():
            return net.train(training)(batch.inputs, batch.lengths, None, generator)

    plain = scores(None, False)
    torch.manual_seed(1)  # nobody listens to the global generator
    for seed, training in ((1, False), (None, True)):
        assert torch.equal(scores(seed, training), plain)
    dropped = scores(1, True)
    assert not torch.allclose(dropped, plain, atol=1e-3)
    assert torch.equal(scores(1, True), dropped)
    assert not torch.equal(scores(2, True), dropped)
    net.config = net.config.model_copy(update={"dropout": 0.0})
    assert torch.equal(scores(1, True), plain)


@pytest.mark.parametrize("body", ["temporal", "conformer"])
def test_derivatives_of_both_orders_are_those_of_finite_differences(body: str) -> None:
    net = spoken_to(net_of(body=body, channels=8, blocks=1, heads=1, dim=8))
    batch = speech(2, 9)

    def scores(weight: Tensor, bias: Tensor) -> Tensor:
        values = {"stem.0.bias": bias, "head.weight": weight}
        return torch.func.functional_call(net, values, (batch.inputs, batch.lengths))[..., 1:4]

    at = tuple(dict(net.named_parameters())[name].detach().requires_grad_() for name in ("head.weight", "stem.0.bias"))
    assert torch.autograd.gradcheck(scores, at)
    assert torch.autograd.gradgradcheck(lambda *at: scores(*at).square().sum(), at)


# ------------------------------------------------------------------------------------------------------ what is built


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kernel": 4}, r"recogniser\.kernel is 4; it must be odd"),
        ({"body": "conformer", "kernel": 4}, r"recogniser\.kernel is 4"),
        ({"body": "conformer", "channels": 18}, r"recogniser\.channels is 18 .* multiple of 4"),
        ({"body": "conformer", "condition": 5}, r"recogniser\.condition is 5 and a conformer has none"),
        ({"body": "conformer", "adapter": 2}, r"recogniser\.adapter is 2 and a conformer has none"),
    ],
)
def test_what_cannot_be_built_is_refused_in_a_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        Recogniser(CONFIG.model_copy(update=changes))
    assert str(caught.value).count(".") <= 3


@pytest.mark.parametrize("reduction", [4, 8])
@pytest.mark.parametrize("dim", [8, 9])
def test_any_size_of_what_the_heads_read_will_do(dim: int, reduction: int) -> None:
    batch = utterances()
    scores, phones = net_of(dim=dim, n_phones=3, reduction=reduction).with_phones(batch.inputs, batch.lengths)
    assert scores.shape[:2] == phones.shape[:2]


@pytest.mark.parametrize("reduction", [4, 8])
def test_all_parts_of_a_frame_are_their_own(reduction: int) -> None:
    """One frame of the body becomes two or four of 20 ms that need not say the same."""
    batch, n_parts = utterances(), reduction // 2
    with torch.no_grad():
        scores = net_of(reduction=reduction)(batch.inputs, batch.lengths)
    parts = [scores[:, i::n_parts] for i in range(n_parts)]
    for i in range(n_parts):
        assert all(not torch.allclose(parts[i], parts[j], atol=1e-2) for j in range(i))


@pytest.mark.parametrize(("blocks", "early", "at_full"), [(1, 2, 0), (2, 2, 0), (5, 2, 2), (5, 0, 0), (6, 9, 3)])
def test_blocks_before_the_halving_hear_twice_as_many_frames(blocks: int, early: int, at_full: int) -> None:
    net, batch = net_of(reduction=8, blocks=blocks, early=early), speech(2, 40)
    seen: list[int] = []
    for block in net.blocks:
        block.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[2]))
    net(batch.inputs.float(), batch.lengths)
    assert seen == [10] * at_full + [5] * (blocks - at_full)
