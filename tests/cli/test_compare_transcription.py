"""``metavox compare`` of recognisers as a user types it."""

import json
from pathlib import Path

import pytest
import recogniser_comparisons as cases
from calling import Metavox


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return cases.corpora(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cases.base(tmp_path_factory.mktemp("bases") / "base")


def test_a_summary_is_flat_json_and_the_table_names_everybody(
    metavox: Metavox, places: list[Path], base: Path, tmp_path: Path
) -> None:
    path = cases.recipe(tmp_path, places[:2], base, support_minutes=[0.1], trials=1, draws=1, adapt_steps=2)
    call = ["compare", path, "--learner", "biases", "--out", tmp_path / "out", "--jobs", 0]
    said = metavox(*call, "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert {row["learner"] for row in found["learners"]} == {"biases", "fine-tune", "scratch"}
    asked = (found["metric"], found["support_minutes"], found["draws"], found["seed"], found["minutes"])
    assert asked == ("cer", 0.1, 1, 0, 0.001)
    assert (found["corpus"], found["trials"], found["base"], found["joint"]) == (["yy"], 1, "fine-tune", None)
    assert found["mean"] == min(row["mean"] for row in found["learners"])
    assert not any(isinstance(value, dict) for value in found.values())
    shown = metavox(*call)  # all is there: it is only shown
    assert shown.status == 0, shown.err
    assert all(name in shown.out for name in ("biases", "fine-tune", "scratch", "0.1 minutes of support", "gain on"))
    assert all(sentence in shown.out for sentence in found["sentences"])
    rows = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert len(rows) == sum(row["n"] for row in found["learners"]) == 3 * 12


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["compare.learners=[fomam]"], "compare.learners is 'fomam'; did you mean fomaml?"),
        (["compare.learners=[all, joint]"], "learners names all and others"),
        (["compare.learners=[joint, joint]"], "learners names joint twice"),
        (["compare.folds=[]"], "compare.folds names no target"),
        (["compare.folds=[{target: a}]"], "compare.folds.0.base is {'target': 'a'}: field required"),
        (["compare.folds=[{target: nowhere, base: b}]"], "Corpus nowhere is no folder here"),
        (["compare.folds=[{target: a, base: b}, {target: a, base: c}]"], "folds names a twice"),
        (["compare.shots=[1]"], "unknown key compare.shots; did you mean"),
        (["compare.support_minutes=[0]"], "compare.support_minutes.0 is 0"),
        (["compare.support_minutes=[90]"], "compare.support_minutes is 90 and yy has"),
        (["compare.trials=0"], "compare.trials is 0"),
        (["compare.max_test=3"], "compare.max_test is 3"),
        (
            ["train.steps=9"],
            "train.steps is 9: it is settled in a comparison by base, learner or budget; leave it away",
        ),
        (["learning.outer=maml"], "recipe.yaml: learning.outer is 'maml': it is settled"),
        (["recogniser.channels=32"], "recogniser.channels is 32: it is settled"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence_and_nothing_is_left(
    metavox: Metavox, places: list[Path], base: Path, tmp_path: Path, changes: list[str], sentence: str
) -> None:
    path = cases.recipe(tmp_path, places, base)
    said = metavox("compare", path, *changes, "--out", tmp_path / "out", "--jobs", 0)
    assert (said.status, said.out) == (2, "")
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_cells_run_in_processes(metavox: Metavox, places: list[Path], base: Path, tmp_path: Path) -> None:
    learners = ["joint", "lora"]
    path = cases.recipe(
        tmp_path, places[:2], base, learners=learners, support_minutes=[0.1], trials=1, draws=1, adapt_steps=2
    )
    said = metavox("compare", path, "--out", tmp_path / "out", "--jobs", 2, "--json")
    assert said.status == 0, said.err
    assert {row["learner"] for row in json.loads(said.out)["learners"]} == {*learners, "fine-tune", "scratch"}
