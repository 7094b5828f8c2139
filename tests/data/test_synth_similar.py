"""Similar words: sounds, distances, and a neighbourhood that is close, distinct and nested."""

import itertools

import pytest

from metavox.data.synth_similar import NEAR, distances, similar_words, sounds


def distance(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Levenshtein by its definition."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        distance(one[1:], other) + 1,
        distance(one, other[1:]) + 1,
        distance(one[1:], other[1:]) + (one[0] != other[0]),
    )


def read(texts):
    """A language in which words sound as they are written."""
    return {text: "ˈ" + text for text in texts}


WORDS = ["tari", "tare", "taru", "mari", "kolo", "kola", "solemente", "12", "putuk", "bi", "tarikolo"]


def test_a_sound_is_a_letter_with_its_marks_and_stress_is_none():
    assert sounds("ˈaːbʰ ˌt͡ʃã") == ("aː", "bʰ", "t͡ʃ", "ã")
    assert sounds("tɕhˈi5 jˈy2") == ("t", "ɕ", "h", "i5", "j", "y2")
    assert sounds("kˈat") == sounds("katˈ")


def test_distances_agree_with_the_definition_up_to_the_limit():
    said = [sounds(word) for word in ("tari", "tare", "ari", "tarik", "mora", "bi", "")]
    for one in said:
        for most in (1, 2, 5):
            found = distances(one, said, most)
            assert found == [min(distance(one, other), most + 1) for other in said]


def test_the_neighbourhood_is_close_distinct_and_real_words_come_first():
    phonemes = read(WORDS)
    found = similar_words("de", phonemes, 0, read)
    said = [sounds(read([word])[word]) for word in found]
    centre = said[0]
    assert found[0] in ("tari", "tare", "taru", "mari"), "the word of most neighbours"
    assert set(found[:4]) == {"tari", "tare", "taru", "mari"}
    assert len(found) > 20
    assert len(set(said)) == len(said)
    assert all(distance(centre, other) <= NEAR for other in said)
    assert all(distance(one, other) <= 2 * NEAR for one, other in itertools.combinations(said[:15], 2))
    exchanged = [distance(centre, other) for other in said[4:]]
    assert exchanged == sorted(exchanged), "minimal pairs before the rest"
    letters = set("".join(word for word in WORDS if not word.isdecimal()))
    assert all(set(word) <= letters for word in found), "only letters of the language"
    assert not any(word.isdecimal() for word in found)


def test_pseudo_words_that_cannot_be_told_apart_are_not_used():
    unread = {"sari"}
    found = similar_words("de", read(WORDS), 0, lambda texts: read([text for text in texts if text not in unread]))
    assert not unread & set(found)
    one_sound = similar_words("de", read(WORDS), 0, lambda texts: {text: "ˈtari" for text in texts})
    assert sorted(one_sound) == ["mari", "tare", "tari", "taru"], "what sounds like the seed is no other word"


def test_the_choice_depends_on_seed_and_language_only():
    phonemes = read([a + b + c + d for a in "ptk" for b in "ai" for c in "mns" for d in "aou"])
    again = [similar_words("de", phonemes, 0, read) for _ in range(2)]
    assert again[0] == again[1]
    assert similar_words("de", phonemes, 1, read) != again[0]
    assert similar_words("fi", phonemes, 0, read) != again[0]


@pytest.mark.parametrize("word", ["कली", "한국"])
def test_marks_and_syllables_are_exchanged_whole(word):
    others = {"कली": ["बिली", "मूडा"], "한국": ["서울", "부산"]}[word]
    found = similar_words("hi", {word: "kˈalib", **dict.fromkeys(others, "ˈdumfegox")}, 0, lambda texts: {})
    assert len(found) == 1
    asked: list[str] = []
    similar_words("hi", {word: "kˈalib", **dict.fromkeys(others, "ˈdumfegox")}, 0, lambda t: asked.extend(t) or {})
    assert asked
    assert all(len(text) in (len(word), len(word) - 1, len(word) + 1) for text in asked)
