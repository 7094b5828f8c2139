"""Larger encoders of others behind the face of ours: ONNX speaker models, and x-vectors of transformers.

Both are asked for the vector of one wave at a time and give it at unit length. Nothing of a model is run but its
graph: no pickle, no code that came with it, no file outside its folder.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from ..contracts import FrontEnd, InputError
from ..features import LOG_FLOOR, log_mel
from .scoring import unit

SHORTEST_S, LONGEST_S = 0.6, 60.0
"""A shorter wave is repeated, as pooling over a frame or two gives NaN; of a longer one the beginning is heard."""
RATE_HZ = 16_000
N_MELS = 80

Wave = Float[np.ndarray, " _S"]

# ---------------------------------------------------------------------------------------------------------------- onnx

_OUTPUTS = ("embs", "embedding", "embeddings")
_WESPEAKER, _3D_SPEAKER = "wespeaker", "3d-speaker"


class OnnxVoices:
    """A speaker model as WeSpeaker and 3D-Speaker export them: fbank (1, T, F) in, vector (1, D) out.

    What a model was trained to hear differs by toolkit. WeSpeaker: Hamming window, samples in the 16-bit range.
    3D-Speaker: Povey window, samples in [-1, 1], so that the floor of the logarithm lies higher. Both: 25 ms every
    10 ms, 20 Hz to half the rate, and the mean of each bin over the clip taken off. The toolkit is read from the
    metadata that sherpa-onnx adds (``framework``), else from the name of the input (``feats``: WeSpeaker).
    """

    def __init__(self, session: Any, files: Sequence[Path]) -> None:
        name = files[0].name
        self._session, self.files, self.name, self.hash = session, tuple(files), name, digest_of(files)
        facts = session.get_modelmeta().custom_metadata_map
        self._input, n_mels = _only_input(session, name)
        self._output = _one_output(session, name)
        self.rate_hz = _whole(facts.get("sample_rate", RATE_HZ), "sample_rate", name)
        self.toolkit: Literal["wespeaker", "3d-speaker"] = _toolkit(facts, self._input, name)
        self.front_end = FrontEnd(rate_hz=self.rate_hz, n_mels=n_mels, n_frames=None, high_hz=self.rate_hz / 2)
        self.dim = 0
        self.dim = self._one(np.random.default_rng(0).uniform(-0.1, 0.1, self.rate_hz).astype(np.float32)).shape[0]
        promised = facts.get("output_dim")
        if promised is not None and _whole(promised, "output_dim", name) != self.dim:
            raise InputError(
                f"{name} gives vectors of {self.dim} values and its metadata says output_dim {promised}; export it "
                "again with its own metadata."
            )

    def features(self, wave: Wave) -> Float[np.ndarray, "T F"]:
        """What the model hears of a wave in [-1, 1]."""
        sound = _long_enough(wave, self.rate_hz)
        if self.toolkit == _WESPEAKER:
            frames = log_mel(sound, self.front_end, "hamming")
        else:
            frames = np.maximum(log_mel(sound, self.front_end), np.float32(math.log(LOG_FLOOR) + 30 * math.log(2)))
        return frames - frames.mean(axis=0)

    def embed(self, waves: Sequence[Wave]) -> Float[np.ndarray, "n D"]:
        """See ``contracts.VoiceEncoder``.

        Raises:
            InputError: the model gives NaN.
        """
        return unit(np.stack([self._one(wave) for wave in waves])) if waves else np.zeros((0, self.dim), np.float32)

    def _one(self, wave: Wave) -> np.ndarray:
        try:
            (found,) = self._session.run([self._output], {self._input: self.features(wave)[None]})
        except Exception as err:  # onnxruntime's errors share no class
            raise InputError(
                f"{self.name} cannot compute a vector ({_first_line(err)}); name a speaker model that takes fbank "
                f"(1, T, {self.front_end.n_mels}) with any number of frames."
            ) from None
        return _vector(np.asarray(found), self.dim, self.name)


def onnx_voices(path: str | Path) -> OnnxVoices:
    """The encoder in an ONNX file of WeSpeaker, 3D-Speaker or sherpa-onnx.

    Raises:
        InputError: onnxruntime is absent; no such file, a corrupt one, weights in files outside its folder, or a
            model with other inputs or outputs than a speaker model has.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError:
        raise InputError(
            f"{path} needs onnx and onnxruntime, which are not installed; run pip install 'metavox[export]'."
        ) from None
    place = Path(path)
    if not os.path.isfile(place):
        raise InputError(f"{path} is no file; name the .onnx file of a speaker model.")
    try:
        model = onnx.load(place, load_external_data=False)
    except Exception as err:  # protobuf's, and those of whatever it calls
        raise _corrupt(place, err) from None
    files = [place, *_weight_files(model, place)]
    del model
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(os.fspath(place), options, providers=["CPUExecutionProvider"])
    except Exception as err:
        raise _corrupt(place, err) from None
    return OnnxVoices(session, files)


