"""A whole comparison on tones: fair by its files, computed from its rows, and not done twice."""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comparisons
import keep_comparison
import numpy as np
import pytest
import sounds
from comparisons import Done

from metavox.benchmarking.timing import Rounds
from metavox.checkpoint import load_model
from metavox.comparing import word_cell, word_costs, words
from metavox.comparing.comparison import run_comparison
from metavox.comparing.recorded import Cell, cell_folder
from metavox.comparing.subject import cells_of
from metavox.comparing.word_cell import of_exactly, run_cell, tasks_for
from metavox.comparing.word_plan import LR, make_plan, model_for, space_of
from metavox.config import load_comparison
from metavox.contracts import InputError
from metavox.data.bank import Bank
from metavox.data.selection import select_tasks
from metavox.learners.preset import Range
from metavox.learners.presets import LEARNERS

NAMES = ["prototypes", "joint", "linear_probe", "guesser", "nearest_mean", "dtw"]
TUNED = NAMES[:4]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    root = tmp_path_factory.mktemp("words")
    places = comparisons.corpora(root)
    heard: list[tuple[str, str, bool, set[str]]] = []
    now: dict[str, Any] = {}
    padded, evaluate = Bank.padded, word_cell.evaluate

    def spied_padded(self: Bank, positions: Any, *rest: Any) -> Any:
        corpora = {self.utterances[i].corpus for i in np.asarray(positions).tolist()}
        heard.append((now.get("fold", ""), now.get("learner", ""), now.get("tests", False), corpora))
        return padded(self, positions, *rest)

    def spied_evaluate(*arguments: Any, **options: Any) -> Any:
        now["tests"] = True
        return evaluate(*arguments, **options)

    def run(out: Path, cell: Cell) -> None:
        now.update(fold=cell.fold, learner=cell.learner, tests=False)
        run_cell(out, cell)
        now.clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAVOX_CACHE", str(root / "cache"))
        patch.setitem(LEARNERS, "guesser", comparisons.GUESSER)
        patch.setattr(Bank, "padded", spied_padded)
        patch.setattr(word_cell, "evaluate", spied_evaluate)
        patch.setattr(word_costs, "ROUNDS", Rounds(least=2, most=2))
        recipe = load_comparison(comparisons.recipe(root, places, learners=TUNED))
        document = run_comparison(recipe, root / "out", 0, run=run)
        yield Done(root / "out", places, recipe, document, heard)


# ------------------------------------------------------------------------------------------------------------- figures


