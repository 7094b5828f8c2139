"""What is written down while learning: the recipe, in the folder that is claimed for it; a line of JSON an outer step;
and TensorBoard events where it is installed.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from .checkpoint import write_text
from .contracts import InputError


def check_out(experiment: BaseModel, out: Path, *, resume: bool = False) -> None:
    """Raise InputError where a training cannot be left in ``out``; quick, to be asked before anything is computed."""
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} is not empty; use --resume to go on, or another --out.")
        return
    try:
        theirs = yaml.safe_load((out / "experiment.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        raise InputError(f"{out} holds no training to resume; leave --resume away to start one.") from None
    try:
        same = type(experiment).model_validate(theirs) == experiment  # keys that are newer have their defaults
    except ValidationError:
        same = False
    if not same:
        raise InputError(f"{out} was trained with another recipe; resume with the same one.")


def claim(experiment: BaseModel, out: Path) -> None:
    """Write down in ``out`` what is learned there."""
    out.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text(out / "experiment.yaml", text)


class TrainingLog:
    """``training.jsonl`` in ``out``; of an earlier part of the same training the first ``step`` lines stay."""

    def __init__(self, out: Path, step: int) -> None:
        path = out / "training.jsonl"
        kept = path.read_text(encoding="utf-8").splitlines()[:step] if step and path.is_file() else []
        write_text(path, "".join(line + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8", buffering=1)  # by line: a checkpoint is never ahead of the log
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(out / "events"), purge_step=step or None)

    def write(self, row: Mapping[str, Any], cpu_s: float) -> None:
        """Add one step, whose number is ``row["step"]``; what is not finite becomes null, since JSON has no NaN."""
        finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
        self._file.write(json.dumps({**finite, "cpu_s": round(cpu_s, 3)}) + "\n")
        if self._board is not None:
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Nothing is written from here on."""
        self._file.close()
        if self._board is not None:
            self._board.close()
