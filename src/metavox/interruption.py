"""Ctrl-C in long work: a step is finished before it counts."""

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


def until_interrupted(more: Callable[[], bool]) -> Iterator[None]:
    """Yield while there is ``more``. Ctrl-C is held back until a step is whole, then raised; a second one is not."""
    asked: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()

    def note(number: int, frame: Any) -> None:
        asked.append(number)
        if len(asked) > 1:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note) if in_main else None
    try:
        while more():
            yield
            if asked:
                raise KeyboardInterrupt
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before)
