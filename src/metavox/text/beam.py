"""Prefix beam search over the posteriors of CTC (Hannun et al. 2014), vectorised over prefixes and symbols.

A prefix is a node of a tree. Of each, the probability that its paths end in a blank and that they end in its last
symbol is kept, divided by that of the best prefix: a frame is a few products, and nothing underflows that could win.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..errors import InputError
from .fusion import LanguageModel
from .symbols import BLANK

_ROOT = 0


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A prefix after the last frame."""

    ids: tuple[int, ...]
    log_prob: float
    """Over all its paths that were not pruned."""
    score: float
    """What the search ranks by."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """What is added to the log-probability of a prefix."""

    model: LanguageModel | None
    weight: float
    bonus: float
    """For each symbol."""


@dataclass(slots=True)
class _Tree:
    """All prefixes that were ever in the beam; a node keeps its number, however often its prefix comes back."""

    n_symbols: int
    fusion: Fusion
    parent: list[int] = field(default_factory=lambda: [-1])
    symbol: list[int] = field(default_factory=lambda: [BLANK])
    state: list[Any] = field(default_factory=list)
    added: list[float] = field(default_factory=lambda: [0.0])
    """Weighted score of the language model and bonus, of the whole prefix."""
    children: dict[tuple[int, int], int] = field(default_factory=dict)
    next_scores: dict[int, Float[np.ndarray, " V"]] = field(default_factory=dict)
    """What each symbol would add to a node; NaN where nobody asked yet."""

    def __post_init__(self) -> None:
        self.state.append(self.fusion.model.start() if self.fusion.model else None)

    def child(self, node: int, symbol: int) -> int:
        found = self.children.get((node, symbol))
        if found is None:
            found = self.children[node, symbol] = len(self.parent)
            self.parent.append(node)
            self.symbol.append(symbol)
            self.added.append(self.added[node] + float(self.next_scores[node][symbol]))
            model = self.fusion.model
            self.state.append(model.step(self.state[node], symbol)[0] if model else None)
        return found

    def scores_after(self, nodes: list[int], symbols: Int[np.ndarray, " S"]) -> Float[np.ndarray, "K S"]:
        """What prefix and next symbol add together."""
        return np.stack([self.added[node] + self._row(node, symbols)[symbols] for node in nodes])

    def _row(self, node: int, symbols: Int[np.ndarray, " S"]) -> Float[np.ndarray, " V"]:
        model, weight, bonus = self.fusion.model, self.fusion.weight, self.fusion.bonus
        row = self.next_scores.get(node)
        if row is None:
            row = self.next_scores[node] = np.full(self.n_symbols, bonus if model is None else np.nan)
        if model is not None:
            for symbol in symbols[np.isnan(row[symbols])].tolist():
                row[symbol] = bonus + weight * model.step(self.state[node], symbol)[1]
        return row

    def ids(self, node: int) -> tuple[int, ...]:
        out = []
        while node != _ROOT:
            out.append(self.symbol[node])
            node = self.parent[node]
        return tuple(reversed(out))

    def final(self, node: int) -> float:
        model = self.fusion.model
        return self.added[node] + (self.fusion.weight * model.finish(self.state[node]) if model else 0.0)


def search(log_probs: Float[np.ndarray, "T V"], *, beam: int, fusion: Fusion, prune: float) -> list[Hypothesis]:
    """The best prefixes after the last frame, best first. ``decode.prefix_beam`` says what the options mean."""
    probs = np.exp(log_probs)
    tree = _Tree(log_probs.shape[1], fusion)
    nodes, blank, said, log_scale = [_ROOT], np.ones(1), np.zeros(1), 0.0
    for number, frame in enumerate(probs):
        if frame[BLANK] > 1 - prune:
            blank, said = (blank + said) * frame[BLANK], np.zeros_like(said)
        else:
            nodes, blank, said = _advance(tree, nodes, blank, said, frame, beam=beam, prune=prune)
        largest = float((blank + said).max(initial=0.0))
        if largest <= 0:
            raise InputError(f"Frame {number} gives no symbol any probability; apply log_softmax to the scores.")
        blank, said, log_scale = blank / largest, said / largest, log_scale + math.log(largest)
    with np.errstate(divide="ignore"):
        totals = np.log(blank + said) + log_scale
    found = [
        Hypothesis(tree.ids(node), float(total), float(total) + tree.final(node))
        for node, total in zip(nodes, totals, strict=True)
        if total > -math.inf
    ]
    return sorted(found, key=lambda one: (-one.score, one.ids))


def _advance(
    tree: _Tree,
    nodes: list[int],
    blank: Float[np.ndarray, " K"],
    said: Float[np.ndarray, " K"],
    frame: Float[np.ndarray, " V"],
    *,
    beam: int,
    prune: float,
) -> tuple[list[int], Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """One frame: every prefix stays or takes one more symbol, and the best are kept."""
    tried = np.flatnonzero(frame[1:] >= max(prune, np.finfo(float).tiny)) + 1
    if not len(tried):
        tried = np.array([int(frame[1:].argmax()) + 1])
    last = np.array([tree.symbol[node] for node in nodes])
    total = blank + said
    stay_blank = total * frame[BLANK]
    stay_said = said * frame[last]
    longer = np.where(tried == last[:, None], blank[:, None], total[:, None]) * frame[tried]  # (K, S)

    # A prefix with one more symbol may be in the beam already: then its paths are those of that prefix.
    place, column = {node: k for k, node in enumerate(nodes)}, {int(symbol): s for s, symbol in enumerate(tried)}
    for k, node in enumerate(nodes):
        above, symbol = place.get(tree.parent[node]), column.get(tree.symbol[node])
        if above is not None and symbol is not None:
            stay_said[k] += longer[above, symbol]
            longer[above, symbol] = 0.0

    with np.errstate(divide="ignore"):
        stay_score = np.log(stay_blank + stay_said) + np.array([tree.added[node] for node in nodes])
        scores = np.concatenate([stay_score, (np.log(longer) + tree.scores_after(nodes, tried)).ravel()])
    best = np.argsort(-scores, kind="stable")[:beam]
    best = best[scores[best] > -np.inf]
    n_kept, n_tried = len(nodes), len(tried)
    new_nodes = [
        nodes[one]
        if one < n_kept
        else tree.child(nodes[(one - n_kept) // n_tried], int(tried[(one - n_kept) % n_tried]))
        for one in best.tolist()
    ]
    new_blank = np.concatenate([stay_blank, np.zeros(longer.size)])[best]
    new_said = np.concatenate([stay_said, longer.ravel()])[best]
    return new_nodes, new_blank, new_said
