"""What normalising keeps, drops and leaves alone."""

from itertools import pairwise
from unicodedata import category, is_normalized

import pytest
from hypothesis import given, settings
from texts import HOSTILE, LANGS, TEXTS

from metavox.text.normalise import NORMALISATION, normalise, spaces_matter


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("  two\t\nlines\u00a0here\u3000", "two lines here"),
        ("one,two;three/four_five", "one two three four five"),
        ("well-known — and–so", "well known and so"),
        ("(s)he said «no», “yes”", "she said no yes"),
        ("col·lecció צה״ל", "collecció צהל"),
        ("cafe\u0301", "café"),
        ("5 > 3 = $2", "5 3 2"),
        ("3.14", "3 14"),
        ("ΟΔΟΣ ΣΑΣ", "οδος σας"),
        ("Straße", "straße"),
        ("a😀b 👍🏽 1️⃣", "a b 1"),
        ("soft\u00adhyphen \ufeffbom\u2060", "softhyphen bom"),
        ("ab\u200bcd", "ab cd"),
        ("b\x00e\x07l", "bel"),
        ("x\ud800y", "xy"),
        ("كتـــاب", "كتاب"),
        ("བོད་སྐད།", "བོད སྐད"),
        ("private \ue000", "private \ue000"),
    ],
)
def test_a_text_is_what_it_says(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize("sign", "'’‘ʼʻ`´′＇ꞌ՚׳")
def test_every_apostrophe_is_one_between_letters_and_none_elsewhere(sign: str) -> None:
    assert normalise(f"{sign}don{sign}t{sign} {sign} rock{sign}n{sign}roll 7{sign}a a{sign}7") == (
        "don't rock'n'roll 7a a7"
    )
    assert normalise(f"a{sign}{sign}b") == "a'b"
    assert normalise(f"e\u0323\u0301{sign}e") == "ẹ\u0301'e"


@pytest.mark.parametrize("lang", ["tr", "tr-TR", "az", "AZ_Latn", "tur"])
def test_turkish_has_two_letters_i(lang: str) -> None:
    assert normalise("DIŞ İZMİR I\u0307", lang) == "dış izmir i"
    assert normalise("IRMAK", lang) == "ırmak"


@pytest.mark.parametrize("lang", [None, "en", "lt"])
def test_elsewhere_every_capital_i_is_an_i(lang: str | None) -> None:
    assert normalise("DIS İZMİR i\u0307s", lang) == "dis izmir is"


def test_joiners_stay_between_letters_of_scripts_that_are_written_with_them() -> None:
    assert normalise("می\u200cخواهم") == "می\u200cخواهم"
    assert normalise("ക്\u200cഷ क्\u200dष") == "ക്\u200cഷ क्\u200dष"
    assert normalise("क्\u200d\u200dष") == "क्\u200dष"
    assert normalise("\u200dക\u200c ക്\u200c. a\u200cb क्\u200da") == "ക ക് ab क्a"


def test_a_malayalam_chillu_has_one_spelling() -> None:
    assert normalise("അവന്\u200d അവള്\u200d നാല്\u200d") == "അവൻ അവൾ നാൽ"
    assert normalise("അവന്\u200dറെ") == normalise("അവൻറെ")


def test_marks_stay_with_their_letter_and_go_without_one() -> None:
    assert normalise("\u0301a \u0301b c\u0301\u0323 7\u0301") == "a b \u0107\u0323 7"
    assert normalise("ọ̀rọ̀ ń") == "ọ̀rọ̀ ń"
    assert normalise("കാ") == "കാ"
    assert normalise("'\u0301a a'\u0301b \u200d\u0301 (\u0301") == "a ab"


@pytest.mark.parametrize("lang", ["cmn", "zh-CN", "yue", "ja", "th", "lo", "km", "my", "bo"])
def test_blanks_mark_no_words(lang: str) -> None:
    assert not spaces_matter(lang)


@pytest.mark.parametrize("lang", ["en", "ko", "vi", "mdw", "", None])
def test_blanks_mark_words(lang: str | None) -> None:
    assert spaces_matter(lang)


@settings(deadline=None)
@given(TEXTS, LANGS)
def test_what_is_normal_stays_so(text: str, lang: str | None) -> None:
    once = normalise(text, lang)
    assert normalise(once, lang) == once
    assert is_normalized("NFC", once)
    assert once == " ".join(once.split())
    assert all(category(char)[0] in "LMNC" or char in " '" for char in once)
    assert not any(category(char) in ("Cc", "Cs") for char in once)
    bare = [one for one, mark in pairwise(f" {once}") if category(mark)[0] == "M" and category(one)[0] not in "LMC"]
    assert not bare


@settings(deadline=None)
@given(TEXTS)
def test_no_letter_of_an_ordinary_script_is_lost(text: str) -> None:
    letters = [char for char in text if "a" <= char.lower() <= "z" or "\u0430" <= char <= "\u044f"]
    kept = [char for char in normalise(text) if "a" <= char <= "z" or "\u0430" <= char <= "\u044f"]
    composed = any(category(char)[0] == "M" for char in text)  # a mark makes another letter of it
    assert composed or len(kept) >= len(letters)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_come_out_normal(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    once.encode("utf-8")


def test_the_report_gets_one_sentence() -> None:
    assert NORMALISATION.count(".") == 1
    assert NORMALISATION.endswith(".")
