"""Task selection for transcription: who is used, in which shares, and that support and query share nothing."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_cases import FRONT_END, talk

from metavox.config.transcription import SentencesConfig, TaskAxisConfig
from metavox.contracts import InputError, Utterance
from metavox.data import spoken as module
from metavox.data import synth_sentences
from metavox.data.axes import AXES, age_band
from metavox.data.measures import measured
from metavox.data.spoken import KINDS, Spoken, select_spoken
from metavox.text.symbols import UNIVERSAL

LETTERS = "abdefgiklmnoprstu"
SHORT = TaskAxisConfig(support_s=2.0, query_s=2.0)


def words_of(n: int, seed: int, n_letters: tuple[int, int] = (3, 9)) -> list[str]:
    """Texts, all different."""
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < n:
        found["".join(rng.choice(list(LETTERS), int(rng.integers(*n_letters))))] = None
    return list(found)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path_factory.getbasetemp() / "spoken-cache"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two corpora of sentences, one of words, and two that stand for synthetic ones."""
    root = tmp_path_factory.mktemp("data")
    talk(root / "north", words_of(24, 1), ("anna", "bela"), "xx")
    talk(root / "south", words_of(16, 2), ("carl",), "yy")
    talk(root / "words", words_of(12, 3, (2, 4)), ("dora", "emil"), "xx")
    talk(root / "synth-zz", words_of(14, 4), ("synth-zz-00", "synth-zz-01"), "zz")
    talk(root / "synth-yy", words_of(10, 5), ("synth-yy-00",), "yy")
    return root


