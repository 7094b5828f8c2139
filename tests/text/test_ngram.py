"""Models of text: distributions, against a second implementation of the formulas."""

import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox.contracts import InputError
from metavox.text.ngram import NGram
from metavox.text.symbols import UNIVERSAL

TEXTS = ["the cat sat on the mat", "the dog sat", "a cat and a dog", "on the mat sat the cat"]
UNSEEN = "\u0000"


def kneser_ney(texts: list[list[str]], order: int, history: list[str], token: str) -> float:
    """The textbook's recursion, with sets of what was seen: the probability of a token after all that was said."""
    padded = [["<"] * (order - 1) + text + [">"] for text in texts]
    grams = [tuple(text[n : n + order]) for text in padded for n in range(len(text) - order + 1)]
    n_tokens = len({each for text in texts for each in text}) + 2

    def level(context: tuple[str, ...]) -> float:
        size = len(context) + 1
        seen: dict[tuple[str, ...], Any] = defaultdict(set)
        if size == order:
            values = dict(Counter(grams))
        else:
            for gram in grams:
                seen[gram[-size:]].add(gram[-size - 1])
            values = {gram: len(before) for gram, before in seen.items()}
        once, twice = (sum(value == n for value in values.values()) for n in (1, 2))
        discount = max(once, 1) / (max(once, 1) + 2 * twice)
        after = {gram[-1]: value for gram, value in values.items() if gram[:-1] == context}
        shorter = level(context[1:]) if context else 1 / n_tokens
        if not after:
            return shorter
        share = max(after.get(token, 0) - discount, 0) / sum(after.values())
        return share + discount * len(after) / sum(after.values()) * shorter

    return level(tuple((["<"] * order + history)[len(history) + 1 :]) if order > 1 else ())


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_are_those_of_the_formulas(order: int) -> None:
    model = NGram.from_texts(TEXTS, order)
    letters = [list(text) for text in TEXTS]
    for history in ("", "t", "the c", "the cat s", "zzz", "sat on the dog and"):
        for token in ("t", "a", " ", "z", ">"):
            expected = kneser_ney(letters, order, list(history), token)
            found = model.log_prob(history, None if token == ">" else token)
            assert found == pytest.approx(math.log(expected), abs=1e-12)


@settings(deadline=None)
@given(
    st.lists(st.text("abc ", max_size=8), min_size=1, max_size=6).filter(any),
    st.integers(1, 6),
    st.text("abcd ", max_size=8),
)
def test_probabilities_of_what_may_follow_add_up_to_one(texts: list[str], order: int, context: str) -> None:
    model = NGram.from_texts(texts, order)
    total = sum(math.exp(model.log_prob(context, symbol)) for symbol in (*model.vocabulary, None, UNSEEN))
    assert total == pytest.approx(1, abs=1e-12)


def test_words_and_ids_add_up_too() -> None:
    words = NGram.from_texts(TEXTS, 3, "word")
    assert set(words.vocabulary) == {"the", "cat", "sat", "on", "mat", "dog", "a", "and"}
    for context in ("", "the", "the cat", "never heard", "on the mat sat"):
        assert math.fsum(math.exp(words.log_prob(context, s)) for s in (*words.vocabulary, None, "?")) == pytest.approx(
            1
        )
    ids = NGram.from_texts([UNIVERSAL.encode(text) for text in TEXTS])
    assert math.fsum(math.exp(ids.log_prob((3, 4), s)) for s in (*ids.vocabulary, None, 99)) == pytest.approx(1)


def test_ids_and_characters_are_one_model() -> None:
    by_id, by_character = NGram.from_texts(map(UNIVERSAL.encode, TEXTS)), NGram.from_texts(TEXTS)
    assert by_id.score(UNIVERSAL.encode("a cat sat")) == pytest.approx(by_character.score("a cat sat"))
    assert by_id.perplexity([UNIVERSAL.encode("a mat")]) == pytest.approx(by_character.perplexity(["a mat"]))


@settings(deadline=None)
@given(st.text("thecatxz ", max_size=12), st.integers(1, 5))
def test_a_score_is_its_steps_and_the_end(text: str, order: int) -> None:
    model = NGram.from_texts(TEXTS, order)
    state, total = model.start(), 0.0
    for n, char in enumerate(text):
        expected = model.log_prob(text[:n], char)
        state, log_prob = model.step(state, char)
        assert log_prob == pytest.approx(expected, abs=1e-12)
        total += log_prob
    assert model.finish(state) == pytest.approx(model.log_prob(text, None), abs=1e-12)
    assert model.score(text) == pytest.approx(total + model.finish(state), abs=1e-10)
    assert model.perplexity([text]) == pytest.approx(math.exp(-model.score(text) / (len(text) + 1)))
    assert len(state) < order