def test_the_figures_are_those_of_the_rows(done: Done) -> None:
    hits: dict[Any, dict[Any, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in done.rows():
        hits[row["learner"], row["shots"], row["corpus"]][row["episode"]].append(row["correct"])
    found = json.loads((done.out / "comparison.json").read_text())
    assert found == done.document
    assert [row["learner"] for row in found["costs"]] == NAMES
    assert len(found["standings"]) == 2 * len(NAMES)
    for row in found["standings"]:
        means = {
            corpus: np.mean([np.mean(values) for values in hits[row["learner"], row["shots"], corpus].values()])
            for corpus in ("aa", "bb")
        }
        assert {own["corpus"]: own["mean"] for own in row["by_set"]} == pytest.approx(means)
        assert row["mean"] == pytest.approx(np.mean(list(means.values())))
        assert row["worst_mean"] == pytest.approx(min(means.values()))
    means_of = {(row["learner"], row["shots"]): row["mean"] for row in found["standings"]}
    for row in found["paired"]:
        gap = means_of[row["learner"], row["shots"]] - means_of[row["versus"], row["shots"]]
        assert row["difference"] == pytest.approx(gap)


def test_the_best_of_those_that_keep_their_encoder_is_told_apart(done: Done) -> None:
    first = [row["learner"] for row in done.document["standings"] if row["shots"] == 1]
    keeping = next(name for name in first if name in ("prototypes", "linear_probe", "guesser"))
    told = next(sentence for sentence in done.document["sentences"] if sentence.startswith("Of those that keep"))
    assert f"enrolment (3) the best is {keeping} with 1 take a word, " in told
    assert "of those that change it there (1) the best is joint with 1 take a word, joint with 2 takes a word." in told


def test_what_is_kept_gives_the_figures_once_more(done: Done, tmp_path: Path) -> None:
    place = tmp_path / "kept" / "words"
    keep_comparison.pack(done.out, place)
    assert keep_comparison.check(place) == []
    document = json.loads(place.with_suffix(".json").read_text())
    document["standings"][0]["by_set"][0]["mean"] += 0.01
    document["paired"][0]["low"] -= 0.01
    place.with_suffix(".json").write_text(json.dumps(document))
    assert len(keep_comparison.check(place)) == 2


def test_a_learner_of_a_few_lines_runs_through_and_its_place_is_known(done: Done) -> None:
    """Always the first of four words: a quarter is right, and beside joint training it is said to be worse."""
    rows = [row for row in done.document["standings"] if row["learner"] == "guesser"]
    assert [row["mean"] for row in rows] == [0.25, 0.25]
    text = " ".join(done.document["sentences"])
    assert "guesser (" in text
    assert "worse than joint" in text
    assert "guesser" in (done.out / "report.md").read_text()
    costs = {row["learner"]: row for row in done.document["costs"]}
    assert costs["guesser"]["state_bytes"] == 4 * 4
    assert costs["guesser"]["adapt_ms"] is not None
    assert done.document["spaces"]["guesser"] == {"scale": {"low": 1.0, "high": 10.0}}


def test_what_was_not_here_is_said(done: Done) -> None:
    assert done.document["absent"] == ["elsewhere"]
    assert "Not here and left out of training: elsewhere." in done.document["sentences"]


# ------------------------------------------------------------------------------------------------------------ fairness


def test_everybody_is_asked_about_the_same_clips(done: Done) -> None:
    asked: dict[str, list[Any]] = defaultdict(list)
    for row in done.rows():
        asked[row["learner"]].append((row["corpus"], row["shots"], row["episode"], row["item"], row["label"]))
    assert set(asked) == set(NAMES)
    assert all(sorted(items) == sorted(asked["dtw"]) for items in asked.values())
    assert {key[0] for key in asked["dtw"]} == {"aa", "bb"}


def test_everybody_has_as_many_trials_and_as_much_time(done: Done) -> None:
    for fold in done.document["folds"]:
        for name in NAMES:
            trials = done.file(fold, name, "trials.json")["trials"]
            result = done.file(fold, name, "result.json")
            if name not in TUNED:
                assert (result["trials"], trials[0]["settings"]) == (0, {})
                continue
            assert result["trials"] == len(trials) == 2
            own = space_of(done.recipe, name, trains=name != "linear_probe")[1]
            assert trials[0]["settings"] == own
            assert trials[1]["settings"] != own
            best = max(trials, key=lambda trial: trial["validation"])
            assert result["chosen"] == best["settings"]
            for trial in trials:
                if name == "linear_probe":
                    assert "cpu_s" not in trial
                    assert LR not in trial["settings"]
                else:
                    assert trial["cpu_s"] >= 60 * done.recipe.compare.minutes
                    assert trial["steps"] >= 1
            if name != "linear_probe":
                lr = done.recipe.train.lr
                assert space_of(done.recipe, name, trains=True)[0][LR] == Range(lr / 4, lr * 4)
                assert trials[1]["settings"][LR] != lr


def test_no_test_set_is_heard_before_the_choice_is_made(done: Done) -> None:
    own = {name: set(fold["sets"]) for name, fold in done.document["folds"].items()}
    chosen = [(fold, corpora) for fold, _, tests, corpora in done.heard if fold and not tests]
    asked = [(fold, corpora) for fold, _, tests, corpora in done.heard if fold and tests]
    assert chosen
    assert not any(corpora & own[fold] for fold, corpora in chosen)
    assert {fold: corpora for fold, corpora in asked} == own
    assert {learner for _, learner, tests, _ in done.heard if tests} == set(NAMES)


def test_a_shared_training_is_one_training(done: Done) -> None:
    for fold in done.document["folds"]:
        theirs, ours = (load_model(cell_folder(done.out, Cell(fold, n)) / "model") for n in ("joint", "linear_probe"))
        weights = theirs.learner.state_dict()
        assert all((value == weights[name]).all() for name, value in ours.learner.state_dict().items())
        assert done.file(fold, "linear_probe", "result.json")["training"]["steps"] == theirs.about["training"]["steps"]
        assert set(theirs.about["left_out"]) >= {fold.split("-")[1]}
    assert "linear_probe uses the weights of joint; its trials chose how it adapts." in done.document["sentences"]


# -------------------------------------------------------------------------------------------------------------- resume


def test_a_second_call_trains_nobody_and_a_lost_cell_is_done_again(done: Done, tmp_path: Path) -> None:
    out = shutil.copytree(done.out, tmp_path / "out")
    again: list[Cell] = []

    def run(out: Path, cell: Cell) -> None:
        again.append(cell)
        shutil.copytree(cell_folder(done.out, cell), cell_folder(out, cell))

    assert run_comparison(done.recipe, out, 0, run=run) == done.document
    assert not again
    costs = json.loads((out / "costs.json").read_text())
    (out / "costs.json").write_text(json.dumps({**costs, "models": ["dtw"]}))  # it was stopped before it timed the rest
    run_comparison(done.recipe, out, 0, run=run)
    assert json.loads((out / "costs.json").read_text())["models"] == costs["models"] == sorted(NAMES)
    lost = cells_of(make_plan(done.recipe))[3]
    shutil.rmtree(cell_folder(out, lost))
    (out / "comparison.json").unlink()
    run_comparison(done.recipe, out, 0, run=run)
    assert again == [lost]
    assert (out / "comparison.json").is_file()


def test_learners_may_come_and_go_and_another_recipe_may_not(done: Done, tmp_path: Path) -> None:
    out = shutil.copytree(done.out, tmp_path / "out")
    fewer = done.recipe.compare.model_copy(update={"learners": ("joint",)})
    found = run_comparison(
        done.recipe.model_copy(update={"compare": fewer}), out, 0, run=lambda *_: pytest.fail("anew")
    )
    assert found["learners"] == ["joint", "nearest_mean", "dtw"]
    for section, key, value in (("compare", "minutes", 9.0), ("train", "lr", 0.5)):
        changed = getattr(done.recipe, section).model_copy(update={key: value})
        with pytest.raises(InputError, match=f"another {section} section"):
            run_comparison(done.recipe.model_copy(update={section: changed}), out, 0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no comparison"):
        run_comparison(done.recipe, tmp_path / "mine", 0)


def test_a_cell_that_stops_is_left_out_of_the_report_and_tried_again(done: Done, tmp_path: Path) -> None:
    out, lost = shutil.copytree(done.out, tmp_path / "out"), Cell("1-aa", "prototypes")
    shutil.rmtree(cell_folder(out, lost))

    def fail(out: Path, cell: Cell) -> None:
        raise RuntimeError("shapes do not fit")

    found = run_comparison(done.recipe, out, 0, run=fail)
    assert [(one["learner"], one["fold"]) for one in found["stopped"]] == [("prototypes", "1-aa")]
    rows = {row["learner"]: row for row in found["standings"] if row["shots"] == 1}
    assert (rows["prototypes"]["sets"], rows["prototypes"]["complete"]) == (1, False)
    assert rows["joint"]["complete"]
    told = "prototypes in fold 1-aa stopped: RuntimeError: shapes do not fit (test_comparing_words.py, line "
    assert told in (out / "report.md").read_text()
    assert json.loads((out / "comparison.json").read_text()) == found
    again: list[Cell] = []

    def run(out: Path, cell: Cell) -> None:
        again.append(cell)
        shutil.copytree(cell_folder(done.out, cell), cell_folder(out, cell))

    assert run_comparison(done.recipe, out, 0, run=run)["standings"] == done.document["standings"]
    assert again == [lost]
    with pytest.raises(InputError, match="Call again for what stopped and is not in the report: prototypes in fold 1-"):
        run_comparison(done.recipe, tmp_path / "none", 0, run=fail)
    assert not (tmp_path / "none" / "comparison.json").exists()


def test_times_are_of_finished_cells_and_to_lose_them_loses_no_figure(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(done.out, tmp_path / "out")
    shutil.copytree(cell_folder(out, Cell("1-aa", "joint")), out / "cells" / "1-aa" / ".joint.7.tmp")
    cells = [cell for cell in cells_of(make_plan(done.recipe)) if cell.fold == "1-aa"]
    assert [cell.learner for cell in word_costs.with_models(out, cells[1:3])] == ["joint", "linear_probe"]
    (out / "costs.json").unlink()

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(words, "measure_costs", fail)
    found = run_comparison(done.recipe, out, 0)
    assert found["standings"] == done.document["standings"]
    told = [sentence for sentence in found["sentences"] if sentence.startswith("What adapting and answering take")]
    assert [sentence.partition(" (")[0] for sentence in told] == [
        "What adapting and answering take was not measured: MemoryError"
    ]


# ------------------------------------------------------------------------------------------------ what leaves training


def test_a_set_named_by_its_manifest_leaves_training(done: Done, tmp_path: Path) -> None:
    manifest = str(done.places[0] / "manifest.jsonl")
    plan = make_plan(load_comparison(comparisons.recipe(tmp_path, done.places, folds=[[manifest]])))
    assert plan.folds[0].experiment.data.leave_out_corpora == (str(done.places[0]),)
    with pytest.raises(InputError, match="which training hears; leave it out"):
        make_plan(load_comparison(comparisons.recipe(tmp_path, done.places, folds=[], corpora=[manifest])))


def test_a_language_of_the_test_leaves_training_by_whichever_of_its_codes(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    places = [
        sounds.manifest_corpus(tmp_path / name, sounds.WORDS[:5], ("a", "b"), 2, lang=lang)
        for name, lang in (("test", "en"), ("british", "en-GB"), ("american", "eng"))
    ]
    recipe = load_comparison(comparisons.recipe(tmp_path, [*places, done.places[2]], folds=[[str(places[0])]]))
    fold = make_plan(recipe).folds[0]
    assert {utterance.lang for utterance in tasks_for(fold, fold.experiment).heard} == {"cc"}
    data = fold.experiment.data.model_copy(update={"leave_out_languages": ()})
    with pytest.raises(InputError, match="a language of the test, and is heard in training"):
        tasks_for(fold, fold.experiment.model_copy(update={"data": data}))


def test_without_words_held_out_nothing_is_computed(done: Done, tmp_path: Path) -> None:
    path = comparisons.recipe(tmp_path, done.places)
    recipe = load_comparison(path, ["data.validation_share=0.01"])
    with pytest.raises(InputError, match="No words are held out of training to choose settings by"):
        run_comparison(recipe, tmp_path / "out", 0, run=lambda *_: pytest.fail("computed"))


# ----------------------------------------------------------------------------------------------- what cannot be trained


def test_what_gives_no_result_is_a_note_and_no_error(done: Done, tmp_path: Path, monkeypatch: Any) -> None:
    def refused(*_: Any) -> Any:
        raise InputError("20 outer steps in a row had a gradient that is not finite.")

    monkeypatch.setattr(word_cell, "train_for", refused)
    out = shutil.copytree(done.out, tmp_path / "out")
    for fold in done.document["folds"]:
        shutil.rmtree(cell_folder(out, Cell(fold, "prototypes")))
    found = run_comparison(done.recipe, out, 0)
    assert "prototypes" not in [row["learner"] for row in found["standings"]]
    assert any("It gave no result: 20 outer steps in a row" in sentence for sentence in found["sentences"])
    trials = json.loads((cell_folder(out, Cell("1-aa", "prototypes")) / "trials.json").read_text())["trials"]
    assert [trial["validation"] for trial in trials] == [None, None]


def test_fixed_ways_are_those_of_the_comparison_and_other_tasks_are_left_out(done: Done) -> None:
    config = model_for(done.recipe, "maml_fixed")
    assert config.learner.ways == done.recipe.compare.ways == 4
    assert "ways" not in model_for(done.recipe, "fomaml").learner.model_fields_set
    tasks = select_tasks(make_plan(done.recipe).folds[0].experiment)
    exact = of_exactly(tasks.training, 3)
    assert {len(exact.episode(step).classes) for step in range(20)} == {3}
    with pytest.raises(InputError, match="No group has 40 classes"):
        of_exactly(tasks.training, 40)


def test_a_learner_of_fixed_ways_is_trained_and_tested_beside_the_others(done: Done, tmp_path: Path) -> None:
    """A language of training holds fewer words than it has rows."""
    held = {"bb": sounds.WORDS[:10], "cc": sounds.WORDS[:3]}
    more = [sounds.manifest_corpus(tmp_path / lang, words, ("a", "b"), 2, lang=lang) for lang, words in held.items()]
    settings = {"learners": ["maml_fixed"], "folds": [[str(done.places[0])]], "trials": 1, "minutes": 0.0005}
    recipe = load_comparison(comparisons.recipe(tmp_path, [done.places[0], *more], **settings))
    found = run_comparison(recipe, tmp_path / "out", 0)
    standings = [row for row in found["standings"] if row["learner"] == "maml_fixed"]
    assert [(row["shots"], row["complete"]) for row in standings] == [(1, True), (2, True)]
    assert (
        "maml_fixed in fold 1-aa: It is trained and chosen on tasks of exactly 4 words, which 1 of 2 training groups "
        "have; others are trained on all of them, with at most 3 words."
    ) in found["sentences"]
