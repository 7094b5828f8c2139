"""The nouns of Metavox, and the protocols that its rooms agree on.

Shape alphabet, used in every signature and docstring:

    B items    S samples   T frames    F mel bins    D embedding   C classes
    V symbols  U target    N way       K shot        Q query

A *learner* has two verbs. ``adapt`` turns a support set into a ``State`` and leaves the learner as it was;
``predict`` scores a query with that state. The ``adapt`` of the inner training loop and the enrolment of a user are
the same function: what is trained is what ships.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from .errors import InputError as InputError

State = dict[str, Tensor]
"""Adapted values only, by name. Saves, ships and (later) vmaps like any dict of tensors."""


# ---------------------------------------------------------------------------------------------------------- speech


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording and what is known of it. Times are in seconds, unknown facts are None."""

    id: str
    path: Path
    duration_s: float
    text: str = ""
    label: str | None = None
    speaker: str | None = None
    lang: str | None = None
    accent: str | None = None
    gender: str | None = None
    age: str | None = None
    corpus: str = ""


class FrontEnd(BaseModel):
    """What an encoder wants to hear: how samples become the (T, F) window that it scores.

    The spectral part (up to ``high_hz``) is computed once and kept; the window part is applied each time an item is
    drawn, in training and on a device alike, so both see the same numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["logmel"] = "logmel"
    rate_hz: int = Field(16_000, ge=4_000, le=96_000)
    n_mels: int = Field(40, ge=8, le=256)
    window_ms: float = Field(25.0, ge=5, le=1000)
    hop_ms: float = Field(10.0, ge=1, le=1000)
    low_hz: float = Field(20.0, ge=0)
    high_hz: float = Field(7_600.0, gt=0)

    crop: bool = True
    """Cut to the stretch that holds speech, by energy, before anything is normalised."""
    range_db: float = Field(60.0, gt=0)
    """Values further than this below the loudest of the window are lifted to that floor (digital silence is -inf)."""
    normalize: bool = True
    """Subtract the mean and divide by the deviation of each bin over the window."""
    n_frames: int | None = Field(64, ge=8, le=4096)
    """Resample the window to this many frames (tempo normalised), or None to keep its own length."""

    @property
    def window_samples(self) -> int:
        return round(self.rate_hz * self.window_ms / 1000)

    @property
    def hop_samples(self) -> int:
        return round(self.rate_hz * self.hop_ms / 1000)

    def spectral_key(self) -> str:
        """The settings that stored features depend on, as text."""
        return (
            f"{self.kind}-{self.rate_hz}-{self.n_mels}-{self.window_ms:g}-{self.hop_ms:g}"
            f"-{self.low_hz:g}-{self.high_hz:g}"
        )


# ---------------------------------------------------------------------------------------------------------- batches


@dataclass(frozen=True, slots=True)
class Batch:
    """Items padded to one length. Frames at and after ``lengths`` are padding and never change a result."""

    inputs: Float[Tensor, "B T F"]
    lengths: Int[Tensor, " B"]
    labels: Int[Tensor, " B"]
    """Class index of each item within its episode, 0 to ``n_classes - 1``."""
    n_classes: int

    def __len__(self) -> int:
        return self.inputs.shape[0]

    def to(self, device: torch.device | str) -> "Batch":
        return replace(
            self, inputs=self.inputs.to(device), lengths=self.lengths.to(device), labels=self.labels.to(device)
        )


@dataclass(frozen=True, slots=True)
class Transcribed:
    """Utterances with what was said in them, padded. Frames and symbols at and after the lengths are padding."""

    inputs: Float[Tensor, "B T F"]
    lengths: Int[Tensor, " B"]
    targets: Int[Tensor, "B U"]
    """Symbols of each text; 0, the blank, is none."""
    target_lengths: Int[Tensor, " B"]

    def __len__(self) -> int:
        return self.inputs.shape[0]


@dataclass(frozen=True, slots=True)
class Draw:
    """Who was drawn: positions in a list of utterances, before any audio is touched. It can be logged as it is."""

    classes: tuple[str, ...]
    """Class names in label order."""
    class_ids: np.ndarray
    """(N,) position of each class in the index it was drawn from; what joint training classifies."""
    support: np.ndarray
    """(n_support,) positions of the support utterances."""
    support_labels: np.ndarray
    query: np.ndarray
    query_labels: np.ndarray
    apart: bool = False
    """Whether speakers were kept apart: nobody who is heard in a query was heard in the support."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A task cut in two: learn from the support, be scored on the query. They never share a clip."""

    support: Batch
    query: Batch
    draw: Draw


@dataclass(frozen=True, slots=True)
class Output:
    """Scores of a query: (B, C) for classes, (B, T, V) with ``lengths`` (B,) for transcription."""

    scores: Float[Tensor, "B *rest"]
    lengths: Int[Tensor, " B"] | None = None


@dataclass(frozen=True, slots=True)
class Grads:
    """The gradient of one outer step by parameter name, and what was measured on the way (loss, accuracy)."""

    values: dict[str, Tensor]
    metrics: dict[str, float] = field(default_factory=dict)
    losses: tuple[float, ...] = ()
    """Loss of each episode."""
    guessing: tuple[float, ...] = ()
    """What guessing costs in each episode: the logarithm of the number of classes."""


# -------------------------------------------------------------------------------------------------------- protocols


@runtime_checkable
class Encoder(Protocol):
    """The universal representation g(x, theta): (B, T, F) -> (B, T', D). It does not know what a task is."""

    front_end: FrontEnd
    dim: int

    def __call__(self, inputs: Tensor, lengths: Tensor) -> Tensor: ...

    def out_lengths(self, lengths: Tensor) -> Tensor:
        """Valid output frames for each count of valid input frames."""
        ...