def _weight_files(model: Any, place: Path) -> list[Path]:
    """Files beside the model that hold its weights.

    Raises:
        InputError: one that lies elsewhere: a model that was sent by somebody must not read what else is there.
    """
    folder = Path(os.path.realpath(place.parent))
    found = set()
    for tensor in _tensors(model):
        if tensor.data_location != tensor.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        target = Path(os.path.realpath(folder / location))
        if not location or os.path.isabs(location) or not target.is_relative_to(folder):
            raise InputError(
                f"{place.name} wants to read its weights from {location!r}, outside its own folder, which is refused; "
                "put all its files into one folder and export it again."
            )
        if not target.is_file():
            raise InputError(f"{place.name} needs the file {location} beside it, which is missing; copy it there.")
        found.add(target)
    return sorted(found)


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a model: initialisers, attributes, subgraphs, functions."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for one in [value] if hasattr(value, "ListFields") else value:
            if field.message_type.name == "TensorProto":
                yield one
            elif hasattr(one, "ListFields"):
                yield from _tensors(one)


def _only_input(session: Any, name: str) -> tuple[str, int]:
    """Name of the one input, and its mel bins."""
    inputs = session.get_inputs()
    shape = [list(one.shape) for one in inputs]
    if len(inputs) != 1 or len(shape[0]) != 3 or inputs[0].type != "tensor(float)":
        given = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise InputError(
            f"{name} takes {given or 'nothing'}; name a speaker model with one input, fbank frames (1, T, {N_MELS}) "
            "of 32 bits."
        )
    batch, frames, bins = shape[0]
    if isinstance(frames, int):
        raise InputError(f"{name} takes just {frames} frames; export it with a dynamic axis for the frames.")
    if isinstance(batch, int) and batch != 1:
        raise InputError(f"{name} takes {batch} clips at once; export it for one, or with a dynamic axis.")
    if isinstance(bins, int) and not 8 <= bins <= 256:
        raise InputError(f"{name} takes frames of {bins} values; a speaker model takes 8 to 256 mel bins.")
    return inputs[0].name, bins if isinstance(bins, int) else N_MELS


def _one_output(session: Any, name: str) -> str:
    names = [one.name for one in session.get_outputs()]
    known = [one for one in names if one in _OUTPUTS]
    if len(names) != 1 and len(known) != 1:
        raise InputError(
            f"{name} gives {', '.join(names)}, and none of them or several can be the vector of a voice; name a model "
            f"with one output, or one called {' or '.join(_OUTPUTS)}."
        )
    return str(names[0] if len(names) == 1 else known[0])


def _toolkit(facts: dict[str, str], given: str, name: str) -> Literal["wespeaker", "3d-speaker"]:
    framework = facts.get("framework", _WESPEAKER if given == "feats" else _3D_SPEAKER)
    if framework == _WESPEAKER:
        return "wespeaker"
    if framework == _3D_SPEAKER:
        return "3d-speaker"
    raise InputError(
        f"{name} is of {framework}, and what its models hear is not known here; name one of {_WESPEAKER} or "
        f"{_3D_SPEAKER}."
    )


