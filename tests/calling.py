"""The entry point as ``metavox ...`` calls it, and what a call leaves."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from metavox.cli import main


class Said(NamedTuple):
    """What a call left."""

    status: int
    out: str
    err: str


Metavox = Callable[..., Said]


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Metavox:
    """Call with arguments; what was printed before does not count."""

    def call(*arguments: Any) -> Said:
        monkeypatch.setattr(sys, "argv", ["metavox", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = 0 if stop.code is None else int(stop.code)
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return call
