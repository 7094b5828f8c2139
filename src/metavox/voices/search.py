"""The nearest of a million voices: a coarse look at all of them, and a sure one at the few that can matter.

Vectors are turned to their principal axes, which keeps every cosine. The first axes, which hold most of it, are kept
in 8 bits and looked at for all voices; all axes are kept in 16 bits and looked at for the best few. What the axes left
out can add is bounded (Cauchy and Schwarz), so it is known when nobody else can be among the best, and where it is not
known the others are looked at too: the answer is that of an exhaustive search, and only its time is a guess.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ..contracts import InputError

STEP_AXES, MAX_REST = 16, 0.15
"""As many axes are looked at for all voices, in steps of 16, as leave no more than this of a typical unit vector."""
N_CANDIDATES = 2000
"""Looked at closely at first."""
MAX_CANDIDATES = 20_000
"""Where more than this could be among the best, all are looked at in order: that is faster."""
BLOCK = 8192
N_OF_AXES = 20_000
"""Vectors that the principal axes are taken of, evenly spread."""
_PARTS = ("axes", "coarse", "step", "rest", "whole")


@dataclass(frozen=True, slots=True)
class VoiceIndex:
    """Unit vectors of many voices, to be searched.

    Holds 2 D bytes a voice, and 1 for each axis of the first look; where it is opened, only the latter.
    """

    axes: Float[np.ndarray, "D D"]
    """Principal axes in columns, the strongest first."""
    coarse: Int[np.ndarray, "V A"]
    """int8; the first axes in units of ``step``."""
    step: Float[np.ndarray, " A"]
    rest: Float[np.ndarray, " V"]
    """Length of what is left beside the first axes."""
    whole: Float[np.ndarray, "V D"]
    """float16; in memory, or mapped from a file."""

    def __len__(self) -> int:
        return len(self.coarse)

    @classmethod
    def of(cls, vectors: Float[np.ndarray, "V D"]) -> "VoiceIndex":
        """Of unit vectors, one a voice (``scoring.template``).

        Raises:
            InputError: no voices, or values that are not finite.
        """
        if not len(vectors) or not np.isfinite(vectors[:: max(1, len(vectors) // N_OF_AXES)]).all():
            raise InputError(f"An index of {len(vectors)} voices was asked for; give finite vectors of at least one.")
        sample = vectors[:: max(1, len(vectors) // N_OF_AXES)].astype(np.float64)
        strength, axes = np.linalg.eigh(sample.T @ sample)
        axes = np.ascontiguousarray(axes[:, ::-1], np.float32)
        left = 1 - np.cumsum(strength[::-1]) / max(strength.sum(), 1e-12)
        n_enough = int(np.searchsorted(-left, -(MAX_REST**2))) + 1
        n_voices, n_axes = len(vectors), min(-(-n_enough // STEP_AXES) * STEP_AXES, vectors.shape[1])
        whole = np.empty(vectors.shape, np.float16)
        for start in range(0, n_voices, BLOCK):
            whole[start : start + BLOCK] = vectors[start : start + BLOCK] @ axes
        peak = np.zeros(n_axes, np.float32)
        for start in range(0, n_voices, BLOCK):
            peak = np.maximum(peak, np.abs(whole[start : start + BLOCK, :n_axes]).max(axis=0))
        step = np.maximum(peak, 1e-6) / 127
        coarse, rest = np.empty((n_voices, n_axes), np.int8), np.empty(n_voices, np.float32)
        for start in range(0, n_voices, BLOCK):
            part = whole[start : start + BLOCK].astype(np.float32)
            coarse[start : start + BLOCK] = np.rint(part[:, :n_axes] / step)
            rest[start : start + BLOCK] = np.linalg.norm(part[:, n_axes:], axis=1)
        return cls(axes, coarse, step.astype(np.float32), rest, whole)

    def turned(self, test: Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
        """A vector on the axes of the index."""
        return test.astype(np.float32) @ self.axes

    def look(self, turned: Float[np.ndarray, " D"]) -> Float[np.ndarray, " V"]:
        """Roughly the cosine with every voice: that on the first axes."""
        weights = (turned[: len(self.step)] * self.step).astype(np.float32)
        found = np.empty(len(self), np.float32)
        block = np.empty((BLOCK, len(self.step)), np.float32)
        for start in range(0, len(self), BLOCK):
            part = self.coarse[start : start + BLOCK]
            np.copyto(block[: len(part)], part)
            np.dot(block[: len(part)], weights, out=found[start : start + len(part)])
        return found

    def exact(self, turned: Float[np.ndarray, " D"], places: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """Cosines with the voices at ``places``."""
        found = np.empty(len(places), np.float32)
        for start in range(0, len(places), BLOCK):
            found[start : start + BLOCK] = self.whole[places[start : start + BLOCK]].astype(np.float32) @ turned
        return found

    def nearest(self, test: Float[np.ndarray, " D"], top: int) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Places and cosines of the ``top`` nearest voices, the nearest first.

        Raises:
            InputError: ``top`` is not positive.
        """
        turned = self.turned(test)
        places, cosines = self.candidates(turned, top, self.look(turned))
        order = np.lexsort((places, -cosines))[:top]
        return places[order], cosines[order]

    def candidates(
        self, turned: Float[np.ndarray, " D"], top: int, rough: Float[np.ndarray, " V"]
    ) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Places and cosines of 2000 voices or more, in no order, the ``top`` nearest surely among them.

        ``rough`` is what ``look`` gives.

        Raises:
            InputError: ``top`` is not positive.
        """
        if top < 1:
            raise InputError(f"The nearest {top} voices were asked for; ask for 1 or more.")
        n_first = min(len(self), max(N_CANDIDATES, 4 * top))
        places = np.sort(np.argpartition(rough, len(self) - n_first)[len(self) - n_first :]).astype(np.int64)
        cosines = self.exact(turned, places)
        worst = np.partition(cosines, max(0, n_first - top))[max(0, n_first - top)]
        others = self._possible(turned, rough, float(worst), places)
        if len(others) > MAX_CANDIDATES:
            return np.arange(len(self)), self._all(turned)
        return np.concatenate([places, others]), np.concatenate([cosines, self.exact(turned, others)])

    def _all(self, turned: Float[np.ndarray, " D"]) -> Float[np.ndarray, " V"]:
        found = np.empty(len(self), np.float32)
        for start in range(0, len(self), BLOCK):
            found[start : start + BLOCK] = self.whole[start : start + BLOCK].astype(np.float32) @ turned
        return found

    def _possible(
        self,
        turned: Float[np.ndarray, " D"],
        rough: Float[np.ndarray, " V"],
        worst: float,
        seen: Int[np.ndarray, " m"],
    ) -> Int[np.ndarray, " p"]:
        """Voices beside those seen that may have a cosine of ``worst`` or more."""
        n_axes = len(self.step)
        beside = float(np.linalg.norm(turned[n_axes:]))
        rounding = float(np.abs(turned[:n_axes]) @ self.step) / 2 + 1e-5
        possible = rough + (self.rest * np.float32(beside) + np.float32(rounding)) >= worst
        possible[seen] = False
        return np.flatnonzero(possible)

    def save(self, folder: Path) -> None:
        """Write it, one file a part, so that ``opened`` can map it. The vectors lie there as they are: no key."""
        folder.mkdir(parents=True, exist_ok=True)
        for part in _PARTS:
            beside = folder / f".{part}.{os.getpid()}.npy"
            np.save(beside, getattr(self, part), allow_pickle=False)
            os.replace(beside, folder / f"{part}.npy")

    @classmethod
    def opened(cls, folder: Path) -> "VoiceIndex":
        """What ``save`` wrote; the 16-bit vectors stay on the disk but for those that are looked at.

        Raises:
            InputError: a file is missing, damaged, or of another index.
        """
        found = {}
        for part in _PARTS:
            try:
                found[part] = np.load(
                    folder / f"{part}.npy", mmap_mode="r" if part == "whole" else None, allow_pickle=False
                )
            except (OSError, ValueError, EOFError) as err:
                raise InputError(
                    f"{folder / part}.npy is missing or damaged ({err}); make the index of voices again."
                ) from None
        n_voices, n_dim = found["whole"].shape[:2] if found["whole"].ndim == 2 else (0, 0)
        n_axes = found["coarse"].shape[-1]
        wanted = {
            "axes": (n_dim, n_dim),
            "coarse": (n_voices, n_axes),
            "step": (n_axes,),
            "rest": (n_voices,),
            "whole": (n_voices, n_dim),
        }
        odd = [part for part in _PARTS if found[part].shape != wanted[part]]
        if odd or not n_voices:
            raise InputError(f"{folder} mixes files of several indices of voices; make the index again.")
        return cls(**found)
