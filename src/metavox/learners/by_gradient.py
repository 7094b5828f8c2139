"""The shelf of learners that adapt by gradient: an update rule and an outer rule, under the name that papers use."""

from torch import nn

from ..config import LearnerConfig
from ..contracts import Encoder
from ..engine import Implicit, Reptile
from ..engine.outers import Outer as EngineOuter
from .gradient import GradientLearner
from .outer import meta_gradient
from .preset import Preset, Range


def first_order(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """Inner gradients are constants."""
    return _adapting(encoder, config, "query", 0.0)


def second_order(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """The outer gradient goes through the inner ones."""
    return _adapting(encoder, config, "query", 1.0)


def reptile(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """The way that the inner loop went."""
    return _adapting(encoder, config, Reptile(), 0.0)


def implicit(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """The gradient at the end of the inner loop, whatever led there."""
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


INNER = {"inner_lr": Range(0.01, 1.0)}

BY_GRADIENT = {
    "maml": Preset(second_order, meta_gradient, "gradient", "Finn et al. 2017, MAML", search=INNER),
    "fomaml": Preset(first_order, meta_gradient, "gradient", "Finn et al. 2017, section 5.2", search=INNER),
    "reptile": Preset(reptile, meta_gradient, "gradient", "Nichol et al. 2018, Reptile", search=INNER),
    "imaml": Preset(implicit, meta_gradient, "gradient", "Rajeswaran et al. 2019, iMAML", search=INNER),
}
