"""Which words train and which validate: no class does both, and what is left out is nowhere."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds

from metavox.config import Experiment
from metavox.contracts import Draw, FrontEnd, InputError, Utterance
from metavox.data import selection
from metavox.data.axes import along
from metavox.data.bank import Bank
from metavox.data.corpora import Recordings
from metavox.data.selection import Tasks, select_tasks


def utterances(corpus: str, lang: str, words: range, n_takes: int = 8) -> list[Utterance]:
    return [
        Utterance(f"{corpus}-{word}-{take}", Path("/nowhere.wav"), 1.0, label=f"w{word}", lang=lang, corpus=corpus)
        for word in words
        for take in range(n_takes)
    ]


REAL = [
    *utterances("digits", "en", range(10)),
    *utterances("commands", "en", range(5, 25)),  # half of the digits are here too
    *utterances("other", "lt", range(20)),
]
SYNTHETIC = [*utterances("synth", "en", range(40)), *utterances("synth", "sw", range(30))]


@pytest.fixture(autouse=True)
def recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``gather`` would open: names alone, for selection touches no audio."""

    def gather(config: Any, front_end: FrontEnd, report: Any, variants: Any = None) -> Recordings:
        some = [u for u in REAL if u.corpus not in config.leave_out_corpora] if config.corpora else []
        both = some + (SYNTHETIC if config.synth is not None else [])
        bank = Bank.__new__(Bank)
        bank.utterances = both
        return Recordings(bank, np.arange(len(both)) >= len(some), ())

    monkeypatch.setattr(selection, "gather", gather)


def selected(seed: int = 0, train: dict[str, Any] | None = None, **data: Any) -> Tasks:
    data = {"corpora": ["all"], "synth": {}, **data}
    return select_tasks(Experiment.model_validate({"data": data, "train": {"seed": seed, **(train or {})}}))


def along_tasks(asked: dict[str, Any], **data: Any) -> Tasks:
    """As ``selected``, with a ``tasks`` section."""
    data = {"corpora": ["all"], "synth": {}, **data}
    return select_tasks(Experiment.model_validate({"data": data, "tasks": asked}))


def draws(sampler: Any, n: int = 150) -> list[Draw]:
    return [sampler.episode(step) for step in range(n)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_training_and_validation_share_no_class(seed: int, share: float) -> None:
    """Not even where a word is in two corpora, or in a real and a synthetic one."""
    tasks = selected(seed, validation_share=share)
    training = {name for group in tasks.training.groups for name in group.classes}
    validation = {name for group in tasks.validation.groups for name in group.classes}
    assert training
    assert validation
    assert not training & validation


def test_about_the_share_asked_for_is_held_out() -> None:
    tasks = selected(validation_share=0.2)
    held_out = {name for group in tasks.validation.groups for name in group.classes}
    kept = {name for group in tasks.training.groups for name in group.classes}
    assert 0.15 <= len(held_out) / len(held_out | kept) <= 0.25


def test_no_clip_of_a_training_task_is_in_a_validation_task() -> None:
    tasks = selected()
    trained = {p for d in draws(tasks.training) for p in [*d.support.tolist(), *d.query.tolist()]}
    validated = {p for d in draws(tasks.validation) for p in [*d.support.tolist(), *d.query.tolist()]}
    assert not trained & validated


def test_a_task_is_of_one_language_of_one_corpus() -> None:
    tasks = selected()
    for draw in draws(tasks.training):
        spoken = [tasks.bank.utterances[p] for p in [*draw.support.tolist(), *draw.query.tolist()]]
        assert len({(u.corpus, u.lang) for u in spoken}) == 1


@pytest.mark.parametrize("real_share", [0.0, 0.25, 1.0])
def test_real_recordings_have_their_share_of_the_tasks(real_share: float) -> None:
    tasks = selected(real_share=real_share)
    real = [tasks.bank.utterances[d.support[0]].corpus != "synth" for d in draws(tasks.training, 600)]
    assert abs(np.mean(real) - real_share) < 4 * (real_share * (1 - real_share) / 600) ** 0.5 + 1e-9


def test_languages_and_corpora_that_are_left_out_are_in_no_task() -> None:
    tasks = selected(leave_out_languages=["en"], leave_out_corpora=["other"], corpora=["all", "other"])
    heard = {
        tasks.bank.utterances[p]
        for sampler in (tasks.training, tasks.validation)
        for d in draws(sampler)
        for p in [*d.support.tolist(), *d.query.tolist()]
    }
    assert {u.lang for u in heard} == {"sw"}
    assert {u.corpus for u in heard} == {"synth"}


@pytest.mark.parametrize(("code", "left"), [("eng", {"lt", "sw"}), ("en-GB", {"lt", "sw"}), ("swa", {"en", "lt"})])
def test_a_language_is_left_out_by_whichever_of_its_codes(code: str, left: set[str]) -> None:
    assert {u.lang for u in selected(leave_out_languages=[code]).heard} == left


def test_the_seed_decides_what_is_held_out() -> None:
    def held_out(seed: int) -> set[str]:
        return {name for group in selected(seed).validation.groups for name in group.classes}

    assert held_out(3) == held_out(3)
    assert len({frozenset(held_out(seed)) for seed in range(5)}) > 1


def test_everything_left_out_is_refused() -> None:
    with pytest.raises(InputError, match="No word class is left to learn from"):
        selected(leave_out_languages=["en", "lt", "sw"])


def test_too_few_takes_are_refused() -> None:
    tasks = {"corpora": ["all"], "synth": {}}
    with pytest.raises(InputError, match=r"lower episodes\.shots or add recordings"):
        select_tasks(Experiment.model_validate({"data": tasks, "episodes": {"shots": 8}}))


def test_few_words_validate_on_the_training_words() -> None:
    """Two words can hold none back; the rest of the loop must still have something to measure."""
    two = [*utterances("tiny", "en", range(2))]
    tasks = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "REAL", two)
        tasks = selected(synth=None)
    assert {name for g in tasks.training.groups for name in g.classes} == {"en:w0", "en:w1"}
    assert draws(tasks.validation, 3)
    assert tasks.validates_on_training
    assert not selected().validates_on_training


