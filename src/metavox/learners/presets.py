"""Learners by name: the whole shelf, and baselines that can be evaluated without a training."""

from torch import nn

from ..config import EncoderConfig, LearnerConfig, ModelConfig
from ..contracts import Encoder, FrontEnd
from .baselines import NearestMean, Scratch
from .by_condition import BY_CONDITION
from .by_gradient import BY_GRADIENT, INNER, PLAIN, fine_tuned
from .by_metric import BY_METRIC, LIGHT
from .frozen import LinearProbe, SimpleShot
from .masked import build_masked, masked
from .metric import Prototypes
from .outer import joint, leave_one_out_and_joint
from .plugged import plugged
from .preset import Preset as Preset
from .preset import Range, resolved


def _dtw(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return Prototypes(encoder, "dtw")


def _linear_probe(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return LinearProbe(encoder, config.probe_l2, config.n_base_classes)


def _simpleshot(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return SimpleShot(encoder, config.centring, config.n_base_classes)


def _scratch(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return Scratch(encoder, config.inner_steps, config.inner_lr)


def _nearest_mean(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    return NearestMean(encoder)


LEARNERS: dict[str, Preset] = {
    **BY_METRIC,
    **BY_CONDITION,
    **BY_GRADIENT,
    "joint": Preset(
        fine_tuned,
        joint,
        "joint",
        "all classes at once, then fine-tuning from class means",
        fixed=PLAIN,
        search=INNER,
        **LIGHT,
    ),
    "linear_probe": Preset(
        _linear_probe,
        joint,
        "joint",
        "Tian et al. 2020, RFS-simple",
        search={"probe_l2": Range(0.01, 100.0)},
        **LIGHT,
    ),
    "simpleshot": Preset(
        _simpleshot,
        joint,
        "joint",
        "Wang et al. 2019, SimpleShot",
        search={"centring": ("none", "l2n", "cl2n")},
        **LIGHT,
    ),
    "masked": Preset(
        build_masked,
        masked,
        "joint",
        "Liu et al. 2021, TERA: no labels in training",
        fixed=PLAIN,
        search=INNER,
        **LIGHT,
    ),
    "nearest_mean": Preset(_nearest_mean, None),
    "dtw": Preset(_dtw, None),
    "scratch": Preset(_scratch, None),
}


LEARNERS.update(plugged(frozenset(LEARNERS)))


def has_base_classes(name: str) -> bool:
    """Whether a learner's training tells all classes of training apart, so that it needs their number."""
    return LEARNERS[name].outer in (joint, leave_one_out_and_joint)


def served_with(name: str) -> tuple[str, ...]:
    """Learners that one training serves as it does this one: to them the weights mean the same."""
    if LEARNERS[name].outer is not joint:
        return (name,)
    return tuple(other for other, preset in LEARNERS.items() if preset.outer is joint)


def has_fixed_head(config: ModelConfig) -> bool:
    """Whether the learner tells classes apart by their number, so that each of its tasks must have as many of them."""
    learner = resolved(config, LEARNERS).learner
    return LEARNERS[learner.name].family == "gradient" and learner.head == "fixed"


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
