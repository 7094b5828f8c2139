"""16 kHz audio and features of a corpus, computed once and memory-mapped: drawing an item is a slice.

A bank is a folder, keyed by the content of the recordings and by the settings that features depend on:

    bank.json      settings, format version, ids in order
    index.npz      offsets and speech bounds
    audio.i16      int16 samples of all clips, one after the other, padding zeros at the ends trimmed
    features.f32   float32 log-mel frames of all clips, one after the other
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..audio import read, trim_padding
from ..contracts import Batch, FrontEnd, InputError, Utterance
from ..features import log_mel, speech_bounds, window
from .cache import cache_folder

FORMAT = 1
Progress = Callable[[int, int], None]
_CHUNK = 64
"""Clips a worker computes before it answers: large enough to hide the hand-over, small enough for a smooth bar."""


@dataclass(frozen=True)
class _Part:
    """One memory-mapped corpus."""

    audio: np.memmap | np.ndarray
    features: np.memmap | np.ndarray


class Bank:
    """Features of a list of utterances, at hand by position. Joined from one part a corpus.

    Attributes:
        utterances: what each position is.
        front_end: settings of the stored features.
        bounds: (n, 2) first and one-past-last frame that hold speech.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        front_end: FrontEnd,
        parts: Sequence[_Part],
        part_of: Int[np.ndarray, " n"],
        offsets: Int[np.ndarray, "n 2"],
        audio_offsets: Int[np.ndarray, "n 2"],
        bounds: Int[np.ndarray, "n 2"],
    ) -> None:
        self.utterances = list(utterances)
        self.front_end = front_end
        self.bounds = bounds
        self._parts, self._part_of, self._offsets, self._audio_offsets = list(parts), part_of, offsets, audio_offsets

    def __len__(self) -> int:
        return len(self.utterances)

    def n_frames(self, position: int) -> int:
        return int(self._offsets[position, 1] - self._offsets[position, 0])

    def audio(self, position: int) -> Float[np.ndarray, " S"]:
        """Samples of one clip in [-1, 1]."""
        start, end = self._audio_offsets[position]
        return self._parts[self._part_of[position]].audio[start:end].astype(np.float32) / 32768

    def features(self, position: int) -> Float[np.ndarray, "T F"]:
        """All stored frames of one clip, a view of the file."""
        start, end = self._offsets[position]
        return self._parts[self._part_of[position]].features[start:end]

    def padded(
        self, positions: Int[np.ndarray, " B"], bounds: Int[np.ndarray, "B 2"]
    ) -> tuple[Float[Tensor, "B T F"], Int[Tensor, " B"]]:
        """Frames ``bounds`` of each clip, padded with zeros to the longest, and their counts."""
        lengths = bounds[:, 1] - bounds[:, 0]
        out = np.zeros((len(positions), int(lengths.max()), self.front_end.n_mels), np.float32)
        firsts = self._offsets[positions, 0] + bounds[:, 0]
        for row, (part, first, n) in enumerate(
            zip(self._part_of[positions].tolist(), firsts.tolist(), lengths.tolist(), strict=True)
        ):
            out[row, :n] = self._parts[part].features[first : first + n]
        return torch.from_numpy(out), torch.from_numpy(lengths.astype(np.int64))

    def batch(
        self,
        positions: Int[np.ndarray, " B"],
        labels: Int[np.ndarray, " B"],
        n_classes: int,
        front_end: FrontEnd | None = None,
    ) -> Batch:
        """The windows that an encoder with ``front_end`` scores, computed as on a device from the file itself."""
        front_end = front_end or self.front_end
        require_same_spectrum(front_end, self.front_end)
        if front_end.crop:
            bounds = self.bounds[positions]
        else:
            frames = self._offsets[positions, 1] - self._offsets[positions, 0]
            bounds = np.stack([np.zeros_like(frames), frames], 1)
        raw, n_valid = self.padded(positions, bounds)
        inputs, lengths = window(raw, torch.zeros_like(n_valid), n_valid, front_end)
        return Batch(inputs, lengths, torch.from_numpy(np.asarray(labels, np.int64)), n_classes)

    @staticmethod
    def join(banks: Sequence["Bank"]) -> "Bank":
        """Several corpora as one list of positions, in the order given; nothing is copied."""
        if not banks:
            raise InputError("No corpus was given; name at least one folder of recordings.")
        parts: list[_Part] = []
        part_of: list[np.ndarray] = []
        for bank in banks:
            require_same_spectrum(bank.front_end, banks[0].front_end)
            part_of.append(bank._part_of + len(parts))
            parts.extend(bank._parts)
        return Bank(
            [utterance for bank in banks for utterance in bank.utterances],
            banks[0].front_end,
            parts,
            np.concatenate(part_of),
            np.concatenate([bank._offsets for bank in banks]),
            np.concatenate([bank._audio_offsets for bank in banks]),
            np.concatenate([bank.bounds for bank in banks]),
        )


def require_same_spectrum(wanted: FrontEnd, stored: FrontEnd) -> None:
    """Raise InputError where features were computed with other settings than an encoder declares."""
    if wanted.spectral_key() != stored.spectral_key():
        raise InputError(
            f"Features were stored as {stored.spectral_key()} and the encoder wants {wanted.spectral_key()}; "
            "build the bank with the encoder's front end."
        )


# --------------------------------------------------------------------------------------------------------- building


