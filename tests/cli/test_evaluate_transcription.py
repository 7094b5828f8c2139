"""``metavox evaluate --protocol transcription`` as a user types it, on tones: what it prints, writes and refuses."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import sounds
import tones

from metavox.cli import main
from metavox.config.transcription import RecogniserConfig
from metavox.contracts import FrontEnd, Transcribed
from metavox.learners.sequence import Tuning
from metavox.text.symbols import UNIVERSAL
from metavox.transcription import plans
from metavox.transcription.adapting import Plan
from metavox.transcription.models import Recognition, new_net, save_recogniser

FRONT_END = FrontEnd(n_mels=64, n_frames=None, crop=False, normalize=False)
ASK = ["--protocol", "transcription", "--minutes", "0", "--minutes", "0.2", "--minutes", "0.4", "--seeds", "2"]


def sentences(root: Path, n: int, speakers: int = 3, first: int = 0, seed: int = 0, **facts: Any) -> Path:
    """A corpus of tones: letters a to e in words of two or three, a few words each; a speaker is louder or not."""
    rng = np.random.default_rng([seed, first])
    rows, said = [], set()
    while len(rows) < n:
        text = " ".join("".join(rng.choice(list("abcde"), rng.integers(2, 4))) for _ in range(rng.integers(2, 4)))
        if text in said:
            continue
        said.add(text)
        number, loudness = first + len(rows), 0.3 + 0.2 * (len(rows) % speakers)
        wave = np.pad(loudness * tones.write_tones(text), 800)
        wave += 1e-3 * rng.standard_normal(len(wave)).astype(np.float32)
        sounds.write(root / f"{number:03}.wav", wave)
        row = {"audio_filepath": f"{number:03}.wav", "duration": len(wave) / tones.RATE_HZ, "text": text}
        rows.append(row | {"speaker": f"s{len(rows) % speakers}", "lang": "xx"} | facts)
    lines = [json.dumps({key: value for key, value in row.items() if value is not None}) + "\n" for row in rows]
    (root / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shelf")
    sentences(root / "tones", 60)
    sentences(root / "one", 14, 1)
    sentences(root / "others", 20, 12, first=100, seed=5)
    sentences(root / "few", 9, 12, first=100, seed=6)
    sentences(root / "digits", 40, text="nr 7")
    sentences(root / "silent", 40, text="")
    sentences(root / "same", 40, text="abc")
    config = RecogniserConfig(front_end=FRONT_END, channels=16, blocks=1, dim=16, dropout=0.0)
    base = Recognition(new_net(config, 1), UNIVERSAL, "tiny", "", {"corpora": ["others"], "languages": ["en"]})
    save_recogniser(root / "tiny", base)
    return root


class Said(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def evaluate(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("METAVOX_DATA", str(shelf))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, model: str | Path = shelf / "tiny") -> Said:
        monkeypatch.setattr(sys, "argv", ["metavox", "evaluate", str(model), *arguments])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return call


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What would be adapted is disturbed instead, a little or much; the calls are kept."""
    calls = []

    def adapted_by(name: str, base: Recognition, support: Transcribed, seed: int) -> Recognition:
        calls.append((name, len(support), seed))
        net = new_net(base.net.config, seed)
        bias = base.net.head.bias.detach().clone()
        bias[0 if name == "metavox" else 5] += 3.0
        net.load_state_dict({**base.net.state_dict(), "head.bias": bias})
        return replace(base, net=net)

    monkeypatch.setattr(plans, "adapted_by", adapted_by)
    return calls


