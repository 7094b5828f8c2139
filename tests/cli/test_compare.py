"""``metavox compare`` as a user types it."""

import json
from pathlib import Path
from typing import Any

import comparisons
import pytest
import sounds
from calling import Metavox

from metavox.benchmarking.timing import Rounds
from metavox.comparing import word_costs
from metavox.comparing.word_cell import WordCell


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return comparisons.corpora(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_costs, "ROUNDS", Rounds(least=2, most=2))


def test_a_summary_is_flat_json_and_the_table_names_everybody(
    metavox: Metavox, places: list[Path], tmp_path: Path
) -> None:
    path = comparisons.recipe(tmp_path, places, folds=[[str(places[0])]], shots=[1])
    call = ["compare", path, "--learner", "fomaml", "--learner", "joint", "--out", tmp_path / "out", "--jobs", 0]
    said = metavox(*call, "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert {row["learner"] for row in found["learners"]} == {"fomaml", "joint", "nearest_mean", "dtw"}
    assert (found["metric"], found["shots"], found["ways"], found["episodes"]) == ("accuracy", 1, 4, 4)
    assert (found["corpus"], found["trials"], found["seed"]) == (["aa"], 2, 0)
    assert found["mean"] == max(row["mean"] for row in found["learners"])
    assert not any(isinstance(value, dict) for value in found.values())
    assert found["joint"] == "joint"
    shown = metavox(*call)  # all is there: it is only shown
    assert shown.status == 0, shown.err
    assert all(name in shown.out for name in ("fomaml", "joint", "nearest_mean", "dtw", "With 1 take a word, "))
    assert all(sentence in shown.out for sentence in found["sentences"])
    assert "report.md" in shown.err
    rows = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert len(rows) == sum(row["n"] for row in found["learners"])


def test_a_learner_that_fails_is_named_at_the_end_and_tried_again(
    metavox: Metavox, places: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = comparisons.recipe(tmp_path, places, folds=[[str(places[0])]], shots=[1], learners=["prototypes"])
    call = ["compare", path, "--out", tmp_path / "out", "--jobs", 0]
    run = WordCell.run

    def failing(self: WordCell) -> Any:
        if self.name == "prototypes":
            raise RuntimeError("shapes do not fit")
        return run(self)

    with monkeypatch.context() as patch:
        patch.setattr(WordCell, "run", failing)
        said = metavox(*call)
    assert said.status == 2
    assert (
        "metavox: Call again for what stopped and is not in the report: prototypes in fold 1-aa; the first said: "
        "RuntimeError: shapes do not fit (test_compare.py, line "
    ) in said.err
    assert "nearest_mean" in said.out
    stopped = "prototypes in fold 1-aa stopped: RuntimeError: shapes do not fit"
    assert stopped in said.out
    assert stopped in (tmp_path / "out" / "report.md").read_text()
    again = metavox(*call, "--json")
    assert again.status == 0, again.err
    assert "prototypes" in {row["learner"] for row in json.loads(again.out)["learners"]}


@pytest.mark.slow
def test_cells_run_in_processes(metavox: Metavox, places: list[Path], tmp_path: Path) -> None:
    path = comparisons.recipe(tmp_path, places, folds=[[str(places[0])]], shots=[1], learners=["prototypes"])
    said = metavox("compare", path, "--out", tmp_path / "out", "--jobs", 2, "--json")
    assert said.status == 0, said.err
    assert {row["learner"] for row in json.loads(said.out)["learners"]} == {"prototypes", "nearest_mean", "dtw"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["compare.learners=[fomam]"], "compare.learners is 'fomam'; did you mean fomaml?"),
        (["compare.learners=[all, joint]"], "learners names all and others"),
        (["compare.learners=[joint, joint]"], "learners names joint twice"),
        (["compare.trials=0"], "compare.trials is 0"),
        (["compare.minutes=0"], "compare.minutes is 0"),
        (["compare.episodes=1"], "compare.episodes is 1"),
        (["compare.folds=[[nowhere]]"], "Corpus nowhere is no folder here"),
        (["compare.folds=[[a], [b, a]]"], "a is tested on twice"),
        (["compare.folds=[[]]"], "compare.folds.0 is []"),
        (["compare.folds=[]"], "compare names no set to test on"),
        (["compare.corpora=[x]"], "there are both folds and corpora"),
        (["compare.fold=[]"], "did you mean compare.folds?"),
        (["compare.shots=[9]"], "aa cannot be a test: 0 of 6 classes have the 10 takes"),
        (["model.learner.adapts=head", "compare.learners=[boil]"], "boil is the learner with adapts=body"),
        (["model.learner.ways=3", "compare.learners=[maml_fixed]"], "model.learner.ways is 3 and compare.ways is 4"),
        (["tasks.classes=rate"], "tasks.classes is rate, which no manifest says"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence_and_nothing_is_left(
    metavox: Metavox, places: list[Path], tmp_path: Path, changes: list[str], sentence: str
) -> None:
    path = comparisons.recipe(tmp_path, places)
    said = metavox("compare", path, *changes, "--out", tmp_path / "out", "--jobs", 0)
    assert (said.status, said.out) == (2, "")
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_set_that_training_hears_is_no_test(metavox: Metavox, places: list[Path], tmp_path: Path) -> None:
    path = comparisons.recipe(tmp_path, places, folds=[], corpora=[str(places[0])])
    said = metavox("compare", path, "--out", tmp_path / "out")
    assert said.status == 2
    assert "which training hears; leave it out in data.leave_out_corpora" in said.err


def test_training_a_recipe_takes_no_notice_of_what_is_compared(
    metavox: Metavox, places: list[Path], tmp_path: Path
) -> None:
    path = comparisons.recipe(tmp_path, places)
    few: list[Any] = ["train.steps=1", "train.validation_episodes=1", "--out", tmp_path / "model"]
    assert metavox("train", path, *few).status == 0
    assert "compare" not in (tmp_path / "model" / "experiment.yaml").read_text()
    said = metavox("train", path, "compare.trails=2", "--out", tmp_path / "other")
    assert (said.status, "did you mean compare.trials?" in said.err) == (2, True)
    assert not sounds.files_below(tmp_path / "other")
