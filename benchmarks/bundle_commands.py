"""A trained folder to what ships: 16-bit weights, the negatives beside them, nothing that training alone needs.

    metavox train recipes/commands.yaml --out exp/commands
    python benchmarks/bundle_commands.py exp/commands src/metavox/bundled/commands-small

The card and the licence are written by hand and stay as they are.
"""

import argparse
import shutil
from pathlib import Path

from metavox.checkpoint import NEGATIVES, load_model, save_model


def bundle(source: Path, target: Path) -> int:
    """Write ``target`` and return its bytes."""
    model = load_model(source)
    save_model(target, model.learner, model.config, model.about, half=True)
    shutil.copyfile(source / NEGATIVES, target / NEGATIVES)
    for path in target.iterdir():
        path.chmod(0o644)
    load_model(target)
    return sum(path.stat().st_size for path in target.iterdir())


def main() -> None:
    """Copy, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    asked = parser.parse_args()
    print(f"{asked.target}: {bundle(asked.source, asked.target) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
