"""A temporal block against one written with plain loops, and what it must not look at."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from metavox.checkpoint import seeded
from metavox.nets.temporal import Adapter, ChannelNorm, TemporalBlock

CHANNELS = 8


def block_of(condition: int = 0, adapter: int = 0, seed: int = 0, squeeze: bool = True) -> TemporalBlock:
    """Everything drawn at random, the adapter too."""
    block = seeded(lambda: TemporalBlock(CHANNELS, 3, condition, adapter, squeeze), seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in block.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator, dtype=torch.float64))
    return block


def frames(n_items: int = 2, n_frames: int = 7, seed: int = 1) -> Tensor:
    return torch.randn(n_items, CHANNELS, n_frames, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def norm_by_hand(frame: Tensor, weight: Tensor) -> Tensor:
    return frame / (frame.square().mean() + 1e-5).sqrt() * weight


def block_by_hand(block: TemporalBlock, x: Tensor, n_valid: int, encoding: Tensor | None = None) -> Tensor:
    """One item (C, T), frame by frame; what is beyond ``n_valid`` is not even there."""
    x = x[:, :n_valid]
    excited = torch.stack([functional.gelu(norm_by_hand(x[:, t], block.norm.weight)) for t in range(n_valid)], 1)
    hidden = torch.zeros_like(x)
    for t in range(n_valid):
        hidden[:, t] = block.conv.bias
        for k in range(3):
            if 0 <= t + k - 1 < n_valid:
                hidden[:, t] = hidden[:, t] + block.conv.weight[:, :, k] @ excited[:, t + k - 1]
    if block.squeeze is None:
        gate = block.gain
    else:
        squeezed = block.squeeze.weight @ hidden.mean(1) + block.squeeze.bias
        if encoding is not None:
            squeezed = squeezed + block.condition.weight @ encoding
        gate = torch.sigmoid(block.excite.weight @ functional.gelu(squeezed) + block.excite.bias)
    out = x + hidden * gate[:, None]
    if block.adapter is not None:
        down, up = block.adapter.down, block.adapter.up
        for t in range(n_valid):
            inner = down.weight[:, :, 0] @ norm_by_hand(out[:, t], block.adapter.norm.weight) + down.bias
            out[:, t] = out[:, t] + up.weight[:, :, 0] @ functional.gelu(inner) + up.bias
    return out


@pytest.mark.parametrize(
    ("condition", "adapter", "squeeze"), [(0, 0, True), (5, 0, True), (0, 3, True), (5, 3, True), (0, 3, False)]
)
def test_a_block_is_the_one_written_by_hand_and_padding_is_zero(condition: int, adapter: int, squeeze: bool) -> None:
    block, lengths = block_of(condition, adapter, squeeze=squeeze), [7, 4]
    x = frames()
    x[1, :, 4:] = 0
    mask = (torch.arange(7) < torch.tensor(lengths)[:, None]).double()
    encoding = torch.linspace(-1, 1, 5, dtype=torch.float64) if condition else None
    with torch.no_grad():
        found = block(x, mask, encoding)
        for i, n in enumerate(lengths):
            # The norm of a frame of zeros is zero, so that padding reaches the convolution as the edge does.
            torch.testing.assert_close(found[i, :, :n], block_by_hand(block, x[i], n, encoding), rtol=1e-12, atol=1e-12)
            assert not bool(found[i, :, n:].any())


def test_a_block_that_can_hear_an_encoding_does_without() -> None:
    block, x, mask = block_of(condition=5), frames(), torch.ones(2, 7, dtype=torch.float64)
    with torch.no_grad():
        silent, spoken = block(x, mask), block(x, mask, torch.ones(5, dtype=torch.float64))
        torch.testing.assert_close(silent, block(x, mask, torch.zeros(5, dtype=torch.float64)))
    assert not torch.allclose(silent, spoken, atol=1e-3)


@pytest.mark.parametrize("squeeze", [True, False])
def test_channels_that_are_left_out_add_nothing_and_the_others_more(squeeze: bool) -> None:
    block, x, mask = block_of(squeeze=squeeze), frames(), torch.ones(2, 7, dtype=torch.float64)
    kept = torch.ones(2, CHANNELS, dtype=torch.bool)
    with torch.no_grad():
        whole = block(x, mask)
        torch.testing.assert_close(block(x, mask, None, kept), whole)
        kept[0, :3] = kept[1, 4] = False
        found = block(x, mask, None, kept)
    for i in range(2):
        for c in range(CHANNELS):
            added = (whole - x)[i, c] * 16 / 12 if kept[i, c] else torch.zeros(7, dtype=torch.float64)
            torch.testing.assert_close((found - x)[i, c], added)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_frame_is_brought_to_unit_power_and_looks_at_no_other(dtype: torch.dtype) -> None:
    norm = ChannelNorm(CHANNELS).to(dtype)
    x = 3 * frames().to(dtype)
    found = norm(x)
    assert found.dtype == dtype
    expected = x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(found, expected, rtol=1e-6 if dtype == torch.float32 else 1e-14, atol=0)
    changed = x.clone()
    changed[:, :, 3] += 5
    others = [t for t in range(7) if t != 3]
    assert torch.equal(norm(changed)[:, :, others], found[:, :, others])


def test_the_power_of_low_precision_is_summed_in_single() -> None:
    """256 and 1 cannot be added in bfloat16: summed there, the power of many small values would be lost."""
    x = torch.full((1, 512, 1), 0.1)
    x[0, 0] = 16.0
    found = ChannelNorm(512)(x.bfloat16()).float()
    expected = ChannelNorm(512)(x.bfloat16().float())
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=0)


def test_an_adapter_changes_nothing_before_it_has_learned() -> None:
    adapter = seeded(lambda: Adapter(CHANNELS, 3), 0).double()
    assert not bool(adapter(frames()).any())
    with torch.no_grad():
        adapter.up.weight[0, 0] = 1
    assert bool(adapter(frames())[:, 0].any())
    plain, with_adapter = (seeded(lambda a=a: TemporalBlock(CHANNELS, 3, adapter=a), 0).double() for a in (0, 3))
    with_adapter.load_state_dict(plain.state_dict(), strict=False)
    mask = torch.ones(2, 7, dtype=torch.float64)
    assert torch.equal(plain(frames(), mask), with_adapter(frames(), mask))


@settings(max_examples=25, deadline=None)
@given(n_valid=st.integers(1, 9), n_more=st.integers(0, 5), seed=st.integers(0, 99))
def test_more_padding_changes_nothing(n_valid: int, n_more: int, seed: int) -> None:
    block, x = block_of(adapter=3), frames(1, n_valid, seed)
    with torch.no_grad():
        alone = block(x, torch.ones(1, n_valid, dtype=torch.float64))
        mask = functional.pad(torch.ones(1, n_valid, dtype=torch.float64), (0, n_more))
        padded = block(functional.pad(x, (0, n_more)), mask)
    torch.testing.assert_close(padded[:, :, :n_valid], alone, rtol=1e-12, atol=1e-12)


def test_without_a_squeeze_a_frame_hears_its_neighbours_and_no_further() -> None:
    with torch.no_grad():
        for squeeze, reach in ((False, [2, 3, 4]), (True, list(range(7)))):
            block, x, mask = block_of(squeeze=squeeze), frames(1), torch.ones(1, 7, dtype=torch.float64)
            other = x.clone()
            other[:, :, 3] += torch.linspace(-3, 3, CHANNELS)
            changed = (block(x, mask) - block(other, mask)).abs().amax((0, 1)) > 0
            assert changed.nonzero().flatten().tolist() == reach


def test_derivatives_of_both_orders_are_those_of_finite_differences() -> None:
    block, mask = block_of(condition=5, adapter=3), torch.ones(1, 5, dtype=torch.float64)
    mask[0, 4] = 0
    x = (frames(1, 5) * mask).requires_grad_()
    encoding = torch.linspace(-1, 1, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, e: block(x, mask, e), (x, encoding))
    assert torch.autograd.gradgradcheck(lambda x, e: block(x, mask, e).square().sum(), (x, encoding))


# ------------------------------------------------------------------------------------------------- gains and shifts


@pytest.mark.parametrize("squeeze", [True, False])
def test_an_encoding_may_be_heard_as_a_gain_and_a_shift(squeeze: bool) -> None:
    block = seeded(lambda: TemporalBlock(CHANNELS, 3, 5, 0, squeeze, True), 0).double()
    plain = seeded(lambda: TemporalBlock(CHANNELS, 3, 0, 0, squeeze), 0).double()
    plain.load_state_dict({name: value for name, value in block.state_dict().items() if "condition" not in name})
    x, mask = frames(), torch.ones(2, 7, dtype=torch.float64)
    encoding = torch.linspace(-1, 1, 5, dtype=torch.float64)
    gain, shift = block.condition.weight[:CHANNELS] @ encoding, block.condition.weight[CHANNELS:] @ encoding
    with torch.no_grad():
        silent = plain(x, mask)
        torch.testing.assert_close(block(x, mask), silent, rtol=0, atol=0)
        torch.testing.assert_close(block(x, mask, torch.zeros(5, dtype=torch.float64)), silent, rtol=0, atol=0)
        plain.conv.weight.mul_(1 + gain[:, None, None])
        plain.conv.bias.mul_(1 + gain).add_(shift)
        torch.testing.assert_close(block(x, mask, encoding), plain(x, mask), rtol=1e-12, atol=1e-12)


def test_a_shift_does_not_reach_the_padding() -> None:
    block = seeded(lambda: TemporalBlock(CHANNELS, 3, 5, 2, False, True), 0).double()
    x, mask = frames(), torch.ones(2, 7, dtype=torch.float64)
    mask[1, 4:] = 0
    x = x * mask[:, None]
    encoding = torch.ones(5, dtype=torch.float64)
    with torch.no_grad():
        found = block(x, mask, encoding)
        assert not bool(found[1, :, 4:].any())
        torch.testing.assert_close(found[1:, :, :4], block(x[1:, :, :4], mask[1:, :4], encoding))
