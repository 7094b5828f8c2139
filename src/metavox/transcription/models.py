"""Recognisers on disk: a base model, and what an adaptation changed of one, kept apart. Safetensors and JSON only.

A base folder holds ``model.safetensors``, ``config.json`` and, where it ships, a card and a licence. An adapted folder
holds ``part.safetensors`` and ``adapted.json``: the changes as 8-bit integers with a scale a row, rows of the head for
characters the base had not, and which base they belong to.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ..averaging.hypotheses import Vote
from ..checkpoint import BUNDLED, place_of, seeded
from ..checkpoint.averages import AVERAGE, copy_model, read_average, require_as_saved, save_average
from ..checkpoint.files import FORMAT, put_folder, read_document, read_tensors, write_json, write_tensors
from ..config import validated
from ..config.transcription import RecogniserConfig
from ..contracts import InputError, State
from ..learners.sequence import ENCODING
from ..nets.recogniser import Recogniser
from ..text.symbols import Symbols
from .averages import AveragedRecognition, Way, averaged
from .packing import packed, unpacked
from .recognition import Recognition as Recognition
from .spelling import Search, Spelling, stored_texts, taken_texts

DEFAULT = "metavox/asr-small"
"""The recogniser that comes with Metavox."""


def new_net(config: RecogniserConfig, seed: int = 0) -> Recogniser:
    """A network with weights drawn from ``seed``."""
    return seeded(lambda: Recogniser(config), seed)


def hash_of(config: Mapping[str, Any], symbols: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a configuration, an alphabet and stored weights."""
    digest = hashlib.sha256(json.dumps([config, symbols], sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------------ base models


def save_recogniser(folder: Path, recognition: Recognition, *, half: bool = False) -> Recognition:
    """Write a base model into ``folder`` and return it as it can be read back; ``half`` stores 16-bit weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach() for name, value in recognition.net.state_dict().items()}
    if half:
        tensors = {name: value.to(torch.float16) for name, value in tensors.items()}
    config, symbols = recognition.net.config.model_dump(mode="json"), recognition.symbols.to_json()
    write_tensors(folder / "model.safetensors", tensors)
    document = {
        "format": FORMAT,
        "library": "metavox",
        "kind": "recogniser",
        "version": version("metavox"),
        "hash": hash_of(config, symbols, tensors),
        "model": config,
        "symbols": symbols,
        "phones": list(recognition.phones),
        "about": dict(recognition.about),
    }
    write_json(folder / "config.json", document)
    return replace(recognition, hash=str(document["hash"]), folder=folder)


def load_recogniser(source: str | Path) -> Recognition:
    """Open a bundled name (``metavox/asr-small``), or a folder that `metavox train`, `adapt` or `average` wrote.

    Raises:
        InputError: nothing of the kind there, damaged files, or an adapted part whose base is another or gone.
    """
    folder = _place(source)
    if os.path.isfile(folder / AVERAGE):
        return _load_average(folder)
    if os.path.isfile(folder / "adapted.json"):
        return _load_adapted(folder)
    if not os.path.isfile(folder / "config.json"):
        raise InputError(
            f"{source} holds no recogniser (no config.json or adapted.json); name {DEFAULT}, or a folder that "
            "`metavox train` or `metavox adapt` wrote."
        )
    document = read_document(folder / "config.json", "model")
    if document.get("kind") != "recogniser":
        raise InputError(f"{source} is a model of another kind; name a recogniser, such as {DEFAULT}.")
    found = validated(_BaseDocument, document, str(folder / "config.json"))
    symbols = Symbols.from_json(found.symbols)
    net = new_net(found.model)
    tensors = read_tensors(folder / "model.safetensors")
    _fit(net, tensors, folder / "model.safetensors")
    actual = hash_of(document["model"], document["symbols"], tensors)
    if actual != found.hash:
        raise InputError(
            f"{folder} is not as it was saved: its files hash to {actual[:12]} and config.json says {found.hash[:12]}; "
            "restore both files from the same training."
        )
    name = str(source) if str(source).startswith("metavox/") else folder.resolve().name
    return Recognition(net, symbols, name, actual, found.about, found.phones, folder)


class _BaseDocument(BaseModel):
    """What is relied on in ``config.json``; other keys are for people."""

    model_config = ConfigDict(frozen=True)

    model: RecogniserConfig
    symbols: dict[str, Any]
    phones: tuple[str, ...] = ()
    hash: str
    about: dict[str, Any] = {}


def _place(source: str | Path) -> Path:
    return place_of(source, BUNDLED)


def _fit(net: Recogniser, tensors: Mapping[str, Tensor], path: Path) -> None:
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if wanted != found:
        odd = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
        raise InputError(
            f"{path} belongs to another network than its config.json: {odd} is {found.get(odd, 'absent')} and should "
            f"be {wanted.get(odd, 'absent')}; restore both files from the same training."
        )
    net.load_state_dict({name: value.to(torch.float32) for name, value in tensors.items()})


# ------------------------------------------------------------------------------------------------- adapted recognisers


def adapted(
    base: Recognition,
    state: State,
    symbols: Symbols | None = None,
    encoding: Tensor | None = None,
    report: Mapping[str, Any] | None = None,
    spelling: Spelling | None = None,
) -> Recognition:
    """A recogniser with other values than its base; the base stays as it is.

    ``state`` holds values by their names in the network, ``head.*`` with a row for each symbol, and the encoding of
    the support set where one is heard.
    """
    state = dict(state)
    encoding = state.pop(ENCODING, encoding)
    symbols = symbols or base.symbols
    config = base.net.config.model_copy(update={"n_symbols": symbols.size})
    net = new_net(config)
    values = {**base.net.state_dict(), **state}
    net.load_state_dict(values)
    return Recognition(
        net, symbols, f"{base.name} adapted", base.hash, base.about, base.phones, None, encoding, base, report or {},
        spelling,
    )  # fmt: skip


def widened(base: Recognition, adapter: int = 0, condition: int = 0) -> Recognition:
    """The base with bottlenecks behind its blocks (Houlsby et al. 2019), or blocks that hear an encoding of a support
    set; 0 leaves either as it is. It spells as before, to the bit: new bottlenecks give zeros, and so does the layer
    that makes the encoding. A base with a squeeze hears by its gates, another by gains and shifts.

    Raises:
        InputError: a base that has either in another size, or a conformer, whose blocks have none.
    """
    own = base.net.config
    found: dict[str, Any] = {"adapter": adapter or own.adapter, "condition": condition or own.condition}
    for name, size in found.items():
        if getattr(own, name) not in (0, size):
            raise InputError(
                f"recogniser.{name} is {size} and that of {base.name} is {getattr(own, name)}; ask for the same or for "
                "0, which keeps it."
            )
    if found == {"adapter": own.adapter, "condition": own.condition}:
        return base
    if condition and not own.condition:
        found["condition_by"] = "gate" if own.squeeze else "film"
    net = new_net(own.model_copy(update=found))
    known = base.net.state_dict()
    new = {name: value for name, value in net.state_dict().items() if name not in known}
    new |= {name: torch.zeros_like(value) for name, value in new.items() if name.startswith("encode.")}
    net.load_state_dict({**known, **new})
    return replace(base, net=net)


def part_of(recognition: Recognition, base: Recognition) -> dict[str, Tensor]:
    """All that an adaptation is stored as: packed changes, the encoding of the support, its texts."""
    part = packed(recognition.net.state_dict(), base.net.state_dict())
    if recognition.encoding is not None:
        part[ENCODING] = recognition.encoding
    return part if recognition.spelling is None else part | stored_texts(recognition.spelling.texts)


def save_adapted(folder: Path, recognition: Recognition) -> None:
    """Write what an adaptation changed, beside and renamed; an older part of the name is replaced in one move.

    Raises:
        InputError: ``folder`` exists and is no adapted recogniser.
    """
    base = recognition.base
    if base is None:
        raise InputError(f"{recognition.name} was not adapted; save it as a base model.")
    part, spelling = part_of(recognition, base), recognition.spelling
    document = {
        "format": FORMAT,
        "library": "metavox",
        "kind": "adapted recogniser",
        "version": version("metavox"),
        "base": base.name if base.name.startswith("metavox/") else None,
        "base_hash": base.hash,
        "base_folder": str(base.folder.resolve()) if base.folder else None,
        "base_relative": os.path.relpath(base.folder.resolve(), folder.resolve()) if base.folder else None,
        "symbols": recognition.symbols.to_json(),
        "adapter": recognition.net.config.adapter,
        "condition": recognition.net.config.condition,
        "spelling": None if spelling is None else asdict(spelling.search),
        "report": dict(recognition.report),
    }

    def write(beside: Path) -> None:
        write_tensors(beside / "part.safetensors", part)
        write_json(beside / "adapted.json", document)

    put_folder(folder, "adapted.json", write, "adapted recogniser")


class _AdaptedDocument(BaseModel):
    model_config = ConfigDict(frozen=True)

    base: str | None = None
    base_hash: str
    base_folder: str | None = None
    base_relative: str | None = None
    symbols: dict[str, Any]
    adapter: int = 0
    condition: int = 0
    spelling: Search | None = None
    report: dict[str, Any] = {}


def _load_adapted(folder: Path) -> Recognition:
    document = read_document(folder / "adapted.json", "adapted recogniser")
    found = validated(_AdaptedDocument, document, str(folder / "adapted.json"))
    base = widened(_base_of(folder, found), found.adapter, found.condition)
    symbols = Symbols.from_json(found.symbols)
    tensors = read_tensors(folder / "part.safetensors")
    encoding = tensors.pop(ENCODING, None)
    texts = taken_texts(tensors, symbols.size, folder / "part.safetensors")
    state = unpacked(tensors, base.net.state_dict(), symbols.size, folder / "part.safetensors")
    spelling = None if found.spelling is None or not texts else Spelling(texts, found.spelling)
    recognition = adapted(base, state, symbols, encoding, found.report, spelling)
    return replace(recognition, name=folder.resolve().name, folder=folder)


def _base_of(folder: Path, found: _AdaptedDocument) -> Recognition:
    """The base of an adapted folder: bundled, where it was, or where it lies relative to the folder."""
    places = [found.base, found.base_folder, found.base_relative and str(folder.resolve() / found.base_relative)]
    known = [place for place in places if place and os.path.isfile(_place(place) / "config.json")]
    if not known:
        raise InputError(
            f"The base model of {folder} is at none of {', '.join(str(p) for p in places if p) or 'no known place'}; "
            "put it back there, or adapt again."
        )
    others = []
    for place in known:
        base = load_recogniser(place)
        if base.hash == found.base_hash:
            return base
        others.append(f"{place} is {base.hash[:12]}")
    raise InputError(
        f"{folder} was adapted from model {found.base_hash[:12]} and {others[0]}: base and part do not match; restore "
        "the base it was made with, or adapt again."
    )


# ------------------------------------------------------------------------------------------------------------ averages


def save_averaged(folder: Path, recognition: AveragedRecognition) -> None:
    """Write an average with its members, each complete but for the base of an adapted one; beside and renamed.

    Raises:
        InputError: ``folder`` exists and is no average.
    """
    names = [member.name for member in recognition.members]
    form, weights, vote = recognition.form, recognition.weights, recognition.vote
    save_average(
        folder,
        of="recognisers",
        form=form,
        weights=weights,
        names=names,
        writers=[partial(_keep_member, member) for member in recognition.members],
        hash_of=lambda beside: _of_members(beside, form, weights, names, vote).hash,
        settings={"agreement": recognition.vote.agreement, "nothing": recognition.vote.nothing},
    )


def save_any(folder: Path, recognition: Recognition) -> None:
    """Write what was adapted, or an average. Raises InputError for neither, and where ``folder`` is something else."""
    if isinstance(recognition, AveragedRecognition):
        save_averaged(folder, recognition)
    else:
        save_adapted(folder, recognition)


def _keep_member(member: Recognition, place: Path) -> None:
    if member.base is not None:
        save_adapted(place, member)
        if member.folder is not None:  # packed again it would be another by a rounding
            shutil.copyfile(member.folder / "part.safetensors", place / "part.safetensors")
    elif member.folder is not None:
        copy_model(member.folder, place)
    else:
        save_recogniser(place, member)


def _load_average(folder: Path) -> Recognition:
    found = read_average(folder, "recognisers")
    vote = Vote(found.settings.get("agreement", 1.0), found.settings.get("nothing", 0.5))
    made = _of_members(folder, found.form, found.weights, found.names, vote)
    require_as_saved(folder, found, made.hash)
    return replace(made, folder=folder)


def _of_members(
    folder: Path, form: Way, weights: Sequence[float], names: Sequence[str], vote: Vote
) -> AveragedRecognition:
    members = [load_recogniser(folder / "members" / str(k)) for k in range(1, len(names) + 1)]
    members = [replace(member, name=name) for member, name in zip(members, names, strict=True)]
    return averaged(members, form, weights, vote, folder.resolve().name)
