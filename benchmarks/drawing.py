"""How fast an episode is drawn from a bank, and whether that depends on the size of the corpus.

    python benchmarks/drawing.py [--json benchmarks/drawing.json]

1. A 20-way 5-shot episode with 10 queries (300 clips) from 10,000 one-second clips: windows from the bank, against
   decoding the files and computing the same windows on the fly. One process, one thread, interleaved, medians.
2. The same draw from 1,000 to 1,000,000 utterances whose features are all stored (no file is shared by two clips).
"""

import argparse
import json
import platform
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from metavox.contracts import FrontEnd, Utterance
from metavox.data.bank import Bank, _Part, build_bank
from metavox.data.episodes import ClassIndex, EpisodeSpec
from metavox.runtime.takes import take_batch

SPEC = EpisodeSpec(20, 5, 10)
FRONT_END = FrontEnd(normalize=False)
N_FRAMES = 50
"""Frames of a clip in the second part: a million of them take 8 GB."""


def corpus(folder: Path, n: int, rng: np.random.Generator) -> list[Utterance]:
    """Clips of one second, 100 takes a class, as 16-bit FLAC."""
    utterances = []
    for i in range(n):
        path = folder / f"{i}.flac"
        ramp = np.sin(np.cumsum(rng.uniform(0.02, 0.4)) * np.arange(16_000)) * np.hanning(16_000)
        soundfile.write(path, 0.3 * ramp + 0.003 * rng.standard_normal(16_000), 16_000)
        utterances.append(Utterance(str(i), path, 1.0, label=f"word{i // 100}", corpus=folder.name))
    return utterances


def speed(n_utterances: int, repeats: int) -> dict[str, Any]:
    """Median seconds of a draw from the bank and from the files."""
    folder = Path(tempfile.mkdtemp()) / "clips"
    folder.mkdir()
    try:
        utterances = corpus(folder, n_utterances, np.random.default_rng(0))
        bank = build_bank(utterances, FRONT_END, cache=folder.parent / "cache")
        index = ClassIndex(utterances)
        stored, decoded = [], []
        for i in range(repeats + 1):
            before = time.perf_counter()
            draw = index.draw(SPEC, [0, i])
            windows = [bank.batch(draw.support, draw.support_labels, 20), bank.batch(draw.query, draw.query_labels, 20)]
            middle = time.perf_counter()
            draw = index.draw(SPEC, [0, i])
            for side, (positions, labels) in enumerate(
                ((draw.support, draw.support_labels), (draw.query, draw.query_labels))
            ):
                batch = take_batch([utterances[p].path for p in positions], labels.tolist(), 20, FRONT_END)
                assert torch.allclose(batch.inputs, windows[side].inputs, atol=1e-4)
            after = time.perf_counter()
            if i:  # the first touches cold files
                stored.append(middle - before)
                decoded.append(after - middle)
    finally:
        shutil.rmtree(folder.parent)
    fast, slow = float(np.median(stored)), float(np.median(decoded))
    return {
        "utterances": n_utterances, "clips_per_draw": 300, "repeats": repeats,
        "bank_s": fast, "on_the_fly_s": slow, "ratio": slow / fast,
    }  # fmt: skip


def scaling(sizes: list[int], repeats: int) -> list[dict[str, Any]]:
    """Median seconds of a draw by number of utterances, the sizes interleaved."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "features.f32"
    try:
        block = np.random.default_rng(0).standard_normal((1000 * N_FRAMES, FRONT_END.n_mels)).astype(np.float32)
        with path.open("wb") as file:
            for _ in range(0, max(sizes), 1000):
                file.write(block.tobytes())
        banks = {n: _bank(path, n) for n in sizes}
        times: dict[int, list[float]] = {n: [] for n in sizes}
        for i in range(repeats + 3):
            for n, (bank, index) in banks.items():
                before = time.perf_counter()
                draw = index.draw(SPEC, [1, i])
                bank.batch(draw.support, draw.support_labels, 20)
                bank.batch(draw.query, draw.query_labels, 20)
                if i >= 3:
                    times[n].append(time.perf_counter() - before)
    finally:
        shutil.rmtree(folder)
    first = float(np.median(times[sizes[0]]))
    return [
        {"utterances": n, "draw_s": float(np.median(times[n])), "relative": float(np.median(times[n])) / first}
        for n in sizes
    ]


def _bank(path: Path, n: int) -> tuple[Bank, ClassIndex]:
    utterances = [Utterance(str(i), path, 0.5, label=f"word{i // 50}") for i in range(n)]
    starts = np.arange(n) * N_FRAMES
    offsets = np.stack([starts, starts + N_FRAMES], 1)
    whole = np.stack([np.zeros(n, np.int64), np.full(n, N_FRAMES)], 1)
    features = np.asarray(np.memmap(path, np.float32, "r")).reshape(-1, FRONT_END.n_mels)
    part = _Part(np.zeros(0, np.int16), features)
    bank = Bank(utterances, FRONT_END, [part], np.zeros(n, np.int64), offsets, whole, whole)
    return bank, ClassIndex(utterances)


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--utterances", type=int, default=10_000)
    parser.add_argument("--largest", type=int, default=1_000_000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [n for n in (1_000, 10_000, 100_000, 1_000_000) if n <= asked.largest]
    result = {
        "what": "drawing a 20-way 5-shot episode with 10 queries",
        "machine": {"platform": f"{platform.system()} {platform.machine()}", "threads": 1},
        "versions": {"metavox": version("metavox"), "torch": torch.__version__, "python": platform.python_version()},
        "seed": 0,
        "speed": speed(asked.utterances, 15),
        "scaling": scaling(sizes, 400),
    }
    asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
