"""Task selection: who is drawn for an episode, over any axis (word, language, speaker), from a seed.

The only owner of ``n_way``, ``k_shot`` and ``n_query``. Drawing touches no audio and costs the same for a thousand
and for a million utterances.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from ..contracts import Draw, InputError, Utterance

Axis = Literal["word", "language", "speaker"]


def word_of(utterance: Utterance) -> str | None:
    """A word is a label within its language: English and Arabic `zero` are different classes."""
    if utterance.label is None:
        return None
    return f"{utterance.lang}:{utterance.label}" if utterance.lang else utterance.label


AXES: dict[str, Callable[[Utterance], str | None]] = {
    "word": word_of,
    "language": lambda utterance: utterance.lang,
    "speaker": lambda utterance: utterance.speaker,
}


@dataclass(frozen=True)
class EpisodeSpec:
    """N-way K-shot with up to Q queries a class.

    ``speakers="disjoint"`` puts every speaker of the episode on one side: nobody who is heard in a query was heard in
    the support. A class needs ``k_shot`` takes and one query; it is passed over where it has fewer.
    """

    n_way: int
    k_shot: int
    n_query: int
    speakers: Literal["any", "disjoint"] = "any"

    def __post_init__(self) -> None:
        for name, low in (("n_way", 2), ("k_shot", 1), ("n_query", 1)):
            if getattr(self, name) < low:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {low}.")


class ClassIndex:
    """Positions of utterances by class, laid out so that a draw does no search.

    Args:
        utterances: all that positions may refer to.
        axis: what makes a class.
        keep: positions that may be drawn; all by default.
        classes: classes that may be drawn; all by default.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        axis: Axis = "word",
        *,
        keep: Bool[np.ndarray, " n"] | None = None,
        classes: Collection[str] | None = None,
    ) -> None:
        of = AXES[axis]
        members: dict[str, list[int]] = {}
        wanted = None if classes is None else set(classes)
        for position, utterance in enumerate(utterances):
            name = of(utterance)
            if name is not None and (keep is None or keep[position]) and (wanted is None or name in wanted):
                members.setdefault(name, []).append(position)
        self.axis = axis
        self.classes = tuple(sorted(members))
        sizes = [len(members[name]) for name in self.classes]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        flat = [position for name in self.classes for position in members[name]]
        self.positions = np.asarray(flat, np.int64)
        self._speakers = _codes([utterances[position].speaker for position in flat])
        self.names_all_speakers = bool((self._speakers >= 0).all())

    def __len__(self) -> int:
        return len(self.classes)

    def n_takes(self, class_id: int) -> int:
        return int(self.offsets[class_id + 1] - self.offsets[class_id])

    def eligible(self, spec: EpisodeSpec) -> list[int]:
        """Classes with enough takes for the support and one query, by somebody else where speakers are kept apart."""
        enough = np.flatnonzero(np.diff(self.offsets) >= spec.k_shot + 1).tolist()
        if spec.speakers == "any" or not self.names_all_speakers:
            return enough
        return [class_id for class_id in enough if self._n_beside_another(class_id) >= spec.k_shot]

    def _n_beside_another(self, class_id: int) -> int:
        """Most takes of a class that leave one speaker for the query; 0 where one speaker has said all."""
        _, counts = np.unique(self._speakers[self.offsets[class_id] : self.offsets[class_id + 1]], return_counts=True)
        return int(counts.sum() - counts.min()) if len(counts) > 1 else 0

    def draw(self, spec: EpisodeSpec, seed: Sequence[int] | int) -> Draw:
        """One episode. The same seed draws the same episode, whoever learns from it.

        Raises:
            InputError: fewer eligible classes than ``n_way``, or no way to keep speakers apart.
        """
        rng = np.random.default_rng(seed)
        if spec.speakers == "disjoint":
            return self._draw_disjoint(spec, rng)
        chosen: list[int] = []
        for class_id in _in_random_order(rng, len(self)):
            if self.n_takes(class_id) > spec.k_shot:
                chosen.append(class_id)
                if len(chosen) == spec.n_way:
                    break
        if len(chosen) < spec.n_way:
            raise InputError(self._too_few(spec, len(chosen)))
        return self.take(chosen, spec, rng)

    def take(self, chosen: list[int], spec: EpisodeSpec, rng: np.random.Generator) -> Draw:
        """Support and query takes of chosen classes, any speakers; a class gives fewer queries where it has no more."""
        sides = []
        for class_id in chosen:
            n = self.n_takes(class_id)
            picked = sample_distinct(rng, n, min(spec.k_shot + spec.n_query, n)) + self.offsets[class_id]
            sides.append((picked[: spec.k_shot], picked[spec.k_shot :]))
        return self._as_draw(chosen, sides)

    def require_speakers(self) -> None:
        """Raise InputError where an utterance does not name its speaker."""
        if not self.names_all_speakers:
            missing = int((self._speakers < 0).sum())
            raise InputError(
                f"Disjoint speakers were asked for and {missing} of {len(self.positions)} utterances name no speaker; "
                "label them or use --speakers any."
            )

    def _draw_disjoint(self, spec: EpisodeSpec, rng: np.random.Generator) -> Draw:
        self.require_speakers()
        most = 0
        for _ in range(40):  # a split of the speakers at random may leave a side too small: split again
            share = rng.uniform(0.3, 0.7)
            salt = int(rng.integers(2**31))
            chosen, sides = [], []
            for class_id in _in_random_order(rng, len(self)):
                span = np.arange(self.offsets[class_id], self.offsets[class_id + 1])
                on_support = _coin(self._speakers[span], salt) < share
                support, query = span[on_support], span[~on_support]
                if len(support) >= spec.k_shot and len(query) >= 1:
                    chosen.append(class_id)
                    support = support[sample_distinct(rng, len(support), spec.k_shot)]
                    query = query[sample_distinct(rng, len(query), min(spec.n_query, len(query)))]
                    sides.append((support, query))
                    if len(chosen) == spec.n_way:
                        return self._as_draw(chosen, sides)
            most = max(most, len(chosen))
        raise InputError(
            f"At most {most} classes have {spec.k_shot} takes and a query by other speakers, and {spec.n_way} were "
            "asked for; ask for fewer ways or shots, or use --speakers any."
        )

    def _as_draw(self, chosen: list[int], sides: list[tuple[np.ndarray, np.ndarray]]) -> Draw:
        def gather(side: int) -> tuple[np.ndarray, np.ndarray]:
            flat = np.concatenate([pair[side] for pair in sides])
            labels = np.repeat(np.arange(len(sides)), [len(pair[side]) for pair in sides])
            return self.positions[flat], labels

        support, support_labels = gather(0)
        query, query_labels = gather(1)
        names = tuple(self.classes[class_id] for class_id in chosen)
        return Draw(names, np.asarray(chosen, np.int64), support, support_labels, query, query_labels)

    def _too_few(self, spec: EpisodeSpec, n_found: int) -> str:
        return (
            f"{n_found} of {len(self)} classes have the {spec.k_shot + 1} takes that {spec.k_shot} shots and a query "
            f"need, and {spec.n_way} ways were asked for; ask for fewer ways or shots, or record more takes."
        )


