"""A whole comparison of recognisers on tones: fair by its files, computed from its rows, and not done twice."""

import gzip
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comparisons
import keep_comparison
import numpy as np
import pytest
import recogniser_comparisons as cases
import torch

from metavox.benchmarking import timing
from metavox.comparing import transcription_trials
from metavox.comparing.comparison import run_comparison
from metavox.comparing.recorded import Cell, cell_folder
from metavox.comparing.subject import cells_of
from metavox.comparing.transcription import MEASURE
from metavox.comparing.transcription_plan import make_plan, space_for, splits_of
from metavox.comparing.transcription_trials import TargetCell, run_trials, spoken_for
from metavox.config import TranscriptionComparison, load_comparison
from metavox.contracts import InputError
from metavox.data.manifests import load_corpus
from metavox.data.sentences import Sentences
from metavox.statistics import paired_bootstrap
from metavox.transcription.models import load_recogniser
from metavox.transcription.scoring import clusters_of
from metavox.transcription.shelf import LR


@dataclass
class Done(comparisons.Done):
    """And the base that everybody starts from."""

    base: Path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    root = tmp_path_factory.mktemp("languages")
    places, base = cases.corpora(root), cases.base(root / "base")
    heard: list[tuple[str, str, bool, set[str]]] = []
    now: dict[str, Any] = {}
    features, asked = Sentences.features, TargetCell._answered

    def spied(self: Sentences, positions: Any, *rest: Any) -> Any:
        ids = {self.utterances[i].id for i in np.asarray(positions).tolist()}
        heard.append((now.get("fold", ""), now.get("learner", ""), now.get("tests", False), ids))
        return features(self, positions, *rest)

    def answered(self: TargetCell, *arguments: Any) -> Any:
        now["tests"] = True
        return asked(self, *arguments)

    def run(out: Path, cell: Cell) -> None:
        now.update(fold=cell.fold, learner=cell.learner, tests=False)
        run_trials(out, cell)
        now.clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAVOX_CACHE", str(root / "cache"))
        patch.delenv("METAVOX_DATA", raising=False)
        # Nothing is known of memory, as on other systems; to look takes longer than these adaptations.
        patch.setattr(timing, "CLEAR", root / "nowhere" / "clear_refs")
        patch.setattr(timing, "resident_bytes", lambda: None)
        patch.setattr(Sentences, "features", spied)
        patch.setattr(TargetCell, "_answered", answered)
        recipe = load_comparison(cases.recipe(root, places, base))
        document = run_comparison(recipe, root / "out", 0, run=run)
        yield Done(root / "out", places, recipe, document, heard, base)


# ------------------------------------------------------------------------------------------------------------- figures


def test_the_figures_are_those_of_the_rows(done: Done) -> None:
    errors: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    for row in done.rows():
        errors[row["learner"], row["minutes"], row["corpus"]].append((row["char_errors"], row["chars"]))
    found = json.loads((done.out / "comparison.json").read_text())
    assert found == done.document
    assert len(found["standings"]) == 2 * len(cases.LEARNERS)
    rates = {key: sum(e for e, _ in some) / sum(c for _, c in some) for key, some in errors.items()}
    for row in found["standings"]:
        own = {corpus: rates[row["learner"], row["minutes"], corpus] for corpus in ("yy", "zz")}
        assert {one["corpus"]: one["mean"] for one in row["by_set"]} == pytest.approx(own)
        assert row["mean"] == pytest.approx(np.mean(list(own.values())))
        assert row["worst_mean"] == max(own.values())
        assert own[row["worst_corpus"]] == max(own.values())
    for at in (0.1, 0.2):
        here = [row["mean"] for row in found["standings"] if row["minutes"] == at]
        assert here == sorted(here)
    means = {(row["learner"], row["minutes"]): row["mean"] for row in found["standings"]}
    for row in found["paired"]:
        gain = means[row["versus"], row["minutes"]] - means[row["learner"], row["minutes"]]
        assert row["difference"] == pytest.approx(gain)


def test_what_is_kept_gives_the_figures_once_more(done: Done, tmp_path: Path) -> None:
    place = tmp_path / "kept" / "languages"
    keep_comparison.pack(done.out, place)
    assert keep_comparison.check(place) == []
    assert done.rows()[0]["said"] not in gzip.decompress(place.with_suffix(".tsv.gz").read_bytes()).decode()
    document = json.loads(place.with_suffix(".json").read_text())
    document["standings"][0]["mean"] += 0.01
    place.with_suffix(".json").write_text(json.dumps(document))
    assert len(keep_comparison.check(place)) == 1


