"""The entry point for every test of a verb."""

from pathlib import Path

import pytest
from calling import Metavox, caller


@pytest.fixture
def metavox(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Metavox:
    """Call the real entry point as ``metavox ...`` would, with a cache of its own and without recordings."""
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("METAVOX_DATA", raising=False)
    return caller(monkeypatch, capsys)
