"""Language models from the user's own text: which symbol, or which word, follows which.

Interpolated Kneser-Ney smoothing with one discount an order (Kneser and Ney 1995, as in Chen and Goodman 1998,
sections 2.7 and 4.1.6): a context gives a part of its mass to the next shorter one, and the shorter one counts in how
many different places a token was seen rather than how often. It has nothing to tune.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError

Token = str | int
Context = tuple[int, ...]
"""The tokens before, as places in the vocabulary, no more of them than count; the state of a search."""
Level = Literal["char", "word"]

_BEGIN, _END, _UNKNOWN, _FIRST = -1, 0, 1, 2
_MAX_ORDER = 20
_FORMAT = "metavox n-gram 1"


@dataclass(frozen=True, slots=True)
class _Followers:
    """What was seen after one context."""

    counts: dict[int, int]
    total: int
    discount: float


@dataclass(frozen=True)
class NGram:
    """Probabilities of what follows a context: each token seen in training, the end, and one unknown token.

    A token is a character or a word (``level``) or a symbol id. None is the end, and whatever training has not seen
    is the unknown token. A context is all that was said since the beginning.
    """

    order: int
    """Tokens that are looked at together; the context is one shorter."""
    level: Level
    vocabulary: tuple[Token, ...]
    counts: Mapping[Context, int] = field(repr=False)
    """Times that each run of ``order`` tokens was seen: -1 the beginning, 0 the end, 2 the first of the vocabulary."""
    _places: dict[Token, int] = field(init=False, repr=False, compare=False)
    _followers: dict[Context, _Followers] = field(init=False, repr=False, compare=False)
    _steps: dict[tuple[Context, int], tuple[Context, float]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {token: place for place, token in enumerate(self.vocabulary, _FIRST)})
        object.__setattr__(self, "_followers", _followers(self.counts, self.order))
        object.__setattr__(self, "_steps", {})

    @classmethod
    def from_texts(cls, texts: Iterable[str | Sequence[int]], order: int = 5, level: Level = "char") -> "NGram":
        """Count texts, each one sentence: strings by character or by word, or sequences of symbol ids.

        Texts are taken as they are: encode them, or normalise them as transcripts are. Empty ones are left out. Raises
        InputError for an order outside 1 to 20, another level, strings mixed with ids, or when nothing is left.
        """
        if level not in ("char", "word"):
            raise InputError(f"The level of the language model is {level!r}; choose char or word.")
        if not 1 <= order <= _MAX_ORDER:
            raise InputError(f"The order of the language model is {order}; choose 1 to {_MAX_ORDER}.")
        sentences = [found for text in texts if (found := tokens(text, level))]
        if not sentences:
            raise InputError("The text for the language model is empty; give at least one sentence.")
        seen = {token for sentence in sentences for token in sentence}
        if len({isinstance(token, str) for token in seen}) > 1:
            raise InputError("The text for the language model mixes strings with symbol ids; give one kind.")
        vocabulary: tuple[Token, ...] = tuple(sorted(seen))
        places = {token: place for place, token in enumerate(vocabulary, _FIRST)}
        counts: Counter[Context] = Counter()
        for sentence in sentences:
            padded = (*[_BEGIN] * (order - 1), *(places[token] for token in sentence), _END)
            counts.update(padded[start : start + order] for start in range(len(padded) - order + 1))
        return cls(order, level, vocabulary, dict(counts))

    def log_prob(self, context: str | Sequence[int] | Sequence[str], symbol: Token | None) -> float:
        """Natural logarithm of the probability that a symbol, or the end (None), follows what was said so far."""
        state = self.start()
        for token in tokens(context, self.level):
            state, _ = self.step(state, token)
        return self.step(state, symbol)[1]

    def score(self, sequence: str | Sequence[int] | Sequence[str]) -> float:
        """Natural logarithm of the probability of a whole sentence, its end included."""
        state, total = self.start(), 0.0
        for token in tokens(sequence, self.level):
            state, log_prob = self.step(state, token)
            total += log_prob
        return total + self.finish(state)

    def perplexity(self, texts: Iterable[str | Sequence[int]]) -> float:
        """The geometric mean of 1 / probability over all tokens of all texts and their ends.

        Raises InputError for no texts.
        """
        total, n_tokens = 0.0, 0
        for text in texts:
            total += self.score(text)
            n_tokens += len(tokens(text, self.level)) + 1
        if not n_tokens:
            raise InputError("There is no text to measure the language model on; give at least one sentence.")
        return math.exp(-total / n_tokens)

    def start(self) -> Context:
        """The state at the beginning of a sentence."""
        return (_BEGIN,) * (self.order - 1)

    def step(self, state: Context, symbol: Token | None) -> tuple[Context, float]:
        """The state after one more symbol, and the natural logarithm of its probability. Steps are remembered.

        Raises InputError for a string where the model was made of ids, or the other way round.
        """
        place = self._place(symbol)
        known = self._steps.get((state, place))
        if known is None:
            after = (*state, place)[max(len(state) + 2 - self.order, 0) :] if self.order > 1 else ()
            while after and after not in self._followers:
                after = after[1:]  # what was never seen says no more than its end
            known = self._steps[state, place] = after, math.log(self._probability(state, place))
        return known

    def finish(self, state: Context) -> float:
        """Natural logarithm of the probability that the sentence ends here."""
        return self.step(state, None)[1]

    def save(self, path: str | Path) -> None:
        """Write the counts as JSON; an older file is replaced only once the new one is whole."""
        value = {
            "format": _FORMAT,
            "order": self.order,
            "level": self.level,
            "vocabulary": list(self.vocabulary),
            "counts": [[*run, count] for run, count in sorted(self.counts.items())],
        }
        path = Path(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps(value, separators=(",", ":")) + "\n", encoding="utf-8")
            os.replace(beside, path)
        except OSError as error:
            raise InputError(f"The language model cannot be written to {path}: {error.strerror}.") from error
        finally:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> "NGram":
        """The model that ``save`` wrote. Raises InputError for a file that cannot be read or is not one."""
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"The language model {path} cannot be read: {error.strerror}.") from error
        except (ValueError, RecursionError):
            value = None
        found = _parsed(value)
        if found is None:
            raise InputError(f"The file {path} is not a language model of this version or is damaged; make it again.")
        return cls(*found)

    def _place(self, symbol: Token | None) -> int:
        if symbol is None:
            return _END
        if isinstance(symbol, str) is not isinstance(self.vocabulary[0], str):
            kinds = ("strings", "symbol ids") if isinstance(self.vocabulary[0], str) else ("symbol ids", "strings")
            raise InputError(
                f"The language model was made of {kinds[0]} and is asked about {kinds[1]}; give its own kind."
            )
        return self._places.get(symbol, _UNKNOWN)

    def _probability(self, state: Context, place: int) -> float:
        probability = 1 / (len(self.vocabulary) + 2)  # the end and the unknown token
        for start in range(len(state), -1, -1):
            seen = self._followers.get(state[start:])
            if seen is None:
                break
            own = max(seen.counts.get(place, 0) - seen.discount, 0.0)
            probability = (own + seen.discount * len(seen.counts) * probability) / seen.total
        return probability


def tokens(text: str | Sequence[int] | Sequence[str], level: Level) -> tuple[Token, ...]:
    """What a model of a level counts: characters or words of a string; the items of any other sequence."""
    if isinstance(text, str):
        return tuple(text if level == "char" else text.split())
    return tuple(each if isinstance(each, str) else int(each) for each in text)


def _followers(counts: Mapping[Context, int], order: int) -> dict[Context, _Followers]:
    """Per context what followed it: how often for the longest, in how many different places for the others."""
    found: dict[Context, _Followers] = {}
    current = dict(counts)
    for _ in range(order):
        n_once, n_twice = (sum(count == times for count in current.values()) for times in (1, 2))
        discount = max(n_once, 1) / (max(n_once, 1) + 2 * n_twice)
        by_context: dict[Context, dict[int, int]] = {}
        for run, count in current.items():
            by_context.setdefault(run[:-1], {})[run[-1]] = count
        found |= {context: _Followers(after, sum(after.values()), discount) for context, after in by_context.items()}
        current = dict(Counter(run[1:] for run in current))
    return found


def _parsed(value: Any) -> tuple[int, Level, tuple[Token, ...], dict[Context, int]] | None:
    """The fields of a stored model, or None where anything is not as ``save`` writes it."""
    match value:
        case {
            "format": str(form),
            "order": int(order),
            "level": "char" | "word" as level,
            "vocabulary": [str() | int() as first, *others],
            "counts": [*rows],
        }:
            vocabulary = (first, *others)
            distinct = len(set(map(repr, vocabulary))) == len(vocabulary)
            whole = distinct and all(type(token) is type(first) for token in vocabulary)
            whole = whole and form == _FORMAT and 1 <= order <= _MAX_ORDER and len(rows) > 0
            if whole and all(_is_count(row, order, len(vocabulary)) for row in rows):
                return order, level, vocabulary, {tuple(row[:-1]): row[-1] for row in rows}
    return None


def _is_count(row: Any, order: int, n_tokens: int) -> bool:
    """Whether a stored row is a run of tokens and how often it was seen."""
    if not isinstance(row, list) or len(row) != order + 1 or any(type(each) is not int for each in row):
        return False
    known = all(_BEGIN <= each < n_tokens + _FIRST for each in row[:-1])
    return known and row[-2] not in (_BEGIN, _UNKNOWN) and row[-1] > 0
