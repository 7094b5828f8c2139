"""``metavox bench engines``: our meta-gradients beside those of other libraries."""

import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError

WRONG = 1
"""Exit status where two engines do not compute the same gradient."""


def engines(
    quick: Annotated[bool, typer.Option("--quick", help="A few cells and rounds: less than two minutes.")] = False,
    only: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Only cells whose name holds this, such as 'maml 1-shot'.")
    ] = None,
    ablation: Annotated[bool, typer.Option("--ablation", help="Also time the parts of our engine one by one.")] = False,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there, cell by cell.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws weights and tasks.")] = 0,
) -> None:
    """Meta-steps a CPU second of our engine, a bare loop, learn2learn, torchopt and higher, in one process and thread.

    Peers that are not here are named and left out. learn2learn is taken from the checkout that LEARN2LEARN_SRC names.
    Gradients are compared first; status 1 where they differ.

    Example: metavox bench engines --quick --json engines.json
    """
    import torch

    from ..benchmarking.cells import ABLATED, CELLS, QUICK
    from ..benchmarking.engines import Disagreement
    from ..benchmarking.timing import FEW, Rounds
    from .output import note, require_writable

    cells = _matching(only, QUICK if quick else CELLS)
    if json_out is not None:
        require_writable(json_out)
        if not quick and only is None:
            _require_peers()
    torch.set_num_threads(1)
    try:
        result = _measure(cells, ABLATED if ablation else (), FEW if quick else Rounds(), seed, json_out)
    except Disagreement as err:
        note(f"metavox: {err}")
        raise typer.Exit(WRONG) from err
    _show(result)


def _matching(only: str | None, cells: Sequence[Any]) -> list[Any]:
    try:
        pattern = re.compile(only or "")
    except re.error as err:
        raise InputError(f"--only {only!r} is no regular expression ({err}); write one such as 'maml 1-shot'.") from err
    found = [cell for cell in cells if pattern.search(cell.name)]
    if not found:
        raise InputError(f"--only {only!r} matches none of {len(cells)} cells; the first is {cells[0].name!r}.")
    return found


def _require_peers() -> None:
    from ..benchmarking.peers import REQUIRED, why_absent

    absent = {name: why for name in REQUIRED if (why := why_absent(name))}
    if absent:
        names, remedies = " and ".join(absent), ", and ".join(absent.values())
        raise InputError(f"Without {names} it would be no comparison, so no JSON is written; {remedies}.")


def _measure(
    cells: Sequence[Any], ablated: Sequence[Any], rounds: Any, seed: int, json_out: Path | None
) -> dict[str, Any]:
    """The whole result; written after each cell where a file is named."""
    from ..benchmarking.ablation import ablate, parts
    from ..benchmarking.engines import Limits, engines_here, measure
    from ..benchmarking.summary import summarize, with_ratios
    from ..benchmarking.timing import FEW, conv1d_rate, gemm_rate
    from .progress import bars

    limits = Limits(gemm_rate(), conv1d_rate())
    result = {**_about(seed, limits), "complete": False, "summary": {}, "cells": [], "ablation": []}
    with bars() as report:
        for row in measure(cells, engines_here(), limits, rounds, seed, report):
            result["cells"].append(with_ratios(row))
            result["summary"] = summarize(result["cells"])
            _keep(json_out, result)
        for row in measure(ablated, parts(), limits, FEW, seed, report, "parts"):
            result["ablation"].append(ablate(row))
            _keep(json_out, result)
    result["complete"] = True
    _keep(json_out, result)
    return result


def _about(seed: int, limits: Any) -> dict[str, Any]:
    import torch

    from ..benchmarking.cells import INNER_LR, N_QUERY, N_WAY
    from ..benchmarking.peers import PEERS, peers_here, why_absent
    from ..benchmarking.timing import machine

    return {
        "what": "meta-gradients a CPU second of one thread, engines in turn in one process; the higher the better",
        "machine": machine(),
        "versions": {
            "metavox": version("metavox"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            **peers_here(),
        },
        "absent": {name: why for name in PEERS if (why := why_absent(name))},
        "seed": seed,
        "tasks": {"ways": N_WAY, "queries": N_QUERY, "inner_lr": INNER_LR, "dtype": "float32"},
        "limits_gflops": {"gemm": limits.gemm / 1e9, "conv1d": limits.conv1d / 1e9},
    }


def _keep(path: Path | None, result: Mapping[str, Any]) -> None:
    """One JSON document, written beside and renamed."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(json.dumps(_rounded(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _rounded(value: Any) -> Any:
    """Four digits say all that is known; what is no number is left empty."""
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


# ------------------------------------------------------------------------------------------------------- for people


def _show(result: Mapping[str, Any]) -> None:
    """A table a network, the parts of our engine, and the targets; fits 80 columns."""
    from rich.console import Console

    console = Console()
    for net in dict.fromkeys(row["net"] for row in result["cells"]):
        console.print(_table(net, [row for row in result["cells"] if row["net"] == net]))
    for row in result["ablation"]:
        console.print(_ablation_table(row))
    for name, remedy in result["absent"].items():
        print(f"{name} is absent: {remedy}")
    _targets(result["summary"])


def _table(net: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(title=f"{net}: meta-steps a CPU second, ratio to the best peer, peak MB of a step", box=None)
    for column in ("cell", "metavox", "best", "peer", "ratio", "MB", "MB"):
        table.add_column(column, justify="left" if column in ("cell", "peer") else "right", no_wrap=True)
    for row in rows:
        ours, best = row["engines"]["metavox"], row["engines"].get(row["best_peer"], {})
        table.add_row(
            row["cell"].removeprefix(f"{net} "),
            _number(ours["steps_per_cpu_s"], "{:.2f}"),
            _number(best.get("steps_per_cpu_s"), "{:.2f}"),
            row["best_peer"] or "absent",
            _number(row["ratio"], "{:.2f}"),
            _number(ours["peak_rss_mb"], "{:.0f}"),
            _number(best.get("peak_rss_mb"), "{:.0f}"),
        )
    return table


def _ablation_table(row: Mapping[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title=f"{row['cell']}: parts of our engine, ratio to {row['beside']}", box=None)
    for column in ("part", "steps/s", "ratio", "MB"):
        table.add_column(column, justify="left" if column == "part" else "right", no_wrap=True)
    for name, part in row["parts"].items():
        table.add_row(
            name,
            _number(part["steps_per_cpu_s"], "{:.2f}"),
            _number(part["ratio"], "{:.2f}"),
            _number(part["peak_rss_mb"], "{:.0f}"),
        )
    return table


def _targets(summary: Mapping[str, Any]) -> None:
    if summary["worst_cell"]:
        print(f"worst cell: {summary['worst_cell']}")
    for target in summary["targets"]:
        found = _number(target["found"], "{:.2f}")
        said = {True: "met", False: "missed", None: "not measured"}[target["met"]]
        print(f"{target['figure']:<34} {found:>6}   target {target['at_least']:.2f}   {said}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
