"""Training tasks: which group of classes each is drawn from, and the log of who was drawn."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np
from jaxtyping import Float

from ..contracts import Draw, InputError
from .episodes import ClassIndex, EpisodeSpec, Split

MEMORY = 0.9
"""How much of the averaged loss of a group is kept at each of its episodes; the last ten make two thirds of it."""

WEIGHTS: dict[str, Callable[[Float[np.ndarray, " G"], float], Float[np.ndarray, " G"]]] = {
    "uniform": lambda sizes, alpha: np.ones_like(sizes),
    "tempered": lambda sizes, alpha: sizes**alpha,
    "adaptive": lambda sizes, alpha: np.ones_like(sizes),
}
"""Sampler -> weights of groups of one kind by their sizes in utterances. The adaptive one moves on from there."""


@dataclass(frozen=True)
class Adaptivity:
    """How often each group is drawn by what its tasks cost: hard groups more often, none below a floor.

    The idea of adversarial meta sampling (Xiao et al. 2021, arXiv:2012.11896): where the query loss is high, tasks have
    not been drawn enough. There a policy network reads the history of losses and is trained by REINFORCE to raise
    the loss. Here the adversary has no parameters: of all distributions p over groups, the one that maximises
    sum p L + temperature * entropy(p) is softmax(L / temperature), where L is the exponential average of each group's
    losses as shares of the loss of guessing, so that tasks with more classes are not harder for that alone. It is
    mixed with a uniform share, as in Exp3 (Auer et al. 2002), so that every loss stays known. A group without a loss
    yet counts as the mean of the others. The gradient is not weighted by 1 / p: what is drawn more counts more, which
    is the purpose, and which also means that a group of wrong labels is drawn more; the log shows it.
    """

    temperature: float = 0.3
    floor: float = 0.25

    def chances(self, levels: Float[np.ndarray, " G"]) -> Float[np.ndarray, " G"]:
        """Probabilities of the groups of one kind; levels are averaged losses, NaN where there is none yet."""
        known = np.isfinite(levels)
        filled = np.where(known, levels, levels[known].mean() if known.any() else 0.0)
        soft = np.exp((filled - filled.max()) / self.temperature)
        mixed: np.ndarray = self.floor / len(levels) + (1 - self.floor) * soft / soft.sum()
        return mixed


@dataclass(frozen=True)
class Drawable:
    """How tasks are drawn from a group: the shape with its speakers decided, classes that fit, a split that works."""

    spec: EpisodeSpec
    eligible: list[int]
    split: Split | None


def drawable(group: ClassIndex, spec: EpisodeSpec) -> Drawable | None:
    """How a group gives tasks of this shape; None where it cannot give two classes, or all where that is asked."""
    if spec.speakers == "any":
        eligible = group.eligible(spec)
        return Drawable(spec, eligible, None) if len(eligible) >= spec.least else None
    apart = replace(spec, speakers="disjoint")
    split = group.find_split(apart)
    if split is not None:
        return Drawable(apart, group.eligible(apart), split)
    return None if spec.speakers == "disjoint" else drawable(group, replace(spec, speakers="any"))


@dataclass
class TaskSampler:
    """Training tasks: a stream of draws, each from one group of classes (a language of one corpus, say).

    All classes of a task come from one group, as all words of a household do. Mixing corpora within a task would let a
    learner tell words apart by microphone, speaker or language instead of by what was said.

    ``episode(step, i)`` depends on the seed, its arguments and, with ``adaptivity``, on the losses of the steps before;
    ``arrays`` holds what training needs to resume exactly. A group with fewer classes than ``n_way`` gives all it has.
    Nothing is logged until ``record`` says that a step was learned.
    """

    groups: Sequence[ClassIndex]
    weights: Sequence[float]
    """How often each group is drawn, in proportion."""
    spec: EpisodeSpec
    seed: int
    kinds: Sequence[str] = ()
    """What kind each group is of (real, synthetic), or nothing: adaptivity leaves the share of a kind as it is."""
    adaptivity: Adaptivity | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    """Log and state. By group: ``episodes``, ``n_losses``, ``loss_sum``, ``level`` (averaged share of the loss of
    guessing); by class of each group: ``class_counts``; by position in the utterances: ``heard``."""

    def __post_init__(self) -> None:
        self._drawable = [drawable(group, self.spec) for group in self.groups]
        weights = np.asarray(self.weights, np.float64) * [found is not None for found in self._drawable]
        if not weights.sum() > 0:
            raise InputError(self._nothing())
        self._weights = weights / weights.sum()
        self.kinds = list(self.kinds) or ["real"] * len(self.groups)
        self._bases = np.cumsum([0, *(len(group) for group in self.groups)])
        names = dict.fromkeys(name for group in self.groups for name in group.classes)
        self._ids = {name: i for i, name in enumerate(names)}
        self.restart()

    def _nothing(self) -> str:
        if self.spec.speakers == "disjoint":
            unnamed = sum(not group.names_all_speakers for group in self.groups)
            return (
                f"Disjoint speakers were asked for and no group has two classes with {self.spec.k_shot} takes and a "
                f"query by other speakers ({unnamed} of {len(self.groups)} do not name all speakers); set "
                "tasks.speakers to where_known or any, or add recordings by other speakers."
            )
        most = max((len(group.eligible(self.spec)) for group in self.groups), default=0)
        if self.spec.exact:
            return (
                f"No group has {self.spec.n_way} classes with the {self.spec.k_shot + 1} takes that an episode needs "
                f"(the largest has {most}), and the learner has a head for {self.spec.n_way}; lower episodes.ways or "
                "episodes.shots, or add recordings."
            )
        return (
            f"No group has two classes with the {self.spec.k_shot + 1} takes that an episode needs (the largest "
            f"has {most}); lower episodes.shots or add recordings."
        )

    @property
    def n_classes(self) -> int:
        """Different classes of all groups; ``Draw.class_ids`` are below it, equal for equal names."""
        return len(self._ids)

    @property
    def always_full(self) -> bool:
        """Whether every task has all ``n_way`` classes."""
        known = [found for found in self._drawable if found is not None]
        return self.spec.exact or all(found.split is None and len(found.eligible) >= self.spec.n_way for found in known)

    @property
    def chances(self) -> Float[np.ndarray, " G"]:
        """Probability of each group at the next step."""
        if self.adaptivity is None:
            return self._weights
        found = np.zeros_like(self._weights)
        for kind in dict.fromkeys(self.kinds):
            own = [at for at, k in enumerate(self.kinds) if k == kind and self._weights[at] > 0]
            if own:
                found[own] = self._weights[own].sum() * self.adaptivity.chances(self.arrays["level"][own])
        return found / found.sum()

    def episode(self, step: int, i: int = 0) -> Draw:
        """The i-th episode of an outer step."""
        rng = np.random.default_rng([self.seed, step, i])
        at = self._some_group(rng)
        found = self._drawable[at]
        assert found is not None  # its chance would be 0
        draw = self.groups[at].draw_among(found.eligible, found.spec, rng, found.split)
        return replace(draw, class_ids=np.asarray([self._ids[name] for name in draw.classes], np.int64))

    def _some_group(self, rng: np.random.Generator) -> int:
        return int(rng.choice(len(self.groups), p=self.chances))

    # -------------------------------------------------------------------------------------------------- who was drawn

    def restart(self) -> None:
        """Forget who was drawn and what it cost."""
        n, last = len(self.groups), max((int(group.positions.max()) for group in self.groups if len(group)), default=-1)
        self.arrays = {
            "episodes": np.zeros(n, np.int64),
            "n_losses": np.zeros(n, np.int64),
            "loss_sum": np.zeros(n),
            "level": np.full(n, np.nan),
            "class_counts": np.zeros(self._bases[-1], np.int64),
            "heard": np.zeros(last + 1, np.uint8),
        }

    def record(
        self, step: int, draws: Sequence[Draw], losses: Sequence[float] = (), guessing: Sequence[float] = ()
    ) -> None:
        """Log the draws of a step that was learned, and what each cost, beside what guessing costs.

        Call it once a step, before the next one is drawn. Losses that are not finite are left out.
        """
        groups = [self._some_group(np.random.default_rng([self.seed, step, i])) for i in range(len(draws))]
        for i, (at, draw) in enumerate(zip(groups, draws, strict=True)):
            self.arrays["episodes"][at] += 1
            classes = self.groups[at].classes
            for name in draw.classes:
                self.arrays["class_counts"][self._bases[at] + bisect_left(classes, name)] += 1
            self.arrays["heard"][draw.support] = 1
            self.arrays["heard"][draw.query] = 1
            if i < len(losses) and isfinite(losses[i]):
                self.arrays["n_losses"][at] += 1
                self.arrays["loss_sum"][at] += losses[i]
                level = losses[i] / guessing[i] if i < len(guessing) and guessing[i] > 0 else losses[i]
                before = self.arrays["level"][at]
                self.arrays["level"][at] = level if np.isnan(before) else MEMORY * before + (1 - MEMORY) * level

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on with the arrays of an earlier sampler of the same groups.

        Raises:
            ValueError: arrays of other groups.
        """
        shapes = {name: array.shape for name, array in arrays.items()}
        if shapes != {name: array.shape for name, array in self.arrays.items()}:
            raise ValueError("tasks are drawn from other groups")
        self.arrays = {name: arrays[name].astype(array.dtype) for name, array in self.arrays.items()}

    @property
    def drawn(self) -> Counter[str]:
        """How often each class was in an episode."""
        found: Counter[str] = Counter()
        for at, group in enumerate(self.groups):
            counts = self.arrays["class_counts"][self._bases[at] : self._bases[at + 1]]
            for i in np.flatnonzero(counts).tolist():
                found[group.classes[i]] += int(counts[i])
        return found

    def log(self) -> dict[str, Any]:
        """The log as plain values: ``episodes``, ``groups`` (a row each, most drawn first), ``classes``."""
        total = int(self.arrays["episodes"].sum())
        rows = [self._row(at, total) for at in range(len(self.groups))]
        rows.sort(key=lambda row: -row["episodes"])
        return {"episodes": total, "groups": rows, "classes": dict(self.drawn.most_common())}

    def _row(self, at: int, total: int) -> dict[str, Any]:
        group, counts = self.groups[at], self.arrays["class_counts"][self._bases[at] : self._bases[at + 1]]
        n, n_losses, found = int(self.arrays["episodes"][at]), int(self.arrays["n_losses"][at]), self._drawable[at]
        row: dict[str, Any] = {
            "group": group.name,
            "kind": self.kinds[at],
            "episodes": n,
            "share": n / max(1, total),
            "classes": int((counts > 0).sum()),
            "of_classes": len(group),
            "utterances": int(self.arrays["heard"][group.positions].sum()),
            "of_utterances": len(group.positions),
            "speakers": "none drawn" if found is None else found.spec.speakers,
            "mean_loss": float(self.arrays["loss_sum"][at]) / n_losses if n_losses else None,
        }
        if self.adaptivity is not None:
            level = float(self.arrays["level"][at])
            row |= {"recent_loss": level if isfinite(level) else None, "probability": float(self.chances[at])}
        return row
