"""A window that is cut closer: where it falls below its loudest, and the same whatever pads it."""

import pytest
import torch

from metavox.contracts import Batch
from metavox.features import DB
from metavox.nets.views import MIN_FRAMES, looks, tightened


def batch(n_frames: int = 40, quiet: tuple[int, int] = (6, 9), seed: int = 0) -> Batch:
    """Four windows that are 40 dB quieter in their first and last frames."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(4, n_frames, 12, generator=generator)
    inputs[:, : quiet[0]] -= 40 * DB
    inputs[:, n_frames - quiet[1] :] -= 40 * DB
    return Batch(inputs, torch.full((4,), n_frames), torch.zeros(4, dtype=torch.int64), 1)


def test_what_is_far_below_the_loudest_is_cut_away_and_the_rest_stretched() -> None:
    given = batch()
    found = tightened(given, 20.0).inputs
    loud = given.inputs[:, 6:31].mean()
    assert found.shape == given.inputs.shape
    # A mean over three frames reaches one frame into the quiet at most.
    assert float((found[:, 1:-1] - loud).abs().amax()) < 40 * DB
    assert float(found[:, 2:-2].mean() - given.inputs.mean()) > 3


def test_nothing_is_cut_where_nothing_is_quiet() -> None:
    given = batch(quiet=(0, 1))
    given.inputs[:, -1] += 40 * DB
    torch.testing.assert_close(tightened(given, 60.0).inputs, given.inputs)


def test_padding_changes_nothing() -> None:
    given = batch()
    padded = torch.cat([given.inputs, torch.full((4, 9, 12), 50.0)], 1)
    found = tightened(Batch(padded, given.lengths, given.labels, 1), 20.0).inputs
    torch.testing.assert_close(found[:, :40], tightened(given, 20.0).inputs)


@pytest.mark.parametrize("n_frames", [2, 5, 9])
def test_short_windows_and_single_loud_frames_keep_enough(n_frames: int) -> None:
    inputs = torch.full((1, n_frames, 12), -40 * DB)
    inputs[:, n_frames // 2] = 0
    given = Batch(inputs, torch.tensor([n_frames]), torch.zeros(1, dtype=torch.int64), 1)
    found = tightened(given, 5.0).inputs
    assert bool(found.isfinite().all())
    if n_frames <= MIN_FRAMES:
        torch.testing.assert_close(found, inputs)


def test_looks_are_the_batch_its_tracts_and_the_closer_cut() -> None:
    given = batch()
    assert len(looks(given)) == 1
    found = looks(given, (0.9, 1.1), 20.0)
    assert len(found) == 4
    torch.testing.assert_close(found[3].inputs, tightened(given, 20.0).inputs)
