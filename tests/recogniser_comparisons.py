"""A comparison of recognisers of seconds: a base that reads tones, and two dialects of tones that it never heard."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import tonal
import yaml

from metavox.transcription.models import save_recogniser

SPEAKERS = tuple("abcdef")
LEARNERS = ["fine-tune", "scratch", "joint", "lora", "conditioned"]


def corpora(root: Path) -> list[Path]:
    """What training goes on from, and two targets of six speakers each."""
    known = tonal.corpus(root / "known", tonal.texts(24, 1), speakers=SPEAKERS[:2], lang="xx")
    targets = [
        tonal.corpus(root / lang, tonal.texts(84, seed, n_words=2), dialect=True, speakers=SPEAKERS, lang=lang)
        for lang, seed in (("yy", 2), ("zz", 3))
    ]
    return [known, *targets]


def base(folder: Path, **about: Any) -> Path:
    """The reader of the first language, with what is recorded of it."""
    told = {"corpora": ["known"], "languages": ["xx"], "init": "", **about}
    told = {key: value for key, value in told.items() if value is not None}
    save_recogniser(folder, replace(tonal.reader(), about=told))
    return folder


def recipe(folder: Path, places: list[Path], start: Path, **compare: Any) -> Path:
    """A recipe file: the first corpus is trained on, and so would be the targets if they did not leave."""
    tree = {
        "data": {"corpora": [*map(str, places), "elsewhere"], "validation_share": 0.1},
        "tasks": {"support_s": 2.0, "query_s": 2.0},
        "train": {"precision": "float32", "batch_s": 4.0},
        "compare": {
            "learners": LEARNERS,
            "folds": [{"target": str(place), "base": str(start)} for place in places[1:]],
            "support_minutes": [0.1, 0.2],
            "draws": 2,
            "max_test": 12,
            "adapt_steps": 6,
            "trials": 2,
            "minutes": 0.001,
            "validation_utterances": 10,
            **compare,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path