def test_what_is_printed_is_json_and_what_is_written_are_its_rows(
    evaluate: Callable[..., Said], no_training: list[Any], tmp_path: Path, shelf: Path
) -> None:
    compared = ["--compare", "fine-tune", "--compare", "scratch"]
    said = evaluate(*ASK, "--corpus", "tones", *compared, "--rows", "out/rows.jsonl", "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert [call[::2] for call in no_training[:3]] == [("metavox", 0), ("fine-tune", 0), ("scratch", 0)]
    assert len(no_training) == 3 * 2 * 2
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    n = found["n_test"]
    assert len(rows) == n * (2 + 3 * 2 * 2)
    for point in found["curve"]:
        some = [r for r in rows if (r["learner"], r["minutes"]) == (point["learner"], point["minutes"])]
        assert point["n"] == len(some)
        assert point["cer"] == pytest.approx(sum(r["char_errors"] for r in some) / sum(r["chars"] for r in some))
        assert point["cer_ci95"][0] <= point["cer"] <= point["cer_ci95"][1]
    expected = {
        "protocol": "transcription", "model": "tiny", "corpus": "tones", "test_corpus": None, "seeds": 2,
        "learners": ["metavox", "fine-tune", "scratch"], "minutes": [0.0, 0.2, 0.4], "split": "speaker",
        "split_seed": 0, "clustered_by": "sentence", "alphabet": "roman", "languages": ["xx"],
        "seen_in_training": False, "language_seen_in_training": False, "n_shared_speakers": 0, "max_test": 200,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert found["normalisation"].startswith("Texts were brought to Unicode NFC")
    assert set(found["adapt_seconds"]) == {"metavox", "fine-tune", "scratch"}
    assert set(found["adapt_seconds"]["scratch"]) == {"0.2", "0.4"}
    assert found["plans"]["scratch"]["from_scratch"] is True
    assert found["plans"]["metavox"]["plan"]["tuning"]["steps"] == plans.WAYS["metavox"].plan.tuning.steps
    assert [("versus" in point, "p_holm" in point) for point in found["area"]] == [(False,) * 2, *[(True,) * 2] * 2]
    again = evaluate(*ASK, "--corpus", str(shelf / "tones"), *compared, "--json")
    other = json.loads(again.out)
    assert {**other, "adapt_seconds": None} == {**found, "adapt_seconds": None}


def test_a_table_and_sentences_are_for_people(evaluate: Callable[..., Said], no_training: list[Any]) -> None:
    said = evaluate(*ASK, "--corpus", "tones", "--compare", "scratch", "--max-test", "12")
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert max(map(len, lines[:8])) <= 80
    assert lines[0].split() == ["character", "errors,", "%", "0", "min", "0.2", "min", "0.4", "min"]
    assert lines[1].split()[0] == "metavox"
    assert lines[1].count("±") == 3
    assert lines[2].split()[:2] == ["scratch", "-"]
    assert lines[4].startswith("word errors, %")
    text = said.out
    assert "character errors than scratch over 0.2 and 0.4 min (gain " in text
    assert "Tested on 12 utterances of 1 speaker (of 20, by chance) of tones split by speaker; supports are 2" in text
    assert "Intervals (95 %) resample 12 sentences of the test." in text
    assert "adapting" in said.err
    assert "adapting" not in text


def test_a_test_corpus_of_its_own(evaluate: Callable[..., Said], no_training: list[Any]) -> None:
    arguments = [*ASK, "--corpus", "tones", "--test-corpus", "others"]
    found = json.loads(evaluate(*arguments, "--json").out)
    assert (found["test_corpus"], found["split"], found["n_test"]) == ("others", "test corpus", 20)
    assert (found["clustered_by"], found["n_clusters"], found["n_shared_speakers"]) == ("speaker", 12, 3)
    assert found["seen_in_training"] is True
    text = evaluate(*arguments).out
    assert "20 utterances of 12 speakers of others, adapted to tones" in text
    assert "3 speakers are both in the support and in the test." in text
    assert "The model heard this corpus in training." in text


def test_that_nothing_was_gained_is_said(evaluate: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "adapted_by", lambda name, base, support, seed: base)
    said = evaluate(*ASK, "--corpus", "tones", "--compare", "fine-tune")
    assert "Adaptation did not help here: metavox is no better after 0.4 min than the model as it is." in said.out
    assert "0.0 % fewer character errors than fine-tune" in said.out
    assert "they cannot be told apart" in said.out


def test_another_seed_is_another_split(evaluate: Callable[..., Said], no_training: list[Any], tmp_path: Path) -> None:
    tested = []
    for seed in ("0", "1", "2", "3"):
        assert evaluate(*ASK[:4], "--corpus", "tones", "--seed", seed, "--rows", "rows.jsonl").status == 0
        tested.append({json.loads(line)["speaker"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()})
    assert len({tuple(sorted(who)) for who in tested}) > 1
    assert no_training == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--corpus", "tones", "--minutes", "10"], "--minutes is 10 and the recordings to adapt to last 0."),
        (["--corpus", "one", "--minutes", "0"], "14 recordings of 14 sentences by one speaker, which leave 5 utter"),
        (["--corpus", "same", "--minutes", "0"], "The test says everything that the other 27 recordings say"),
        (["--corpus", "silent", "--minutes", "0"], "40 of 40 recordings have an empty text (000, 001, 002, ...)"),
        (["--corpus", "digits", "--test-corpus", "others", "--minutes", "0"], "row 1: 'nr 7'"),
        (["--corpus", "tones", "--test-corpus", "few", "--minutes", "0"], "has 9 utterances and 10 are the least"),
        (["--corpus", "tones", "--test-corpus", "tones", "--minutes", "0"], "000.wav is also "),
        (["--corpus", "tones", "--test-corpus", "nowhere"], "Corpus nowhere is no folder here"),
        (["--corpus", "tones", "--corpus", "one"], "--corpus is given 2 times and transcription adapts to one"),
        (["--corpus", "tones", "--lang", "klingon"], "--lang is 'klingon', which is no language code"),
        (["--corpus", "tones", "--lang", "ml"], "--lang is 'ml' and none of the 60 recordings is in it; choose one of"),
        (["--corpus", "tones", "--compare", "finetune"], "no learner 'finetune' for transcription; did you mean fine-"),
        (["--corpus", "tones", "--learner", "maml"], "no learner 'maml' for transcription; "),
        (["--corpus", "tones", "--compare", "metavox"], "Learner metavox is named twice"),
        (["--corpus", "tones", "--minutes", "-1"], "--minutes is -1.0; give 0 or more"),
        (["--corpus", "tones", "--minutes", "nan"], "--minutes is nan"),
        (["--corpus", "tones", "--minutes", "0.01"], "and 3 are the least to adapt to"),
        (["--corpus", "tones", "--minutes", "0", "--compare", "scratch"], "where all learners are the base"),
        (
            ["--corpus", "tones", "--ways", "5"],
            "--ways belongs to --protocol commands, open-set, incremental, noise or owner and",
        ),
        (["--corpus", "tones", "--max-test", "9"], "'--max-test'"),
        (["--corpus", "tones", "--seeds", "0"], "'--seeds'"),
        (["--corpus", "tones", "--minutes", "0", "--rows", "."], "is a folder; name a file in it"),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence(
    evaluate: Callable[..., Said], no_training: list[Any], tmp_path: Path, arguments: list[str], said: str
) -> None:
    found = evaluate("--protocol", "transcription", *arguments)
    assert (found.status, found.out) == (2, "")
    assert found.err.startswith("metavox: ")
    assert said in found.err
    assert found.err.count("\n") == 1
    assert found.err.strip().endswith((".", "?"))
    assert no_training == []
    assert list(tmp_path.iterdir()) == []


def test_a_model_must_be_a_recogniser(evaluate: Callable[..., Said], shelf: Path) -> None:
    assert "holds no recogniser" in evaluate(*ASK, "--corpus", "tones", model=shelf / "tones").err
    assert "no bundled model" in evaluate(*ASK, "--corpus", "tones", model="metavox/nothing").err


@pytest.mark.parametrize("option", ["test-corpus", "minutes", "seeds", "compare", "max-test", "lang"])
def test_options_of_transcription_are_refused_for_commands(evaluate: Callable[..., Said], option: str) -> None:
    found = evaluate("--corpus", "tones", f"--{option}", "12", model="dtw")
    assert found.status == 2
    assert f"--{option} belongs to --protocol transcription and not to commands" in found.err


@pytest.mark.slow
def test_tones_are_learned_from_a_minute_of_them(
    evaluate: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From end to end, with a network that was never trained: what it adapts to long enough it spells."""
    sentences(tmp_path / "more", 120, 4)
    tuning = Tuning(lr=1e-2, batch_frames=2_000, warmup=20)
    for name, steps in (("metavox", 250), ("fine-tune", 20)):
        plan = Plan(replace(tuning, steps=steps), augment=False, held_out=0.0)
        monkeypatch.setitem(plans.WAYS, name, replace(plans.WAYS[name], plan=plan))
    said = evaluate(
        "--protocol", "transcription", "--corpus", str(tmp_path / "more"), "--minutes", "0", "--minutes", "1",
        "--seeds", "1", "--compare", "fine-tune", "--json",
    )  # fmt: skip
    assert said.status == 0, said.err
    found = json.loads(said.out)
    cer = {(point["learner"], point["minutes"]): point["cer"] for point in found["curve"]}
    assert cer["metavox", 0.0] == cer["fine-tune", 0.0] > 0.8
    assert cer["metavox", 1.0] < 0.2 < cer["fine-tune", 1.0]
    compared = found["area"][1]
    assert compared["relative_gain_ci95"][0] > 0.5
    assert compared["p_holm"] < 0.01
