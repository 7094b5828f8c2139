"""Which words train and which validate: no class does both, and what is left out is nowhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds

from metavox.config import Experiment
from metavox.contracts import Draw, FrontEnd, InputError, Utterance
from metavox.data import selection
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

    def gather(config: Any, front_end: FrontEnd, report: Any) -> Recordings:
        some = [u for u in REAL if u.corpus not in config.leave_out_corpora] if config.corpora else []
        both = some + (SYNTHETIC if config.synth is not None else [])
        bank = Bank.__new__(Bank)
        bank.utterances = both
        return Recordings(bank, np.arange(len(both)) >= len(some), ())

    monkeypatch.setattr(selection, "gather", gather)


def selected(seed: int = 0, train: dict[str, Any] | None = None, **data: Any) -> Tasks:
    data = {"corpora": ["all"], "synth": {}, **data}
    return select_tasks(Experiment.model_validate({"data": data, "train": {"seed": seed, **(train or {})}}))


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
