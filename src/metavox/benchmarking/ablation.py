"""The parts of our engine one by one, so that a ratio is explained."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from .bare import build_bare
from .cells import Build
from .engines import BARE
from .ours import OurStep
from .peers import build_peer, why_absent

PARTS: dict[str, dict[str, Any]] = {
    "loop": {"executor": "loop"},
    "recursion": {"executor": "recursion"},
    "vmap": {"executor": "vmap"},
    "captured, as torch has it": {"executor": "captured", "lowered": False},
    "captured, channels last": {"executor": "captured"},
    "the same, a query at a time": {"executor": "captured", "query_chunk": 1},
}
"""Our engine with one executor each; what it chooses by itself is in the cells."""


def parts() -> dict[str, Build]:
    """Our engine part by part, the bare loop, and learn2learn where it is here."""
    found: dict[str, Build] = {BARE: build_bare}
    if why_absent("learn2learn") is None:
        found["learn2learn"] = partial(build_peer, "learn2learn")
    return found | {name: partial(OurStep, **settings) for name, settings in PARTS.items()}


def ablate(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the comparison as ratios to learn2learn, or to the bare loop where it is absent."""
    beside = "learn2learn" if "learn2learn" in row["engines"] else BARE
    reference = row["engines"][beside]["steps_per_cpu_s"]
    return {
        "cell": row["cell"],
        "beside": beside,
        "rounds": row["rounds"],
        "parts": {
            name: {**figures, "ratio": figures["steps_per_cpu_s"] / reference}
            for name, figures in row["engines"].items()
        },
    }