# --------------------------------------------------------------------------------------------------- other axes


def people(corpus: str, lang: str, n_speakers: int, n_words: int = 6, n_takes: int = 4) -> list[Utterance]:
    return [
        replace(u, id=f"{u.id}-{s}", speaker=f"s{s}", gender="fm"[s % 2])
        for s in range(n_speakers)
        for u in utterances(corpus, lang, range(n_words), n_takes)
    ]


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> list[Utterance]:
    """Two corpora of named speakers and one of unnamed ones."""
    some = [*people("one", "en", 6), *people("two", "lt", 5), *utterances("nobody", "en", range(8), 4)]
    monkeypatch.setitem(globals(), "REAL", some)
    return some


def values(tasks: Tasks, draw: Draw, axis: str) -> list[str | None]:
    return along(tasks.bank.utterances, axis, positions=[*draw.support.tolist(), *draw.query.tolist()])


@pytest.mark.parametrize(
    ("classes", "within"),
    [
        ("word", "corpus*language*speaker"),
        ("speaker", "language"),
        ("speaker", "corpus*language"),
        ("language", ""),
        ("word", "gender"),
        ("word*speaker", "corpus"),
        ("gender", "corpus*language"),
    ],
)
def test_what_is_told_apart_and_what_is_shared_is_as_asked(crowd: list[Utterance], classes: str, within: str) -> None:
    """In training and in validation tasks; nobody without a speaker is in a task that needs one."""
    tasks = along_tasks({"classes": classes, "within": within}, synth=None, validation_share=0.5)
    trained: set[int] = set()
    for sampler in (tasks.training, tasks.validation):
        for draw in draws(sampler, 15):
            positions = [*draw.support.tolist(), *draw.query.tolist()]
            labels = [*draw.support_labels.tolist(), *draw.query_labels.tolist()]
            told = values(tasks, draw, classes)
            assert told == [draw.classes[label] for label in labels]
            shared = set(values(tasks, draw, within))
            assert len(shared) == 1
            assert None not in shared
            assert not set(draw.support.tolist()) & set(draw.query.tolist())
            if sampler is tasks.training:
                trained.update(positions)
            elif not {name for g in tasks.training.groups for name in g.classes} & set(draw.classes):
                assert not trained & set(positions)
    unnamed = any("speaker" in part for part in (classes, within))
    assert ("32 of 296 recordings have no known speaker and are in no task." in tasks.notes) is unnamed


def test_who_cannot_give_a_task_is_said_by_name(crowd: list[Utterance]) -> None:
    tasks = along_tasks({"speakers": "disjoint"}, synth=None)
    assert {g.name for g in tasks.training.groups} == {"one * en", "two * lt"}
    (said,) = tasks.notes
    assert said == (
        "1 of 3 groups (nobody * en) have no two classes of 3 takes with queries by other speakers and are in no task."
    )
    for draw in draws(tasks.training, 40):
        speakers = [{tasks.bank.utterances[p].speaker for p in side} for side in (draw.support, draw.query)]
        assert not speakers[0] & speakers[1]
    known = along_tasks({"speakers": "where_known"}, synth=None)
    assert known.notes == ("Speakers are kept apart in 2 of 3 groups.",)
    with pytest.raises(
        InputError, match=r"1 of 1 do not name all speakers\); set tasks\.speakers to where_known or any"
    ):
        along_tasks({"speakers": "disjoint"}, synth=None, leave_out_corpora=["one", "two"], corpora=["one", "two", "a"])


