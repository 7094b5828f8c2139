"""Networks that spell, of a few thousand weights, and utterances: every symbol is a shape over the mel bins."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import soundfile
import torch
from tones import RATE_HZ, write_tones
from torch import Tensor
from torch.nn import functional

from metavox.config.transcription import LISTENING, RecogniserConfig
from metavox.contracts import State, Transcribed
from metavox.data.sentences import padded
from metavox.nets.recogniser import Recogniser
from metavox.transcription.models import new_net

FRONT_END = LISTENING.model_copy(update={"n_mels": 12})
CONFIG = RecogniserConfig(
    front_end=FRONT_END, channels=16, blocks=2, reduction=4, squeeze=True, kernel=3, dim=12, heads=2, dropout=0.0,
    n_symbols=6,
)  # fmt: skip
FRAMES_A_SYMBOL = 8


def net_of(seed: int = 0, **changes: Any) -> Recogniser:
    return new_net(CONFIG.model_copy(update=changes), seed)


def texts_of(n: int, seed: int = 0, n_symbols: int = 6, longest: int = 4) -> list[tuple[int, ...]]:
    """Texts of 1 to ``longest`` symbols."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, longest + 1, (n,), generator=generator).tolist()
    return [tuple(torch.randint(1, n_symbols, (count,), generator=generator).tolist()) for count in counts]


def utterances(
    n: int = 6, seed: int = 0, texts: Sequence[tuple[int, ...]] | None = None, **options: Any
) -> Transcribed:
    """Each symbol for 8 frames with 2 of rest and a little noise; float32, padded with zeros."""
    texts = texts_of(n, seed, **options) if texts is None else texts
    generator = torch.Generator().manual_seed(seed + 1000)
    n_mels = FRONT_END.n_mels
    shapes = 2 * torch.randn(40, n_mels, generator=torch.Generator().manual_seed(5))
    heard = []
    for text in texts:
        frames = torch.zeros(len(text), FRAMES_A_SYMBOL + 2, n_mels)
        frames[:, :FRAMES_A_SYMBOL] = shapes[list(text)][:, None]
        heard.append(frames.flatten(0, 1) + 0.2 * torch.randn(frames.flatten(0, 1).shape, generator=generator))
    inputs = torch.nn.utils.rnn.pad_sequence(heard, batch_first=True)
    return Transcribed(inputs, torch.tensor([len(frames) for frames in heard]), *padded(texts))


def double(batch: Transcribed) -> Transcribed:
    return replace(batch, inputs=batch.inputs.double())


def wider(batch: Transcribed, frames: int = 0, symbols: int = 0, garbage: bool = False) -> Transcribed:
    """The same utterances with more padding, of zeros or of anything."""
    inputs = functional.pad(batch.inputs, (0, 0, 0, frames))
    targets = functional.pad(batch.targets, (0, symbols))
    if garbage:
        noise = 1e3 * torch.randn(inputs.shape, generator=torch.Generator().manual_seed(9), dtype=inputs.dtype)
        inside = torch.arange(inputs.shape[1]) < batch.lengths[:, None]
        inputs = torch.where(inside[:, :, None], inputs, noise)
    return Transcribed(inputs, batch.lengths, targets, batch.target_lengths)


def rows(batch: Transcribed, at: Sequence[int] | Tensor) -> Transcribed:
    """Some utterances in another order, padded as before."""
    at = torch.as_tensor(at)
    return Transcribed(batch.inputs[at], batch.lengths[at], batch.targets[at], batch.target_lengths[at])


def values_of(net: torch.nn.Module) -> State:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(one: State, other: State, tolerance: float = 1e-10) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            value, other[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def talk(
    root: Path, texts: Sequence[str], speakers: Sequence[str] = ("anna", "bela"), lang: str | None = "xx", **facts: Any
) -> Path:
    """A corpus of sentences in tones, speakers in turn; ``facts`` are written into every row."""
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, text in enumerate(texts):
        wave = write_tones(text)
        soundfile.write(root / f"{i:03}.wav", wave, RATE_HZ)
        row = {"id": f"{root.name}-{i:03}", "audio_filepath": f"{i:03}.wav", "duration": len(wave) / RATE_HZ}
        row |= {"text": text, "speaker": speakers[i % len(speakers)], "lang": lang, **facts}
        lines.append(json.dumps({key: value for key, value in row.items() if value is not None}, ensure_ascii=False))
    (root / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root
