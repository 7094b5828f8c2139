"""Takes that nobody spoke: one of each voice, unlike each other, fit to be enrolled, the same every time."""

import numpy as np
import pytest

from metavox.contracts import InputError
from metavox.runtime.synthetic_takes import VOICES, synthetic_takes
from metavox.runtime.take_quality import take_findings


@pytest.mark.synth
def test_every_voice_says_the_word_and_no_two_alike() -> None:
    takes = synthetic_takes("lights-on", "en")
    assert len(takes) == len(VOICES)
    for wave, rate_hz in takes:
        assert (wave.dtype, rate_hz) == (np.float32, 16_000)
        assert not [finding for finding in take_findings(wave, rate_hz, "it", "lights-on") if finding.kind != "cut"]
    assert len({len(wave) for wave, _ in takes}) > len(VOICES) // 2
    assert np.array_equal(takes[0][0], synthetic_takes("lights-on", "en")[0][0])


@pytest.mark.synth
def test_a_word_or_language_that_cannot_be_spoken_is_refused() -> None:
    with pytest.raises(InputError, match="no synthetic language 'qqq'"):
        synthetic_takes("yes", "qqq")
    with pytest.raises(InputError):
        synthetic_takes("...", "en")
