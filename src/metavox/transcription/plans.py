"""How recognisers are adapted, by name: ours and the baselines of every comparison, each with how it was chosen."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..contracts import InputError, Transcribed
from ..learners.low_rank import factors
from ..learners.sequence import Look, Tuning, adapted_values
from .adapting import Plan, adapt, spelling_of, texts_of
from .models import Recognition, adapted, new_net, widened
from .spelling import Search

DEFAULT_PLAN = "metavox"
ADAPTERS = ("*.adapter.*", "head.*", "norm.*")
BODY = ("*", "!head.*")
CONDITION = 32
RANK = 8


@dataclass(frozen=True)
class Way:
    """A plan, and what it starts from."""

    plan: Plan
    from_scratch: bool = False
    """Start from random weights, not from the base's."""
    adapter: int = 0
    """Rank of the bottlenecks that are put behind the blocks first (Houlsby et al. 2019), 0 for none."""
    condition: int = 0
    """Size of the encoding that the blocks are made to hear first, where they hear none; 0 for as they are."""


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
        Plan(Tuning(steps=300, lr=3e-3, batch_frames=2_400, adapts=ADAPTERS), held_out=0.0),
        adapter=16,
    ),
    "biases": Way(
        Plan(Tuning(steps=300, lr=4e-3, batch_frames=2_400, adapts=("*.bias", "*norm.weight", "head.*")), held_out=0.0)
    ),
    "lora": Way(Plan(Tuning(steps=300, lr=1e-2, batch_frames=2_400, rank=RANK), held_out=0.0)),
    "body-only": Way(Plan(Tuning(steps=300, lr=2e-3, batch_frames=2_400, adapts=BODY), held_out=0.0)),
    "context": Way(
        Plan(Tuning(steps=300, lr=3e-2, batch_frames=2_400, adapts=(), condition=True, encoding="zero"), held_out=0.0),
        condition=CONDITION,
    ),
    "context-heard": Way(
        Plan(Tuning(steps=300, lr=3e-2, batch_frames=2_400, adapts=(), condition=True), held_out=0.0),
        condition=CONDITION,
    ),
    "conditioned": Way(Plan(Tuning(steps=0, adapts=(), condition=True), held_out=0.0), condition=CONDITION),
    "conditioned-tuned": Way(
        Plan(Tuning(steps=300, lr=2e-3, batch_frames=2_400, condition=True), speed=0.3, held_out=0.0, steps_per_s=1.0),
        condition=CONDITION,
    ),
    "scratch": Way(Plan(Tuning(steps=600, lr=2e-3, batch_frames=2_400), held_out=0.0), from_scratch=True),
}


"""``lora`` moves weights by products of a low rank (Hu et al. 2021). ``body-only`` leaves the head, which is what
spells (Oh et al. 2021, BOIL): of a base whose alphabet stays, it asks whether sounds can be brought to the letters that
are there; letters that an alphabet adds have a row that nothing moves. ``context`` moves nothing but the encoding that
the blocks hear (Zintgraf et al. 2019, CAVIA), from zero or from what the support sounds like, and ``conditioned`` lets
them hear the latter without any step (Garnelo et al. 2018; Perez et al. 2018): both are the base as it is where its
training told it nothing of encodings."""


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
    return adapted_in(way(name), base, support, seed, watch)


def adapted_in(
    chosen: Way, base: Recognition, support: Transcribed, seed: int = 0, watch: Callable[[Look], None] | None = None
) -> Recognition:
    """The same, in a way that has no name.

    Raises:
        InputError: fewer than three utterances, values that the base has not.
    """
    plan = replace(chosen.plan, tuning=replace(chosen.plan.tuning, seed=seed))
    base = prepared(chosen, base, seed)
    state = adapt(base, support, plan, watch)
    return adapted(base, state, spelling=spelling_of(plan, texts_of(support)))


def prepared(chosen: Way, base: Recognition, seed: int = 0) -> Recognition:
    """The base as a way begins with it: with bottlenecks and ears that it may lack, or with random weights."""
    condition = 0 if base.net.config.condition else chosen.condition
    base = widened(base, adapter=chosen.adapter, condition=condition)
    return replace(base, net=new_net(base.net.config, seed)) if chosen.from_scratch else base


def n_moved(chosen: Way, base: Recognition) -> int:
    """How many numbers an adaptation of ``base`` may change: those of a state, factors and encoding among them."""
    base, tuning = prepared(chosen, base), chosen.plan.tuning
    moving = adapted_values(base.net, tuning.adapts) if tuning.steps else {}
    state = factors(moving, tuning.rank) if tuning.rank else moving
    encoding = base.net.config.condition if tuning.condition else 0
    return sum(value.numel() for value in state.values()) + encoding
