"""Phones of texts: letters of IPA without signs, asked of espeak-ng language by language."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metavox.contracts import Utterance
from metavox.data import phones as module
from metavox.data.phones import inventory, phones_of, pronounced


@pytest.mark.parametrize(
    ("ipa", "expected"),
    [
        ("hˈeləʊ", "heləʊ"),  # stress
        ("ˌɪntəˈnaʃənəl", "ɪntənaʃənəl"),
        ("ˈvaːsɐ", "vasɐ"),  # length
        ("kʰɒt", "kɒt"),  # aspiration
        ("tʲˈelʲə", "telə"),  # palatalisation
        ("kʷa", "ka"),
        ("ni˨˩˦ xɑu˥˩", "nixɑu"),  # tones, and a blank between words
        ("bɔ̃ʒuʁ", "bɔʒuʁ"),  # a nasal vowel
        ("t͡ʃaɪ", "tʃaɪ"),  # a tie
        ("ɪç", "ɪc"),
        ("ŋǃàŋ", "ŋǃaŋ"),  # a click, and a tone on its vowel
        ("ɡˈɜːl-z", "ɡɜlz"),
        ("", ""),
        (" ˈ ", ""),
    ],
)
def test_letters_of_ipa_are_kept_without_their_signs(ipa: str, expected: str) -> None:
    assert phones_of(ipa) == tuple(expected)


@given(st.lists(st.lists(st.sampled_from("aeʃt"), max_size=30).map(tuple), max_size=12), st.integers(1, 40))
def test_the_inventory_numbers_what_is_heard_often_in_the_order_of_code_points(
    spoken: list[tuple[str, ...]], least: int
) -> None:
    found = inventory(spoken, least)
    heard = [phone for phones in spoken for phone in phones]
    assert set(found) == {phone for phone in heard if heard.count(phone) >= least}
    assert list(found.values()) == list(range(1, len(found) + 1))
    assert list(found) == sorted(found)


def utterance(text: str, lang: str | None) -> Utterance:
    return Utterance(text, Path("nowhere"), 1.0, text, lang=lang)


class Reader:
    """In the place of espeak-ng: says what it was asked, and marks what it reads in another language."""

    jobs: list[tuple[str, list[str]]]

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, job: dict, doing: str) -> dict:
        Reader.jobs.append((job["voice"], job["texts"]))
        return {"phonemes": [f"(en)ˈ{text}(de)" if text == "software" else f"ˈ{text}ː" for text in job["texts"]]}


@pytest.fixture(autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("synth") is None:
        Reader.jobs = []
        monkeypatch.setattr(module, "Voice", Reader)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_each_language_is_asked_once_and_answers_go_to_their_texts(n_workers: int) -> None:
    rows = [("abc", "de"), ("hola", "es"), ("software", "de"), ("xyz", "qqq"), ("defg", "de"), ("sal", None)]
    found = pronounced([utterance(*row) for row in rows], n_workers)
    assert found == [tuple("abc"), tuple("hola"), (), (), tuple("defg"), ()]
    assert sorted(Reader.jobs) == [("de", ["abc", "software", "defg"]), ("es", ["hola"])]


@pytest.mark.parametrize("text", ["", "  ", "\t\n", "a\0b", "a\ud800b"])
def test_what_is_no_text_is_not_asked_for(text: str) -> None:
    """One row without a text must not end a training on thousands of others."""
    assert pronounced([utterance(text, "de"), utterance("abc", "de")]) == [(), tuple("abc")]
    assert Reader.jobs == [("de", ["abc"])]


def test_nobody_is_asked_where_no_language_is_known() -> None:
    assert pronounced([utterance("abc", None), utterance("abc", "xx")]) == [(), ()]
    assert Reader.jobs == []
    assert pronounced([]) == []


@pytest.mark.synth
def test_known_words_are_read_as_espeak_reads_them() -> None:
    pytest.importorskip("espeakng_loader")
    rows = [
        ("hola", "es", "ola"),
        ("ich liebe dich", "de", "ɪclibədɪc"),
        ("bonjour", "fr", "bɔʒuʁ"),
        ("дом hello", "ru", ""),  # the second word is read in English
        ("sakko", "qqq", ""),
    ]
    found = pronounced([utterance(text, lang) for text, lang, _ in rows])
    assert found == [tuple(expected) for _, _, expected in rows]