@pytest.fixture
def synthetic(data: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Synthetic sentences without espeak-ng; which languages were asked for."""
    asked: list[tuple[str, ...]] = []

    def cached(spec: Any, **_: Any) -> list[Path]:
        asked.append(spec.languages)
        return [data / f"synth-{code}" for code in spec.languages]

    monkeypatch.setattr(synth_sentences, "cached_sentences", cached)
    return asked


def selected(data: Path, *corpora: str, with_words: bool = True, seed: int = 0, **options: Any) -> Spoken:
    tasks = options.pop("tasks", SHORT)
    phones = options.pop("phones", ())
    config = {
        "corpora": tuple(str(data / name) for name in corpora or ("north", "south")),
        "words": (str(data / "words"),) if with_words else (),
        "validation_share": 0.2,
    }
    return select_spoken(
        SentencesConfig.model_validate({**config, **options}), tasks, FRONT_END, UNIVERSAL, seed, phones=phones
    )


def used(spoken: Spoken) -> list[Utterance]:
    return [spoken.sentences.utterances[i] for positions in spoken.kinds for i in positions]


# ------------------------------------------------------------------------------------------------------------- kinds


def test_what_tasks_are_made_of_are_sentences_of_groups_that_are_long_enough(
    data: Path, synthetic: list[tuple[str, ...]]
) -> None:
    spoken = selected(data, synth={"languages": ["zz", "yy"]})
    longest = sorted(spoken.sentences.durations_s(group).sum() for group in spoken.groups)[1:]
    tasks = TaskAxisConfig(support_s=longest[0], query_s=longest[0])
    spoken = selected(data, synth={"languages": ["zz", "yy"]}, tasks=tasks)
    held = set(np.concatenate(spoken.groups).tolist())
    assert held < set(np.concatenate([spoken.kinds[0], spoken.kinds[2]]).tolist())  # a group is too short
    found = spoken.of_tasks()
    assert set(np.concatenate(found.kinds).tolist()) == held
    assert len(found.kinds[KINDS.index("words")]) == 0
    there = [bool(len(positions)) for positions in found.kinds]
    whole = sum(share for share, one in zip(spoken.shares, there, strict=True) if one)
    assert list(found.shares) == pytest.approx([s / whole * one for s, one in zip(spoken.shares, there, strict=True)])
    assert np.array_equal(found.held_out, spoken.held_out)
    drawn = {int(i) for batch in islice(found.batches(6.0, np.random.default_rng(0)), 200) for i in batch}
    assert drawn == held


def test_without_a_group_there_is_nothing_that_tasks_are_made_of(data: Path) -> None:
    with pytest.raises(InputError, match=r"No group of the training data is long enough .* without learning\.learner"):
        selected(data, tasks=TaskAxisConfig(support_s=900.0)).of_tasks()


def test_every_utterance_has_its_kind_or_is_held_out(data: Path, synthetic: list[tuple[str, ...]]) -> None:
    spoken = selected(data, synth={"languages": ["zz", "yy"]})
    corpus_of = {i: u.corpus for i, u in enumerate(spoken.sentences.utterances)}
    assert {corpus_of[i] for i in spoken.kinds[KINDS.index("sentences")]} == {"north", "south"}
    assert {corpus_of[i] for i in spoken.kinds[KINDS.index("words")]} == {"words"}
    assert {corpus_of[i] for i in spoken.kinds[KINDS.index("synthetic")]} == {"synth-zz", "synth-yy"}
    everything = [*np.concatenate(spoken.kinds).tolist(), *spoken.held_out.tolist()]
    assert sorted(everything) == list(range(24 + 16 + 12 + 14 + 10))
    assert (spoken.absent, spoken.notes, spoken.phones) == ((), (), ())
    assert [UNIVERSAL.decode(t) for t in spoken.sentences.targets] == [u.text for u in spoken.sentences.utterances]


def test_only_sentences_are_held_out_by_their_share_and_the_seed(data: Path) -> None:
    found = [selected(data, seed=seed) for seed in range(12)]
    sizes = [len(one.held_out) for one in found]
    assert 0.1 < np.mean(sizes) / 40 < 0.3
    assert {u.corpus for one in found for u in (one.sentences.utterances[i] for i in one.held_out)} == {
        "north",
        "south",
    }
    again = selected(data, seed=3)
    assert np.array_equal(again.held_out, found[3].held_out)
    assert len({tuple(one.held_out) for one in found}) == 12


@pytest.mark.parametrize(
    ("options", "with_synth", "expected"),
    [
        ({}, True, (0.55, 0.1, 0.35)),
        ({"with_words": False}, True, (0.55 / 0.9, 0, 0.35 / 0.9)),
        ({}, False, (0.55 / 0.65, 0.1 / 0.65, 0)),
        ({"synth_share": 0.0}, True, (0.9, 0.1, 0)),
        ({"synth_share": 0.8, "words_share": 0.8}, True, (0, 0.5, 0.5)),
        ({"corpora": (), "with_words": False, "synth_share": 0.0}, True, (0, 0, 1)),
    ],
)
def test_a_kind_that_is_not_there_leaves_its_share_to_the_others(
    data: Path,
    synthetic: list[tuple[str, ...]],
    options: dict[str, Any],
    with_synth: bool,
    expected: tuple[float, ...],
) -> None:
    spoken = selected(data, **options, synth={"languages": ["zz"]} if with_synth else None)
    assert list(spoken.shares) == pytest.approx(list(expected))


@pytest.mark.parametrize("shares", [(0.35, 0.1), (0.6, 0.3), (0.0, 0.5)])
def test_batches_hold_each_kind_with_its_share_of_the_seconds(
    data: Path, synthetic: list[tuple[str, ...]], shares: tuple[float, float]
) -> None:
    synth_share, words_share = shares
    spoken = selected(data, synth={"languages": ["zz"]}, synth_share=synth_share, words_share=words_share)
    seconds = spoken.sentences.durations_s()
    kind_of = {int(i): kind for kind, positions in enumerate(spoken.kinds) for i in positions}
    heard = np.zeros(3)
    drawn: set[int] = set()
    for batch in islice(spoken.batches(6.0, np.random.default_rng(0)), 320):
        assert len(batch) == 1 or seconds[batch].max() * len(batch) <= 6.0
        for i in batch.tolist():
            heard[kind_of[i]] += seconds[i]  # a KeyError is one that must not be learned from
        drawn |= set(batch.tolist())
    wanted = np.array([1 - synth_share - words_share, words_share, synth_share])
    # A kind may run over by part of an utterance in each of 20 rounds of 96 s.
    assert heard / heard.sum() == pytest.approx(wanted, abs=0.012)
    assert drawn == {i for i, kind in kind_of.items() if wanted[kind]}


def test_batches_repeat_with_their_generator(data: Path) -> None:
    spoken = selected(data)

    def first(seed: int) -> list[list[int]]:
        return [b.tolist() for b in islice(spoken.batches(6.0, np.random.default_rng(seed)), 40)]

    assert first(1) == first(1)
    assert first(1) != first(2)


# ------------------------------------------------------------------------------------------------- what is left out


def test_what_cannot_be_used_is_counted_in_a_note_and_never_drawn(tmp_path: Path, monkeypatch: Any) -> None:
    good = words_of(10, 7)
    root = talk(tmp_path / "mixed", [*good, "tuna", "rime", "sakko", "abdefgiklm"], lang="xx")
    talk(tmp_path / "other", words_of(5, 8), lang="vv")
    text = (root / "manifest.jsonl").read_text()
    for old, new in (("tuna", "1984"), ("rime", ""), ("sakko", "sakko" * 9)):
        text = text.replace(f'"{old}"', f'"{new}"')
    (root / "manifest.jsonl").write_text(text)
    monkeypatch.setattr(module, "MAX_UTTERANCE_S", 1.1)  # the text of ten letters lasts 1.16 s
    spoken = selected(tmp_path, "mixed", "other", with_words=False, leave_out_languages=("vv",))
    assert spoken.notes == ("9 of 19 utterances are left out (language, speaker, length or text).",)
    kept = [*used(spoken), *(spoken.sentences.utterances[i] for i in spoken.held_out)]
    assert sorted(u.text for u in kept) == sorted(good)
    assert {int(i) for b in islice(spoken.batches(5.0, np.random.default_rng(0)), 60) for i in b} <= {
        int(i) for i in spoken.kinds[0]
    }


@pytest.mark.parametrize("code", ["yy", "YY"])
def test_a_language_that_is_left_out_is_nowhere(data: Path, synthetic: list[tuple[str, ...]], code: str) -> None:
    spoken = selected(data, synth={"languages": ["zz", "yy"]}, leave_out_languages=(code,))
    assert synthetic == [("zz",)]
    assert {u.lang for u in used(spoken)} == {"xx", "zz"}
    assert {spoken.sentences.utterances[i].lang for i in spoken.held_out} == {"xx"}
    assert {spoken.sentences.utterances[i].lang for group in spoken.groups for i in group} == {"xx", "zz"}
    for seed in range(30):
        for part in spoken.task(2.0, 2.0, np.random.default_rng(seed)):
            assert "yy" not in {spoken.sentences.utterances[i].lang for i in part}


@pytest.mark.parametrize(("lang", "code"), [("cmn", "zh"), ("cmn", "cmn"), ("zho", "zh-CN"), ("ml", "mal")])
def test_a_language_is_the_same_by_all_of_its_codes(tmp_path: Path, lang: str, code: str) -> None:
    talk(tmp_path / "one", words_of(8, 1), lang=lang)
    talk(tmp_path / "two", words_of(8, 2), lang="xx")
    spoken = selected(tmp_path, "one", "two", with_words=False, leave_out_languages=(code,))
    assert {u.lang for u in used(spoken)} == {"xx"}


def test_an_utterance_of_no_known_language_stays(tmp_path: Path) -> None:
    talk(tmp_path / "one", words_of(8, 1), lang=None)
    spoken = selected(tmp_path, "one", with_words=False, leave_out_languages=("yy",))
    assert {u.lang for u in used(spoken)} == {None}
    assert spoken.notes == ("No utterance is of yy, which is to be left out.",)


def test_a_speaker_is_left_out_by_name(data: Path, synthetic: list[tuple[str, ...]]) -> None:
    spoken = selected(data, synth={"languages": ["zz"]}, leave_out_speakers=("bela", "synth-zz-01"))
    kept = [*used(spoken), *(spoken.sentences.utterances[i] for i in spoken.held_out)]
    assert {u.speaker for u in kept} == {"anna", "carl", "dora", "emil", "synth-zz-00"}
    assert spoken.notes == ("19 of 66 utterances are left out (language, speaker, length or text).",)


def test_what_is_to_be_left_out_and_is_not_there_is_told(data: Path, synthetic: list[tuple[str, ...]]) -> None:
    spoken = selected(
        data,
        synth={"languages": ["zz", "yy"]},
        leave_out_languages=("zz", "yo"),
        leave_out_speakers=("bella", "dora"),
    )
    assert spoken.notes[1:] == (
        "No utterance is of yo, which is to be left out.",
        "No utterance is of bella, which is to be left out.",
    )


def test_a_corpus_is_left_out_by_its_name(data: Path) -> None:
    spoken = selected(data, leave_out_corpora=(str(data / "south"), str(data / "words")))
    assert {u.corpus for u in spoken.sentences.utterances} == {"north"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"leave_out_corpora": ("nroth",)}, "data.leave_out_corpora names nroth, which is in neither data.corpora nor"),
        ({"leave_out_languages": ("xx", "yy")}, "Every recording of the recipe is left out"),
        ({"corpora": (), "words": ()}, "None of the recipe's corpora is here and data.synth is off"),
        ({"corpora": ("/nowhere/at/all",)}, "Corpus /nowhere/at/all is no folder here"),
        ({"synth": {"languages": ["zz"], "n_sentence": 3}}, "did you mean n_sentences?"),
        ({"synth": {"languages": ["zz", "zz"]}}, "languages names one twice"),
        ({"synth": {"languages": ["zz"], "n_words": [4, 2]}}, "n_words is 4 to 2; give two rising numbers"),
        ({"synth": {"languages": ["zz"], "rate_wpm": [10, 200]}}, "rate_wpm is 10 to 200; give two rising numbers"),
        ({"synth": {}}, "languages"),
    ],
)
def test_what_cannot_be_selected_is_refused_in_a_sentence(
    data: Path, synthetic: list[tuple[str, ...]], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        selected(data, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_corpus_named_twice_is_refused(data: Path) -> None:
    with pytest.raises(InputError, match="is named twice"):
        selected(data, "north", "north")


def test_names_that_are_not_here_are_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_DATA", str(data))
    spoken = selected(data, corpora=("north", "mars", "venus"), words=("pluto",))
    assert spoken.absent == ("mars", "venus", "pluto")
    assert {u.corpus for u in spoken.sentences.utterances} == {"north"}


# ------------------------------------------------------------------------------------------------------------- tasks


def tasks_of(spoken: Spoken, n: int = 60, support_s: float = 2.0, query_s: float = 3.0) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(5)
    return [spoken.task(support_s, query_s, rng) for _ in range(n)]


def test_support_and_query_share_neither_clip_nor_text(tmp_path: Path) -> None:
    """Every text is said by three people."""
    texts = [text for text in words_of(8, 1) for _ in range(3)]
    talk(tmp_path / "thrice", texts, ("anna", "bela", "carl"))
    spoken = selected(tmp_path, "thrice", with_words=False)
    for support, query in tasks_of(spoken):
        assert len(support)
        assert len(set(support.tolist()) | set(query.tolist())) == len(support) + len(query)
        said = [{spoken.sentences.utterances[i].text for i in part} for part in (support, query)]
        assert not said[0] & said[1]


@settings(max_examples=40, deadline=None)
@given(support_s=st.floats(0.3, 9), query_s=st.floats(0.3, 9), seed=st.integers(0, 999))
def test_a_task_is_of_one_group_and_as_long_as_asked(
    data_of_tasks: Spoken, support_s: float, query_s: float, seed: int
) -> None:
    spoken = data_of_tasks
    seconds = spoken.sentences.durations_s()
    support, query = spoken.task(support_s, query_s, np.random.default_rng(seed))
    group = next(set(g.tolist()) for g in spoken.groups if int(support[0]) in g)
    assert set(support.tolist()) | set(query.tolist()) <= group
    wanted = min(support_s, seconds[list(group)].sum() / 2)
    longest = seconds[list(group)].max()
    for part, most in ((support, wanted), (query, min(query_s, seconds[list(group)].sum() - seconds[support].sum()))):
        assert len(part) == 1 or most - longest - 1e-9 <= seconds[part].sum() <= most + 1e-9


@pytest.fixture(scope="module")
def data_of_tasks(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAVOX_CACHE", str(tmp_path_factory.getbasetemp() / "spoken-cache"))
        return selected(data)


@pytest.mark.parametrize(
    ("options", "share"), [({}, 0.35 / 0.9), ({"synth_share": 0.0}, 0.0), ({"synth_share": 0.9}, 1.0)]
)
def test_tasks_are_synthetic_by_the_share_of_the_seconds(
    data: Path, synthetic: list[tuple[str, ...]], options: dict[str, float], share: float
) -> None:
    spoken = selected(data, synth={"languages": ["zz"]}, **options)
    drawn = [str(spoken.sentences.utterances[s[0]].corpus) for s, _ in tasks_of(spoken, 600)]
    assert drawn.count("synth-zz") / 600 == pytest.approx(share, abs=0.06)
    if share < 1:  # two real groups, alike
        assert drawn.count("north") / (600 - drawn.count("synth-zz")) == pytest.approx(0.5, abs=0.08)


def test_tasks_are_of_whatever_there_is(data: Path, synthetic: list[tuple[str, ...]]) -> None:
    """Words alone have seconds here, and words make no tasks."""
    spoken = selected(data, corpora=(), synth={"languages": ["zz", "yy"]}, synth_share=0.0)
    drawn = {str(spoken.sentences.utterances[s[0]].corpus) for s, _ in tasks_of(spoken)}
    assert (list(spoken.shares), drawn) == ([0, 1, 0], {"synth-zz", "synth-yy"})


def test_every_group_is_drawn_and_every_member_is_support_and_query(data_of_tasks: Spoken) -> None:
    supports, queries = set[int](), set[int]()
    for support, query in tasks_of(data_of_tasks, 300):
        supports |= set(support.tolist())
        queries |= set(query.tolist())
    members = {int(i) for group in data_of_tasks.groups for i in group}
    assert supports == queries == members


def test_a_group_of_one_text_has_no_query(tmp_path: Path) -> None:
    talk(tmp_path / "alike", ["sakko"] * 12)
    spoken = selected(tmp_path, "alike", with_words=False)
    assert len(spoken.groups) == 1
    assert all(len(query) == 0 and len(support) for support, query in tasks_of(spoken, 5))


def test_too_little_for_a_task_is_refused(data: Path) -> None:
    spoken = selected(data, tasks=TaskAxisConfig(support_s=500, query_s=500))
    assert list(spoken.groups) == []
    for ask in (spoken.require_tasks, lambda: spoken.task(1.0, 1.0, np.random.default_rng(0))):
        with pytest.raises(InputError, match="No group of the training data is long enough for a task; choose"):
            ask()


def test_groups_are_of_four_or_more_and_half_as_long_as_a_task(tmp_path: Path) -> None:
    texts = words_of(20, 3, (4, 5))  # all as long, about half a second
    talk(tmp_path / "many", texts, ("anna",) * 9 + ("bela",) * 5 + ("carl",) * 4 + ("dora",) * 2)
    found = {}
    for seconds in (1.0, 2.4, 100.0):
        tasks = TaskAxisConfig(axis="speaker", support_s=seconds, query_s=seconds)
        spoken = selected(tmp_path, "many", with_words=False, tasks=tasks, validation_share=1e-9)
        found[seconds] = {spoken.sentences.utterances[g[0]].speaker for g in spoken.groups}
    assert found == {1.0: {"anna", "bela", "carl"}, 2.4: {"anna", "bela"} & found[2.4], 100.0: set()}
    assert "carl" not in found[2.4]
    assert "anna" in found[2.4]


BY_HAND: dict[str, Callable[[Utterance], str | None]] = {
    "language": lambda u: u.lang,
    "speaker": lambda u: u.speaker,
    "accent": lambda u: u.accent and f"{u.lang} {u.accent}",
    "gender": lambda u: u.gender,
    "age": lambda u: age_band(u.age),
    "corpus": lambda u: u.corpus,
}


@pytest.fixture(scope="module")
def various(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two corpora whose speakers, accents, ages and genders have the same names; of some nothing is known."""
    root = tmp_path_factory.mktemp("various")
    for number, name in enumerate(("east", "west")):
        rows = talk(root / name, words_of(24, 30 + number), ("anna", "bela"), lang="xx" if number else "zz")
        lines = (rows / "manifest.jsonl").read_text().splitlines()
        for i in range(24):
            facts = [f'"accent": "{"coast" if i % 3 else "hill"}"', f'"gender": "{"male" if i % 2 else "female"}"']
            facts += [f'"age": "{20 + i % 4 * 5}"']
            if i >= 4:
                lines[i] = lines[i].removesuffix("}") + ", " + ", ".join(facts) + "}"
        (rows / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("axis", get_args(TaskAxisConfig.model_fields["axis"].annotation))
def test_groups_are_the_values_of_the_axis_within_a_corpus(various: Path, axis: str) -> None:
    tasks = TaskAxisConfig(axis=axis, support_s=0.5, query_s=0.5)
    spoken = selected(various, "east", "west", with_words=False, tasks=tasks)
    people = spoken.sentences.utterances
    values = [BY_HAND[axis](u) for u in people] if axis in AXES else measured(spoken.sentences.bank, (axis,))[axis]
    members: dict[Any, set[int]] = {}
    for i in spoken.kinds[0].tolist():
        if values[i] is not None:
            members.setdefault((people[i].corpus, values[i]), set()).add(i)
    expected = {frozenset(group) for group in members.values() if len(group) >= 4}
    assert {frozenset(group.tolist()) for group in spoken.groups} == expected
    assert len(expected) >= 2


def test_words_make_no_tasks(data: Path) -> None:
    spoken = selected(data)
    assert {spoken.sentences.utterances[i].corpus for group in spoken.groups for i in group} == {"north", "south"}


# ------------------------------------------------------------------------------------------------------------ phones


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Pronounces a text by its letters; which languages were asked for."""
    asked: list[str | None] = []

    def pronounced(utterances: Sequence[Utterance], n_workers: int = 2) -> list[tuple[str, ...]]:
        asked.extend(u.lang for u in utterances)
        return [tuple(u.text) * 12 if u.lang != "xx" else () for u in utterances]

    monkeypatch.setattr(module, "pronounced", pronounced)
    return asked


def test_phones_are_numbered_and_given_to_their_utterances(data: Path, speaker: list[str | None]) -> None:
    spoken = selected(data, phones=None)
    counts: dict[str, int] = {}
    for u in spoken.sentences.utterances:
        for char in u.text if u.lang == "yy" else "":
            counts[char] = counts.get(char, 0) + 12
    assert spoken.phones == tuple(sorted(char for char, n in counts.items() if n >= 100))
    assert 3 <= len(spoken.phones) < len(counts)
    for u, ids in zip(spoken.sentences.utterances, spoken.sentences.phones, strict=True):
        expected = [c for c in u.text * 12 if c in spoken.phones] if u.lang == "yy" else []
        assert [spoken.phones[i - 1] for i in ids] == expected


def test_phones_that_a_network_spells_keep_their_order(data: Path, speaker: list[str | None]) -> None:
    spoken = selected(data, phones=("t", "a", "q"))
    assert spoken.phones == ("t", "a", "q")
    for u, ids in zip(spoken.sentences.utterances, spoken.sentences.phones, strict=True):
        assert list(ids) == ([{"t": 1, "a": 2}[c] for c in u.text * 12 if c in "ta"] if u.lang == "yy" else [])


def test_without_a_head_for_phones_nobody_is_asked(data: Path, speaker: list[str | None]) -> None:
    spoken = selected(data, phones=())
    assert not speaker
    assert set(spoken.sentences.phones) == {()}


def test_phones_of_a_language_that_is_left_out_are_not_known(data: Path, speaker: list[str | None]) -> None:
    spoken = selected(data, phones=None, leave_out_languages=("yy",))
    assert set(speaker) == {"xx"}
    assert spoken.phones == ()
    assert set(spoken.sentences.phones) == {()}
