"""One alphabet for every script."""

import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from texts import CORPORA, HOSTILE, LANGS, TEXTS, rows

from metavox.contracts import InputError
from metavox.text.normalise import normalise
from metavox.text.romanise import _uroman, attempt, first_letter, romanise, romanise_all

PROPER = re.compile(r"(?:[a-z]+(?:'[a-z]+)*[1-5]?(?: (?!$)|$))*")
"""Words of a to z with apostrophes between letters, at most one tone, single spaces."""


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("We call it a BEAR, don't we?", "en", "we call it a bear don't we"),
        ("táá ya bísí adíí ambεsí wamέnde", "mdw", "taa ya bisi adii ambesi wamende"),
        ("pέ ngá olange má alωi", "mdw", "pe nga olange ma aloi"),
        ("ọ̀rọ̀ ìyànjù ń ḿ", "yo", "oro iyanju n m"),
        ("തന്നോളം പോന്നാൽ", "ml", "tannoollam poonnaal"),
        ("അവന്\u200d", "ml", "avan"),
        ("হঠাৎ", "bn", "hatthaat"),
        ("לא כן", "he", "la kn"),
        ("привет, подъезд", "ru", "privet podyezd"),
        ("한국어", "ko", "hangugeo"),
        ("ニューヨーク", "ja", "nyuuyooku"),
        ("二十三", "yue", "ershisan"),
        ("二十三", "cmn", "er4 shi2 san1"),
        ("中国", None, "zhong1 guo2"),
        ("中国 hello", None, "zhong1 guo2 hello"),
        ("zhōngguó", "zh", "zhong1 guo2"),
        ("zhōngguó", None, "zhongguo"),
        ("a2 zhong1", None, "a2 zhong1"),
        ("日本の", None, "ribenno"),
        ("ʻāina", "haw", "aina"),
        ("ǃxóõ", "nmn", "qxoo"),
        ("ˈhɛˌləʊː", None, "heleu"),
        ("रामोऽपि", "hi", "raamo'pi"),
        ("ﬁn ＡＢ ﷲ", None, "fin ab allah"),
        ("كِتاب", "ar", "kitab"),
        ("ϑ ٵ", None, "th ah"),
        ("", None, ""),
    ],
)
def test_a_text_is_written_in_the_universal_alphabet(text: str, lang: str | None, expected: str) -> None:
    assert romanise(text, lang) == expected


def test_the_language_reaches_the_rules() -> None:
    assert romanise("ґ г", "uk") != romanise("ґ г", "ru")


@pytest.mark.parametrize(
    ("text", "lang", "chars"),
    [
        ("room 7", "en", ["7"]),
        ("b2b", "en", ["2"]),
        ("a2", "en", ["2"]),
        ("第2个", "cmn", ["2"]),
        ("hello1", "cmn", ["1"]),
        ("a6", None, ["6"]),
        ("७ फल", "hi", ["७"]),
        ("፲፪ ⅷ ½ x²", None, ["፲", "፪", "ⅷ", "½", "²"]),
        ("x\ue000 𒀀", "en", ["\ue000", "𒀀"]),
        ("ดีๆ", "th", ["ๆ"]),
    ],
)
def test_what_nothing_maps_is_named(text: str, lang: str | None, chars: list[str]) -> None:
    assert list(attempt(text, lang).unmapped) == chars
    with pytest.raises(InputError) as caught:
        romanise(text, lang)
    assert all(repr(char) in str(caught.value) for char in chars)
    assert "as they were said" in str(caught.value)


def test_all_offending_rows_are_told_of_in_one_sentence() -> None:
    texts = ["fine", "room 7", "ok", *[f"{n} more" for n in range(10, 16)]]
    with pytest.raises(InputError) as caught:
        romanise_all(texts, ["en"] * len(texts))
    message = str(caught.value)
    assert message.startswith("7 of 9 texts cannot be romanised (row 2: 'room 7' has '7' (DIGIT SEVEN); row 4: ")
    assert "and 2 more" in message
    assert message.count("row ") == 5
    assert "\n" not in message


def test_all_texts_go_by_their_own_language() -> None:
    assert romanise_all(["中国", "中国", "a"], ["cmn", "ja", None]) == ["zhong1 guo2", "zhongguo", "a"]
    assert romanise_all([], []) == []


@settings(deadline=None)
@given(TEXTS, LANGS)
def test_what_is_romanised_stays_so(text: str, lang: str | None) -> None:
    found = attempt(text, lang)
    assert PROPER.fullmatch(found.text) or found.unmapped
    if not found.unmapped:
        assert attempt(found.text, lang) == found
        assert romanise(normalise(text, lang), lang) == found.text


@settings(deadline=None)
@given(TEXTS)
def test_only_mandarin_has_tones(text: str) -> None:
    for lang in ("en", "ja", "yue", "vi"):
        assert not re.search("[0-9]", attempt(text, lang).text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("lang", [None, "cmn", "ml"])
def test_hostile_texts_are_romanised_or_refused(text: str, lang: str | None) -> None:
    found = attempt(text, lang)
    if not found.unmapped:
        assert PROPER.fullmatch(romanise(text, lang))
        return
    with pytest.raises(InputError) as caught:
        romanise(text, lang)
    assert len(str(caught.value)) < 500
    str(caught.value).encode("utf-8")


def test_a_long_word_is_read_as_its_parts_are() -> None:
    assert romanise("ш" * 1000, "ru") == "sh" * 1000


@pytest.mark.parametrize(
    ("char", "letter"),
    [
        *[("a", "a"), ("é", "e"), ("ш", "s"), ("ാ", "a"), ("中", "z"), ("ൻ", "n"), ("ω", "o"), ("ǃ", "q")],
        *[("്", None), ("ъ", None), ("7", None), ("७", None), ("\ue000", None), ("😀", None)],
    ],
)
def test_a_character_begins_with_a_letter(char: str, letter: str | None) -> None:
    assert first_letter(char) == letter


@pytest.mark.real
@pytest.mark.parametrize("corpus", CORPORA)
def test_real_transcripts_are_romanised_and_stay_so(corpus: str, data_root: Path) -> None:
    texts, langs = zip(*rows(data_root, corpus), strict=True)
    assert len(texts) == CORPORA[corpus]
    found = romanise_all(texts, langs)
    assert all(map(PROPER.fullmatch, found))
    assert romanise_all(found, langs) == found
    if corpus == "speechocean_en_l2":
        assert found == list(texts)
    if corpus == "mandarin_syllables":
        assert found == list(texts)


@pytest.mark.parametrize(("package", "text"), [("uroman", "привет мир"), ("pypinyin", "中国人民")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, package: str, text: str) -> None:
    _uroman.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package}, .* pip install 'metavox\[text\]'"):
        romanise(text)
    assert romanise("plain letters need neither") == "plain letters need neither"
