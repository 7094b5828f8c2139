"""The index of many voices against an exhaustive search, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import said

from metavox.voices import search
from metavox.voices.scoring import unit
from metavox.voices.search import VoiceIndex


def voices(n: int, dim: int, decay: float, seed: int = 0) -> np.ndarray:
    """Unit vectors whose deviation falls along (turned) axes, as those of an encoder's do."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    return unit((rng.standard_normal((n, dim)) * np.exp(-decay * np.arange(dim))) @ turn)


@settings(max_examples=25, deadline=None)
@given(
    n=st.sampled_from([1, 7, 3000, 9000]),
    dim=st.sampled_from([8, 100, 160]),
    decay=st.sampled_from([0.0, 0.02]),
    top=st.sampled_from([1, 10, 50]),
    seed=st.integers(0, 50),
)
def test_the_nearest_are_those_of_an_exhaustive_search(n: int, dim: int, decay: float, top: int, seed: int) -> None:
    vectors = voices(n, dim, decay, seed)
    index = VoiceIndex.of(vectors)
    test = unit(vectors[seed % n] + 0.1 * np.random.default_rng(seed).standard_normal(dim))
    places, cosines = index.nearest(test, top)
    stored = index.whole.astype(np.float32) @ index.turned(test)  # 16 bits: the same but for rounding
    want = np.lexsort((np.arange(n), -stored))[: min(top, n)]
    assert np.allclose(cosines, stored[want], atol=1e-6)
    assert len(set(places.tolist())) == min(top, n)
    assert np.allclose(stored[places], cosines, atol=1e-6)
    assert np.abs(stored - vectors @ test).max() < 1e-3


def test_where_the_first_look_deceives_all_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "STEP_AXES", 4)
    monkeypatch.setattr(search, "MAX_REST", 0.98)
    monkeypatch.setattr(search, "N_CANDIDATES", 3)
    vectors = voices(4000, 64, 0.0)  # no axis is stronger than another: four of them say little
    tests = voices(5, 64, 0.0, seed=1)
    for most in (10, 100_000):
        monkeypatch.setattr(search, "MAX_CANDIDATES", most)
        index = VoiceIndex.of(vectors)
        assert index.coarse.shape[1] == 4
        for test in tests:
            places, _ = index.nearest(test, 10)
            stored = index.whole.astype(np.float32) @ index.turned(test)
            assert set(places.tolist()) == set(np.argsort(-stored)[:10].tolist())


def test_an_index_that_was_saved_finds_the_same(tmp_path: Path) -> None:
    vectors = voices(5000, 96, 0.02)
    index = VoiceIndex.of(vectors)
    index.save(tmp_path / "index")
    again = VoiceIndex.opened(tmp_path / "index")
    assert isinstance(again.whole, np.memmap)
    for test in vectors[:3]:
        for ours, others in zip(again.nearest(test, 20), index.nearest(test, 20), strict=True):
            assert np.array_equal(ours, others)


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    assert "0 voices" in said(lambda: VoiceIndex.of(np.zeros((0, 8), np.float32)))
    assert "finite" in said(lambda: VoiceIndex.of(np.full((3, 8), np.nan, np.float32)))
    index = VoiceIndex.of(voices(50, 16, 0.0))
    assert "1 or more" in said(lambda: index.nearest(voices(1, 16, 0.0)[0], 0))
    index.save(tmp_path)
    VoiceIndex.of(voices(40, 16, 0.0)).save(tmp_path / "other")
    (tmp_path / "rest.npy").write_bytes((tmp_path / "other" / "rest.npy").read_bytes())
    assert "several indices" in said(lambda: VoiceIndex.opened(tmp_path))
    (tmp_path / "rest.npy").write_bytes(b"")
    assert "damaged" in said(lambda: VoiceIndex.opened(tmp_path))
    assert "missing" in said(lambda: VoiceIndex.opened(tmp_path / "nowhere"))
