"""Alphabets: what is written can be read again, and what cannot be written is refused by name."""

import dataclasses
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import every_path, posteriors, said_by
from texts import CORPORA, HOSTILE, LANGS, TEXTS, rows

from metavox.contracts import InputError
from metavox.text.normalise import normalise
from metavox.text.romanise import romanise
from metavox.text.symbols import UNIVERSAL, Symbols, min_frames

MALAYALAM = Symbols.native(["പാലം കടക്കുവോളം നാരായണ", "അവന്\u200d"], "ml")


def test_the_universal_alphabet_has_34_symbols_in_a_fixed_order() -> None:
    assert UNIVERSAL.size == 34
    assert UNIVERSAL.characters == (" ", "'", *string.ascii_lowercase, *"12345")
    assert UNIVERSAL.encode("a' z'z a5") == (3, 1, 28, 2, 28, 1, 3, 33)
    assert UNIVERSAL.encode("中国", "cmn") == tuple(UNIVERSAL.characters.index(c) + 1 for c in "zhong1 guo2")


@settings(deadline=None)
@given(TEXTS, LANGS)
def test_what_is_written_is_read_as_it_was_romanised(text: str, lang: str | None) -> None:
    try:
        expected = romanise(text, lang)
    except InputError:
        expected = ""
    if expected:
        ids = UNIVERSAL.encode(text, lang)
        assert UNIVERSAL.decode(ids) == expected
        assert UNIVERSAL.encode_all([text], [lang]) == [ids]
    else:
        with pytest.raises(InputError):
            UNIVERSAL.encode(text, lang)


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), LANGS)
def test_a_native_alphabet_writes_the_texts_it_was_made_of(texts: list[str], lang: str | None) -> None:
    normal = [normalise(text, lang) for text in texts]
    if not any(set(text) - {" "} for text in normal):
        with pytest.raises(InputError, match="no letters"):
            Symbols.native(texts, lang)
        return
    symbols = Symbols.native(texts, lang)
    assert symbols.characters == (" ", *sorted(set("".join(normal)) - {" "}))
    for text, expected in zip(texts, normal, strict=True):
        if expected:
            assert symbols.decode(symbols.encode(text)) == expected


def test_an_extended_alphabet_keeps_its_old_symbols() -> None:
    small = Symbols.native(["ba c"], "mdw")
    large = small.extended(["ωa έd", "c"])
    assert small.characters == (" ", "a", "b", "c")
    assert large.characters == (" ", "a", "b", "c", "d", "έ", "ω")
    assert large.lang == "mdw"
    assert large.encode("ba c") == small.encode("ba c")
    assert large.extended(["abc"]) == large
    assert UNIVERSAL.extended(["中"]) is UNIVERSAL


def test_the_language_of_the_alphabet_is_that_of_texts_without_one() -> None:
    turkish = Symbols.native(["ışık"], "tr")
    assert turkish.encode("IŞIK") == turkish.encode("ışık")
    with pytest.raises(InputError):
        turkish.encode("IŞIK", "en")


@pytest.mark.parametrize(
    ("symbols", "text", "named"),
    [
        (UNIVERSAL, "room 7", "'7' (DIGIT SEVEN)"),
        (UNIVERSAL, "", "nothing that is said"),
        (UNIVERSAL, "?!", "nothing that is said"),
        (UNIVERSAL, "ь", "nothing that is said"),
        (MALAYALAM, "ഖ", "MALAYALAM LETTER KHA"),
        (MALAYALAM, " ", "nothing that is said"),
        (Symbols(tuple("ab"), "roman"), "abc", "LATIN SMALL LETTER C"),
    ],
)
def test_what_cannot_be_written_is_named(symbols: Symbols, text: str, named: str) -> None:
    with pytest.raises(InputError) as caught:
        symbols.encode(text)
    assert named in str(caught.value)
    with pytest.raises(InputError) as rowwise:
        symbols.encode_all(["a", text] if symbols is not MALAYALAM else ["പ", text], [None, None])
    assert "1 of 2 texts cannot be written (row 2: " in str(rowwise.value)
    assert named in str(rowwise.value)


def test_rows_that_cannot_be_written_are_told_of_together() -> None:
    with pytest.raises(InputError) as caught:
        UNIVERSAL.encode_all(["7", "fine", "", "ǃ 8", *["9"] * 10], [None] * 14)
    message = str(caught.value)
    assert message.startswith("13 of 14 texts cannot be written (row 1: ")
    assert "row 3: '' holds nothing" in message
    assert "and 8 more" in message
    assert len(message) < 700


