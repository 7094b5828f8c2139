"""Learners of transcription by name: how each is learned from a base, what it then adapts, and what is tuned.

A row is a continuation of a base and a way to adapt what comes out, both settings of pieces that exist. All adapt with
the same optimizer for as many steps (``conditioned`` without any), whatever their inner loop was. All that go on learn
from the same recordings and transcripts: those that tasks are made of, and no phones. Tasks of single words, and phones
in inner loops, would be other learners than those of the papers; what joint training can have beside transcribed
sentences would tell more of the labels than of the way to learn.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config.transcription import TranscriptionExperiment
from ..contracts import InputError
from ..learners.preset import Family, Range, named
from .plans import ADAPTERS, BODY, RANK, WAYS, Way

LR = "train.lr"
INNER_LR = "learning.inner_lr"
ADAPT_LR = "adapt.lr"
"""Keys of settings that are tuned: the step size of learning, of the inner loop, and of adapting."""


@dataclass(frozen=True)
class Row:
    """A learner of the shelf."""

    family: Family
    source: str
    """Who published it."""
    way: str
    """How it is adapted afterwards: a key of ``plans.WAYS``."""
    learning: Mapping[str, Any] | None = field(default_factory=dict)
    """Settings of ``LearningConfig`` without which it would be another learner; None where the base stays as it is."""
    usual: Mapping[str, Any] = field(default_factory=dict)
    """Settings of it that it has unless others are asked for."""
    search: Mapping[str, Range] = field(default_factory=dict)
    """What is tuned beside the step size of learning and that of adapting, and from what."""
    shares: str = ""
    """The row whose learning it uses, where that is the same."""

    @property
    def adapts(self) -> Way:
        """The way itself."""
        return WAYS[self.way]

    @property
    def space(self) -> dict[str, Range]:
        """All that is tuned, by key."""
        found = dict(self.search)
        if self.learning is not None:
            found[LR] = Range(1e-4, 2e-3)
        tuning = self.adapts.plan.tuning
        if tuning.steps:
            found[ADAPT_LR] = Range(tuning.lr / 4, tuning.lr * 4)
        return found


_INNER = {INNER_LR: Range(2e-4, 5e-3)}
_FEW = {INNER_LR: Range(5e-4, 5e-2)}
_CONTEXT = {INNER_LR: Range(0.02, 1.0)}


def _inner(
    source: str,
    outer: str,
    way: str = "augmented",
    lr: float = 1e-3,
    search: Mapping[str, Range] = _INNER,
    usual: Mapping[str, Any] | None = None,
    **fixed: Any,
) -> Row:
    """A row with an inner loop, all of whose steps are meta-training unless asked otherwise."""
    learning = {"outer": outer, "adapts": ("*",), "rank": 0, "encoding": "none", **fixed}
    return Row("gradient", source, way, learning, {"share": 1.0, "inner_lr": lr, **(usual or {})}, search)


_JOINT = {"outer": "joint"}
_CONDITIONED = {"outer": "joint", "condition_share": 1.0}
SHELF: dict[str, Row] = {
    "scratch": Row("untrained", "random weights, trained on the support", "scratch", None),
    "fine-tune": Row("joint", "the base as it is, fine-tuned with changed utterances", "augmented", None),
    "joint": Row("joint", "joint training goes on, then fine-tuning", "augmented", _JOINT),
    "head-only": Row("joint", "the head alone", "head-only", _JOINT, shares="joint"),
    "body-only": Row("joint", "all but the head", "body-only", _JOINT, shares="joint"),
    "biases": Row("joint", "Ben Zaken et al. 2022, BitFit", "biases", _JOINT, shares="joint"),
    "adapters": Row("joint", "Houlsby et al. 2019, adapters", "adapters", _JOINT, shares="joint"),
    "lora": Row("joint", "Hu et al. 2021, LoRA", "lora", _JOINT, shares="joint"),
    "masked": Row("joint", "Liu et al. 2021, TERA", "augmented", {"outer": "masked"}, {"share": 1.0}),
    "conditioned": Row(
        "conditioned", "Garnelo et al. 2018, CNP, by Perez et al. 2018, FiLM", "conditioned", _CONDITIONED
    ),
    "conditioned-tuned": Row(
        "conditioned", "the same, then fine-tuned", "conditioned-tuned", _CONDITIONED, shares="conditioned"
    ),
    "fomaml": _inner("Finn et al. 2017, section 5.2", "fomaml"),
    "maml": _inner("Finn et al. 2017, MAML", "maml"),
    "reptile": _inner("Nichol et al. 2018, Reptile", "reptile"),
    "meta_sgd": _inner("Li et al. 2017, Meta-SGD", "meta_sgd"),
    "maml_plus_plus": _inner("Antoniou et al. 2019, MAML++", "maml_plus_plus"),
    "imaml": _inner(
        "Rajeswaran et al. 2019, iMAML",
        "imaml",
        lr=0.04,
        search={"learning.prox": Range(4.0, 12.0)},
        usual={"inner_steps": 8, "prox": 8.0},
        unit_steps=False,  # its formula is that of an optimum, which steps of a length of their own do not come near
    ),
    "anil": _inner("Raghu et al. 2020, ANIL", "maml", "head-only", 3e-3, _FEW, adapts=("head.*",)),
    "boil": _inner("Oh et al. 2021, BOIL", "maml", "body-only", adapts=BODY),
    "cavia": _inner("Zintgraf et al. 2019, CAVIA", "maml", "context", 0.2, _CONTEXT, adapts=(), encoding="zero"),
    "cavia_heard": _inner(
        "Zintgraf et al. 2019, from what the support sounds like",
        "maml",
        "context-heard",
        0.2,
        _CONTEXT,
        adapts=(),
        encoding="support",
    ),
    "maml_adapters": _inner("Hou et al. 2021, MetaAdapter", "maml", "adapters", 3e-3, _FEW, adapts=ADAPTERS),
    "maml_lora": _inner("Finn et al. 2017 on the factors of Hu et al. 2021", "maml", "lora", 1e-2, _FEW, rank=RANK),
}


def row(name: str) -> Row:
    """A learner by its name.

    Raises:
        InputError: an unknown name, with the nearest one that is known.
    """
    found: Row = named(SHELF, name, "learning.learner")
    return found


def resolved(experiment: TranscriptionExperiment) -> TranscriptionExperiment:
    """The recipe with everything that its learner's name says, and the network that it needs.

    Raises:
        InputError: an unknown learner, one that learns nothing, or an option that contradicts the name.
    """
    learning, train, name = experiment.learning, experiment.train, experiment.learning.learner
    if not name:
        return experiment
    found = row(name)
    if found.learning is None:
        trained = ", ".join(other for other, one in SHELF.items() if one.learning is not None)
        raise InputError(f"learning.learner is {name!r}, which learns nothing from a base; choose from {trained}.")
    for key, value in found.learning.items():
        asked = getattr(learning, key)
        if key in learning.model_fields_set and asked != value:
            raise InputError(
                f"learning.{key} is {_said(asked)} and {name} is the learner with {key}={_said(value)}; leave {key} "
                "away, or choose another learning.learner."
            )
    if train.phone_weight and "phone_weight" in train.model_fields_set:
        raise InputError(
            f"train.phone_weight is {train.phone_weight:g} and learning.learner is {name!r}, which learns from "
            "transcripts alone; leave either away."
        )
    usual = {key: value for key, value in found.usual.items() if key not in learning.model_fields_set}
    learning = learning.model_copy(update={**usual, **found.learning})
    net = experiment.recogniser
    joint = found.learning["outer"] == "joint"  # bottlenecks are for adapting: joint training has no use for them
    sizes = {"adapter": 0 if joint else found.adapts.adapter, "condition": found.adapts.condition}
    needed: dict[str, Any] = {key: size for key, size in sizes.items() if size and not getattr(net, key)}
    if "condition" in needed and not net.squeeze:
        needed["condition_by"] = "film"
    return experiment.model_copy(
        update={
            "learning": learning,
            "recogniser": net.model_copy(update=needed),
            "train": train.model_copy(update={"phone_weight": 0.0}),
        }
    )


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)
