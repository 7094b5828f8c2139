"""Words and voices of our own for tests: sliding harmonic tones, written as tiny corpora. No recording, no espeak-ng.

A word is three glides drawn from its name; a speaker shifts all pitches and the tempo; a take shifts them a little.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import soundfile
import torch

torch.set_num_threads(1)  # nets this small only wait for one another on more
RATE_HZ = 16_000
WORDS = ("tula", "rime", "sakko", "febe", "golun", "anti", "wexo", "pyrin", "dosk", "hale", "mumbo", "zetta")
SPEAKERS = ("anna", "bela", "carl", "dora")


def say(word: str, speaker: str = "anna", take: int = 0, rate_hz: int = RATE_HZ) -> np.ndarray:
    """About 0.6 s of one word, float32 in [-1, 1], quiet noise before and after."""
    of_word = np.random.default_rng(crc32(word.encode()))
    of_speaker = np.random.default_rng(crc32(speaker.encode()))
    of_take = np.random.default_rng([crc32(f"{word} {speaker}".encode()), take])
    pitch = of_speaker.uniform(0.93, 1.08) * of_take.uniform(0.99, 1.01)
    tempo = of_speaker.uniform(0.85, 1.15) * of_take.uniform(0.96, 1.04)
    ends_hz = np.exp(of_word.uniform(np.log(250), np.log(3500), 4)) * pitch
    glides = []
    for low, high, seconds in zip(ends_hz, ends_hz[1:], of_word.uniform(0.08, 0.16, 3) * tempo, strict=False):
        n = round(seconds * rate_hz)
        glides.append(np.exp(np.linspace(np.log(low), np.log(high), n)))
    phase = 2 * np.pi * np.cumsum(np.concatenate(glides)) / rate_hz
    loudness = np.sqrt(np.hanning(len(phase) + 2)[1:-1])
    wave = 0.3 * loudness * (np.sin(phase) + 0.4 * np.sin(2 * phase))
    quiet = round(of_take.uniform(0.06, 0.12) * rate_hz)
    wave = np.pad(wave, quiet) + 1e-3 * of_take.standard_normal(len(wave) + 2 * quiet)
    return wave.astype(np.float32)


def write(path: Path, wave: np.ndarray, rate_hz: int = RATE_HZ) -> Path:
    """A 16-bit file; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(os.fsencode(path), wave, rate_hz)  # a name need not be Unicode
    return path


def word_folders(
    root: Path, words: Sequence[str] = WORDS[:4], speakers: Sequence[str] = SPEAKERS[:2], n_takes: int = 3
) -> Path:
    """A corpus with one folder a word; nobody is named."""
    for word in words:
        for speaker in speakers:
            for take in range(n_takes):
                write(root / word / f"{speaker}-{take}.wav", say(word, speaker, take))
    return root


def manifest_corpus(
    root: Path,
    words: Sequence[str] = WORDS,
    speakers: Sequence[str] = SPEAKERS,
    n_takes: int = 2,
    *,
    lang: str | None = "xx",
    without: Iterable[str] = (),
) -> Path:
    """A corpus with a manifest; keys in ``without`` are left out of every row."""
    left_out = set(without)
    rows: list[dict[str, Any]] = []
    for word in words:
        for speaker in speakers:
            for take in range(n_takes):
                name = f"clips/{word}-{speaker}-{take}.wav"
                wave = say(word, speaker, take)
                write(root / name, wave)
                row = {"audio_filepath": name, "duration": len(wave) / RATE_HZ, "text": word}
                row |= {"label": word, "speaker": speaker, "lang": lang}
                rows.append({key: value for key, value in row.items() if key not in left_out})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (root / "manifest.jsonl").write_text(text, encoding="utf-8")
    return root


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file with its content: what must not change, or what must not be there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
