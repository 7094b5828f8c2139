"""What can be asked of an average, and of which models."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..checkpoint import place_of
from ..checkpoint.averages import AVERAGE
from ..contracts import InputError
from ..learners.presets import BASELINES

Form = Literal["mean", "log-mean", "soup", "greedy-soup", "ema", "task-vector", "rover"]
FORMS: tuple[str, ...] = get_args(Form)
OF_WEIGHTS: tuple[Form, ...] = ("soup", "greedy-soup", "ema", "task-vector")
"""Forms that leave one network, which costs in use what one member costs."""
DECAY = 0.9
SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
"""Of the sum of task vectors: tried on development data where nobody says one."""


@dataclass(frozen=True)
class Asked:
    """What is asked of an average.

    Raises:
        InputError: an unknown form, and options that the form does not have or that lack another.
    """

    form: str = "mean"
    dev: str | None = None
    """Corpus that members are judged on, weights are learned on and soups are chosen on."""
    decay: float | None = None
    base: str | None = None
    scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InputError(f"--form is {self.form!r}; choose from {', '.join(FORMS)}.")
        if self.form == "greedy-soup" and self.dev is None:
            raise InputError("--form greedy-soup chooses its members on development data; name a corpus with --dev.")
        if self.form == "task-vector" and self.base is None:
            raise InputError("--form task-vector needs the model that all others began from; name it with --base.")
        for name, value, form in (("decay", self.decay, "ema"), ("base", self.base, "task-vector")):
            if value is not None and self.form != form:
                raise InputError(f"--{name} is for --form {form} and the form is {self.form}; leave it out.")
        if self.scales and self.form != "task-vector":
            raise InputError(f"--scale is for --form task-vector and the form is {self.form}; leave it out.")
        for scale in self.scales:
            if not math.isfinite(scale):
                raise InputError(f"--scale is {scale:g}; give finite numbers such as 0.5 or -1.")
        if self.decay is not None and not 0 < self.decay < 1:
            raise InputError(f"--decay is {self.decay:g}; give a number between 0 and 1, such as {DECAY}.")

    def scales_of(self, n_members: int) -> tuple[float, ...]:
        """One scale a member: those given, one for all, or a share each. Raises InputError for another number."""
        if not self.scales:
            return (1 / n_members,) * n_members
        if len(self.scales) == 1:
            return self.scales * n_members
        if len(self.scales) != n_members:
            raise InputError(
                f"--scale is given {len(self.scales)} times and there are {n_members} models; give it once for all, "
                "or once for each."
            )
        return self.scales


def kind_of(sources: Sequence[str]) -> Literal["words", "recognisers"]:
    """What all models are, read off their folders before any is opened.

    Raises:
        InputError: fewer than two models, a folder that holds none, models of several kinds, averages, and models of
            voices.
    """
    if len(sources) < 2:
        raise InputError(
            f"{len(sources) or 'No'} model was given to average; name two or more, such as exp/one exp/two."
        )
    kinds = [_kind(source) for source in sources]
    for source, kind in zip(sources, kinds, strict=True):
        if kind != kinds[0]:
            told = {"words": "tells words apart", "recognisers": "transcribes"}
            raise InputError(f"{sources[0]} {told[kinds[0]]} and {source} {told[kind]}; average models of one kind.")
    return kinds[0]


def _kind(source: str) -> Literal["words", "recognisers"]:
    if source in BASELINES and not os.path.exists(source):
        return "words"
    folder = place_of(source)
    if os.path.isfile(folder / AVERAGE):
        raise InputError(f"{source} is an average already; name its members, which lie in {folder / 'members'}.")
    if os.path.isfile(folder / "adapted.json"):
        return "recognisers"
    if not os.path.isfile(folder / "config.json"):
        raise InputError(f"{source} holds no model; name a folder that `metavox train` or `metavox adapt` wrote.")
    found = _document(folder / "config.json").get("kind", "words")
    if found == "recogniser":
        return "recognisers"
    if found != "words":
        raise InputError(f"{source} is a model of another kind ({found}); average models of words or recognisers.")
    return "words"


def _document(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise InputError(f"{path} is damaged or truncated ({err}); restore it or make it again.") from None
    return found if isinstance(found, dict) else {}
