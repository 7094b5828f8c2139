"""A comparison of a few seconds: three corpora of tones, nets of some thousand weights, and a learner that guesses."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sounds
import torch
import yaml
from torch import Tensor, nn

from metavox.comparing.recorded import Cell, cell_folder
from metavox.contracts import Batch, Output, State
from metavox.learners.outer import query_loss
from metavox.learners.preset import Preset, Range


class Guesser(nn.Module):
    """Says the first word, whatever it hears."""

    fixed_ways = False
    adapts_body = False

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.sure = nn.Parameter(torch.tensor(1.0))

    def adapt(self, support: Batch) -> State:
        return {"first": torch.eye(support.n_classes)[0]}

    def predict(self, state: State, query: Batch) -> Output:
        scores: Tensor = self.sure * state["first"].expand(len(query), -1)
        return Output(scores)


GUESSER = Preset(
    lambda encoder, config: Guesser(encoder),  # type: ignore[arg-type]
    query_loss,
    "conditioned",
    "a test",
    search={"scale": Range(1.0, 10.0)},
)
"""All that it takes to bring another learner into the table."""


@dataclass
class Done:
    """A comparison and what was seen of it."""

    out: Path
    places: list[Path]
    recipe: Any
    document: dict[str, Any]
    heard: list[tuple[str, str, bool, set[str]]]
    """(fold, learner, whether the test had begun, what was read) for each time that recordings were read."""

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "rows.jsonl").read_text().splitlines()]

    def file(self, fold: str, learner: str, name: str) -> Any:
        return json.loads((cell_folder(self.out, Cell(fold, learner)) / name).read_text())


def corpora(root: Path) -> list[Path]:
    """Three languages; they share some words, so that a language that is left out is more than its words."""
    return [
        sounds.manifest_corpus(root / lang, sounds.WORDS[first : first + 6], sounds.SPEAKERS[:3], 2, lang=lang)
        for lang, first in (("aa", 0), ("bb", 3), ("cc", 6))
    ]


def recipe(folder: Path, places: list[Path], **compare: Any) -> Path:
    """A recipe file: the first two corpora are folds, the third is always trained on, and one is not here."""
    tree = {
        "model": {
            "front_end": {"n_mels": 20, "n_frames": 24, "normalize": False},
            "encoder": {"channels": 16, "blocks": 1, "dim": 8},
            "learner": {"match": "soft", "inner_steps": 1, "executor": "loop"},
        },
        "data": {"corpora": [*(str(place) for place in places), "elsewhere"], "validation_share": 0.4},
        "episodes": {"ways": 3, "shots": 1, "queries": 1, "batch": 1},
        "train": {"lr": 5e-3},
        "compare": {
            "learners": ["prototypes", "joint", "linear_probe"],
            "folds": [[str(places[0])], [str(places[1])]],
            "shots": [1, 2],
            "ways": 4,
            "queries": 2,
            "episodes": 4,
            "trials": 2,
            "minutes": 0.001,
            "validation_episodes": 2,
            **compare,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path
