"""16 kHz audio and features of a corpus, computed once and memory-mapped: drawing an item is a slice.

A bank is a folder, keyed by the content of the recordings and by the settings that features depend on:

    bank.json      settings, format version, ids in order
    index.npz      offsets and speech bounds
    audio.i16      int16 samples of all clips, one after the other, padding zeros at the ends trimmed
    features.f32   float32 log-mel frames of all clips, one after the other

Variants of the clips (``data.variants``) are kept the same way, in a folder each beside that of the clips.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import overload
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..audio import read
from ..contracts import Batch, FrontEnd, InputError, Utterance
from ..features import log_mel, window
from .cache import cache_folder
from .noise import open_noise
from .parts import FORMAT, Computed, Progress, computed, in_parallel, write_part
from .stored import content_key, opened_or_written
from .variants import Variants, Varying, require_fit


@dataclass(frozen=True)
class _Part:
    """One memory-mapped corpus."""

    audio: np.memmap | np.ndarray
    features: np.memmap | np.ndarray
    folder: Path | None = None


class Bank:
    """Features of a list of utterances, at hand by position. Joined from one part a corpus.

    Every method that takes a ``variant`` reads that version of the clip; 0, which is what is left out means, is the
    clip as it was recorded.

    Attributes:
        utterances: what each position is.
        front_end: settings of the stored features.
        bounds: (n, 2) first and one-past-last frame that hold speech, of the clips as they were recorded.
        variants: banks of the same utterances in other versions.
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
        variants: Sequence["Bank"] = (),
    ) -> None:
        self.utterances = list(utterances)
        self.front_end = front_end
        self.bounds = bounds
        self.variants = tuple(variants)
        # One row a clip, then one row a clip of each variant.
        self._n_parts = len(parts)
        self._parts: list[_Part] = [*parts, *(part for bank in variants for part in bank._parts)]
        firsts = np.cumsum([len(parts), *(len(bank._parts) for bank in variants)]).tolist()
        moved = [bank._part_of + first for bank, first in zip(variants, firsts, strict=False)]
        self._part_of: np.ndarray = np.concatenate([part_of, *moved])
        self._offsets: np.ndarray = np.concatenate([offsets, *(bank._offsets for bank in variants)])
        self._audio_offsets: np.ndarray = np.concatenate([audio_offsets, *(bank._audio_offsets for bank in variants)])
        self._bounds: np.ndarray = np.concatenate([bounds, *(bank.bounds for bank in variants)])

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def n_variants(self) -> int:
        return len(self.variants)

    @overload
    def n_frames(self, positions: int, variant: int | None = None) -> int: ...
    @overload
    def n_frames(
        self, positions: Int[np.ndarray, " B"], variant: Int[np.ndarray, " B"] | None = None
    ) -> Int[np.ndarray, " B"]: ...
    def n_frames(
        self, positions: int | Int[np.ndarray, " B"], variant: int | Int[np.ndarray, " B"] | None = None
    ) -> int | Int[np.ndarray, " B"]:
        """Stored frames of one clip, or of several."""
        rows = self._rows(positions, variant)
        found: np.ndarray = self._offsets[rows, 1] - self._offsets[rows, 0]
        return found if found.ndim else int(found)

    def _rows(self, positions: int | np.ndarray, variant: int | np.ndarray | None) -> int | np.ndarray:
        if variant is None:
            return positions
        if np.min(variant, initial=0) < 0 or np.max(variant, initial=0) > self.n_variants:
            raise ValueError(f"variants are 0 to {self.n_variants}, not {variant}")
        return positions + len(self) * variant

    def audio(self, position: int, variant: int | None = None) -> Float[np.ndarray, " S"]:
        """Samples of one clip in [-1, 1]."""
        row = self._rows(position, variant)
        start, end = self._audio_offsets[row]
        return self._parts[self._part_of[row]].audio[start:end].astype(np.float32) / 32768

    def features(self, position: int, variant: int | None = None) -> Float[np.ndarray, "T F"]:
        """All stored frames of one clip, a view of the file."""
        row = self._rows(position, variant)
        start, end = self._offsets[row]
        return self._parts[self._part_of[row]].features[start:end]

    def window_bounds(
        self, positions: Int[np.ndarray, " B"], variant: Int[np.ndarray, " B"] | None = None, *, crop: bool = True
    ) -> Int[np.ndarray, "B 2"]:
        """First and one-past-last frame that are scored: those that hold speech, or without ``crop`` all.

        The bounds of a variant are those that a device finds in it, noise and all.
        """
        if crop:
            return self._bounds[self._rows(positions, variant)]
        frames = self.n_frames(positions, variant)
        return np.stack([np.zeros_like(frames), frames], 1)

    def padded(
        self,
        positions: Int[np.ndarray, " B"],
        bounds: Int[np.ndarray, "B 2"],
        variant: Int[np.ndarray, " B"] | None = None,
    ) -> tuple[Float[Tensor, "B T F"], Int[Tensor, " B"]]:
        """Frames ``bounds`` of each clip, padded with zeros to the longest, and their counts."""
        rows = self._rows(positions, variant)
        lengths = bounds[:, 1] - bounds[:, 0]
        out = np.zeros((len(positions), int(lengths.max()), self.front_end.n_mels), np.float32)
        firsts = self._offsets[rows, 0] + bounds[:, 0]
        for row, (part, first, n) in enumerate(
            zip(self._part_of[rows].tolist(), firsts.tolist(), lengths.tolist(), strict=True)
        ):
            out[row, :n] = self._parts[part].features[first : first + n]
        return torch.from_numpy(out), torch.from_numpy(lengths.astype(np.int64))

    def batch(
        self,
        positions: Int[np.ndarray, " B"],
        labels: Int[np.ndarray, " B"],
        n_classes: int,
        front_end: FrontEnd | None = None,
        variant: Int[np.ndarray, " B"] | None = None,
    ) -> Batch:
        """The windows that an encoder with ``front_end`` scores, computed as on a device from the file itself."""
        front_end = front_end or self.front_end
        require_same_spectrum(front_end, self.front_end)
        raw, n_valid = self.padded(positions, self.window_bounds(positions, variant, crop=front_end.crop), variant)
        inputs, lengths = window(raw, torch.zeros_like(n_valid), n_valid, front_end)
        return Batch(inputs, lengths, torch.from_numpy(np.asarray(labels, np.int64)), n_classes)

    @staticmethod
    def join(banks: Sequence["Bank"]) -> "Bank":
        """Several corpora as one list of positions, in the order given; nothing is copied."""
        if not banks:
            raise InputError("No corpus was given; name at least one folder of recordings.")
        for bank in banks:
            require_same_spectrum(bank.front_end, banks[0].front_end)
            if bank.n_variants != banks[0].n_variants:
                raise InputError(
                    f"Banks with {banks[0].n_variants} and {bank.n_variants} variants cannot be joined; build both "
                    "with the same."
                )
        parts = [part for bank in banks for part in bank._parts[: bank._n_parts]]
        firsts = np.cumsum([0, *(bank._n_parts for bank in banks)]).tolist()
        clean = [(bank, len(bank)) for bank in banks]
        return Bank(
            [utterance for bank in banks for utterance in bank.utterances],
            banks[0].front_end,
            parts,
            np.concatenate([bank._part_of[:n] + first for (bank, n), first in zip(clean, firsts, strict=False)]),
            np.concatenate([bank._offsets[:n] for bank, n in clean]),
            np.concatenate([bank._audio_offsets[:n] for bank, n in clean]),
            np.concatenate([bank.bounds for bank in banks]),
            [Bank.join([bank.variants[i] for bank in banks]) for i in range(banks[0].n_variants)],
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
    variants: Variants | None = None,
) -> Bank:
    """Open the bank of these recordings, computing it first where the cache has none.

    Each corpus among ``utterances`` becomes a part of its own, so that leaving one out costs nothing. With ``variants``
    each clip is there in other versions too, see ``with_variants``.

    Raises:
        InputError: no utterance, or clips that cannot be read (all of them are counted, the first is named).
    """
    by_corpus: dict[tuple[str, Path], list[Utterance]] = {}
    for utterance in utterances:
        by_corpus.setdefault((utterance.corpus, _corpus_folder(utterance)), []).append(utterance)
    n_versions = 1 + (variants.n if variants else 0)
    cache = cache or cache_folder() / "banks"
    banks, n_done = [], 0
    for group in by_corpus.values():
        report = _counted(progress, n_done, n_versions * len(utterances))
        banks.append(_open_part(group, front_end, cache, n_workers, report))
        n_done += len(group)
    bank = Bank.join(banks)
    if variants is None or variants.n == 0:
        return bank
    more = _counted(progress, n_done, n_versions * len(utterances))
    return with_variants(bank, variants, cache=cache, n_workers=n_workers, progress=more)


