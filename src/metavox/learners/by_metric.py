"""The shelf of learners that compare: with what is enrolled, through an encoder that stays as it is."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ..config import LearnerConfig
from ..contracts import Batch, Encoder
from ..nets import comparing
from ..nets.cross_attention import CrossTransformer
from ..nets.views import looks
from .classified import ClassifiedPrototypes
from .classifier import N_SEGMENTS
from .metric import Prototypes
from .outer import in_turn, leave_one_out, leave_one_out_and_joint, leave_one_out_and_voices, open_set
from .preset import Preset, Range
from .support_set import SupportSet
from .voiced import VoicedPrototypes

N_MOMENTS = 32
"""Moments of a clip that are compared by attention: all that the usual encoder gives of the usual window."""


def prototypes(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """Class means in kernel form, whatever the kernel."""
    return _to_be_furnished(Prototypes(encoder, config.match, config.band, _looks(config), config.nearness), config)


def classified_prototypes(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """The same, trained to tell all classes of training apart too."""
    learner = ClassifiedPrototypes(
        encoder, config.match, config.band, _looks(config), config.n_base_classes, base_weight=config.base_weight
    )
    return _to_be_furnished(learner, config)


def voiced_prototypes(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """The same, with a second head for voices on the same body."""
    learner = VoicedPrototypes(
        encoder, config.match, config.band, _looks(config), config.nearness, config.n_voices, config.voice_dim,
        config.voice_weight,
    )  # fmt: skip
    return _to_be_furnished(learner, config)


def _looks(config: LearnerConfig) -> Callable[[Batch], Sequence[Batch]]:
    return partial(looks, factors=config.tracts, below_db=config.tightened_db)


def _to_be_furnished(learner: Prototypes, config: LearnerConfig) -> Prototypes:
    """With room for what a stored model knows beside its weights."""
    if config.cohort:
        encoder = learner.encoder
        n_frames = int(encoder.out_lengths(torch.tensor([encoder.front_end.n_frames]))[0])
        learner.furnish(torch.eye(encoder.dim), torch.zeros(config.cohort, n_frames, encoder.dim))
    return learner


def protonet(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """As published: one vector a clip, squared Euclidean distances to class means."""
    return SupportSet(encoder, comparing.Euclidean(N_SEGMENTS), config.scale)


def matching(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """Attention over the takes by cosine.

    Without full-context embeddings: they read the support set as a sequence, and here the order of takes must not
    matter.
    """
    return SupportSet(encoder, comparing.Attention(), config.scale)


def relation(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """A learned comparator."""
    return SupportSet(encoder, comparing.Relation(encoder.dim, N_SEGMENTS, config.width), config.scale)


def gaussian(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """A posterior predictive density for each class."""
    return SupportSet(encoder, comparing.Gaussian(N_SEGMENTS * encoder.dim), config.scale)


def open_prototypes(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """Class means beside a generated dummy, which unknown words go to."""
    return SupportSet(encoder, comparing.Dummy(N_SEGMENTS * encoder.dim, N_SEGMENTS, config.width), config.scale)


def crosstransformer(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """A prototype for each moment of the query."""
    return SupportSet(encoder, CrossTransformer(encoder.dim, N_MOMENTS), config.scale, N_MOMENTS)


LIGHT: dict[str, Any] = {"cepstra_in_training": 0.5}
"""Where nothing is learned behind the encoder, cepstra may weigh less in training than in use: decision 0004."""
EVEN: dict[str, Any] = {"cepstra": 0.5}
"""Where something is, they weigh the same in both. On Arabic and Bengali digits that training left out (a CPU-minute of
training, one seed) 0.5 and 1.0 tie; ``cnp`` and ``gaussian`` are about two points better so than with 0.5 in training
and 1.4 in use, ``fo_proto_maml`` is not.
"""
SCALE: dict[str, Range | tuple[Any, ...]] = {"scale": Range(3.0, 60.0)}
WIDTH: dict[str, Range | tuple[Any, ...]] = {"width": (32, 64, 128, 256)}

BY_METRIC = {
    "prototypes": Preset(
        prototypes,
        leave_one_out,
        "metric",
        "Snell et al. 2017, with dynamic time warping (Sakoe and Chiba 1978)",
        **LIGHT,
    ),
    "classified_prototypes": Preset(
        classified_prototypes,
        leave_one_out_and_joint,
        "metric",
        "Kye et al. 2020, prototypes with global classification, on sequences",
        search={"base_weight": Range(0.1, 2.0)},
        **LIGHT,
    ),
    "voiced_prototypes": Preset(
        voiced_prototypes,
        leave_one_out_and_voices,
        "metric",
        "after Jung et al. 2022, PK-MTL: words and voices by two heads of one encoder",
        search={"voice_weight": Range(0.1, 2.0)},
        **LIGHT,
    ),
    "protonet": Preset(protonet, in_turn, "metric", "Snell et al. 2017, Prototypical networks", search=SCALE, **LIGHT),
    "matching": Preset(matching, in_turn, "metric", "Vinyals et al. 2016, Matching networks", search=SCALE, **LIGHT),
    "relation": Preset(
        relation, in_turn, "metric", "Sung et al. 2018, Relation networks", search={**SCALE, **WIDTH}, **EVEN
    ),
    "gaussian": Preset(gaussian, in_turn, "metric", "Banayeeanzade et al. 2021, GeMCL", search=SCALE, **EVEN),
    "open_prototypes": Preset(
        open_prototypes, open_set, "metric", "Kim et al. 2022, D-ProtoNets", search={**SCALE, **WIDTH}, **EVEN
    ),
    "crosstransformer": Preset(
        crosstransformer, in_turn, "metric", "Doersch et al. 2020, CrossTransformers", search=SCALE, **EVEN
    ),
}
