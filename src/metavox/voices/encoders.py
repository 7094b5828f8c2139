"""Our own encoder of voices with its files: safetensors and JSON, and the name by which a model is opened."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from ..calibration.ratios import Ratios
from ..checkpoint import (
    BUNDLED,
    FORMAT,
    load_model,
    place_of,
    read_document,
    read_tensors,
    seeded,
    write_json,
    write_tensors,
)
from ..config import validated
from ..config.voices import VoiceNetConfig
from ..contracts import InputError, VoiceEncoder
from ..features import log_mel
from ..nets.voice import VoiceNet
from .adopted import KIND as ADOPTED
from .adopted import Adopted, read_adopted, save_adopted
from .classical import MfccStatistics
from .discriminants import DiscriminantStatistics
from .furnishing import Furnished
from .joint import JointEncoder
from .models import StoredRatios, VoiceModel
from .scoring import unit

DEFAULT = "metavox/speaker-small"
"""The model of voices that comes with Metavox."""
BASELINE = "mfcc"
KIND = "voices"
SECOND = "statistics.safetensors"
"""In a model's folder, where statistics of cepstra stand beside the network."""
KINDS = (KIND, ADOPTED)
SECOND_WEIGHT = 0.6
"""Of the cosine of the statistics, where that of the network has 1; from 0.3 to 1 are alike (decision 0013)."""
LEAST_S, MOST_S = 0.3, 10.0
"""Less speech is repeated until it is as long, which is the shortest of training; more is heard in parts."""


