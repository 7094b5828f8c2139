"""What a second derivative of CTC costs: ours, by finite differences, and by a recursion in tensor operations.

    python benchmarks/ctc.py [--json benchmarks/ctc.json]

1. A Hessian-vector product in the logits (loss, gradient with its graph, product), three ways: ``exact`` is
   ``metavox.losses.ctc_loss``; ``differenced`` has torch's own value and gradient, and for the second derivative a
   central difference of that gradient in float64; ``tensor_ops`` is the oracle of the tests, plain operations of torch
   with one loop over frames, differentiated by autograd.
2. Loss and first gradient: ours against torch's own loss.
3. Relative error of the products in float64 against ``tensor_ops``.

CPU seconds of one thread, the ways interleaved in one process, medians after a warm-up.
"""

import argparse
import importlib.util
import json
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from metavox.losses import ctc_loss

SIZES = ((100, 32, 12), (400, 64, 40), (800, 64, 80))
"""Frames, symbols, target length."""
N_ITEMS = 8
ORACLE = Path(__file__).parents[1] / "tests" / "losses" / "ctc_oracle.py"
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Logits (T, B, V), targets (B, S), lengths of inputs and targets -> summed loss."""


def tensor_ops() -> Loss:
    """The oracle of the tests."""
    spec = importlib.util.spec_from_file_location("ctc_oracle", ORACLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda logits, *rest: module.tensor_ops_ctc(logits.log_softmax(-1), *rest).sum()


def exact(logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
    """Ours."""
    return ctc_loss(logits.log_softmax(-1), targets, frames, lengths, reduction="sum")


def native(logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
    """Torch's own; it has one derivative."""
    return functional.ctc_loss(logits.log_softmax(-1), targets, frames, lengths, reduction="sum")


def differenced(logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
    """Torch's own, and a second derivative by finite differences."""
    return _Differenced.apply(logits, targets, frames, lengths)


def _native_gradient(logits: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        at = logits.detach().requires_grad_()
        loss = native(at, *rest)
        return loss.detach(), torch.autograd.grad(loss, at)[0]


class _Differenced(torch.autograd.Function):
    """Value, with the gradient that was computed beside it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, *rest: Tensor) -> Tensor:
        loss, ctx.slope = _native_gradient(logits, *rest)
        ctx.save_for_backward(logits, *rest)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad * _DifferencedGradient.apply(ctx.slope, *ctx.saved_tensors), None, None, None


class _DifferencedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slope: Tensor, logits: Tensor, *rest: Tensor) -> Tensor:
        ctx.save_for_backward(logits, *rest)
        return slope.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, *rest = ctx.saved_tensors
        at, along = logits.double(), grad.double()
        step = torch.finfo(torch.float64).eps ** (1 / 3) / float(along.abs().max())
        up, down = (_native_gradient(at + sign * step * along, *rest)[1] for sign in (1, -1))
        return None, ((up - down) / (2 * step)).to(logits.dtype), None, None, None


def hessian_product(loss: Loss, logits: Tensor, direction: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
    """By reverse over reverse."""
    (first,) = torch.autograd.grad(loss(logits, *rest), logits, create_graph=True)
    return torch.autograd.grad((first * direction).sum(), logits)[0]


def first_gradient(loss: Loss, logits: Tensor, direction: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
    """Loss and gradient."""
    del direction
    return torch.autograd.grad(loss(logits, *rest), logits)[0]


def measure(size: tuple[int, int, int], dtype: torch.dtype, rounds: int, seed: int) -> dict[str, Any]:
    """Medians of one size, and errors where the precision allows to see them."""
    n_frames, n_symbols, n_labels = size
    draw = torch.Generator().manual_seed(seed)
    shape = (n_frames, N_ITEMS, n_symbols)
    logits, direction = (torch.randn(shape, dtype=torch.float64, generator=draw).to(dtype) for _ in range(2))
    targets = torch.randint(1, n_symbols, (N_ITEMS, n_labels), generator=draw)
    rest = targets, torch.full((N_ITEMS,), n_frames), torch.full((N_ITEMS,), n_labels)
    second = {"tensor_ops": tensor_ops(), "differenced": differenced, "exact": exact}
    first = {"native": native, "exact": exact}
    logits.requires_grad_()
    times: dict[str, list[float]] = defaultdict(list)
    products: dict[str, Tensor] = {}
    for _ in range(rounds + 1):
        for what, ways, call in (("second", second, hessian_product), ("first", first, first_gradient)):
            for name, loss in ways.items():
                before = time.process_time()
                found = call(loss, logits, direction, rest)
                times[f"{what}_{name}"].append(time.process_time() - before)
                if what == "second":
                    products[name] = found
    medians = {name: float(np.median(values[1:])) for name, values in times.items()}
    truth = products["tensor_ops"]
    row: dict[str, Any] = {
        "frames": n_frames, "items": N_ITEMS, "symbols": n_symbols, "target_length": n_labels,
        "dtype": str(dtype).removeprefix("torch."), "rounds": rounds,
        "hessian_product_cpu_s": {name: round(medians[f"second_{name}"], 5) for name in second},
        "tensor_ops_over_exact": round(medians["second_tensor_ops"] / medians["second_exact"], 2),
        "tensor_ops_over_differenced": round(medians["second_tensor_ops"] / medians["second_differenced"], 2),
        "first_gradient_cpu_s": {name: round(medians[f"first_{name}"], 5) for name in first},
        "first_exact_over_native": round(medians["first_exact"] / medians["first_native"], 2),
    }  # fmt: skip
    if dtype == torch.float64:
        row["relative_error"] = {
            name: float((products[name] - truth).norm() / truth.norm()) for name in ("differenced", "exact")
        }
    return row


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "what": "second derivative of CTC: Hessian-vector product in the logits, CPU seconds of one thread",
        "machine": {
            "platform": f"{platform.system()} {platform.machine()}", "processor": processor(), "threads": 1
        },
        "versions": {"metavox": version("metavox"), "torch": torch.__version__, "python": platform.python_version()},
        "seed": asked.seed,
        "rows": [
            measure(size, dtype, asked.rounds, asked.seed) for dtype in (torch.float64, torch.float32) for size in SIZES
        ],
    }  # fmt: skip
    asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def processor() -> str:
    """Its name where the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
