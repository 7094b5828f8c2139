"""One clip against a million voices: time, memory and recall, beside an exhaustive search by numpy and by faiss.

    python benchmarks/gallery.py [--json benchmarks/gallery.json] [--voices 1000000] [--dim 160]

faiss is a peer here and nothing that Metavox needs: pip install faiss-cpu. One thread everywhere; what is compared is
run in turn, clip by clip, in one process, and medians are given: of the time that the one core computed, which other
work on the machine hardly changes, and of the time that passed, which it does. Voices are made up: unit vectors whose
deviation falls along turned axes by ``decay`` an axis (0.035 is what an encoder of 160 values trained on a few hundred
people showed, 0: every axis alike, which is the worst case). Half of the clips are of enrolled voices.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metavox.calibration.ratios import Ratios
from metavox.voices.classical import MfccStatistics
from metavox.voices.gallery import StoredGallery
from metavox.voices.heard import Heard
from metavox.voices.models import VoiceModel
from metavox.voices.scoring import unit

TOP, N_CLIPS, N_COHORT = 10, 40, 300
RATIOS = Ratios({"score": 1.7, "test_log_s": -0.8, "enrolled_log_s": -0.9, "score_by_test_log_s": 0.8}, 2.0)


def drawn(n: int, dim: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors, float32."""
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((dim, dim)))[0].astype(np.float32)
    scale = np.exp(-decay * np.arange(dim)).astype(np.float32)
    found = np.empty((n, dim), np.float32)
    for start in range(0, n, 50_000):
        part = rng.standard_normal((min(50_000, n - start), dim), dtype=np.float32)
        found[start : start + 50_000] = unit((part * scale) @ turn)
    return found


def gallery_of(vectors: np.ndarray, cohort: np.ndarray) -> StoredGallery:
    """A gallery of the vectors, each enrolled with 10 s of speech."""
    n_voices = len(vectors)
    model = VoiceModel(MfccStatistics(), "made-up", "", cohort, RATIOS)
    names = [f"voice {number}" for number in range(n_voices)]
    return StoredGallery(model, names, vectors, np.full(n_voices, 10.0), np.full(n_voices, 20.0))


def clips_of(vectors: np.ndarray, decay: float, rng: np.random.Generator) -> Heard:
    """Half of them near an enrolled voice (cosine of about 0.6), half of people who are not enrolled."""
    others = drawn(N_CLIPS, vectors.shape[1], decay, rng)
    own = vectors[rng.integers(len(vectors), size=N_CLIPS // 2)]
    others[: N_CLIPS // 2] = unit(0.6 * own + 0.8 * others[: N_CLIPS // 2])
    return Heard(others, np.full(N_CLIPS, 2.0), np.full(N_CLIPS, 20.0))


def peers(vectors: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Exhaustive searches: places of the nearest, the nearest first."""

    def by_numpy(test: np.ndarray) -> np.ndarray:
        cosines = vectors @ test
        best = np.argpartition(cosines, len(cosines) - TOP)[-TOP:]
        return best[np.argsort(-cosines[best])]

    found = {"numpy float32": by_numpy}
    try:
        import faiss
    except ImportError:
        return found
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    found["faiss IndexFlatIP"] = lambda test: index.search(test[None], TOP)[1][0]
    return found


def measured(vectors: np.ndarray, decay: float, seed: int) -> dict[str, Any]:
    """Times and recall on one set of voices."""
    rng = np.random.default_rng([seed, 1])
    started = time.perf_counter()
    gallery = gallery_of(vectors, drawn(N_COHORT, vectors.shape[1], decay, rng))
    built_s = time.perf_counter() - started
    tests = clips_of(vectors, decay, rng)
    others = peers(vectors)
    seconds: dict[str, list[float]] = {name: [] for name in ("search", "identify", *others)}
    waited: dict[str, list[float]] = {name: [] for name in seconds}
    recall, first = [], []
    for number in range(N_CLIPS):
        test = tests.vectors[number]
        places = {}
        jobs: dict[str, Callable[[], Any]] = {
            "search": lambda test=test: gallery.index.nearest(test, TOP)[0],
            "identify": lambda number=number: gallery.identify(tests.at([number])),
            **{name: lambda search=search, test=test: search(test) for name, search in others.items()},
        }
        for name, job in jobs.items():
            before, cpu_before = time.perf_counter(), time.process_time()
            places[name] = job()
            seconds[name].append(time.process_time() - cpu_before)
            waited[name].append(time.perf_counter() - before)
        want = places["numpy float32"]
        recall.append(len(set(places["search"].tolist()) & set(want.tolist())) / TOP)
        first.append(places["search"][0] == want[0])
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        "decay": decay,
        "built_s": built_s,
        "recall_at_10": float(np.mean(recall)),
        "first_is_right": float(np.mean(first)),
        "median_cpu_s": medians,
        "slowest_identify_cpu_s": max(seconds["identify"]),
        "fastest_s": {name: min(values) for name, values in waited.items()},
        "median_s": {name: float(np.median(values)) for name, values in waited.items()},
        "peer_over_search": {name: medians[name] / medians["search"] for name in others},
        "peer_over_identify": {name: medians[name] / medians["identify"] for name in others},
    }


def anonymous_mb() -> float:
    """Memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def memory(path: Path, decay: float, seed: int) -> dict[str, float]:
    """In a process of its own: what the gallery holds, and the most while it identifies."""
    vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    rng = np.random.default_rng([seed, 1])
    cohort = drawn(N_COHORT, vectors.shape[1], decay, rng)
    tests = clips_of(vectors, decay, rng)
    before = anonymous_mb()
    gallery = gallery_of(vectors, cohort)
    held, peak, done = anonymous_mb() - before, 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, anonymous_mb() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    gallery.identify(tests)
    done.set()
    watcher.join()
    return {"held_mb": held, "peak_mb": max(peak, held)}


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--voices", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.memory_of is not None:
        print(json.dumps(memory(asked.memory_of, 0.035, asked.seed)))
        return
    runs, held = [], {}
    for decay in (0.035, 0.0):
        vectors = drawn(asked.voices, asked.dim, decay, np.random.default_rng([asked.seed, 0]))
        if not held:
            with tempfile.TemporaryDirectory() as folder:
                np.save(Path(folder) / "voices.npy", vectors, allow_pickle=False)
                arguments = ["--memory-of", f"{folder}/voices.npy", "--seed", str(asked.seed)]
                done = subprocess.run(
                    [sys.executable, __file__, *arguments], capture_output=True, text=True, check=True
                )
                held = json.loads(done.stdout)
        runs.append(measured(vectors, decay, asked.seed))
        del vectors
    document = {
        "what": "one clip against very many voices, one thread, the encoder left out",
        "machine": {"platform": f"{platform.system()} {platform.machine()}", "threads": 1},
        "versions": {"metavox": version("metavox"), "numpy": np.__version__, "python": platform.python_version()},
        "seed": asked.seed,
        "voices": asked.voices,
        "dim": asked.dim,
        "clips": N_CLIPS,
        "top": TOP,
        **held,
        "runs": runs,
    }
    text = json.dumps(document, indent=1)
    if asked.json is None:
        print(text)
    else:
        asked.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
