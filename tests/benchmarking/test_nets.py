"""The networks of the comparison: their size, and that nothing in them looks beyond one example."""

import pytest
import torch

from metavox.benchmarking.nets import N_FRAMES, N_MELS, NETS, build_net


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_tc_resnet8_has_the_66_thousand_parameters_of_its_paper() -> None:
    """Choi et al. 2019, table 2, for 12 words."""
    n = sum(value.numel() for value in build_net("tc_resnet8", 12, generator()).parameters())
    assert 65_000 <= n < 67_000


def test_conv4_has_as_many_parameters_as_its_layers() -> None:
    n = sum(value.numel() for value in build_net("conv4", 5, generator()).parameters())
    kernels = 64 * 9 * (1 + 3 * 64) + 4 * 64
    assert n == kernels + 4 * 2 * 64 + 64 * (N_MELS // 16) * (N_FRAMES // 16) * 5 + 5


@pytest.mark.parametrize("name", NETS)
def test_an_example_is_scored_alike_alone_and_in_a_batch(name: str) -> None:
    net = build_net(name, 5, generator(), torch.float64)
    inputs = torch.randn(3, *NETS[name][1], generator=generator(1), dtype=torch.float64)
    assert net(inputs).shape == (3, 5)
    alone = torch.cat([net(one[None]) for one in inputs])
    assert torch.allclose(net(inputs), alone, rtol=0, atol=1e-12)
    assert torch.equal(net(inputs), net.head(net.body(inputs)))


@pytest.mark.parametrize("name", NETS)
def test_the_seed_decides_the_weights_in_either_precision_and_nothing_global_does(name: str) -> None:
    before = torch.random.get_rng_state()
    first, again, double, other = (
        build_net(name, 5, generator(seed), dtype).state_dict()
        for seed, dtype in ((0, torch.float32), (0, torch.float32), (0, torch.float64), (1, torch.float32))
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert all(torch.equal(value, double[key].float()) for key, value in first.items())
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert all(value.isfinite().all() for value in first.values())
    assert {str(value.dtype) for value in double.values()} == {"torch.float64"}