class NetEncoder:
    """A ``VoiceNet`` as ``contracts.VoiceEncoder``, beside it what statistics of cepstra say.

    Vectors of both stand side by side, so that their cosine is the weighted mean of two: what few people can teach a
    linear map about many corrects what a network makes of them.
    """

    def __init__(self, net: VoiceNet, name: str, hash_: str, second: DiscriminantStatistics | None = None) -> None:
        self.net, self.name, self.hash, self.second = net, name, hash_, second
        self.dim = net.config.dim + (0 if second is None else second.dim)
        self.rate_hz = net.config.front_end.rate_hz

    def embed(self, waves: Sequence[Float[np.ndarray, " _S"]]) -> Float[np.ndarray, "n D"]:
        """See ``contracts.VoiceEncoder``; each wave on its own, so that no result depends on its neighbours."""
        with torch.inference_mode():
            found = [self._vector(wave) for wave in waves]
        return np.stack(found) if found else np.zeros((0, self.dim), np.float32)

    def _vector(self, wave: Float[np.ndarray, " S"]) -> Float[np.ndarray, " D"]:
        least, most = round(LEAST_S * self.rate_hz), round(MOST_S * self.rate_hz)
        wave = wave if len(wave) >= least else np.resize(wave, least)
        parts = np.array_split(wave, -(-len(wave) // most))
        vectors = [self.net(torch.from_numpy(log_mel(part, self.net.config.front_end))[None])[0] for part in parts]
        found = unit(torch.stack(vectors).mean(0).numpy())
        if self.second is None:
            return found
        return unit(np.concatenate([found, SECOND_WEIGHT**0.5 * self.second.embed([wave])[0]]))


def encoder_of(net: VoiceNet, name: str, second: DiscriminantStatistics | None = None) -> NetEncoder:
    """A network, and what stands beside it, with the hash of configuration and weights."""
    digest = hashlib.sha256(json.dumps(net.config.model_dump(mode="json"), sort_keys=True).encode())
    for key, value in sorted(net.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    if second is not None:
        digest.update(f"{second.hash} {SECOND_WEIGHT}".encode())
    return NetEncoder(net.eval(), name, digest.hexdigest(), second)


def hash_of(encoder_hash: str, cohort: Float[np.ndarray, "M D"], ratios: Ratios | None) -> str:
    """SHA-256 of everything that a log-likelihood ratio depends on but the clips."""
    digest = hashlib.sha256(encoder_hash.encode())
    digest.update(np.ascontiguousarray(cohort, np.float32).tobytes())
    digest.update(json.dumps(None if ratios is None else asdict(ratios), sort_keys=True).encode())
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------------------ on disk


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    kind: str
    voice: dict[str, Any]
    ratios: StoredRatios | None
    turns: StoredRatios | None = None
    hash: str
    about: dict[str, Any]


def save_voices(
    folder: Path,
    net: VoiceNet,
    cohort: Float[np.ndarray, "M D"],
    ratios: Ratios | None,
    about: Mapping[str, Any],
    second: DiscriminantStatistics | None = None,
    turns: Ratios | None = None,
) -> VoiceModel:
    """Write a model into ``folder``, weights and cohort rounded to 16 bits; gives what is opened again."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {
        name: value.half() if value.is_floating_point() and "running" not in name else value
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    write_tensors(folder / "model.safetensors", half)
    write_tensors(folder / "cohort.safetensors", {"cohort": torch.from_numpy(np.asarray(cohort, np.float16))})
    net = seeded(lambda: VoiceNet(net.config), 0)
    net.load_state_dict(half, strict=False)
    if second is not None:
        rounded = [torch.from_numpy(np.asarray(part, np.float32)) for part in (second.centre, second.directions)]
        write_tensors(folder / SECOND, dict(zip(("centre", "directions"), rounded, strict=True)))
        second = DiscriminantStatistics(second.statistics, *(part.double().numpy() for part in rounded))
    encoder = encoder_of(net, folder.name, second)
    kept = np.asarray(cohort, np.float16).astype(np.float32)
    document = {
        "format": FORMAT,
        "library": "metavox",
        "kind": KIND,
        "version": version("metavox"),
        "hash": hash_of(encoder.hash, kept, ratios),
        "voice": net.config.model_dump(mode="json"),
        "ratios": None if ratios is None else asdict(ratios),
        "turns": None if turns is None else asdict(turns),
        "about": dict(about),
    }
    write_json(folder / "config.json", document)
    return load_voices(folder)


def load_voices(source: str | Path) -> VoiceModel:
    """Open a model of voices.

    Args:
        source: a bundled name (``metavox/speaker-small``), the folder of a model, ``mfcc`` (untrained), an ONNX file,
            or ``hf:`` and a name or folder of a transformers model.

    Raises:
        InputError: no such model, one of another kind, or one that is damaged.
    """
    name = str(source)
    if name == BASELINE:
        return _bare(MfccStatistics(), BASELINE)
    if name.endswith(".onnx") or name.startswith("hf:"):
        from .foreign import onnx_voices, transformers_voices

        foreign = onnx_voices(Path(name)) if name.endswith(".onnx") else transformers_voices(name.removeprefix("hf:"))
        return _bare(foreign, foreign.name)
    folder = place_of(source)
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(
            f"{name} is no model of voices (no config.json); give metavox/speaker-small, a folder that `metavox train` "
            "wrote, mfcc, an .onnx file or hf:NAME."
        )
    document = read_document(config, "model")
    if document.get("kind") == ADOPTED:
        return _adopted(folder, read_adopted(folder, document))
    if document.get("kind") != KIND:
        if "model" not in document:
            raise InputError(f"{name} is a model of another kind, which knows no voices; give one such as {DEFAULT}.")
        joint = JointEncoder(load_model(folder))
        return _bare(joint, joint.name, folder)
    stored = validated(_Stored, document, str(config))
    return _opened(folder, stored, name if folder.parent == BUNDLED else folder.name)


def _bare(encoder: VoiceEncoder, name: str, folder: Path | None = None) -> VoiceModel:
    """An encoder without a cohort and a calibration."""
    nobody = np.zeros((0, encoder.dim), np.float32)
    return VoiceModel(encoder, name, hash_of(encoder.hash, nobody, None), nobody, None, {}, folder)


def _opened(folder: Path, stored: _Stored, name: str) -> VoiceModel:
    """Weights and cohort, found to be what the configuration says."""
    net = seeded(lambda: VoiceNet(validated(VoiceNetConfig, stored.voice, str(folder / "config.json"))), 0)
    weights, others = read_tensors(folder / "model.safetensors"), read_tensors(folder / "cohort.safetensors")
    try:
        missing = net.load_state_dict(weights, strict=False)
        cohort = others["cohort"].float().numpy()
    except (KeyError, RuntimeError) as err:
        raise InputError(f"{folder} is damaged ({str(err).splitlines()[0]}); copy or train it again.") from None
    second = _second(folder, net.config.front_end.rate_hz)
    lacking = [key for key in missing.missing_keys if not key.endswith("num_batches_tracked")]
    if (
        lacking
        or missing.unexpected_keys
        or cohort.ndim != 2
        or cohort.shape[1] != net.config.dim + (second.dim if second else 0)
    ):
        raise InputError(f"{folder} does not hold what its config.json says; copy or train it again.")
    ratios = None if stored.ratios is None else stored.ratios.ratios
    encoder = encoder_of(net, name, second)
    found = hash_of(encoder.hash, cohort, ratios)
    if found != stored.hash:
        raise InputError(f"{folder} is not as it was saved (its hash differs); copy or train it again.")
    turns = None if stored.turns is None else stored.turns.ratios
    return VoiceModel(encoder, name, found, cohort, ratios, stored.about, folder, turns)


def save_calibrated(folder: Path, model: VoiceModel, source: str, found: Furnished) -> None:
    """Write ``model``, which ``source`` opens, with another cohort and calibration."""
    about = {**model.about, "calibration": found.about}
    if isinstance(model.encoder, NetEncoder):
        net, second = model.encoder.net, model.encoder.second
        save_voices(folder, net, found.cohort, found.ratios, about, second, found.turns)
        return
    if model.folder is not None and not isinstance(model.encoder, JointEncoder):
        source = read_adopted(model.folder, read_document(model.folder / "config.json", "model")).source
    whole = hash_of(model.encoder.hash, found.cohort, found.ratios)
    adopted = Adopted(source, model.encoder.hash, found.cohort, found.ratios, whole, about, found.turns)
    save_adopted(folder, adopted, model.encoder)


def _adopted(folder: Path, found: Adopted) -> VoiceModel:
    """A model around an encoder of others, found to be what was calibrated."""
    encoder = load_voices(found.source).encoder
    whole = hash_of(encoder.hash, found.cohort, found.ratios)
    if encoder.hash != found.encoder_hash or whole != found.hash or found.cohort.shape[1] != encoder.dim:
        raise InputError(
            f"{folder} was calibrated with another {found.source} or is not as it was saved (its hash differs); "
            "calibrate it again."
        )
    return VoiceModel(encoder, folder.name, whole, found.cohort, found.ratios, found.about, folder, found.turns)


def _second(folder: Path, rate_hz: int) -> DiscriminantStatistics | None:
    """What stands beside the network, if anything does."""
    if not (folder / SECOND).exists():
        return None
    tensors, statistics = read_tensors(folder / SECOND), MfccStatistics(rate_hz)
    try:
        centre, directions = (tensors[name].double().numpy() for name in ("centre", "directions"))
        if centre.shape != (statistics.dim,) or directions.ndim != 2 or len(directions) != statistics.dim:
            raise KeyError("shape")
    except KeyError:
        raise InputError(f"{folder / SECOND} is damaged; copy or train the model again.") from None
    return DiscriminantStatistics(statistics, centre, directions)
