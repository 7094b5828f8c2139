"""Words for synthetic speech: where they come from, which can be told apart by ear, which are chosen."""

import json
import subprocess
import sys
import unicodedata

import pytest

from metavox.contracts import InputError
from metavox.data.synth_languages import LANGUAGES, Syllables
from metavox.data.synth_words import candidates, choose, invented, readable, remainders, told_apart

BASES = [code for code, row in LANGUAGES.items() if row.accent_of is None]


@pytest.mark.parametrize("code", BASES)
def test_candidates_are_short_lower_case_words_in_one_script(code):
    pytest.importorskip("babel")
    words = candidates(code)
    assert len(words) >= 90
    assert len(words) == len(set(words))
    for word in words:
        assert word == unicodedata.normalize("NFC", word.lower())
        assert 2 <= len(word.replace(" ", "")) <= 14
        assert len(word.split(" ")) <= LANGUAGES[code].max_words
        assert all(char.isalpha() or unicodedata.category(char).startswith("M") or char in " ー" for char in word), word
    scripts = {unicodedata.name(char).split()[0] for word in words for char in word if char.isalpha() and char != "ー"}
    assert len(scripts) == 1


def test_candidates_do_not_depend_on_the_languages_read_before():
    pytest.importorskip("babel")
    program = "import json, sys; from metavox.data.synth_words import candidates; print(json.dumps(candidates('eu')))"
    alone = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for code in ("az", "sw", "tr"):
        candidates(code)
    assert candidates("eu") == json.loads(alone.stdout)


def test_turkish_letters_are_lowered_as_in_turkish():
    pytest.importorskip("babel")
    words = candidates("tr")
    assert "isveç" in words
    assert "ırak" in words
    assert "irak" not in words


def test_readable_drops_what_cannot_be_told_apart_by_ear():
    phonemes = {
        "ja": "jˈaː",
        "kavi": "kˈaʋi",
        "kawi": "kˈaʋi",
        "cook": "(en)kˈʊk(de)",
        "rwa": "ˌɛɾvˌeːˈɑː",
        "haus": "hˈaʊs",
        "sehr lang": "a" * 25,
        "8": "ˈax",
        **{"r": "ˈɛɾ", "w": "vˈeː", "a": "ˈɑː", "h": "hˈɑː", "u": "ˈuː", "s": "ˈɛs", "k": "kˈɑː", "v": "fˈaʊ"},
        **{"i": "ˈiː", "c": "tsˈeː", "o": "ˈoː", "e": "ˈeː", "l": "ˈɛl", "n": "ˈɛn", "g": "ɡˈeː", "j": "jˈɔt"},
    }
    words = ["8", "ja", "kavi", "kawi", "cook", "rwa", "haus", "sehr lang"]
    assert remainders(words, phonemes) == ["wa"], "for in `rwa` the name of r is heard"
    phonemes["wa"] = "vˈeːɑː"
    assert readable(words, phonemes) == ["8", "kavi", "haus"]


def test_choice_is_nested_seeded_and_keeps_a_share_of_numbers():
    words = [str(n) for n in range(30)] + [chr(ord("a") + i) * 3 for i in range(26)]
    small, large = (choose("de", words, n, 0.25, seed=1) for n in (8, 40))
    assert set(small) < set(large)
    assert len(set(large)) == 40
    assert sum(word.isdecimal() for word in small) == 2
    assert choose("de", words, 8, 0.25, seed=1) == small
    assert choose("de", words, 8, 0.25, seed=2) != small
    assert choose("fi", words, 8, 0.25, seed=1) != small
    assert sum(word.isdecimal() for word in choose("de", words, 50, 0.0, seed=1)) == 24, "numbers fill up"
    with pytest.raises(InputError, match=r"German has 56 words .* n_words is 57; ask for at most 56"):
        choose("de", words, 57, 0.25, seed=1)