def test_blanks_are_not_read_and_foreign_symbols_are_refused() -> None:
    assert UNIVERSAL.decode([0, 3, 0, 0, 4]) == "ab"
    assert UNIVERSAL.decode([]) == ""
    for wrong in (34, -1):
        with pytest.raises(InputError, match=f"Symbol {wrong} "):
            UNIVERSAL.decode([wrong])


def test_a_native_character_starts_from_the_letter_of_its_romanisation() -> None:
    def nearest(symbols: Symbols, char: str) -> str | None:
        found = symbols.nearest_roman(char)
        return None if found is None else UNIVERSAL.decode([found])

    assert [nearest(MALAYALAM, c) for c in "പാൻ '"] == ["p", "a", "n", " ", "'"]
    assert nearest(MALAYALAM, "്") is None
    assert nearest(MALAYALAM, "7") is None
    assert nearest(Symbols.native(["中"], "cmn"), "中") == "z"
    assert all(UNIVERSAL.nearest_roman(c) == i for i, c in enumerate(UNIVERSAL.characters, 1) if not c.isdigit())
    assert sum(MALAYALAM.nearest_roman(c) is not None for c in MALAYALAM.characters) == len(MALAYALAM.characters) - 1


@pytest.mark.parametrize("symbols", [UNIVERSAL, MALAYALAM, Symbols(("a", "\ud800"), "native")])
def test_an_alphabet_survives_json(symbols: Symbols) -> None:
    import json

    assert Symbols.from_json(json.loads(json.dumps(symbols.to_json()))) == symbols


GOOD: dict[str, Any] = {"alphabet": "native", "characters": ["a", "b"], "lang": None}


@pytest.mark.parametrize(
    "change",
    [
        {"alphabet": "greek"},
        {"alphabet": None},
        {"alphabet": ["native"]},
        {"characters": []},
        {"characters": "ab"},
        {"characters": None},
        {"characters": ["a", "a"]},
        {"characters": ["a", "bc"]},
        {"characters": ["a", ""]},
        {"characters": ["a", 7]},
        {"characters": ["a", ["b"]]},
        {"alphabet": "roman", "characters": ["a", "é"]},
        {"lang": 7},
        {"extra": 1},
    ],
)
def test_a_damaged_alphabet_is_refused(change: dict[str, Any]) -> None:
    assert Symbols.from_json(GOOD).size == 3
    with pytest.raises(InputError) as caught:
        Symbols.from_json(GOOD | change)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("missing", ["alphabet", "characters"])
def test_an_incomplete_alphabet_is_refused(missing: str) -> None:
    with pytest.raises(InputError):
        Symbols.from_json({key: value for key, value in GOOD.items() if key != missing})


def test_an_alphabet_is_frozen_and_compares_by_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        UNIVERSAL.lang = "en"  # type: ignore[misc]
    UNIVERSAL.encode("a")
    assert Symbols(UNIVERSAL.characters, "roman") == UNIVERSAL
    assert hash(Symbols(UNIVERSAL.characters, "roman")) == hash(UNIVERSAL)


def test_the_fewest_frames_are_those_of_the_shortest_path() -> None:
    shortest: dict[tuple[int, ...], int] = {}
    for n_frames in range(6):
        for path, _ in every_path(posteriors(n_frames, 3, 0)):
            shortest.setdefault(said_by(path), n_frames)
    assert len(shortest) > 20
    assert {ids: min_frames(ids) for ids in shortest} == shortest


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_are_written_or_refused(text: str) -> None:
    try:
        ids = UNIVERSAL.encode(text)
    except InputError:
        return
    assert ids
    assert UNIVERSAL.decode(ids) == romanise(text)


@pytest.mark.real
@pytest.mark.parametrize("corpus", CORPORA)
def test_every_real_transcript_can_be_written(corpus: str, data_root: Path) -> None:
    texts, langs = zip(*rows(data_root, corpus), strict=True)
    assert len(texts) == CORPORA[corpus]
    ids = UNIVERSAL.encode_all(texts, langs)
    assert all(ids)
    native = Symbols.native(texts, langs[0])
    assert all(native.encode_all(texts, [langs[0]] * len(texts)))
    letters = [char for char in native.characters if not char.isdigit()]
    silent = [char for char in letters if native.nearest_roman(char) is None]
    # Malayalam: the virama and two zero width joiners. Yoruba: tone marks that no letter is composed with.
    assert len(silent) <= {"malayalam_msc": 3, "yoruba": 2}.get(corpus, 0), silent
