"""Encoders of others: tiny ONNX models and a random x-vector model, against numpy, Kaldi and transformers itself."""

import hashlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import kaldi_native_fbank as knf
import numpy as np
import pytest
import torch
from refusals import said
from voicing import say

from metavox.contracts import VoiceEncoder
from metavox.voices.foreign import digest_of, onnx_voices, transformers_voices

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

N_MELS, DIM = 80, 6


def matrix(rows: int = N_MELS) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((rows, DIM)).astype(np.float32)


def tiny(
    path: Path,
    *,
    given: str = "feats",
    shape: tuple[Any, ...] = ("B", "T", N_MELS),
    out: tuple[str, ...] = ("embs",),
    kind: int = TensorProto.FLOAT,
    keep_frames: bool = False,
    weights: np.ndarray | None = None,
    extra_inputs: int = 0,
    **facts: Any,
) -> Path:
    """mean over T of |frames|, times a matrix: (B, T, F) -> (B, D), one output of this for each name."""
    table = numpy_helper.from_array(matrix() if weights is None else weights, "matrix")
    nodes = [helper.make_node("Abs", [given], ["size"])]
    if keep_frames:
        nodes += [helper.make_node("MatMul", ["size", "matrix"], [name]) for name in out]
    else:
        nodes.append(helper.make_node("ReduceMean", ["size"], ["pooled"], axes=[1], keepdims=0))
        nodes += [helper.make_node("MatMul", ["pooled", "matrix"], [name]) for name in out]
    inputs = [helper.make_tensor_value_info(given, kind, shape)]
    inputs += [helper.make_tensor_value_info(f"more{i}", TensorProto.FLOAT, [1]) for i in range(extra_inputs)]
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in out]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {name: str(value) for name, value in facts.items()})
    onnx.save(model, path)
    return path


def fbank(wave: np.ndarray, window: str, scale: float) -> np.ndarray:
    """What the toolkits compute, by kaldi-native-fbank."""
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = window
    options.mel_opts.num_bins = N_MELS
    options.mel_opts.high_freq = 8000
    computer = knf.OnlineFbank(options)
    computer.accept_waveform(16_000, (wave * scale).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


def by_hand(wave: np.ndarray, window: str = "hamming", scale: float = 32768.0) -> np.ndarray:
    frames = fbank(wave, window, scale)
    found = np.abs(frames - frames.mean(axis=0)).mean(axis=0) @ matrix()
    return found / np.linalg.norm(found)


# ---------------------------------------------------------------------------------------------------------------- onnx


@pytest.mark.parametrize(
    ("given", "facts", "window", "scale"),
    [
        ("feats", {}, "hamming", 32768.0),
        ("x", {"framework": "wespeaker", "sample_rate": 16000, "output_dim": DIM}, "hamming", 32768.0),
        ("x", {}, "povey", 1.0),
        ("feature", {"framework": "3d-speaker", "normalize_samples": 1}, "povey", 1.0),
    ],
)
def test_vectors_are_those_of_kaldi_and_numpy(
    tmp_path: Path, given: str, facts: dict[str, Any], window: str, scale: float
) -> None:
    encoder = onnx_voices(tiny(tmp_path / "voices.onnx", given=given, **facts))
    assert isinstance(encoder, VoiceEncoder)
    assert (encoder.dim, encoder.rate_hz, encoder.name) == (DIM, 16_000, "voices.onnx")
    waves = [say(1, 0, 1.0), say(2, 0, 0.7)]
    found = encoder.embed(waves)
    assert found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(2), abs=1e-5)
    assert np.abs(found - np.stack([by_hand(wave, window, scale) for wave in waves])).max() < 1e-3
    assert np.abs(by_hand(waves[0], window, scale) - by_hand(waves[0], "rectangular")).max() > 3e-3  # the test can fail


