"""Shapes are checked in tests only: every public border of the package is verified against its jaxtyping signature."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Small tensors on several threads wait more than they work; on a busy machine they only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
install_import_hook("metavox", "beartype.beartype")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real recordings; tests that need it are skipped where it is absent."""
    root = os.environ.get("METAVOX_DATA", "")
    if not root or not (Path(root) / "speech_commands_mini" / "manifest.jsonl").is_file():
        pytest.skip("METAVOX_DATA holds no recordings")
    return Path(root).resolve()
