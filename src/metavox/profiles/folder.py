"""Profiles on disk: what a user enrolled, in one small folder that says when it is not as it was saved.

    profile.json          words, threshold, takes, base model, revision; size and SHA-256 of every file
    state.safetensors     adapted values
    takes.safetensors     log mel frames of each take as 16-bit floats, from which another state can be made
    earlier.json          earlier revisions, for undoing: their words, thresholds and takes
    earlier.safetensors   frames of the takes that only earlier revisions have
    audio/*.flac          16-bit recordings of the takes, where they were asked for

A profile may come from anybody: nothing in it names a file outside, and what is read is limited before it is read.
"""

import hashlib
import io
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ..checkpoint import AVERAGE, Model, load_model, put_folder, write_json, write_tensors
from ..contracts import InputError, Profile
from .contents import FORMAT, MAX_AUDIO_BYTES, MAX_TAKE_S, MAX_TENSOR_BYTES, N_EARLIER, Revision, Saved, Take
from .documents import (
    AGAIN,
    MAX_JSON_BYTES,
    EarlierDocument,
    FileRow,
    RevisionRow,
    checked,
    digest_of,
    read_profile_document,
    row_of,
)

# ------------------------------------------------------------------------------------------------------------ writing


def save_profile(
    folder: Path,
    profile: Profile,
    *,
    model: Path | None,
    now: Revision | None = None,
    earlier: Sequence[Revision] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a profile folder beside and rename it, replacing an older profile in one move.

    Words and threshold are those of ``profile``; of ``now`` the rest is kept (number, change, takes).

    Raises:
        InputError: ``folder`` exists and is no profile.
    """
    now = now or Revision(1, "", profile.labels, profile.calibration, ())
    now = replace(now, labels=profile.labels, calibration=profile.calibration)
    earlier = list(earlier)[-N_EARLIER:]
    front_end = profile.front_end

    def write(beside: Path) -> None:
        write_tensors(beside / "state.safetensors", profile.state)
        here = {take.key: take for take in now.takes}
        before = {take.key: take for one in earlier for take in one.takes if take.key not in here}
        for name, takes in (("takes", here), ("earlier", before)):
            if takes:
                write_tensors(beside / f"{name}.safetensors", {key: take.frames for key, take in takes.items()})
        if earlier:
            write_json(beside / "earlier.json", {"library": "metavox", "earlier": [row_of(one) for one in earlier]})
        for key, take in {**here, **before}.items():
            if take.audio is not None:
                (beside / "audio").mkdir(exist_ok=True)
                soundfile.write(beside / "audio" / f"{key}.flac", take.audio, front_end.rate_hz, subtype="PCM_16")
        document = {
            "format": FORMAT,
            "library": "metavox",
            "version": profile.version,
            **row_of(now),
            "front_end": front_end.model_dump(mode="json"),
            "model_hash": profile.model_hash,
            "model": None if model is None else str(model.resolve()),
            "model_relative": None if model is None else os.path.relpath(model.resolve(), os.path.realpath(folder)),
            **(extra or {}),
            "files": {path.relative_to(beside).as_posix(): _seen(path) for path in _files(beside)},
        }
        write_json(beside / "profile.json", {**document, "digest": digest_of(document)})

    put_folder(folder, "profile.json", write, "profile")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _seen(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


# ------------------------------------------------------------------------------------------------------------ reading


def load_profile(folder: Path) -> Saved:
    """Read a profile and every file of it.

    Raises:
        InputError: no profile there, or one that is damaged, not as it was saved, or of another format.
    """
    if not os.path.isfile(folder / "profile.json"):
        raise InputError(f"{folder} holds no profile (no profile.json); make one with `metavox enroll`.")
    document, found = read_profile_document(folder / "profile.json")
    files = _Files(folder, found.files)
    state = files.tensors("state.safetensors")
    here = files.tensors("takes.safetensors") if found.takes else {}
    now = files.revision(found, here)
    earlier: list[Revision] = []
    if "earlier.json" in found.files:
        before = {**here, **(files.tensors("earlier.safetensors") if "earlier.safetensors" in found.files else {})}
        rows = checked(EarlierDocument, files.json("earlier.json"), folder / "earlier.json")
        earlier = [files.revision(row, before) for row in rows.earlier]
    for key, frames in here.items():
        if frames.shape[-1] != found.front_end.n_mels:
            raise InputError(f"{folder / 'takes.safetensors'}: take {key} does not fit its front end; {AGAIN}.")
    for one in (now, *earlier):
        if one.place is not None and len(one.place.power_db) != found.front_end.n_mels:
            raise InputError(f"{folder / 'profile.json'}: the place does not fit its front end; {AGAIN}.")
    profile = Profile(state, found.labels, now.calibration, found.front_end, found.model_hash, found.version)
    options = {} if found.options is None else found.options.model_dump()
    relied = found.model_dump(include={"model", "model_relative", "model_name"})
    return Saved(profile, now, tuple(earlier), {**document, **relied, "options": options})


@dataclass(frozen=True)
class _Files:
    """The files that a document names, each checked before it is looked into."""

    folder: Path
    named: Mapping[str, FileRow]
    read: dict[str, np.ndarray] = field(default_factory=dict)
    """Samples by key, since several revisions hold the same take."""

    def content(self, name: str, at_most: int) -> bytes:
        path = self.folder / name
        if name not in self.named:
            raise InputError(f"{path} is not named in profile.json; {AGAIN}.")
        try:
            about = path.lstat()
            if not stat.S_ISREG(about.st_mode):
                raise InputError(f"{path} is no regular file; {AGAIN}.")
            if about.st_size > at_most:
                raise InputError(f"{path} has {about.st_size} bytes, at most {at_most} are read; {AGAIN}.")
            data = path.read_bytes()
        except OSError as err:
            missing = "is missing" if isinstance(err, FileNotFoundError) else f"cannot be read ({err.strerror})"
            raise InputError(f"{path} {missing}; {AGAIN}.") from None
        wanted = self.named[name]
        if len(data) != wanted.bytes:
            raise InputError(
                f"{path} is not as it was saved, but damaged or truncated ({len(data)} of {wanted.bytes} bytes); "
                f"{AGAIN}."
            )
        if hashlib.sha256(data).hexdigest() != wanted.sha256:
            raise InputError(f"{path} is not as it was saved: its content was changed; {AGAIN}.")
        return data

    def json(self, name: str) -> Any:
        try:
            return json.loads(self.content(name, MAX_JSON_BYTES))
        except (ValueError, RecursionError) as err:
            if isinstance(err, InputError):
                raise
            raise InputError(f"{self.folder / name} is damaged or truncated ({err}); {AGAIN}.") from None

    def tensors(self, name: str) -> dict[str, Tensor]:
        try:
            found = load(self.content(name, MAX_TENSOR_BYTES))
        except SafetensorError as err:
            raise InputError(f"{self.folder / name} is damaged or truncated ({err}); {AGAIN}.") from None
        for key, value in found.items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise InputError(f"{self.folder / name}: {key} holds values that are no numbers; {AGAIN}.")
        return found

    def samples(self, key: str) -> Int[np.ndarray, " S"]:
        if key not in self.read:
            name = f"audio/{key}.flac"
            data = io.BytesIO(self.content(name, MAX_AUDIO_BYTES))
            try:
                with soundfile.SoundFile(data) as file:
                    most = int(MAX_TAKE_S * file.samplerate) + 1
                    samples = file.read(most + 1, dtype="int16")
            except soundfile.LibsndfileError as err:
                raise InputError(f"{self.folder / name} cannot be decoded ({err.error_string}); {AGAIN}.") from None
            if samples.ndim != 1 or len(samples) > most:
                raise InputError(f"{self.folder / name} is no take of at most {MAX_TAKE_S:g} s; {AGAIN}.")
            self.read[key] = samples
        return self.read[key]

    def revision(self, row: RevisionRow, frames: Mapping[str, Tensor]) -> Revision:
        takes = []
        for take in row.takes:
            kept = frames.get(take.key)
            if kept is None or kept.ndim != 2 or kept.dtype != torch.float16 or not len(kept):
                raise InputError(f"{self.folder}: the frames of take {take.name!r} are not there; {AGAIN}.")
            audio = self.samples(take.key) if take.audio else None
            takes.append(Take(take.name, take.word, take.source, take.duration_s, kept, audio))
        calibration = row.calibration.calibration()
        return Revision(
            row.revision, row.change, row.labels, calibration, tuple(takes), row.expected_refusals, row.temperature,
            place=None if row.place is None else row.place.place(),
        )  # fmt: skip


# -------------------------------------------------------------------------------------------------------- its model


def model_of_profile(folder: Path, document: Mapping[str, Any], model: Path | None = None) -> Model:
    """The base model that a profile was made with: named, where it was, or where it lies relative to the profile.

    Raises:
        InputError: the model is gone, or is another one than the profile's.
    """
    if model is not None:
        places = [model]
    else:
        places = [Path(document["model"])] if document.get("model") else []
        places += [folder.resolve() / document["model_relative"]] if document.get("model_relative") else []
    faults: list[str] = []
    for place in places:
        if not any(os.path.isfile(place / mark) for mark in ("config.json", AVERAGE)):
            continue
        try:
            found = load_model(place)
        except InputError as err:
            faults.append(str(err))
            continue
        if found.hash == document["model_hash"]:
            return found
        faults.append(
            f"Profile {folder} was made with model {document['model_hash'][:12]} and {place} is {found.hash[:12]}; "
            "name the right one with --model or enrol again."
        )
    if faults:
        raise InputError(faults[0])
    raise InputError(
        f"The model of profile {folder} is not at {places[0] if places else 'any known place'}; "
        "name its folder with --model."
    )