def with_variants(
    bank: Bank,
    variants: Variants,
    *,
    cache: Path | None = None,
    n_workers: int = 2,
    progress: Progress | None = None,
) -> Bank:
    """The same bank with ``variants.n`` other versions of each clip, computed where the cache has none.

    A version is kept under the content of its corpus, of the settings and of the recorded noise; further ones are
    added without computing the first again. Voices in the background come from the corpus of the clip.

    Raises:
        InputError: noise that cannot be used or is too short, changes that leave nothing of a clip.
    """
    cache = cache or cache_folder() / "banks"
    rate_hz, n = bank.front_end.rate_hz, len(bank)
    noise = open_noise(variants.noise, rate_hz, cache) if variants.noise else None
    n_samples = bank._audio_offsets[:n, 1] - bank._audio_offsets[:n, 0]
    require_fit(variants, noise, bank.utterances, n_samples, rate_hz)
    found: list[list[Bank]] = [[] for _ in range(variants.n)]
    n_done, total = 0, n * variants.n
    first = 0
    while first < n:  # one part after the other
        part = bank._part_of[first]
        group = [bank.utterances[i] for i in range(first, n) if bank._part_of[i] == part]
        varying = Varying(variants, group, partial(_clip_of, bank, first), rate_hz, noise)
        for number in range(1, variants.n + 1):
            report = _counted(progress, n_done, total)
            found[number - 1].append(_open_variant(bank, int(part), varying, number, n_workers, report))
            n_done += len(group)
        first += len(group)
    parts, rows = bank._parts[: bank._n_parts], (bank._part_of[:n], bank._offsets[:n], bank._audio_offsets[:n])
    return Bank(bank.utterances, bank.front_end, parts, *rows, bank.bounds, [Bank.join(banks) for banks in found])


