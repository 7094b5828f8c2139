"""Episodes: which takes of which classes stand on which side, from a seed.

The only owner of ``n_way``, ``k_shot`` and ``n_query``. Drawing touches no audio and costs the same for a thousand
and for a million utterances.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from ..contracts import Draw, InputError, Utterance
from .axes import Facts, along

_Sides = tuple[np.ndarray, np.ndarray]
"""Places of the support and of the query takes of one class."""
Split = tuple[float, int]
"""Share of the speakers that stand on the side of the support, and the salt that says which."""
N_SPLITS = 40
"""Splits of the speakers that are tried for one episode; one at random may leave a side too small."""
N_SPLITS_IN_TRAINING = 8
"""A training task takes the widest episode of so few, and need not have all ways."""
N_SPLITS_SEARCHED = 200


@dataclass(frozen=True)
class EpisodeSpec:
    """N-way K-shot with up to Q queries a class.

    ``speakers="disjoint"`` puts every speaker of the episode on one side: nobody who is heard in a query was heard in
    the support. ``"where_known"`` does so in each index where it can be done. A class needs ``k_shot`` takes and one
    query; it is passed over where it has fewer.
    """

    n_way: int
    k_shot: int
    n_query: int
    speakers: Literal["any", "disjoint", "where_known"] = "any"
    exact: bool = False
    """Whether a group of fewer than ``n_way`` classes gives no training task, instead of all it has."""

    @property
    def least(self) -> int:
        """Classes without which a group gives no training task."""
        return self.n_way if self.exact else 2

    def __post_init__(self) -> None:
        for name, low in (("n_way", 2), ("k_shot", 1), ("n_query", 1)):
            if getattr(self, name) < low:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {low}.")


class ClassIndex:
    """Positions of utterances by class, laid out so that a draw does no search.

    Args:
        utterances: all that positions may refer to.
        axis: what makes a class: an axis of ``data.axes``, or a product of several.
        keep: positions that may be drawn, as a mask or as numbers; all by default.
        classes: classes that may be drawn; all by default.
        facts: values of axes that are measured.
        name: what a log calls it.

    Attributes:
        n_unknown: positions that were left out because the axis is not known there.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        axis: str | Sequence[str] = "word",
        *,
        keep: Bool[np.ndarray, " n"] | Int[np.ndarray, " k"] | Sequence[int] | None = None,
        classes: Collection[str] | None = None,
        facts: Facts | None = None,
        name: str = "",
    ) -> None:
        at = np.arange(len(utterances)) if keep is None else np.asarray(keep)
        positions = (np.flatnonzero(at) if at.dtype == bool else at.astype(np.int64)).tolist()
        members: dict[str, list[int]] = {}
        wanted = None if classes is None else set(classes)
        self.n_unknown = 0
        for position, value in zip(positions, along(utterances, axis, facts, positions), strict=True):
            if value is None:
                self.n_unknown += 1
            elif wanted is None or value in wanted:
                members.setdefault(value, []).append(position)
        self.axis = axis
        self.name = name
        self.classes = tuple(sorted(members))
        sizes = [len(members[name]) for name in self.classes]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        flat = [position for name in self.classes for position in members[name]]
        self.positions = np.asarray(flat, np.int64)
        self._speakers = _codes([utterances[position].speaker for position in flat])
        self.names_all_speakers = bool((self._speakers >= 0).all())
        self._one_speaker = len(flat) > 0 and bool((self._speakers == self._speakers[0]).all())

    def __len__(self) -> int:
        return len(self.classes)

    def n_takes(self, class_id: int) -> int:
        return int(self.offsets[class_id + 1] - self.offsets[class_id])

    def eligible(self, spec: EpisodeSpec) -> list[int]:
        """Classes with enough takes for the support and one query, by somebody else where speakers are kept apart."""
        enough: list[int] = np.flatnonzero(np.diff(self.offsets) >= spec.k_shot + 1).tolist()
        if not self.names_all_speakers or self.resolved(spec).speakers == "any":
            return enough
        return [class_id for class_id in enough if self._n_beside_another(class_id) >= spec.k_shot]

    def resolved(self, spec: EpisodeSpec) -> EpisodeSpec:
        """The same shape with ``where_known`` decided: disjoint where two classes can have disjoint speakers.

        This looks at every class. For many draws decide once, and draw with what is returned.
        """
        if spec.speakers != "where_known":
            return spec
        apart = replace(spec, speakers="disjoint")
        return apart if self.find_split(apart) is not None else replace(spec, speakers="any")

    def find_split(self, spec: EpisodeSpec) -> Split | None:
        """A split of the speakers that leaves two classes with ``k_shot`` takes on one side and a query on the other.

        All ``n_way`` classes where the shape is exact.

        None where speakers are not named, or where no such split is found.
        """
        if not self.names_all_speakers:
            return None
        apart = replace(spec, n_way=spec.least, speakers="disjoint")
        eligible = self.eligible(apart)
        rng = np.random.default_rng(0)
        for _ in range(N_SPLITS_SEARCHED if len(eligible) >= spec.least else 0):
            split = _some_split(rng)
            if len(self._apart(eligible, apart, split, rng)[0]) == spec.least:
                return split
        return None

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
        spec = self.resolved(spec)
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

    def draw_among(self, eligible: list[int], spec: EpisodeSpec, rng: np.random.Generator, split: Split | None) -> Draw:
        """An episode of some of the ``eligible`` classes, as many as there are where they are fewer than ``n_way``.

        Where speakers are kept apart, ``split`` (of ``find_split``) stands in for splits at random that do not do.
        """
        if split is None:
            chosen = [eligible[k] for k in sample_distinct(rng, len(eligible), min(spec.n_way, len(eligible)))]
            return self.take(chosen, spec, rng)
        n_way = min(spec.n_way, len(eligible))
        widest: tuple[list[int], list[_Sides]] = [], []
        for _ in range(N_SPLITS_IN_TRAINING):
            order = (eligible[k] for k in _in_random_order(rng, len(eligible)))
            found = self._apart(order, spec, _some_split(rng), rng)
            widest = max(widest, found, key=lambda some: len(some[0]))
            if len(widest[0]) == n_way:
                break
        if len(widest[0]) < spec.least:
            order = (eligible[k] for k in _in_random_order(rng, len(eligible)))
            widest = self._apart(order, spec, split, rng)
        return self._as_draw(*widest, apart=True)

    def require_speakers(self) -> None:
        """Raise InputError where an utterance does not name its speaker, or one speaker has said all."""
        if not self.names_all_speakers:
            missing = int((self._speakers < 0).sum())
            raise InputError(
                f"Disjoint speakers were asked for and {missing} of {len(self.positions)} utterances name no speaker; "
                "label them or use --speakers any."
            )
        if self._one_speaker:
            raise InputError(
                f"Disjoint speakers were asked for and all {len(self.positions)} utterances are by one speaker; add "
                "recordings by somebody else or use --speakers any."
            )

    def _draw_disjoint(self, spec: EpisodeSpec, rng: np.random.Generator) -> Draw:
        self.require_speakers()
        most = 0
        for _ in range(N_SPLITS):
            split = _some_split(rng)
            chosen, sides = self._apart(_in_random_order(rng, len(self)), spec, split, rng)
            if len(chosen) == spec.n_way:
                return self._as_draw(chosen, sides, apart=True)
            most = max(most, len(chosen))
        raise InputError(
            f"At most {most} classes have {spec.k_shot} takes and a query by other speakers, and {spec.n_way} were "
            "asked for; ask for fewer ways or shots, or use --speakers any."
        )

    def _apart(
        self, order: Iterable[int], spec: EpisodeSpec, split: Split, rng: np.random.Generator
    ) -> tuple[list[int], list[_Sides]]:
        """The first ``n_way`` classes in ``order`` that have takes on both sides of a split, and takes of each."""
        share, salt = split
        chosen: list[int] = []
        sides: list[_Sides] = []
        for class_id in order:
            span = np.arange(self.offsets[class_id], self.offsets[class_id + 1])
            on_support = _coin(self._speakers[span], salt) < share
            support, query = span[on_support], span[~on_support]
            if len(support) >= spec.k_shot and len(query) >= 1:
                chosen.append(class_id)
                support = support[sample_distinct(rng, len(support), spec.k_shot)]
                query = query[sample_distinct(rng, len(query), min(spec.n_query, len(query)))]
                sides.append((support, query))
                if len(chosen) == spec.n_way:
                    break
        return chosen, sides

    def _as_draw(self, chosen: list[int], sides: list[_Sides], *, apart: bool = False) -> Draw:
        def gather(side: int) -> tuple[np.ndarray, np.ndarray]:
            flat = np.concatenate([pair[side] for pair in sides])
            labels = np.repeat(np.arange(len(sides)), [len(pair[side]) for pair in sides])
            return self.positions[flat], labels

        support, support_labels = gather(0)
        query, query_labels = gather(1)
        names = tuple(self.classes[class_id] for class_id in chosen)
        return Draw(names, np.asarray(chosen, np.int64), support, support_labels, query, query_labels, apart)

    def _too_few(self, spec: EpisodeSpec, n_found: int) -> str:
        return (
            f"{n_found} of {len(self)} classes have the {spec.k_shot + 1} takes that {spec.k_shot} shots and a query "
            f"need, and {spec.n_way} ways were asked for; ask for fewer ways or shots, or record more takes."
        )


def _codes(names: Sequence[str | None]) -> Int[np.ndarray, " n"]:
    table: dict[str, int] = {}
    return np.asarray([-1 if name is None else table.setdefault(name, len(table)) for name in names], np.int64)


def _some_split(rng: np.random.Generator) -> Split:
    share = float(rng.uniform(0.3, 0.7))
    return share, int(rng.integers(2**31))


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
