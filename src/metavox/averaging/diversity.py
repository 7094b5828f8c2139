"""Members that differ: K versions of one experiment, each changed in what averaging can gain from."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from ..config import Experiment
from ..contracts import InputError

Source = Literal["seed", "bootstrap", "architecture", "augmentation", "tasks"]
SOURCES: tuple[str, ...] = get_args(Source)
SHAPELESS = ("linear", "logmel", "mfcc")
"""Encoders without width and depth."""
CLASS_SHARE = 0.7
"""Of the classes of training, what a member hears where members learn from other tasks."""


def varied(experiment: Experiment, sources: Sequence[str], n_members: int) -> list[Experiment]:
    """Experiments that are each a member of an average; ``sources`` are taken in turn beside the seed.

    The k-th member is trained from seed ``train.seed + k``, which draws its weights, its tasks and its changes of
    features; the first is the experiment as it is where the seed is the only source. With ``train.init`` all begin
    alike, so that their weights can be averaged, which another architecture forbids.

    Raises:
        InputError: fewer than two members, an unknown source, another architecture beside a common beginning or of
            an encoder that has but one.
    """
    if n_members < 2:
        raise InputError(f"--members is {n_members}; an average needs two or more.")
    for source in sources:
        if source not in SOURCES:
            raise InputError(f"--vary is {source!r}; choose from {', '.join(SOURCES)}.")
    if "architecture" in sources and experiment.train.init:
        raise InputError(
            f"--vary architecture and train.init={experiment.train.init} exclude one another: a network of another "
            "shape cannot begin with those weights; leave one of them out."
        )
    name = experiment.model.encoder.name
    if "architecture" in sources and name in SHAPELESS:
        raise InputError(
            f"--vary architecture changes width and depth, and model.encoder.name={name} has neither; choose another "
            "encoder or vary something else."
        )
    others = [source for source in dict.fromkeys(sources) if source != "seed"]
    found = []
    for k in range(n_members):
        member = _changed(experiment, "train", seed=experiment.train.seed + k)
        found.append(_CHANGES[others[k % len(others)]](member, k // len(others)) if others else member)
    return found


def _bootstrap(experiment: Experiment, turn: int) -> Experiment:
    return _changed(experiment, "data", bootstrap=experiment.train.seed)


def _tasks(experiment: Experiment, turn: int) -> Experiment:
    return _changed(experiment, "data", class_share=min(CLASS_SHARE, experiment.data.class_share))


def _augmentation(experiment: Experiment, turn: int) -> Experiment:
    """In turn: other tempo, rooms and channels; other vocal tracts and wider masks; less of either."""
    own = experiment.augment
    ways: list[dict[str, Any]] = [
        {"tempo": max(own.tempo, 0.15), "smear": max(own.smear, 0.3), "eq_db": max(own.eq_db, 8.0)},
        {"warp": min(0.9, own.warp + 0.1), "masks": min(20, own.masks + 1)},
        {"warp": own.warp / 2, "noise_share": own.noise_share / 2},
    ]
    return _changed(experiment, "augment", enabled=True, **ways[turn % len(ways)])


def _architecture(experiment: Experiment, turn: int) -> Experiment:
    """In turn: wider and shallower, narrower with a longer kernel, deeper and narrower."""
    own = experiment.model.encoder
    ways: list[dict[str, Any]] = [
        {"channels": _width(own.channels * 1.15), "blocks": max(1, own.blocks - 1)},
        {"channels": _width(own.channels * 0.85), "kernel": min(31, own.kernel + 2)},
        {"channels": _width(own.channels * 0.9), "blocks": min(32, own.blocks + 1)},
    ]
    encoder = own.model_validate({**own.model_dump(), **ways[turn % len(ways)]})
    return _changed(experiment, "model", encoder=encoder)


def _width(channels: float) -> int:
    """A multiple of 8, as every number of attention heads up to 8 wants it."""
    return max(8, min(2048, 8 * round(channels / 8)))


_CHANGES: dict[str, Callable[[Experiment, int], Experiment]] = {
    "bootstrap": _bootstrap,
    "architecture": _architecture,
    "augmentation": _augmentation,
    "tasks": _tasks,
}


def _changed(experiment: Experiment, section: str, **changes: Any) -> Experiment:
    part = getattr(experiment, section)
    return experiment.model_copy(update={section: part.model_copy(update=changes)})
