"""Axes and their products: equal exactly where every axis agrees, and unknown where one is."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox.config import Axis
from metavox.contracts import InputError, Utterance
from metavox.data.axes import AXES, MEASURED, age_band, along, axis_names
from metavox.data.episodes import ClassIndex


def utterance(**facts: str | None) -> Utterance:
    return Utterance("u", Path("/nowhere.wav"), 1.0, **facts)  # type: ignore[arg-type]


NAMES = st.one_of(st.none(), st.sampled_from(["a", "b", "a*", "*", "a * b", "b *", "* b", "**"]))


def test_a_recipe_may_name_every_axis_and_no_other() -> None:
    assert {*AXES, *MEASURED} == set(get_args(Axis))


def test_a_word_is_a_label_within_its_language() -> None:
    some = [utterance(label="zero", lang="en"), utterance(label="zero", lang="ar"), utterance(label="zero")]
    some.append(utterance(lang="en"))
    assert along(some, "word") == ["en:zero", "ar:zero", "zero", None]


def test_one_name_in_two_corpora_is_two_speakers_and_one_accent_in_two_languages_two_accents() -> None:
    some = [utterance(speaker="01", accent="north", corpus=corpus, lang=corpus) for corpus in ("x", "y")]
    assert along(some, "speaker") == ["x:01", "y:01"]
    assert along(some, "accent") == ["x:north", "y:north"]
    assert along(some, "corpus*speaker") == ["x * 01", "y * 01"]  # the corpus is said once
    assert along([utterance(speaker="01")], "speaker") == ["01"]


@pytest.mark.parametrize(
    ("written", "read"),
    [("m", "male"), ("Female", "female"), ("male_masculine", "male"), ("other", "other"), (" ", None), (None, None)],
)
def test_genders_are_read_as_corpora_write_them(written: str | None, read: str | None) -> None:
    assert along([utterance(gender=written)], "gender") == [read]


@pytest.mark.parametrize(
    ("written", "band"),
    [
        *((age, "20-29") for age in ("20", "29", "24.5", "20s", "twenties", "21-25", "20 - 29")),
        *((("fourties", "40-49"), ("forties", "40-49"), ("6", "0-9"), ("teens", "10-19"), ("101", "100-109"))),
        *((age, None) for age in (None, "", "adult", "18-25", "250", "-3", "nan")),
    ],
)
def test_ages_fall_into_decades(written: str | None, band: str | None) -> None:
    assert age_band(written) == band


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(NAMES, NAMES, NAMES), min_size=1, max_size=12))
def test_a_product_is_the_intersection_of_its_axes(rows: list[tuple[str | None, str | None, str | None]]) -> None:
    """Whatever the names hold, the star that stands between them included."""
    some = [utterance(lang=lang, gender=gender, label="w") for lang, gender, _ in rows]
    facts = {"noise": [noise for _, _, noise in rows]}
    together = along(some, "language*gender*noise", facts)
    each = [along(some, axis, facts) for axis in ("language", "gender", "noise")]
    for i, value in enumerate(together):
        assert (value is None) == any(column[i] is None for column in each)
        for j, other in enumerate(together):
            if value is not None and other is not None:
                assert (value == other) == all(column[i] == column[j] for column in each)


def test_classes_of_a_product_are_intersections_of_classes() -> None:
    rng = np.random.default_rng(0)
    some = [
        utterance(label=f"w{w}", speaker=f"s{s}", lang="en") if s else utterance(label=f"w{w}")
        for w, s in rng.integers(0, 4, (200, 2)).tolist()
    ]
    words, speakers, both = (ClassIndex(some, axis) for axis in ("word", "speaker", ("word", "speaker")))

    def members(index: ClassIndex) -> dict[str, set[int]]:
        return {
            name: set(index.positions[index.offsets[i] : index.offsets[i + 1]].tolist())
            for i, name in enumerate(index.classes)
        }

    for name, positions in members(both).items():
        word, speaker = name.split(" * ")
        assert positions == members(words)[word] & members(speakers)[speaker]
    assert len(both) == 12
    assert both.n_unknown == sum(u.speaker is None for u in some) == speakers.n_unknown
    assert words.n_unknown == 0


def test_facts_come_before_what_a_manifest_says_and_go_by_position() -> None:
    some = [utterance(lang="en") for _ in range(4)]
    facts = {"language": ["a", "b", None, "d"], "noise": ["1", "2", "3", "4"]}
    assert along(some, "language", facts) == ["a", "b", None, "d"]
    assert along(some, ("noise", "language"), facts, [3, 2, 0]) == ["4 * d", None, "1 * a"]
    assert along(some, "") == ["all"] * 4


def test_what_is_no_axis_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InputError, match=r"'pitch' is no axis; known are word, language, speaker, .*noise\."):
        axis_names("word*pitch")
    with pytest.raises(InputError, match="word\\*language\\*word names one axis twice"):
        axis_names(("word", "language", "word"))
    with pytest.raises(InputError, match="Axis noise is measured from the recordings; give its values as facts"):
        ClassIndex([utterance()], "noise")
    assert axis_names(" language * speaker ") == ("language", "speaker")
