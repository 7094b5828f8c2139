"""Messages about texts: one line, bounded, with a remedy that fits."""

import pytest

from metavox.contracts import InputError
from metavox.text.complaints import named, remedy, report_rows, shortened


def test_a_text_is_quoted_on_one_short_line_of_valid_unicode() -> None:
    assert shortened("a\nb\ud800") == r"'a\nb\ud800'"
    assert shortened("x" * 40) == repr("x" * 40)
    assert shortened("x" * 41) == repr("x" * 39 + "…")


def test_characters_have_names_and_five_are_enough() -> None:
    assert named("7\ue000") == r"'7' (DIGIT SEVEN), '\ue000' (U+E000)"
    assert named("abcdefg").endswith(" and 2 more")
    named("\ud800").encode("utf-8")


def test_the_remedy_fits_what_is_wrong() -> None:
    assert remedy("78") == "spell numbers out as they were said"
    assert "numbers and signs" in remedy("7ǃ")
    assert "numbers" not in remedy("ǃ")


def test_rows_are_reported_only_where_there_are_any() -> None:
    report_rows([], 3, "are wrong", "mend them")
    with pytest.raises(InputError, match=r"^1 of 3 texts are wrong \(row 2: bad\); mend them\.$"):
        report_rows([(2, "bad")], 3, "are wrong", "mend them")
