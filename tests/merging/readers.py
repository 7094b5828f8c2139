"""Recognisers of tones to be averaged: near one another, adapted from one base, and others that fit none."""

from dataclasses import replace
from pathlib import Path

import tonal
import torch

from metavox.config.transcription import RecogniserConfig
from metavox.contracts import State
from metavox.text.symbols import UNIVERSAL, Symbols
from metavox.transcription.models import Recognition, adapted, new_net, save_adapted, save_recogniser
from metavox.transcription.spelling import Search, Spelling


def noisy(one: Recognition, seed: int, size: float = 0.05) -> State:
    """Its values, each moved a little."""
    generator = torch.Generator().manual_seed(seed)
    values = one.net.state_dict()
    return {k: v + size * v.std(correction=0) * torch.randn(v.shape, generator=generator) for k, v in values.items()}


def with_net(folder: Path, config: RecogniserConfig, seed: int = 1, symbols: Symbols = UNIVERSAL) -> None:
    save_recogniser(folder, Recognition(new_net(config, seed), symbols, folder.name, "", {}))


def fill(root: Path) -> Path:
    """A recogniser that reads tones, members beside and adapted from it, others, and a corpus."""
    reader = tonal.reader()
    base = save_recogniser(root / "base", reader)
    for seed in (1, 2, 3):
        net = new_net(tonal.CONFIG)
        net.load_state_dict(noisy(reader, seed))
        save_recogniser(root / f"near{seed}", replace(reader, net=net, about={"corpora": [f"corpus-{seed}"]}))
        save_adapted(root / f"adapted{seed}", adapted(base, noisy(base, 10 + seed), UNIVERSAL))
    searching = replace(adapted(base, noisy(base, 20), UNIVERSAL), spelling=spelling("baf kim", "dab"))
    save_adapted(root / "searching", searching)
    other = save_recogniser(root / "other-base", replace(reader, net=new_net(tonal.CONFIG, 7)))
    save_adapted(root / "elsewhere", adapted(other, noisy(other, 1), UNIVERSAL))
    own = Symbols((" ", "a", "b"), "native", "xx")
    with_net(root / "alphabet", tonal.CONFIG.model_copy(update={"n_symbols": own.size}), symbols=own)
    with_net(root / "wider", tonal.CONFIG.model_copy(update={"channels": 24}))
    with_net(root / "slower", tonal.CONFIG.model_copy(update={"reduction": 8}))
    bins = tonal.FRONT_END.model_copy(update={"n_mels": 32})
    with_net(root / "finer", tonal.CONFIG.model_copy(update={"front_end": bins}))
    hop = tonal.FRONT_END.model_copy(update={"hop_ms": 20.0})
    with_net(root / "rarer", tonal.CONFIG.model_copy(update={"front_end": hop}))
    broken = new_net(tonal.CONFIG)
    with torch.no_grad():
        next(iter(broken.parameters())).view(-1)[0] = torch.inf
    save_recogniser(root / "broken", replace(reader, net=broken))
    tonal.corpus(root / "dev", tonal.texts(5, 9), seed=90)
    (root / "empty").mkdir()
    return root


def spelling(*texts: str) -> Spelling:
    return Spelling(tuple(tuple(UNIVERSAL.encode(text)) for text in texts), Search(order=2, beam=2, tempos=(1.0,)))
