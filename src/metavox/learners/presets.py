"""Learners by name: an update rule and an outer rule, under the name that papers use."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ..config import EncoderConfig, LearnerConfig, ModelConfig
from ..contracts import Encoder, FrontEnd, Outer
from .baselines import NearestMean
from .gradient import GradientLearner
from .metric import Prototypes
from .outer import joint, leave_one_out, query_loss


@dataclass(frozen=True)
class Preset:
    """How a learner is built from its configuration, and how it is trained; None for what needs no training."""

    build: Callable[[Encoder, LearnerConfig], nn.Module]
    outer: Outer | None


def _prototypes(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return Prototypes(encoder, config.match, config.band)


def _dtw(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return Prototypes(encoder, "dtw")


def _gradient(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return GradientLearner(
        encoder, config.inner_steps, config.inner_lr, config.adapts, n_base_classes=config.n_base_classes
    )


def _nearest_mean(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return NearestMean(encoder)


LEARNERS = {
    "prototypes": Preset(_prototypes, leave_one_out),
    "fomaml": Preset(_gradient, query_loss),
    "joint": Preset(_gradient, joint),
    "nearest_mean": Preset(_nearest_mean, None),
    "dtw": Preset(_dtw, None),
}

BASELINES = {
    "nearest_mean": ModelConfig(
        front_end=FrontEnd(crop=True, normalize=True, n_frames=64),
        encoder=EncoderConfig(name="logmel"),
        learner=LearnerConfig(name="nearest_mean"),
    ),
    "dtw": ModelConfig(
        front_end=FrontEnd(normalize=False, n_frames=None),
        encoder=EncoderConfig(name="mfcc"),
        learner=LearnerConfig(name="dtw", match="dtw"),
    ),
}
"""Models that need no checkpoint: they can be evaluated under their name."""
