"""Learners that adapt by gradient, as the contract suite builds them, and what a state of each holds."""

from collections.abc import Callable, Mapping

from torch import Tensor

from metavox.config import LearnerConfig

ZERO = {"inner_steps": 3, "inner_lr": 1.0}
"""From a head of zeros."""
CASES = {
    "maml": LearnerConfig(name="maml", **ZERO),
    "maml-prototypes": LearnerConfig(name="maml", head="prototypes", inner_steps=3),
    "maml-patterns": LearnerConfig(
        name="maml",
        head="prototypes",
        inner_steps=3,
        adapts=("encoder.body.blocks.2.*", "head.*"),
        multi_step=True,
    ),
    "maml_fixed": LearnerConfig(name="maml_fixed", ways=4, inner_steps=10, inner_lr=0.5),
    "fomaml": LearnerConfig(name="fomaml", **ZERO),
    "fomaml-head": LearnerConfig(name="fomaml", head="prototypes", inner_steps=3, adapts="head"),
    "anil": LearnerConfig(name="anil", **ZERO),
    "boil": LearnerConfig(name="boil", inner_steps=3),
    "proto_maml": LearnerConfig(name="proto_maml", inner_steps=3),
    "fo_proto_maml": LearnerConfig(name="fo_proto_maml", inner_steps=3),
    "unicorn_maml": LearnerConfig(name="unicorn_maml", **ZERO),
    "meta_sgd": LearnerConfig(name="meta_sgd", **ZERO),
    "maml_plus_plus": LearnerConfig(name="maml_plus_plus", **ZERO),
    "meta_curvature": LearnerConfig(name="meta_curvature", **ZERO),
    "cavia": LearnerConfig(name="cavia", inner_steps=3),
    "adapters": LearnerConfig(name="adapters", inner_steps=3),
    "lora": LearnerConfig(name="lora", inner_steps=3, rank=2),
    "reptile": LearnerConfig(name="reptile", inner_steps=3),
    "imaml": LearnerConfig(name="imaml", inner_steps=3, cg_iterations=2),
}
"""Names of cases -> what is built on a small encoder."""
HEAD = {"head.weight", "head.bias"}


def _encoder(fits: Callable[[str], bool]) -> Callable[[Mapping[str, Tensor]], set[str]]:
    return lambda own: {name for name in own if name.startswith("encoder.") and fits(name)}


def _low_rank(own: Mapping[str, Tensor]) -> set[str]:
    names = [name[8:].replace(".", "/") for name, value in own.items() if name[:8] == "encoder." and value.ndim > 1]
    return {f"adapted.{side}.{name}" for name in names for side in ("down", "up")}


HELD = {
    **dict.fromkeys(CASES, _encoder(lambda name: True)),
    "maml-patterns": _encoder(lambda name: "blocks.2" in name),
    "fomaml-head": _encoder(lambda name: False),
    "anil": _encoder(lambda name: False),
    "cavia": lambda own: {"adapted.context"},
    "adapters": _encoder(lambda name: ".adapter." in name),
    "lora": _low_rank,
}
"""Names of cases -> parameters of the learner -> what a state holds beside the head."""
STILL = {"boil": HEAD}
"""What a state holds that no step moves."""