def test_the_floor_of_3d_speaker_is_kept(tmp_path: Path) -> None:
    encoder = onnx_voices(tiny(tmp_path / "m.onnx", given="x"))
    quiet = say(1, 0, 1.0) * np.float32(1e-4)
    want = fbank(quiet, "povey", 1.0)
    got = encoder.features(quiet)
    assert np.abs(got - (want - want.mean(axis=0))).max() < 1e-3
    assert np.isclose(want, math.log(np.finfo(np.float32).eps)).mean() > 0.1  # and there is something to keep


def test_short_and_long_waves_and_none(tmp_path: Path) -> None:
    encoder = onnx_voices(tiny(tmp_path / "m.onnx"))
    assert encoder.embed([]).shape == (0, DIM)
    for n_samples in (1, 100, 16_000 * 70):
        wave = np.random.default_rng(0).uniform(-0.1, 0.1, n_samples).astype(np.float32)
        assert np.isfinite(encoder.embed([wave])).all()


def test_the_hash_is_that_of_the_files(tmp_path: Path) -> None:
    path = tiny(tmp_path / "m.onnx")
    assert onnx_voices(path).hash == hashlib.sha256(path.read_bytes()).hexdigest()
    other = tiny(tmp_path / "other.onnx", weights=2 * matrix())
    assert onnx_voices(other).hash != onnx_voices(path).hash
    assert digest_of([path, other]) != digest_of([other, path])


def test_one_of_several_outputs_is_taken_by_its_name(tmp_path: Path) -> None:
    one = onnx_voices(tiny(tmp_path / "one.onnx")).embed([say(1)])
    two = onnx_voices(tiny(tmp_path / "two.onnx", out=("logits", "embs"))).embed([say(1)])
    assert np.allclose(one, two)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"shape": ("B", "T")}, "fbank frames"),
        ({"kind": TensorProto.DOUBLE, "weights": matrix().astype(np.float64)}, "tensor(double)"),
        ({"extra_inputs": 1}, "more0"),
        ({"shape": ("B", 200, N_MELS)}, "just 200 frames"),
        ({"shape": (4, "T", N_MELS)}, "4 clips at once"),
        ({"shape": ("B", "T", 512), "weights": matrix(512)}, "frames of 512 values"),
        ({"keep_frames": True}, "gives (1, D)"),
        ({"out": ("a", "b")}, "gives a, b"),
        ({"weights": np.full((N_MELS, DIM), np.nan, np.float32)}, "NaN"),
        ({"weights": np.zeros((N_MELS, DIM), np.float32)}, "zeros"),
        ({"shape": ("B", "T", "F"), "weights": matrix(40)}, "cannot compute a vector"),
        ({"output_dim": 192}, "output_dim 192"),
        ({"sample_rate": "fast"}, "whole number"),
        ({"framework": "nemo"}, "is of nemo"),
    ],
)
def test_another_kind_of_model_is_refused(tmp_path: Path, how: dict[str, Any], sentence: str) -> None:
    path = tiny(tmp_path / "odd.onnx", **how)
    assert sentence in said(lambda: onnx_voices(path))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    assert "is no file" in said(lambda: onnx_voices(tmp_path / "absent.onnx"))
    assert "is no file" in said(lambda: onnx_voices(tmp_path))
    whole = tiny(tmp_path / "m.onnx").read_bytes()
    for content in (b"", b"not a model", whole[: len(whole) // 2]):
        (tmp_path / "bad.onnx").write_bytes(content)
        assert "bad.onnx" in said(lambda: onnx_voices(tmp_path / "bad.onnx"))


def external(path: Path, location: str) -> Path:
    """The tiny model with its matrix in another file."""
    model = onnx.load(tiny(path))
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location, offset=0, length=len(tensor.raw_data))
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    target = path.parent / location
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return path


def test_weights_beside_the_model_are_read_and_hashed(tmp_path: Path) -> None:
    encoder = onnx_voices(external(tmp_path / "m.onnx", "weights.bin"))
    assert encoder.embed([say(1)]) == pytest.approx(onnx_voices(tiny(tmp_path / "whole.onnx")).embed([say(1)]))
    values = np.frombuffer((tmp_path / "weights.bin").read_bytes(), np.float32)
    (tmp_path / "weights.bin").write_bytes((values + 1).tobytes())
    assert onnx_voices(tmp_path / "m.onnx").hash != encoder.hash
    (tmp_path / "weights.bin").unlink()
    assert "missing" in said(lambda: onnx_voices(tmp_path / "m.onnx"))


def test_weights_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin"):
        (tmp_path / "secret.bin").write_bytes(matrix().tobytes())
        link = tmp_path / "own" / "link.bin"
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / "secret.bin")
        path = external(tmp_path / "own" / "m.onnx", location)
        assert "outside its own folder" in said(lambda path=path: onnx_voices(path))  # type: ignore[misc]