@runtime_checkable
class Learner(Protocol):
    """How it is learned. It knows no speech."""

    fixed_ways: bool
    """True for a head with a fixed number of classes, which no product enrols."""
    adapts_body: bool
    """True where ``adapt`` changes the encoder itself, so that a state is as large as the model."""

    def adapt(self, support: Batch) -> State:
        """Learn from the support set. The learner itself stays as it was."""
        ...

    def predict(self, state: State, query: Batch) -> Output:
        """Score a query with adapted values. Thresholds and probabilities belong to ``calibration``."""
        ...


@runtime_checkable
class Enrollable(Learner, Protocol):
    """A learner whose state grows and shrinks word by word without the recordings: what a product enrols with."""

    def extend(self, state: State, support: Batch) -> State:
        """Equal to ``adapt`` on all takes together; ``support.n_classes`` counts old and new classes."""
        ...

    def without(self, state: State, label: int) -> State:
        """Equal to ``adapt`` without the takes of one class; later classes move down by one."""
        ...

    def leave_one_out(self, state: State) -> Float[Tensor, "B C"]:
        """Scores of every enrolled take as if it had not been enrolled; -inf where its class has no other take."""
        ...


@runtime_checkable
class Comparing(Enrollable, Protocol):
    """A learner that can be asked about items that were embedded before, so that a thousand negatives cost little."""

    def embed(self, batch: Batch) -> tuple[Float[Tensor, "B T D"], Int[Tensor, " B"]]:
        """Frames and their lengths."""
        ...

    def commonness(self, frames: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """What is taken from all scores of an item, whatever is enrolled; worth keeping beside its frames."""
        ...

    def compare(
        self,
        state: State,
        frames: Float[Tensor, "B T D"],
        lengths: Int[Tensor, " B"],
        commonness: Float[Tensor, " B"] | None = None,
    ) -> Output:
        """``predict`` of what ``embed`` gave. ``commonness`` is computed where it is not given."""
        ...


@runtime_checkable
class VoiceEncoder(Protocol):
    """A clip of speech in, a vector out that tells voices apart: our own, or one by adapter."""

    name: str
    hash: str
    """SHA-256 of all that vectors depend on: those of another encoder mean something else."""
    dim: int
    rate_hz: int

    def embed(self, waves: Sequence[Float[np.ndarray, " _S"]]) -> Float[np.ndarray, "n D"]:
        """A vector of unit length, float32, for each wave of speech in [-1, 1] at ``rate_hz``."""
        ...


@runtime_checkable
class Scheduled(Protocol):
    """A learner that trains otherwise early than late."""

    chosen: dict[str, Any]
    """How it computes what it does, by what that was chosen for; a training that goes on is given what it had."""

    def progress(self, share: float) -> None:
        """Say which share of training is over, 0 to 1."""
        ...


@runtime_checkable
class Task(Protocol):
    """What is asked of the outputs: how they are punished in training and scored in a test."""

    def loss(self, output: Output, query: Batch) -> Float[Tensor, ""]: ...

    def score(self, output: Output, query: Batch) -> Float[Tensor, " B"]:
        """One figure an item, 1 for right and 0 for wrong."""
        ...


Outer = Callable[[Any, Task, Sequence[Episode]], Grads]
"""Outer rule: (learner, task, episodes) -> meta-gradient. Query loss, multi-step, Reptile, implicit, joint."""


# --------------------------------------------------------------------------------------------------------- products


@dataclass(frozen=True, slots=True)
class Promise:
    """How often sounds that are no enrolled word are accepted at most, and how sure that is."""

    target: float
    """What was asked for: a share of such sounds, or alarms per hour."""
    per_hour: bool
    bound: float
    """Upper bound of what the threshold gives, in the unit of ``target`` and at most that."""
    confidence: float
    """The share of draws of negatives in which the bound holds."""
    n_negatives: int
    """Sounds that the threshold was set on."""
    n_alarms: int
    """Of these, how many the threshold lets pass."""
    hours: float
    """Duration of the recordings that they were found in."""
    negatives: str
    """Where they come from: ``model`` for those that come with it, or what the user named."""
    n_recordings: int = 0
    """Recordings that they are from; 0 where nobody said, and each then stands for itself."""
    design_effect: float = 1.0
    """So many of them tell as much as one that is independent, as alarms of one recording come together."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Where a score becomes a decision, and what the threshold rests on."""

    threshold: float
    n_target: int
    """Scores of takes against their own word that the threshold was set on."""
    n_nontarget: int
    """Scores of takes against other words."""
    source: str
    """``enrolment``, ``model`` (the model's own held-out tasks), ``both``, or ``negatives``, then with a promise."""
    promise: Promise | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What was heard, or None: a refusal."""

    label: str | None
    best: str
    score: float
    threshold: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Place:
    """How a place sounds where nobody speaks: what stays of a few seconds of its noise, from which nobody is heard."""

    power_db: tuple[float, ...]
    """Mean power of each mel bin; samples in the 16-bit range."""
    low_db: float
    """Level that a tenth of the frames stay below, relative to ``power_db``."""
    high_db: float
    """Level that hardly any frame is above, relative to ``power_db``."""
    duration_s: float
    """Noise that this was measured on."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a user saves: adapted values, their labels, and everything needed to use them honestly later."""

    state: State
    labels: tuple[str, ...]
    calibration: Calibration
    front_end: FrontEnd
    model_hash: str
    """SHA-256 of the base model's weights and configuration: another model's embeddings mean something else."""
    version: str
    """Version of Metavox that wrote it."""


def as_row(value: Any) -> dict[str, Any]:
    """A flat dataclass as a dict, without the deep copies of ``dataclasses.asdict``."""
    return {f.name: getattr(value, f.name) for f in fields(value)}
