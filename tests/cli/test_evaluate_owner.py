"""The protocol owner on the command line: a fusion fitted on one corpus, and owners of another."""

import json
from pathlib import Path

import pytest
from calling import Metavox
from uttered import corpus

WORDS = ("open", "close", "light")
SHAPE = ("--ways", 2, "--shots", 2, "--queries", 1, "--episodes", 3)


@pytest.fixture
def evaluated(metavox: Metavox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Metavox:
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path / "dev", (1, 2, 4), WORDS, 3)
    corpus(tmp_path / "test", (5, 6, 7), WORDS, 3)

    def call(*arguments: object) -> object:
        return metavox("evaluate", "dtw", "--protocol", "owner", "--voices", "mfcc", *SHAPE, *arguments)

    return call  # type: ignore[return-value]


def test_a_fusion_is_fitted_on_one_corpus_and_owners_of_another_are_scored(evaluated: Metavox, tmp_path: Path) -> None:
    fitted = evaluated("--corpus", "dev", "--fit-fusion", "fusion.json")
    assert fitted.status == 0, fitted.err
    document = json.loads((tmp_path / "fusion.json").read_text())
    assert [len(one["features"]) for one in document["fusions"]] == [4, 3]
    assert document["fusions"][0]["about"]["corpora"] == ["dev"]
    said = evaluated("--corpus", "test", "--fusion", "fusion.json", "--rows", "rows.jsonl", "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert found["metric"] == "owner_only_eer"
    assert 0 <= found["mean"] <= 1
    assert (found["n_owners"], found["n_impostors"]) == (3, 3)
    assert found["n"] == len((tmp_path / "rows.jsonl").read_text().splitlines())
    assert {"fusion_eer_other_target", "product_eer_owner_only", "gain_eer_owner_only_over_word_ci95"} <= set(found)
    shown = evaluated("--corpus", "test", "--fusion", "fusion.json")
    assert shown.status == 0
    assert "owner only, less than product by" in shown.out
    seen = evaluated("--corpus", "dev", "--fusion", "fusion.json")
    assert seen.status == 2
    assert "The fusion was fitted on dev, which is in --corpus too" in seen.err


def test_what_cannot_be_scored_is_refused(evaluated: Metavox, metavox: Metavox, tmp_path: Path) -> None:
    for arguments, sentence in (
        (("--corpus", "test"), "mfcc has no calibration and no fusion"),
        (("--corpus", "test", "--shots", 9, "--fit-fusion", "f.json"), "Ask for fewer shots or record more takes."),
        (("--corpus", "test", "--fusion", "a", "--fit-fusion", "b"), "give one of them"),
        (("--corpus", "test", "--fusion", "none.json"), "cannot be read as JSON"),
        (("--corpus", "test", "--fit-fusion", "test"), "is a folder"),
        (("--corpus", "test", "--text", "any"), "--text belongs to --protocol verification"),
    ):
        said = evaluated(*arguments)
        assert said.status == 2
        assert sentence in said.err
    (tmp_path / "other.json").write_text("[]")
    assert "holds no fusion" in evaluated("--corpus", "test", "--fusion", "other.json").err
    other = metavox("evaluate", "dtw", "--corpus", "test", "--voices", "mfcc")
    assert "--voices belongs to --protocol owner" in other.err
