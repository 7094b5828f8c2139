"""Models on disk: safetensors and JSON, never pickle. Written beside and renamed, read with every check.

A model folder: ``model.safetensors``, ``config.json`` (how to build it, version, hash, provenance) and a README.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from ..averaging.members import AveragedLearner
from ..averaging.predictions import Form
from ..config import LearnerConfig, ModelConfig, validated
from ..contracts import InputError
from ..learners.preset import named, resolved
from ..learners.presets import BASELINES, LEARNERS, served_with
from ..nets.encoders import ENCODERS
from .averages import AVERAGE as AVERAGE
from .averages import copy_model, read_average, require_as_saved, save_average
from .files import FORMAT as FORMAT
from .files import put_folder as put_folder
from .files import read_document, read_tensors, write_json, write_tensors
from .files import write_text as write_text

NEGATIVES = "negatives.safetensors"
"""In a model's folder, where it brings sounds that are no command (see ``background``)."""
BUNDLED = Path(__file__).parents[1] / "bundled"
"""Where the models are that come with Metavox."""
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Model:
    """A learner with what is known of it."""

    learner: Any
    config: ModelConfig
    name: str
    hash: str
    about: Mapping[str, Any]
    """Provenance: training data, seed, steps, held-out accuracy, reference scores."""
    folder: Path | None = None


def build(config: ModelConfig, *, seed: int = 0) -> nn.Module:
    """Initialisation: a learner from its configuration, weights drawn from ``seed``.

    Raises:
        InputError: an encoder or learner of an unknown name, or options that contradict the learner's name.
    """
    encoder_class = named(ENCODERS, config.encoder.name, "encoder.name")
    config = resolved(config, LEARNERS)
    preset = LEARNERS[config.learner.name]
    return seeded(lambda: preset.build(encoder_class(config.encoder, config.front_end), config.learner), seed)


def seeded(make: Callable[[], N], seed: int) -> N:
    """A network whose weights are drawn from ``seed``, in eval mode; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):  # torch's initialisers draw from the global generator only
        torch.manual_seed(seed)
        return make().eval()


def fingerprint(learner: nn.Module, config: ModelConfig | Mapping[str, Any]) -> str:
    """SHA-256 of configuration and weights. Another model's embeddings mean something else.

    A stored configuration is hashed as it stands, so that a field which a later version adds changes no old model.
    """
    document = config.model_dump(mode="json") if isinstance(config, ModelConfig) else config
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name, value in sorted(learner.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


# ----------------------------------------------------------------------------------------------------------- models


def save_model(
    folder: Path, learner: nn.Module, config: ModelConfig, about: Mapping[str, Any], *, half: bool = False
) -> None:
    """Write a model into ``folder``; each file is complete before it takes its name.

    With ``half`` the weights of ``learner`` are rounded to 16 bits, and so are those of the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(learner.state_dict())
    if half:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
        learner.load_state_dict(tensors)
    write_tensors(folder / "model.safetensors", tensors)
    document = {
        "format": FORMAT,
        "library": "metavox",
        "version": version("metavox"),
        "hash": fingerprint(learner, config),
        "model": config.model_dump(mode="json"),
        "about": dict(about),
    }
    write_json(folder / "config.json", document)


def place_of(source: str | Path, bundled: Path = BUNDLED) -> Path:
    """The folder that a source means: that of a bundled name (``metavox/asr-small``), or the path itself.

    Raises:
        InputError: a bundled name that there is not.
    """
    name = str(source)
    if not name.startswith("metavox/") or os.path.exists(name):
        return Path(source)
    folder = bundled / name.removeprefix("metavox/")
    if "/" in name.removeprefix("metavox/") or not folder.is_dir():
        there = ", ".join(f"metavox/{path.name}" for path in sorted(bundled.glob("*")) if path.is_dir())
        raise InputError(f"{name} is no bundled model; there are {there or 'none'}.")
    return folder


def load_model(source: str | Path) -> Model:
    """Read a bundled model (``metavox/commands-small``) or a model folder, or build a baseline by its name
    (``nearest_mean``, ``dtw``, ``scratch``).

    Raises:
        InputError: no model there; a file that is truncated, of another version or of another encoder.
    """
    if str(source) in BASELINES and not os.path.exists(source):
        config = BASELINES[str(source)]
        learner = build(config)
        return Model(learner, config, str(source), fingerprint(learner, config), {})
    folder = place_of(source, BUNDLED)
    if os.path.isfile(folder / AVERAGE):
        return _load_average(folder)
    if not os.path.isfile(folder / "config.json"):
        raise InputError(
            f"{source} holds no model (no config.json); name a folder that `metavox train` wrote, or a baseline: "
            f"{', '.join(BASELINES)}."
        )
    document = read_document(folder / "config.json", "model")
    if document.get("kind") == "recogniser":
        raise InputError(f"{source} transcribes and tells no words apart; name a model of words.")
    config = validated(ModelConfig, document.get("model"), f"{folder / 'config.json'}")
    if (
        "head" not in config.learner.model_fields_set
    ):  # a model from before heads could be chosen, whatever is usual now
        config = config.model_copy(update={"learner": config.learner.model_copy(update={"head": "prototypes"})})
    about = document.get("about", {})
    validated(_About, about, f"{folder / 'config.json'}, about")
    learner = build(config)
    _load_weights(learner, folder / "model.safetensors")
    actual = fingerprint(learner, document["model"])
    if document.get("hash") != actual:
        raise InputError(
            f"{folder} is not as it was saved: its weights and configuration hash to {actual[:12]} and config.json "
            f"says {str(document.get('hash'))[:12]}; restore both files from the same training."
        )
    name = str(source) if folder != Path(source) else folder.resolve().name
    return Model(learner.eval(), config, name, actual, about, folder)


