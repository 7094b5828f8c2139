"""Models on disk: safetensors and JSON, never pickle. Written beside and renamed, read with every check.

A model folder: ``model.safetensors``, ``config.json`` (how to build it, version, hash, provenance) and a README.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .config import LearnerConfig, ModelConfig, validated
from .contracts import InputError, State
from .learners.preset import named, resolved
from .learners.presets import BASELINES, LEARNERS, served_with
from .nets.encoders import ENCODERS

FORMAT = 1
NEGATIVES = "negatives.safetensors"
"""In a model's folder, where it brings sounds that are no command (see ``background``)."""
BUNDLED = Path(__file__).parent / "bundled"
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


# ------------------------------------------------------------------------------------------------------------ files


def put_folder(folder: Path, mark: str, write: Callable[[Path], None], what: str) -> None:
    """Fill a folder beside and rename it, replacing an older one of its kind in one move.

    Raises:
        InputError: ``folder`` exists and holds no file ``mark``, so that it is something else than ``what``.
    """
    folder = Path(os.path.realpath(folder))  # ".", and links, which must stay links
    if folder.exists() and not (folder / mark).is_file():
        raise InputError(f"{folder} exists and is no {what}; choose another name or remove it.")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        write(beside)
        _put_in_place(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _put_in_place(beside: Path, folder: Path) -> None:
    """Give a new folder the name of an old one, which is removed last and returns where that fails."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    existed = folder.exists()
    if existed:
        folder.rename(old)
    try:
        beside.rename(folder)
    except BaseException:
        if existed:
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_tensors(path: Path, tensors: State | Mapping[str, Tensor]) -> None:
    """Save tensors so that ``path`` is either the old file or the whole new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, beside)
        os.replace(beside, path)
    except SafetensorError as err:
        raise OSError(f"{path} cannot be written ({err})") from None
    finally:
        beside.unlink(missing_ok=True)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Load a safetensors file; InputError where it is missing, truncated or something else."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; restore it or make it again.") from None
    except (SafetensorError, OSError, ValueError) as err:
        raise InputError(f"{path} is damaged or truncated ({err}); restore it or make it again.") from None


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Save JSON so that ``path`` is either the old file or the whole new one."""
    write_text(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Save text so that ``path`` is either the old file or the whole new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read_document(path: Path, what: str, reads: int | None = FORMAT) -> dict[str, Any]:
    """The JSON that describes a ``what`` of format ``reads`` (None: of any); InputError where it is damaged or
    another's."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise InputError(f"{path} is damaged or truncated ({err}); restore it or make the {what} again.") from None
    if not isinstance(document, dict) or document.get("library") != "metavox":
        raise InputError(f"{path} was not written by Metavox; name a {what} that it wrote.")
    if reads is not None and document.get("format") != reads:
        raise InputError(
            f"{path} has format {document.get('format')} and this version reads format {reads}; "
            f"make the {what} again or install the version that wrote it ({document.get('version')})."
        )
    return document
