"""``metavox bench``: what the encoder of a model costs; and ``metavox bench engines`` beside it."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import bench_engines


def bench(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|RECIPE", help="Folder of a model, a baseline, or a recipe (YAML file).")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the recipe.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Frames of a window; by default as the model hears them.")
    ] = None,
    runs: Annotated[int, typer.Option(min=6, max=1_000_000, help="Windows that are timed.")] = 100,
    json_out: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Count and time the encoder of a model, or of a recipe that was not trained yet, on one CPU thread.

    Example: metavox bench recipes/commands.yaml model.encoder.name=sparse

    The meta-gradient engine beside other libraries: metavox bench engines --help
    """
    from importlib.metadata import version

    from ..nets.cost import cost
    from .output import print_json

    name, encoder, about = _encoder(model, overrides or [])
    found = cost(encoder, frames, runs)
    if json_out:
        print_json(
            {
                "model": name,
                **about,
                "frames": found.n_frames,
                "parameters": found.parameters,
                "parameters_nonzero": found.nonzero,
                "stored_bytes": found.stored_bytes,
                "connections_absent": found.absent,
                "macs": found.macs,
                "latency_ms": found.latency.median_ms,
                "latency_ms_ci95": [found.latency.low_ms, found.latency.high_ms],
                "n": found.latency.n_runs,
                "threads": 1,
                "version": version("metavox"),
            }
        )
        return
    time, n_runs = found.latency, found.latency.n_runs
    print(f"{name}: encoder {about['encoder']}, a window of {found.n_frames} frames")
    print(f"parameters             {found.parameters:>12,}")
    print(f"  of them not 0        {found.nonzero:>12,}")
    if found.absent:
        print(f"  connections absent   {100 * found.absent:>12.1f} %")
    print(f"bytes stored           {found.stored_bytes:>12,}")
    print(f"multiply-accumulates   {found.macs:>12,}")
    print(
        f"latency, one thread    {time.median_ms:>12.3f} ms [{time.low_ms:.3f}, {time.high_ms:.3f}], median of {n_runs}"
    )


def _encoder(model: str, overrides: list[str]) -> tuple[str, Any, dict[str, Any]]:
    """Name, encoder, and what a summary says of them."""
    from ..checkpoint import build, load_model
    from ..config import load_experiment
    from ..errors import InputError

    path = Path(model)
    if path.suffix.lower() in (".yaml", ".yml"):
        experiment = load_experiment(path, overrides)
        learner: Any = build(experiment.model, seed=experiment.train.seed)
        return path.name, learner.encoder, {"encoder": experiment.model.encoder.name, "trained": False}
    if overrides:
        raise InputError(f"{overrides[0]!r} cannot change {model}, which is no recipe; name a YAML file to change it.")
    loaded = load_model(model)
    if not hasattr(loaded.learner, "encoder"):
        raise InputError(f"{model} is an average of predictions and has several encoders; time its members one by one.")
    about = {
        "encoder": loaded.config.encoder.name,
        "trained": loaded.folder is not None,
        "model_hash": loaded.hash[:16],
    }
    return loaded.name, loaded.learner.encoder, about


class _ModelUnlessNamed(TyperGroup):
    """What follows ``metavox bench`` is a model, unless it is the name of another verb here."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        if args and args[0] != _MODEL and args[0] in self.commands:
            return super().make_context(info_name, args, parent, **extra)
        return self.commands[_MODEL].make_context(info_name, args, parent, **extra)


_MODEL = "MODEL"
bench_app = typer.Typer(
    cls=_ModelUnlessNamed, help="Count and time the encoder of a model; or the meta-gradient engine (bench engines)."
)
bench_app.command(_MODEL)(bench)
bench_app.command("engines")(bench_engines.engines)
