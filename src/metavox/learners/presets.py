"""Learners by name: an update rule and an outer rule, under the name that papers use."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from ..config import EncoderConfig, LearnerConfig, ModelConfig
from ..contracts import Encoder, FrontEnd, Outer
from ..engine import Implicit, Reptile
from ..engine.outers import Outer as EngineOuter
from ..nets.views import tracts
from .baselines import NearestMean, Scratch
from .frozen import LinearProbe, SimpleShot
from .gradient import GradientLearner
from .metric import Prototypes
from .outer import joint, leave_one_out, meta_gradient


@dataclass(frozen=True)
class Preset:
    """How a learner is built from its configuration, and how it is trained; None for what needs no training."""

    build: Callable[[Encoder, LearnerConfig], nn.Module]
    outer: Outer | None


def _prototypes(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return Prototypes(encoder, config.match, config.band, partial(tracts, factors=config.tracts))


def _dtw(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return Prototypes(encoder, "dtw")


def _gradient(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return _adapting(encoder, config, "query", 0.0)


def _maml(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return _adapting(encoder, config, "query", 1.0)


def _reptile(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return _adapting(encoder, config, Reptile(), 0.0)


def _imaml(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return _adapting(encoder, config, Implicit(config.prox, config.cg_iterations), 0.0)


def _adapting(encoder: Encoder, config: LearnerConfig, outer: str | EngineOuter, order: float) -> nn.Module:
    if config.multi_step and outer == "query":
        outer = "multi_step"
    return GradientLearner(
        encoder,
        config.inner_steps,
        config.inner_lr,
        config.adapts,
        order,
        config.anneal if order else None,
        outer,
        config.executor,
        config.n_base_classes,
    )


def _linear_probe(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return LinearProbe(encoder, config.probe_l2, config.n_base_classes)


def _simpleshot(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return SimpleShot(encoder, config.centring, config.n_base_classes)


def _scratch(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return Scratch(encoder, config.inner_steps, config.inner_lr)


def _nearest_mean(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return NearestMean(encoder)


LEARNERS = {
    "prototypes": Preset(_prototypes, leave_one_out),
    "maml": Preset(_maml, meta_gradient),
    "fomaml": Preset(_gradient, meta_gradient),
    "reptile": Preset(_reptile, meta_gradient),
    "imaml": Preset(_imaml, meta_gradient),
    "joint": Preset(_gradient, joint),
    "linear_probe": Preset(_linear_probe, joint),
    "simpleshot": Preset(_simpleshot, joint),
    "nearest_mean": Preset(_nearest_mean, None),
    "dtw": Preset(_dtw, None),
    "scratch": Preset(_scratch, None),
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
    "scratch": ModelConfig(
        front_end=FrontEnd(normalize=False),
        encoder=EncoderConfig(channels=32, blocks=2, halvings=2),
        learner=LearnerConfig(name="scratch", inner_steps=100, inner_lr=3e-3),
    ),
}
"""Models that need no checkpoint: they can be evaluated under their name.

``scratch`` was chosen on arabic_digits, 10 words and 5 takes, 20 episodes: cepstra 0 or 1.4, 100 or 200 steps, lr 1e-3,
3e-3 or 1e-2 (12 trials). Accuracy was 53 to 58 % without cepstra and 61 to 63 % with them; 100 steps and 3e-3 were best
there, and at one take. The default encoder of 96 channels and 4 blocks was not better (61 %) at five times the time.
"""
