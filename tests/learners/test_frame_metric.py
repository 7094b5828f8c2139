"""The metric of frames: what changes within a moment counts less, what tells words apart counts more."""

import numpy as np
import pytest
import torch

from metavox.learners.frame_metric import Moments, frame_metric, gather_moments
from metavox.nets.alignment import dtw_moments, dtw_similarity


def pairs_of_words(n_words: int = 40, noise: float = 0.6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two takes each of words of 12 frames in 6 dimensions, where the first two are said and the last two are voice."""
    rng = np.random.default_rng(seed)
    said = np.concatenate([rng.standard_normal((n_words, 12, 4)), np.zeros((n_words, 12, 2))], 2)
    takes = np.repeat(said, 2, axis=0)
    takes[:, :, 4:] += 3 * rng.standard_normal((2 * n_words, 1, 2))  # the same all through a take
    takes += 0.05 * noise * rng.standard_normal(takes.shape)
    pairs = torch.arange(2 * n_words).reshape(-1, 2)
    return torch.nn.functional.normalize(torch.from_numpy(takes).float(), dim=-1), pairs


def test_moments_are_those_of_the_best_path() -> None:
    takes, pairs = pairs_of_words(5)
    lengths = torch.tensor([12, 9, 12, 12, 7, 12, 10, 11, 12, 12])
    one, other = pairs.unbind(1)
    weights = dtw_moments(takes[one], lengths[one], takes[other], lengths[other])
    gain = torch.einsum("ptd,pud->ptu", takes[one], takes[other])
    along = (gain * weights).sum((1, 2)) / (lengths[one] + lengths[other])
    among = dtw_similarity(takes, lengths, takes, lengths)
    torch.testing.assert_close(along, among[one, other])
    torch.testing.assert_close(weights.sum((1, 2)), (lengths[one] + lengths[other]).float())


def test_sums_over_parts_are_the_sums_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    takes, pairs = pairs_of_words()
    lengths = torch.full((len(takes),), 12)
    whole = gather_moments([(takes, lengths, pairs)])
    monkeypatch.setattr("metavox.learners.frame_metric._PAIRS_AT_ONCE", 7)
    parts = gather_moments([(takes, lengths, pairs)])
    torch.testing.assert_close(whole.within, parts.within)
    assert whole.n_within == parts.n_within


def test_what_a_voice_changes_counts_less_and_words_are_told_apart_better() -> None:
    takes, pairs = pairs_of_words()
    lengths = torch.full((len(takes),), 12)
    found = frame_metric(gather_moments([(takes, lengths, pairs)]), kept=3)
    torch.testing.assert_close(found, found.T)
    weights = (found @ found).diagonal()
    assert weights[:4].min() > 1.2 * weights[4:].max()
    assert bool((torch.linalg.eigvalsh(found.double()) > 0.99).all())  # a direction counts at least as it is

    new, _ = pairs_of_words(seed=1)

    def n_right(frames: torch.Tensor) -> int:
        similarity = dtw_similarity(frames, lengths, frames, lengths).fill_diagonal_(-9)
        return int((similarity.argmax(1) == torch.arange(len(frames)).reshape(-1, 2).flip(1).flatten()).sum())

    assert n_right(torch.nn.functional.normalize(new @ found, dim=-1)) > n_right(new)


def test_it_is_the_analysis_of_scipy() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    takes, pairs = pairs_of_words()
    moments = gather_moments([(takes, torch.full((len(takes),), 12), pairs)], every=1)
    found = frame_metric(moments, kept=2).double()
    within = (moments.within / (2 * moments.n_within)).numpy()
    within = within + 0.03 * np.trace(within) / 6 * np.eye(6)
    spread = np.cov(torch.cat(moments.frames).double().numpy().T)
    _, vectors = linalg.eigh(spread, within)  # vectors.T @ within @ vectors = 1
    inner = vectors[:, -2:] @ vectors[:, -2:].T
    inner = np.eye(6) + 2 * inner / np.trace(inner)
    np.testing.assert_allclose((found @ found).numpy(), inner, atol=1e-5)


def test_frames_that_never_differ_change_nothing() -> None:
    frames = torch.nn.functional.normalize(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    within = torch.eye(4, dtype=torch.float64)
    found = frame_metric(Moments(within, 10.0, [frames]), kept=4)
    assert bool(found.isfinite().all())
