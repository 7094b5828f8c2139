"""Words of a language left out, enrolled by the demo: once to be shown, and often enough to judge probabilities."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..checkpoint import Model
from ..contracts import Draw
from ..data.bank import Bank
from ..data.episodes import ClassIndex, EpisodeSpec
from ..runtime.commands import CommandRecognizer

N_ENROLLED, N_TAKES = 5, 3
_N_QUERIES = 2


@dataclass(frozen=True)
class Enrolment:
    """The words, what was heard of new takes, and a sentence on both."""

    words: list[str]
    rows: list[dict[str, Any]]
    sentence: str


def plain(label: str) -> str:
    """A class without its language."""
    return label.split(":", 1)[-1]


def enrol(model: Model, bank: Bank, corpus: str, index: ClassIndex, out: Path, seed: int) -> Enrolment:
    """Enrol a few words, recognise new takes, try words nobody enrolled, and leave the profile in ``out``."""
    n_way = min(N_ENROLLED + 2, _n_words(index))
    draw = index.draw(EpisodeSpec(n_way, N_TAKES, _N_QUERIES), [seed, 11])
    n_known = max(1, n_way - 2)
    words = [plain(label) for label in draw.classes]
    fitted, queries = _fitted(model, bank, draw, n_known)
    fitted.save_pretrained(out / "profile")
    house = CommandRecognizer.from_pretrained(out / "profile")
    rows: list[dict[str, Any]] = []
    for (_, label), decision in zip(queries, house.decide([path for path, _ in queries]), strict=True):
        known = label < n_known
        right = decision.label == (words[label] if known else None)
        rows.append({"spoken": words[label], "enrolled": known, "heard": decision.label, "right": right,
                     "score": decision.score, "threshold": decision.threshold})  # fmt: skip
    known_rows, unknown_rows = ([row for row in rows if row["enrolled"] == known] for known in (True, False))
    sentence = (
        f"Enrolled {', '.join(words[:n_known])} ({corpus}) from {N_TAKES} takes each; "
        f"{_n_right(known_rows)} of {len(known_rows)} new takes recognised, {_n_right(unknown_rows)} of "
        f"{len(unknown_rows)} takes of {' and '.join(words[n_known:])}, which were not enrolled, refused."
    )
    return Enrolment(words[:n_known], rows, sentence)


def enrol_again(
    model: Model, bank: Bank, index: ClassIndex, n_enrolments: int, seed: int
) -> tuple[Float[np.ndarray, "B C1"], Int[np.ndarray, " B"]]:
    """Probabilities of new takes over several enrolments, and the column that was due: the last for unknown words.

    As many words are enrolled as are not, and as many takes of either are asked about, where the set has ten words.
    """
    n_way = min(2 * N_ENROLLED, _n_words(index))
    n_known = (n_way + 1) // 2
    found, due = [], []
    for i in range(n_enrolments):
        draw = index.draw(EpisodeSpec(n_way, N_TAKES, _N_QUERIES), [seed, 12, i])
        house, queries = _fitted(model, bank, draw, n_known)
        found.append(house.predict_proba([path for path, _ in queries], refusal=True))
        columns = [house.classes_.tolist().index(plain(label)) for label in draw.classes[:n_known]]
        due += [columns[label] if label < n_known else n_known for _, label in queries]
    return np.concatenate(found), np.asarray(due)


def _n_words(index: ClassIndex) -> int:
    return len(index.eligible(EpisodeSpec(2, N_TAKES, _N_QUERIES)))


def _fitted(model: Model, bank: Bank, draw: Draw, n_known: int) -> tuple[CommandRecognizer, list[tuple[Path, int]]]:
    """A recogniser of the first words of a draw, and its queries with their word: of enrolled words first."""
    takes = [take for take in _takes(bank, draw.support, draw.support_labels) if take[1] < n_known]
    house = CommandRecognizer(model).fit(
        [path for path, _ in takes], [plain(draw.classes[label]) for _, label in takes]
    )
    queries = sorted(_takes(bank, draw.query, draw.query_labels), key=lambda take: take[1] >= n_known)
    return house, queries


def _takes(bank: Bank, positions: np.ndarray, labels: np.ndarray) -> Iterator[tuple[Path, int]]:
    for position, label in zip(positions.tolist(), labels.tolist(), strict=True):
        yield bank.utterances[position].path, label


def _n_right(rows: Sequence[dict[str, Any]]) -> int:
    return sum(bool(row["right"]) for row in rows)
