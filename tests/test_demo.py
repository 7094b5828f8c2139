"""The demo end to end on synthetic words alone, small: everything it promises is left behind and hangs together."""

import json
from pathlib import Path

import pytest

from metavox import demo
from metavox.contracts import InputError
from metavox.runtime.commands import CommandRecognizer

pytestmark = pytest.mark.synth


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, demo.DemoResult]:
    pytest.importorskip("espeakng_loader")
    patch = pytest.MonkeyPatch()
    patch.delenv("METAVOX_DATA", raising=False)
    patch.setenv("METAVOX_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setattr(demo, "SYNTH", {"languages": ["de", "sw", "tr"], "n_words": 14, "n_voices": 6})
    patch.setattr(demo, "N_EPISODES", 8)
    patch.setattr(demo, "N_SLOW_EPISODES", 4)
    patch.setattr(demo, "N_ENROLMENTS", 2)
    out = tmp_path_factory.mktemp("demo") / "out"
    try:
        return out, demo.run_demo(out, minutes=0.05, seed=0, report=lambda what, done, total, note="": None)
    finally:
        patch.undo()


def test_every_learner_is_scored_with_every_number_of_takes(finished: tuple[Path, demo.DemoResult]) -> None:
    _, result = finished
    cells = {(row["model"], row["shots"]) for row in result.overall}
    assert cells == {(title, k) for title in demo.TITLES.values() for k in demo.SHOTS}
    assert set(result.absent) == set(demo.REAL)


def test_no_learner_heard_a_word_of_the_languages_left_out(finished: tuple[Path, demo.DemoResult]) -> None:
    out, _ = finished
    rows = [json.loads(line) for line in (out / "rows.jsonl").open(encoding="utf-8")]
    assert {row["label"].split(":")[0] for row in rows} == {"sw", "tr"}
    for name in demo.TRAINED:
        drawn = json.loads((out / name / "drawn.json").read_text(encoding="utf-8"))
        assert {word.split(":")[0] for word in drawn["classes"]} == {"de"}


def test_learners_meet_the_same_episodes(finished: tuple[Path, demo.DemoResult]) -> None:
    out, _ = finished
    rows = [json.loads(line) for line in (out / "rows.jsonl").open(encoding="utf-8")]
    first = {}
    for row in rows:
        if row["episode"] == 0:
            first.setdefault((row["model"], row["shots"]), []).append((row["corpus"], row["item"]))
    for k in demo.SHOTS:
        assert len({tuple(items) for (_, shots), items in first.items() if shots == k}) == 1


def test_the_report_and_the_profile_can_be_used(finished: tuple[Path, demo.DemoResult]) -> None:
    out, result = finished
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(title in page for title in demo.TITLES.values())
    lines = [json.loads(line) for line in (out / "results.jsonl").open(encoding="utf-8")]
    assert {line["kind"] for line in lines} == {"summary", "overall", "paired", "enrolment", "reliability"}
    (asked,) = (line for line in lines if line["kind"] == "reliability")
    assert (asked["n"], asked["n_unknown"], asked["n_enrolments"]) == (40, 20, 2)
    assert "After 2 enrolments of 5 words" in page
    house = CommandRecognizer.from_pretrained(out / "profile")
    assert len(house.labels_) == demo.N_ENROLLED
    assert ", ".join(house.labels_) in result.enrolment_sentence
    assert not (out / "demo.part").exists()


def test_a_folder_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="give another --out"):
        demo.run_demo(tmp_path, minutes=0.1, seed=0, report=lambda *_: None)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