def test_fewer_errors_are_better_in_table_and_words(done: Done) -> None:
    """Six steps from a base that reads the tones of another language beat six steps from random weights."""
    found = done.document
    for names in found["versus"]:
        at = names["minutes"]
        means = {row["learner"]: row["mean"] for row in found["standings"] if row["minutes"] == at}
        assert means["fine-tune"] < means["scratch"]
        assert names["best"] == min(means, key=lambda name: means[name])
        assert (names["baseline"], names["joint"], names["base"]) == ("fine-tune", "joint", "fine-tune")
        row = next(
            row for row in found["paired"]
            if (row["question"], row["learner"], row["minutes"]) == ("base", "scratch", at)
        )  # fmt: skip
        assert row["difference"] < 0
    text = "\n".join(found["sentences"])
    for row in found["paired"]:
        if row["learner"] != "conditioned" or row["question"] not in ("joint", "base"):
            continue
        rival, told = row["versus"], f"With {row['minutes']:g} minutes of support, meta-learning is shown to help "
        if row["p_value"] > 0.05:
            told += f"0 of 1 learners; no difference to {rival} is shown: conditioned ("
        elif row["difference"] < 0:
            told += "0 of 1 learners; conditioned ("
        else:
            told += f"1 of 1 learners: beside {rival}, the least gain is conditioned ("
        assert told in text
    assert "lora uses the weights of joint" in text
    page = (done.out / "report.md").read_text()
    assert "gain on fine-tune" in page
    assert "gain on joint" in page
    assert all(sentence in page for sentence in found["sentences"])


def test_intervals_are_those_of_the_paired_bootstrap_of_one_target(done: Done) -> None:
    rows = [row for row in done.rows() if row["corpus"] == "yy" and row["minutes"] == 0.2]
    sides = {
        name: sorted((r for r in rows if r["learner"] == name), key=lambda r: (r["seed"], r["id"]))
        for name in ("lora", "scratch")
    }
    own = sides["lora"]
    clusters, _ = clusters_of([row["speaker"] for row in own], [row["said"] for row in own])
    expected = paired_bootstrap(
        [row["char_errors"] for row in sides["scratch"]], [row["char_errors"] for row in own],
        per=[row["chars"] for row in own], clusters=list(clusters), seed=3,
    )  # fmt: skip
    found = MEASURE.compare(sides, "scratch", 5)[0]
    assert found["difference"] == pytest.approx(expected.difference)
    width = expected.high - expected.low
    assert [found["low"], found["high"]] == pytest.approx([expected.low, expected.high], abs=0.1 * width)


# ------------------------------------------------------------------------------------------------------------ fairness


def test_everybody_is_asked_about_the_same_utterances_after_the_same_draws(done: Done) -> None:
    asked: dict[str, list[Any]] = defaultdict(list)
    for row in done.rows():
        asked[row["learner"]].append((row["corpus"], row["minutes"], row["seed"], row["id"], row["said"]))
    assert set(asked) == set(cases.LEARNERS)
    assert all(sorted(items) == sorted(asked["scratch"]) for items in asked.values())
    assert len(set(asked["scratch"])) == len(asked["scratch"]) == 2 * 2 * 2 * 12


def test_supports_are_the_same_for_everybody(done: Done) -> None:
    """What is read in the test and is no test utterance is the support."""
    tested = {row["id"] for row in done.rows()}
    supports: dict[tuple[str, str], list[frozenset[str]]] = defaultdict(list)
    for fold, learner, tests, ids in done.heard:
        if tests and not ids & tested:
            supports[fold, learner].append(frozenset(ids))
    for fold in done.document["folds"]:
        assert len(supports[fold, "scratch"]) == 4  # two draws of each of two numbers of minutes
        assert all(supports[fold, name] == supports[fold, "scratch"] for name in cases.LEARNERS)


def test_no_test_utterance_is_heard_before_the_choice_is_made(done: Done) -> None:
    for fold in done.document["folds"]:
        tested = {row["id"] for row in done.rows() if row["fold"] == fold}
        before = [ids for at, _, tests, ids in done.heard if at == fold and not tests]
        after = [ids for at, _, tests, ids in done.heard if at == fold and tests]
        assert before
        assert not any(ids & tested for ids in before)
        assert any(ids & tested for ids in after)


def test_everybody_has_as_many_trials_and_as_much_time(done: Done) -> None:
    for fold in done.document["folds"]:
        for name in cases.LEARNERS:
            trials = done.file(fold, name, "trials.json")["trials"]
            result = done.file(fold, name, "result.json")
            assert result["trials"] == len(trials) == 2
            trains = name in ("joint", "conditioned")
            assert trials[0]["settings"] == space_for(name, shared=not trains)[1]
            assert trials[1]["settings"] != trials[0]["settings"]
            best = min(trials, key=lambda trial: trial["validation"])
            assert result["chosen"] == best["settings"]
            assert {LR in trial["settings"] for trial in trials} == {trains}
            assert all(("cpu_s" in trial) is trains for trial in trials)
            if trains:
                assert min(trial["cpu_s"] for trial in trials) >= 60 * done.recipe.compare.minutes - 0.05
            steps = result["costs"]["adapt_steps"]
            assert steps == (0 if name == "conditioned" else 6)


def test_what_two_adapt_was_learned_once(done: Done) -> None:
    for fold in done.document["folds"]:
        ours, theirs = (done.file(fold, name, "result.json") for name in ("lora", "joint"))
        assert ours["shares"] == "joint"
        assert ours["training"] == theirs["training"]
        assert not (cell_folder(done.out, Cell(fold, "lora")) / "model").exists()
        kept = load_recogniser(cell_folder(done.out, Cell(fold, "joint")) / "model")
        start = load_recogniser(done.base)
        assert any(not torch.equal(v, start.net.state_dict()[k]) for k, v in kept.net.state_dict().items())
        assert set(kept.about["languages"]) == {"xx", "yy", "zz"} - {fold.split("-")[1]}


