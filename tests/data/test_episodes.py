"""Who is drawn: disjoint, even, repeatable, and at a cost that does not grow."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metavox.contracts import Draw, InputError, Utterance
from metavox.data.axes import along
from metavox.data.episodes import ClassIndex, EpisodeSpec, _in_random_order, sample_distinct
from metavox.data.manifests import load_corpus


def said(
    label: str | None, speaker: str | None = None, lang: str | None = None, *, number: int = 0, corpus: str = "c"
) -> Utterance:
    name = f"{lang}-{label}-{speaker}-{number}"
    return Utterance(name, Path(f"/nowhere/{name}.wav"), 1.0, label=label, speaker=speaker, lang=lang, corpus=corpus)


def corpus(n_words: int = 12, n_speakers: int = 6, n_takes: int = 3, lang: str | None = None) -> list[Utterance]:
    return [
        said(f"word{word:03}", f"voice{speaker}", lang, number=take)
        for take in range(n_takes)
        for speaker in range(n_speakers)
        for word in range(n_words)
    ]


def check(draw: Draw, utterances: Sequence[Utterance], spec: EpisodeSpec, axis: str = "word") -> None:
    """What every draw must be."""
    n = len(draw.classes)
    assert len(set(draw.classes)) == n == spec.n_way
    support, query = draw.support.tolist(), draw.query.tolist()
    assert len(set(support)) == len(support) == n * spec.k_shot
    assert len(set(query)) == len(query)
    assert not set(support) & set(query)
    assert np.bincount(draw.support_labels, minlength=n).tolist() == [spec.k_shot] * n
    asked = np.bincount(draw.query_labels, minlength=n)
    assert asked.min() >= 1
    assert asked.max() <= spec.n_query
    for positions, labels in ((support, draw.support_labels), (query, draw.query_labels)):
        assert along(utterances, axis, positions=positions) == [draw.classes[label] for label in labels]
    if spec.speakers == "disjoint":
        assert not {utterances[p].speaker for p in support} & {utterances[p].speaker for p in query}


def same(a: Draw, b: Draw) -> bool:
    return (
        a.classes == b.classes
        and np.array_equal(a.class_ids, b.class_ids)
        and np.array_equal(a.support, b.support)
        and np.array_equal(a.query, b.query)
    )


def chi_square(counts: Sequence[int]) -> float:
    """How far the counts are from even, in standard deviations (Wilson and Hilferty 1931: a cube root is normal)."""
    expected = sum(counts) / len(counts)
    dof = len(counts) - 1
    found = sum((n - expected) ** 2 / expected for n in counts) / dof
    return float((found ** (1 / 3) - 1 + 2 / (9 * dof)) / (2 / (9 * dof)) ** 0.5)


# ----------------------------------------------------------------------------------------------------- one episode


@settings(max_examples=80, deadline=None)
@given(
    ways=st.integers(2, 12),
    shots=st.integers(1, 8),
    queries=st.integers(1, 12),
    seed=st.integers(0, 2**40),
    speakers=st.sampled_from(["any", "disjoint"]),
)
def test_an_episode_is_what_was_asked_for(ways: int, shots: int, queries: int, seed: int, speakers: str) -> None:
    utterances = corpus()
    spec = EpisodeSpec(ways, shots, queries, speakers)  # type: ignore[arg-type]
    draw = ClassIndex(utterances).draw(spec, seed)
    check(draw, utterances, spec)
    if speakers == "any":
        expected = min(queries, 18 - shots)
        assert np.bincount(draw.query_labels).tolist() == [expected] * ways


@pytest.mark.parametrize("speakers", ["any", "disjoint"])
def test_a_seed_draws_the_same_episode_and_another_another(speakers: str) -> None:
    index = ClassIndex(corpus())
    spec = EpisodeSpec(5, 2, 3, speakers)  # type: ignore[arg-type]
    first = index.draw(spec, [3, 4])
    index.draw(spec, 99)
    assert same(index.draw(spec, [3, 4]), first)
    assert same(ClassIndex(corpus()).draw(spec, [3, 4]), first)
    assert not same(index.draw(spec, [3, 5]), first)
    assert not same(index.draw(spec, [4, 4]), first)


def test_no_global_generator_is_touched() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    ClassIndex(corpus()).draw(EpisodeSpec(5, 2, 3), 0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_classes_with_too_few_takes_are_passed_over() -> None:
    utterances = [*corpus(4, 1, 3), said("rare", number=1), said("rare", number=2), said("single")]
    index = ClassIndex(utterances)
    assert [index.classes[i] for i in index.eligible(EpisodeSpec(2, 2, 1))] == [f"word{i:03}" for i in range(4)]
    for seed in range(30):
        draw = index.draw(EpisodeSpec(4, 2, 5), seed)
        assert not {"rare", "single"} & set(draw.classes)
        assert np.bincount(draw.query_labels).tolist() == [1] * 4  # three takes: two to learn from, one to ask
    with pytest.raises(InputError, match="4 of 6 classes have the 3 takes") as caught:
        index.draw(EpisodeSpec(5, 2, 1), 0)
    assert "ask for fewer ways or shots" in str(caught.value)


def test_what_is_left_out_is_never_drawn() -> None:
    utterances = corpus()
    keep = np.asarray([u.speaker != "voice0" for u in utterances])
    index = ClassIndex(utterances, keep=keep, classes={"word001", "word002", "word007", "unheard of"})
    assert index.classes == ("word001", "word002", "word007")
    for seed in range(40):
        draw = index.draw(EpisodeSpec(3, 5, 5), seed)
        assert all(keep[np.concatenate([draw.support, draw.query])])
        check(draw, utterances, EpisodeSpec(3, 5, 5))


@pytest.mark.parametrize(
    ("shape", "said_"),
    [
        ((1, 1, 1), "n_way is 1; it must be at least 2"),
        ((-3, 1, 1), "n_way is -3"),
        ((2, 0, 1), "k_shot is 0"),
        ((2, 1, 0), "n_query is 0"),
    ],
)
def test_impossible_shapes_are_refused(shape: tuple[int, int, int], said_: str) -> None:
    with pytest.raises(InputError, match=said_):
        EpisodeSpec(*shape)


def test_every_class_and_every_take_is_equally_likely() -> None:
    utterances = corpus(20, 2, 5)
    index = ClassIndex(utterances)
    classes: Counter[str] = Counter()
    support: Counter[int] = Counter()
    for seed in range(1500):
        draw = index.draw(EpisodeSpec(4, 2, 3), [seed, 1])
        classes.update(draw.classes)
        support.update(draw.support.tolist())
    assert chi_square([classes[name] for name in index.classes]) < 4
    assert chi_square([support[position] for position in range(len(utterances))]) < 4


def test_every_place_in_an_episode_is_equally_likely() -> None:
    """A class is not tied to its label: what has learned that would know the answers."""
    index = ClassIndex(corpus(6, 1, 3))
    first = Counter(index.draw(EpisodeSpec(6, 1, 1), seed).classes[0] for seed in range(1500))
    assert len(first) == 6
    assert chi_square(list(first.values())) < 4


# -------------------------------------------------------------------------------------------------------------- axes


@pytest.mark.parametrize("axis", ["language", "speaker"])
def test_any_axis_makes_classes(axis: str) -> None:
    utterances = [
        said(f"w{word}", f"{lang}-voice{speaker}", lang, number=take)
        for lang in ("en", "lt", "ar", "sw")
        for speaker in range(3)
        for word in range(4)
        for take in range(2)
    ]
    utterances += [said("w0", None, None)]
    index = ClassIndex(utterances, axis)
    assert index.n_unknown == 1
    assert len(index) == (4 if axis == "language" else 12)
    for seed in range(20):
        check(index.draw(EpisodeSpec(4, 3, 4), seed), utterances, EpisodeSpec(4, 3, 4), axis)


def test_languages_can_be_told_apart_by_speakers_who_were_not_heard() -> None:
    utterances = [
        said("w", f"{lang}-{speaker}", lang, number=take)
        for lang in ("en", "lt", "ar")
        for speaker in range(6)
        for take in range(3)
    ]
    spec = EpisodeSpec(3, 2, 2, "disjoint")
    for seed in range(30):
        check(ClassIndex(utterances, "language").draw(spec, seed), utterances, spec, "language")


# ---------------------------------------------------------------------------------------------------------- speakers


def test_speakers_are_apart_over_the_whole_episode_and_all_of_them_are_used() -> None:
    utterances = corpus(10, 5, 2)
    index = ClassIndex(utterances)
    spec = EpisodeSpec(6, 2, 4, "disjoint")
    heard: Counter[str | None] = Counter()
    for seed in range(400):
        draw = index.draw(spec, seed)
        check(draw, utterances, spec)
        heard.update({utterances[p].speaker for p in draw.support})
    assert len(heard) == 5
    assert min(heard.values()) > 0.5 * max(heard.values())


@pytest.mark.real
@pytest.mark.parametrize(("name", "ways", "shots"), [("lithuanian_commands", 10, 5), ("bengali_digits", 10, 5)])
def test_speakers_of_real_recordings_are_kept_apart(data_root: Path, name: str, ways: int, shots: int) -> None:
    utterances = load_corpus(data_root / name)
    index = ClassIndex(utterances)
    spec = EpisodeSpec(ways, shots, 5, "disjoint")
    for seed in range(300):
        check(index.draw(spec, [0, seed]), utterances, spec)


def test_unnamed_speakers_cannot_be_kept_apart() -> None:
    utterances = [*corpus(3, 3, 2), said("word001"), said("word002")]
    index = ClassIndex(utterances)
    index.draw(EpisodeSpec(3, 1, 1), 0)
    with pytest.raises(InputError, match="2 of 20 utterances name no speaker; label them or use --speakers any"):
        index.draw(EpisodeSpec(3, 1, 1, "disjoint"), 0)


def test_one_speaker_and_too_few_takes_by_others_are_refused() -> None:
    with pytest.raises(
        InputError, match="all 45 utterances are by one speaker; add recordings by somebody else or use"
    ):
        ClassIndex(corpus(5, 1, 9)).draw(EpisodeSpec(2, 1, 1, "disjoint"), 0)
    two = ClassIndex(corpus(5, 2, 3))
    assert two.draw(EpisodeSpec(5, 3, 3, "disjoint"), 0)
    with pytest.raises(InputError, match=r"At most \d classes have 4 takes .* use --speakers any"):
        two.draw(EpisodeSpec(5, 4, 1, "disjoint"), 0)


def test_classes_that_only_one_speaker_said_do_not_count_as_eligible() -> None:
    utterances = [*corpus(3, 3, 2), *(said("only", "voice0", number=i) for i in range(9))]
    index = ClassIndex(utterances)
    assert len(index.eligible(EpisodeSpec(2, 2, 1))) == 4
    assert [index.classes[i] for i in index.eligible(EpisodeSpec(2, 2, 1, "disjoint"))] == [
        f"word{i:03}" for i in range(3)
    ]
    # Six takes by three speakers: at most four of them beside a query by somebody else.
    assert len(index.eligible(EpisodeSpec(2, 4, 1, "disjoint"))) == 3
    assert index.eligible(EpisodeSpec(2, 5, 1, "disjoint")) == []


def test_where_known_keeps_speakers_apart_where_that_can_be_done() -> None:
    spec = EpisodeSpec(3, 1, 2, "where_known")
    apart, one, unnamed = (ClassIndex(some) for some in (corpus(4, 4, 2), corpus(4, 1, 5), [*corpus(4), said("x")]))
    assert [index.resolved(spec).speakers for index in (apart, one, unnamed)] == ["disjoint", "any", "any"]
    assert len(one.eligible(spec)) == 4
    for seed in range(20):
        check(apart.draw(spec, seed), corpus(4, 4, 2), EpisodeSpec(3, 1, 2, "disjoint"))
        check(one.draw(spec, seed), corpus(4, 1, 5), EpisodeSpec(3, 1, 2))


def test_a_split_is_found_only_where_two_classes_share_one() -> None:
    """Each class could have disjoint speakers, and no two of them at once: one needs anna in the support, one bela."""
    utterances = [
        *(said("first", "anna", number=i) for i in range(3)),
        said("first", "bela"),
        said("second", "anna"),
        *(said("second", "bela", number=i) for i in range(3)),
    ]
    index, spec = ClassIndex(utterances), EpisodeSpec(2, 3, 1, "disjoint")
    assert len(index.eligible(spec)) == 2
    assert index.find_split(spec) is None
    assert index.find_split(EpisodeSpec(2, 1, 1, "disjoint")) is not None


def test_positions_are_kept_by_mask_or_by_number() -> None:
    utterances = corpus()
    mask = np.arange(len(utterances)) % 3 == 0
    one, other = ClassIndex(utterances, keep=mask), ClassIndex(utterances, keep=np.flatnonzero(mask).tolist())
    assert one.classes == other.classes
    np.testing.assert_array_equal(one.positions, other.positions)
    assert len(ClassIndex(utterances, keep=[])) == 0


# ------------------------------------------------------------------------------------------------------ random draws


@settings(max_examples=200, deadline=None)
@given(n=st.integers(0, 300), share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_distinct_numbers_are_distinct(n: int, share: float, seed: int) -> None:
    size = int(share * n)
    found = sample_distinct(np.random.default_rng(seed), n, size).tolist()
    assert len(found) == len(set(found)) == size
    assert all(0 <= number < n for number in found)


@pytest.mark.parametrize(("n", "size"), [(5, 1), (6, 2), (7, 2), (30, 3), (4, 4)])
def test_distinct_numbers_are_uniform_in_number_and_place(n: int, size: int) -> None:
    rng = np.random.default_rng(7)
    draws = np.stack([sample_distinct(rng, n, size) for _ in range(6000)])
    for place in range(size):
        assert chi_square(np.bincount(draws[:, place], minlength=n).tolist()) < 4


def test_more_distinct_numbers_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot draw 4"):
        sample_distinct(np.random.default_rng(0), 3, 4)


@settings(max_examples=100, deadline=None)
@given(n=st.integers(0, 60), seed=st.integers(0, 2**32))
def test_the_lazy_shuffle_is_a_permutation(n: int, seed: int) -> None:
    assert sorted(_in_random_order(np.random.default_rng(seed), n)) == list(range(n))


def test_the_lazy_shuffle_gives_all_permutations_equally_often() -> None:
    rng = np.random.default_rng(0)
    seen = Counter(tuple(_in_random_order(rng, 4)) for _ in range(12_000))
    assert len(seen) == 24
    assert chi_square(list(seen.values())) < 4


def test_a_draw_takes_the_same_steps_from_many_utterances() -> None:
    """Between a thousand and 40,000 utterances, in calls, which nothing disturbs; the benchmark has seconds."""
    few, many = (ClassIndex(corpus(n_words, 20, 1)) for n_words in (50, 2000))
    for spec in (EpisodeSpec(20, 5, 10), EpisodeSpec(4, 1, 1, "disjoint")):
        n_calls = [calls(partial(index.draw, spec, seed)) for index in (few, many) for seed in range(15)]
        assert sum(n_calls[15:]) < 1.5 * sum(n_calls[:15])


def calls(function: Callable[[], Any]) -> int:
    """Functions that are called, ours and built in."""
    n = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal n
        n += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return n
