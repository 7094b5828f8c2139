"""The learners that are held to the contract, and the takes that they are asked to learn."""

from dataclasses import replace
from typing import Any

import torch
from gradient_cases import CASES as BY_GRADIENT
from metric_cases import CASES as BY_METRIC
from torch import Tensor
from torch.nn import functional

from metavox.checkpoint import build
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Batch, FrontEnd, State
from metavox.learners.gradient import GradientLearner
from metavox.learners.presets import BASELINES

SMALL = ModelConfig(
    front_end=FrontEnd(n_mels=16, n_frames=None),
    encoder=EncoderConfig(channels=16, dim=8, blocks=3),
)


def small(name: str, **learner: Any) -> ModelConfig:
    return SMALL.model_copy(update={"learner": LearnerConfig(name=name, **learner)})


CASES = {
    **{name: SMALL.model_copy(update={"learner": learner}) for name, learner in (BY_METRIC | BY_GRADIENT).items()},
    "joint": small("joint", inner_steps=3, n_base_classes=7),
    "masked": small("masked", inner_steps=3),
    "linear_probe": small("linear_probe", n_base_classes=7),
    "simpleshot-none": small("simpleshot", centring="none"),
    "simpleshot-l2n": small("simpleshot", centring="l2n"),
    "simpleshot-cl2n": small("simpleshot", centring="cl2n", n_base_classes=7),
    "nearest_mean": BASELINES["nearest_mean"],
    "dtw": BASELINES["dtw"],
    "scratch": small("scratch", inner_steps=6, inner_lr=1e-2),
}
GRADIENT = [name for name in CASES if isinstance(build(CASES[name]), GradientLearner)]
FIXED = [name for name in GRADIENT if CASES[name].learner.ways]
"""Those that know a class by its number: another number of classes, or another order, means something else to them."""
ENROLLABLE = [name for name in CASES if name in BY_METRIC and name != "film"] + ["dtw"]
TOLERANCE = 1e-5

N_CLASSES = 4
SHOTS = (3, 1, 2, 4)
"""Takes a class: unequal on purpose, one of them a single take."""


def takes(learner: Any, labels: list[int], n_classes: int = N_CLASSES, seed: int = 0) -> Batch:
    """Takes of a class are one random trajectory, said slower or faster and with noise, padded with zeros.

    Each class moves in bins of its own, so that it is also known by what is left when order in time is lost.
    """
    generator = torch.Generator().manual_seed(seed)
    words = torch.Generator().manual_seed(99)
    shapes = torch.randn(n_classes, learner.encoder.front_end.n_mels, 6, generator=words)
    shapes = shapes * torch.randn(n_classes, shapes.shape[1], 1, generator=words).exp()
    lengths = torch.randint(9, 22, (len(labels),), generator=generator)
    inputs = torch.zeros(len(labels), int(lengths.max()), shapes.shape[1])
    for i, label in enumerate(labels):
        said = functional.interpolate(shapes[label][None], size=int(lengths[i]), mode="linear")[0].T
        inputs[i, : lengths[i]] = said + 0.1 * torch.randn(said.shape, generator=generator)
    return Batch(inputs, lengths, torch.tensor(labels), n_classes)


def support_of(learner: Any) -> Batch:
    return takes(learner, [label for label, n in enumerate(SHOTS) for _ in range(n)], seed=1)


def query_of(learner: Any) -> Batch:
    return takes(learner, [3, 0, 1, 2, 0, 1], seed=2)


def scores_of(learner: Any, support: Batch, query: Batch) -> Tensor:
    with torch.no_grad():
        return learner.predict(learner.adapt(support), query).scores


def some(batch: Batch, items: Any, n_classes: int | None = None) -> Batch:
    """The items at these positions."""
    n_classes = batch.n_classes if n_classes is None else n_classes
    return Batch(batch.inputs[items], batch.lengths[items], batch.labels[items], n_classes)


def padded(batch: Batch, n_more: int, garbage: bool) -> Batch:
    inputs = functional.pad(batch.inputs, (0, 0, 0, n_more))
    if garbage:
        padding = torch.arange(inputs.shape[1]) >= batch.lengths[:, None]
        noise = 1e3 * torch.randn(inputs.shape, generator=torch.Generator().manual_seed(5))
        inputs = torch.where(padding[:, :, None], noise, inputs)
    return replace(batch, inputs=inputs)


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=TOLERANCE)
