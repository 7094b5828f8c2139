"""``metavox evaluate --protocol incremental`` as a user types it: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
import sounds
from calling import Metavox

from metavox.data.episodes import EpisodeSpec
from metavox.evaluation.incremental import IncrementalProtocol, summary

SHAPE = ["--ways", 4, "--shots", 2, "--queries", 1, "--episodes", 3, "--seed", 5, "--per-session", 1]


@pytest.fixture
def evaluate(metavox: Metavox) -> Metavox:
    return lambda model, *arguments: metavox("evaluate", model, "--protocol", "incremental", *arguments)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shelf")
    sounds.manifest_corpus(root / "five", sounds.WORDS[:5], sounds.SPEAKERS[:2], 2)
    sounds.manifest_corpus(root / "three", sounds.WORDS[5:8], sounds.SPEAKERS[:2], 2)
    return root


def test_a_summary_can_be_computed_again_from_the_rows(evaluate: Metavox, shelf: Path, tmp_path: Path) -> None:
    ask = ["--corpus", shelf / "five", *SHAPE, "--json"]
    said = evaluate("dtw", *ask, "--out", tmp_path / "rows.jsonl")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    expected = {"metric": "accuracy", "words_by_session": [2, 3, 4], "base": 2, "per_session": 1, "ways": 4,
                "extend_equals_adapt": True, "extend_changed_answers": 0, "corpus": "five", "n": 3 * 9}  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert found["mean"] > 0.7
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    again = summary(rows, IncrementalProtocol(EpisodeSpec(4, 2, 1), 3, 5, base=2, per_session=1))
    assert {key: found[key] for key in again} == again
    assert evaluate("dtw", *ask).out == said.out


def test_the_text_is_a_table_by_session(evaluate: Metavox, shelf: Path) -> None:
    said = evaluate("dtw", "--corpus", shelf / "five", "--corpus", shelf / "three", *SHAPE)
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert lines[1].split() == ["words", "known", "2", "3", "4"]
    assert [line[:12].strip() for line in lines[2:5]] == ["all so far", "the newest", "the first"]
    assert lines[7].split() == ["words", "known", "2", "3"]
    assert lines[-1].startswith("mean over sets, over sessions ")
    assert "three: 3 classes have enough takes, fewer than the 4 ways asked for; all 3 are used." in said.err


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("scratch", [], "Model scratch has a learner that cannot gain a word without the takes of the others"),
        ("dtw", ["--base", "4"], "The first session has 4 words and there are 4 in all, so that none is added"),
        ("dtw", ["--far", "0.1"], "--far belongs to --protocol open-set and not to incremental"),
        ("dtw", ["--shots", "4"], "0 of 5 classes have the 5 takes"),
        ("dtw", ["--minutes", "1"], "--minutes belongs to --protocol transcription and not to incremental"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    evaluate: Metavox, shelf: Path, model: str, options: list[str], said: str
) -> None:
    found = evaluate(model, "--corpus", shelf / "five", *SHAPE, *options)
    assert (found.status, found.out) == (2, "")
    assert found.err.startswith(f"metavox: {said}")
    assert found.err.count("\n") == 1


def test_too_few_words_for_a_second_session_are_refused(evaluate: Metavox, shelf: Path) -> None:
    found = evaluate("dtw", "--corpus", shelf / "three", *SHAPE, "--base", 3)
    assert found.status == 2
    assert "The first session has 3 words and there are 3 in all" in found.err
