"""Where speech is in noise: where it was put, whatever the colour of the noise; and the noise taken away."""

import numpy as np
import pytest
import sounds

from metavox.augment.wave import coloured_noise, mix
from metavox.contracts import FrontEnd, InputError, Place
from metavox.features import log_mel, speech_bounds
from metavox.runtime.noise_bounds import place_in, speech_bounds_in, speech_in, without_noise

FRONT_END = FrontEnd(n_mels=40, normalize=False)
RATE = sounds.RATE_HZ


def noise(colour: str, seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.float32(0.01) * coloured_noise(round(seconds * RATE), colour, rng)


def place(colour: str) -> Place:
    return place_in(log_mel(noise(colour, 3.0, 1), FRONT_END), FRONT_END, 3.0)


def in_noise(word: str, colour: str, snr_db: float, before_s: float = 0.5) -> tuple[np.ndarray, tuple[int, int]]:
    """Frames of a word in noise as loud as ``place``, and where it was put, in frames."""
    wave = sounds.say(word)
    start, end = speech_bounds(log_mel(wave, FRONT_END), FRONT_END)
    first = round(before_s * RATE)
    padded = np.pad(wave, (first, round(0.4 * RATE)))
    span = (first, first + len(wave))
    mixed = mix(padded, RATE, noise(colour, 4.0, 2), RATE, snr_db, np.random.default_rng(3), span=span)
    mixed = mixed * np.float32(0.01 / np.sqrt(np.mean(np.square(mixed - padded))))
    shift = first // FRONT_END.hop_samples
    return log_mel(mixed, FRONT_END), (start + shift, end + shift)


@pytest.mark.parametrize("known", [False, True], ids=["anywhere", "place"])
@pytest.mark.parametrize("colour", ["white", "pink", "brown"])
@pytest.mark.parametrize("snr_db", [15.0, 8.0])
def test_a_word_is_found_in_noise(colour: str, snr_db: float, known: bool) -> None:
    errors = []
    for word in sounds.WORDS[:6]:
        frames, (start, end) = in_noise(word, colour, snr_db)
        found = speech_bounds_in(frames, FRONT_END, place(colour) if known else None)
        errors += [abs(found[0] - start), abs(found[1] - end)]
    assert np.mean(errors) < 9  # frames of 10 ms, of a word of 40


def test_the_bounds_for_quiet_clips_would_keep_the_noise() -> None:
    frames, _ = in_noise("tula", "pink", 8.0)
    assert speech_bounds(frames, FRONT_END) == (0, len(frames))


def test_a_quiet_clip_is_cropped_about_as_without_noise() -> None:
    for word in sounds.WORDS[:6]:
        values = log_mel(sounds.say(word), FRONT_END)
        for where in (None, place("pink")):
            assert (
                np.abs(np.subtract(speech_bounds_in(values, FRONT_END, where), speech_bounds(values, FRONT_END))).max()
                < 12
            )


def test_a_place_that_went_quiet_takes_nothing_away() -> None:
    values = log_mel(sounds.say("rime"), FRONT_END)
    peak = values.max()
    loud = values > peak - 7
    assert np.abs(without_noise(values, FRONT_END, place("pink")) - values)[loud].max() < 0.1


def test_noise_is_lowered_and_the_word_stays() -> None:
    frames, (start, end) = in_noise("tula", "pink", 15.0)
    less = without_noise(frames, FRONT_END, place("pink"))
    gone = frames - less
    assert (gone >= -1e-5).all()
    assert gone.max() <= np.log(10) + 1e-4
    assert gone[: start - 10].mean() > 1.2
    word = slice(start, end)
    assert np.exp(less[word]).sum() > 0.75 * np.exp(frames[word]).sum()


def test_gaps_of_a_recording_are_no_place() -> None:
    wave = noise("pink", 2.0)
    gappy = np.concatenate([wave[:RATE], np.zeros(RATE, np.float32), wave[RATE:]])
    one = place_in(log_mel(wave, FRONT_END), FRONT_END, 2.0)
    other = place_in(log_mel(gappy, FRONT_END), FRONT_END, 3.0)
    assert np.abs(np.subtract(one.power_db, other.power_db)).max() < 0.6
    assert abs(one.low_db - other.low_db) < 1
    with pytest.raises(InputError, match="without its gaps"):
        place_in(log_mel(wave[:2000], FRONT_END), FRONT_END, 0.1)


@pytest.mark.parametrize("where", [None, "white"])
def test_any_clip_gives_frames(where: str | None) -> None:
    rng = np.random.default_rng(0)
    known = None if where is None else place(where)
    clips = [
        noise("white", 0.03), noise("brown", 0.5), np.float32(0.3) * np.ones(4000, np.float32),
        np.sign(rng.standard_normal(8000)).astype(np.float32), np.zeros(3000, np.float32),
    ]  # fmt: skip
    for clip in clips:
        values = log_mel(clip, FRONT_END)
        start, end = speech_bounds_in(values, FRONT_END, known)
        assert 0 <= start < end <= len(values)
        assert np.isfinite(speech_in(values, FRONT_END, known)).all()


def test_a_front_end_that_does_not_crop_keeps_all() -> None:
    values = log_mel(sounds.say("tula"), FRONT_END)
    assert len(speech_in(values, FrontEnd(crop=False), None)) == len(values)
