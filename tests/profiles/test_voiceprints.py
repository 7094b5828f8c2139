"""Names of voices, and the bytes that they are kept as."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import said

from metavox.profiles.voiceprints import MAX_NAME_LENGTH, voice_name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("../anna", "is a path"),
        ("a/b", "is a path"),
        ("C:\\anna", "is a path"),
        (".", "is a path"),
        ("..", "is a path"),
        ("a\nb", "cannot be printed"),
        ("a\0b", "cannot be printed"),
        ("a\x1b[31mb", "cannot be printed"),
        ("\u202eanna", "cannot be printed"),
        ("a\udcffb", "cannot be printed"),
        (" anna", "with a space"),
        ("x" * 101, "at most 100"),
        (7, "is text"),
        (None, "is text"),
        (b"anna", "is text"),
    ],
)
def test_what_is_no_name_is_refused(name: object, why: str) -> None:
    assert why in said(lambda: voice_name(name))


@pytest.mark.parametrize(
    "name", ["anna", "Anna Maria", "à la carte", "কমলা", "می\u200cخواهم", "a.b-c_d@e", "x" * 100, "-a"]
)
def test_people_may_be_called_anything_else(name: str) -> None:
    assert voice_name(name) == unicodedata.normalize("NFC", name)


def test_a_name_is_the_same_however_it_is_composed() -> None:
    assert voice_name("e\u0301") == voice_name("\u00e9")


@given(st.text())
def test_a_name_that_is_kept_is_kept_as_it_is(text: str) -> None:
    try:
        name = voice_name(text)
    except ValueError:
        return
    assert voice_name(name) == name
    assert 0 < len(name) <= MAX_NAME_LENGTH
    assert not set(name) & set("/\\\n\0")
