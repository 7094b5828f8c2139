"""What is compared for transcription: bases that did not hear their targets, targets that can be asked, who shares."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import recogniser_comparisons as cases
import tonal

from metavox.comparing.transcription_plan import make_plan, sharing, space_for
from metavox.config import load_comparison
from metavox.contracts import InputError
from metavox.text.symbols import UNIVERSAL
from metavox.transcription.models import adapted, load_recogniser, save_adapted
from metavox.transcription.shelf import ADAPT_LR, SHELF


@dataclass
class Given:
    """Corpora, a base that heard the first of them, and a recipe of both."""

    places: list[Path]
    base: Path
    recipe: Any


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    root = tmp_path_factory.mktemp("plans")
    places, base = cases.corpora(root), cases.base(root / "base")
    return Given(places, base, load_comparison(cases.recipe(root, places, base)))


def test_who_shares_what() -> None:
    assert sharing(["joint", "lora", "conditioned-tuned"]) == {"lora": "joint"}
    assert sharing(["lora", "adapters", "conditioned-tuned", "conditioned"]) == {
        "adapters": "lora", "conditioned-tuned": "conditioned"
    }  # fmt: skip
    assert sharing([name for name in SHELF if not SHELF[name].shares]) == {}
    for name in SHELF:
        shared, own = (space_for(name, shared=flag)[0] for flag in (True, False))
        assert set(shared) == set(own) & {ADAPT_LR}


# ---------------------------------------------------------------------------------------------------------------- bases


def refused(given: Given, folder: Path, start: Path | str, places: list[Path] | None = None, **compare: Any) -> str:
    path = cases.recipe(folder, places or given.places, Path(start), **compare)
    with pytest.raises(InputError) as err:
        make_plan(load_comparison(path))
    return str(err.value)


def test_a_base_that_heard_its_target_is_refused(given: Given, tmp_path: Path) -> None:
    spoke = cases.base(tmp_path / "spoke", languages=["xx", "yy"])
    said = refused(given, tmp_path, spoke)
    assert said == (
        f"{spoke} heard the language yy of yy, and a base must not know its target; train one with "
        "data.leave_out_languages=[yy], or name another."
    )
    heard = cases.base(tmp_path / "heard", corpora=["known", "zz"])
    assert f"{heard} heard zz, and a base must not know its target" in refused(given, tmp_path, heard)
    child = cases.base(tmp_path / "child", init=str(spoke))
    assert "heard the language yy" in refused(given, tmp_path, child)


def test_what_is_not_known_of_a_base_is_a_note(given: Given, tmp_path: Path) -> None:
    silent = cases.base(tmp_path / "silent", corpora=None, languages=None)
    orphan = cases.base(tmp_path / "orphan", init=str(tmp_path / "gone"))
    for start, said in ((silent, "is not recorded"), (orphan, "is not here: what that heard cannot be said")):
        plan = make_plan(load_comparison(cases.recipe(tmp_path, given.places, start)))
        assert all(any(said in note for note in fold.notes) for fold in plan.folds)
    assert all(not fold.notes for fold in make_plan(given.recipe).folds)


def test_an_adapted_recogniser_is_no_base(given: Given, tmp_path: Path) -> None:
    start = load_recogniser(given.base)
    save_adapted(tmp_path / "mine", adapted(start, {"head.bias": start.net.head.bias.detach() + 1}, UNIVERSAL))
    assert "was adapted to a language or voice" in refused(given, tmp_path, tmp_path / "mine")
    assert "holds no recogniser" in refused(given, tmp_path, tmp_path / "nowhere")


def test_a_target_of_too_little_is_named(given: Given, tmp_path: Path) -> None:
    said = refused(given, tmp_path, given.base, support_minutes=[0.1, 50])
    assert said.startswith("compare.support_minutes is 50 and yy has ")
    said = refused(given, tmp_path, given.base, support_minutes=[0.001])
    assert said == "compare.support_minutes is 0.001, which is fewer than 3 recordings of yy; ask for more."
    few = tonal.corpus(tmp_path / "few", tonal.texts(20, 5), speakers=cases.SPEAKERS, lang="ff")
    said = refused(given, tmp_path, given.base, [given.places[0], few])
    assert said.startswith("few has 20 recordings by 6 speakers, too few for a test of 10 utterances")


@pytest.mark.parametrize(
    ("text", "said"),
    [(" ", "zz cannot be a target: 1 of 84 recordings have an empty text"),
     ("nu 7", "zz cannot be a target: 1 of 84 texts cannot be written (row 1: ")],
)  # fmt: skip
def test_a_text_that_cannot_be_used_is_found_at_the_start(given: Given, tmp_path: Path, text: str, said: str) -> None:
    """In the last fold, whose first cell would be the first to read it."""
    place = shutil.copytree(given.places[2], tmp_path / "zz")
    rows = [json.loads(line) for line in (place / "manifest.jsonl").read_text().splitlines()]
    rows[0]["text"] = text
    (place / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert refused(given, tmp_path, given.base, [*given.places[:2], place]).startswith(said)


def test_a_target_named_by_its_manifest_leaves_training(given: Given, tmp_path: Path) -> None:
    folds = [{"target": str(given.places[1] / "manifest.jsonl"), "base": str(given.base)}]
    plan = make_plan(load_comparison(cases.recipe(tmp_path, given.places, given.base, folds=folds)))
    assert plan.folds[0].name == "1-yy"
    assert plan.folds[0].experiment.data.leave_out_corpora == (str(given.places[1]),)
