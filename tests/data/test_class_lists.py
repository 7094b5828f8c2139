"""Classes named in lists and files: what a name means, what is refused, and that training keeps to it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metavox.config import DataConfig, Experiment
from metavox.contracts import FrontEnd, InputError, Utterance
from metavox.data import selection
from metavox.data.bank import Bank
from metavox.data.class_lists import choose, class_table, indexes, read_names, resolve
from metavox.data.corpora import Recordings
from metavox.data.selection import Tasks, select_tasks


def said(word: str, speaker: str, lang: str | None = "en", corpus: str = "c", take: int = 0) -> Utterance:
    return Utterance(
        f"{word}-{speaker}-{take}", Path("/nowhere.wav"), 1.0, label=word, speaker=speaker, lang=lang, corpus=corpus
    )


WORDS = tuple(f"w{number:02}" for number in range(12))
PEOPLE = tuple(f"id{number:02}" for number in range(8))
EVERYTHING = [
    *(said(word, who, take=take) for word in WORDS for who in PEOPLE for take in (0, 1)),
    *(said(word, who, "lt", "d") for word in WORDS[:4] for who in PEOPLE),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAVOX_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path


# --------------------------------------------------------------------------------------------------------------- names


def test_a_file_and_a_list_say_the_same(here: Path) -> None:
    (here / "words.txt").write_text("\ufeff# fifteen words\n w01 \n\nw00\r\n", encoding="utf-8")
    assert read_names("words.txt", "data.classes") == read_names(["w01", "w00"], "data.classes") == ("w01", "w00")
    (here / "words.txt").rename(here / "data" / "words.txt")
    assert read_names("words.txt", "data.classes") == ("w01", "w00")
    assert read_names(["#1"], "data.classes") == ("#1",)  # a comment only in a file
    assert read_names(["ac\u030ciu"], "data.classes") == ("a\u010diu",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "data.classes is words.txt, which is no file here nor in METAVOX_DATA; write the names there"),
        (b"# nothing\n", "data.classes names no class; write one name a line"),
        (b"yes\nno\nyes\n", "data.classes names 'yes' twice, in places 1 and 3; remove one."),
        (b"\xff\xfe\x00", "words.txt cannot be read as UTF-8 text"),
    ],
)
def test_a_bad_file_is_one_sentence(here: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (here / "words.txt").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_names("words.txt", "data.classes")
    assert str(caught.value).startswith(sentence)


def test_a_name_means_its_word_in_every_language_and_the_whole_name_in_one() -> None:
    table = class_table(EVERYTHING, "word")
    assert resolve(["w01"], table, "x") == {"en:w01", "lt:w01"}
    assert resolve(["lt:w01", "w05"], table, "x") == {"lt:w01", "en:w05"}
    assert resolve(["id03"], class_table(EVERYTHING, "speaker"), "x") == {"c:id03", "d:id03"}
    with pytest.raises(InputError, match=r"^x names 'w1', and no recording is of that class; did you mean w\d1\?$"):
        resolve(["w01", "w1"], table, "x")
    with pytest.raises(InputError, match=r"^x names 'zebra', .* \(2 of 2 names are of none\); correct the list"):
        resolve(["zebra", "yacht"], table, "x")
    with pytest.raises(InputError, match="no recording is of that class"):
        resolve(["w01"], class_table(EVERYTHING, "word*speaker"), "x")  # a class of two axes has but its whole name


# ------------------------------------------------------------------------------------------------------------ training


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(config: Any, front_end: FrontEnd, report: Any, variants: Any = None) -> Recordings:
        bank = Bank.__new__(Bank)
        bank.utterances = EVERYTHING
        return Recordings(bank, np.zeros(len(EVERYTHING), bool), ())

    monkeypatch.setattr(selection, "gather", gather)


def selected(classes: str = "word", **data: Any) -> Tasks:
    tasks = {"classes": classes, "within": "corpus"}
    return select_tasks(Experiment.model_validate({"data": {"corpora": ["all"], **data}, "tasks": tasks}))


def drawn(sampler: Any) -> set[str]:
    return {name for step in range(80) for name in sampler.episode(step, 0).classes}


@pytest.mark.usefixtures("recordings")
def test_training_and_validation_draw_what_is_listed_and_nothing_else() -> None:
    tasks = selected(
        classes="word", **{"validation_classes": ["w04", "w05", "w06"]}, leave_out_classes=["w07", "lt:w00"]
    )
    assert drawn(tasks.validation) == {"en:w04", "en:w05", "en:w06"}
    learned = {f"en:{word}" for word in WORDS if word not in {"w04", "w05", "w06", "w07"}}
    assert drawn(tasks.training) == learned | {"lt:w01", "lt:w02", "lt:w03"}
    sentence = "By the lists of the recipe there are 11 classes to learn from and 3 to validate on."
    assert tasks.notes[0] == sentence


@pytest.mark.usefixtures("recordings")
def test_speakers_are_listed_as_words_are() -> None:
    tasks = selected("speaker", **{"validation_classes": ["id00", "id01"]})
    assert drawn(tasks.validation) == {f"{corpus}:{who}" for corpus in "cd" for who in PEOPLE[:2]}
    assert drawn(tasks.training) == {f"{corpus}:{who}" for corpus in "cd" for who in PEOPLE[2:]}


@pytest.mark.usefixtures("recordings")
def test_a_share_of_the_listed_is_held_out_where_no_validation_is_listed() -> None:
    config = {"corpora": ["all"], "classes": list(WORDS[:10]), "validation_share": 0.3}
    tasks = select_tasks(Experiment.model_validate({"data": config}))
    trained, held_out = drawn(tasks.training), drawn(tasks.validation)
    assert not trained & held_out
    assert {name.split(":")[1] for name in trained | held_out} == set(WORDS[:10])


@pytest.mark.usefixtures("recordings")
def test_lists_that_cannot_be_kept_are_refused() -> None:
    for one, other in (
        ("classes", "validation_classes"),
        ("classes", "leave_out_classes"),
        ("validation_classes", "leave_out_classes"),
    ):
        sentence = rf"^en:w01 is both in data\.{one} and in data\.{other}; leave it in one\.$"
        with pytest.raises(InputError, match=sentence):
            choose(DataConfig(**{one: ("w00", "w01"), other: ("en:w01",)}), EVERYTHING, "word")
    with pytest.raises(InputError, match=r"^data\.leave_out_classes names 'w99', and no recording"):
        selected(leave_out_classes=["w99"])
    with pytest.raises(InputError, match=r"^data\.validation_classes gives no task of two classes"):
        selected(validation_classes=["en:w11"])


# ---------------------------------------------------------------------------------------------------------- evaluation


def test_an_evaluation_draws_what_is_listed_in_each_corpus() -> None:
    corpora = [[u for u in EVERYTHING if u.corpus == corpus] for corpus in "cd"]
    first, second = indexes(corpora, "word", ["w03", "w04"])
    assert (first.classes, second.classes) == (("en:w03", "en:w04"), ("lt:w03",))
    assert [index.classes for index in indexes(corpora, "word")] == [
        tuple(f"en:{word}" for word in WORDS),
        tuple(f"lt:{word}" for word in WORDS[:4]),
    ]
    with pytest.raises(InputError, match=r"^Corpus d has none of the classes of classes; leave the corpus out"):
        indexes(corpora, "word", ["w04"])