# -------------------------------------------------------------------------------------------------------------- resume


def test_a_second_call_learns_nothing_and_a_lost_cell_is_done_again(done: Done, tmp_path: Path) -> None:
    out = shutil.copytree(done.out, tmp_path / "out")
    again: list[Cell] = []

    def run(out: Path, cell: Cell) -> None:
        again.append(cell)
        shutil.copytree(cell_folder(done.out, cell), cell_folder(out, cell))

    assert run_comparison(done.recipe, out, 0, run=run) == done.document
    assert not again
    lost = cells_of(make_plan(done.recipe))[3]
    shutil.rmtree(cell_folder(out, lost))
    assert run_comparison(done.recipe, out, 0, run=run) == done.document
    assert again == [lost]
    fewer = done.recipe.compare.model_copy(update={"learners": ("joint",)})
    found = run_comparison(
        done.recipe.model_copy(update={"compare": fewer}), out, 0, run=lambda *_: pytest.fail("anew")
    )
    assert found["learners"] == ["joint", "fine-tune", "scratch"]
    changed = done.recipe.compare.model_copy(update={"adapt_steps": 7})
    with pytest.raises(InputError, match="another compare section"):
        run_comparison(done.recipe.model_copy(update={"compare": changed}), out, 0)


def test_a_base_that_changed_in_between_is_refused(done: Done, tmp_path: Path) -> None:
    start = cases.base(tmp_path / "base")
    recipe = load_comparison(cases.recipe(tmp_path, done.places, start, learners=["fine-tune"]))
    out = tmp_path / "out"

    def run(out: Path, cell: Cell) -> None:
        shutil.copytree(cell_folder(done.out, cell), cell_folder(out, cell))

    run_comparison(recipe, out, 0, run=run)
    recipe = load_comparison(cases.recipe(tmp_path, done.places, start, learners=["fine-tune", "lora"]))
    other = load_recogniser(start)
    torch.nn.init.zeros_(other.net.head.bias)
    cases.save_recogniser(start, other)
    with pytest.raises(InputError, match=f"began with another base than {start} is now"):
        run_comparison(recipe, out, 0, run=lambda *_: pytest.fail("computed before it was looked at"))


def test_words_and_transcription_do_not_share_a_folder(done: Done, tmp_path: Path) -> None:
    import comparisons

    words = load_comparison(comparisons.recipe(tmp_path, done.places))
    with pytest.raises(InputError, match="holds a comparison of another kind"):
        transcription_trials.read_recipe(done.out, type(words))
    assert isinstance(transcription_trials.read_recipe(done.out, TranscriptionComparison), TranscriptionComparison)


# ----------------------------------------------------------------------------------------------- what cannot be learned


def test_what_gives_no_result_is_a_note_and_no_error(done: Done, tmp_path: Path, monkeypatch: Any) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise InputError("20 steps in a row had a gradient that is not finite.")

    monkeypatch.setattr(transcription_trials, "learned", refused)
    monkeypatch.setenv("METAVOX_CACHE", str(done.out.parent / "cache"))
    out = shutil.copytree(done.out, tmp_path / "out")
    for name in ("joint", "lora"):
        for fold in done.document["folds"]:
            shutil.rmtree(cell_folder(out, Cell(fold, name)))
    found = run_comparison(done.recipe, out, 0)
    assert {row["learner"] for row in found["standings"]} == {"fine-tune", "scratch", "conditioned"}
    text = " ".join(found["sentences"])
    assert "joint in fold 1-yy: It gave no result: 20 steps in a row" in text
    assert "lora in fold 1-yy: It gave no result: The training of joint, which it shares, came to nothing." in text
    assert "joint gave no result to stand beside" in text


def test_settings_are_chosen_on_what_the_test_does_not_hold(done: Done) -> None:
    for place in done.places[1:]:
        split, within = splits_of(done.recipe, load_corpus(place))
        inside = {u.id for u in (*within.test, *within.pool)}
        assert inside <= {u.id for u in split.pool}
        assert not inside & {u.id for u in split.test}


def test_what_learning_hears_is_proved_to_be_none_of_the_target(done: Done, monkeypatch: Any) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(done.out.parent / "cache"))
    fold = make_plan(done.recipe).folds[0]
    base, utterances = load_recogniser(done.base), load_corpus(fold.path)
    data = fold.experiment.data
    for left_in, said in (({"leave_out_corpora": ()}, "is heard in training and in the test"),
                          ({}, "a language of the test")):  # fmt: skip
        other = {**left_in, "leave_out_languages": ()}
        experiment = fold.experiment.model_copy(update={"data": data.model_copy(update=other)})
        languages = fold.languages if left_in else ("xx",)
        with pytest.raises(InputError, match=said):
            spoken_for(replace(fold, experiment=experiment, languages=languages), base, utterances, ())
