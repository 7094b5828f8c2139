"""A trained folder of voices to what ships: weights, cohort, statistics, and how word and voice are weighed.

    metavox train recipes/voices.yaml --out exp/voices
    python benchmarks/bundle_voices.py exp/voices src/metavox/bundled/speaker-small --fusion fusion.json

Weights have 16 bits already. ``--fusion`` names the file that `metavox evaluate --protocol owner --fit-fusion` wrote,
on people whom a model trained alike never heard. The card and the licence are written by hand and stay as they
are.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from metavox.checkpoint import write_json
from metavox.voices.encoders import SECOND, load_voices

FILES = ("model.safetensors", "cohort.safetensors", SECOND)


def bundle(source: Path, target: Path, fusion: list[dict[str, Any]] | None) -> int:
    """Write ``target`` and return its bytes."""
    load_voices(source)
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    document = json.loads((source / "config.json").read_text(encoding="utf-8"))
    if fusion is not None:
        document["about"]["fusion"] = fusion
    write_json(target / "config.json", document)
    for path in target.iterdir():
        path.chmod(0o644)
    load_voices(target)
    return sum(path.stat().st_size for path in target.iterdir())


def main() -> None:
    """Copy, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--fusion", type=Path)
    asked = parser.parse_args()
    fusion = None if asked.fusion is None else json.loads(asked.fusion.read_text(encoding="utf-8"))["fusions"]
    print(f"{asked.target}: {bundle(asked.source, asked.target, fusion) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
