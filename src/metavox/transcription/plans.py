"""How recognisers are adapted, by name: ours and the baselines of every comparison, each with how it was chosen."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..contracts import InputError, Transcribed
from ..learners.sequence import Look, Tuning
from .adapting import Plan, adapt, spelling_of, texts_of
from .models import Recognition, adapted, new_net, widened
from .spelling import Search

DEFAULT_PLAN = "metavox"


@dataclass(frozen=True)
class Way:
    """A plan, and what it starts from."""

    plan: Plan
    from_scratch: bool = False
    """Start from random weights, not from the base's."""
    adapter: int = 0
    """Rank of the bottlenecks that are put behind the blocks first (Houlsby et al. 2019), 0 for none."""


WAYS: dict[str, Way] = {
    "metavox": Way(
        Plan(
            Tuning(steps=300, lr=2e-3, batch_frames=2_400),
            speed=0.3,
            held_out=0.0,
            steps_per_s=1.0,
            search=Search(lm_weight=0.4, length_bonus=0.7),
        )
    ),
    "fine-tune": Way(Plan(Tuning(steps=100, lr=2e-3, batch_frames=2_400), augment=False, held_out=0.0)),
    "augmented": Way(Plan(Tuning(steps=300, lr=2e-3, batch_frames=2_400), speed=0.3, held_out=0.0, steps_per_s=1.0)),
    "head-only": Way(Plan(Tuning(steps=300, lr=3e-3, batch_frames=2_400, adapts=("head.*",)), held_out=0.0)),
    "adapters": Way(
        Plan(Tuning(steps=300, lr=3e-3, batch_frames=2_400, adapts=("*.adapter.*", "head.*", "norm.*")), held_out=0.0),
        adapter=16,
    ),
    "biases": Way(
        Plan(Tuning(steps=300, lr=4e-3, batch_frames=2_400, adapts=("*.bias", "*norm.weight", "head.*")), held_out=0.0)
    ),
    "scratch": Way(Plan(Tuning(steps=600, lr=2e-3, batch_frames=2_400), held_out=0.0), from_scratch=True),
}


def way(name: str) -> Way:
    """A way to adapt by its name.

    Raises:
        InputError: an unknown name.
    """
    if name not in WAYS:
        raise InputError(f"{name!r} is no way to adapt; choose from {', '.join(WAYS)}.")
    return WAYS[name]


def adapted_by(
    name: str, base: Recognition, support: Transcribed, seed: int = 0, watch: Callable[[Look], None] | None = None
) -> Recognition:
    """The base adapted to a support set in a named way, with the randomness of ``seed``.

    Raises:
        InputError: an unknown name, fewer than three utterances.
    """
    chosen = way(name)
    plan = replace(chosen.plan, tuning=replace(chosen.plan.tuning, seed=seed))
    if chosen.adapter:
        base = widened(base, adapter=chosen.adapter)
    if chosen.from_scratch:
        base = replace(base, net=new_net(base.net.config, seed))
    state = adapt(base, support, plan, watch)
    return adapted(base, state, spelling=spelling_of(plan, texts_of(support)))
