"""What is adapted to: draws, alphabets, what is refused, what is held out."""

from pathlib import Path

import numpy as np
import pytest
import tonal
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox.contracts import InputError, Utterance
from metavox.data.manifests import load_corpus
from metavox.text.symbols import UNIVERSAL, Symbols
from metavox.transcription.support import (
    MAX_SPEAKER_SHARE,
    alphabet_for,
    drawn,
    hold_out,
    require_language,
    require_recordings,
    sentences_of,
)


def rows(n: int, seconds: float = 6.0, **facts: str) -> list[Utterance]:
    return [Utterance(f"u{i:03}", Path(f"{i}.wav"), seconds, text=f"text {i}", **facts) for i in range(n)]


# --------------------------------------------------------------------------------------------------------------- draws


def test_a_draw_reaches_its_minutes_and_begins_longer_ones() -> None:
    corpus = rows(100)
    one, five = drawn(corpus, 1.0, 3), drawn(corpus, 5.0, 3)
    assert len(one) == 10
    assert len(five) == 50
    assert set(one) < set(five)
    assert one == sorted(one)
    assert drawn(corpus, 1.0, 4) != one
    assert drawn(corpus, None, 3) == list(range(100))
    assert drawn(corpus, 10.0, 3) == list(range(100))


def test_a_draw_does_not_depend_on_the_order_of_rows() -> None:
    corpus = rows(40)
    mixed = [corpus[i] for i in np.random.default_rng(0).permutation(40)]
    assert {corpus[i].id for i in drawn(corpus, 1.0, 0)} == {mixed[i].id for i in drawn(mixed, 1.0, 0)}


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), 10.1, float("inf")])
def test_minutes_that_are_not_there_are_refused(minutes: float) -> None:
    with pytest.raises(InputError, match=r"above 0|at most 10\b"):
        drawn(rows(100), minutes, 0)


def test_the_largest_minutes_that_a_refusal_names_can_be_had() -> None:
    corpus = rows(7, 3.337)
    with pytest.raises(InputError, match="ask for at most") as refusal:
        drawn(corpus, 1.0, 0)
    most = float(str(refusal.value).rstrip(".").split()[-1])
    assert len(drawn(corpus, most, 0)) == 7


# ----------------------------------------------------------------------------------------------------------- alphabets


@pytest.mark.parametrize("code", ["xq", "klingon", "12", "e", "ml!"])
def test_a_code_of_no_language_is_refused(code: str) -> None:
    with pytest.raises(InputError, match="no language code"):
        require_language(code)


@pytest.mark.parametrize("code", [None, "ml", "mdw", "zh-CN", "EN"])
def test_a_code_of_a_language_passes(code: str | None) -> None:
    require_language(code)


def test_the_alphabet_is_the_own_one_or_that_of_the_texts() -> None:
    assert alphabet_for(UNIVERSAL, ["ab"], ["en"], None) == UNIVERSAL
    assert alphabet_for(UNIVERSAL, ["ab"], ["en"], "roman") == UNIVERSAL
    native = alphabet_for(UNIVERSAL, ["жаб", "да"], ["ru", "ru"], "native")
    assert native == Symbols((" ", *"абдж"), "native", "ru")
    assert alphabet_for(UNIVERSAL, ["жаб"], ["ru", None], "native").lang is None
    grown = alphabet_for(native, ["юг"], ["ru"], None)
    assert grown.characters == (*native.characters, "г", "ю")
    with pytest.raises(InputError, match="cannot go back to roman"):
        alphabet_for(native, ["ab"], ["en"], "roman")


# ------------------------------------------------------------------------------------------------------------- refusals


def test_recordings_are_refused_before_any_audio_is_read() -> None:
    with pytest.raises(InputError, match="2 transcribed recordings were given and 3"):
        require_recordings(rows(2))
    with pytest.raises(InputError, match="1 of 6 recordings have an empty text"):
        require_recordings([*rows(5), Utterance("e", Path("e.wav"), 1.0, text=" ")])
    with pytest.raises(InputError, match="last more than 40 s, the first is long with 3600 s"):
        require_recordings([*rows(5), Utterance("long", Path("e.wav"), 3600.0, text="all of it")])