def test_an_accent_chooses_what_its_language_chooses_as_far_as_it_may():
    words = [str(n) for n in range(30)] + [chr(ord("a") + i) * 3 for i in range(26)]
    whole = choose("es", words, 20, 0.25, seed=1)
    allowed = set(words) - {whole[0], whole[-1]}
    part = choose("es-419", words, 20, 0.25, seed=1, allowed=allowed)
    assert set(whole) - set(part) == {whole[0], whole[-1]}
    assert len(set(part)) == 20
    with pytest.raises(InputError, match=r"Latin America\) has 54 words .* ask for at most 54, or leave es-419 out"):
        choose("es-419", words, 55, 0.25, seed=1, allowed=allowed)


def test_invented_words_follow_their_syllables_and_stay_the_same():
    syllables = Syllables(("t", "k"), ("a", "i"), ("", "n"))
    words = invented(syllables, "x1", 40)
    assert words == invented(syllables, "x1", 40)
    assert words != invented(syllables, "x2", 40)
    assert len(words) == len(set(words)) == 40
    for word in words:
        body = word.removesuffix("n")
        assert len(body) in (4, 6)
        assert set(body[0::2]) <= {"t", "k"}
        assert set(body[1::2]) <= {"a", "i"}
    assert len(invented(Syllables(("t",), ("a",)), "x1", 40)) == 2, "there are no more"


# ------------------------------------------------------------------------------------ a reader that spells when stuck

NAMES = {"b": "bˈe", "t": "tˈe", "k": "kˈa", "r": "ˈere", "f": "ˈefe", "a": "ˈa", "e": "ˈe", "o": "ˈo", "я": "jˈa"}


def spelling_reader(texts):
    """Reads letters as they are written; a lone letter, or one before another consonant at the start, by its name."""
    found = []
    for text in texts:
        if len(text) == 1:
            found.append(NAMES[text])
        elif len(text) > 1 and all(char in "btkrf" for char in text[:2]):
            found.append(NAMES[text[0]].replace("ˈ", "ˌ") + spelling_reader([text[1:]])[0])
        else:
            found.append("ˈ" + text.replace("я", "ja"))
    return found


def test_a_letter_read_by_its_name_is_noticed_wherever_it_stands():
    fine = ["beta", "bete", "tako", "betake", "яka", "takя", "tяk", "яkя", "tяka"]
    assert list(told_apart([*fine, "rtako", "fbeto"], spelling_reader)) == fine
    assert list(told_apart(["яkot", "rtako"], spelling_reader)) == [], "two words are too few to know a letter by"


def test_names_of_indic_signs_are_noticed_and_sounds_are_not():
    phonemes = {
        "का": "kˈaː", "कि": "kˈəɪkˈaːr", "कख": "kˈəkʰə", "क": "kˈə", "ख": "kʰˈə", "ा": "aːkˈaːr", "ि": "ɪkˈaːr"
    }  # fmt: skip
    words = ["का", "कि", "कख"]
    assert remainders(words, phonemes) == []
    assert readable(words, {**phonemes, "का": "kˈaːla"}) == ["का", "कख"]


def test_a_word_said_in_more_parts_than_it_has_or_without_a_vowel_is_left_out():
    letters = {"a": "ˈa", "b": "b", "c": "k", "d": "d"}
    phonemes = {"abcd": "ˈa bkd", "ab cd": "ˈab kdˈa", "bcd": "bkd", "cab": "kˈab", **letters}
    assert readable(["abcd", "ab cd", "bcd", "cab"], phonemes) == ["ab cd", "cab"]


@pytest.mark.parametrize("code", ["de", "qya", "vi"])
def test_words_do_not_depend_on_the_order_they_are_asked_in(code):
    """A choice from a longer list contains the choice from a shorter n, for invented words as for real ones."""
    pytest.importorskip("babel")
    words = candidates(code)
    assert set(choose(code, words, 10, 0.2, seed=3)) < set(choose(code, words, 50, 0.2, seed=3))


def test_without_babel_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "babel", None)
    with pytest.raises(InputError, match=r'pip install "metavox\[demo\]"'):
        candidates("de")
    assert candidates("qya"), "invented words need no babel"