def test_without_onnxruntime_a_sentence_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "metavox[export]" in said(lambda: onnx_voices(path))
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "metavox[hf]" in said(lambda: transformers_voices(tmp_path))


def test_nothing_heavy_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import metavox, metavox.voices.foreign, sys; print({'onnx','onnxruntime','transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# -------------------------------------------------------------------------------------------------------- transformers


@pytest.fixture(scope="module")
def x_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random WavLM with its speaker head, as it is saved."""
    transformers = pytest.importorskip("transformers")
    config = transformers.WavLMConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        num_buckets=16,
        tdnn_dim=(12, 12, 12, 12, 20),
        xvector_output_dim=10,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.WavLMForXVector(config).eval()
    folder = tmp_path_factory.mktemp("x-vectors")
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def test_x_vectors_are_those_of_transformers(x_vectors: Path) -> None:
    import transformers

    encoder = transformers_voices(x_vectors, local_files_only=True)
    assert isinstance(encoder, VoiceEncoder)
    assert (encoder.dim, encoder.rate_hz) == (10, 16_000)
    waves = [say(1, 0, 1.0), say(2, 0, 0.8)]
    model = transformers.WavLMForXVector.from_pretrained(x_vectors).eval()
    for wave, found in zip(waves, encoder.embed(waves), strict=True):
        normalised = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        with torch.no_grad():
            want = model(torch.from_numpy(normalised)[None]).embeddings[0].numpy()
        assert np.abs(found - want / np.linalg.norm(want)).max() < 1e-5
    assert encoder.embed([]).shape == (0, 10)
    assert np.isfinite(encoder.embed([waves[0][:50]])).all()


def test_x_vectors_of_other_weights_have_another_hash(x_vectors: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied(x_vectors, tmp_path)
    assert transformers_voices(folder).hash == transformers_voices(x_vectors).hash
    tensors = load_file(folder / "model.safetensors")
    save_file({name: value + 1e-3 for name, value in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    assert transformers_voices(folder).hash != transformers_voices(x_vectors).hash


def copied(folder: Path, to: Path) -> Path:
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_x_vectors_that_cannot_be_used_are_refused(x_vectors: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied(x_vectors, tmp_path)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    save_file(
        {name: value for name, value in tensors.items() if "tdnn" not in name}, weights, {"format": "pt"}
    )  # a plain encoder without its speaker head
    assert "drawn at random" in said(lambda: transformers_voices(folder))
    save_file({name: value * math.nan for name, value in tensors.items()}, weights, {"format": "pt"})
    assert "NaN" in said(lambda: transformers_voices(folder).embed([say(1)]))
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot be loaded" in said(lambda: transformers_voices(folder))
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    assert "run code" in said(lambda: transformers_voices(folder))
    weights.write_bytes((x_vectors / "model.safetensors").read_bytes())
    (folder / "preprocessor_config.json").unlink()
    assert "cannot be loaded" in said(lambda: transformers_voices(folder))


def test_a_name_that_is_not_here_stays_unfetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("nobody/no-such-model", "../a path", "microsoft/wavlm-base-plus-sv@refs/pr/1"):
        assert "cannot be had from the Hub" in said(
            lambda name=name: transformers_voices(name, local_files_only=True)  # type: ignore[misc]
        )