def _codes(names: Sequence[str | None]) -> Int[np.ndarray, " n"]:
    table: dict[str, int] = {}
    return np.asarray([-1 if name is None else table.setdefault(name, len(table)) for name in names], np.int64)


def _coin(codes: np.ndarray, salt: int) -> np.ndarray:
    """A number in [0, 1) for each code, the same each time for one salt: a split of speakers without listing them."""
    mixed = (codes.astype(np.uint64) + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return ((mixed ^ (mixed >> np.uint64(32))) >> np.uint64(11)).astype(np.float64) / 2**53


def sample_distinct(rng: np.random.Generator, n: int, size: int) -> Int[np.ndarray, " size"]:
    """``size`` different numbers below ``n`` in random order, at a cost that does not grow with ``n``."""
    if size > n:
        raise ValueError(f"cannot draw {size} different numbers below {n}")
    if 3 * size >= n:
        return rng.permutation(n)[:size]
    picked: dict[int, None] = {}
    while len(picked) < size:  # at most a third is taken, so a draw is new two times in three
        for number in rng.integers(0, n, size - len(picked)).tolist():
            picked[number] = None
    return np.fromiter(picked, np.int64, size)


def _in_random_order(rng: np.random.Generator, n: int) -> Iterator[int]:
    """Numbers below ``n`` in random order, produced as they are asked for (a lazy Fisher-Yates shuffle)."""
    swapped: dict[int, int] = {}
    for i in range(n):
        j = int(rng.integers(i, n))
        swapped[i], swapped[j] = swapped.get(j, j), swapped.get(i, i)
        yield swapped[i]


@dataclass
class TaskSampler:
    """Training tasks: a stream of draws, each from one group of classes (a language of one corpus, say).

    All words of a task come from one group, as all words of a household do. Mixing corpora within a task would let a
    learner tell words apart by microphone, speaker or language instead of by what was said.

    ``episode(step, i)`` depends on the seed and its arguments alone, so training resumes exactly. A group with fewer
    classes than ``n_way`` gives all it has.
    """

    groups: Sequence[ClassIndex]
    weights: Sequence[float]
    """How often each group is drawn, in proportion."""
    spec: EpisodeSpec
    seed: int
    drawn: Counter = field(default_factory=Counter)
    """The log of who was drawn: how often each class was in an episode."""

    def __post_init__(self) -> None:
        if self.spec.speakers != "any":
            raise InputError("Training tasks draw from all speakers of a group; leave speakers at any.")
        self._eligible = [group.eligible(self.spec) for group in self.groups]
        weights = np.asarray(self.weights, np.float64) * [len(ids) >= 2 for ids in self._eligible]
        if not weights.sum() > 0:
            most = max((len(ids) for ids in self._eligible), default=0)
            raise InputError(
                f"No group has two classes with the {self.spec.k_shot + 1} takes that an episode needs (the largest "
                f"has {most}); lower episodes.shots or add recordings."
            )
        self._chances = weights / weights.sum()
        names = dict.fromkeys(name for group in self.groups for name in group.classes)
        self._ids = {name: i for i, name in enumerate(names)}

    @property
    def n_classes(self) -> int:
        """Different classes of all groups; ``Draw.class_ids`` are below it, equal for equal names."""
        return len(self._ids)

    def episode(self, step: int, i: int = 0) -> Draw:
        """The i-th episode of an outer step."""
        rng = np.random.default_rng([self.seed, step, i])
        at = int(rng.choice(len(self.groups), p=self._chances))
        group, eligible = self.groups[at], self._eligible[at]
        chosen = [eligible[k] for k in sample_distinct(rng, len(eligible), min(self.spec.n_way, len(eligible)))]
        draw = group.take(chosen, self.spec, rng)
        self.drawn.update(draw.classes)
        return replace(draw, class_ids=np.asarray([self._ids[name] for name in draw.classes], np.int64))
