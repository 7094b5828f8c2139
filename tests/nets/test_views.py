"""Views: the same word as other vocal tracts would have said it."""

import numpy as np
import pytest
import torch

from metavox.contracts import Batch
from metavox.nets.views import stretched, tracts


def windows(seed: int = 0) -> torch.Tensor:
    return torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("factor", [0.7, 0.9, 1.0, 1.13, 1.4])
def test_the_mel_axis_is_read_at_other_places_and_its_last_value_goes_on(factor: float) -> None:
    x = windows()
    places = np.arange(16) * factor
    expected = [[np.interp(places, np.arange(16), frame) for frame in item] for item in x.numpy()]
    np.testing.assert_allclose(stretched(x, factor).numpy(), np.asarray(expected), atol=1e-5)


def test_a_factor_of_one_changes_nothing() -> None:
    assert torch.equal(stretched(windows(), 1.0), windows())


def test_a_peak_moves_down_when_the_axis_is_read_further_up() -> None:
    x = torch.zeros(1, 1, 40)
    x[0, 0, 30] = 1
    assert int(stretched(x, 1.2).argmax()) == 25
    assert int(stretched(x, 0.9).argmax()) in {33, 34}


def test_the_first_view_is_the_batch_itself_and_padding_stays_silent() -> None:
    inputs = windows().float()
    inputs[1, 5:] = 0
    batch = Batch(inputs, torch.tensor([9, 5, 9]), torch.tensor([0, 1, 1]), 2)
    first, second = tracts(batch, (1.1,))
    assert first is batch
    assert torch.equal(second.lengths, batch.lengths)
    assert not second.inputs[1, 5:].any()
    assert tracts(batch, ()) == [batch]
