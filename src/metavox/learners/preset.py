"""What a learner's name means: how it is built and trained, which options it fixes, and what a comparison tunes."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from ..config import EncoderConfig, LearnerConfig, ModelConfig
from ..contracts import Encoder, InputError, Outer
from ..nets.encoders import ADAPTABLE

Family = Literal["gradient", "metric", "conditioned", "joint", "untrained"]


@dataclass(frozen=True)
class Range:
    """What a comparison may choose a number from, by its logarithm."""

    low: float
    high: float


@dataclass(frozen=True)
class Preset:
    """A row of the shelf."""

    build: Callable[[Encoder, LearnerConfig], nn.Module]
    outer: Outer | None
    """How it is trained; None for what needs no training."""
    family: Family = "untrained"
    source: str = ""
    """Who published it, and where they describe it."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Options of ``LearnerConfig`` without which it would be another learner; others contradict the name."""
    usual: Mapping[str, Any] = field(default_factory=dict)
    """Options that it has unless others are asked for."""
    encoder: Mapping[str, int] = field(default_factory=dict)
    """What its encoder must have, and how much it has unless another size above 0 is asked for."""
    cepstra: float | None = None
    """``EncoderConfig.cepstra`` unless another is asked for."""
    cepstra_in_training: float | None = None
    """``EncoderConfig.cepstra_in_training`` unless another is asked for. Less than in use is for learners that compare
    by a formula; what is learned behind the encoder, or by an inner loop, must hear in training what it hears later."""
    search: Mapping[str, Range | tuple[Any, ...]] = field(default_factory=dict)
    """Options of ``LearnerConfig`` that a comparison tunes, and what from; everybody's ``train.lr`` is tuned too."""


def named(table: Mapping[str, Any], name: str, key: str) -> Any:
    """An entry of a table.

    Raises:
        InputError: an unknown name, with the nearest one that is known.
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"it must be one of {', '.join(table)}."
    raise InputError(f"{key} is {name!r}; {hint}")


def resolved(config: ModelConfig, table: Mapping[str, Preset]) -> ModelConfig:
    """The configuration with everything that the learner's name says, and the encoder that it needs.

    Raises:
        InputError: an unknown learner, or an option that contradicts the name.
    """
    learner = config.learner
    preset: Preset = named(table, learner.name, "learner.name")
    for key, value in preset.fixed.items():
        asked = getattr(learner, key)
        if key in learner.model_fields_set and asked != value:
            raise InputError(
                f"learner.{key} is {_said(asked)} and {learner.name} is the learner with {key}={_said(value)}; leave "
                f"{key} away, or choose another learner.name."
            )
    usual = {key: value for key, value in preset.usual.items() if key not in learner.model_fields_set}
    changed = learner.model_copy(update={**usual, **preset.fixed})
    return config.model_copy(update={"learner": changed, "encoder": _encoder(config.encoder, learner.name, preset)})


def _encoder(config: EncoderConfig, name: str, preset: Preset) -> EncoderConfig:
    """The encoder with what the learner needs, and has by itself."""
    if preset.encoder and config.name not in ADAPTABLE:
        raise InputError(
            f"learner.name is {name}, which needs an encoder with {' and '.join(preset.encoder)}, and {config.name} "
            f"has none; set encoder.name to {' or '.join(ADAPTABLE)}."
        )
    changes: dict[str, Any] = {key: size for key, size in preset.encoder.items() if not getattr(config, key)}
    if "cepstra" not in config.model_fields_set and preset.cepstra is not None:
        changes["cepstra"] = preset.cepstra
    if config.cepstra_in_training is None and preset.cepstra_in_training is not None:
        changes["cepstra_in_training"] = preset.cepstra_in_training
    return config.model_copy(update=changes) if changes else config


def _said(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