def test_no_group_with_two_classes_is_refused_by_the_names_of_the_axes(crowd: list[Utterance]) -> None:
    with pytest.raises(InputError, match="No group of one corpus and language has two classes along accent"):
        along_tasks({"classes": "accent"}, synth=None)


@pytest.mark.parametrize("real_share", [0.2, 0.7])
@pytest.mark.parametrize("name", ["uniform", "tempered", "adaptive"])
def test_every_sampler_keeps_the_share_of_real_tasks(real_share: float, name: str) -> None:
    tasks = along_tasks({"sampler": name, "alpha": 1.0}, real_share=real_share)
    real = np.asarray([kind == "real" for kind in tasks.training.kinds])
    for step in range(5):
        assert tasks.training.chances[real].sum() == pytest.approx(real_share)
        some = [tasks.training.episode(step, i) for i in range(3)]
        tasks.training.record(step, some, [0.1, 1.0, 3.0])
    assert (tasks.training.adaptivity is not None) == (name == "adaptive")
    if name == "tempered":
        sizes = np.asarray([len(group.positions) for group in tasks.training.groups])[real]
        np.testing.assert_allclose(tasks.training.chances[real] / real_share, sizes / sizes.sum())
    assert tasks.validation.adaptivity is None


def test_a_share_holds_where_some_groups_of_a_kind_cannot_be_drawn() -> None:
    single = [*utterances("single", "xx", range(9), 1), *REAL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "REAL", single)
        tasks = selected(real_share=0.5)
    real = np.asarray([kind == "real" for kind in tasks.training.kinds])
    assert tasks.training.chances[real].sum() == pytest.approx(0.5)
    assert tasks.notes == ("1 of 6 groups (single * xx) have no two classes of 3 takes and are in no task.",)


def test_recordings_of_no_language_are_a_group_of_their_corpus() -> None:
    plain = [replace(u, lang=None) for u in utterances("plain", "en", range(8))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "REAL", plain)
        tasks = selected(synth=None)
    assert [g.name for g in tasks.training.groups] == ["plain * unnamed language"]
    assert tasks.notes == ()


def test_measured_axes_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    root = sounds.manifest_corpus(tmp_path / "words", sounds.WORDS[:6], ("anna", "bela"), 6)
    seen: list[str] = []
    tasks = select_tasks(
        Experiment.model_validate(
            {
                "data": {"corpora": [str(root)]},
                "episodes": {"ways": 3, "shots": 1},
                "tasks": {"within": "corpus*language*effort"},
            }
        ),
        lambda what, done, total: seen.append(what),
    )
    assert "measuring" in seen
    assert {g.name for g in tasks.training.groups} <= {f"words * xx * {name}" for name in ("soft", "normal", "loud")}
    assert draws(tasks.training, 5)


def test_our_own_words_are_selected_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    root = sounds.manifest_corpus(tmp_path / "words", sounds.WORDS[:6], ("anna",), 4)
    tasks = select_tasks(
        Experiment.model_validate(
            {"data": {"corpora": [str(root)], "validation_share": 0.34}, "episodes": {"ways": 3, "shots": 1}}
        )
    )
    assert tasks.training.n_classes == 4
    assert {name for g in tasks.validation.groups for name in g.classes}.isdisjoint(
        {name for g in tasks.training.groups for name in g.classes}
    )


def test_tasks_of_exactly_so_many_classes_leave_out_groups_of_fewer() -> None:
    """Two corpora keep fewer than fourteen words to learn from: one has ten, the other shares some with it."""
    plan = {"data": {"corpora": ["all"], "synth": {}}, "episodes": {"ways": 14}, "train": {"validation_ways": 4}}
    asked = Experiment.model_validate(plan)
    tasks, plain = select_tasks(asked, exact=True), select_tasks(asked)
    lost = {group.name for group in plain.training.groups} - {group.name for group in tasks.training.groups}
    assert lost == {group.name for group in plain.training.groups if len(group) < 14}
    assert "digits * en" in lost
    (note,) = tasks.notes
    assert note.endswith("have fewer than 14 classes of 3 takes and are in no task.")
    for sampler in (tasks.training, tasks.validation):
        assert sampler.always_full
        assert {len(sampler.episode(step).classes) for step in range(40)} == {14}
    assert not plain.training.always_full
    assert {len(plain.validation.episode(step).classes) for step in range(40)} <= {2, 3, 4}


def test_too_many_classes_for_every_group_are_refused_in_a_sentence() -> None:
    asked = Experiment.model_validate({"data": {"corpora": ["all"], "synth": {}}, "episodes": {"ways": 60}})
    with pytest.raises(InputError) as caught:
        select_tasks(asked, exact=True)
    said = str(caught.value)
    assert said.startswith("No group has 60 classes with the 3 takes that an episode needs (the largest has ")
    assert "\n" not in said
    assert said.count(".") == said.count("episodes.") + 1
