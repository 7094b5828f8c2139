"""Pinyin: every reading that the dictionary has, every spelling that people use."""

from itertools import product
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import HOSTILE, TEXTS

from metavox.text.mandarin import SYLLABLES, is_pinyin, to_pinyin, without_tones

MARKS = {1: "\u0304", 2: "\u0301", 3: "\u030c", 4: "\u0300"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("中国", "zhong1 guo2"),
        ("银行 长城", "yin2 hang2 chang2 cheng2"),
        ("你好吗?", "ni3 hao3 ma5"),
        ("女略绿", "nv3 lve4 lv4"),
        ("我用iPhone手机", "wo3 yong4 iphone shou3 ji1"),
        ("人人 人々", "ren2 ren2 ren2 ren2"),
        ("二〇", "er4 ling2"),
        ("zhōng guó", "zhong1 guo2"),
        ("Zhōngguó", "zhong1 guo2"),
        ("Zhong1guo2", "zhong1 guo2"),
        ("zhong1 guo2", "zhong1 guo2"),
        ("nǐ hǎo ma", "ni3 hao3 ma5"),
        ("māma bàba de", "ma1 ma5 ba4 ba5 de5"),
        ("Xī'ān xi1'an1 xiān", "xi1 an1 xi1 an1 xian1"),
        ("fāngàn fāng'àn", "fan1 gan4 fang1 an4"),
        ("xīān nǐhǎǒ", "xīān nǐhǎǒ"),
        ("lü4 nu:3 lv4 lüe4 lue4", "lv4 nv3 lv4 lve4 lve4"),
        ("wánr huar1 wánrle fánrǎo", "wanr2 huar1 wanr2 le5 fan2 rao3"),
        ("xi'an1", "xi5 an1"),
        ("wǒ ài pizza", "wo3 ai4 pizza"),
        ("zhong guo", "zhong guo"),
        ("中 long", "zhong1 long"),
        ("第2个", "di4 2 ge4"),
        ("привет 中", "привет zhong1"),
        ("", ""),
    ],
)
def test_text_becomes_numbered_syllables(text: str, expected: str) -> None:
    assert to_pinyin(text) == expected


def test_every_reading_of_the_dictionary_is_a_syllable_we_know_and_the_other_way_round() -> None:
    constants = pytest.importorskip("pypinyin.constants")
    plain = {0x304, 0x301, 0x30C, 0x300, 0x302}
    found = set()
    for readings in constants.PINYIN_DICT.values():
        for reading in readings.split(","):
            letters = "".join(char for char in normalize("NFD", reading) if ord(char) not in plain)
            found.add(normalize("NFC", letters).replace("ü", "v"))
    assert found - SYLLABLES == set()
    assert SYLLABLES - found == {"r", "yai"}


def test_every_hanzi_with_a_reading_gets_one_numbered_syllable() -> None:
    constants = pytest.importorskip("pypinyin.constants")
    hanzi = [chr(code) for code in constants.PINYIN_DICT if not 0xE000 <= code < 0xF900][::31]
    assert len(hanzi) > 1000
    wrong = [char for char in hanzi if not is_pinyin(found := to_pinyin(char)) or " " in found]
    assert not wrong


def spelt(syllable: str, tone: int) -> str:
    """A syllable with the mark where the orthography puts it: on a or e, on the o of ou, else on the last vowel."""
    vowels = [place for place, char in enumerate(syllable) if char in "aeiouv"]
    if tone == 5 or not vowels:
        return syllable
    place = next((p for p in vowels if syllable[p] in "ae"), syllable.find("ou"))
    place = place if place >= 0 else vowels[-1]
    return normalize("NFC", syllable[: place + 1].replace("v", "ü") + MARKS[tone] + syllable[place + 1 :])


VOWELLED = sorted(s for s in SYLLABLES if set(s) & set("aeiouv"))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(VOWELLED), st.integers(1, 4)), min_size=1, max_size=6), st.booleans())
def test_marks_and_numbers_say_the_same(word: list[tuple[str, int]], apart: bool) -> None:
    numbered = " ".join(f"{syllable}{tone}" for syllable, tone in word)
    assert to_pinyin((" " if apart else "'").join(spelt(*one) for one in word)) == numbered
    assert to_pinyin("".join(f"{syllable}{tone}" for syllable, tone in word)) == numbered


def test_joined_syllables_part_where_the_orthography_says() -> None:
    initial = [s for s in VOWELLED if s[0] not in "aeo"]
    wrong = []
    for first, second in product(initial[::7], initial[::13]):
        joined = to_pinyin(spelt(first, 1) + spelt(second, 4))
        letters = without_tones(joined).replace(" ", "")
        if letters != first + second or not is_pinyin(joined):
            wrong.append((first, second, joined))
    assert not wrong


@pytest.mark.parametrize("text", ["a2", "zhong1 guo2", "lve4", "r5", "huar1"])
def test_numbered_pinyin_is_seen(text: str) -> None:
    assert is_pinyin(text)


@pytest.mark.parametrize(
    "text", ["", "zhong", "zhong1 guo", "b2", "zhong6", "zhong1guo2", "a2 ", "u2", "2", "中国", "hello1"]
)
def test_what_is_not_numbered_pinyin_is_not_taken_for_it(text: str) -> None:
    assert not is_pinyin(text)


def test_tones_come_off() -> None:
    assert without_tones("zhong1 guo2 hello 2") == "zhong guo hello 2"


@settings(deadline=None)
@given(TEXTS)
def test_pinyin_of_pinyin_is_itself(text: str) -> None:
    once = to_pinyin(text)
    assert to_pinyin(once) == once


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_pass(text: str) -> None:
    once = to_pinyin(text)
    assert to_pinyin(once) == once


def test_a_sign_of_repetition_repeats_what_stands_before_it() -> None:
    assert to_pinyin("人" + "々" * 4) == " ".join(["ren2"] * 5)
    assert to_pinyin("々") == "々"
