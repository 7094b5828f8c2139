"""Word-sized stretches: where pauses are, no longer than a word, the same for the same samples."""

import itertools

import numpy as np
import pytest

from metavox.contracts import FrontEnd
from metavox.data.fragments import LONGEST_S, SHORTEST_S, fragments

FRONT_END = FrontEnd(normalize=False)
RATE = FRONT_END.rate_hz


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def test_a_single_word_is_one_fragment_as_it_is() -> None:
    assert fragments(noise(1.0, 0.1), FRONT_END) == [(0, RATE)]


@pytest.mark.parametrize("silence", [np.zeros(RATE, np.float32), np.zeros(100, np.float32), noise(0.02, 0.1)])
def test_nothing_gives_no_fragment(silence: np.ndarray) -> None:
    assert fragments(silence, FRONT_END) == []


def test_speech_is_cut_at_pauses() -> None:
    words = [noise(0.5, 0.2, 1), noise(0.4, 1e-4), noise(0.6, 0.2, 2), noise(0.4, 1e-4), noise(0.7, 0.2, 3)]
    found = fragments(np.concatenate(words), FRONT_END)
    assert len(found) == 3
    begins = np.cumsum([0] + [len(word) for word in words])[:-1][::2]
    ends = begins + [len(word) for word in words[::2]]
    for (start, end), begin, stop in zip(found, begins, ends, strict=True):
        assert abs(start - begin) < 0.05 * RATE
        assert abs(end - stop) < 0.05 * RATE


@pytest.mark.parametrize("wave", [noise(9.0, 0.1), noise(9.0, 0.1, 5) * np.tile([1, 0.01], 9 * RATE // 2)])
def test_what_has_no_pause_is_cut_to_the_length_of_words(wave: np.ndarray) -> None:
    found = fragments(wave.astype(np.float32), FRONT_END)
    lengths = [(end - start) / RATE for start, end in found]
    assert len(found) > 6
    assert min(lengths) >= SHORTEST_S
    assert max(lengths) <= LONGEST_S
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(found))
    assert found == fragments(wave.astype(np.float32), FRONT_END)