def _clip_of(bank: Bank, first: int, position: int) -> Float[np.ndarray, " S"]:
    return bank.audio(first + position)


def _counted(progress: Progress | None, before: int, total: int) -> Progress:
    def report(done: int, _: int) -> None:
        if progress is not None:
            progress(before + done, total)

    return report


def _corpus_folder(utterance: Utterance) -> Path:
    for parent in utterance.path.parents:
        if parent.name == utterance.corpus:
            return parent
    return utterance.path.parent


def _open_part(group: list[Utterance], front_end: FrontEnd, cache: Path, n_workers: int, report: Progress) -> Bank:
    key = content_key((utterance.path for utterance in group), f"{FORMAT} {front_end.spectral_key()}")
    folder = cache / f"{(group[0].corpus or 'clips')[:40]}-{key}"

    def compute(position: int) -> Computed:
        return _compute_clip(group[position].path, front_end)

    def write(beside: Path) -> None:
        log_mel(np.zeros(front_end.window_samples, np.float32), front_end)  # impossible settings are no clip's fault
        remedy = "`metavox data check` lists them all."
        write_part(group, front_end, beside, in_parallel(len(group), compute, n_workers), report, remedy)

    found = opened_or_written(folder, lambda folder: _stored(folder, group, front_end), write)
    report(len(group), len(group))
    return found


def _open_variant(bank: Bank, part: int, varying: Varying, number: int, n_workers: int, report: Progress) -> Bank:
    group, front_end, clean = list(varying.utterances), bank.front_end, bank._parts[part].folder
    assert clean is not None  # parts are opened from folders
    folder = clean.with_name(f"{clean.name}-{varying.key()}-{number}")

    def compute(position: int) -> Computed:
        path = group[position].path
        try:
            wave = varying(position, number)
        except InputError as err:
            return f"variant {number} of {path}: {err}"
        return computed(wave, path, front_end)

    def write(beside: Path) -> None:
        remedy = "Weaken augment.wave, or leave these clips out."
        write_part(group, front_end, beside, in_parallel(len(group), compute, n_workers), report, remedy)

    found = opened_or_written(folder, lambda folder: _stored(folder, group, front_end), write)
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
    return Bank(group, front_end, [_Part(audio, features, folder)], part_of, offsets, audio_offsets, bounds)


def _compute_clip(path: Path, front_end: FrontEnd) -> Computed:
    try:
        return computed(read(path, front_end.rate_hz), path, front_end)
    except InputError as err:
        return str(err)
