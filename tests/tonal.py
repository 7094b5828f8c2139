"""Two small languages of tones: what a letter sounds like differs between them, so that adapting has something to do.

A sentence is written as in ``tones``, every letter a pitch; in the dialect the letters of each pair have changed their
pitches. A network of a few thousand weights learns either in seconds.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from tones import RATE_HZ, write_tones

from metavox.config.transcription import LISTENING, RecogniserConfig
from metavox.contracts import State, Transcribed
from metavox.data.sentences import open_sentences, padded
from metavox.features import prepare
from metavox.learners.sequence import FineTuned, Tuning
from metavox.text.symbols import UNIVERSAL, Symbols
from metavox.transcription.adapting import Plan
from metavox.transcription.guard import write_guard
from metavox.transcription.models import Recognition, load_recogniser, new_net, save_recogniser

torch.set_num_threads(1)
LETTERS = "bdfhkm"
DIALECT = str.maketrans("bdfhkm", "dbhfmk")
FRONT_END = LISTENING.model_copy(update={"n_mels": 24})
CONFIG = RecogniserConfig(front_end=FRONT_END, channels=16, blocks=2, reduction=4, kernel=3, dim=24, dropout=0.0)
PLAN = Plan(Tuning(steps=40, lr=2e-2, batch_frames=800, n_looks=4), augment=False, held_out=0.0)
"""Enough for the dialect."""


def texts(n: int, seed: int, n_words: int = 3) -> list[str]:
    """Sentences of random words of three letters."""
    rng = np.random.default_rng(seed)
    return [" ".join("".join(rng.choice(list(LETTERS), 3)) for _ in range(n_words)) for _ in range(n)]


def said(text: str, *, dialect: bool = False, seed: int = 0) -> np.ndarray:
    """A sentence in tones, with a little noise and rest around it."""
    rng = np.random.default_rng(seed)
    wave = np.pad(write_tones(text.translate(DIALECT) if dialect else text), 1_600)
    return (rng.uniform(0.5, 1) * wave + 1e-3 * rng.standard_normal(len(wave))).astype(np.float32)


def batch(
    sentences: Sequence[str], *, dialect: bool = False, seed: int = 0, symbols: Symbols = UNIVERSAL
) -> Transcribed:
    """Sentences as a support set, without files."""
    heard = [prepare(said(text, dialect=dialect, seed=seed + i), FRONT_END) for i, text in enumerate(sentences)]
    inputs = torch.nn.utils.rnn.pad_sequence([frames[0] for frames, _ in heard], batch_first=True)
    lengths = torch.cat([length for _, length in heard])
    return Transcribed(inputs, lengths, *padded([symbols.encode(text) for text in sentences]))


@lru_cache(1)
def _trained() -> State:
    learner = FineTuned(new_net(CONFIG), Tuning(steps=250, lr=1.5e-2, batch_frames=800))
    return learner.adapt(batch(texts(60, 1)))


def reader() -> Recognition:
    """A recogniser of the first language, without a folder."""
    net = new_net(CONFIG)
    net.load_state_dict({**net.state_dict(), **_trained()})
    return Recognition(net, UNIVERSAL, "tones", "0" * 64, {})


def base_folder(folder: Path, *, guard: bool = True) -> Recognition:
    """The same in a folder, with sentences of the first language as its guard."""
    save_recogniser(folder, reader())
    if guard:
        old = corpus(folder.with_name(folder.name + "-old"), texts(12, 7), seed=700)
        found = open_sentences([old], UNIVERSAL, FRONT_END)
        write_guard(folder, found, np.arange(len(found)), FRONT_END)
    return load_recogniser(folder)


def corpus(
    folder: Path,
    sentences: Sequence[str],
    *,
    dialect: bool = False,
    seed: int = 0,
    speakers: Sequence[str] = (),
    lang: str | None = None,
    written: Sequence[str] | None = None,
) -> Path:
    """A corpus folder; ``written`` are its texts where they are not what is said, ``speakers`` take turns."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, sentence in enumerate(sentences):
        wave = said(sentence, dialect=dialect, seed=seed + i)
        soundfile.write(folder / f"{i:03}.wav", wave, RATE_HZ)
        row = {"id": f"{folder.name}-{i:03}", "audio_filepath": f"{i:03}.wav", "duration": len(wave) / RATE_HZ}
        row["text"] = sentence if written is None else written[i]
        rows.append(
            row | ({"speaker": speakers[i % len(speakers)]} if speakers else {}) | ({"lang": lang} if lang else {})
        )
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(lines, encoding="utf-8")
    return folder
