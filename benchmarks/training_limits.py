"""What an outer step of first-order Proto-MAML takes on a command encoder, by what computes it, and the machine.

The third part of ``benchmarks/time_to_accuracy.py``.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from plain_training import learn2learn_loop
from torch.nn import functional

from metavox.benchmarking.engines import relative_difference
from metavox.benchmarking.timing import Rounds, count_flops, time_in_turn
from metavox.contracts import Batch, Episode, Task
from metavox.engine import Engine
from metavox.learners.gradient import as_tree
from metavox.learners.outer import meta_gradient, query_loss

LearnerOf = Callable[[str], Any]
"""A learner with its first weights, by precision."""
PLAIN, PEER, TRAINED = "plain loop, float32", "learn2learn, float32", "as trained"
GEMM_SIZE = 1024
CONV_WIDTHS, CONV_KERNEL, CONV_ITEMS, CONV_FRAMES = (96, 192, 384), 5, 24, 64
"""Channels in and out, frames of the kernel, and the shape of the input of the convolutions that set the limit."""
MAX_DIFFERENCE = 1e-8


def limits(learner_of: LearnerOf, task: Task, episodes: Sequence[Episode], n_rounds: int) -> dict[str, Any]:
    """Seconds, operations and shares of the limits of one step on ``episodes``, all of one shape."""
    ways = ways_to_compute(learner_of, task, episodes[0].support.n_classes)
    failed = {name: why for name, call in ways.items() if (why := _why_not(call, episodes))}
    ways = {name: call for name, call in ways.items() if name not in failed}
    flops = {name: count_flops(partial(call, episodes)) for name, call in ways.items()}
    at_best = best_operations()
    timed = {**ways, **{name: call for name, (call, _) in at_best.items()}}
    seconds = time_in_turn(timed, lambda: episodes, Rounds(least=min(5, n_rounds), most=n_rounds, budget_s=600.0))
    rates = {name: n_flops / min(seconds[name]) for name, (_, n_flops) in at_best.items()}
    quietest = {name: min(seconds[name]) for name in ways}
    conv = {of: max(rate for name, rate in rates.items() if name.startswith(of)) for of in _prefixes(rates)}
    return {
        "what": (
            "one outer step on two episodes of 12 ways, features excluded; the quietest round of each, all in turn in "
            "one process. A share is the operations of the plain loop over the seconds of a step, over a rate; so "
            "operations that are left out count as done. Equal operations done once would make gflop_computed smaller "
            "than that of the plain loop; it is None where tasks are groups of one convolution, which is miscounted."
        ),
        "rounds": len(next(iter(seconds.values()))),
        "gflop_of_plain_loop": flops[PLAIN] / 1e9,
        "gflop_per_s": {name: rate / 1e9 for name, rate in rates.items()},
        "steps": {
            name: {
                "cpu_s": quietest[name],
                "versus_learn2learn": quietest[name] / quietest[PEER],
                "gflop_computed": None if name.startswith(TRAINED) else flops[name] / 1e9,
                "share_of": {limit: flops[PLAIN] / quietest[name] / rate for limit, rate in conv.items()},
            }
            for name in ways
        },
        "not_computed": failed,
    }


def _why_not(call: Callable[[Sequence[Episode]], Any], episodes: Sequence[Episode]) -> str:
    """What goes wrong in a first step, in which an engine records and chooses; "" where nothing does."""
    try:
        call(episodes)
    except (RuntimeError, TypeError) as err:  # an operation that has no such path
        return " ".join(f"{type(err).__name__}: {err}".split())[:200]
    return ""


def _prefixes(rates: dict[str, float]) -> list[str]:
    """Names of the limits: widths and layouts of convolutions are one."""
    return list(dict.fromkeys(name.partition(",")[0] for name in rates))


def ways_to_compute(learner_of: LearnerOf, task: Task, n_classes: int) -> dict[str, Callable[[Sequence[Episode]], Any]]:
    """The meta-gradient of some episodes by what computes it, from the same weights."""

    def engine(precision: str, executor: str, **settings: Any) -> Callable[[Sequence[Episode]], Any]:
        learner = learner_of(precision)
        made = Engine(learner.problem(task, n_classes), learner.rule, learner.outer, executor, **settings)
        values = dict(learner.named_parameters())
        return lambda episodes: made.gradient(values, [(as_tree(e.support), as_tree(e.query)) for e in episodes])

    plain: dict[str, Any] = {"as torch has it": {"lowered": False}, "channels last": {}}
    found: dict[str, Callable[[Sequence[Episode]], Any]] = {
        PEER: partial(learn2learn_loop, learner_of("float32"), task)
    }
    for precision in ("float32", "bfloat16"):
        found[f"plain loop, {precision}"] = partial(query_loss, learner_of(precision), task)
        for layout, settings in plain.items():
            name = f"recorded, {layout}, {precision}"
            found[name] = engine(precision, "captured", chunk=1, query_chunk=1, **settings)
        found[f"{TRAINED}, {precision}"] = partial(meta_gradient, learner_of(precision), task)
    return found


def best_operations() -> dict[str, tuple[Callable[[Any], Any], int]]:
    """Matrix products and convolutions, and the operations of each."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, tuple[Callable[[Any], Any], int]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        kind = str(dtype).removeprefix("torch.")
        square = torch.randn(GEMM_SIZE, GEMM_SIZE, generator=generator).to(dtype)
        found[f"gemm {kind}"] = (partial(_without_gradient, torch.mm, square, square), 2 * GEMM_SIZE**3)
        for width in CONV_WIDTHS:
            x = torch.randn(CONV_ITEMS, width, 1, CONV_FRAMES, generator=generator).to(dtype)
            kernel = torch.randn(width, width, 1, CONV_KERNEL, generator=generator).to(dtype)
            n_flops = 2 * x.numel() * width * CONV_KERNEL
            for layout in ("as torch has it", "channels last"):
                if layout == "channels last":
                    x, kernel = (value.contiguous(memory_format=torch.channels_last) for value in (x, kernel))
                convolve = partial(functional.conv2d, padding=(0, CONV_KERNEL // 2))
                call = partial(_without_gradient, convolve, x, kernel)
                found[f"conv1d {kind}, {width} channels, {layout}"] = (call, n_flops)
    return found


def _without_gradient(call: Callable[..., Any], *args: Any) -> None:
    with torch.no_grad():
        call(*args[:-1])


def gradient_difference(learner_of: LearnerOf, task: Task, episodes: Sequence[Episode]) -> dict[str, float]:
    """Relative differences of one outer gradient in float64: ours, and the plain loop's, from learn2learn's.

    Raises:
        ArithmeticError: one above ``MAX_DIFFERENCE``; their times cannot be compared.
    """
    double = [Episode(_double(e.support), _double(e.query), e.draw) for e in episodes]
    expected = learn2learn_loop(learner_of("float32").double(), task, double).values
    found = {
        "metavox": relative_difference(meta_gradient(learner_of("float32").double(), task, double).values, expected),
        "plain loop": relative_difference(query_loss(learner_of("float32").double(), task, double).values, expected),
    }
    if not all(value <= MAX_DIFFERENCE for value in found.values()):
        raise ArithmeticError(f"the sides do not compute the same gradient: {found}")
    return found


def _double(batch: Batch) -> Batch:
    return Batch(batch.inputs.double(), batch.lengths, batch.labels, batch.n_classes)
