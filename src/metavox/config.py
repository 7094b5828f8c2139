"""Frozen models of an experiment. One YAML file and ``key=value`` overrides; an unknown key names its neighbour."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .contracts import FrontEnd, InputError

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Values do not change after loading, and a key that means nothing is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# ------------------------------------------------------------------------------------------------------------ model


class EncoderConfig(Strict):
    """The universal representation g(x, theta)."""

    name: str = "conv"
    """A key of ``nets.encoders.ENCODERS``."""
    channels: int = Field(96, ge=4, le=2048)
    blocks: int = Field(4, ge=1, le=32)
    """Residual blocks."""
    halvings: int = Field(1, ge=0, le=5)
    """How many of the first blocks halve the frame rate."""
    kernel: int = Field(5, ge=1, le=31)
    dim: int = Field(32, ge=2, le=4096)
    """Size of the learned part of an output frame."""
    normalize: Literal["bins", "mean", "level"] = "level"
    """What is taken from a window before the first layer: the mean and deviation of each bin, the mean of each bin and
    one deviation, or one mean and one deviation for all."""
    cepstra: float = Field(1.4, ge=0)
    """Weight of cepstral coefficients beside the learned part of a frame, 0 for none. What is learned on few languages
    then corrects what is known of all."""


class LearnerConfig(Strict):
    """How it is learned. Fields that a learner does not use keep their defaults."""

    name: str = "prototypes"
    """A key of ``learners.presets.LEARNERS``."""
    match: Literal["soft", "dtw", "pooled"] = "dtw"
    """How two embedding sequences are compared: soft local alignment, dynamic time warping, or one pooled vector."""
    band: float = Field(0.25, gt=0, le=1)
    """Half width of the stretch a frame may be aligned to, as a share of the window."""
    inner_steps: int = Field(5, ge=0, le=1000)
    inner_lr: float = Field(0.05, ge=0)
    adapts: Literal["all", "head"] = "all"
    """Which values the inner loop may change."""
    n_base_classes: int = Field(0, ge=0)
    """Classes of the joint classifier, 0 for none; set from the training data."""


class ModelConfig(Strict):
    """Everything needed to build a learner again: what a checkpoint stores beside its weights."""

    front_end: FrontEnd = FrontEnd(normalize=False)
    encoder: EncoderConfig = EncoderConfig()
    learner: LearnerConfig = LearnerConfig()


# --------------------------------------------------------------------------------------------------------- training


class DataConfig(Strict):
    """Where tasks come from, and what is kept out of training."""

    corpora: tuple[str, ...] = ()
    """Folders, or names of folders in METAVOX_DATA. A named one that is absent there is skipped with a line."""
    synth: dict[str, Any] | None = None
    """Synthetic words (see ``data.synth.SynthSpec``), or none."""
    leave_out_corpora: tuple[str, ...] = ()
    leave_out_languages: tuple[str, ...] = ()
    real_share: float = Field(0.6, ge=0, le=1)
    """Share of training episodes from real recordings, where there are both kinds."""
    validation_share: float = Field(0.1, gt=0, lt=0.9)
    """Share of the word classes kept for validation tasks; no training episode sees them."""
    augment: bool = True


class EpisodeConfig(Strict):
    """Shape of a training episode. Query clips are never support clips."""

    ways: int = Field(12, ge=2)
    """At most; a group of fewer words gives all it has."""
    shots: int = Field(2, ge=1)
    queries: int = Field(2, ge=1)
    batch: int = Field(2, ge=1)
    """Episodes in one outer step."""


class TrainConfig(Strict):
    """The outer loop."""

    steps: int = Field(2000, ge=1)
    lr: float = Field(2e-3, gt=0)
    warmup: int = Field(50, ge=0)
    """Outer steps until the full step size, which then falls as a cosine to a hundredth."""
    weight_decay: float = Field(1e-2, ge=0)
    clip: float = Field(5.0, gt=0)
    """Largest norm of the meta-gradient."""
    seed: int = Field(0, ge=0, lt=2**63)
    threads: int = Field(1, ge=1, le=1024)
    """CPU threads of torch. Small nets on short windows are fastest on one."""
    validate_every: int = Field(200, ge=1)
    validation_episodes: int = Field(20, ge=1)
    validation_ways: int = Field(10, ge=2)
    validation_shots: int = Field(1, ge=1)
    """One take a word: with more, synthetic words are too easy to tell anything."""
    checkpoint_every: int = Field(200, ge=1)


class Experiment(Strict):
    """Task selection, initialisation, learning: one file that says all of it."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    episodes: EpisodeConfig = EpisodeConfig()
    train: TrainConfig = TrainConfig()


# ---------------------------------------------------------------------------------------------------------- loading


_UNREADABLE = (OSError, ValueError, RecursionError, yaml.YAMLError)
"""ValueError: bytes that are not UTF-8, and dates that no calendar has."""


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a recipe and apply ``section.key=value`` overrides, values written as in YAML.

    Raises:
        InputError: an unreadable file, a line that is not YAML, an unknown key or a value out of range.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"Recipe {path} does not exist; name a YAML file such as recipes/commands.yaml.") from None
    except _UNREADABLE as err:
        raise InputError(f"Recipe {path} cannot be read as YAML ({_one_line(err)}); correct the file.") from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise InputError(f"Recipe {path} holds a {type(tree).__name__}; it must hold sections such as 'train:'.")
    for text in overrides:
        _override(tree, text)
    return validated(Experiment, tree, str(path))


def _override(tree: dict[str, Any], text: str) -> None:
    key, sign, value = text.partition("=")
    parts = key.strip().split(".")
    if not sign or not all(parts):
        raise InputError(f"Override {text!r} is not of the form section.key=value; write for example train.steps=500.")
    try:
        parsed = yaml.safe_load(value)
    except _UNREADABLE as err:
        raise InputError(f"Override {text!r} has a value that is not YAML ({_one_line(err)}); quote it.") from None
    node = tree
    for part in parts[:-1]:
        below = node.setdefault(part, {})
        if below is None:
            below = node[part] = {}
        if not isinstance(below, dict):
            raise InputError(f"Override {text!r} goes below {part!r}, which holds a value and no section.")
        node = below
    node[parts[-1]] = parsed


def validated(model: type[M], tree: Any, source: str) -> M:
    """Build ``model`` from plain values; every fault in one sentence, with the nearest known key for an unknown one."""
    try:
        return model.model_validate(tree)
    except ValidationError as err:
        faults = [_fault(model, tree, item) for item in err.errors()]
        sentence = f"{source}: " + "; ".join(faults)
        raise InputError(sentence if sentence.endswith("?") else sentence + ".") from None


def _fault(model: type[BaseModel], tree: Any, item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    where = ".".join(path)
    if item["type"] != "extra_forbidden":
        return f"{where or 'the file'} is {_short(item.get('input'))}: {item['msg'][:1].lower()}{item['msg'][1:]}"
    known = _known_keys(model, path[:-1])
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.4)
    hint = f"did you mean {'.'.join([*path[:-1], near[0]])}?" if near else f"known keys are {', '.join(known)}"
    return f"unknown key {where}; {hint}"


def _known_keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    current: Any = model
    for part in path:
        annotation = current.model_fields[part].annotation if part in current.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        current = annotation
    return list(current.model_fields)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split())[:160]
