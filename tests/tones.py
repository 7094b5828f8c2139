"""Writing that sounds: every symbol is a tone of its own pitch, and a recogniser that was never trained reads them.

So times are known to the sample, and everything around a network can be tested from file to caption.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metavox.contracts import FrontEnd
from metavox.text.symbols import UNIVERSAL, Symbols

RATE_HZ = 16_000
HOP = 320
TONE_S, REST_S = 0.08, 0.04
FRONT_END = FrontEnd(n_mels=80, n_frames=None, crop=False)


def pitch_hz(symbol: int) -> int:
    """On a line of the spectrum of 20 ms."""
    return 300 + 200 * symbol


def write_tones(text: str, symbols: Symbols = UNIVERSAL) -> np.ndarray:
    """The text in tones of 80 ms with 40 ms of rest after each; silence has the length of nothing."""
    time = np.arange(round(TONE_S * RATE_HZ)) / RATE_HZ
    fade = np.minimum(1, np.minimum(np.arange(len(time)), np.arange(len(time))[::-1]) / 80)
    rest = np.zeros(round(REST_S * RATE_HZ))
    parts = []
    for symbol in symbols.encode(text):
        parts += [0.3 * fade * np.sin(2 * np.pi * pitch_hz(symbol) * time), rest]
    return np.concatenate(parts).astype(np.float32)


def word_times(text: str) -> list[tuple[float, float]]:
    """Start of the first tone and end of the last one of each word of ``write_tones(text)``."""
    step, found, at = TONE_S + REST_S, [], 0
    for word in text.split(" "):
        found.append((at * step, (at + len(word)) * step - REST_S))
        at += len(word) + 1
    return found


def recording(
    parts: list[tuple[float, str]], length_s: float, noise: float = 1e-3, seed: int = 0
) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """Texts from given seconds on in noise, and each word with its times."""
    wave = noise * np.random.default_rng(seed).standard_normal(round(length_s * RATE_HZ))
    words = []
    for start_s, text in parts:
        tones = write_tones(text)
        first = round(start_s * RATE_HZ)
        wave[first : first + len(tones)] += tones
        words += [(word, start_s + a, start_s + b) for word, (a, b) in zip(text.split(), word_times(text), strict=True)]
    return wave.astype(np.float32), words


@dataclass(frozen=True)
class ToneReader:
    """Says the symbol whose pitch holds most of a frame, and the blank where none does."""

    symbols: Symbols = UNIVERSAL
    front_end: FrontEnd = FRONT_END
    frame_s: float = HOP / RATE_HZ
    peaky: bool = False
    """Each symbol for one frame only, as trained networks do."""

    def log_probs(self, wave: Float[np.ndarray, " S"]) -> Float[Tensor, "T V"]:
        shift = (self.front_end.window_samples - self.front_end.hop_samples) // 2
        frames = np.pad(wave[shift:], (0, -len(wave[shift:]) % HOP)).reshape(-1, HOP)
        power = np.abs(np.fft.rfft(frames * np.hanning(HOP))) ** 2
        lines = np.array([pitch_hz(symbol) * HOP // RATE_HZ for symbol in range(1, self.symbols.size)])
        around = power[:, lines] + power[:, lines - 1] + power[:, lines + 1]
        logits = np.full((len(frames), self.symbols.size), 10.0)
        logits[:, 1:] = 20 * around / (power.sum(axis=1, keepdims=True) + 1e-3)
        if self.peaky:
            best = logits.argmax(axis=1)
            edges = np.flatnonzero(np.diff(best, prepend=-1, append=-1))
            for start, end in pairwise(edges):
                if best[start]:
                    logits[np.delete(np.arange(start, end), (end - start) // 2), 1:] -= 20
        return torch.from_numpy(logits).float().log_softmax(-1)
