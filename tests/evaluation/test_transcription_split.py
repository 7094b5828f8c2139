"""Splits of generated corpora: nothing on both sides, nothing that depends on the order of rows, draws that nest."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from metavox.contracts import InputError, Utterance
from metavox.data.manifests import load_corpus
from metavox.evaluation.transcription_split import (
    MIN_TEST,
    Split,
    draw_supports,
    in_language,
    prove_disjoint,
    sentence_key,
    split_corpus,
    split_given,
)

CLIPS = Path(__file__).parent / "nowhere"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with bytes of their own, of which some have equal sizes."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(400):
        (folder / f"{i:03}.wav").write_bytes(f"{i:03}".encode() + b"x" * (i % 3))
    return folder


def corpus(
    clips: Path, who: Sequence[str | None], texts: Sequence[str], seconds: Sequence[float] | None = None
) -> list[Utterance]:
    lengths = [3.0] * len(who) if seconds is None else seconds
    return [
        Utterance(f"u{i:03}", clips / f"{i:03}.wav", lengths[i], text=texts[i], speaker=name, corpus="c")
        for i, name in enumerate(who)
    ]


def plain(n: int, clips: Path, n_speakers: int = 4, n_texts: int | None = None) -> list[Utterance]:
    return corpus(clips, [f"s{i % n_speakers}" for i in range(n)], [f"text {i % (n_texts or n)}" for i in range(n)])


def words(utterances: Sequence[Utterance]) -> set[str]:
    """An independent comparison: without case and spaces."""
    return {"".join(u.text.casefold().split()) for u in utterances}


# --------------------------------------------------------------------------------------------------------- sentences


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=20), st.randoms(use_true_random=False))
def test_case_and_spaces_make_no_other_sentence(text: str, rng: Any) -> None:
    shown = ""
    for char in text:
        swapped = char.swapcase()
        shown += swapped if rng.random() < 0.5 and swapped.casefold() == char.casefold() else char
        shown += rng.choice(["", " ", "\t", "\u00a0"])
    assert sentence_key(shown) == sentence_key(text)
    assert sentence_key(sentence_key(text)) == sentence_key(text)


def test_what_makes_another_sentence_and_what_does_not() -> None:
    same = ["Où est-il ?", "où est il", "Où   estil!", "Ou\u0300 est-il"]
    assert len({sentence_key(text) for text in same}) == 1
    others = ["ou est il", "où est elle", "où est il 2", "பால்", "பல்", "ba1", "ba2"]
    assert len({sentence_key(text) for text in [*others, same[0]]}) == len(others) + 1


# --------------------------------------------------------------------------------------------------------- languages


def test_a_language_is_known_by_two_or_three_letters() -> None:
    spoken = [replace(u, lang=lang) for u, lang in zip(plain(4, CLIPS), ["ml", "mal", None, "en"], strict=True)]
    assert [u.lang for u in in_language(spoken, "ml")] == ["ml", "mal", "ml"]
    assert [u.id for u in in_language(spoken, "MAL")] == ["u000", "u001", "u002"]
    with pytest.raises(InputError, match=r"--lang is 'malayalam', which is no language code; give two or three"):
        in_language(spoken, "malayalam")
    with pytest.raises(InputError, match=r"none of the 2 recordings is in it; choose one of mal, ml\.$"):
        in_language(spoken[:2], "yo")
    with pytest.raises(InputError, match="no language code"):
        in_language(spoken[:2], "zz")
    assert len(in_language([replace(u, lang="zz") for u in spoken], "zz")) == 4  # what the corpus says it is


# ------------------------------------------------------------------------------------------------------------- splits


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 25), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) >= 45),
    n_texts=st.integers(60, 200),
    seed=st.integers(0, 3),
    order=st.integers(0, 99),
)
def test_nothing_is_on_both_sides_whatever_the_corpus(
    clips: Path, sizes: list[int], n_texts: int, seed: int, order: int
) -> None:
    who: list[str | None] = [f"s{i}" for i, n in enumerate(sizes) for _ in range(n)]
    rng = np.random.default_rng(order)
    texts = [f"Text {rng.integers(n_texts)}" if rng.random() < 0.5 else f"text{rng.integers(n_texts)}" for _ in who]
    utterances = corpus(clips, who, texts)
    try:
        split, whole = (split_corpus(utterances, seed, most) for most in (10, 999))
    except InputError:  # too few to test on, which has a test of its own
        reject()
    assert split_corpus([utterances[i] for i in rng.permutation(len(utterances))], seed, 10) == split
    assert not words(whole.test) & words(whole.pool)
    assert not {u.path for u in whole.test} & {u.path for u in whole.pool}
    assert whole.way == ("speaker" if len(sizes) > 1 else "sentence")
    assert whole.n_shared_speakers == (0 if len(sizes) > 1 else 1)
    rest = [u for u in utterances if u not in whole.test]
    if len(sizes) > 1:  # also those that were dropped
        assert not {u.speaker for u in whole.test} & {u.speaker for u in rest}
    assert {u.id for u in whole.pool} == {u.id for u in rest if not words([u]) & words(whole.test)}
    assert whole.n_test_all == len(whole.test) < 2 / 3 * len(utterances)
    assert whole.n_test_all + whole.n_dropped + len(whole.pool) == len(utterances)
    assert split.pool == whole.pool  # a smaller test does not change what is adapted to
    assert len(split.test) == MIN_TEST
    assert set(split.test) <= set(whole.test)


def texts_of(split: Split) -> list[str]:
    return [u.text for u in split.test]


def test_a_test_is_about_a_third_by_whole_speakers(clips: Path) -> None:
    utterances = plain(120, clips, n_speakers=12)
    shares = [split_corpus(utterances, seed, 999).n_test_all for seed in range(8)]
    assert shares == [40] * 8
    chosen = {tuple(sorted({str(u.speaker) for u in split_corpus(utterances, seed, 999).test})) for seed in range(8)}
    assert len(chosen) > 4


def test_a_smaller_test_is_chosen_by_chance(clips: Path) -> None:
    utterances = plain(180, clips, n_speakers=3)
    whole, some = split_corpus(utterances, 0, 999).test, split_corpus(utterances, 0, 12).test
    places = [whole.index(u) for u in some]
    assert places == sorted(places)
    assert places[0] < 15
    assert places[-1] > 45
    assert places != list(range(12))


def test_two_speakers_give_one_to_each_side(clips: Path) -> None:
    utterances = plain(60, clips, n_speakers=2)
    split = split_corpus(utterances, 0, 999)
    assert len({u.speaker for u in split.test}) == len({u.speaker for u in split.pool}) == 1


def test_a_speaker_who_says_almost_everything_is_not_the_test(clips: Path) -> None:
    who: list[str | None] = ["long"] * 90 + ["short"] * 12
    split = split_corpus(corpus(clips, who, [f"t{i}" for i in range(102)]), 0, 999)
    assert {u.speaker for u in split.test} == {"short"}


@pytest.mark.parametrize("nobody", [None, ""])
def test_where_somebody_is_not_named_sentences_are_split(clips: Path, nobody: str | None) -> None:
    utterances = plain(90, clips, n_speakers=3)
    utterances[7] = replace(utterances[7], speaker=nobody)
    split = split_corpus(utterances, 0, 999)
    assert split.way == "sentence"
    assert split.n_shared_speakers is None or nobody == ""
    assert {u.speaker for u in split.test} & {u.speaker for u in split.pool}


def test_the_same_sentence_by_one_speaker_stays_together(clips: Path) -> None:
    utterances = plain(90, clips, n_speakers=1, n_texts=30)
    split = split_corpus(utterances, 0, 999)
    assert Counter(Counter(texts_of(split)).values()) == {3: 10}
    assert split.n_dropped == 0


def test_what_cannot_be_split_is_told(clips: Path) -> None:
    with pytest.raises(InputError, match=r"12 recordings of 12 sentences by one speaker, which leave 4 utterances"):
        split_corpus(plain(12, clips, n_speakers=1), 0, 200)
    with pytest.raises(InputError, match=r"90 recordings of 1 sentences by one speaker, which leave 0 utterances"):
        split_corpus(plain(90, clips, n_speakers=1, n_texts=1), 0, 200)
    with pytest.raises(InputError, match=r"The test says everything that the other 63 recordings say"):
        split_corpus(corpus(clips, [f"s{i // 9}" for i in range(90)], [f"t{i % 9}" for i in range(90)]), 0, 200)


def test_a_given_test_leaves_out_what_it_says_and_tells_of_voices(clips: Path) -> None:
    utterances = plain(60, clips, n_speakers=3)
    support, test = utterances[:40], [replace(u, text=f"TEXT {i}") for i, u in enumerate(utterances[40:])]
    split = split_given(support, test, 0, 200)
    assert (split.way, split.n_dropped, len(split.pool), len(split.test)) == ("test corpus", 20, 20, 20)
    assert split.n_shared_speakers == 3
    others = [replace(u, speaker=f"other {u.speaker}") for u in test]
    assert split_given(support, others, 0, 200).n_shared_speakers == 0
    assert split_given(support, [replace(others[0], speaker=None), *others[1:]], 0, 200).n_shared_speakers is None
    with pytest.raises(InputError, match="has 9 utterances and 10 are the least"):
        split_given(support, test[:9], 0, 200)
    with pytest.raises(InputError, match="The test says everything"):
        split_given(support[:20], test, 0, 200)


# -------------------------------------------------------------------------------------------------------------- proof


def test_the_proof_finds_what_is_shared(clips: Path, tmp_path: Path) -> None:
    pool, test = plain(60, clips, n_speakers=1)[:30], [replace(u, speaker="z") for u in plain(60, clips)[30:]]
    prove_disjoint(pool, test, by_speaker=True)
    with pytest.raises(InputError, match="The speaker 's0'"):
        prove_disjoint(pool, [*test, replace(test[0], speaker="s0")], by_speaker=True)
    with pytest.raises(InputError, match="may be in the support and in the test"):
        prove_disjoint([*pool, replace(pool[0], speaker=None)], test, by_speaker=True)
    prove_disjoint(pool, [*test, replace(test[0], speaker="s0")], by_speaker=False)
    with pytest.raises(InputError, match="The sentence 'text4' is in the support and in the test"):
        prove_disjoint(pool, [*test, replace(test[0], text="TEXT  4")], by_speaker=True)
    copy, link = tmp_path / "copy.wav", tmp_path / "link.wav"
    copy.write_bytes(pool[3].path.read_bytes())
    os.symlink(pool[3].path, link)
    for path in (pool[3].path, copy, link):
        with pytest.raises(InputError, match=f"003.wav is also {path} of the test"):
            prove_disjoint(pool, [*test, replace(test[0], path=path)], by_speaker=True)
        with pytest.raises(InputError, match=f"003.wav is also {path} of the test"):
            split_given(pool, [*test, replace(test[0], id="new", path=path)], 0, 1 + MIN_TEST)
    with pytest.raises(InputError, match=r"gone.wav cannot be read .* restore it or drop its row\.$"):
        prove_disjoint(pool, [replace(test[0], path=tmp_path / "gone.wav")], by_speaker=True)


def test_a_copied_clip_with_another_text_is_found_in_one_corpus(clips: Path, tmp_path: Path) -> None:
    utterances = plain(60, clips, n_speakers=2)
    split = split_corpus(utterances, 0, 999)
    place = tmp_path / "copy.wav"
    place.write_bytes(split.pool[0].path.read_bytes())
    moved = [replace(u, path=place) if u == split.test[0] else u for u in utterances]
    with pytest.raises(InputError, match=r"is also .*copy\.wav of the test"):
        split_corpus(moved, 0, 999)


# -------------------------------------------------------------------------------------------------------------- draws


@settings(max_examples=25, deadline=None)
@given(
    seconds=st.lists(st.floats(0.5, 12), min_size=60, max_size=60),
    minutes=st.lists(st.floats(0.7, 1.4), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 5),
)
def test_a_draw_is_as_short_as_it_can_be_and_nested(
    clips: Path, seconds: list[float], minutes: list[float], seed: int
) -> None:
    utterances = corpus(clips, ["a"] * 60, [f"t{i}" for i in range(60)], seconds)
    split = split_corpus(utterances, 0, 200)
    if split.pool_s < 60 * max(minutes):
        return
    draws = draw_supports(split, [0.0, *minutes], 3, seed)
    assert set(draws) == {(m, number) for m in minutes for number in range(3)}
    lengths = np.asarray([u.duration_s for u in split.pool])
    for (m, number), drawn in draws.items():
        assert len(set(drawn.tolist())) == len(drawn)
        assert lengths[drawn].sum() >= 60 * m - 1e-5
        assert lengths[drawn[:-1]].sum() < 60 * m or len(drawn) == 3
        longest = draws[max(minutes), number]
        assert longest[: len(drawn)].tolist() == drawn.tolist()


def test_draws_differ_by_seed_and_not_by_the_order_of_rows(clips: Path) -> None:
    utterances = plain(120, clips)
    split, other = split_corpus(utterances, 0, 200), split_corpus(utterances[::-1], 0, 200)
    ids = [
        {key: [side.pool[i].id for i in drawn] for key, drawn in draw_supports(side, (1.0,), 4, 0).items()}
        for side in (split, other)
    ]
    assert ids[0] == ids[1]
    assert len({tuple(drawn) for drawn in ids[0].values()}) == 4
    fewer = draw_supports(split, (1.0,), 2, 0)  # more seeds, or more minutes, change no draw
    assert all(ids[0][key] == [split.pool[i].id for i in drawn] for key, drawn in fewer.items())


@pytest.mark.parametrize("seconds", [3.0, 2.999, 7.77, 1 / 3])
def test_the_most_that_is_told_is_what_can_be_asked_for(clips: Path, seconds: float) -> None:
    split = split_corpus(corpus(clips, ["a"] * 90, [f"t{i}" for i in range(90)], [seconds] * 90), 0, 200)
    with pytest.raises(InputError, match="ask for at most") as refused:
        draw_supports(split, (1.0, 10.0), 1, 0)
    most = float(str(refused.value).split("at most ")[1].split()[0])
    assert 0 <= split.pool_s / 60 - most < 0.01 + 1e-9
    assert draw_supports(split, (most,), 1, 0)
    with pytest.raises(InputError, match="ask for at most"):
        draw_supports(split, (most + 0.011,), 1, 0)


def test_the_whole_pool_can_be_asked_for(clips: Path) -> None:
    split = split_corpus(plain(120, clips, n_speakers=12), 0, 200)
    assert split.pool_s == 240
    (drawn,) = draw_supports(split, (4.0,), 1, 0).values()
    assert sorted(drawn.tolist()) == list(range(80))


def test_too_little_to_adapt_to_is_told(clips: Path) -> None:
    split = split_corpus(plain(120, clips), 0, 200)
    with pytest.raises(InputError, match=r"--minutes is 0.08, which is 2 of the recordings, and 3 are the least"):
        draw_supports(split, (0.08, 1.0), 1, 0)
    assert draw_supports(split, (0.0,), 3, 0) == {}


def test_a_refusal_tells_what_was_left_out(clips: Path) -> None:
    utterances = plain(60, clips)
    split = split_given(utterances[:40], [replace(u, text=utterances[0].text) for u in utterances[40:]], 0, 200)
    with pytest.raises(InputError, match=r"last 1.95 minutes \(1 recordings were left out: the test says the same\)"):
        draw_supports(split, (2.0,), 1, 0)


# ------------------------------------------------------------------------------------------------------- recordings


@pytest.mark.real
@pytest.mark.parametrize(("name", "way"), [("malayalam_msc", "speaker"), ("mboshi", "speaker"), ("yoruba", "sentence")])
def test_real_corpora_are_split_and_give_ten_minutes(data_root: Path, name: str, way: Any) -> None:
    if not (data_root / name / "manifest.jsonl").is_file():
        pytest.skip(f"METAVOX_DATA has no {name}")
    split = split_corpus(load_corpus(data_root / name), 0, 200)
    assert split.way == way
    assert not words(split.test) & words(split.pool)
    assert way == "sentence" or not {u.speaker for u in split.test} & {u.speaker for u in split.pool}
    assert draw_supports(split, (1.0, 5.0, 10.0), 3, 0)


@pytest.mark.real
def test_where_all_say_the_same_words_there_is_nothing_to_adapt_to(data_root: Path) -> None:
    with pytest.raises(InputError, match="The test says everything"):
        split_corpus(load_corpus(data_root / "bengali_digits"), 0, 200)
