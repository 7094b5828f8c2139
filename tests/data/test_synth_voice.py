"""The process that speaks: what it says of the times of its words."""

import base64
from typing import Any

import numpy as np
import pytest

from metavox.contracts import InputError
from metavox.data.synth_process import Voice

pytestmark = pytest.mark.synth
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def voice():
    pytest.importorskip("espeakng_loader")
    with Voice() as voice:
        yield voice


def take(text: str, voice: str = "en-us", rate_wpm: int = 150) -> dict[str, Any]:
    return {"voice": voice, "text": text, "rate_wpm": rate_wpm, "pitch": 50, "pitch_range": 50}


def timed(voice: Voice, *takes: dict[str, Any]) -> list[tuple[np.ndarray, list[tuple[int, float]]]]:
    reply = voice.ask({"do": "timed", "takes": list(takes)}, "speaking")
    return [(np.frombuffer(base64.b64decode(row["pcm"]), "<i2"), row["words"]) for row in reply["takes"]]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en-us", "zero three five one"),
        ("de", "die süße Straße"),
        ("ml", "പാലം കടക്കുവോളം നാരായണ"),  # combining marks: positions count characters, not bytes
    ],
)
def test_words_start_where_they_stand_in_the_text_one_after_the_other(voice, code, text):
    ((sound, words),) = timed(voice, take(text, code))
    places = [place for place, _ in words]
    assert places == [0, *(i + 1 for i, char in enumerate(text) if char == " ")]
    starts = [start for _, start in words]
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] < len(sound) / RATE_HZ


def test_a_word_starts_when_what_stands_before_it_has_been_said(voice):
    """The time of an event against the sound itself: a comma is a silence, and the word after it ends that silence."""
    text = "papa, papa"
    ((sound, words),) = timed(voice, take(text))
    assert [place for place, _ in words] == [0, 6]
    loud = np.flatnonzero(np.abs(sound.astype(int)) > 300)
    gap = np.diff(loud).argmax()
    assert words[1][1] == pytest.approx(loud[gap + 1] / RATE_HZ, abs=0.06)


def test_a_slower_voice_says_its_words_later(voice):
    (_, fast), (_, slow) = timed(voice, take("zero three five", rate_wpm=240), take("zero three five", rate_wpm=120))
    assert all(late > 1.3 * early for (_, early), (_, late) in zip(fast[1:], slow[1:], strict=True))


def test_the_times_of_words_do_not_depend_on_what_was_said_before(voice):
    first = timed(voice, take("zero three five", "en-us+f3"))
    timed(voice, take("something else entirely", "de+m3"))
    again = timed(voice, take("zero three five", "en-us+f3"))
    np.testing.assert_allclose(again[0][1], first[0][1], atol=0.005)  # the sound flutters, and so do its trimmed ends


def test_a_text_that_is_not_audible_gives_no_takes_and_the_process_lives_on(voice):
    assert timed(voice, take("three"), take("...")) == []
    assert len(timed(voice, take("three"))) == 1


def test_an_unknown_variant_is_refused(voice):
    with pytest.raises(InputError, match="no variant 'nobody'"):
        timed(voice, take("three", "en-us+nobody"))
