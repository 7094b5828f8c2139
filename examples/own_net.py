"""Meta-learn any PyTorch module: second-order MAML, ANIL and Reptile on the same tasks by one engine.

    python examples/own_net.py

Each task is another melody of three notes (three classes of noisy tones): learn from two takes of each class, be asked
for ten. Nothing here is special to speech; tasks are pairs of batches, and a batch is whatever the loss can read.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from metavox.engine import Engine, OuterLoop, Problem, UpdateRule

N_CLASSES, N_SAMPLES = 3, 64


def batch(notes: Tensor, n_takes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy tones (B, 1, N_SAMPLES) at any phase, and which of ``notes`` they are."""
    labels = torch.arange(N_CLASSES).repeat_interleave(n_takes)
    phase = 2 * math.pi * torch.rand(len(labels), 1, generator=generator)
    tones = torch.sin(notes[labels][:, None] * torch.arange(N_SAMPLES) + phase)
    return (tones + 0.5 * torch.randn(tones.shape, generator=generator))[:, None], labels


def task(generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Support and query of one melody."""
    notes = 0.2 + torch.rand(N_CLASSES, generator=generator)
    return batch(notes, 2, generator), batch(notes, 10, generator)


def loss(model: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
    """Asked of support and query alike."""
    return functional.cross_entropy(model(batch[0]), batch[1])


def main() -> None:
    """Print the query loss before and after 40 outer steps of each way."""
    for name in ("maml", "anil", "reptile"):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv1d(1, 16, 9, 2), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv1d(16, 16, 9, 2), nn.ReLU())
        body, head = nn.Sequential(body, nn.AdaptiveAvgPool1d(4), nn.Flatten()), nn.Linear(64, N_CLASSES)
        net = nn.ModuleDict({"body": body, "head": head})
        whole = Problem.of_head(body, head, loss) if name == "anil" else Problem.of(nn.Sequential(body, head), loss)
        parameters = dict((net if name == "anil" else nn.Sequential(body, head)).named_parameters())
        engine = Engine(whole, UpdateRule(n_steps=3, lr=0.1), "reptile" if name == "reptile" else "query")
        judge = Engine(whole, engine.rule, executor="loop")
        outer = OuterLoop(engine, parameters, torch.optim.Adam(parameters.values(), lr=3e-3))
        generator = torch.Generator().manual_seed(1)
        unseen = [task(generator) for _ in range(20)]
        before = float(judge.gradient(parameters, unseen).losses.mean())
        for _ in range(40):
            outer.step([task(generator) for _ in range(4)])
        after = float(judge.gradient(parameters, unseen).losses.mean())
        chosen = engine.choice.option if engine.choice else None
        print(f"{name:8} query loss after adapting: {before:.2f} before, {after:.2f} after; {chosen}", flush=True)


if __name__ == "__main__":
    main()
