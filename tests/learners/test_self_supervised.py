"""Learning to guess what was blanked: what is blanked, what is asked, and that no text and no padding has a say."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_cases import double, net_of, utterances, wider
from torch import Tensor, nn

from metavox.checkpoint import seeded
from metavox.contracts import InputError
from metavox.learners.self_supervised import Masking, blanked, masked_gradient, masked_loss
from metavox.nets.recogniser import Recogniser

MASKING = Masking(0.3, 6)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def body_of(net: Recogniser) -> Any:
    return lambda inputs, lengths: net.hidden(inputs, lengths)[0].transpose(1, 2)


def guess_of(net: Recogniser, seed: int = 3) -> nn.Linear:
    return seeded(lambda: nn.Linear(net.config.channels, net.config.reduction * 12), seed).double()


# ------------------------------------------------------------------------------------------------- what is blanked


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    share=st.floats(0.05, 0.9),
    width=st.integers(1, 30),
    more=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_stretches_are_blanked_within_the_utterance_and_nothing_else_changes(
    lengths: list[int], share: float, width: int, more: int, seed: int
) -> None:
    inputs = torch.randn(len(lengths), max(lengths), 3, generator=drawn(1), dtype=torch.float64)
    counts, masking = torch.tensor(lengths), Masking(share, width)
    found, blank = blanked(inputs, counts, masking, drawn(seed))
    wide = torch.nn.functional.pad(inputs, (0, 0, 0, more), value=1e3)
    again, blank_again = blanked(wide, counts, masking, drawn(seed))
    for row, length in enumerate(lengths):
        own = blank[row, :length]
        assert not bool(blank[row, length:].any())
        torch.testing.assert_close(found[row, :length][~own], inputs[row, :length][~own], rtol=0, atol=0)
        torch.testing.assert_close(again[row, :length], found[row, :length])
        assert torch.equal(blank_again[row, :length], own)
        w = min(width, length // 2)
        assert int(own.sum()) <= w * max(1, round(share * length / max(w, 1)))
        assert bool(own.any()) == (length > 1)
        if bool(own.any()) and not bool(own.all()):
            mean = inputs[row, :length][~own].mean(0)
            torch.testing.assert_close(found[row, :length][own], mean.expand(int(own.sum()), 3))


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.0}, {"n_frames": 0}])
def test_masking_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="give a share between 0 and 1 and 1 frame or more"):
        Masking(**wrong)


# --------------------------------------------------------------------------------------------------- what is asked


def loss_by_hand(net: Recogniser, guess: nn.Linear, inputs: Tensor, lengths: Tensor, seed: int) -> Tensor:
    """Frame by frame: the body hears the blanked utterance alone, and each blanked bin is compared."""
    heard, blank = blanked(inputs, lengths, MASKING, drawn(seed))
    terms = []
    for row, length in enumerate(lengths.tolist()):
        frames = net.hidden(heard[row : row + 1, :length], lengths[row : row + 1])[0][0]
        own = inputs[row, :length]
        normal = (own - own.mean(0)) / (own.var(0, unbiased=False) + 1e-2).sqrt()
        for t in range(length):
            if blank[row, t]:
                r = net.config.reduction
                first = (t % r) * 12
                said = guess.weight[first : first + 12] @ frames[:, t // r] + guess.bias[first : first + 12]
                gap = (said - normal[t]).abs()
                terms.append(torch.where(gap < 1, gap.square() / 2, gap - 0.5))
    return torch.cat(terms).mean()


@pytest.mark.parametrize("reduction", [4, 8])
def test_the_loss_is_that_of_loops_and_its_gradient_that_of_autograd(reduction: int) -> None:
    net, batch = net_of(reduction=reduction).double(), double(utterances(3))
    guess = guess_of(net)
    parameters = {**dict(net.named_parameters()), "guess.weight": guess.weight, "guess.bias": guess.bias}
    found, loss = masked_gradient(parameters, body_of(net), guess, batch.inputs, batch.lengths, MASKING, drawn(4))
    expected = loss_by_hand(net, guess, batch.inputs, batch.lengths, 4)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-10)
    grads = torch.autograd.grad(expected, list(parameters.values()), allow_unused=True)
    wanted = {name: grad for name, grad in zip(parameters, grads, strict=True) if grad is not None}
    assert set(found) == set(wanted)
    assert not any(name.startswith(("head", "widen", "norm.")) for name in found)  # what spells is not taught
    for name, grad in wanted.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-8, atol=1e-11, msg=name)


def test_padding_and_texts_have_no_say() -> None:
    net, batch = net_of().double(), double(utterances(3))
    guess, parameters = guess_of(net), dict(net.named_parameters())
    other = wider(batch, 7, garbage=True)
    found, again = (
        masked_gradient(parameters, body_of(net), guess, one.inputs, one.lengths, MASKING, drawn())
        for one in (batch, other)
    )
    assert found[1] == pytest.approx(again[1], rel=1e-10)
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, again[0][name], rtol=1e-8, atol=1e-11)


def test_a_body_that_drops_the_last_frames_is_asked_of_the_others() -> None:
    inputs, lengths = torch.randn(2, 11, 3, generator=drawn()), torch.tensor([11, 9])
    blank = torch.ones(2, 11, dtype=torch.bool)
    guess = seeded(lambda: nn.Linear(5, 4 * 3), 0)
    frames = torch.randn(2, 2, 5, generator=drawn(2))  # of 8 input frames
    found, same = (masked_loss(frames, guess, inputs, lengths, b) for b in (blank, blank & (torch.arange(11) < 8)))
    assert torch.equal(found, same)


def test_it_learns() -> None:
    net, batch = net_of(), utterances(12)
    guess = guess_of(net).float()
    values = {**dict(net.named_parameters()), "guess.weight": guess.weight, "guess.bias": guess.bias}
    optimizer, losses = torch.optim.AdamW(list(values.values()), lr=1e-2), []
    for step in range(60):
        found, loss = masked_gradient(values, body_of(net), guess, batch.inputs, batch.lengths, MASKING, drawn(step))
        for name, value in values.items():
            value.grad = found.get(name)
        optimizer.step()
        losses.append(loss)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
