"""Random numbers of a step, drawn again when the step is taken again (dropout on the way there and back)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Draws:
    """Remembers where torch's generators stood before each step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._marks: list[tuple[Tensor, Tensor | None]] = []

    def mark(self) -> None:
        """Remember the present state, as that of the next step."""
        on_device = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        self._marks.append((torch.get_rng_state(), on_device))

    @contextmanager
    def again(self, index: int) -> Iterator[None]:
        """Within it the draws are those of step ``index``, counted from 0; afterwards the generators go on."""
        own, on_device = self._marks[index]
        with torch.random.fork_rng([] if on_device is None else [self.device]):
            torch.set_rng_state(own)
            if on_device is not None:
                torch.cuda.set_rng_state(on_device, self.device)
            yield
