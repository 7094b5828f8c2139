"""What is written down while learning: a line of JSON an outer step, and TensorBoard events where it is installed."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoint import write_text


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
