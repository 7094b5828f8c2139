"""The near end of ``synth_voice``: start espeak-ng in a child process, ask it, end it."""

import contextlib
import importlib.util
import json
import subprocess
import sys
from typing import Any

from ..contracts import InputError


class Voice:
    """A child process that runs espeak-ng (see ``synth_voice``). Use it in a ``with`` block.

    Raises InputError when espeak-ng is not installed or does not start.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("espeakng_loader") is None:
            raise InputError('Synthetic speech needs espeak-ng; pip install "metavox[demo]".')
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "metavox.data.synth_voice"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            self.version: str = self._answer("starting")["version"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Voice":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and wait until it is gone."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # a job that was never read
                    pipe.close()

    def kill(self) -> None:
        """End the process whatever it is doing; safe from another thread, where a waiting ``ask`` then fails."""
        self._process.kill()

    def ask(self, job: dict[str, Any], doing: str) -> dict[str, Any]:
        """Give one job and wait for its answer. ``doing`` completes "failed while". Raises InputError."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has stopped: the missing answer says so
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        return self._answer(doing)

    def _answer(self, doing: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise InputError(
                f'espeak-ng stopped while {doing}; leave that out, or pip install --force-reinstall "metavox[demo]".'
            )
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise InputError(f"Synthetic speech failed while {doing}: {reply['error']}.")
        return reply
