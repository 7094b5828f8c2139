"""What an inner loop moves of an encoder, and how that enters it: its weights, low-rank changes of them, a context."""

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor, nn

from ..contracts import Encoder, InputError, State
from .classifier import ENCODER
from .low_rank import A, B, merged

OWN = "adapted."
"""What the names of values begin with that the encoder has not by itself."""
DOWN, UP, CONTEXT = OWN + "down.", OWN + "up.", OWN + "context"

PATTERNS = {
    "all": ("*",),
    "head": ("head.*",),
    "body": (ENCODER + "*",),
    "adapters": (ENCODER + "*", "head.*"),
    "lora": (OWN + "*", "head.*"),
    "context": (OWN + "*",),
}
"""``LearnerConfig.adapts`` -> patterns of the names that move."""


class Adapted(nn.Module):
    """Values of an encoder that belong to a task: what they begin with, and how the encoder is called with them.

    - ``all``, ``body``, and patterns: the encoder's own parameters.
    - ``adapters``: those of the bottlenecks behind its blocks alone (Houlsby et al. 2019).
    - ``lora``: for each of its parameters of two dimensions or more, taken as a matrix (out, in), a change of low rank,
      ``up @ down`` (Hu et al. 2021, LoRA). ``up`` begins at zero, ``down`` at values that are learned, so that nothing
      is changed at first.
    - ``context``: a vector of zeros that the encoder hears beside its input (Zintgraf et al. 2019, CAVIA).
    - ``head``: nothing.

    Attributes:
        adapts: one of the above.
        changes_encoder: whether a state holds as much as (part of) the encoder.

    Raises:
        InputError: an encoder without what is to adapt.
    """

    def __init__(self, encoder: Encoder, adapts: str | Sequence[str], rank: int) -> None:
        super().__init__()
        assert isinstance(encoder, nn.Module)
        self.adapts = adapts if isinstance(adapts, str) else "patterns"
        own = dict(encoder.named_parameters())
        self._known = tuple(own)
        self._shapes = {flat(name): (name, value.shape) for name, value in own.items() if value.ndim >= 2}
        self._context = int(getattr(encoder, "condition", 0))
        self._moving: tuple[str, ...] = ()
        if self.adapts in ("all", "body", "patterns"):
            self._moving = tuple(ENCODER + name for name in own)
        if self.adapts == "adapters":
            self._moving = tuple(ENCODER + name for name in own if "adapter" in name.split("."))
            _require(
                bool(self._moving), "adapters", "encoder.adapter is 0; set it to the rank of a bottleneck, such as 8"
            )
        if self.adapts == "context":
            size = "encoder.condition is 0; set it to the size of a context, such as 32"
            _require(self._context > 0, "context", size)
        self.down = nn.ParameterDict()
        if self.adapts == "lora":
            _require(bool(self._shapes), "lora", "the encoder has no matrix to change; choose another encoder.name")
            for name, (_, shape) in self._shapes.items():
                width = prod(shape[1:])
                value = torch.empty(min(rank, shape[0], width), width)
                self.down[name] = nn.Parameter(nn.init.kaiming_uniform_(value, a=5**0.5))

    @property
    def changes_encoder(self) -> bool:
        return bool(self._moving) or self.adapts == "lora"

    def only(self, names: Sequence[str]) -> None:
        """Leave those of the encoder's parameters where they are that are not among ``names``."""
        self._moving = tuple(name for name in self._moving if name in names)

    def start(self, values: Mapping[str, Tensor]) -> State:
        """What a task begins with, by name; ``values`` are all that is learned."""
        if self.adapts == "context":
            return {CONTEXT: values["log_scale"].new_zeros(self._context)}
        if self.adapts != "lora":
            return {name: values[name] for name in self._moving}
        down = {DOWN + name: values[DOWN + name] for name in self._shapes}
        up = {
            UP + name: value.new_zeros(self._shapes[name][1][0], value.shape[0])
            for name, value in zip(self._shapes, down.values(), strict=True)
        }
        return {**down, **up}

    def entering(self, values: Mapping[str, Tensor], fast: Mapping[str, Tensor]) -> tuple[State, tuple[Tensor, ...]]:
        """Parameters to call the encoder with, by its own names, and what it hears beside inputs and lengths."""
        weights = {name: fast.get(ENCODER + name, values[ENCODER + name]) for name in self._known}
        if self.adapts == "lora":
            factors: State = {}
            for key, (name, _) in self._shapes.items():
                if UP + key in fast:
                    factors |= {name + A: fast[DOWN + key], name + B: fast[UP + key]}
            weights |= merged(weights, factors)
        return weights, (fast[CONTEXT],) if CONTEXT in fast else ()


def flat(name: str) -> str:
    """A name without dots, as a parameter dictionary wants its keys."""
    return name.replace(".", "/")


def _require(there: bool, adapts: str, what: str) -> None:
    if not there:
        raise InputError(f"learner.adapts is {adapts} and {what}.")