def test_contexts_that_were_never_seen_are_one_state() -> None:
    model = NGram.from_texts(TEXTS, 4)
    states = {model.step(state, "z")[0] for state, _ in (model.step(model.start(), char) for char in "tadq")}
    assert states == {()}
    seen, _ = model.step(model.step(model.step((), "q")[0], "t")[0], "h")
    assert len(seen) == 2


def test_every_sentence_has_a_probability_and_all_together_one() -> None:
    model = NGram.from_texts(["a", "ab"], 2)
    total, states = 0.0, {model.start(): 1.0}
    for _ in range(400):  # sentences of up to 400 symbols
        after: dict[Any, float] = defaultdict(float)
        for state, mass in states.items():
            total += mass * math.exp(model.finish(state))
            for symbol in ("a", "b", UNSEEN):
                follower, log_prob = model.step(state, symbol)
                after[follower] += mass * math.exp(log_prob)
        states = after
    assert total == pytest.approx(1, abs=1e-9)


def test_what_was_seen_is_likelier_and_longer_contexts_know_more() -> None:
    model = NGram.from_texts(TEXTS)
    assert model.score("the cat") > model.score("cat the") > model.score("xqz jkv")
    held_out = ["the mat sat on the cat", "a dog and the cat"]
    perplexities = [NGram.from_texts(TEXTS * 3, order).perplexity(held_out) for order in (1, 2, 3)]
    assert perplexities == sorted(perplexities, reverse=True)
    assert model.perplexity(TEXTS) < model.perplexity(held_out) < 28


@pytest.mark.parametrize("level", ["char", "word"])
def test_a_model_survives_its_file(tmp_path: Path, level: Any) -> None:
    model = NGram.from_texts([*TEXTS, "ഈ \ud800"], 3, level)
    path = tmp_path / "text.json"
    path.write_text("older")
    model.save(path)
    assert NGram.load(path) == model
    assert NGram.load(str(path)).score("the cat") == model.score("the cat")
    assert [each.name for each in tmp_path.iterdir()] == ["text.json"]
    by_id = NGram.from_texts([(1, 2, 3)], 2)
    by_id.save(path)
    assert NGram.load(path) == by_id


def test_a_model_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        NGram.from_texts(["a"]).save(tmp_path / "folder")
    with pytest.raises(InputError, match="cannot be written"):
        NGram.from_texts(["a"]).save(tmp_path / "none" / "text.json")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


GOOD: dict[str, Any] = {
    "format": "metavox n-gram 1",
    "order": 2,
    "level": "char",
    "vocabulary": ["a"],
    "counts": [[-1, 2, 1], [2, 0, 1]],
}


@pytest.mark.parametrize(
    "change",
    [
        {"format": "metavox n-gram 9"},
        {"order": 0},
        {"order": 3},
        {"order": 999},
        {"order": "2"},
        {"level": "byte"},
        {"level": ["char"]},
        {"vocabulary": []},
        {"vocabulary": ["a", "a"]},
        {"vocabulary": ["a", 1]},
        {"vocabulary": [None]},
        {"vocabulary": "a"},
        {"counts": []},
        {"counts": [[2, 0]]},
        {"counts": [[3, 0, 1]]},
        {"counts": [[-2, 0, 1]]},
        {"counts": [[2, 0, 0]]},
        {"counts": [[2, -1, 1]]},
        {"counts": [[2, 0, 1.5]]},
        {"counts": [[2, 0, "1"]]},
        {"counts": ["201"]},
        {"counts": None},
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "text.json"
    path.write_text(json.dumps(GOOD))
    assert NGram.load(path) == NGram.from_texts(["a"], 2)
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(InputError, match="is not a language model"):
        NGram.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a language model"):
        NGram.load(path)
    with pytest.raises(InputError, match="cannot be read"):
        NGram.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("texts", "options", "match"),
    [
        ([], {}, "is empty"),
        (["", ""], {}, "is empty"),
        (["  "], {"level": "word"}, "is empty"),
        ([()], {}, "is empty"),
        (["a", (1, 2)], {}, "mixes"),
        (["a"], {"order": 0}, "order of the language model is 0"),
        (["a"], {"order": 21}, "1 to 20"),
    ],
)
def test_text_without_anything_to_count_is_refused(texts: list[Any], options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        NGram.from_texts(texts, **options)


def test_the_wrong_kind_of_symbol_is_refused() -> None:
    with pytest.raises(InputError, match="made of strings and is asked about symbol ids"):
        NGram.from_texts(["ab"]).score((1, 2))
    with pytest.raises(InputError, match="made of symbol ids and is asked about strings"):
        NGram.from_texts([(1, 2)]).score("ab")
    with pytest.raises(InputError, match="no text to measure"):
        NGram.from_texts(["ab"]).perplexity([])
