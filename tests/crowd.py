"""A corpus of made-up people on disk, with what a manifest says of them."""

import json
from pathlib import Path

import sounds
from voicing import RATE_HZ, say

SENTENCES = ("the sun is out", "the moon is out", "it may rain")


def corpus(root: Path, people: range, n_takes: int = 4, seconds: float = 1.0) -> Path:
    """``n_takes`` by each, who say one of three sentences each; every second one is female, ages are 20 and on."""
    lines = []
    for person in people:
        for take in range(n_takes):
            name = f"audio/p{person}/{take}.wav"
            sounds.write(root / name, say(person, take, seconds), RATE_HZ)
            row = {"audio_filepath": name, "duration": seconds, "text": SENTENCES[take % 3], "speaker": f"p{person}",
                   "gender": ("male", "female")[person % 2], "age": 20 + 4 * (person % 5)}  # fmt: skip
            lines.append(json.dumps(row))
    (root / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return root
