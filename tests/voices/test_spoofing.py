"""What the figures of attacks are computed with."""

import numpy as np
import pytest
import spoofing
from voicing import say

from metavox.statistics import clopper_pearson


@pytest.mark.parametrize("hz", [90.0, 140.0, 220.0, 310.0])
def test_pitch_is_that_of_the_harmonics(hz: float) -> None:
    t = np.arange(spoofing.RATE_HZ) / spoofing.RATE_HZ
    wave = sum(np.sin(2 * np.pi * hz * n * t) / n for n in range(1, 8)).astype(np.float32)
    found = spoofing.pitches(wave)
    assert len(found) > 30
    assert np.median(found) == pytest.approx(hz, rel=0.03)
    noise = np.random.default_rng(0).standard_normal(spoofing.RATE_HZ).astype(np.float32)
    assert len(spoofing.pitches(noise)) < 5


@pytest.mark.parametrize("chain", spoofing.CHAINS)
def test_a_replayed_clip_is_as_long_and_another_one(chain: str) -> None:
    wave = say(1)
    out = spoofing.replayed(wave, np.random.default_rng(0), **spoofing.CHAINS[chain])
    assert out.shape == wave.shape
    assert np.abs(out).max() <= 1.2
    assert abs(np.corrcoef(wave, out)[0, 1]) < 0.99


def test_shares_are_of_clips_and_of_owners() -> None:
    found = spoofing.judged([[5.0, -1.0], [-1.0, -2.0], [0.0, 0.0]])
    at = found["accepted"]["0"]
    assert (found["n"], at["share"], at["owners"]) == (6, 0.5, pytest.approx(2 / 3))
    assert at["ci95"] == clopper_pearson(3, 6).ci95
    assert at["owners_ci95"] == clopper_pearson(2, 3).ci95
    assert found["accepted"]["4.6"]["share"] == pytest.approx(1 / 6)


def test_the_paragraph_is_made_of_the_figures_alone() -> None:
    kinds = (
        *("same clip", "synthetic", "pitched", "genuine", "impostor"),
        *(f"{chain}{words}" for chain in spoofing.CHAINS for words in ("", ", other words")),
    )
    trials = {kind: spoofing.judged([[3.0, -3.0], [5.0, 1.0]]) for kind in kinds}
    cosines = {"replayed, near": [0.5, 0.98], "genuine": [0.4, 0.955]}
    about = {"n_owners": 2, "corpus": "made-up", "enrolled_clips": 3, "highest_cosine_with_an_enrolled_clip": cosines}
    text = spoofing.told(about | {"trials": trials})
    assert text.endswith("0.50 to 0.98 for the one and 0.40 to 0.95 for the other.")
    assert text.startswith("This is not a lock")
    assert text.count("75 % (19 to 99)") == len(kinds)
    assert "{" not in text
    assert "\n" not in text
