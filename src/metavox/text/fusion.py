"""Language models as a search over symbols takes them: by symbol, by character, by word, or several at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .ngram import Context, NGram
from .symbols import Symbols


@runtime_checkable
class LanguageModel(Protocol):
    """Scores of symbol ids, one after the other; an ``NGram`` of ids is one. Logarithms are natural."""

    def start(self) -> Any:
        """The state before the first symbol."""
        ...

    def step(self, state: Any, symbol: int, /) -> tuple[Any, float]:
        """The state after a symbol, and what the symbol adds to the score."""
        ...

    def finish(self, state: Any) -> float:
        """What the end of the sentence adds to the score."""
        ...


@dataclass(frozen=True, slots=True)
class CharacterFusion:
    """A model of characters over the symbols of an alphabet."""

    model: NGram
    symbols: Symbols

    def start(self) -> Context:
        return self.model.start()

    def step(self, state: Context, symbol: int) -> tuple[Context, float]:
        return self.model.step(state, self.symbols.decode([symbol]))

    def finish(self, state: Context) -> float:
        return self.model.finish(state)


@dataclass(frozen=True, slots=True)
class WordFusion:
    """A model of words over the symbols of an alphabet: a word is scored by the space after it, or by the end.

    What is no word of the model costs what its unknown token does, and no less than ``floor``.
    """

    model: NGram
    symbols: Symbols
    floor: float = -20.0

    def start(self) -> tuple[Context, str]:
        return self.model.start(), ""

    def step(self, state: tuple[Context, str], symbol: int) -> tuple[tuple[Context, str], float]:
        context, word = state
        char = self.symbols.decode([symbol])
        if char != " ":
            return (context, word + char), 0.0
        if not word:
            return state, 0.0
        context, log_prob = self.model.step(context, word)
        return (context, ""), max(log_prob, self.floor)

    def finish(self, state: tuple[Context, str]) -> float:
        context, word = state
        log_prob = 0.0
        if word:
            context, log_prob = self.model.step(context, word)
        return max(log_prob, self.floor) + self.model.finish(context)


@dataclass(frozen=True, slots=True)
class SumFusion:
    """Several models at once, each with its weight: characters and words."""

    parts: Sequence[tuple[LanguageModel, float]]

    def start(self) -> tuple[Any, ...]:
        return tuple(model.start() for model, _ in self.parts)

    def step(self, state: tuple[Any, ...], symbol: int) -> tuple[tuple[Any, ...], float]:
        found = [model.step(each, symbol) for (model, _), each in zip(self.parts, state, strict=True)]
        total = sum(weight * log_prob for (_, weight), (_, log_prob) in zip(self.parts, found, strict=True))
        return tuple(each for each, _ in found), total

    def finish(self, state: tuple[Any, ...]) -> float:
        return sum(weight * model.finish(each) for (model, weight), each in zip(self.parts, state, strict=True))
