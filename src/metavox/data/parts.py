"""The files of one corpus in a bank: its clips are computed in parallel and written one after the other."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..audio import trim_padding
from ..contracts import FrontEnd, InputError, Utterance
from ..features import log_mel, speech_bounds

FORMAT = 1
Progress = Callable[[int, int], None]
_CHUNK = 64
"""Clips a worker computes before it answers: large enough to hide the hand-over, small enough for a smooth bar."""

Computed = tuple[np.ndarray, np.ndarray, tuple[int, int]] | str
"""Samples, frames and bounds of a clip, or what is wrong with it."""


def write_part(
    group: list[Utterance],
    front_end: FrontEnd,
    folder: Path,
    chunks: Iterator[list[Computed]],
    report: Progress,
    remedy: str,
) -> None:
    """Fill ``folder`` with what is computed of the clips of ``group``, in their order.

    Raises:
        InputError: something is wrong with clips; they are counted and the first is named, with ``remedy``.
    """
    offsets, audio_offsets, bounds = [], [], []
    n_samples = n_frames = n_done = 0
    faults: list[str] = []
    with (folder / "audio.i16").open("wb") as audio_file, (folder / "features.f32").open("wb") as feature_file:
        for results in chunks:
            for result in results:
                if isinstance(result, str):
                    faults.append(result)
                    continue
                samples, frames, bound = result
                audio_file.write(samples.tobytes())
                feature_file.write(frames.tobytes())
                audio_offsets.append((n_samples, n_samples + len(samples)))
                offsets.append((n_frames, n_frames + len(frames)))
                bounds.append(bound)
                n_samples, n_frames = n_samples + len(samples), n_frames + len(frames)
            n_done += len(results)
            report(n_done, len(group))
    if faults:
        raise InputError(
            f"{len(faults)} of {len(group)} clips of {group[0].corpus or 'the corpus'} cannot be used, the first: "
            f"{faults[0]} {remedy}"
        )
    as_pairs = {"offsets": offsets, "audio_offsets": audio_offsets, "bounds": bounds}
    arrays = {name: np.asarray(pairs, np.int64).reshape(-1, 2) for name, pairs in as_pairs.items()}
    np.savez(folder / "index.npz", allow_pickle=False, **arrays)
    about = {"format": FORMAT, "front_end": front_end.spectral_key(), "ids": [u.id for u in group]}
    (folder / "bank.json").write_text(json.dumps(about), encoding="utf-8")


def in_parallel(n: int, compute: Callable[[int], Computed], n_workers: int) -> Iterator[list[Computed]]:
    """Results in the order of positions.

    Threads, not processes: decoding, transforms and products run outside the interpreter lock, and a user's script
    needs no ``__main__`` guard.
    """
    chunks = [range(i, min(i + _CHUNK, n)) for i in range(0, n, _CHUNK)]
    with ThreadPoolExecutor(max(1, n_workers)) as pool:
        try:
            yield from pool.map(lambda chunk: [compute(position) for position in chunk], chunks)
        finally:  # on Ctrl-C too: do not compute what nobody will store
            pool.shutdown(wait=True, cancel_futures=True)


def computed(wave: Float[np.ndarray, " S"], path: Path, front_end: FrontEnd) -> Computed:
    """What is kept of the samples of a clip, padding zeros trimmed."""
    wave = trim_padding(wave)
    if len(wave) < front_end.window_samples:
        return f"{path} holds {1000 * len(wave) / front_end.rate_hz:.0f} ms besides digital silence; drop its row."
    frames = log_mel(wave, front_end)
    samples = np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)
    return samples, frames.astype(np.float32), speech_bounds(frames, front_end)
