"""How an adapted recogniser spells: a beam search with the language model of its support, heard at several tempos.

Greedy decoding of a network that a few minutes have made sure of itself leaves out letters of faster speakers and
writes what no word of the language has. Three remedies that need no recording more: a model of the letters of the
support's texts, a bonus for each letter, and a vote between the same recording at several tempos.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..contracts import InputError
from ..metrics import edit_distance
from ..text.decode import prefix_beam
from ..text.fusion import LanguageModel
from ..text.ngram import NGram
from ..text.posteriors import Scores

Ids = tuple[int, ...]
View = Float[Tensor, "_ V"] | Float[np.ndarray, "_ V"]
"""Log-probabilities of one recording at one of several tempos."""
_IDS, _COUNTS = "texts.ids", "texts.counts"


@dataclass(frozen=True)
class Search:
    """How texts are searched for.

    Raises:
        InputError: a number outside its range.
    """

    order: int = 6
    """Symbols that the language model looks at together."""
    lm_weight: float = 0.4
    """Of its log-probability beside the network's."""
    length_bonus: float = 0.5
    """For each symbol, in nats."""
    beam: int = 8
    """Texts that are kept after each frame."""
    tempos: tuple[float, ...] = (1.0, 1.15, 1.3)
    """How many times as long the recording is made to last, once for each view of it; 1 is among them."""

    def __post_init__(self) -> None:
        if 1.0 not in self.tempos or not all(0.5 <= tempo <= 2 for tempo in self.tempos):
            raise InputError(f"Recordings are heard at tempos {self.tempos}; give some of 0.5 to 2, 1 among them.")
        if not 0 <= self.lm_weight <= 10 or not -10 <= self.length_bonus <= 10 or not 1 <= self.beam <= 1000:
            raise InputError(
                f"The search has lm_weight {self.lm_weight:g}, length_bonus {self.length_bonus:g} and beam "
                f"{self.beam}; choose 0 to 10, -10 to 10 and 1 to 1000."
            )


@dataclass(frozen=True)
class Spelling:
    """A search with the texts that its language model is made of."""

    texts: tuple[Ids, ...] = field(repr=False)
    """In symbols, each one sentence."""
    search: Search = field(default_factory=Search)

    @cached_property
    def model(self) -> NGram:
        """The language model; counted when it is first asked for."""
        return NGram.from_texts(self.texts, order=self.search.order)

    def best(self, log_probs: Scores, model: LanguageModel | None = None) -> Ids:
        """What the search finds in one view of a recording."""
        search = self.search
        found = prefix_beam(
            log_probs, search.beam, model or self.model, search.lm_weight, search.length_bonus, n_best=1
        )  # fmt: skip
        return found[0].ids if found else ()

    def consensus(self, views: Sequence[View], model: LanguageModel | None = None) -> Ids:
        """What the search finds in most views of a recording: the text that is nearest to those of all others."""
        return nearest_to_all([self.best(view, model) for view in views])


def nearest_to_all(texts: Sequence[Ids]) -> Ids:
    """The text with the fewest edits to all others together, the first where several are alike.

    The choice of least expected error where every text is as probable (Goel and Byrne 2000, minimum Bayes risk).
    """
    if len(set(texts)) <= 1 or len(texts) < 3:
        return texts[0]
    costs = {text: sum(edit_distance(other, text).edits for other in texts) for text in dict.fromkeys(texts)}
    return min(costs, key=lambda text: costs[text])


def stored_texts(texts: Sequence[Ids]) -> dict[str, Tensor]:
    """Texts as tensors: all symbols one after the other, and how many each text has."""
    return {
        _IDS: torch.tensor([symbol for text in texts for symbol in text], dtype=torch.int32),
        _COUNTS: torch.tensor([len(text) for text in texts], dtype=torch.int32),
    }


def taken_texts(tensors: dict[str, Tensor], n_symbols: int, path: Path) -> tuple[Ids, ...]:
    """The texts that ``stored_texts`` made, taken out of ``tensors``; none where none were stored.

    Raises:
        InputError: half of them, or symbols that the alphabet has not.
    """
    if _IDS not in tensors and _COUNTS not in tensors:
        return ()
    ids, counts = (tensors.pop(name, torch.empty(0)) for name in (_IDS, _COUNTS))
    whole = ids.dtype == counts.dtype == torch.int32 and ids.ndim == counts.ndim == 1 and len(ids) > 0
    if not whole or int(counts.min()) < 1 or int(counts.sum()) != len(ids) or not int(ids.min()) > 0:
        raise InputError(f"{path} holds damaged texts; restore the file, or adapt again.")
    if int(ids.max()) >= n_symbols:
        raise InputError(
            f"{path} holds texts of {int(ids.max()) + 1} symbols and the alphabet has {n_symbols}; restore the files "
            "of one adaptation, or adapt again."
        )
    return tuple(tuple(text.tolist()) for text in ids.split(counts.tolist()))
