"""Models of characters and words, as a search over symbols sees them."""

import math

import pytest
from paths import spoken

from metavox.text.decode import greedy, prefix_beam
from metavox.text.fusion import CharacterFusion, LanguageModel, SumFusion, WordFusion
from metavox.text.ngram import NGram
from metavox.text.symbols import UNIVERSAL

TEXTS = ["the cat sat on the mat", "the dog sat", "a cat and a dog"]
CHARACTERS = CharacterFusion(NGram.from_texts(TEXTS), UNIVERSAL)
WORDS = WordFusion(NGram.from_texts(TEXTS, 2, "word"), UNIVERSAL)


def total(model: LanguageModel, text: str) -> float:
    """The score of a text as spaces and letters, which need not be normal."""
    state, out = model.start(), 0.0
    for char in text:
        state, log_prob = model.step(state, UNIVERSAL.characters.index(char) + 1)
        out += log_prob
    return out + model.finish(state)


def test_whatever_scores_symbols_is_a_language_model() -> None:
    parts = (CHARACTERS, WORDS, SumFusion([(CHARACTERS, 1.0)]), NGram.from_texts([(1, 2)]))
    assert all(isinstance(each, LanguageModel) for each in parts)


def test_characters_score_as_their_model_does() -> None:
    for text in ("the cat", "", "zz"):
        assert total(CHARACTERS, text) == pytest.approx(CHARACTERS.model.score(text))


def test_words_score_as_their_model_does_however_they_are_spaced() -> None:
    for text in ("the cat", "a dog and a cat", "the zebra sat", ""):
        expected = WORDS.model.score(text)
        assert total(WORDS, text) == pytest.approx(expected)
        assert total(WORDS, f"  {text.replace(' ', '   ')} ") == pytest.approx(expected)


def test_an_unknown_word_costs_no_more_than_the_floor() -> None:
    floored = WordFusion(WORDS.model, UNIVERSAL, floor=-2.0)
    assert total(WORDS, "zebra") < -4
    known, end = WORDS.model.log_prob("", "zebra"), WORDS.model.log_prob("zebra", None)
    assert total(floored, "zebra") == pytest.approx(-2.0 + end)
    assert total(floored, "zebra ") == pytest.approx(-2.0 + end)
    assert known < -2.0


def test_several_models_add_up_with_their_weights() -> None:
    both = SumFusion([(CHARACTERS, 0.25), (WORDS, 2.0)])
    for text in ("the cat", "dog the", ""):
        assert total(both, text) == pytest.approx(0.25 * total(CHARACTERS, text) + 2 * total(WORDS, text))
    assert math.isfinite(total(both, "zz zz"))


@pytest.mark.parametrize("model", [CHARACTERS, WORDS, SumFusion([(CHARACTERS, 0.5), (WORDS, 0.5)])])
def test_a_doubtful_letter_is_heard_as_the_text_has_it(model: LanguageModel) -> None:
    ids = UNIVERSAL.encode("the cat sat")
    wrong = UNIVERSAL.encode("the cab sat")
    log_probs = spoken(ids, 60, UNIVERSAL.size, 4, noise=0.2)
    at = greedy(log_probs).frames[6]
    log_probs[at] = -12.0
    log_probs[at, wrong[6]], log_probs[at, ids[6]] = math.log(0.55), math.log(0.44)
    assert greedy(log_probs).ids == wrong
    assert prefix_beam(log_probs)[0].ids == wrong
    assert prefix_beam(log_probs, lm=model, lm_weight=0.7, length_bonus=0.5)[0].ids == ids
