"""Language tags, against CLDR's own table of codes."""

import pytest

from metavox.text.languages import ISO_639_3, iso_639_3, primary


@pytest.mark.parametrize(
    ("tag", "code", "three"),
    [
        ("zh-Hans-CN", "zh", "zho"),
        ("EN_us", "en", "eng"),
        ("cmn", "cmn", "zho"),
        ("mdw", "mdw", "mdw"),
        (" ml ", "ml", "mal"),
        ("fa", "fa", "fas"),
        ("qq", "qq", None),
        ("klingon", "klingon", None),
        ("x1z", "x1z", None),
        ("", "", None),
        (None, "", None),
    ],
)
def test_a_tag_says_its_language(tag: str | None, code: str, three: str | None) -> None:
    assert primary(tag) == code
    assert iso_639_3(tag) == three


def test_three_letter_codes_are_those_of_the_cldr() -> None:
    core = pytest.importorskip("babel.core")
    aliases: dict[str, str] = core.get_global("language_aliases")
    two = {code: three for code, three in ISO_639_3.items() if len(code) == 2}
    same = {"he": "iw", "id": "in", "yi": "ji", "fil": "tl", "sr_Latn": "sh", "ak": "tw", "nb": "no"}
    known = {code: aliases[three] for code, three in two.items() if three in aliases}
    assert len(known) > 170
    wrong = {code: found for code, found in known.items() if found != code and same.get(found) != code}
    assert not wrong
