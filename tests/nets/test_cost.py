"""What an encoder costs, against counts by hand."""

from typing import Any

import pytest
import torch
from scipy.stats import binom

from metavox.checkpoint import build
from metavox.config import EncoderConfig, ModelConfig
from metavox.contracts import FrontEnd, InputError
from metavox.nets.cost import MIN_RUNS, _ranks_outside, absent_share, cost, latency, macs, n_parameters

T, F, C, K, D = 10, 16, 16, 3, 4
FRONT_END = FrontEnd(n_mels=F, n_frames=T)
SHARED: dict[str, Any] = {"channels": C, "kernel": K, "dim": D, "context": 5, "heads": 2, "cepstra": 0}


def encoder_of(**values: Any) -> Any:
    return build(ModelConfig(front_end=FRONT_END, encoder=EncoderConfig(**{**SHARED, **values}))).encoder


def by_hand(name: str) -> tuple[int, int]:
    """Parameters and multiply-accumulates of two blocks at half the frame rate."""
    half, readout = T // 2, C * D
    if name == "linear":
        return 5 * F * D + D, half * 5 * F * D
    if name == "fc":
        weights = 5 * F * C + C * C + readout
        return weights + 2 * 2 * C + D, half * weights
    if name == "conformer":
        feed_forward, attention = 2 * 4 * C * C, 3 * C * C + C * C
        convolution = C * 2 * C + K * C + C * C
        weights = 2 * (2 * feed_forward + attention + convolution)
        biases = 2 * (2 * (4 * C + C) + C + (2 * C + C)) + 2 * 6 * 2 * C  # six norms a block
        scores = 2 * 2 * half * half * C  # with keys and with values, in two blocks
        stem = F * C * K
        return stem + C + weights + biases + readout + D, half * (stem + weights + readout) + scores
    convolutions = F * C * K + 4 * C * C * K + C * C  # the stem, two blocks, one shortcut
    on_half = convolutions - F * C * K
    parameters, products = convolutions + 5 * 2 * C + readout + D, T * F * C * K + half * (on_half + readout)
    if name == "conv":
        return parameters, products
    gates = 2 * 3 * (C // 2) * (C + C // 2)
    return parameters + gates + 2 * 2 * 3 * (C // 2), products + half * gates


@pytest.mark.parametrize("name", ["linear", "fc", "conv", "conformer", "crnn"])
def test_parameters_and_products_are_those_counted_by_hand(name: str) -> None:
    encoder = encoder_of(name=name, blocks=2)
    assert (n_parameters(encoder), macs(encoder, T)) == by_hand(name)


def test_a_sparse_encoder_counts_what_it_stores() -> None:
    encoder = encoder_of(name="sparse", channels=48, blocks=2)
    fans = [layer.values.shape for layer in (*encoder.body.hidden, encoder.body.project)]
    weights = sum(n_out * fan_in for n_out, fan_in in fans)
    possible = 5 * F * 48 + 48 * 48 + 48 * D
    assert n_parameters(encoder) == weights + 2 * 2 * 48 + D
    assert macs(encoder, T) == T // 2 * weights
    assert absent_share(encoder) == pytest.approx(1 - weights / possible)


def test_cepstra_cost_their_matrix_and_longer_windows_cost_more() -> None:
    assert macs(encoder_of(name="linear", cepstra=1), T) == by_hand("linear")[1] + T * F * 13
    encoder = encoder_of(name="conv", blocks=1)
    assert macs(encoder, 2 * T) == 2 * macs(encoder, T)


def test_everything_about_one_encoder() -> None:
    encoder = encoder_of(name="sparse", channels=48, blocks=2)
    with torch.no_grad():
        encoder.body.project.values[0, 0] = 0
    found = cost(encoder, n_runs=9)
    biases_at_zero = 2 * 48 + D
    assert found.n_frames == T
    assert found.nonzero == found.parameters - biases_at_zero - 1
    n_values = sum(value.numel() for name, value in encoder.named_parameters() if name.endswith("values"))
    assert found.stored_bytes == 4 * (found.parameters + n_values)  # an index beside each value
    assert found.latency.n_runs == 9
    assert 0 < found.latency.low_ms <= found.latency.median_ms <= found.latency.high_ms
    long = encoder_of(name="conv", blocks=1)
    long.front_end = FrontEnd(n_mels=F, n_frames=None)
    assert cost(long, n_runs=6).n_frames == 100
    assert cost(encoder_of(name="linear"), 7, 6).absent == 0


def test_an_encoder_without_parameters_has_a_cost_too() -> None:
    found = cost(encoder_of(name="mfcc"), T, 6)
    assert (found.parameters, found.stored_bytes, found.macs) == (0, 0, T * F * 13)


@pytest.mark.parametrize("n", [*range(MIN_RUNS, 40), 100, 1001])
def test_the_ranks_enclose_the_median_with_95_percent_and_no_more_than_needed(n: int) -> None:
    rank = _ranks_outside(n)
    assert 1 <= rank <= n // 2
    assert 2 * binom.cdf(rank - 1, n, 0.5) <= 0.05
    assert 2 * binom.cdf(rank, n, 0.5) > 0.05


def test_timing_leaves_the_threads_as_they_were_and_refuses_too_few_runs() -> None:
    threads = torch.get_num_threads()
    latency(encoder_of(name="linear"), T, 6)
    assert torch.get_num_threads() == threads
    with pytest.raises(InputError, match=r"^5 runs have no interval; ask for at least 6\.$"):
        latency(encoder_of(name="linear"), T, 5)
