"""The encoder of voices: unit vectors, level does not matter, and every weight learns."""

import pytest
import torch

from metavox.checkpoint import seeded
from metavox.config.voices import VoiceNetConfig
from metavox.contracts import FrontEnd
from metavox.nets.voice import AttentiveStatistics, VoiceNet

SMALL = VoiceNetConfig(front_end=FrontEnd(n_mels=16, crop=False, normalize=False, n_frames=None), channels=4, dim=12)


def frames(n: int = 3, t: int = 40, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(n, t, 16, generator=torch.Generator().manual_seed(seed)) + 8


@pytest.mark.parametrize("time_step", [1, 2])
@pytest.mark.parametrize("t", [8, 40, 131])
def test_any_length_gives_a_unit_vector(t: int, time_step: int) -> None:
    net = seeded(lambda: VoiceNet(SMALL.model_copy(update={"time_step": time_step})), 0)
    found = net(frames(t=t))
    assert found.shape == (3, 12)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


def test_a_clip_is_heard_alike_alone_and_among_others_and_at_any_level() -> None:
    net = seeded(lambda: VoiceNet(SMALL), 0)
    clips = frames()
    torch.testing.assert_close(net(clips)[1:2], net(clips[1:2]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(net(clips + 4.2), net(clips), atol=1e-5, rtol=1e-5)


def test_what_is_far_below_the_loudest_bin_is_not_heard() -> None:
    net = seeded(lambda: VoiceNet(SMALL), 0)
    quiet, quieter = frames(), frames()
    quiet[:, ::2, 3], quieter[:, ::2, 3] = -60.0, -90.0
    torch.testing.assert_close(net(quiet), net(quieter))


def test_every_weight_learns() -> None:
    net = seeded(lambda: VoiceNet(SMALL), 0).train()
    (net(frames()) * torch.randn(3, 12, generator=torch.Generator().manual_seed(2))).sum().backward()
    still = [
        name for name, value in net.named_parameters() if value.grad is None or not bool(value.grad.isfinite().all())
    ]
    assert not still


def test_statistics_are_plain_ones_where_the_attention_is_even() -> None:
    pool = AttentiveStatistics(5, 4)
    torch.nn.init.zeros_(pool.weigh.weight)
    x = torch.randn(2, 5, 30, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([x.mean(2), x.std(2, unbiased=False)], 1)
    torch.testing.assert_close(pool(x), expected, atol=1e-5, rtol=1e-5)
