"""Simulated rooms: the image-source method of Allen and Berkley (1979), and reverberation by its responses."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from ..contracts import InputError

SOUND_M_PER_S = 343.0
HIGH_PASS_HZ = 50.0
"""All images add up at low frequencies, which no room does; Allen and Berkley take them away too."""
KEPT_DB = 50.0
"""A response ends where it has decayed by this much."""
RT60_LIMITS_S = (0.05, 2.0)
WALL_M = 0.3
"""Nobody speaks or listens closer to a wall, or to the other."""

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Room:
    """A shoebox with one corner at the origin, in metres. All walls reflect the same."""

    size: Point
    source: Point
    microphone: Point
    rt60_s: float

    def __post_init__(self) -> None:
        low, high = RT60_LIMITS_S
        if not low <= self.rt60_s <= high:
            raise InputError(f"A decay of {self.rt60_s:g} s for 60 dB is out of range; give {low:g} to {high:g} s.")
        for point, who in ((self.source, "source"), (self.microphone, "microphone")):
            if not all(0 < at < length for at, length in zip(point, self.size, strict=True)):
                raise InputError(f"The {who} at {point} m is not inside the room of {self.size} m; move it inside.")
        if self.source == self.microphone:
            raise InputError(f"Source and microphone are both at {self.source} m; move one of them.")

    def reflection(self) -> float:
        """Pressure that a wall gives back, by Eyring (1930): (1 - a)^(1/2), 1 - a = exp(-24 ln 10 V / (c S RT60))."""
        x, y, z = self.size
        volume, surface = x * y * z, 2 * (x * y + y * z + x * z)
        return float(np.exp(-12 * np.log(10) * volume / (SOUND_M_PER_S * surface * self.rt60_s)))


def draw_room(rng: np.random.Generator, rt60_s: tuple[float, float]) -> Room:
    """A living room to a small hall: 3 to 8 by 3 to 8 by 2.4 to 3.5 m, both anywhere at a height of 1 to 1.8 m."""
    size = rng.uniform([3, 3, 2.4], [8, 8, 3.5])
    while True:
        source, microphone = (
            np.array([*rng.uniform(WALL_M, size[:2] - WALL_M), rng.uniform(1, 1.8)]) for _ in range(2)
        )
        if np.linalg.norm(source - microphone) >= WALL_M:
            decay_s = float(rng.uniform(*rt60_s))
            return Room(_point(size), _point(source), _point(microphone), decay_s)


def _point(values: np.ndarray) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z


def response(room: Room, rate_hz: int) -> Float[np.ndarray, " R"]:
    """Impulse response from source to microphone, float32, from the direct sound (which is 1) on.

    Each image of the source, mirrored any number of times at each of the six walls, adds beta^(number of reflections) /
    (4 pi distance) at the nearest sample of its delay (Allen and Berkley 1979, equations 8 to 10); then a high pass
    of 50 Hz. Images are left out once the decay has reached 50 dB.
    """
    beta = room.reflection()
    direct_m = float(np.linalg.norm(np.subtract(room.source, room.microphone)))
    reach_m = direct_m + SOUND_M_PER_S * room.rt60_s * KEPT_DB / 60
    axes = [
        _images(length, source, microphone, reach_m)
        for length, source, microphone in zip(room.size, room.source, room.microphone, strict=True)
    ]
    (x, n_x), (y, n_y), (z, n_z) = axes
    per_m = rate_hz / SOUND_M_PER_S
    first = round(direct_m * per_m)
    out = np.zeros(round(reach_m * per_m) - first + 1)
    flat, n_flat = (x[:, None] ** 2 + y**2).ravel(), (n_x[:, None] + n_y).ravel()
    order = np.argsort(flat)
    flat, n_flat = flat[order], n_flat[order]
    for height, n_high in zip(z, n_z, strict=True):  # one layer of images at a time: memory stays small
        n_near = int(np.searchsorted(flat, reach_m**2 - height**2))
        distance = np.sqrt(flat[:n_near] + height**2)
        delay = np.maximum(np.rint(distance * per_m).astype(np.int64) - first, 0)
        out += np.bincount(delay, beta ** (n_flat[:n_near] + n_high) / (4 * np.pi * distance), len(out))[: len(out)]
    return (_high_passed(out, rate_hz) * (4 * np.pi * direct_m)).astype(np.float32)


def _images(length: float, source: float, microphone: float, reach_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances along one axis from the microphone to each image, and how often each was reflected."""
    m = np.arange(-int(reach_m / (2 * length)) - 1, int(reach_m / (2 * length)) + 2)
    straight, mirrored = 2 * m * length + source - microphone, 2 * m * length - source - microphone
    return np.concatenate([straight, mirrored]), np.concatenate([2 * np.abs(m), np.abs(m - 1) + np.abs(m)])


def _high_passed(response: np.ndarray, rate_hz: int) -> np.ndarray:
    """First order, without the part that would come before the direct sound."""
    n_fft = 1 << (2 * len(response) + rate_hz // 10).bit_length()
    s = 1j * np.fft.rfftfreq(n_fft, 1 / rate_hz) / HIGH_PASS_HZ
    return np.fft.irfft(np.fft.rfft(response, n_fft) * (s / (1 + s)), n_fft)[: len(response)]


@lru_cache(maxsize=512)
def stored_response(seed: int, number: int, rate_hz: int, rt60_s: tuple[float, float]) -> Float[np.ndarray, " R"]:
    """Response ``number`` of the rooms that belong to a seed; computed once, not to be written to."""
    found = response(draw_room(np.random.default_rng([seed, number]), rt60_s), rate_hz)
    found.setflags(write=False)
    return found


def reverberate(wave: Float[np.ndarray, " S"], response: Float[np.ndarray, " R"]) -> Float[np.ndarray, " S"]:
    """``wave`` as heard in a room: convolved, of the same length and the same mean power.

    The direct sound stays in its place; what rings on after the end of the clip is left out.
    """
    n = len(wave)
    n_fft = 1 << (n + len(response) - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(wave, n_fft) * np.fft.rfft(response, n_fft), n_fft)[:n]
    power, rung = float(np.square(wave, dtype=np.float64).mean()), float(np.square(wet).mean())
    return (wet * (power / rung) ** 0.5 if rung > 0 else wet).astype(np.float32)