def build_bank(
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    *,
    cache: Path | None = None,
    n_workers: int = 2,
    progress: Progress | None = None,
) -> Bank:
    """Open the bank of these recordings, computing it first where the cache has none.

    Each corpus among ``utterances`` becomes a part of its own, so that leaving one out costs nothing.

    Raises:
        InputError: no utterance, or clips that cannot be read (all of them are counted, the first is named).
    """
    by_corpus: dict[tuple[str, Path], list[Utterance]] = {}
    for utterance in utterances:
        by_corpus.setdefault((utterance.corpus, _corpus_folder(utterance)), []).append(utterance)
    total, done = len(utterances), 0
    banks = []
    for group in by_corpus.values():

        def report(n: int, _: int, before: int = done) -> None:
            if progress is not None:
                progress(before + n, total)

        banks.append(_open_part(group, front_end, cache or cache_folder() / "banks", n_workers, report))
        done += len(group)
    return Bank.join(banks)


def _corpus_folder(utterance: Utterance) -> Path:
    for parent in utterance.path.parents:
        if parent.name == utterance.corpus:
            return parent
    return utterance.path.parent


def _open_part(group: list[Utterance], front_end: FrontEnd, cache: Path, n_workers: int, report: Progress) -> Bank:
    folder = cache / f"{(group[0].corpus or 'clips')[:40]}-{_content_key(group, front_end)}"
    found = _stored(folder, group, front_end)
    if found is None:
        beside = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            _compute(group, front_end, beside, n_workers, report)
            if _stored(folder, group, front_end) is None:  # else another process was faster
                shutil.rmtree(folder, ignore_errors=True)
                beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        found = _stored(folder, group, front_end)
        if found is None:
            raise InputError(f"What was just written to {folder} cannot be read back; check that disk.")
    report(len(group), len(group))
    return found


def _stored(folder: Path, group: list[Utterance], front_end: FrontEnd) -> Bank | None:
    """The bank in a folder; None where there is none, or one that is not as it was written."""
    try:
        about = json.loads((folder / "bank.json").read_text(encoding="utf-8"))
        with np.load(folder / "index.npz", allow_pickle=False) as index:
            offsets, audio_offsets, bounds = index["offsets"], index["audio_offsets"], index["bounds"]
        # Plain views of the maps: slicing np.memmap itself takes more than twice as long.
        audio = np.asarray(np.memmap(folder / "audio.i16", np.int16, "r"))
        features = np.asarray(np.memmap(folder / "features.f32", np.float32, "r")).reshape(-1, front_end.n_mels)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    shapes = {array.shape for array in (offsets, audio_offsets, bounds)}
    if not isinstance(about, dict) or about.get("format") != FORMAT or shapes != {(len(group), 2)}:
        return None
    if (audio_offsets[-1, 1], offsets[-1, 1]) != (len(audio), len(features)):
        return None
    part_of = np.zeros(len(group), np.int64)
    return Bank(group, front_end, [_Part(audio, features)], part_of, offsets, audio_offsets, bounds)


def _content_key(group: Sequence[Utterance], front_end: FrontEnd) -> str:
    """Hash of the settings and of the bytes of every recording, in order."""
    digest = hashlib.sha256(f"{FORMAT} {front_end.spectral_key()}".encode())
    for utterance in group:
        try:
            content = utterance.path.read_bytes()
        except OSError as err:
            raise InputError(f"{utterance.path} cannot be read ({err.strerror}); restore it or drop its row.") from None
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()[:20]


def _compute(group: list[Utterance], front_end: FrontEnd, folder: Path, n_workers: int, report: Progress) -> None:
    log_mel(np.zeros(front_end.window_samples, np.float32), front_end)  # impossible settings are no fault of a clip
    offsets, audio_offsets, bounds = [], [], []
    n_samples = n_frames = n_done = 0
    faults: list[str] = []
    with (folder / "audio.i16").open("wb") as audio_file, (folder / "features.f32").open("wb") as feature_file:
        for results in _in_parallel(group, front_end, n_workers):
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
            f"{faults[0]} `metavox data check` lists them all."
        )
    as_pairs = {"offsets": offsets, "audio_offsets": audio_offsets, "bounds": bounds}
    arrays = {name: np.asarray(pairs, np.int64).reshape(-1, 2) for name, pairs in as_pairs.items()}
    np.savez(folder / "index.npz", allow_pickle=False, **arrays)
    about = {"format": FORMAT, "front_end": front_end.spectral_key(), "ids": [u.id for u in group]}
    (folder / "bank.json").write_text(json.dumps(about), encoding="utf-8")


_Computed = tuple[np.ndarray, np.ndarray, tuple[int, int]] | str


def _in_parallel(group: list[Utterance], front_end: FrontEnd, n_workers: int) -> Iterator[list[_Computed]]:
    """Results in the order of ``group``.

    Threads, not processes: decoding, transforms and products run outside the interpreter lock, and a user's script
    needs no ``__main__`` guard.
    """
    chunks = [[u.path for u in group[i : i + _CHUNK]] for i in range(0, len(group), _CHUNK)]
    with ThreadPoolExecutor(max(1, n_workers)) as pool:
        try:
            yield from pool.map(_compute_chunk, chunks, [front_end] * len(chunks))
        finally:  # on Ctrl-C too: do not compute what nobody will store
            pool.shutdown(wait=True, cancel_futures=True)


def _compute_chunk(paths: Sequence[Path], front_end: FrontEnd) -> list[_Computed]:
    return [_compute_clip(path, front_end) for path in paths]


def _compute_clip(path: Path, front_end: FrontEnd) -> _Computed:
    try:
        wave = trim_padding(read(path, front_end.rate_hz))
        if len(wave) < front_end.window_samples:
            return f"{path} holds {1000 * len(wave) / front_end.rate_hz:.0f} ms besides digital silence; drop its row."
        frames = log_mel(wave, front_end)
    except InputError as err:
        return str(err)
    samples = np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)
    return samples, frames.astype(np.float32), speech_bounds(frames, front_end)
