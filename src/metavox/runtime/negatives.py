"""Negatives: what a device hears where nobody says a command, embedded once so that a threshold can be set on it."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from ..audio import read
from ..averaging.members import AveragedLearner
from ..checkpoint import NEGATIVES, Model, read_tensors
from ..contracts import Comparing, InputError, State
from ..data.fragments import fragments, heard_at
from ..data.layouts import MANIFEST
from ..data.manifests import load_corpus
from ..data.noise import SUFFIXES
from ..learners.metric import from_levels
from .takes import alike_in_length, batch_of

MAX_BYTES = 500_000_000
N_NAMED = 3
"""Files that a message names, and places that a promise does."""
N_COMPARED = 2_048
"""Negatives that are compared at once."""

Places = str | Path | Sequence[str | Path]
Progress = Callable[[int, int], None]
"""Called with (recordings done, recordings in all)."""


@dataclass(frozen=True, eq=False)
class Negatives:
    """Word-sized pieces of recordings that hold no command, as a learner embeds them."""

    frames: Float[Tensor, "N T D"]
    """float16: its rounding moves a score by thousandths."""
    lengths: Int[Tensor, " N"]
    groups: Int[Tensor, " N"]
    """The recording of each piece."""
    hours: float
    """Duration of the recordings, pauses and all."""
    name: str
    model_hash: str
    commonness: Float[Tensor, " N"] | None = None
    """How alike each is to what the model compares everything with, where it does (``Prototypes.commonness``)."""
    places: tuple[str, ...] = ()
    """Where the recordings are."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __deepcopy__(self, memo: Any) -> "Negatives":
        return self  # nothing in it changes, and it is large

    def scores(self, learner: Comparing, state: State) -> Float[Tensor, "N C"]:
        """Their scores for each word; the largest of a row decides whether it would be taken for one."""
        parts = []
        for start in range(0, len(self), N_COMPARED):
            here = slice(start, start + N_COMPARED)
            known = {} if self.commonness is None else {"commonness": self.commonness[here]}
            with torch.no_grad():
                parts.append(learner.compare(state, self.frames[here].float(), self.lengths[here], **known).scores)
        return torch.cat(parts)


# ----------------------------------------------------------------------------------------------------- of recordings


def negatives_in(places: Sequence[str | Path], model: Model, *, progress: Progress | None = None) -> Negatives:
    """Cut the recordings of folders, corpora or files into pieces (``data.fragments``) and embed them.

    Raises:
        InputError: a place without a recording, recordings that cannot be read, nothing in them but silence, or a
            model whose learner cannot compare what was embedded before.
    """
    learner, front_end = _comparing(model), model.config.front_end
    paths = list(dict.fromkeys(path for place in places for path in recordings_in(Path(place))))
    pieces: list[Tensor] = []
    groups: list[int] = []
    faults: list[str] = []
    seconds = 0.0
    for number, path in enumerate(paths):
        try:
            wave = read(path, front_end.rate_hz)
        except InputError as err:
            faults.append(str(err).removesuffix("."))
            continue
        seconds += len(wave) / front_end.rate_hz
        for _, _, frames in heard_at(wave, fragments(wave, front_end), front_end):
            # float16 as takes are kept: half the memory of hours, and far below what noise changes.
            pieces.append(torch.from_numpy(frames).half())
            groups.append(number)
        if progress is not None:
            progress(number + 1, len(paths))
    if faults:
        more = f"; and {len(faults) - N_NAMED} more" if len(faults) > N_NAMED else ""
        raise InputError(
            f"{len(faults)} of {len(paths)} negatives cannot be read: {'; '.join(faults[:N_NAMED])}{more}."
        )
    named = tuple(str(place) for place in places)
    name = ", ".join(named[:N_NAMED]) + (f" and {len(named) - N_NAMED} more" if len(named) > N_NAMED else "")
    if not pieces:
        raise InputError(
            f"The {len(paths)} recordings of {name} hold nothing but silence; give recordings of what the device will "
            "hear, such as talk or television, or leave --negatives out."
        )
    embedded, lengths = _embedded(learner, pieces, model)
    common = _commonness(learner, embedded, lengths)
    return Negatives(embedded, lengths, torch.tensor(groups), seconds / 3600, name, model.hash, common, named)


def recordings_in(place: Path) -> list[Path]:
    """The recordings of a file, of a corpus with a manifest, or anywhere below another folder, in order.

    Raises:
        InputError: there is none.
    """
    if place.is_file() and place.suffix.lower() in SUFFIXES:
        return [place]
    if not os.path.exists(place):
        raise InputError(f"Negatives {place} do not exist; name where they are, or others, with --negatives.")
    if not place.is_dir() or (place / MANIFEST).is_file():
        return [utterance.path for utterance in load_corpus(place)]
    found = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InputError(
            f"{place} holds no recording (such as .wav or .flac); name a folder with recordings of what the device "
            "will hear, or leave --negatives out."
        )
    return found


def _comparing(model: Model) -> Comparing:
    if isinstance(model.learner, AveragedLearner):
        raise InputError(
            f"{model.name} is an average of predictions, which cannot be asked about negatives; average weights "
            "instead (metavox average --form soup), or leave negatives out."
        )
    if not isinstance(model.learner, Comparing):
        raise InputError(
            f"Model {model.name} learns by {model.config.learner.name}, which cannot be asked about negatives; use a "
            "model trained with model.learner.name=prototypes, or leave negatives out."
        )
    return model.learner


