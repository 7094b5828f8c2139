"""The verb that calibrates an encoder of voices: our baseline, an ONNX file, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from calling import Metavox
from voicing import say

from metavox.voices.encoders import load_voices


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten speakers with three clips each."""
    folder = tmp_path_factory.mktemp("people")
    rows = []
    for person in range(10):
        for take in range(3):
            soundfile.write(folder / f"{person}-{take}.wav", say(7000 + person, take, 1.0), 16_000)
            rows.append(
                {"audio_filepath": f"{person}-{take}.wav", "duration": 1.0, "text": "", "speaker": f"s{person}"}
            )
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_a_baseline_becomes_a_model_with_ratios(metavox: Metavox, people: Path, tmp_path: Path) -> None:
    said = metavox("speaker", "calibrate", "mfcc", "--corpus", people, "--out", tmp_path / "voices", "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert found["speakers"] == 10
    assert found["clips"] == 30
    model = load_voices(tmp_path / "voices")
    assert model.hash == found["hash"]
    assert model.cohort.shape == (10, 40)
    heard = model.hear([say(1, take, 1.0) for take in range(2)])
    assert np.isfinite(model.llr([heard.at([0])], heard.at([1]))).all()
    # again, from the model and in its place
    again = metavox("speaker", "calibrate", tmp_path / "voices", "--corpus", people, "--out", tmp_path / "voices")
    assert again.status == 0, again.err
    assert "left out of the fit: EER" in again.out
    assert load_voices(tmp_path / "voices").hash == model.hash


def test_an_onnx_file_goes_with_its_calibration(metavox: Metavox, people: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    table = np.random.default_rng(0).standard_normal((80, 12)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Abs", ["feats"], ["size"]),
            helper.make_node("ReduceMean", ["size"], ["pooled"], axes=[1], keepdims=0),
            helper.make_node("MatMul", ["pooled", "table"], ["embs"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("feats", TensorProto.FLOAT, ["B", "T", 80])],
        [helper.make_tensor_value_info("embs", TensorProto.FLOAT, ["B", 12])],
        [numpy_helper.from_array(table, "table")],
    )
    (tmp_path / "from").mkdir()
    path = tmp_path / "from" / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    said = metavox("speaker", "calibrate", path, "--corpus", people, "--out", tmp_path / "voices")
    assert said.status == 0, said.err
    path.unlink()  # the model folder stands alone, and can move
    (tmp_path / "voices").rename(tmp_path / "moved")
    model = load_voices(tmp_path / "moved")
    assert model.encoder.dim == 12
    assert model.ratios is not None
    (tmp_path / "moved" / "tiny.onnx").write_bytes(b"another")
    assert "cannot be read" in metavox("speaker", "calibrate", tmp_path / "moved", "--corpus", people, "--out", "x").err


def test_a_model_folder_that_was_changed_is_refused(metavox: Metavox, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "voices"
    assert metavox("speaker", "calibrate", "mfcc", "--corpus", people, "--out", out).status == 0
    config = out / "config.json"
    document = json.loads(config.read_text())
    for change in ({"source": "../other.onnx"}, {"source": str(out)}, {"ratios": {"weights": {"score": 9}, "bias": 9}}):
        config.write_text(json.dumps({**document, **change}))
        said = metavox("speaker", "calibrate", out, "--corpus", people, "--out", tmp_path / "new")
        assert said.status == 2
        assert str(out) in said.err
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_calibrated_is_refused(metavox: Metavox, people: Path, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.mkdir()
    soundfile.write(words / "a.wav", say(1), 16_000)
    (words / "manifest.jsonl").write_text(json.dumps({"audio_filepath": "a.wav", "duration": 2.0, "text": "a"}) + "\n")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "config.json").write_text(json.dumps({"library": "metavox", "format": 1, "kind": "recogniser"}))
    for corpus, out, sentence in (
        (words, tmp_path / "out", "names no speaker"),
        (people, taken, "is no model of voices"),
        (people, words, "is no model of voices"),
        ("nowhere", tmp_path / "out", "nowhere"),
    ):
        said = metavox("speaker", "calibrate", "mfcc", "--corpus", corpus, "--out", out)
        assert said.status == 2
        assert sentence in said.err
    twice = metavox("speaker", "calibrate", "mfcc", "--corpus", people, "--corpus", people, "--out", tmp_path / "out")
    assert "named twice" in twice.err
    assert not (tmp_path / "out").exists()
