"""The shelf of learners that adapt by gradient: an update rule and an outer rule, under the name that papers use.

Heads of a fixed number of classes, which most of these papers have, are ``maml_fixed``'s alone: the others begin with
zeros or with class means, so that any number of classes will do and classes have no number. Any row may be asked for
another head by ``learner.head``.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from ..config import LearnerConfig
from ..contracts import Encoder, InputError
from ..engine import Implicit, Reptile
from ..engine.outers import Outer as EngineOuter
from .by_metric import EVEN
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
    """The way that the inner loop went.

    Raises:
        InputError: a head or a body that no inner loop moves as it is learned.
    """
    if config.adapts in ("head", "adapters", "lora", "context"):
        raise InputError(
            f"learner.adapts is {config.adapts} and reptile learns only what its inner loop moves: the body would stay "
            "as it began; set learner.adapts to all or body, or choose fomaml."
        )
    if config.head == "row":
        raise InputError(
            "learner.head is row and reptile learns only what its inner loop moves, which is a row for each class; set "
            "learner.head to prototypes, zero or fixed."
        )
    return _adapting(encoder, config, Reptile(), 0.0)


def implicit(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """The gradient at the end of the inner loop, whatever led there.

    Raises:
        InputError: steps that are too long for the pull to where they began.
    """
    if config.inner_lr * config.prox >= 2:
        raise InputError(
            f"learner.inner_lr is {config.inner_lr:g} and learner.prox is {config.prox:g}; the inner loop of imaml "
            "runs away where their product is 2 or more: lower one of them."
        )
    return _adapting(encoder, config, Implicit(config.prox, config.cg_iterations), 0.0)


def fine_tuned(encoder: Encoder, config: LearnerConfig) -> nn.Module:
    """Gradient descent from what joint training has learned.

    Raises:
        InputError: a head that joint training does not learn.
    """
    require_no_learned_head(config)
    return _adapting(encoder, config, "query", 0.0)


def require_no_learned_head(config: LearnerConfig) -> None:
    """Raise InputError for a head that only training by tasks would learn."""
    if config.head in ("row", "fixed"):
        raise InputError(
            f"learner.head is {config.head}, which {config.name} training does not learn; set it to prototypes or zero."
        )


def _adapting(encoder: Encoder, config: LearnerConfig, outer: str | EngineOuter, order: float) -> nn.Module:
    if config.multi_step and not config.inner_steps:
        raise InputError(
            "learner.inner_steps is 0 and learner.multi_step asks for the loss after each; set learner.inner_steps to "
            "1 or more, or learner.multi_step to false."
        )
    if config.multi_step and outer == "query":
        outer = "annealed" if config.multi_step == "annealed" else "multi_step"
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
        head=config.head,
        ways=config.ways,
        step_sizes=config.step_sizes,
        curvature=config.curvature,
        rank=config.rank,
    )


def _row(build: Callable[[Encoder, LearnerConfig], nn.Module], source: str, **options: Any) -> Preset:
    return Preset(build, meta_gradient, "gradient", source, **options, **EVEN)


INNER = {"inner_lr": Range(0.01, 1.0)}
FROM_ZERO = {"inner_lr": Range(0.1, 10.0)}
"""A head of zeros on vectors of length 1 has a long way to go.

Both ranges hold the best of three step sizes a decade apart of ``maml``, ``anil``, ``proto_maml``, ``boil``, ``cavia``
and ``lora`` after 60 outer steps on real words (12 ways, 2 shots, a small encoder, one seed: no more than a look).
"""
ZERO = {"head": "zero", "inner_lr": 1.0}
PLAIN = {"step_sizes": "given", "curvature": False, "multi_step": False, "anneal": None}
"""Of learners whose outer rule does not ask how the inner loop went: nobody would learn it."""
FIRST_ORDER = {"anneal": None}
"""There is no order to rise to."""

BY_GRADIENT = {
    "maml": _row(second_order, "Finn et al. 2017, MAML", usual=ZERO, search=FROM_ZERO),
    "maml_fixed": _row(
        second_order,
        "Finn et al. 2017, MAML, with a learned row for each of a fixed number of classes",
        fixed={"head": "fixed"},
        search=INNER,
    ),
    "fomaml": _row(first_order, "Finn et al. 2017, MAML, section 5.2", fixed=FIRST_ORDER, usual=ZERO, search=FROM_ZERO),
    "anil": _row(second_order, "Raghu et al. 2020, ANIL", fixed={"adapts": "head"}, usual=ZERO, search=FROM_ZERO),
    "boil": _row(second_order, "Oh et al. 2021, BOIL", fixed={"adapts": "body"}, search=INNER),
    "proto_maml": _row(
        second_order, "Triantafillou et al. 2020, Proto-MAML", fixed={"head": "prototypes"}, search=INNER
    ),
    "fo_proto_maml": _row(
        first_order,
        "Triantafillou et al. 2020, first-order Proto-MAML",
        fixed={"head": "prototypes", **FIRST_ORDER},
        search=INNER,
    ),
    "unicorn_maml": _row(
        second_order,
        "Ye and Chao 2022, UNICORN-MAML",
        fixed={"head": "row"},
        usual={"inner_lr": 1.0},
        search=FROM_ZERO,
    ),
    "meta_sgd": _row(
        second_order, "Li et al. 2017, Meta-SGD", fixed={"step_sizes": "value"}, usual=ZERO, search=FROM_ZERO
    ),
    "maml_plus_plus": _row(
        second_order,
        "Antoniou et al. 2019, MAML++",
        fixed={"step_sizes": "step"},
        usual={**ZERO, "multi_step": "annealed", "anneal": (0.0, 0.3)},
        search=FROM_ZERO,
    ),
    "meta_curvature": _row(
        second_order, "Park and Oliva 2019, Meta-Curvature", fixed={"curvature": True}, usual=ZERO, search=FROM_ZERO
    ),
    "cavia": _row(
        second_order,
        "Zintgraf et al. 2019, CAVIA",
        fixed={"adapts": "context"},
        usual={"inner_lr": 1.0},  # a context is small, and so is its slope
        encoder={"condition": 32},
        search=FROM_ZERO,
    ),
    "adapters": _row(
        second_order,
        "Houlsby et al. 2019, bottleneck adapters, adapted as in MAML",
        fixed={"adapts": "adapters"},
        encoder={"adapter": 8},
        search=INNER,
    ),
    "lora": _row(
        second_order,
        "Hu et al. 2021, LoRA, adapted as in MAML",
        fixed={"adapts": "lora"},
        search={**INNER, "rank": (2, 4, 8)},
    ),
    "reptile": _row(reptile, "Nichol et al. 2018, Reptile", fixed=PLAIN, search=INNER),
    "imaml": _row(
        implicit,
        "Rajeswaran et al. 2019, iMAML",
        fixed=PLAIN,
        # Its gradient is that of an optimum, which few or long steps and a weak pull do not come near.
        usual={"inner_steps": 10, "inner_lr": 0.1, "prox": 3.0, "cg_iterations": 5},
        search={"inner_lr": Range(0.05, 0.2), "prox": Range(1.5, 6.0)},
    ),
}