def _embedded(learner: Comparing, pieces: Sequence[Tensor], model: Model) -> tuple[Tensor, Tensor]:
    """Frames and lengths in the order of the pieces, padded to the longest."""
    parts: list[tuple[list[int], Tensor, Tensor]] = []
    for at in alike_in_length([len(piece) for piece in pieces]):
        batch = batch_of([pieces[i] for i in at], [0] * len(at), 1, model.config.front_end)
        with torch.no_grad():
            frames, lengths = learner.embed(batch)
        parts.append((at, frames.half(), lengths))
    longest = max(frames.shape[1] for _, frames, _ in parts)
    order = torch.tensor([i for at, _, _ in parts for i in at]).argsort()
    padded = [functional.pad(frames, (0, 0, 0, longest - frames.shape[1])) for _, frames, _ in parts]
    return torch.cat(padded)[order], torch.cat([lengths for _, _, lengths in parts])[order]


def _commonness(learner: Any, frames: Tensor, lengths: Tensor) -> Tensor | None:
    """Known once for all thresholds, since it depends on no enrolment."""
    if not hasattr(learner, "commonness"):
        return None
    parts = zip(frames.split(N_COMPARED), lengths.split(N_COMPARED), strict=True)
    with torch.no_grad():
        return torch.cat([learner.commonness(part.float(), n) for part, n in parts])


_KEPT: dict[Any, Negatives] = {}
"""The last few folders that were embedded in this process: a grid search fits many times with the same ones."""
_N_KEPT = 4


def kept_negatives_in(places: Sequence[str | Path], model: Model, *, progress: Progress | None = None) -> Negatives:
    """``negatives_in``, once for the same unchanged files and model."""
    seen = []
    for place in places:
        for path in recordings_in(Path(place)):
            about = path.stat()
            seen.append((os.path.realpath(path), about.st_size, about.st_mtime_ns))
    key = (model.hash, tuple(map(str, places)), tuple(seen))
    if key not in _KEPT:
        found = negatives_in(places, model, progress=progress)
        while len(_KEPT) >= _N_KEPT:
            del _KEPT[next(iter(_KEPT))]
        _KEPT[key] = found
    return _KEPT[key]


# -------------------------------------------------------------------------------------------------------- of a model


def negatives_of(model: Model) -> Negatives | None:
    """Those that come with a model (``background``), or None.

    Its file holds ``frames`` (N, T, D) float16, or int8 in 127ths, ``lengths`` (N,), ``groups`` (N,), the recording of
    each, and ``commonness`` (N,) where the learner has one; ``config.json`` holds their hours.

    Raises:
        InputError: they are damaged, or do not fit the model.
    """
    if model.folder is None or not os.path.isfile(model.folder / NEGATIVES):
        return None
    path = model.folder / NEGATIVES
    learner = _comparing(model)
    if path.stat().st_size > MAX_BYTES:
        raise _odd(path, f"it has {path.stat().st_size} bytes, at most {MAX_BYTES} are read")
    tensors = read_tensors(path)
    frames, lengths, groups = (tensors.get(name) for name in ("frames", "lengths", "groups"))
    if frames is None or lengths is None or groups is None:
        raise _odd(path, "it needs frames, lengths and groups")
    dim = getattr(getattr(learner, "encoder", None), "dim", frames.shape[-1])
    if frames.ndim != 3 or frames.shape[2] != dim or frames.dtype not in (torch.int8, torch.float16):
        raise _odd(path, f"its frames are {frames.dtype} {tuple(frames.shape)}, not int8 or float16 (N, T, {dim})")
    n, n_frames = frames.shape[:2]
    if not n or any(value.shape != (n,) or value.is_floating_point() for value in (lengths, groups)):
        raise _odd(path, f"{n} frames need as many whole lengths and groups")
    if not bool(((lengths >= 1) & (lengths <= n_frames)).all()):
        raise _odd(path, f"its lengths go from {int(lengths.min())} to {int(lengths.max())}, not from 1 to {n_frames}")
    if frames.dtype == torch.int8:
        frames = from_levels(frames).half()
    common = tensors.get("commonness")
    if common is not None and (common.shape != (n,) or common.dtype != torch.float32):
        raise _odd(path, f"{n} frames need as much commonness")
    if not bool(frames.isfinite().all()) or not (common is None or bool(common.isfinite().all())):
        raise _odd(path, "it holds values that are no numbers")
    if common is None:
        common = _commonness(learner, frames, lengths.long())
    about = model.about.get("negatives")
    hours = about.get("hours") if isinstance(about, dict) else None
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not math.isfinite(hours) or hours <= 0:
        raise _odd(path, f"config.json gives it {hours!r} hours, under about.negatives")
    return Negatives(frames, lengths.long(), groups.long(), float(hours), "model", model.hash, common)


def _odd(path: Path, what: str) -> InputError:
    return InputError(f"{path} does not fit its model ({what}); restore the folder of the model.")


# ------------------------------------------------------------------------------------------------ what was asked for


def chosen(given: Places | Negatives | None, model: Model) -> Negatives | None:
    """What was given, embedded where it was not, or else what comes with the model.

    Raises:
        InputError: as ``negatives_in`` and ``negatives_of``, and for negatives that another model embedded.
    """
    if given is None:
        return negatives_of(model)
    if isinstance(given, Negatives):
        if given.model_hash == model.hash:
            return given
        if not given.places:
            raise InputError(
                f"The negatives {given.name} were embedded by another model than {model.name}, and nothing says where "
                "they are; embed them with negatives_in."
            )
        given = given.places
    return kept_negatives_in([given] if isinstance(given, str | Path) else given, model)


def places_of(given: Places | Negatives | None) -> list[str] | None:
    """Where what was given can be found again."""
    if given is None or isinstance(given, str | Path):
        return None if given is None else [os.path.abspath(given)]
    places = given.places if isinstance(given, Negatives) else given
    return [os.path.abspath(place) for place in places] or None
