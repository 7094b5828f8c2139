"""What one adaptation reached and cost, with every interval; printed by the command line, stored beside its values."""

from dataclasses import dataclass
from typing import Any, Literal

from safetensors.torch import save

from ..statistics import Interval, PairedDifference
from .choosing import Suggestion
from .guard import Forgetting
from .models import Recognition, part_of
from .scoring import Errors, change
from .selftraining import SelfTraining


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Errors on recordings that the trial did not hear, with what it started from and with what it learned."""

    by: Literal["speaker", "sentence"]
    """What the recordings share with none that the trial heard; no sentence in either case."""
    before: Errors
    after: Errors

    @property
    def helped(self) -> bool:
        """Whether fewer characters are wrong than before."""
        return self.after.rate < self.before.rate


@dataclass(frozen=True, eq=False)
class Adaptation:
    """A recogniser that was adapted, or left as it was where that did not help."""

    recognition: Recognition
    helped: bool | None
    """None where too few recordings were there to hold any out."""
    n: int
    """Transcribed recordings."""
    speech_s: float
    steps: int
    """Of the adaptation to all recordings."""
    seconds: float
    """From the first step to the last measurement, reading the recordings aside."""
    part_bytes: int
    kept_share: float
    """Of what was learned: 1 all of it, 0 where it did not help, less than 1 where the old tasks asked for it."""
    held_out: HeldOut | None
    forgetting: Forgetting | None
    """None where the base model has no guard."""
    self_training: SelfTraining | None
    suggestions: tuple[Suggestion, ...] = ()

    @property
    def real_time_share(self) -> float:
        """Seconds of work for each second of transcribed speech."""
        return self.seconds / self.speech_s

    def to_json(self) -> dict[str, Any]:
        """Flat and without NaN: figures as shares with ``ci95`` beside them, None for what is not known."""
        symbols = self.recognition.symbols
        return {
            "helped": self.helped,
            "n": self.n,
            "minutes": round(self.speech_s / 60, 3),
            "alphabet": symbols.alphabet,
            "n_symbols": symbols.size,
            "steps": self.steps,
            "seconds": round(self.seconds, 2),
            "real_time_share": round(self.real_time_share, 4),
            "part_bytes": self.part_bytes,
            "kept_share": self.kept_share,
            **_held_out(self.held_out),
            **_forgetting(self.forgetting),
            **_self_training(self.self_training),
            "suggestions": [_suggestion(each) for each in self.suggestions],
        }


def part_bytes(recognition: Recognition) -> int:
    """Bytes of the file that an adapted recogniser's values take."""
    assert recognition.base is not None
    return len(save(part_of(recognition, recognition.base)))


def _held_out(found: HeldOut | None) -> dict[str, Any]:
    before, after = (found.before, found.after) if found is not None else (None, None)
    return {
        "held_out_n": 0 if before is None else len(before),
        "held_out_by": None if found is None else found.by,
        "clustered_by": None if before is None else before.clustered_by,
        **_errors("before", before),
        **_errors("after", after),
        **_difference("cer_change", None if found is None else change(found.before, found.after)),
    }


def _forgetting(found: Forgetting | None) -> dict[str, Any]:
    before, after = (found.before, found.after) if found is not None else (None, None)
    return {
        "old_tasks_n": 0 if before is None else len(before),
        **_interval("old_tasks_cer_before", None if before is None else before.cer()),
        **_interval("old_tasks_cer_after", None if after is None else after.cer()),
        **_difference("old_tasks_cer_change", None if found is None else change(found.before, found.after)),
        "max_forgetting": None if found is None else found.limit_points,
    }


def _errors(when: str, found: Errors | None) -> dict[str, Any]:
    cer, wer = (None, None) if found is None else (found.cer(), found.wer())
    return {**_interval(f"cer_{when}", cer), **_interval(f"wer_{when}", wer)}


def _self_training(found: SelfTraining | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "unlabelled_n": found.n_pieces,
        "unlabelled_minutes": round(found.seconds / 60, 3),
        "unlabelled_skipped": len(found.skipped),
        "unlabelled_known": found.n_known,
        "unlabelled_threshold": found.threshold,
        "unlabelled_kept": found.n_kept,
        "unlabelled_kept_minutes": round(found.kept_s / 60, 3),
        "unlabelled_used": found.accepted,
        **_difference("unlabelled_cer_change", found.change()),
    }


def _suggestion(found: Suggestion) -> dict[str, Any]:
    return {
        "path": str(found.piece.path),
        "start_s": round(found.piece.start_s, 3),
        "end_s": round(found.piece.end_s, 3),
        "heard": found.heard,
        "uncertainty": round(found.uncertainty, 4),
        "distance": round(found.distance, 4),
        "reason": found.reason,
    }


def _interval(name: str, found: Interval | None) -> dict[str, Any]:
    return {name: None if found is None else found.mean, f"{name}_ci95": None if found is None else found.ci95}


def _difference(name: str, found: PairedDifference | None) -> dict[str, Any]:
    return {name: None if found is None else found.difference, f"{name}_ci95": None if found is None else found.ci95}