def test_texts_that_cannot_be_written_are_named_by_their_rows_in_the_corpus() -> None:
    corpus = rows(4)
    chosen = [corpus[1], Utterance("bad", Path("b.wav"), 1.0, text="room 7"), corpus[3]]
    with pytest.raises(InputError, match=r"3 of 3 texts .*\(row 2, u001.*row 9, bad.*row 4") as refusal:
        sentences_of(chosen, [1, 8, 3], UNIVERSAL, tonal.FRONT_END)
    assert "DIGIT SEVEN" in str(refusal.value)
    assert str(refusal.value).endswith("; spell numbers out as they were said.")


def test_sentences_hold_the_symbols_of_their_own_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    one = load_corpus(tonal.corpus(tmp_path / "one", tonal.texts(3, 0)))
    two = load_corpus(tonal.corpus(tmp_path / "two", tonal.texts(3, 1)))
    mixed = [utterance for pair in zip(one, two, strict=True) for utterance in pair]
    found = sentences_of(mixed, range(6), UNIVERSAL, tonal.FRONT_END)
    assert set(found.utterances) == set(mixed)
    assert all(UNIVERSAL.encode(u.text) == ids for u, ids in zip(found.utterances, found.targets, strict=True))


def test_a_text_too_long_for_its_audio_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    texts = tonal.texts(3, 0)
    corpus = tonal.corpus(tmp_path / "c", texts, written=[*texts[:2], "bdf " * 60])
    with pytest.raises(InputError, match="1 of 3 transcripts are too long for their audio"):
        sentences_of(load_corpus(corpus), range(3), UNIVERSAL, tonal.FRONT_END)


# ------------------------------------------------------------------------------------------------------------ held out


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 15)), max_size=60),
    st.booleans(),
    st.integers(0, 5),
)
def test_what_is_held_out_shares_no_sentence_and_no_speaker_with_the_rest(
    pairs: list[tuple[str, int]], known: bool, seed: int
) -> None:
    corpus = [
        Utterance(f"u{i}", Path(f"{i}.wav"), 1.0, text=f"{'Tt'[i % 2]}ext  {text}", speaker=who if known else None)
        for i, (who, text) in enumerate(pairs)
    ]
    found = hold_out(corpus, seed)
    if found is None:
        return
    texts = [{" ".join(corpus[i].text.lower().split()) for i in part} for part in (found.rest, found.held)]
    assert not texts[0] & texts[1]
    assert len(found.rest) >= 3
    assert len(found.held) >= 2
    assert not set(found.rest.tolist()) & set(found.held.tolist())
    if found.by == "speaker":
        assert known
        assert not {corpus[i].speaker for i in found.rest} & {corpus[i].speaker for i in found.held}
        assert len(found.held) <= MAX_SPEAKER_SHARE * len(corpus)
    else:
        assert len(found.rest) + len(found.held) == len(corpus)


def test_speakers_are_held_out_from_three_on_where_they_say_different_sentences() -> None:
    def spoken(n_speakers: int, n_texts: int, n: int = 60) -> list[Utterance]:
        return [
            Utterance(f"u{i}", Path(f"{i}.wav"), 1.0, text=f"text {i % n_texts}", speaker=f"s{i % n_speakers}")
            for i in range(n)
        ]

    assert hold_out(spoken(5, 60), 0).by == "speaker"  # type: ignore[union-attr]
    assert hold_out(spoken(2, 60), 0).by == "sentence"  # type: ignore[union-attr]
    everybody_says_all = hold_out(spoken(6, 7, 84), 0)
    assert everybody_says_all is not None
    assert everybody_says_all.by == "sentence"
    assert hold_out(spoken(4, 1), 0) is None
    assert hold_out(spoken(1, 4, 4), 0) is None
    held = hold_out(rows(100), 0)
    assert held is not None
    assert len(held.held) == 20