def _whole(value: Any, what: str, name: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InputError(f"{name} says {what} {value!r} in its metadata; it must be a whole number.") from None


def _corrupt(place: Path, err: Exception) -> InputError:
    return InputError(f"{place} cannot be read as an ONNX model ({_first_line(err)}); fetch the file again, all of it.")


# -------------------------------------------------------------------------------------------------------- transformers


class TransformersVoices:
    """X-vectors of a self-supervised encoder with its speaker head, such as ``microsoft/wavlm-base-plus-sv``."""

    def __init__(self, model: Any, extractor: Any, name: str, digest: str) -> None:
        self._model, self._extractor, self.name, self.hash = model.eval(), extractor, name, digest
        self.rate_hz = int(extractor.sampling_rate)
        self.dim = int(model.config.xvector_output_dim)

    def embed(self, waves: Sequence[Wave]) -> Float[np.ndarray, "n D"]:
        """See ``contracts.VoiceEncoder``. One at a time: padding would change the vectors.

        Raises:
            InputError: the model gives NaN.
        """
        return unit(np.stack([self._one(wave) for wave in waves])) if waves else np.zeros((0, self.dim), np.float32)

    @torch.inference_mode()
    def _one(self, wave: Wave) -> np.ndarray:
        sound = _long_enough(wave, self.rate_hz)
        given = self._extractor(sound, sampling_rate=self.rate_hz, return_tensors="pt")
        found = self._model(given["input_values"]).embeddings
        return _vector(found.float().cpu().numpy(), self.dim, self.name)


def transformers_voices(source: str | Path, *, local_files_only: bool = False) -> TransformersVoices:
    """An x-vector model of transformers: a folder, or a name on the Hub, with ``@REVISION`` where one is wanted.

    Only safetensors are read and no code that came with the model is run. With ``local_files_only`` (or
    ``HF_HUB_OFFLINE=1``) nothing is fetched.

    Raises:
        InputError: transformers is absent; no such model here or there; no safetensors; another kind of model, or
            weights that lack some of its parts.
    """
    try:
        import transformers
    except ImportError:
        raise InputError(
            f"{source} needs transformers, which is not installed; run pip install 'metavox[hf]'."
        ) from None
    folder = _fetched(str(source), local_files_only)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(
            f"{source} holds no *.safetensors, and weights in other formats can run code, so they are not read; name a "
            "revision that has them (NAME@REVISION) or convert the model."
        )
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity(50)  # what it would warn of is refused below
    try:
        model, facts = transformers.AutoModelForAudioXVector.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
        extractor = transformers.AutoFeatureExtractor.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as err:  # OSError, ValueError, RuntimeError, safetensors' own: all mean that it cannot be used
        raise InputError(
            f"{source} cannot be loaded as an x-vector model ({_first_line(err)}); name one such as "
            "microsoft/wavlm-base-plus-sv, complete."
        ) from None
    finally:
        transformers.utils.logging.set_verbosity(before)
    lacking = sorted(facts["missing_keys"])
    if lacking:
        raise InputError(
            f"{source} lacks {len(lacking)} weights of an x-vector model, the first {lacking[0]}, which would be drawn "
            "at random; name a model that was trained to tell speakers apart."
        )
    if not hasattr(extractor, "feature_size") or extractor.feature_size != 1:
        raise InputError(f"{source} does not take samples; name an x-vector model of the wav2vec 2.0 kind.")
    files = [*weights, *(folder / name for name in ("config.json", "preprocessor_config.json"))]
    return TransformersVoices(model, extractor, str(source), digest_of([one for one in files if one.is_file()]))


def _fetched(source: str, local_files_only: bool) -> Path:
    """The folder of a model, fetched from the Hub where it is a name."""
    if os.path.isdir(source):
        return Path(source)
    name, _, revision = source.partition("@")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            name,
            revision=revision or None,
            local_files_only=local_files_only,
            allow_patterns=["config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json"],
        )
    except Exception as err:  # of the network, of the Hub, of the name
        raise InputError(
            f"{source} is no folder here and cannot be had from the Hub ({_first_line(err)}); give the path of a model "
            "folder, or fetch it while there is a network."
        ) from None
    return Path(found)


# ---------------------------------------------------------------------------------------------------------------- both


def digest_of(files: Sequence[Path]) -> str:
    """SHA-256 of a file; of several, that of their digests in this order."""
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256"))
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(one.digest() for one in digests)).hexdigest()


def _long_enough(wave: Wave, rate_hz: int) -> Wave:
    """Of a length that pooling is defined for, and that memory holds."""
    least = math.ceil(SHORTEST_S * rate_hz)
    sound = np.asarray(wave[: round(LONGEST_S * rate_hz)], np.float32)
    return sound if len(sound) >= least else np.resize(sound, least)


def _vector(found: np.ndarray, dim: int, name: str) -> np.ndarray:
    """The (D,) of a (1, D) that can be trusted; ``dim`` 0 where it is not known yet."""
    if found.ndim != 2 or found.shape[0] != 1 or found.shape[1] < 2 or (dim and found.shape[1] != dim):
        raise InputError(
            f"{name} gives an array of shape {found.shape} for a clip and a speaker model gives (1, {dim or 'D'}); "
            "name another model."
        )
    if not np.isfinite(found).all() or not np.abs(found).max() > 0:
        raise InputError(f"{name} gives NaN, infinity or zeros for a clip; the model is damaged, fetch it again.")
    return found[0].astype(np.float32)


def _first_line(err: Exception) -> str:
    text = str(err).strip() or type(err).__name__
    return " ".join(text.splitlines()[0].split())[:200].rstrip(".")