def rehead(model: Model, learner: LearnerConfig) -> Model:
    """The same weights behind another way to adapt, so that one training serves a comparison of several.

    Allowed are other settings of the model's own learner, and of learners that the same training serves: ``joint``,
    ``linear_probe`` and ``simpleshot``.

    Raises:
        InputError: a learner of an unknown name, of another training, or with other weights.
    """
    named(LEARNERS, learner.name, "learner.name")
    if isinstance(model.learner, AveragedLearner):
        raise InputError(f"{model.name} is an average of predictions, whose members adapt as each was trained to.")
    alike = served_with(model.config.learner.name)
    if learner.name not in alike:
        raise InputError(
            f"Model {model.name} learns by {model.config.learner.name}, and {learner.name} needs another training; "
            f"evaluate it as {' or '.join(alike)}."
        )
    full = resolved(model.config.model_copy(update={"learner": learner}), LEARNERS)
    config = model.config.model_copy(update={"learner": full.learner})
    other = build(config)
    try:
        other.load_state_dict(model.learner.state_dict())
    except RuntimeError:
        raise InputError(
            f"The weights of model {model.name} do not fit learner {learner.name} with "
            f"learner.n_base_classes={learner.n_base_classes}; leave the sizes of the model as they are, or train "
            f"{learner.name} itself."
        ) from None
    name = f"{model.name} as {learner.name}"
    return replace(model, learner=other, config=config, name=name, hash=fingerprint(other, config))


class _Reference(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)

    target: tuple[float, ...] = Field(min_length=1)
    nontarget: tuple[float, ...] = Field(min_length=1)


class _About(BaseModel):
    """What is relied on of a model's provenance; other keys are for people."""

    corpora: tuple[str, ...] = ()
    reference: dict[int, _Reference] = {}


def _load_weights(learner: nn.Module, path: Path) -> None:
    tensors = read_tensors(path)
    wanted = {name: tuple(value.shape) for name, value in learner.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if wanted != found:
        odd = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
        raise InputError(
            f"{path} belongs to another encoder or learner than its config.json: {odd} is {found.get(odd, 'absent')} "
            f"and should be {wanted.get(odd, 'absent')}; restore both files from the same training."
        )
    learner.load_state_dict(tensors)


# --------------------------------------------------------------------------------------------------------- averages


def averaged(
    members: Sequence[Model], form: Form, weights: Sequence[float] | None = None, name: str = "average"
) -> Model:
    """Models of words behind one face: see ``averaging.members``.

    Raises:
        InputError: no member, an average among them, members that hear other features, members with heads for other
            numbers of words.
    """
    if not members:
        raise InputError("No model was given to average; give two or more.")
    first = members[0]
    for member in members:
        if isinstance(member.learner, AveragedLearner):
            raise InputError(f"{member.name} is an average already; average its members instead.")
    for other in members[1:]:
        if other.config.front_end != first.config.front_end:
            raise InputError(
                f"{other.name} hears other features than {first.name} ({_features(other)} and {_features(first)}); "
                "train both with the same model.front_end."
            )
        if other.learner.fixed_ways != first.learner.fixed_ways or (
            other.learner.fixed_ways and other.config.learner.ways != first.config.learner.ways
        ):
            raise InputError(
                f"{other.name} tells {_ways_of(other)} apart and {first.name} {_ways_of(first)}; average models of the "
                "same classes."
            )
    learner = AveragedLearner([member.learner for member in members], form, weights).eval()
    document = {"form": form, "weights": learner.weights, "members": [member.hash for member in members]}
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    about = {
        key: sorted({value for member in members for value in member.about.get(key, ())})
        for key in ("corpora", "languages", "left_out")
    }
    return Model(learner, first.config, name, digest, about)


def _features(model: Model) -> str:
    own = model.config.front_end
    frames = "frames of their own number" if own.n_frames is None else f"{own.n_frames} frames"
    return f"{frames} of {own.n_mels} bins every {own.hop_ms:g} ms at {own.rate_hz} Hz"


def _ways_of(model: Model) -> str:
    return f"{model.config.learner.ways} words" if model.learner.fixed_ways else "any number of words"


def save_averaged(folder: Path, members: Sequence[Model], average: Model) -> None:
    """Write an average of models of words with its members. Raises InputError where ``folder`` is something else."""
    learner = average.learner

    def writer(member: Model) -> Callable[[Path], None]:
        if member.folder is not None:
            return partial(copy_model, member.folder)
        return lambda place: save_model(place, member.learner, member.config, member.about)

    names = [member.name for member in members]
    save_average(
        folder,
        of="words",
        form=learner.form,
        weights=learner.weights,
        names=names,
        writers=[writer(member) for member in members],
        hash_of=lambda beside: _of_members(beside, learner.form, learner.weights, names).hash,
    )


def _load_average(folder: Path) -> Model:
    found = read_average(folder, "words")
    if found.form == "rover":
        raise InputError(f"{folder / AVERAGE} is damaged: words are not voted on; restore it.")
    made = _of_members(folder, found.form, found.weights, found.names)
    require_as_saved(folder, found, made.hash)
    return replace(made, folder=folder)


def _of_members(folder: Path, form: Form, weights: Sequence[float], names: Sequence[str]) -> Model:
    members = [load_model(folder / "members" / str(k)) for k in range(1, len(names) + 1)]
    members = [replace(member, name=name) for member, name in zip(members, names, strict=True)]
    return averaged(members, form, weights, folder.resolve().name)
