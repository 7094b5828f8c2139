"""Rooms: the paper's sum written out, closed forms of the direct sound and of the decay."""

from itertools import product

import numpy as np
import pytest
import sounds

from metavox.augment import rooms
from metavox.augment.rooms import Room, draw_room, response, reverberate, stored_response
from metavox.contracts import InputError

HZ = 16_000
SMALL = Room((3.1, 2.7, 2.4), (0.9, 1.3, 1.2), (2.2, 0.8, 1.5), 0.12)


def summed(room: Room, rate_hz: int, n: int) -> np.ndarray:
    """Equation 8 of Allen and Berkley (1979), one image at a time; the direct sound at sample 0 with height 1."""
    out = np.zeros(n)
    beta = room.reflection()
    direct = np.linalg.norm(np.subtract(room.source, room.microphone))
    first = round(direct * rate_hz / 343)
    reach = range(-12, 13)
    for q, j, k in product((0, 1), repeat=3):
        for m in product(reach, reach, reach):
            offset = [
                (1 - 2 * p) * s - r + 2 * i * length
                for p, s, r, i, length in zip((q, j, k), room.source, room.microphone, m, room.size, strict=True)
            ]
            distance = sum(x * x for x in offset) ** 0.5
            at = round(distance * rate_hz / 343) - first
            n_hits = sum(abs(i - p) + abs(i) for i, p in zip(m, (q, j, k), strict=True))
            if at < n:
                out[at] += direct / distance * beta**n_hits
    return out


def test_the_images_are_those_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "_high_passed", lambda response, rate_hz: response)
    ours = response(SMALL, HZ)
    assert ours[0] == pytest.approx(1, rel=1e-6)
    expected = summed(SMALL, HZ, len(ours))
    assert np.count_nonzero(expected) > 500
    np.testing.assert_allclose(ours[:-2], expected[:-2], atol=1e-6)  # the last images round to either side of the end


def decay_s(found: np.ndarray, rate_hz: int) -> float:
    """From -5 to -25 dB of Schroeder's backward integral, times three."""
    energy = np.cumsum(np.square(found[::-1], dtype=np.float64))[::-1]
    level = 10 * np.log10(energy / energy[0])
    return 3 * float((level < -25).argmax() - (level < -5).argmax()) / rate_hz


@pytest.mark.parametrize("seed", range(8))
def test_a_room_decays_about_as_fast_as_asked(seed: int) -> None:
    """Flat rooms decay slower than Eyring's formula says, because sound between far walls meets few of them."""
    room = draw_room(np.random.default_rng(seed), (0.2, 0.6))
    assert 0.85 < decay_s(response(room, HZ), HZ) / room.rt60_s < 1.45


def test_a_room_has_no_offset() -> None:
    found = response(SMALL, HZ).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(found, 1 << 16))
    assert spectrum[0] < 0.05 * spectrum.max()


def test_a_room_of_no_echo_leaves_the_clip_as_it_is() -> None:
    wave = sounds.say("tula")
    np.testing.assert_allclose(reverberate(wave, np.array([0.7], np.float32)), wave, atol=1e-6)


def test_reverberation_is_a_convolution_of_the_same_length_and_power() -> None:
    wave, found = sounds.say("sakko"), response(SMALL, HZ)
    wet = reverberate(wave, found)
    expected = np.convolve(wave.astype(np.float64), found)[: len(wave)]
    expected *= (np.square(wave).mean() / np.square(expected).mean()) ** 0.5
    np.testing.assert_allclose(wet, expected, atol=1e-5)
    assert wet.dtype == np.float32
    assert not np.allclose(wet, wave, atol=0.01)
    assert not reverberate(np.zeros(400, np.float32), found).any()


def test_rooms_of_a_seed_stay_and_cannot_be_written_to() -> None:
    once = stored_response(3, 1, HZ, (0.2, 0.4))
    np.testing.assert_array_equal(response(draw_room(np.random.default_rng([3, 1]), (0.2, 0.4)), HZ), once)
    assert not np.array_equal(stored_response(3, 2, HZ, (0.2, 0.4))[:100], once[:100])
    assert not once.flags.writeable


def test_rooms_that_cannot_be_are_refused() -> None:
    for size, source, microphone, rt60_s, said in (
        (3.0, 1.0, 2.0, 5.0, r"A decay of 5 s for 60 dB is out of range; give 0\.05 to 2 s"),
        (3.0, 1.0, 2.0, float("nan"), "is out of range"),
        (3.0, 4.0, 2.0, 0.3, "The source at .* is not inside the room"),
        (3.0, 1.0, 3.0, 0.3, "The microphone at .* is not inside the room"),
        (3.0, 1.0, 1.0, 0.3, "are both at"),
    ):
        with pytest.raises(InputError, match=said):
            Room((size,) * 3, (1.0, source, 1.0), (1.0, microphone, 1.0), rt60_s)
